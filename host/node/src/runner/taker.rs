//! What a link's tasks write and how they end, on its way to their owner: collected, and sent in as few messages as there are pauses.

use std::{
    collections::HashMap,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use parking_lot::Mutex;
use rwasm_engine::Output;
use rwasm_types::{Attempt, Error, Result, Stream, TaskId};
use rwasm_wire::{Sender, msg};
use tokio::sync::Notify;

use crate::{
    batch,
    dispatch::ClassId,
    executor::{Ended, Item, Taker},
    owner::outbox,
};

/// Bytes of output that wait to be sent before guests are held back.
const OUTPUT_BYTES_MAX: usize = 4 << 20;

/// What waits to be sent to one owner. Outcomes need no limit here: the owner sent each of the tasks.
pub(crate) struct RunnerQueue {
    state: Mutex<State>,
    ready: Notify,
}

#[derive(Default)]
struct State {
    /// Of a session's tasks that wait or run, the lease they were sent on.
    leases: HashMap<(u32, u64), u64>,
    outcomes: Vec<(u32, u64, msg::Outcome)>,
    outputs: Vec<(u32, msg::Output)>,
    output_bytes: usize,
    failed: Vec<msg::DefineFailed>,
    waiting: Vec<Waker>,
    closed: bool,
}

impl RunnerQueue {
    pub(crate) fn new() -> Self {
        Self { state: Mutex::default(), ready: Notify::new() }
    }

    /// Tasks came in on a lease.
    pub(crate) fn expect(&self, session: u32, lease: u64, sequences: impl Iterator<Item = u64>) {
        let mut state = self.state.lock();
        state.leases.extend(sequences.map(|sequence| ((session, sequence), lease)));
    }

    /// Tasks ended.
    pub(crate) fn ended(&self, session: u32, outcomes: Vec<msg::Outcome>) {
        let mut state = self.state.lock();
        for outcome in outcomes {
            if let Some(lease) = state.leases.remove(&(session, outcome.sequence)) {
                state.outcomes.push((session, lease, outcome));
            }
        }
        drop(state);
        self.ready.notify_one();
    }

    /// A call cannot run here.
    pub(crate) fn failed(&self, session: u32, number: u32, error: &Error) {
        self.state.lock().failed.push(msg::DefineFailed { session, number, error: Some(error.into()) });
        self.ready.notify_one();
    }

    /// The owner is gone.
    pub(crate) fn close(&self) {
        let waiting = {
            let mut state = self.state.lock();
            state.closed = true;
            std::mem::take(&mut state.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
        self.ready.notify_one();
    }

    /// The messages that say all that waits; output first, so that a task's comes before its end. `None` when the owner is gone.
    fn take(&self) -> Option<Vec<msg::RunnerMessage>> {
        let (state, waiting) = {
            let mut state = self.state.lock();
            if state.closed {
                return None;
            }
            let waiting = std::mem::take(&mut state.waiting);
            state.output_bytes = 0;
            let taken = State {
                outcomes: std::mem::take(&mut state.outcomes),
                outputs: std::mem::take(&mut state.outputs),
                failed: std::mem::take(&mut state.failed),
                ..State::default()
            };
            (taken, waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
        let mut messages = Vec::new();
        for (session, output) in state.outputs {
            match messages.last_mut() {
                Some(msg::runner_message::Message::Outputs(last)) if last.session == session => last.outputs.push(output),
                _ => messages.push(msg::runner_message::Message::Outputs(msg::RemoteOutputs { session, outputs: vec![output] })),
            }
        }
        for batch in batch::split(state.outcomes, |(_, _, outcome)| outbox::size(outcome)) {
            // A message holds the outcomes of one lease, and none is added to the message of an earlier batch.
            let mut last = None;
            for (session, lease, outcome) in batch {
                match messages.last_mut().filter(|_| last == Some((session, lease))) {
                    Some(msg::runner_message::Message::Outcomes(message)) => message.outcomes.push(outcome),
                    _ => messages.push(msg::runner_message::Message::Outcomes(msg::RemoteOutcomes {
                        session,
                        lease,
                        outcomes: vec![outcome],
                    })),
                }
                last = Some((session, lease));
            }
        }
        messages.extend(state.failed.into_iter().map(msg::runner_message::Message::DefineFailed));
        Some(messages.into_iter().map(|message| msg::RunnerMessage { message: Some(message) }).collect())
    }
}

/// Sends what waits, until the link ends.
pub(crate) async fn write(queue: Arc<RunnerQueue>, sender: Sender<Result<msg::RunnerMessage>>) {
    loop {
        queue.ready.notified().await;
        let Some(messages) = queue.take() else { return };
        for message in messages {
            if sender.send(Ok(message)).await.is_err() {
                queue.close();
                return;
            }
        }
    }
}

/// Takes what one class of a link writes and how it ends.
pub(crate) struct LinkTaker {
    pub(crate) queue: Arc<RunnerQueue>,
    pub(crate) class: ClassId,
    pub(crate) session: u32,
}

impl Taker for LinkTaker {
    fn started(&self, items: &[Item]) {
        // The owner counts a task as running from when it sent it.
        tracing::trace!(class = ?self.class, tasks = items.len(), "tasks of another node start");
    }

    fn ended(&self, ended: Vec<Ended>) {
        self.queue.ended(self.session, ended.into_iter().map(Ended::into_message).collect());
    }

    fn lost(&self, items: Vec<Item>, error: &Error) -> Vec<Item> {
        // The owner tries them again, or not, and hears of no other end: what was told once is not expected any more.
        self.ended(items.iter().map(|item| Ended::unrun(item, error.clone())).collect());
        Vec::new()
    }

    fn output(&self, task: TaskId, attempt: Attempt) -> Arc<dyn Output> {
        Arc::new(LinkOutput { queue: Arc::clone(&self.queue), session: self.session, sequence: task.sequence, attempt })
    }
}

struct LinkOutput {
    queue: Arc<RunnerQueue>,
    session: u32,
    sequence: u64,
    attempt: Attempt,
}

impl Output for LinkOutput {
    fn write(&self, stream: Stream, bytes: Bytes) {
        let mut state = self.queue.state.lock();
        if state.closed {
            return;
        }
        state.output_bytes += bytes.len();
        let stream = msg::Stream::from(stream).into();
        state.outputs.push((self.session, msg::Output { sequence: self.sequence, attempt: self.attempt.0, stream, bytes }));
        drop(state);
        self.queue.ready.notify_one();
    }

    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<usize> {
        let mut state = self.queue.state.lock();
        let room = OUTPUT_BYTES_MAX.saturating_sub(state.output_bytes);
        if room > 0 || state.closed {
            return Poll::Ready(room.max(1));
        }
        if !state.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            state.waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }
}
