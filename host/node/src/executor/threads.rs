//! The executor that runs guests on threads of this process.
//!
//! Each thread takes runs from one shared queue. A run whose guests never wait is worked off at once, on the bare thread. Guests that may
//! wait get a fiber each on the thread's own little runtime: while one sleeps, the thread takes other work, and guests that compute give
//! way to each other at every epoch tick.

use std::{
    cell::Cell,
    collections::{HashMap, VecDeque},
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rwasm_engine::{Control, Outcome};
use rwasm_types::{Code, Error, Result, TaskId};
use tokio::{sync::Notify, task::LocalSet};

use super::{
    Ended, Events, Executor, FromExecutor, Item, LoadedCall, Slot, ToExecutor,
    actor::{self, Lived},
};
use crate::dispatch::RunId;

/// How long finished attempts of a run wait for the rest of it before they are told.
pub(super) const TELL_AFTER: Duration = Duration::from_millis(1);

type BoxFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

thread_local! {
    /// Set while a thread tells the end of a run after which it looks at the queue anyway, so that nobody need be woken for what follows.
    static TAKES_NEXT: Cell<bool> = const { Cell::new(false) };
}

/// The threads and what they share.
pub(crate) struct Threads {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    queue: Mutex<VecDeque<Work>>,
    /// Runs that have not ended, so that their attempts can be cancelled.
    runs: Mutex<HashMap<RunId, Arc<Run>>>,
    events: Arc<dyn Events>,
    seats: Vec<Seat>,
    next_seat: AtomicUsize,
    stopping: AtomicBool,
}

/// Where a thread can be woken.
#[derive(Default)]
struct Seat {
    parked: AtomicBool,
    wake: Notify,
}

enum Work {
    Run(Arc<Run>),
    /// An attempt that began on another thread and goes on here.
    Resume(BoxFuture),
}

struct Run {
    id: RunId,
    call: Arc<LoadedCall>,
    state: Mutex<RunState>,
}

#[derive(Default)]
struct RunState {
    waiting: VecDeque<Item>,
    current: Option<(Item, Arc<Control>)>,
    /// Attempts that were cancelled before they began.
    cancelled: Vec<Item>,
    /// Whether its attempts were given to somebody else.
    taken: bool,
}

impl Run {
    /// The next attempt to begin.
    fn next(&self) -> Option<(Item, Arc<Control>)> {
        let mut state = self.state.lock();
        let item = state.waiting.pop_front();
        let control = Arc::new(Control::default());
        state.current = item.as_ref().map(|item| (item.clone(), Arc::clone(&control)));
        item.map(|item| (item, control))
    }

    fn cancel(&self, task: TaskId) {
        let mut state = self.state.lock();
        if let Some((_, control)) = state.current.as_ref().filter(|(current, _)| current.task == task) {
            control.cancel();
        } else if let Some(position) = state.waiting.iter().position(|item| item.task == task) {
            let item = state.waiting.remove(position);
            state.cancelled.extend(item);
        }
    }

    fn cancel_all(&self) {
        let mut state = self.state.lock();
        let waiting = std::mem::take(&mut state.waiting);
        state.cancelled.extend(waiting);
        if let Some((_, control)) = &state.current {
            control.cancel();
        }
    }

    /// Takes all attempts, once: none of those that wait begins, and the one that runs is ended. Nobody hears of the end of those that waited.
    fn take_all(&self) -> Option<Vec<Item>> {
        let mut state = self.state.lock();
        if std::mem::replace(&mut state.taken, true) {
            return None;
        }
        let waiting = std::mem::take(&mut state.waiting);
        let current = state.current.as_ref().map(|(item, control)| {
            control.cancel();
            item.clone()
        });
        Some(current.into_iter().chain(waiting).collect())
    }

    /// Attempts that were cancelled before they began, as ended.
    fn cancelled(&self) -> impl Iterator<Item = Ended> {
        let cancelled = std::mem::take(&mut self.state.lock().cancelled);
        cancelled.into_iter().map(|item| Ended::unrun(&item, crate::node::cancelled()))
    }
}

pub(super) fn ended(call: &LoadedCall, item: &Item, outcome: Outcome) -> Ended {
    let Outcome { result, held, cpu, wall, memory_bytes } = outcome;
    Ended { task: item.task, attempt: item.attempt, failed: call.application_error(&result), result, held, cpu, wall, memory_bytes }
}

/// Runs an attempt that may wait.
async fn attempt(shared: &Arc<Shared>, run: &Arc<Run>, item: &Item, control: Arc<Control>) -> Ended {
    let call = &run.call;
    let brought = match call.bring(item).await {
        Ok(brought) => brought,
        Err(error) => return Ended::unrun(item, error),
    };
    match call.request(item, control, || slot(shared, run)) {
        Ok((request, reach)) => {
            let ended = ended(call, item, Arc::clone(&call.prepared).run_async(request).await);
            if let Some(reach) = reach {
                reach.over(ended.result.is_ok());
            }
            drop(brought);
            ended
        }
        Err(error) => Ended::unrun(item, error),
    }
}

/// The slot of an attempt without a fiber.
struct NeverWaits;

impl Slot for NeverWaits {
    fn block(&self) {}

    fn resume(&self) {}
}

/// The slot of a run's attempt.
fn slot(shared: &Arc<Shared>, run: &Arc<Run>) -> Arc<dyn Slot> {
    Arc::new(Place { shared: Arc::clone(shared), run: Arc::clone(run) })
}

/// What [`slot`] gives.
struct Place {
    shared: Arc<Shared>,
    run: Arc<Run>,
}

impl Slot for Place {
    fn block(&self) {
        let unbegun = std::mem::take(&mut self.run.state.lock().waiting).into();
        self.shared.events.receive(FromExecutor::Blocked { run: self.run.id, call: Arc::clone(&self.run.call), unbegun });
    }

    fn resume(&self) {
        self.shared.events.receive(FromExecutor::Resumed { run: self.run.id });
    }
}

/// Collects what a run has to tell.
struct Teller<'a> {
    shared: &'a Shared,
    run: &'a Arc<Run>,
    ended: Vec<Ended>,
    begun: Instant,
    told: Instant,
    tasks: usize,
}

impl<'a> Teller<'a> {
    fn new(shared: &'a Shared, run: &'a Arc<Run>) -> Self {
        let now = Instant::now();
        Self { shared, run, ended: Vec::new(), begun: now, told: now, tasks: 0 }
    }

    fn add(&mut self, ended: Ended) {
        self.ended.push(ended);
        self.tasks += 1;
        let now = Instant::now();
        if now - self.told > TELL_AFTER && !self.run.state.lock().waiting.is_empty() {
            self.told = now;
            let ended = std::mem::take(&mut self.ended);
            self.shared.events.receive(FromExecutor::Ended { call: Arc::clone(&self.run.call), ended });
        }
    }

    fn finish(mut self) {
        self.shared.runs.lock().remove(&self.run.id);
        self.ended.extend(self.run.cancelled());
        self.shared.events.receive(FromExecutor::Finished {
            run: self.run.id,
            call: Arc::clone(&self.run.call),
            ended: self.ended,
            tasks: self.tasks,
            took: self.begun.elapsed(),
        });
    }
}

impl Threads {
    /// Starts `count` threads.
    ///
    /// # Errors
    ///
    /// If the machine gives no more threads.
    pub(crate) fn start(count: usize, events: Arc<dyn Events>) -> Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            runs: Mutex::default(),
            events,
            seats: (0..count.max(1)).map(|_| Seat::default()).collect(),
            next_seat: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
        });
        let thread = |seat: usize| {
            let shared = Arc::clone(&shared);
            thread::Builder::new()
                .name(format!("executor-{seat}"))
                .spawn(move || main(&shared, seat))
                .map_err(|error| Error::new(Code::NO_CAPACITY, format!("an executor thread does not start: {error}")))
        };
        let threads = (0..shared.seats.len()).map(thread).collect::<Result<_>>()?;
        Ok(Self { shared, threads })
    }

    /// Runs an attempt on the calling thread, which must not be held up: if it has not ended at the first epoch tick, it goes on on a
    /// thread of the executor. Saves a thread switch each way for short calls, which cost more than the calls.
    pub(crate) fn run_here(&self, run: RunId, call: Arc<LoadedCall>, item: Item) {
        let control = Arc::new(Control::default());
        let state = RunState { current: Some((item.clone(), Arc::clone(&control))), ..RunState::default() };
        let run = Arc::new(Run { id: run, call, state: Mutex::new(state) });
        self.shared.runs.lock().insert(run.id, Arc::clone(&run));
        let shared = Arc::clone(&self.shared);
        let mut whole: BoxFuture = Box::pin(async move {
            let mut teller = Teller::new(&shared, &run);
            teller.add(attempt(&shared, &run, &item, control).await);
            teller.finish();
        });
        let first = whole.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
        if first.is_pending() {
            self.shared.push(Work::Resume(whole));
        }
    }
}

impl Threads {
    /// Ends all attempts of a run.
    pub(crate) fn cancel_run(&self, run: RunId) {
        let run = self.shared.runs.lock().get(&run).map(Arc::clone);
        if let Some(run) = run {
            run.cancel_all();
        }
    }
}

impl Threads {
    /// Ends a run and gives its attempts to the caller; `None` if it has ended or they were taken before. The end of the attempt that ran is still told, and so is the
    /// run's.
    pub(crate) fn take_run(&self, run: RunId) -> Option<(Arc<LoadedCall>, Vec<Item>)> {
        let run = self.shared.runs.lock().get(&run).map(Arc::clone)?;
        Some((Arc::clone(&run.call), run.take_all()?))
    }
}

impl Executor for Threads {
    fn send(&self, message: ToExecutor) {
        match message {
            ToExecutor::Assign { run, call, items } => {
                let state = RunState { waiting: items.into(), ..RunState::default() };
                let run = Arc::new(Run { id: run, call, state: Mutex::new(state) });
                self.shared.runs.lock().insert(run.id, Arc::clone(&run));
                self.shared.push(Work::Run(run));
            }
            ToExecutor::GiveUp { run } => {
                let run = self.shared.runs.lock().get(&run).map(Arc::clone);
                if let Some((_, control)) = run.as_ref().and_then(|run| run.state.lock().current.clone()) {
                    control.give_up();
                }
            }
            ToExecutor::Cancel { run, task } => {
                let run = self.shared.runs.lock().get(&run).map(Arc::clone);
                if let Some(run) = run {
                    run.cancel(task);
                }
            }
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Relaxed);
        // A guest that computes without end would hold its thread for ever.
        self.shared.runs.lock().values().for_each(|run| run.cancel_all());
        self.shared.seats.iter().for_each(|seat| seat.wake.notify_one());
        // The last holder of a node may be a thread of its executor, which cannot wait for itself.
        let own = thread::current().id();
        for thread in self.threads.drain(..).filter(|thread| thread.thread().id() != own) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn push(&self, work: Work) {
        self.queue.lock().push_back(work);
        if TAKES_NEXT.take() {
            return;
        }
        // A parked thread takes it at once; else some thread looks at the queue when its guests next give way.
        let start = self.next_seat.fetch_add(1, Relaxed);
        let seats = (0..self.seats.len()).map(|offset| &self.seats[(start + offset) % self.seats.len()]);
        let parked = seats.clone().find(|seat| seat.parked.swap(false, Relaxed));
        if let Some(seat) = parked.or_else(|| seats.clone().next()) {
            seat.wake.notify_one();
        }
    }

    async fn next(&self, seat: usize) -> Option<Work> {
        loop {
            if self.stopping.load(Relaxed) {
                return None;
            }
            if let Some(work) = self.queue.lock().pop_front() {
                return Some(work);
            }
            self.seats[seat].wake.notified().await;
        }
    }
}

/// What a thread does.
fn main(shared: &Arc<Shared>, seat: usize) {
    let (parking, unparking) = (Arc::clone(shared), Arc::clone(shared));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .on_thread_park(move || {
            let seat = &parking.seats[seat];
            seat.parked.store(true, Relaxed);
            // Work that came in between our last look and the flag was given to nobody in particular.
            if !parking.queue.lock().is_empty() {
                seat.wake.notify_one();
            }
        })
        .on_thread_unpark(move || unparking.seats[seat].parked.store(false, Relaxed))
        .build();
    let Ok(runtime) = runtime else {
        tracing::error!(seat, "an executor thread has no runtime; it does nothing");
        return;
    };
    let fibers = Arc::new(AtomicUsize::new(0));
    LocalSet::new().block_on(&runtime, async {
        while let Some(work) = shared.next(seat).await {
            match work {
                Work::Run(run) if run.call.is_sync() => run_sync(shared, &run, &fibers).await,
                Work::Run(run) => spawn(&fibers, Box::pin(run_async(Arc::clone(shared), run))),
                Work::Resume(attempt) => spawn(&fibers, attempt),
            }
            if fibers.load(Relaxed) > 0 {
                tokio::task::yield_now().await;
            }
        }
    });
}

fn spawn(fibers: &Arc<AtomicUsize>, future: BoxFuture) {
    fibers.fetch_add(1, Relaxed);
    let fibers = Arc::clone(fibers);
    tokio::task::spawn_local(async move {
        future.await;
        fibers.fetch_sub(1, Relaxed);
    });
}

async fn run_sync(shared: &Shared, run: &Arc<Run>, fibers: &AtomicUsize) {
    let mut teller = Teller::new(shared, run);
    while let Some((item, control)) = run.next() {
        // What runs without a fiber imports nothing that waits.
        let request = run.call.bring(&item).await.and_then(|brought| {
            let (request, _) = run.call.request(&item, control, || Arc::new(NeverWaits))?;
            Ok((request, brought))
        });
        teller.add(match request {
            Ok((request, _brought)) => ended(&run.call, &item, run.call.prepared.run(request)),
            Err(error) => Ended::unrun(&item, error),
        });
        if fibers.load(Relaxed) > 0 {
            tokio::task::yield_now().await;
        }
    }
    TAKES_NEXT.set(true);
    teller.finish();
    TAKES_NEXT.set(false);
}

async fn run_async(shared: Arc<Shared>, run: Arc<Run>) {
    let mut teller = Teller::new(&shared, &run);
    while let Some((item, control)) = run.next() {
        if !run.call.makes_actor() {
            teller.add(attempt(&shared, &run, &item, control).await);
            continue;
        }
        let Lived { ended, crashed } = actor::live((&run.call, &item), control, || slot(&shared, &run), || run.state.lock().taken).await;
        match &ended.result {
            Err(error) if crashed && !run.state.lock().taken => {
                let (call, error) = (Arc::clone(&run.call), error.clone());
                shared.events.receive(FromExecutor::Crashed { run: run.id, call, item, error });
            }
            _ => {}
        }
        // Where it is made anew, this is an attempt of before, and nobody's end.
        teller.add(ended);
    }
    teller.finish();
}
