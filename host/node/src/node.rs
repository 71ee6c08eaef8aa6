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
    path::PathBuf,
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use parking_lot::{Mutex, RwLock};
use rwasm_engine::{Engine, Prepared};
use rwasm_history::work::CallOf;
use rwasm_runtime::{OnEnd, Scope, aside};
use rwasm_types::{ActorId, ArtifactDigest, Code, Error, Grants, Incarnation, JobId, NodeId, ResourceSet, Result, TaskOptions, Tenant};
use rwasm_values::{Export, Profile, Role};
use tokio::sync::{
    Notify,
    mpsc::{UnboundedSender, unbounded_channel},
};

use crate::{
    access::Access,
    actors::{Actors, find_method},
    artifacts::Artifacts,
    cancel::watch_stuck,
    dispatch::{Admission, ClassId, Dispatcher, Places},
    drain::Draining,
    executor::{Ended, Events, Executor, FromExecutor, Item, LoadedCall, Taker, Threads, ToExecutor},
    guest::{Origin, children::Children},
    head_link::HeadHandle,
    logs::{LogThread, outputs},
    members::Members,
    objects::Objects,
    offer::NodeOffer,
    owner::{
        job::{Job, JobCall},
        ledger::Ledger,
        outbox::Pressure,
        spread::Spread,
    },
    reach::Reach,
    runner::Owners,
    sessions::Sessions,
    tally::Tally,
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
    /// Who may do what at the gateway.
    pub(crate) access: Access,
    /// Whether the driver runs in this process, so that directories of this machine are the driver's own.
    pub(crate) embedded: bool,
    /// What guests may have here.
    pub(crate) offer: NodeOffer,
    pub(crate) state_dir: PathBuf,
    pub(crate) engine: Engine,
    pub(crate) artifacts: Artifacts,
    pub(crate) objects: Arc<Objects>,
    pub(crate) actors: Arc<Actors>,
    /// Numbers for jobs, and for what is put.
    pub(crate) sessions: Arc<Mutex<Sessions>>,
    pub(crate) logs: LogThread,
    /// Where jobs' output is.
    pub(crate) outputs: outputs::Kept,
    /// What survives of jobs.
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) dispatcher: Mutex<Dispatcher<Item, LoadedCall>>,
    pub(crate) jobs: RwLock<HashMap<JobId, Arc<Job>>>,
    pub(crate) spread: Spread,
    /// Whom it runs tasks for.
    pub(crate) owners: Owners,
    pub(crate) head: HeadHandle,
    pub(crate) reach: Reach,
    /// Which other nodes there are.
    pub(crate) members: Members,
    pub(crate) scope: Scope,
    /// Told when tasks wait that do not fit here.
    pub(crate) surplus: Notify,
    pub(crate) limits: NodeLimits,
    pub(crate) draining: Draining,
    pub(crate) tally: Tally,
    /// Jobs of what tasks start.
    pub(crate) children: Children,
    /// Told when a job of this node is over.
    pub(crate) jobs_over: UnboundedSender<JobId>,
    /// This one, for what may outlive it.
    me: Weak<Self>,
}

/// What drivers may ask of a node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NodeLimits {
    /// Bytes of a job's output that are kept.
    pub(crate) log_bytes: u64,
    /// Tasks of a job that may be submitted and not ended.
    pub(crate) window: u64,
    /// Of jobs that ended: how many are in memory, and how many tasks of them. All are on disk.
    pub(crate) jobs_kept: usize,
    pub(crate) tasks_kept: u64,
    /// How long the output of a job that ended is kept.
    pub(crate) log_age: Duration,
}

/// What a node is made of, given to [`Shared::new`].
pub(crate) struct Parts {
    pub(crate) id: NodeId,
    pub(crate) cluster: String,
    pub(crate) incarnation: Incarnation,
    pub(crate) embedded: bool,
    pub(crate) offer: NodeOffer,
    pub(crate) state_dir: PathBuf,
    pub(crate) engine: Engine,
    pub(crate) artifacts: Artifacts,
    pub(crate) objects: Arc<Objects>,
    pub(crate) sessions: Arc<Mutex<Sessions>>,
    pub(crate) logs: LogThread,
    pub(crate) outputs: outputs::Kept,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) capacity: ResourceSet,
    pub(crate) head: HeadHandle,
    pub(crate) reach: Reach,
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
        let Parts {
            id,
            cluster,
            incarnation,
            embedded,
            offer,
            state_dir,
            engine,
            artifacts,
            objects,
            sessions,
            logs,
            outputs,
            ledger,
            capacity,
            head,
            reach,
            scope,
            limits,
        } = parts;
        // A thread for each core the node was given; nodes without any still run tasks that ask for none.
        let threads = usize::try_from(capacity.cpu.floor()).unwrap_or(1).clamp(1, 1024);
        let places = Places { fast: engine.instances_max(Profile::Fast), asynchronous: engine.instances_max(Profile::Async) };
        let (jobs_over, over) = unbounded_channel();
        let shared = Arc::new_cyclic(|me| Self {
            id,
            cluster,
            incarnation,
            access: Access::new(),
            embedded,
            offer,
            state_dir,
            engine,
            artifacts,
            objects,
            actors: Arc::default(),
            sessions,
            logs,
            outputs,
            ledger,
            dispatcher: Mutex::new(Dispatcher::new(capacity, places)),
            jobs: RwLock::default(),
            spread: Spread::default(),
            owners: Owners::default(),
            head,
            reach,
            members: Members::default(),
            scope,
            surplus: Notify::new(),
            limits,
            draining: Draining::default(),
            tally: Tally::default(),
            children: Children::default(),
            jobs_over,
            me: Weak::clone(me),
            threads: OnceLock::new(),
        });
        let threads = Threads::start(threads, Arc::new(Listener(Arc::downgrade(&shared))))?;
        let _ = shared.threads.set(threads);
        shared.scope.spawn("children", OnEnd::ShutDown, Arc::clone(&shared).end_children(over));
        shared.scope.spawn("stuck", OnEnd::ShutDown, watch_stuck(Arc::downgrade(&shared)));
        Ok(shared)
    }

    pub(crate) fn executor(&self) -> Option<&Threads> {
        self.threads.get()
    }

    fn receive(&self, message: FromExecutor) {
        match message {
            FromExecutor::Ended { call, ended } => call.taker.ended(ended),
            FromExecutor::Crashed { run, call, item, error } => {
                let again = call.taker.lost(vec![item], &error);
                let mut dispatcher = self.dispatcher.lock();
                if let Some(class) = dispatcher.class_of(run) {
                    // A class that is gone has ended its tasks.
                    let _ = dispatcher.put_back(class, again);
                }
            }
            FromExecutor::Blocked { run, call, unbegun } => {
                if !unbegun.is_empty() {
                    call.taker.returned(&unbegun);
                }
                let orphans = self.dispatcher.lock().block(run, unbegun);
                if !orphans.is_empty() {
                    call.taker.ended(orphans.iter().map(|item| Ended::unrun(item, cancelled())).collect());
                }
                self.pump();
            }
            FromExecutor::Resumed { run } => self.dispatcher.lock().resume(run),
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
    /// A single short task is run on the calling thread, if that may be and there is room for it: its driver waits for it, and two thread
    /// switches would cost more than the task.
    pub(crate) fn enqueue(self: &Arc<Self>, job: &Arc<Job>, call: &Arc<JobCall>, items: Vec<Item>, may_run_here: bool) {
        if call.actor.is_some() {
            return self.call_actor(job, call, items);
        }
        let single = items.len() == 1 && may_run_here;
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
        let here = single
            && !call.makes_actor()
            && admissions.len() == 1
            && mean.is_some_and(|mean| mean < RUN_HERE_BELOW)
            && admissions[0].call.is_sync();
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
    pub(crate) fn refuse(&self, job: &Arc<Job>, call: &JobCall, items: Vec<Item>) {
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

    /// Has the jobs that were opened first, of those that ended, on disk only, until the rest is within the limits.
    pub(crate) fn forget_jobs(&self) {
        let over = |job: &&Arc<Job>| job.is_archived() && job.is_released();
        let mut ended: Vec<Arc<Job>> = self.jobs.read().values().filter(over).map(Arc::clone).collect();
        ended.sort_by_key(|job| std::cmp::Reverse(job.id));
        let (mut jobs, mut tasks) = (0, 0);
        ended.retain(|job| {
            jobs += 1;
            tasks += job.counts().total();
            // The newest stays, however large it was.
            jobs > 1 && (jobs > self.limits.jobs_kept || tasks > self.limits.tasks_kept)
        });
        for job in &ended {
            self.jobs.write().remove(&job.id);
        }
    }

    /// Adds a call to a job, checked against what the artifact offers, and has the artifact made ready.
    ///
    /// # Errors
    ///
    /// Why the call cannot be made: unknown export, missing imports, grants that a cluster does not give, resources that this node
    /// would need to be another.
    pub(crate) fn define(self: &Arc<Self>, job: &Arc<Job>, number: u32, call: CallRequest) -> Result<()> {
        let CallRequest { artifact, export, options, grants, actor } = call.clone();
        let said = CallOf { artifact, export, options, grants, actor };
        self.add_call(job, number, call, Some(&said))
    }

    /// Adds a call that was written down before.
    ///
    /// # Errors
    ///
    /// As [`Shared::define`].
    pub(crate) fn define_again(self: &Arc<Self>, job: &Arc<Job>, number: u32, call: CallRequest) -> Result<()> {
        self.add_call(job, number, call, None)
    }

    fn add_call(self: &Arc<Self>, job: &Arc<Job>, number: u32, call: CallRequest, write: Option<&CallOf>) -> Result<()> {
        let CallRequest { artifact, export, options, grants, actor } = call;
        let number = u16::try_from(number).map_err(|_| Error::new(Code::LIMIT, "a job may have 65,536 calls"))?;
        let info = self.use_artifact(&job.tenant, artifact).ok_or_else(|| {
            Error::new(Code::NO_SUCH_ARTIFACT, format!("no artifact {} is stored", artifact.short())).hint("submit the file")
        })?;
        info.check_imports()?;
        let (export_index, export) = callable(&info, &export, actor)?;
        // Where this node does not offer all of it, another does, and the call's tasks wait for its slots.
        let granted = match self.lacks(&grants.needs()) {
            None => Some(Arc::new(self.resolve_grants(grants.clone())?)),
            Some(_) => None,
        };
        // What an actor's calls take, the actor holds.
        let shape = if actor.is_some() { ResourceSet::default() } else { shape(&options, info.memory_initial_bytes)? };
        let retries_max = options.retries_max.unwrap_or(if export.role == Role::Task { TaskOptions::RETRIES_DEFAULT } else { 0 });
        let class = {
            let mut dispatcher = self.dispatcher.lock();
            // Calls of actors wait in the actor's queue.
            let class = match actor {
                Some(_) => dispatcher.name_class(),
                None => dispatcher.add_class(shape.clone(), options.priority, false),
            };
            if !self.may_run_here(&options.placement) {
                dispatcher.send_away(class);
            }
            if matches!(export.role, Role::ActorCreate { .. }) {
                dispatcher.set_stays(class);
            }
            class
        };
        let call = JobCall {
            number,
            artifact,
            export,
            export_index,
            options,
            grants,
            granted,
            retries_max,
            shape,
            class,
            ready: RwLock::new(actor.map(|_| Ok(()))),
            actor,
        };
        if let (Some(actor), Some(_)) = (actor, write) {
            self.check_actor(&job.tenant, actor, &call).inspect_err(|_| drop(self.dispatcher.lock().remove_class(class)))?;
        }
        let call = job.add_call(call, write).inspect_err(|_| drop(self.dispatcher.lock().remove_class(class)))?;
        self.spread.add_class(class, job, &call);
        if actor.is_some() {
            return Ok(());
        }
        let (shared, job) = (Arc::clone(self), Arc::clone(job));
        self.scope.spawn("prepare", OnEnd::Continue, async move { shared.prepare(job, call).await });
        Ok(())
    }

    /// Makes a call's artifact ready and lets its tasks go, or fails them.
    async fn prepare(self: Arc<Self>, job: Arc<Job>, call: Arc<JobCall>) {
        match self.prepared(&job.tenant, call.artifact).await {
            Ok(prepared) => {
                job.compiled(&call);
                let taker = Arc::new(self.taker_of(&job));
                if let Some(granted) = &call.granted {
                    self.load(&call.load(&job, prepared, Arc::clone(granted)), taker);
                    self.pump();
                } else {
                    self.surplus.notify_one();
                }
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
        aside(async {
            let bytes = self.artifacts.read(tenant, artifact)?;
            self.engine.prepare(tenant, artifact, &bytes).await
        })
        .await
    }

    /// Gives a class what it needs to run.
    pub(crate) fn load(&self, load: &Load, taker: Arc<dyn Taker>) {
        let call = LoadedCall {
            prepared: Arc::clone(&load.prepared),
            export: load.export,
            limits: load.origin.options.limits,
            memory_reserved: self.dispatcher.lock().memory_of(load.class),
            grants: Arc::clone(&load.grants),
            tenant: load.tenant.clone(),
            job: load.job,
            node: self.id,
            taker,
            objects: Arc::clone(&self.objects),
            actors: Arc::clone(&self.actors),
            origin: Arc::clone(&load.origin),
            host: Weak::clone(&self.me),
            shares_core: !load.origin.options.resources.cpu.parts().is_multiple_of(rwasm_types::Quantity::SCALE)
                || load.origin.options.resources.cpu.is_zero(),
        };
        let profile = load.prepared.info().profile;
        self.dispatcher.lock().set_call(load.class, Arc::new(call), profile);
    }
}

/// The error of a task that was cancelled before it began.
pub(crate) fn cancelled() -> Error {
    Error::new(Code::CANCELLED, "the task was cancelled before it began")
}

/// A call as a driver or another node asks for it.
#[derive(Clone)]
pub(crate) struct CallRequest {
    pub(crate) artifact: ArtifactDigest,
    pub(crate) export: String,
    pub(crate) options: TaskOptions,
    pub(crate) grants: Grants,
    /// Of a method: the actor that it is called on.
    pub(crate) actor: Option<ActorId>,
}

/// What a class is loaded with.
pub(crate) struct Load {
    pub(crate) class: ClassId,
    pub(crate) prepared: Arc<Prepared>,
    pub(crate) export: usize,
    pub(crate) grants: Arc<Grants>,
    pub(crate) tenant: Tenant,
    pub(crate) job: JobId,
    pub(crate) origin: Arc<Origin>,
}

impl JobCall {
    fn load(&self, job: &Job, prepared: Arc<Prepared>, grants: Arc<Grants>) -> Load {
        Load {
            class: self.class,
            prepared,
            export: self.export_index,
            grants,
            tenant: job.tenant.clone(),
            job: job.id,
            origin: Arc::new(Origin {
                root: job.root(),
                artifact: self.artifact,
                grants: self.grants.clone(),
                options: self.options.clone(),
            }),
        }
    }
}

/// The export that a call names, as callers see it: a method of an actor, or what can be called as a task or makes an actor.
pub(crate) fn callable(info: &rwasm_values::ArtifactInfo, name: &str, actor: Option<ActorId>) -> Result<(usize, Export)> {
    if actor.is_some() {
        return find_method(info, name);
    }
    let (index, export) = find_export(info, name)?;
    match &export.role {
        Role::ActorMethod { .. } => {
            let error = Error::new(Code::NOT_CALLABLE, format!("`{}` is a method, and is called on an actor", export.name));
            Err(error.hint("make the actor with `rwasm actor create`, and call it with `rwasm actor call`"))
        }
        _ => Ok((index, export)),
    }
}

/// The export that a call names, with its type as callers see it; no name means the artifact's command.
pub(crate) fn find_export(info: &rwasm_values::ArtifactInfo, name: &str) -> Result<(usize, Export)> {
    let export = if name.is_empty() {
        info.command().ok_or_else(|| {
            Error::new(Code::NO_SUCH_EXPORT, "the artifact is no command: it has no `wasi:cli/run`")
                .hint("name an export with --call; `rwasm inspect` lists them")
        })?
    } else {
        info.resolve(name)?
    };
    if let Role::NotCallable { why } = &export.role {
        return Err(Error::new(Code::NOT_CALLABLE, format!("`{}` cannot be called: {why}", export.name)));
    }
    let index = info.exports.iter().position(|known| std::ptr::eq(known, export)).unwrap_or_default();
    Ok((index, Export { name: export.name.clone(), signature: export.outward().into_owned(), role: export.role.clone() }))
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
