//! What a job's attempts on its own node write and how they end, on its way to the job.

use std::sync::Arc;

use rwasm_engine::Output;
use rwasm_types::{ActorId, Attempt, Error, TaskId};

use super::{job::Job, outbox::Pressure};
use crate::{
    actors::Event,
    executor::{Ended, Item, Taker},
};

/// What is told when a job's driver falls behind or has caught up.
pub(crate) type OnPressure = dyn Fn(&Job, Pressure) + Send + Sync;

/// Takes what a job's attempts write and how they end, when they run on this node.
pub(crate) struct JobTaker {
    pub(crate) job: Arc<Job>,
    /// Told when the driver falls behind.
    pub(crate) pressure: Arc<OnPressure>,
}

impl Taker for JobTaker {
    fn started(&self, items: &[Item]) {
        self.job.running(items, self.job.id.owner);
    }

    fn ended(&self, ended: Vec<Ended>) {
        let pressure = self.job.end(ended);
        if pressure != Pressure::Unchanged {
            (self.pressure)(&self.job, pressure);
        }
    }

    fn alive(&self, item: &Item) {
        self.job.actors.tell(Event::Alive(ActorId(item.task), item.attempt, self.job.id.owner));
    }

    fn returned(&self, items: &[Item]) {
        self.job.requeued(items);
    }

    fn lost(&self, items: Vec<Item>, error: &Error) -> Vec<Item> {
        items.into_iter().filter_map(|item| self.job.lost(item, error)).collect()
    }

    fn output(&self, task: TaskId, attempt: Attempt) -> Arc<dyn Output> {
        self.job.log.writer(task.sequence, attempt)
    }
}
