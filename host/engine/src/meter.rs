//! What a running guest has used, and whether it must end: one small shared value per attempt, read at every epoch tick.

use std::{
    cell::Cell,
    sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};

/// The processor time of the calling thread, in nanoseconds.
pub(crate) fn thread_cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    (time.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec as u64)
}

/// How long a reading of the thread's clock stands for the next one. Asking the kernel costs a tenth of a short task, so a thread that runs
/// one after the other asks once for each; what it does between two is on the second's account, and is less than this.
const READING_STANDS: Duration = Duration::from_micros(5);

thread_local! {
    /// The end of the last interval of this thread: what its clock said, and when.
    static LAST: Cell<Option<(u64, Instant)>> = const { Cell::new(None) };
}

/// The thread's clock at the beginning of an interval, given the end of the last.
fn begin(last: Option<(u64, Instant)>, now: Instant) -> u64 {
    last.filter(|(_, at)| now.duration_since(*at) < READING_STANDS).map_or_else(thread_cpu_ns, |(reading, _)| reading)
}

/// Processor time of one attempt: closed intervals are summed, and one may be open on the thread that runs the guest now.
///
/// An interval is opened and closed around each poll of the guest or each synchronous call, on one thread, so the thread's clock tells
/// what the guest cost, whatever else the machine does; at most [`READING_STANDS`] of the thread's own work before it comes on top.
#[derive(Debug, Default)]
pub(crate) struct CpuMeter {
    closed_ns: AtomicU64,
    /// The thread's clock when the open interval began, plus one; 0 where none is open.
    open_since_ns: AtomicU64,
}

impl CpuMeter {
    /// Opens an interval on this thread.
    pub(crate) fn enter(&self) {
        self.open_since_ns.store(begin(LAST.get(), Instant::now()).wrapping_add(1), Relaxed);
    }

    /// Closes the interval that this thread opened.
    pub(crate) fn leave(&self) {
        let now = thread_cpu_ns();
        let since = self.open_since_ns.swap(0, Relaxed);
        if since != 0 {
            self.closed_ns.fetch_add(now.wrapping_add(1).saturating_sub(since), Relaxed);
        }
        LAST.set(Some((now, Instant::now())));
    }

    fn open_ns(&self) -> u64 {
        match self.open_since_ns.load(Relaxed) {
            0 => 0,
            since => thread_cpu_ns().wrapping_add(1).saturating_sub(since),
        }
    }

    /// The sum so far; to be asked on the thread that runs the guest, or when none does.
    pub(crate) fn used(&self) -> Duration {
        Duration::from_nanos(self.closed_ns.load(Relaxed) + self.open_ns())
    }
}

/// The switch by which somebody else ends an attempt.
///
/// It is one-way: once cancelled, always cancelled. Asking first lets a guest tidy up; it polls `context.cancelled`. Of an actor, a call is
/// asked to end, and the next one begins unasked.
#[derive(Debug, Default)]
pub struct Control {
    state: AtomicU8,
    wake: tokio::sync::Notify,
}

const ASKED: u8 = 1;
const CANCELLED: u8 = 2;
const STUCK: u8 = 3;

impl Control {
    /// Tells the guest, which may look, that it should end soon.
    pub fn ask(&self) {
        self.state.fetch_max(ASKED, Relaxed);
    }

    /// The call that was asked to end has ended.
    pub fn calm(&self) {
        let _ = self.state.compare_exchange(ASKED, 0, Relaxed, Relaxed);
    }

    /// Waits until the attempt is to end.
    pub async fn cancelled(&self) {
        self.wait(|| self.is_cancelled().then_some(())).await;
    }

    /// Ends the attempt: running guest code within two epoch ticks, a blocked one at once.
    pub fn cancel(&self) {
        self.state.fetch_max(CANCELLED, Relaxed);
        self.wake();
    }

    /// The same, because what it waits for can never start.
    pub fn give_up(&self) {
        self.state.fetch_max(STUCK, Relaxed);
        self.wake();
    }

    /// Whether it ends because what it waits for can never start.
    pub(crate) fn is_given_up(&self) -> bool {
        self.state.load(Relaxed) >= STUCK
    }

    /// Whether the guest was asked to end.
    pub fn is_asked(&self) -> bool {
        self.state.load(Relaxed) >= ASKED
    }

    /// Whether the attempt is to end.
    pub fn is_cancelled(&self) -> bool {
        self.state.load(Relaxed) >= CANCELLED
    }

    /// Wakes those who wait for a reason to end the attempt.
    pub(crate) fn wake(&self) {
        self.wake.notify_waiters();
    }

    /// Waits for a reason to end the attempt: looks for it now, and whenever somebody wakes us.
    pub(crate) async fn wait<T>(&self, reason: impl Fn() -> Option<T>) -> T {
        loop {
            // The waiter is registered before the state is read, so that a cancellation between the two is not missed.
            let wake = self.wake.notified();
            if let Some(reason) = reason() {
                return reason;
            }
            wake.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_time_inside_intervals_counts() {
        let meter = CpuMeter::default();
        let burn = || {
            let until = thread_cpu_ns() + 2_000_000;
            while thread_cpu_ns() < until {}
        };
        burn();
        assert_eq!(meter.used(), Duration::ZERO);
        meter.enter();
        burn();
        assert!(meter.used() >= Duration::from_millis(2));
        meter.leave();
        let used = meter.used();
        burn();
        assert_eq!(meter.used(), used);
    }

    #[test]
    fn a_reading_stands_for_the_next_one_for_a_moment() {
        let at = Instant::now();
        assert_eq!(begin(Some((u64::MAX, at)), at), u64::MAX);
        assert_ne!(begin(Some((u64::MAX, at)), at + READING_STANDS), u64::MAX);
        assert_ne!(begin(None, at), u64::MAX);
    }

    #[tokio::test]
    async fn cancellation_reaches_early_and_late_waiters() {
        let control = Control::default();
        let waits = || control.wait(|| control.is_cancelled().then_some(()));
        tokio::join!(waits(), async {
            tokio::task::yield_now().await;
            control.cancel();
        });
        waits().await;
        assert!(control.is_asked());
    }
}
