//! Tasks whose arguments name objects: they wait until those are ready, and end at once where one is not there.

use std::{sync::Arc, time::Duration};

use rwasm_runtime::OnEnd;
use rwasm_types::{JobId, Result, TaskId};
use tokio::sync::oneshot;

use super::{
    Objects,
    args::{named, names_objects},
};
use crate::{
    executor::Item,
    node::Shared,
    owner::job::{Job, JobCall},
};

/// How long a task waits for what its arguments name: until its job is stopped.
const FOREVER: Duration = Duration::from_secs(366 * 24 * 3600);

impl Objects {
    /// A task waits; its end is heard where it is cancelled.
    pub(crate) fn waits(&self, task: TaskId) -> oneshot::Receiver<()> {
        let (sender, cancelled) = oneshot::channel();
        self.waiting.lock().insert(task, sender);
        cancelled
    }

    pub(crate) fn waits_no_more(&self, task: TaskId) {
        self.waiting.lock().remove(&task);
    }

    /// Cancels tasks of a job that wait for objects, all of them without `sequences`.
    pub(crate) fn cancel_waiting(&self, job: JobId, sequences: Option<&[u64]>) {
        let wanted = |task: TaskId| task.job() == job && sequences.is_none_or(|sequences| sequences.contains(&task.sequence));
        self.waiting.lock().retain(|task, _| !wanted(*task));
    }
}

impl Shared {
    /// Queues tasks of a job, each when all that its arguments name is ready.
    pub(crate) fn enqueue_named(self: &Arc<Self>, job: &Arc<Job>, call: &Arc<JobCall>, items: Vec<Item>) {
        let (naming, mut plain): (Vec<Item>, Vec<Item>) = items.into_iter().partition(|item| names_objects(&item.args));
        for item in naming {
            match self.hold_named(job, call, &item) {
                Ok(true) => plain.push(item),
                Ok(false) => {
                    let (shared, job, call) = (Arc::clone(self), Arc::clone(job), Arc::clone(call));
                    self.scope.spawn("await-objects", OnEnd::Continue, async move { shared.await_named(&job, &call, item).await });
                }
                Err(error) => self.end(job, vec![item], &error),
            }
        }
        if !plain.is_empty() {
            self.enqueue(job, call, plain);
        }
    }

    /// Has a task hold what its arguments name. Gives whether all of it is ready.
    fn hold_named(&self, job: &Job, call: &JobCall, item: &Item) -> Result<bool> {
        let signature = &call.export.signature;
        self.objects.hold_for(&job.tenant, item.task, named(&item.args)?.into_iter())?;
        self.objects.check_args(&job.tenant, signature, &item.args)
    }

    async fn await_named(self: Arc<Self>, job: &Arc<Job>, call: &Arc<JobCall>, item: Item) {
        let signature = &call.export.signature;
        let ready = async {
            for id in named(&item.args)? {
                self.objects.get(&job.tenant, id, FOREVER).await?;
            }
            self.objects.check_args(&job.tenant, signature, &item.args)
        };
        let cancelled = self.objects.waits(item.task);
        let ready = tokio::select! {
            ready = ready => ready,
            // Nothing is ever sent.
            _ = cancelled => Err(crate::node::cancelled()),
        };
        self.objects.waits_no_more(item.task);
        match ready {
            Ok(_) => self.enqueue(job, call, vec![item]),
            Err(error) => self.end(job, vec![item], &error),
        }
    }
}
