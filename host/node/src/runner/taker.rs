//! What attempts of another node's tasks write and how they end, on its way to what is kept for their owner.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use rwasm_engine::{Discard, Output};
use rwasm_types::{Attempt, Error, SessionId, Stream, TaskId};

use super::queue::Queue;
use crate::{
    dispatch::ClassId,
    executor::{Ended, Item, Taker},
};

/// Takes what one class of an owner's writes and how it ends.
pub(super) struct RemoteTaker {
    pub(super) queue: Arc<Queue>,
    pub(super) class: ClassId,
    pub(super) session: SessionId,
}

impl Taker for RemoteTaker {
    fn started(&self, items: &[Item]) {
        // The owner counts a task as running from when it sent it.
        tracing::trace!(class = ?self.class, tasks = items.len(), "tasks of another node start");
    }

    fn ended(&self, ended: Vec<Ended>) {
        self.queue.ended(self.session, ended.into_iter().map(Ended::into_message).collect());
    }

    fn alive(&self, item: &Item) {
        self.queue.alive(self.session, item.task.sequence, item.attempt);
    }

    fn returned(&self, items: &[Item]) {
        tracing::trace!(class = ?self.class, tasks = items.len(), "tasks of another node wait again");
    }

    fn lost(&self, items: Vec<Item>, error: &Error) -> Vec<Item> {
        // The owner tries them again, or not, and hears of no other end: what was told once is not expected any more.
        self.ended(items.iter().map(|item| Ended::unrun(item, error.clone())).collect());
        Vec::new()
    }

    fn output(&self, task: TaskId, attempt: Attempt) -> Arc<dyn Output> {
        let written = [AtomicU64::new(0), AtomicU64::new(0)];
        Arc::new(RemoteOutput { queue: Arc::clone(&self.queue), session: self.session, sequence: task.sequence, attempt, written })
    }
}

/// Takes how calls of actors end. What an actor writes is its own.
pub(super) struct CallTaker {
    pub(super) queue: Arc<Queue>,
    pub(super) session: SessionId,
}

impl Taker for CallTaker {
    fn started(&self, _items: &[Item]) {}

    fn returned(&self, _items: &[Item]) {}

    fn ended(&self, ended: Vec<Ended>) {
        self.queue.ended(self.session, ended.into_iter().map(Ended::into_message).collect());
    }

    fn lost(&self, items: Vec<Item>, error: &Error) -> Vec<Item> {
        self.ended(items.iter().map(|item| Ended::unrun(item, error.clone())).collect());
        Vec::new()
    }

    fn output(&self, _task: TaskId, _attempt: Attempt) -> Arc<dyn Output> {
        Arc::new(Discard)
    }
}

/// The output of one attempt.
struct RemoteOutput {
    queue: Arc<Queue>,
    session: SessionId,
    sequence: u64,
    attempt: Attempt,
    /// Bytes of each stream so far: an owner that began anew finds by them what it has in its file already.
    written: [AtomicU64; 2],
}

impl Output for RemoteOutput {
    fn write(&self, stream: Stream, bytes: Bytes) {
        let written = &self.written[usize::from(stream == Stream::Stderr)];
        let offset = written.fetch_add(bytes.len() as u64, Relaxed);
        self.queue.wrote(self.session, self.sequence, self.attempt, stream, offset, bytes);
    }

    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<usize> {
        self.queue.poll_room(cx)
    }
}
