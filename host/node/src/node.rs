//! What all parts of a node share, and how work moves between them.
//!
//! ```text
//! gateway ─ submit ─▶ Job ─┐                         ┌─▶ Threads ─▶ engine
//!                          ├─ items ─▶ Dispatcher ───┤
//! peer ──── assign ────────┘              │          └─▶ results ─▶ Taker ─▶ Job or peer
//!                                         └─ surplus ─▶ Spread ─▶ leases ─▶ links to other nodes
//! ```
//!
//! No lock is held while another is taken, but for a job's own two.

use std::{
    collections::HashMap,
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use parking_lot::{Mutex, RwLock};
use rwasm_engine::{Engine, Prepared};
use rwasm_runtime::{OnEnd, Scope};
use rwasm_types::{
    Access, ArtifactDigest, Code, Error, Grants, Incarnation, JobId, NodeId, ResourceSet, Result, TaskId, TaskOptions, Tenant, VolumeSource,
};
use rwasm_values::{Export, Profile, Role};
use tokio::sync::Notify;

use crate::{
    artifacts::Artifacts,
    dispatch::{Admission, ClassId, Dispatcher, Places},
    drain::Draining,
    executor::{Ended, Events, Executor, FromExecutor, Item, LoadedCall, Taker, Threads, ToExecutor},
    head_link::HeadHandle,
    logs::LogThread,
    owner::{
        job::{Job, JobCall, JobTaker, Pressure},
        spread::Spread,
    },
};

/// What stands above an artifact's initial memory in the reservation of a task that does not name one.
const MEMORY_MARGIN_BYTES: u64 = 1 << 20;

/// Tasks shorter than this may run on the thread that brought them.
const RUN_HERE_BELOW: Duration = Duration::from_micros(500);

/// Everything of a node that has no parts of its own.
pub(crate) struct Shared {
    /// Before the engine, for fields are dropped in this order: its ticker is what makes guests look whether they were cancelled, and the
    /// threads are waited for.
    threads: OnceLock<Threads>,
    pub(crate) id: NodeId,
    pub(crate) cluster: String,
    pub(crate) incarnation: Incarnation,
    pub(crate) token: Token,
    /// Whether the driver runs in this process, so that directories of this machine are the driver's own.
    pub(crate) embedded: bool,
    pub(crate) state_dir: PathBuf,
    pub(crate) engine: Engine,
    pub(crate) artifacts: Artifacts,
    pub(crate) logs: LogThread,
    pub(crate) dispatcher: Mutex<Dispatcher<Item, LoadedCall>>,
    pub(crate) jobs: RwLock<HashMap<JobId, Arc<Job>>>,
    pub(crate) spread: Spread,
    pub(crate) head: HeadHandle,
    pub(crate) scope: Scope,
    /// Told when tasks wait that do not fit here.
    pub(crate) surplus: Notify,
    pub(crate) limits: NodeLimits,
    pub(crate) draining: Draining,
}

/// What drivers may ask of a node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NodeLimits {
    /// Bytes of a job's output that are kept.
    pub(crate) log_bytes: u64,
    /// Tasks of a job that may be submitted and not ended.
    pub(crate) window: u64,
    /// Of jobs that ended: how many are remembered, how many tasks of them, and how many bytes of their output.
    pub(crate) jobs_kept: usize,
    pub(crate) tasks_kept: u64,
    pub(crate) log_bytes_kept: u64,
    /// How long the output of a job that ended is kept.
    pub(crate) log_age: Duration,
}

/// A bearer token, kept as its hash.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token(blake3::Hash);

impl Token {
    pub(crate) fn new(token: &str) -> Self {
        Self(blake3::hash(token.as_bytes()))
    }

    /// Checks a caller's token; comparing hashes takes the same time whatever they hold.
    pub(crate) fn check(&self, given: Option<&str>) -> Result<()> {
        if given.is_some_and(|given| blake3::hash(given.as_bytes()) == self.0) {
            return Ok(());
        }
        Err(Error::new(Code::TOKEN_REFUSED, "the token was not accepted").hint("set RWASM_TOKEN to the cluster's token"))
    }
}

/// What a node is made of, given to [`Shared::new`].
pub(crate) struct Parts {
    pub(crate) id: NodeId,
    pub(crate) cluster: String,
    pub(crate) incarnation: Incarnation,
    pub(crate) token: Token,
    pub(crate) embedded: bool,
    pub(crate) state_dir: PathBuf,
    pub(crate) engine: Engine,
    pub(crate) artifacts: Artifacts,
    pub(crate) logs: LogThread,
    pub(crate) capacity: ResourceSet,
    pub(crate) head: HeadHandle,
    pub(crate) scope: Scope,
    pub(crate) limits: NodeLimits,
}

/// Passes an executor's messages to a node that may be gone.
struct Listener(Weak<Shared>);

impl Events for Listener {
    fn receive(&self, message: FromExecutor) {
        if let Some(shared) = self.0.upgrade() {
            shared.receive(message);
        }
    }
}

impl Shared {
    pub(crate) fn new(parts: Parts) -> Result<Arc<Self>> {
        let Parts { id, cluster, incarnation, token, embedded, state_dir, engine, artifacts, logs, capacity, head, scope, limits } = parts;
        // A thread for each core the node was given; nodes without any still run tasks that ask for none.
        let threads = usize::try_from(capacity.cpu.floor()).unwrap_or(1).clamp(1, 1024);
        let places = Places { fast: engine.instances_max(Profile::Fast), asynchronous: engine.instances_max(Profile::Async) };
        let shared = Arc::new(Self {
            id,
            cluster,
            incarnation,
            token,
            embedded,
            state_dir,
            engine,
            artifacts,
            logs,
            dispatcher: Mutex::new(Dispatcher::new(capacity, places)),
            jobs: RwLock::default(),
            spread: Spread::default(),
            head,
            scope,
            surplus: Notify::new(),
            limits,
            draining: Draining::default(),
            threads: OnceLock::new(),
        });
        let threads = Threads::start(threads, Arc::new(Listener(Arc::downgrade(&shared))))?;
        let _ = shared.threads.set(threads);
        Ok(shared)
    }

    pub(crate) fn executor(&self) -> Option<&Threads> {
        self.threads.get()
    }

    fn receive(&self, message: FromExecutor) {
        match message {
            FromExecutor::Ended { call, ended } => call.taker.ended(ended),
            FromExecutor::Finished { run, call, ended, tasks, took } => {
                call.taker.ended(ended);
                let mut admissions = Vec::new();
                {
                    let mut dispatcher = self.dispatcher.lock();
                    dispatcher.finish(run, tasks, took);
                    dispatcher.admit(&mut admissions);
                }
                self.start(admissions);
            }
        }
    }

    fn start(&self, admissions: Vec<Admission<Item, LoadedCall>>) {
        let Some(executor) = self.executor() else { return };
        for Admission { run, call, tasks } in admissions {
            call.taker.started(&tasks);
            executor.send(ToExecutor::Assign { run, call, items: tasks });
        }
    }

    /// Starts what fits now.
    pub(crate) fn pump(&self) {
        let mut admissions = Vec::new();
        let surplus = {
            let mut dispatcher = self.dispatcher.lock();
            dispatcher.admit(&mut admissions);
            dispatcher.queued() > 0
        };
        self.start(admissions);
        if surplus {
            self.surplus.notify_one();
        }
    }

    /// Queues tasks of a job and starts what fits.
    ///
    /// A single short task is run on the calling thread if there is room for it: its driver waits for it, and two thread switches would
    /// cost more than the task.
    pub(crate) fn enqueue(&self, job: &Arc<Job>, call: &JobCall, items: Vec<Item>) {
        let single = items.len() == 1;
        let mut admissions = Vec::new();
        let (mean, surplus) = {
            let mut dispatcher = self.dispatcher.lock();
            if let Err(items) = dispatcher.enqueue(call.class, items) {
                drop(dispatcher);
                self.refuse(job, call, items);
                return;
            }
            dispatcher.admit(&mut admissions);
            (dispatcher.mean(call.class), dispatcher.queued() > 0)
        };
        let here = single && admissions.len() == 1 && mean.is_some_and(|mean| mean < RUN_HERE_BELOW) && admissions[0].call.is_sync();
        match (here, self.executor()) {
            (true, Some(executor)) => {
                for Admission { run, call, tasks } in admissions {
                    call.taker.started(&tasks);
                    for item in tasks {
                        executor.run_here(run, Arc::clone(&call), item);
                    }
                }
            }
            _ => self.start(admissions),
        }
        if surplus {
            self.surplus.notify_one();
        }
    }

    /// Ends tasks whose call cannot run any more.
    fn refuse(&self, job: &Arc<Job>, call: &JobCall, items: Vec<Item>) {
        let error = match &*call.ready.read() {
            Some(Err(error)) => error.clone(),
            _ => cancelled(),
        };
        self.end(job, items, &error);
    }

    /// Ends tasks that do not run.
    pub(crate) fn end(&self, job: &Arc<Job>, items: Vec<Item>, error: &Error) {
        let ended = |item: Item| Ended::unrun(&item, error.clone());
        let pressure = job.end(items.into_iter().map(ended).collect());
        self.relieve(job, pressure);
    }

    /// Holds a job's tasks back, or lets them go on, as its driver keeps up.
    pub(crate) fn relieve(&self, job: &Job, pressure: Pressure) {
        if pressure == Pressure::Unchanged {
            return;
        }
        {
            let mut dispatcher = self.dispatcher.lock();
            for call in job.calls() {
                dispatcher.set_paused(call.class, pressure == Pressure::HoldBack);
            }
        }
        if pressure == Pressure::LetGo {
            self.pump();
        }
    }

    /// A job of this node and of a tenant.
    ///
    /// # Errors
    ///
    /// [`Code::NOT_FOUND`]; another tenant's job looks the same.
    pub(crate) fn job(&self, tenant: &Tenant, id: JobId) -> Result<Arc<Job>> {
        let job = self.jobs.read().get(&id).filter(|job| job.tenant == *tenant).map(Arc::clone);
        job.ok_or_else(|| Error::new(Code::NOT_FOUND, format!("there is no job {id}")).hint("`rwasm job list` shows what there is"))
    }

    /// Forgets the jobs that were opened first, of those that ended, until the rest is within the limits; gives their ids.
    pub(crate) fn forget_jobs(&self) -> Vec<JobId> {
        let mut ended: Vec<Arc<Job>> = self.jobs.read().values().filter(|job| job.has_ended()).map(Arc::clone).collect();
        ended.sort_by_key(|job| std::cmp::Reverse(job.id));
        let (mut jobs, mut tasks, mut bytes) = (0, 0, 0);
        ended.retain(|job| {
            jobs += 1;
            tasks += job.counts().total();
            bytes += job.log.written();
            // The newest stays, however large it was.
            jobs > 1 && (jobs > self.limits.jobs_kept || tasks > self.limits.tasks_kept || bytes > self.limits.log_bytes_kept)
        });
        for job in &ended {
            self.jobs.write().remove(&job.id);
            job.log.remove();
        }
        ended.iter().map(|job| job.id).collect()
    }

    /// Adds a call to a job, checked against what the artifact offers, and has the artifact made ready.
    ///
    /// # Errors
    ///
    /// Why the call cannot be made: unknown export, missing imports, grants that a cluster does not give, resources that this node
    /// would need to be another.
    pub(crate) fn define(self: &Arc<Self>, job: &Arc<Job>, number: u32, call: CallRequest) -> Result<()> {
        let CallRequest { artifact, export, options, grants } = call;
        let number = u16::try_from(number).map_err(|_| Error::new(Code::LIMIT, "a job may have 65,536 calls"))?;
        let info = self.use_artifact(&job.tenant, artifact).ok_or_else(|| {
            Error::new(Code::NO_SUCH_ARTIFACT, format!("no artifact {} is stored", artifact.short())).hint("submit the file")
        })?;
        info.check_imports()?;
        let (export_index, export) = find_export(&info, &export)?;
        let grants = self.resolve_grants(grants)?;
        let shape = shape(&options, info.memory_initial_bytes)?;
        let retries_max = options.retries_max.unwrap_or(if export.role == Role::Command { 0 } else { TaskOptions::RETRIES_DEFAULT });
        let class = {
            let mut dispatcher = self.dispatcher.lock();
            let class = dispatcher.add_class(shape.clone(), options.priority, false);
            if !options.placement.allows(self.id, self.head.labels()) {
                dispatcher.send_away(class);
            }
            class
        };
        let call = job.add_call(JobCall {
            number,
            artifact,
            export,
            export_index,
            options,
            grants: Arc::new(grants),
            retries_max,
            shape,
            class,
            ready: RwLock::new(None),
        })?;
        self.spread.add_class(class, job, &call);
        let (shared, job) = (Arc::clone(self), Arc::clone(job));
        self.scope.spawn("prepare", OnEnd::Continue, async move { shared.prepare(job, call).await });
        Ok(())
    }

    /// Makes a call's artifact ready and lets its tasks go, or fails them.
    async fn prepare(self: Arc<Self>, job: Arc<Job>, call: Arc<JobCall>) {
        match self.prepared(&job.tenant, call.artifact).await {
            Ok(prepared) => {
                job.compiled(&call);
                let pressed = Arc::downgrade(&self);
                let pressure = move |job: &Job, pressure| {
                    if let Some(shared) = pressed.upgrade() {
                        shared.relieve(job, pressure);
                    }
                };
                let taker = Arc::new(JobTaker { job: Arc::clone(&job), pressure: Arc::new(pressure) });
                self.load(&call.into_load(&job, prepared), taker);
                self.pump();
            }
            Err(error) => {
                *call.ready.write() = Some(Err(error.clone()));
                let waiting = self.dispatcher.lock().remove_class(call.class);
                self.end(&job, waiting, &error);
            }
        }
    }

    /// An artifact of this node's store, ready to run.
    pub(crate) async fn prepared(&self, tenant: &Tenant, artifact: ArtifactDigest) -> Result<Arc<Prepared>> {
        let bytes = self.artifacts.read(tenant, artifact)?;
        self.engine.prepare(tenant, artifact, &bytes).await
    }

    /// Gives a class what it needs to run.
    pub(crate) fn load(&self, load: &Load, taker: Arc<dyn Taker>) {
        let call = LoadedCall {
            prepared: Arc::clone(&load.prepared),
            export: load.export,
            limits: load.options.limits,
            grants: Arc::clone(&load.grants),
            tenant: load.tenant.clone(),
            job: load.job,
            node: self.id,
            taker,
            shares_core: !load.options.resources.cpu.parts().is_multiple_of(rwasm_types::Quantity::SCALE)
                || load.options.resources.cpu.is_zero(),
        };
        let profile = load.prepared.info().profile;
        self.dispatcher.lock().set_call(load.class, Arc::new(call), profile);
    }

    /// What of a submit's grants this node gives.
    pub(crate) fn resolve_grants(&self, grants: Grants) -> Result<Grants> {
        for volume in &grants.volumes {
            match &volume.source {
                VolumeSource::Host(path) if self.embedded => {
                    if !path.is_dir() {
                        let message = format!("the granted directory {} does not exist", path.display());
                        return Err(Error::new(Code::BAD_DIRECTORY, message).hint("make it, or check --dir").with("path", path.display()));
                    }
                    let read_only = volume.access == Access::ReadOnly;
                    tracing::debug!(path = %path.display(), read_only, "a directory was granted");
                }
                VolumeSource::Host(path) => {
                    let message = format!("the directory {} cannot be granted on a cluster: it is not on the nodes", path.display());
                    return Err(Error::new(Code::NOT_ON_CLUSTER, message).hint("use `rwasm run`, or a volume that nodes offer"));
                }
                VolumeSource::Named(name) => {
                    return Err(Error::new(Code::BAD_DIRECTORY, format!("node {} offers no volume `{name}`", self.id)));
                }
            }
        }
        Ok(grants)
    }

    /// Cancels tasks of a job, all of them without `sequences`: waiting ones are removed, running ones ended, on whatever node.
    pub(crate) fn cancel(&self, job: &Arc<Job>, sequences: Option<&[u64]>) {
        let wanted = |task: TaskId| sequences.is_none_or(|sequences| sequences.contains(&task.sequence));
        for call in job.calls() {
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
        waiting
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

/// The error of a task that was cancelled before it began.
pub(crate) fn cancelled() -> Error {
    Error::new(Code::CANCELLED, "the task was cancelled before it began")
}

/// A call as a driver or another node asks for it.
pub(crate) struct CallRequest {
    pub(crate) artifact: ArtifactDigest,
    pub(crate) export: String,
    pub(crate) options: TaskOptions,
    pub(crate) grants: Grants,
}

/// What a class is loaded with.
pub(crate) struct Load {
    pub(crate) class: ClassId,
    pub(crate) prepared: Arc<Prepared>,
    pub(crate) export: usize,
    pub(crate) options: TaskOptions,
    pub(crate) grants: Arc<Grants>,
    pub(crate) tenant: Tenant,
    pub(crate) job: JobId,
}

impl JobCall {
    fn into_load(self: &Arc<Self>, job: &Job, prepared: Arc<Prepared>) -> Load {
        Load {
            class: self.class,
            prepared,
            export: self.export_index,
            options: self.options.clone(),
            grants: Arc::clone(&self.grants),
            tenant: job.tenant.clone(),
            job: job.id,
        }
    }
}

/// The export that a call names, which must be one that can be called as a task; no name means the artifact's command.
pub(crate) fn find_export(info: &rwasm_values::ArtifactInfo, name: &str) -> Result<(usize, Export)> {
    let export = if name.is_empty() {
        info.command().ok_or_else(|| {
            Error::new(Code::NO_SUCH_EXPORT, "the artifact is no command: it has no `wasi:cli/run`")
                .hint("name an export with --call; `rwasm inspect` lists them")
        })?
    } else {
        info.resolve(name)?
    };
    match &export.role {
        Role::Task | Role::Command => {}
        Role::NotCallable { why } => return Err(Error::new(Code::NOT_CALLABLE, format!("`{}` cannot be called: {why}", export.name))),
        Role::ActorCreate { .. } | Role::ActorMethod { .. } => {
            return Err(Error::new(Code::NOT_CALLABLE, format!("`{}` belongs to an actor and cannot be called as a task", export.name)));
        }
    }
    let index = info.exports.iter().position(|known| std::ptr::eq(known, export)).unwrap_or_default();
    Ok((index, export.clone()))
}

/// What one task of a call holds while it runs.
pub(crate) fn shape(options: &TaskOptions, memory_initial_bytes: u64) -> Result<ResourceSet> {
    let limit = options.limits.memory_bytes;
    if memory_initial_bytes > limit {
        let message = format!(
            "the artifact starts with {} of memory, but tasks are limited to {}",
            rwasm_types::format_bytes(memory_initial_bytes),
            rwasm_types::format_bytes(limit)
        );
        return Err(Error::new(Code::MEMORY_LIMIT, message).hint("raise it with --memory"));
    }
    let mut shape = options.resources.clone();
    if shape.memory == 0 {
        shape.memory = (memory_initial_bytes + MEMORY_MARGIN_BYTES).min(limit);
    }
    Ok(shape)
}

/// Addresses of this machine that guests are not led to by names.
pub(crate) fn own_addresses(listeners: impl IntoIterator<Item = IpAddr>) -> Vec<IpAddr> {
    listeners.into_iter().filter(|address| !address.is_unspecified()).collect()
}
