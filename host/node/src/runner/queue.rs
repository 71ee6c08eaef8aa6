//! The way of what attempts say to their owner: kept, sent in as few messages as there are pauses, and said again where a link broke.

use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use parking_lot::Mutex;
use rwasm_types::{Attempt, Error, Result, SessionId, Stream};
use rwasm_wire::{Sender, msg};
use tokio::sync::Notify;

use super::kept::{self, Came, Held, Kept};
use crate::executor::HeldObjects;

/// Bytes of output that wait to be sent, or to be acknowledged, before guests are held back. So they are while their owner is away: none of
/// it is lost.
const OUTPUT_BYTES_MAX: usize = 4 << 20;

/// What waits to be said to one owner.
pub(super) struct Queue {
    state: Mutex<State>,
    ready: Notify,
}

struct State {
    kept: Kept,
    /// The number of the link that is there; 0 while none is.
    link: u64,
    /// The number of the newest that was there.
    newest: u64,
    /// Guests that wait for room.
    waiting: Vec<Waker>,
    closed: bool,
}

impl Queue {
    pub(super) fn new() -> Self {
        let state = State { kept: Kept::default(), link: 0, newest: 0, waiting: Vec::new(), closed: false };
        Self { state: Mutex::new(state), ready: Notify::new() }
    }

    /// The owner is there on another link, and says what it has heard; gives what it is told first. A link that was overtaken by a newer one
    /// changes nothing.
    pub(super) fn attach(&self, link: u64, heard: Option<(u64, u64)>) -> (bool, Held) {
        let mut released = HeldObjects::new();
        let mut state = self.state.lock();
        if link <= state.newest {
            return (false, Held::new());
        }
        (state.link, state.newest) = (link, link);
        if let Some((outputs, outcomes)) = heard {
            released = state.kept.acknowledge(outputs, outcomes);
        }
        let gave_up = state.kept.back();
        let held = state.kept.held();
        let waiting = state.waiting_if_room();
        drop(state);
        drop(released);
        waiting.into_iter().for_each(Waker::wake);
        (gave_up, held)
    }

    /// Whether a link is the owner's newest.
    pub(super) fn is_current(&self, link: u64) -> bool {
        self.state.lock().link == link
    }

    /// A link broke: what was not acknowledged waits for the next. Says whether it was the one that is there.
    pub(super) fn broke(&self, link: u64) -> bool {
        let mut state = self.state.lock();
        if state.link != link {
            return false;
        }
        // No link has this number, so that nobody takes anything.
        state.link = 0;
        state.kept.broke();
        drop(state);
        // So that whoever writes to the link ends.
        self.ready.notify_one();
        true
    }

    /// Tasks came in on a lease.
    pub(super) fn expect(&self, session: SessionId, came: Came, attempts: impl Iterator<Item = (u64, Attempt)>) {
        self.state.lock().kept.expect(session, came, attempts);
    }

    /// Attempts ended.
    pub(super) fn ended(&self, session: SessionId, outcomes: Vec<(msg::Outcome, HeldObjects)>) {
        let mut state = self.state.lock();
        if !state.closed {
            outcomes.into_iter().for_each(|(outcome, held)| state.kept.ended(session, outcome, held));
        }
        drop(state);
        self.ready.notify_one();
    }

    /// The actor that an attempt makes takes calls from now on.
    pub(super) fn alive(&self, session: SessionId, sequence: u64, attempt: Attempt) {
        self.state.lock().kept.alive((session, sequence, attempt));
        self.ready.notify_one();
    }

    /// A call cannot run here.
    pub(super) fn failed(&self, session: SessionId, number: u32, error: &Error) {
        self.state.lock().kept.failed(msg::DefineFailed { session, number, error: Some(error.into()) });
        self.ready.notify_one();
    }

    /// A job has ended.
    pub(super) fn forget(&self, session: SessionId) {
        self.state.lock().kept.forget(session);
    }

    /// The owner has written down what came up to these numbers.
    pub(super) fn acknowledge(&self, link: u64, outputs: u64, outcomes: u64) {
        let (waiting, _held) = {
            let mut state = self.state.lock();
            if state.link != link {
                return;
            }
            let held = state.kept.acknowledge(outputs, outcomes);
            (state.waiting_if_room(), held)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Whether there is nothing that the owner could want to know.
    pub(super) fn is_empty(&self) -> bool {
        self.state.lock().kept.is_empty()
    }

    /// How many attempts run or have said what was not acknowledged, and how many ends were given up.
    pub(super) fn counts(&self) -> (usize, u64) {
        self.state.lock().kept.counts()
    }

    /// Nobody asks any more.
    pub(super) fn close(&self) {
        let waiting = {
            let mut state = self.state.lock();
            state.closed = true;
            state.link = 0;
            std::mem::take(&mut state.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
        self.ready.notify_one();
    }

    /// What a link is to send now; `None` when it is not the owner's newest any more.
    fn take(&self, link: u64) -> Option<Vec<msg::RunnerMessage>> {
        let mut state = self.state.lock();
        (state.link == link && !state.closed).then(|| state.kept.take())
    }

    /// Sends what waits, until the link ends.
    pub(super) async fn write(self: Arc<Self>, link: u64, sender: Sender<Result<msg::RunnerMessage>>) {
        // What waited before the link was there.
        self.ready.notify_one();
        loop {
            self.ready.notified().await;
            let Some(messages) = self.take(link) else {
                // The notice may have been for the link that came after.
                self.ready.notify_one();
                return;
            };
            for message in messages {
                if sender.send(Ok(message)).await.is_err() {
                    return;
                }
            }
        }
    }

    /// Output of an attempt, of which so much came before.
    pub(super) fn wrote(&self, session: SessionId, sequence: u64, attempt: Attempt, stream: Stream, offset: u64, bytes: Bytes) {
        let mut state = self.state.lock();
        if state.closed {
            return;
        }
        state.kept.wrote(session, kept::output(sequence, attempt, stream.into(), offset, bytes));
        drop(state);
        self.ready.notify_one();
    }

    /// How many bytes of output may be written without waiting for the owner.
    pub(super) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<usize> {
        let mut state = self.state.lock();
        let room = OUTPUT_BYTES_MAX.saturating_sub(state.kept.output_bytes());
        if room > 0 || state.closed {
            return Poll::Ready(room.max(1));
        }
        if !state.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            state.waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl State {
    fn waiting_if_room(&mut self) -> Vec<Waker> {
        if self.kept.output_bytes() < OUTPUT_BYTES_MAX { std::mem::take(&mut self.waiting) } else { Vec::new() }
    }
}
