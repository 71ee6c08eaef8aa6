//! What is particular to a job of tasks that tasks started: they come one by one, and their results become objects.

use std::collections::HashMap;

use bytes::Bytes;
use rwasm_objects::refs::Holder;
use rwasm_runtime::now_ms;
use rwasm_types::{Attempt, Code, Error, Result};

use super::job::{Job, JobCall};
use crate::{
    executor::{Ended, Item},
    objects::{named, names_objects},
};

/// Arguments of tasks that have not ended.
#[derive(Default)]
pub(super) struct Waiting {
    bytes: u64,
    /// By task, those that take more than a little.
    large: HashMap<u64, u64>,
}

/// Arguments that are smaller are not counted: there are not so many tasks that it mattered.
const ARGS_COUNTED_BYTES: usize = 1 << 10;

impl Job {
    /// Adds a task that another task starts.
    ///
    /// # Errors
    ///
    /// [`Code::CANCELLED`] if the job is over.
    pub(crate) fn start(&self, call: &JobCall, args: Bytes, depth: u32) -> Result<Item> {
        let mut state = self.state.lock();
        if state.finished {
            return Err(Error::new(Code::CANCELLED, "the job is over, and nothing more is started in it"));
        }
        let first = call.first_state();
        let sequence = state.tasks.len();
        state.tasks.push(call.number, first, now_ms());
        drop(state);
        if let Some((_, waiting)) = self.child_of.as_ref().filter(|_| args.len() >= ARGS_COUNTED_BYTES) {
            let mut waiting = waiting.lock();
            waiting.bytes += args.len() as u64;
            waiting.large.insert(sequence, args.len() as u64);
        }
        self.counters.submitted(1);
        Ok(Item { depth, ..Item::new(self.id.task(sequence), Attempt::FIRST, args) })
    }

    /// Bytes of arguments of tasks that other tasks have started and that have not ended.
    pub(crate) fn args_bytes(&self) -> u64 {
        self.child_of.as_ref().map_or(0, |(_, waiting)| waiting.lock().bytes)
    }

    /// How many tasks have not ended.
    pub(crate) fn unended_count(&self) -> u64 {
        let state = self.state.lock();
        state.tasks.len() - state.tasks.counts().finished()
    }

    pub(crate) fn has_ended_task(&self, sequence: u64) -> bool {
        self.state.lock().tasks.get(sequence).is_none_or(|entry| entry.state.is_final())
    }

    /// The results of tasks that other tasks have started are objects from now on.
    pub(super) fn publish(&self, ended: &[Ended]) {
        let Some((_, waiting)) = &self.child_of else { return };
        {
            let mut waiting = waiting.lock();
            for end in ended {
                let bytes = waiting.large.remove(&end.task.sequence).unwrap_or_default();
                waiting.bytes -= bytes;
            }
        }
        for end in ended {
            let call = self.task_call(end.task.sequence);
            let ty = call.as_ref().and_then(|call| call.export.signature.result.as_ref());
            self.objects.publish(end.task.object(0), &self.tenant, ty, end.result.as_ref());
        }
    }

    /// Holds what a result names, for whoever takes it.
    pub(super) fn hold_named(&self, end: &Ended) {
        let Some(result) = end.result.as_ref().ok().filter(|result| names_objects(result)) else { return };
        for id in named(result).unwrap_or_default() {
            // What the attempt held until now is there.
            if let Err(error) = self.objects.hold(&self.tenant, id, Holder::Result(end.task)) {
                tracing::warn!(task = %end.task, %error, "a result names an object that is gone");
            }
        }
    }
}
