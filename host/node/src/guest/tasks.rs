//! The tasks that an attempt starts, waits for and ends.

use std::{
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use rwasm_engine::{
    objects::{Object, Waits},
    tasks::{self as guest, Call},
};
use rwasm_types::{
    ActorOptions, ArtifactDigest, ArtifactName, Code, Error, ObjectId, Placement, Result, Strategy, TaskId, TaskOptions,
    api::{ArtifactRecord, Ask, Query},
    format_bytes, format_duration,
};
use rwasm_values::{Limits, Ref, codec::Encoder};

use super::{Reach, objects::Held};
use crate::{
    executor::Item,
    node::{CallRequest, Shared},
    owner::job::{Job, JobCall},
};

/// How many tasks may start one another in a chain: each has a guest that waits, with its memory and its stack.
pub(crate) const DEPTH_MAX: u32 = 1_024;
/// The most bytes of one call's arguments; larger values are passed as objects.
const ARGS_BYTES_MAX: usize = 4 << 20;

/// A task that an attempt has started.
pub(super) struct Started {
    job: Weak<Job>,
    task: TaskId,
}

impl Reach {
    /// The attempt is over. What it started and what has not ended goes with it, if it failed.
    pub(crate) fn over(&self, succeeded: bool) {
        let started = std::mem::take(&mut *self.started.lock());
        if succeeded {
            return;
        }
        if let Some(host) = self.host.upgrade() {
            started.iter().for_each(|started| host.cancel_started(&started.job, started.task));
        }
    }

    async fn start(&self, call: Call) -> Result<Arc<dyn guest::Task>> {
        let host = self.host.upgrade().ok_or_else(|| Error::new(Code::CONNECTION_LOST, "this node is shutting down"))?;
        if self.depth >= DEPTH_MAX {
            let message = format!("{DEPTH_MAX} tasks have started one another, and the last of them may start no more");
            return Err(Error::new(Code::TASK_DEPTH, message)
                .hint("start tasks beside each other instead, and wait for them")
                .with("depth", DEPTH_MAX));
        }
        if call.args.len() > ARGS_BYTES_MAX {
            let message = format!(
                "the arguments have {}, and may have {}",
                format_bytes(call.args.len() as u64),
                format_bytes(ARGS_BYTES_MAX as u64)
            );
            return Err(Error::new(Code::VALUE_TOO_LARGE, message).hint("pass large values as objects"));
        }
        let artifact = match &call.artifact {
            Some(name) => self.artifact(&host, name).await?,
            None => self.origin.artifact,
        };
        let options = self.options(&call.options)?;
        let request = CallRequest { artifact, export: call.export, options, grants: self.origin.grants.clone(), actor: None };
        let message = message(&call.refs, &call.args)?;
        let (job, call) = host.child_call(&self.tenant, self.origin.root, self.task.job(), request)?;
        if call.makes_actor() {
            let error = Error::new(Code::NOT_CALLABLE, format!("`{}` makes an actor, and tasks make none", call.export.name));
            return Err(error.hint("have the driver make it"));
        }
        call.check(&message)?;
        let item = host.children.start(&job, &call, message, self.depth + 1)?;
        let task = item.task;
        let output = self.hold_by(task.object(0), || {
            self.objects.expect(task.object(0), &self.tenant, self.holder);
            Ok(())
        })?;
        self.started.lock().push(Started { job: Arc::downgrade(&job), task });
        host.begin_started(&job, &call, item);
        Ok(Arc::new(Running { host: Arc::downgrade(&host), job: Arc::downgrade(&job), task, output }))
    }

    /// The artifact of a name, which the head knows.
    async fn artifact(&self, host: &Arc<Shared>, name: &str) -> Result<ArtifactDigest> {
        let name: ArtifactName = name.parse().map_err(|error| Error::new(Code::INVALID_ARGUMENT, format!("{error}")))?;
        let whole = if let ArtifactName::Digest(digits) = &name { digits.whole() } else { None };
        if let Some(digest) = whole.filter(|digest| host.artifacts.contains(&self.tenant, *digest)) {
            return Ok(digest);
        }
        let ask = Ask::Query(Query::Artifact { artifact: name });
        let answer = host.answer(&self.tenant, None, &ask, Bytes::new()).await?;
        let known: ArtifactRecord =
            serde_json::from_slice(&answer).map_err(|error| Error::internal(format!("an answer is no artifact: {error}")))?;
        Ok(known.digest)
    }

    /// The options of a call: those of this task, but for what was asked for; never more than this task has.
    fn options(&self, asked: &guest::CallOptions) -> Result<TaskOptions> {
        let own = &self.origin.options;
        let beyond = |what: String| Error::new(Code::LIMIT, what).hint("start the first task of all with more");
        let mut limits = own.limits;
        if asked.resources.memory > 0 {
            if asked.resources.memory > limits.memory_bytes {
                let (asked, own) = (format_bytes(asked.resources.memory), format_bytes(limits.memory_bytes));
                return Err(beyond(format!("a task that may have {own} of memory starts one that wants {asked}")));
            }
            limits.memory_bytes = asked.resources.memory;
        }
        if let Some(wall) = asked.wall {
            if wall > limits.wall {
                let (asked, own) = (format_duration(wall), format_duration(limits.wall));
                return Err(beyond(format!("a task that may run for {own} starts one that wants {asked}")));
            }
            limits.wall = wall;
        }
        let priority = asked.priority.unwrap_or(own.priority);
        if priority > own.priority {
            return Err(beyond(format!("a task of priority {} starts one of priority {}", own.priority.get(), priority.get())));
        }
        Ok(TaskOptions {
            resources: asked.resources.clone(),
            limits,
            retries_max: asked.retries,
            priority,
            reuse: false,
            placement: Placement {
                strategy: if asked.spread { Strategy::Spread } else { Strategy::Pack },
                labels: asked.labels.clone(),
                ..Placement::default()
            }
            .checked()?,
            name: None,
            actor: ActorOptions::default(),
        })
    }
}

/// The message of a call whose arguments a guest has encoded.
fn message(refs: &[ObjectId], args: &[u8]) -> Result<Bytes> {
    let refs: Vec<Ref> = refs.iter().copied().map(Ref::Object).collect();
    let mut message = Encoder::new(&Limits::default());
    message.header(&refs)?;
    message.raw(args)?;
    Ok(message.into_bytes().into())
}

impl guest::Tasks for Reach {
    fn submit(&self, call: Call) -> Waits<'_, Arc<dyn guest::Task>> {
        Box::pin(self.start(call))
    }

    fn wait(&self, objects: Vec<Arc<dyn Object>>, count: usize, within: Option<Duration>) -> Waits<'_, Vec<u32>> {
        Box::pin(async move {
            let ids: Vec<ObjectId> = objects.iter().map(|object| object.id()).collect();
            Ok(self.objects.settle(&self.tenant, &ids, count, within, || self.lend_slot()).await)
        })
    }
}

/// A task that an attempt has a handle of.
struct Running {
    host: Weak<Shared>,
    job: Weak<Job>,
    task: TaskId,
    output: Arc<Held>,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.task, f)
    }
}

impl guest::Task for Running {
    fn id(&self) -> TaskId {
        self.task
    }

    fn output(&self) -> Arc<dyn Object> {
        Arc::clone(&self.output) as _
    }

    fn cancel(&self) {
        if let Some(host) = self.host.upgrade() {
            host.cancel_started(&self.job, self.task);
        }
    }
}

impl Shared {
    /// Ends a task that another has started.
    fn cancel_started(&self, job: &Weak<Job>, task: TaskId) {
        if let Some(job) = job.upgrade().filter(|job| !job.has_ended_task(task.sequence)) {
            self.cancel(&job, Some(&[task.sequence]));
        }
    }

    /// Has a task that another has started wait for its arguments, and for a slot.
    fn begin_started(self: &Arc<Self>, job: &Arc<Job>, call: &Arc<JobCall>, item: Item) {
        // Not on the thread that brought it: that is in the middle of a guest.
        self.enqueue_named(job, call, vec![item], false);
    }
}
