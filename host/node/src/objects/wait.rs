//! Tasks whose arguments name objects: they wait until those are ready, and end at once where one is not there.

use std::{collections::HashMap, sync::Arc, time::Duration};

use rwasm_runtime::OnEnd;
use rwasm_types::{Attempt, Error, JobId, Result, TaskId};
use tokio::sync::oneshot;

use super::{
    Copies, Objects, Owner,
    args::{named, names_objects},
};
use crate::{
    dispatch::ClassId,
    executor::Item,
    node::Shared,
    owner::job::{Job, JobCall},
};

/// How long a task waits for what its arguments name: until its job is stopped.
pub(crate) const FOREVER: Duration = Duration::from_secs(366 * 24 * 3600);

/// Attempts that wait for what their arguments name; what ends the wait is dropped where they are cancelled.
pub(super) type Waiting = HashMap<(TaskId, Attempt), oneshot::Sender<()>>;

/// The end of a wait that was cancelled. Nothing is ever sent.
pub(crate) type Cancelled = oneshot::Receiver<()>;

impl Objects {
    /// An attempt waits from now on, until [`Shared::queue_waited`]; its end is heard where it is cancelled.
    pub(crate) fn waits(&self, item: &Item) -> Cancelled {
        let (sender, cancelled) = oneshot::channel();
        self.waiting.lock().insert((item.task, item.attempt), sender);
        cancelled
    }

    /// Cancels tasks of a job that wait for objects, all of them without `sequences`. Whoever cancels looks here first, and then for those
    /// that wait for slots.
    pub(crate) fn cancel_waiting(&self, job: JobId, sequences: Option<&[u64]>) {
        let wanted = |task: TaskId| task.job() == job && sequences.is_none_or(|sequences| sequences.contains(&task.sequence));
        self.waiting.lock().retain(|(task, _), _| !wanted(*task));
    }

    /// Ends the wait of a call of an actor.
    ///
    /// # Errors
    ///
    /// If it was cancelled meanwhile.
    pub(crate) fn end_wait(&self, item: &Item) -> Result<()> {
        self.waiting.lock().remove(&(item.task, item.attempt)).map(drop).ok_or_else(crate::node::cancelled)
    }

    /// Ends an attempt's wait, with `next` where it was not cancelled. No cancel comes between: it finds the attempt waiting, or finds it
    /// where `next` has put it.
    pub(super) fn waited<T>(&self, item: Item, next: impl FnOnce(Item) -> T) -> Result<T, Item> {
        let mut waiting = self.waiting.lock();
        match waiting.remove(&(item.task, item.attempt)) {
            Some(_) => Ok(next(item)),
            None => Err(item),
        }
    }
}

/// Tasks that were not queued, and why; without a reason their class is gone.
pub(crate) type Unqueued = (Vec<Item>, Option<Error>);

impl Shared {
    /// Queues tasks of a job, each when all that its arguments name is ready.
    pub(crate) fn enqueue_named(self: &Arc<Self>, job: &Arc<Job>, call: &Arc<JobCall>, items: Vec<Item>, may_run_here: bool) {
        if !items.iter().any(|item| names_objects(&item.args)) {
            return self.enqueue(job, call, items, may_run_here);
        }
        let (naming, mut plain): (Vec<Item>, Vec<Item>) = items.into_iter().partition(|item| names_objects(&item.args));
        for item in naming {
            match self.hold_named(job, call, &item) {
                Ok(true) => plain.push(item),
                Ok(false) => {
                    let (shared, job, call) = (Arc::clone(self), Arc::clone(job), Arc::clone(call));
                    let cancelled = self.objects.waits(&item);
                    self.scope.spawn("await-objects", OnEnd::Continue, async move {
                        shared.await_named(&job, &call, item, cancelled).await;
                    });
                }
                Err(error) => self.end(job, vec![item], &error),
            }
        }
        if !plain.is_empty() {
            self.enqueue(job, call, plain, may_run_here);
        }
    }

    /// Has a task hold what its arguments name. Gives whether all of it is ready, and here where the task may run here.
    fn hold_named(&self, job: &Job, call: &JobCall, item: &Item) -> Result<bool> {
        let signature = &call.export.signature;
        let named = named(&item.args)?;
        self.objects.hold_for(&job.tenant, item.task, named.iter().copied())?;
        let ready = self.objects.check_args(&job.tenant, signature, &item.args)?;
        Ok(ready && (!self.may_run_here_now(call) || named.iter().all(|id| self.objects.is_here(&job.tenant, *id))))
    }

    fn may_run_here_now(&self, call: &JobCall) -> bool {
        call.granted.is_some() && self.dispatcher.lock().may_run_here(call.class)
    }

    async fn await_named(self: Arc<Self>, job: &Arc<Job>, call: &Arc<JobCall>, mut item: Item, cancelled: Cancelled) {
        let signature = &call.export.signature;
        let ready = async {
            let named = named(&item.args)?;
            for id in &named {
                self.objects.ready(&job.tenant, *id, FOREVER).await?;
            }
            self.objects.check_args(&job.tenant, signature, &item.args)?;
            if !self.may_run_here_now(call) {
                // Wherever it runs, the bytes are fetched there.
                return Ok(Copies::default());
            }
            self.fetch(&job.tenant, Owner { node: self.id, address: "" }, named).await
        };
        let ready = tokio::select! {
            ready = ready => ready,
            _ = cancelled => Err(crate::node::cancelled()),
        };
        let ready = ready.map(|copies| item.copies = copies);
        if call.actor.is_some() {
            return match (self.objects.waited(item, |item| item), ready) {
                (Ok(item), Ok(())) => self.call_actor(job, call, vec![item]),
                (Ok(item), Err(error)) => self.end(job, vec![item], &error),
                (Err(item), _) => self.end(job, vec![item], &crate::node::cancelled()),
            };
        }
        match self.queue_waited(call.class, item, ready) {
            Ok(()) => self.pump(),
            Err((items, Some(error))) => self.end(job, items, &error),
            Err((items, None)) => self.refuse(job, call, items),
        }
    }

    /// An attempt has waited for objects, and `ready` says what came of that: from now on it waits for a slot, or it is given back.
    pub(crate) fn queue_waited(&self, class: ClassId, item: Item, ready: Result<()>) -> Result<(), Unqueued> {
        let queue = |item: Item| match ready {
            Ok(()) => self.dispatcher.lock().enqueue(class, [item]).map_err(|items| (items, None)),
            Err(error) => Err((vec![item], Some(error))),
        };
        self.objects.waited(item, queue).unwrap_or_else(|item| Err((vec![item], Some(crate::node::cancelled()))))
    }
}
