//! A job's results on their way to its driver.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;
use rwasm_wire::msg;
use tokio::sync::Notify;

use crate::batch;

/// Result bytes that wait for a driver before the job's tasks are held back, and below which they go on.
const BYTES_HIGH: usize = 64 << 20;
const BYTES_LOW: usize = 16 << 20;

/// Results that wait for the driver's session to take them.
#[derive(Default)]
pub(crate) struct Outbox {
    waiting: Mutex<Waiting>,
    /// Told when results were taken.
    taken: Notify,
}

#[derive(Default)]
struct Waiting {
    outcomes: VecDeque<msg::Outcome>,
    bytes: usize,
    /// Whether tasks are held back because the driver is behind.
    full: bool,
    mode: Mode,
    /// Whether results of before are on their way in.
    resending: bool,
    /// The session that takes them, told when there is something to take.
    session: Option<Arc<Notify>>,
    /// Counts sessions that came and went.
    changes: u64,
}

/// Who takes results.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mode {
    /// A session, or the one that will be.
    #[default]
    Taken,
    /// Nobody, until the driver is back: then they are read from where they were written down.
    Away,
    /// Nobody ever.
    Closed,
}

/// What a change of the outbox asks of the dispatcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pressure {
    Unchanged,
    HoldBack,
    LetGo,
}

impl Outbox {
    /// One whose driver is away, or that nobody will ever ask.
    pub(crate) fn restored(closed: bool) -> Self {
        let mode = if closed { Mode::Closed } else { Mode::Away };
        Self { waiting: Mutex::new(Waiting { mode, ..Waiting::default() }), taken: Notify::new() }
    }

    /// From now on a session is told of results.
    pub(crate) fn attach(&self, session: &Arc<Notify>) {
        let mut waiting = self.waiting.lock();
        waiting.changes += 1;
        waiting.session = Some(Arc::clone(session));
        session.notify_one();
    }

    /// The driver is back in a new session. What waits is dropped, for all that it has not got is sent again, by whoever calls this:
    /// until [`Outbox::resent`].
    pub(crate) fn resume(&self, session: &Arc<Notify>) -> Pressure {
        let mut waiting = self.waiting.lock();
        let (full, changes) = (waiting.full, waiting.changes + 1);
        *waiting = Waiting { mode: Mode::Taken, resending: true, session: Some(Arc::clone(session)), changes, ..Waiting::default() };
        session.notify_one();
        if full { Pressure::LetGo } else { Pressure::Unchanged }
    }

    /// Puts results in that are sent again.
    pub(crate) fn resend(&self, outcomes: Vec<msg::Outcome>) {
        let mut waiting = self.waiting.lock();
        if waiting.mode == Mode::Taken {
            waiting.push(outcomes);
        }
    }

    /// All that was to be sent again is in.
    pub(crate) fn resent(&self) {
        let mut waiting = self.waiting.lock();
        waiting.resending = false;
        waiting.tell();
    }

    /// Waits until there is room for more that is sent again; at once if nobody takes it.
    pub(crate) async fn room(&self) {
        loop {
            let taken = self.taken.notified();
            {
                let waiting = self.waiting.lock();
                if waiting.bytes < BYTES_LOW || waiting.mode != Mode::Taken {
                    return;
                }
            }
            taken.await;
        }
    }

    /// Puts results in; says whether the job's tasks are to be held back from now on.
    pub(crate) fn put(&self, outcomes: Vec<msg::Outcome>) -> Pressure {
        let mut waiting = self.waiting.lock();
        if waiting.mode != Mode::Taken {
            return Pressure::Unchanged;
        }
        waiting.push(outcomes);
        if waiting.bytes > BYTES_HIGH && !waiting.full {
            waiting.full = true;
            return Pressure::HoldBack;
        }
        Pressure::Unchanged
    }

    /// Takes the results that have waited longest, as many as go into one message; says whether tasks may go on. `None` if they are
    /// another session's by now.
    pub(crate) fn take(&self, session: &Arc<Notify>) -> Option<(Vec<msg::Outcome>, Pressure)> {
        let mut waiting = self.waiting.lock();
        if !waiting.is_taken_by(session) {
            return None;
        }
        let count = batch::length(&waiting.outcomes, size);
        let taken: Vec<msg::Outcome> = waiting.outcomes.drain(..count).collect();
        waiting.bytes -= taken.iter().map(size).sum::<usize>();
        let go_on = waiting.full && waiting.bytes < BYTES_LOW;
        waiting.full &= !go_on;
        drop(waiting);
        self.taken.notify_waiters();
        Some((taken, if go_on { Pressure::LetGo } else { Pressure::Unchanged }))
    }

    /// Whether nothing is on its way in.
    pub(crate) fn is_settled(&self) -> bool {
        !self.waiting.lock().resending
    }

    /// Whether nobody takes results any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.waiting.lock().mode == Mode::Closed
    }

    /// A session is over. Its driver may come back, or will not: then results are dropped from now on. Nothing if another session took over.
    pub(crate) fn leave(&self, session: &Arc<Notify>, for_good: bool) -> Option<Pressure> {
        let mut waiting = self.waiting.lock();
        waiting.is_taken_by(session).then(|| self.end(&mut waiting, if for_good { Mode::Closed } else { Mode::Away }))
    }

    /// Nobody will take results any more.
    pub(crate) fn close(&self) -> Pressure {
        self.end(&mut self.waiting.lock(), Mode::Closed)
    }

    fn end(&self, waiting: &mut Waiting, mode: Mode) -> Pressure {
        let (full, changes) = (waiting.full, waiting.changes + 1);
        *waiting = Waiting { mode, changes, ..Waiting::default() };
        self.taken.notify_waiters();
        if full { Pressure::LetGo } else { Pressure::Unchanged }
    }

    /// How often sessions came and went; and whether none is there now, though one may come.
    pub(crate) fn away_since(&self) -> (u64, bool) {
        let waiting = self.waiting.lock();
        (waiting.changes, waiting.mode == Mode::Away)
    }

    /// Tells the session that something changed.
    pub(crate) fn tell(&self) {
        self.waiting.lock().tell();
    }
}

impl Waiting {
    fn push(&mut self, outcomes: Vec<msg::Outcome>) {
        self.bytes += outcomes.iter().map(size).sum::<usize>();
        self.outcomes.extend(outcomes);
        self.tell();
    }

    fn is_taken_by(&self, session: &Arc<Notify>) -> bool {
        self.session.as_ref().is_some_and(|taker| Arc::ptr_eq(taker, session))
    }

    fn tell(&self) {
        if let Some(session) = &self.session {
            session.notify_one();
        }
    }
}

/// About how many bytes a result takes in a message.
pub(crate) fn size(outcome: &msg::Outcome) -> usize {
    match &outcome.result {
        Some(msg::outcome::Result::Value(value)) => 64 + value.len(),
        _ => 64,
    }
}
