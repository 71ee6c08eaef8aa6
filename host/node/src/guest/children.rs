//! Jobs of tasks that tasks start. Whatever tasks of one driver's job start on one node is one job there, with the node as its owner: it has
//! the driver's job as its root, is not written down before its effect, and ends with the root.
//!
//! ```text
//! driver ─▶ j1-7 at n1 ── a task of it runs at n2, and starts others ──▶ j2-3 at n2, root j1-7
//!              │                                                              │
//!              └── has ended ──▶ n1 forgets it, and tells n2 ──▶ n2 stops j2-3 and tells whoever runs its tasks
//! ```
//!
//! If the node is lost, so is the attempt that started the tasks: it runs again, and starts them again.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    num::NonZeroUsize,
    sync::Arc,
};

use bytes::Bytes;
use lru::LruCache;
use parking_lot::Mutex;
use rwasm_history::work::Opened;
use rwasm_runtime::now_ms;
use rwasm_types::{ArtifactDigest, Code, Error, JobId, Result, Tenant, format_bytes};
use tokio::sync::mpsc;

use crate::{
    executor::Item,
    node::{CallRequest, Shared},
    owner::job::{Job, JobCall},
};

/// Tasks of one root's job here that have not ended: more are refused.
const UNENDED_MAX: u64 = 100_000;
/// Bytes of their arguments together.
const ARGS_BYTES_MAX: u64 = 256 << 20;

/// Calls of one root's job here, which differ by artifact, export or options: each has a queue of its own.
const CALLS_MAX: usize = 1_024;
/// Jobs that are over and whose tasks may still be on their way out: what those start is refused.
const OVER_MAX: usize = 10_000;

/// The jobs of tasks that tasks started here.
#[derive(Default)]
pub(crate) struct Children {
    state: Mutex<State>,
}

struct State {
    by_root: HashMap<JobId, Child>,
    /// The jobs that were over last.
    over: LruCache<JobId, ()>,
}

impl Default for State {
    fn default() -> Self {
        Self { by_root: HashMap::new(), over: LruCache::new(NonZeroUsize::new(OVER_MAX).unwrap_or(NonZeroUsize::MIN)) }
    }
}

struct Child {
    job: Arc<Job>,
    /// The jobs whose tasks have started some of it here.
    sponsors: HashSet<JobId>,
    calls: HashMap<(ArtifactDigest, String), Vec<Known>>,
}

/// What was asked for, and the call that it became.
type Known = (CallRequest, Arc<JobCall>);

impl Children {
    /// Adds a task to a job, if it may have one more.
    ///
    /// # Errors
    ///
    /// [`Code::QUEUE_FULL`], or [`Code::CANCELLED`] if the job is over.
    pub(super) fn start(&self, job: &Job, call: &JobCall, args: Bytes, depth: u32) -> Result<Item> {
        let full = |what: String| Error::new(Code::QUEUE_FULL, what).hint("wait for some of them before more are started");
        if job.unended_count() >= UNENDED_MAX {
            return Err(full(format!("{UNENDED_MAX} tasks that tasks of this job started here have not ended")));
        }
        let bytes = job.args_bytes();
        if bytes + args.len() as u64 > ARGS_BYTES_MAX {
            let (bytes, most) = (format_bytes(bytes), format_bytes(ARGS_BYTES_MAX));
            return Err(full(format!("arguments of tasks that tasks of this job started here take {bytes} of {most}")));
        }
        job.start(call, args, depth)
    }

    /// Jobs that are over when another is: those with it as their root, and those that nobody else started anything in.
    fn over(&self, job: JobId) -> Vec<Arc<Job>> {
        let mut state = self.state.lock();
        state.over.put(job, ());
        let ends = |root: &JobId, child: &mut Child| {
            child.sponsors.remove(&job);
            *root == job || child.sponsors.is_empty()
        };
        state.by_root.extract_if(ends).map(|(_, child)| child.job).collect()
    }
}

impl Shared {
    /// The call of a task that a task starts, in the job for such tasks of its root here.
    pub(super) fn child_call(
        self: &Arc<Self>,
        tenant: &Tenant,
        root: JobId,
        sponsor: JobId,
        request: CallRequest,
    ) -> Result<(Arc<Job>, Arc<JobCall>)> {
        let mut state = self.children.state.lock();
        if state.over.contains(&root) || state.over.contains(&sponsor) {
            return Err(Error::new(Code::CANCELLED, "the job is over, and its tasks start nothing more"));
        }
        let child = match state.by_root.entry(root) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                new.insert(Child { job: self.open_child(tenant, root)?, sponsors: HashSet::new(), calls: HashMap::new() })
            }
        };
        child.sponsors.insert(sponsor);
        let key = (request.artifact, request.export.clone());
        let same = |(asked, _): &&Known| asked.options == request.options && asked.grants == request.grants;
        if let Some((_, call)) = child.calls.get(&key).and_then(|known| known.iter().find(same)) {
            return Ok((Arc::clone(&child.job), Arc::clone(call)));
        }
        let number = child.job.calls().len();
        if number >= CALLS_MAX {
            let message = format!("tasks of this job have started tasks of {CALLS_MAX} different exports and options here");
            return Err(Error::new(Code::LIMIT, message).hint("start tasks of the same export with the same options"));
        }
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        self.define(&child.job, number, request.clone())?;
        let call = u16::try_from(number).ok().and_then(|number| child.job.call(number));
        let call = call.ok_or_else(|| Error::internal("a call is gone that was just defined"))?;
        child.calls.entry(key).or_default().push((request, Arc::clone(&call)));
        Ok((Arc::clone(&child.job), call))
    }

    fn open_child(&self, tenant: &Tenant, root: JobId) -> Result<Arc<Job>> {
        let id = JobId { owner: self.id, session: self.sessions.lock().next()? };
        let log = self.logs.open(tenant, self.outputs.path(tenant, id), self.limits.log_bytes);
        let opened = Opened {
            session: id.session,
            tenant: tenant.clone(),
            name: format!("started by {root}"),
            detached: true,
            key: Vec::new(),
            at_ms: now_ms(),
        };
        let job = Job::child(id.owner, opened, root, log, self.job_parts(self.tally.open_job(tenant)));
        self.jobs.write().insert(id, Arc::clone(&job));
        tracing::debug!(%tenant, job = %id, %root, "a job for what tasks start was opened");
        Ok(job)
    }

    /// Stops what tasks of jobs have started here, when those are over, for as long as the node runs.
    pub(crate) async fn end_children(self: Arc<Self>, mut over: mpsc::UnboundedReceiver<JobId>) {
        while let Some(job) = over.recv().await {
            self.job_over(job);
        }
    }

    /// A job is over, here or elsewhere: so is what its tasks have started here.
    pub(crate) fn job_over(&self, job: JobId) {
        for child in self.children.over(job) {
            child.finish();
            if !child.has_ended() {
                self.stop(&child, None);
            }
        }
    }
}
