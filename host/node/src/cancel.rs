//! Ending tasks before they have ended by themselves, on whatever node they are, and those that could never end.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use rwasm_types::{Error, JobId, TaskId};

use crate::{
    dispatch::ClassId,
    executor::{Executor, Item, ToExecutor},
    node::{Shared, cancelled},
    owner::job::Job,
};

impl Shared {
    /// Cancels tasks of a job, all of them without `sequences`: waiting ones are removed, running ones ended, on whatever node.
    pub(crate) fn cancel(&self, job: &Arc<Job>, sequences: Option<&[u64]>) {
        let wanted = |task: TaskId| sequences.is_none_or(|sequences| sequences.contains(&task.sequence));
        self.objects.cancel_waiting(job.id, sequences);
        for call in job.calls() {
            if let Some(actor) = call.actor {
                self.cancel_calls(actor, job, sequences);
                continue;
            }
            let (waiting, runs) = {
                let mut dispatcher = self.dispatcher.lock();
                (dispatcher.take_if(call.class, |item| wanted(item.task)), dispatcher.runs_of(call.class))
            };
            self.end(job, waiting, &cancelled());
            if let Some(executor) = self.executor() {
                for run in runs {
                    match sequences {
                        Some(sequences) => {
                            sequences.iter().for_each(|sequence| executor.send(ToExecutor::Cancel { run, task: job.id.task(*sequence) }));
                        }
                        None => executor.cancel_run(run),
                    }
                }
            }
            // What a run gave back meanwhile, because it waits for others.
            let returned = self.dispatcher.lock().take_if(call.class, |item| wanted(item.task));
            self.end(job, returned, &cancelled());
        }
        self.spread.cancel(job, sequences);
    }

    /// Stops a job: nothing more of it runs.
    pub(crate) fn stop(&self, job: &Arc<Job>, error: Option<Error>) {
        job.stop(error);
        self.cancel(job, None);
    }

    /// Cancels tasks of a class that runs for another node; gives back those that waited.
    pub(crate) fn cancel_in_class(&self, class: ClassId, job: JobId, sequences: &[u64]) -> Vec<Item> {
        let all = sequences.is_empty();
        let (waiting, runs) = {
            let mut dispatcher = self.dispatcher.lock();
            (dispatcher.take_if(class, |item| all || sequences.contains(&item.task.sequence)), dispatcher.runs_of(class))
        };
        if let Some(executor) = self.executor() {
            for run in runs {
                if all {
                    executor.cancel_run(run);
                }
                sequences.iter().for_each(|sequence| executor.send(ToExecutor::Cancel { run, task: job.task(*sequence) }));
            }
        }
        let returned = self.dispatcher.lock().take_if(class, |item| all || sequences.contains(&item.task.sequence));
        waiting.into_iter().chain(returned).collect()
    }

    /// Ends the runs of a class, and gives back what waited in it.
    pub(crate) fn drop_class(&self, class: ClassId) -> Vec<Item> {
        let (waiting, runs) = {
            let mut dispatcher = self.dispatcher.lock();
            let runs = dispatcher.runs_of(class);
            (dispatcher.remove_class(class), runs)
        };
        if let Some(executor) = self.executor() {
            runs.into_iter().for_each(|run| executor.cancel_run(run));
        }
        waiting
    }
}

/// How often is looked whether all that runs waits, and how often in a row it must have been so.
const STUCK_LOOK_EVERY: Duration = Duration::from_secs(1);
const STUCK_LOOKS: u32 = 5;

/// Ends the newest of the tasks that wait for what can never start, for as long as the node runs: none of them would ever end.
pub(crate) async fn watch_stuck(shared: Weak<Shared>) {
    let mut ticks = tokio::time::interval(STUCK_LOOK_EVERY);
    let mut seen = (None, 0);
    loop {
        ticks.tick().await;
        let Some(shared) = shared.upgrade() else { return };
        // Other nodes may get to what waits here.
        let stuck = shared.dispatcher.lock().stuck();
        let stuck = stuck.filter(|_| shared.spread.leases().is_empty());
        seen = if stuck.is_some() && stuck == seen.0 { (stuck, seen.1 + 1) } else { (stuck, 1) };
        if let (Some(run), STUCK_LOOKS) = seen {
            tracing::warn!(?run, "all that runs here waits for tasks that cannot start; the newest is ended");
            if let Some(executor) = shared.executor() {
                executor.send(ToExecutor::GiveUp { run });
            }
            seen = (None, 0);
        }
    }
}
