//! Artifacts that are ready to run, and running them: one fresh instance for each attempt.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use rwasm_types::{ArtifactDigest, Code, Error, Grants, Result, TaskLimits};
use rwasm_values::{ArtifactInfo, Export, Profile, Role, codec::VERSION};
use wasmtime::{
    Store,
    component::{Component, ComponentExportIndex, Func, InstancePre},
};

use crate::{
    Control, Identity, Output,
    edge::{CallError, Edge, result_error},
    limit::{Budget, Reached},
    link::World,
    memory::GuestMemory,
    net::Reserved,
    objects::{self, Object, Objects},
    store::{Host, StoreOptions, store},
    tasks::{self, Tasks},
    trap::{self, Ended},
};

/// An artifact whose imports are linked and whose exports are found; shared by everyone who runs it.
pub struct Prepared {
    pub(crate) digest: ArtifactDigest,
    pub(crate) info: Arc<ArtifactInfo>,
    engine: wasmtime::Engine,
    pub(crate) pre: InstancePre<Host>,
    world: World,
    uses_objects: bool,
    callables: Vec<Option<Callable>>,
    reserved: Arc<Reserved>,
    pub(crate) memory: Arc<GuestMemory>,
    /// Whether the stack of a bare thread is large enough for it.
    fits_thread: bool,
}

/// An export that can be called.
pub(crate) struct Callable {
    pub(crate) index: ComponentExportIndex,
    pub(crate) kind: CallableKind,
}

pub(crate) enum CallableKind {
    Function(Edge),
    /// `wasi:cli/run`: no arguments, and an outcome instead of a value.
    Command,
    /// Makes an actor, and is called by [`Prepared::create`].
    Create(Edge),
    /// A method of one, called by [`crate::Actor::call`].
    Method(Edge),
}

/// One attempt of one task.
pub struct Request {
    /// Which of [`ArtifactInfo::exports`] is called.
    pub export: usize,
    /// The arguments in the codec's message form; empty for a command.
    pub args: Bytes,
    /// Where the attempt ends.
    pub limits: TaskLimits,
    /// Memory that is its own whatever other guests take, in bytes: what it was admitted with.
    pub memory_reserved: u64,
    /// What it is given. Volumes have been resolved to directories of this machine.
    pub grants: Arc<Grants>,
    /// What it reaches of the cluster's objects.
    pub objects: Arc<dyn Objects>,
    /// What it can start.
    pub tasks: Arc<dyn Tasks>,
    /// Who it is.
    pub identity: Identity,
    /// Who takes its output.
    pub output: Arc<dyn Output>,
    /// How it is cancelled.
    pub control: Arc<Control>,
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request").field("identity", &self.identity).field("export", &self.export).finish_non_exhaustive()
    }
}

/// How an attempt ended, and what it used.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The result in the codec's message form.
    pub result: Result<Bytes>,
    /// The objects that the result refers to, which the attempt holds as long as this is here.
    pub held: Vec<Arc<dyn Object>>,
    /// Processor time.
    pub cpu: Duration,
    /// Wall-clock time.
    pub wall: Duration,
    /// Linear memory at its largest, in bytes.
    pub memory_bytes: u64,
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prepared").field("digest", &self.digest).field("world", &self.world).finish_non_exhaustive()
    }
}

impl Prepared {
    pub(crate) fn new(
        digest: ArtifactDigest,
        info: Arc<ArtifactInfo>,
        component: &Component,
        pre: InstancePre<Host>,
        reserved: Arc<Reserved>,
        memory: Arc<GuestMemory>,
        fits_thread: bool,
    ) -> Result<Self> {
        let callables = info.exports.iter().map(|export| callable(component, export)).collect::<Result<_>>()?;
        let world = World::of(&info);
        let uses = |interface: &str| info.imports.iter().any(|import| import.name.starts_with(interface));
        let uses_objects = uses(objects::INTERFACE) || uses(tasks::INTERFACE);
        Ok(Self { digest, info, engine: component.engine().clone(), pre, world, uses_objects, callables, reserved, memory, fits_thread })
    }

    /// What the artifact offers.
    pub fn info(&self) -> &Arc<ArtifactInfo> {
        &self.info
    }

    /// The artifact's digest.
    pub fn digest(&self) -> ArtifactDigest {
        self.digest
    }

    /// Whether a guest runs from start to end without waiting for anything, and within the stack of a thread, so that [`Prepared::run`] can
    /// be used.
    pub fn is_sync(&self) -> bool {
        self.world == World::Core && self.info.profile == Profile::Fast && self.fits_thread
    }

    /// Whether a guest can ask for objects, or start tasks.
    pub fn uses_objects(&self) -> bool {
        self.uses_objects
    }

    /// Whether bulk crosses the engine's edge whole for an export.
    pub fn is_fast(&self, export: usize) -> bool {
        matches!(self.callables.get(export), Some(Some(Callable { kind: CallableKind::Function(edge), .. })) if edge.is_fast())
    }

    /// The same artifact with every call through dynamic values, so that a benchmark can show both ways.
    #[must_use]
    pub fn without_fast_calls(&self) -> Self {
        let slow = |callable: &Option<Callable>| {
            callable.as_ref().map(|Callable { index, kind }| Callable {
                index: *index,
                kind: match kind {
                    CallableKind::Function(edge) => CallableKind::Function(edge.slow()),
                    CallableKind::Command => CallableKind::Command,
                    CallableKind::Create(edge) => CallableKind::Create(edge.clone()),
                    CallableKind::Method(edge) => CallableKind::Method(edge.clone()),
                },
            })
        };
        Self {
            digest: self.digest,
            info: Arc::clone(&self.info),
            engine: self.engine.clone(),
            pre: self.pre.clone(),
            world: self.world,
            uses_objects: self.uses_objects,
            callables: self.callables.iter().map(slow).collect(),
            reserved: Arc::clone(&self.reserved),
            memory: Arc::clone(&self.memory),
            fits_thread: self.fits_thread,
        }
    }

    /// Runs an attempt on this thread, from start to end. Only for artifacts that are [`Prepared::is_sync`].
    pub fn run(&self, request: Request) -> Outcome {
        let started = Instant::now();
        let Request { export, args, limits, memory_reserved, grants, objects, tasks, identity, output, control } = request;
        let budget = Arc::new(Budget::new(limits, self.memory.share(memory_reserved), control));
        budget.cpu.enter();
        let mut memory_bytes = 0;
        let result = self.callable(export).and_then(|callable| {
            let mut store = self.store(identity, &budget, &output, &grants, (objects, tasks), false)?;
            let called = self.call(&mut store, callable, &args);
            memory_bytes = store.data().limiter.memory_bytes();
            called
        });
        let result = budget.untripped().and(result);
        budget.cpu.leave();
        // Whoever holds objects imports them, and so runs on a fiber.
        Outcome { result, held: Vec::new(), cpu: budget.cpu.used(), wall: started.elapsed(), memory_bytes }
    }

    /// Runs an attempt on a fiber: it gives way at each tick while it computes, and sleeps while it waits.
    pub fn run_async(self: Arc<Self>, request: Request) -> impl Future<Output = Outcome> + Send + 'static {
        let started = Instant::now();
        let memory = self.memory.share(request.memory_reserved);
        let budget = Arc::new(Budget::new(request.limits, memory, Arc::clone(&request.control)));
        let attempt = Metered { budget: Arc::clone(&budget), inner: Box::pin(self.attempt(request, Arc::clone(&budget))) };
        async move {
            let (result, held, memory_bytes) = attempt.await;
            Outcome { result, held, cpu: budget.cpu.used(), wall: started.elapsed(), memory_bytes }
        }
    }

    async fn attempt(self: Arc<Self>, request: Request, budget: Arc<Budget>) -> (Result<Bytes>, Vec<Arc<dyn Object>>, u64) {
        let Request { export, args, limits, grants, objects, tasks, identity, output, .. } = request;
        let callable = match self.callable(export) {
            Ok(callable) => callable,
            Err(error) => return (Err(error), Vec::new(), 0),
        };
        let mut store = match self.store(identity, &budget, &output, &grants, (objects, tasks), true) {
            Ok(store) => store,
            Err(error) => return (Err(error), Vec::new(), 0),
        };
        let called = {
            let call = pin!(self.call_async(&mut store, callable, &args));
            if self.is_sync() {
                // It never waits, so ticks alone end it, and no timer is needed.
                call.await
            } else {
                tokio::select! {
                    biased;
                    called = call => called,
                    reached = budget.ended() => Err(reached.into()),
                    () = tokio::time::sleep(limits.wall) => Err(Reached::Wall { limit: limits.wall }.into()),
                }
            }
        };
        let (held, memory_bytes) = (store.data().held(), store.data().limiter.memory_bytes());
        // Here, and not when the future is dropped, so that what it costs to tear the guest down counts.
        drop(store);
        (budget.untripped().and(called), held, memory_bytes)
    }

    pub(crate) fn callable(&self, export: usize) -> Result<&Callable> {
        self.callables.get(export).and_then(Option::as_ref).ok_or_else(|| Error::internal(format!("export {export} is not callable")))
    }

    pub(crate) fn store(
        &self,
        identity: Identity,
        budget: &Arc<Budget>,
        output: &Arc<dyn Output>,
        grants: &Grants,
        objects: (Arc<dyn Objects>, Arc<dyn Tasks>),
        yields: bool,
    ) -> Result<Store<Host>> {
        let wasi = (self.world == World::Wasi).then_some(grants);
        let objects = self.uses_objects.then_some(objects);
        store(&self.engine, StoreOptions { identity, budget: Arc::clone(budget), output, wasi, objects, reserved: &self.reserved, yields })
    }

    fn call(&self, store: &mut Store<Host>, callable: &Callable, args: &[u8]) -> Result<Bytes> {
        let instance = self.pre.instantiate(&mut *store).map_err(|error| self.not_instantiated(store, &error))?;
        let func = instance.get_func(&mut *store, callable.index).ok_or_else(vanished)?;
        match &callable.kind {
            CallableKind::Function(edge) => edge.call(&func, store, args).map_err(|error| self.not_returned(store, error)),
            CallableKind::Command | CallableKind::Create(_) | CallableKind::Method(_) => {
                Err(Error::internal("what is no plain function needs a fiber"))
            }
        }
    }

    async fn call_async(&self, store: &mut Store<Host>, callable: &Callable, args: &[u8]) -> Result<Bytes> {
        let instance = self.pre.instantiate_async(&mut *store).await.map_err(|error| self.not_instantiated(store, &error))?;
        let func = instance.get_func(&mut *store, callable.index).ok_or_else(vanished)?;
        match &callable.kind {
            CallableKind::Function(edge) => edge.call_async(&func, store, args).await.map_err(|error| self.not_returned(store, error)),
            CallableKind::Command => command(&func, store).await,
            CallableKind::Create(_) | CallableKind::Method(_) => Err(Error::internal("an actor's function was called as a task")),
        }
    }

    /// Names why there is no instance: a start function can do all that a call can.
    pub(crate) fn not_instantiated(&self, store: &Store<Host>, error: &wasmtime::Error) -> Error {
        if let Some(error) = trap::instantiation(error) {
            return error;
        }
        match trap::ended(error, store.data()) {
            Ended::Exit(status) => exited(status),
            Ended::Error(ended) if ended.code() == Code::TRAP && error.downcast_ref::<wasmtime::Trap>().is_none() => {
                Error::new(Code::INSTANTIATION, format!("the artifact cannot be instantiated: {}", error.root_cause()))
            }
            Ended::Error(ended) => ended.context("while it started"),
        }
    }

    pub(crate) fn not_returned(&self, store: &Store<Host>, error: CallError) -> Error {
        match error {
            CallError::Ours(error) => result_error(error),
            CallError::Guest(error) => match trap::ended(&error, store.data()) {
                Ended::Exit(status) => exited(status),
                Ended::Error(error) => error,
            },
        }
    }
}

/// Calls `wasi:cli/run`.
async fn command(func: &Func, store: &mut Store<Host>) -> Result<Bytes> {
    let called = async { func.typed::<(), (Result<(), ()>,)>(&mut *store)?.call_async(&mut *store, ()).await }.await;
    match called {
        Ok((Ok(()),)) => Ok(Bytes::from_static(&[VERSION, 0])),
        Ok((Err(()),)) => Err(exited(1)),
        Err(error) => match trap::ended(&error, store.data()) {
            Ended::Exit(0) => Ok(Bytes::from_static(&[VERSION, 0])),
            Ended::Exit(status) => Err(exited(status)),
            Ended::Error(error) => Err(error),
        },
    }
}

/// A guest's own exit. A command's exit 0 is success and never comes here; a function has no business exiting.
fn exited(status: i32) -> Error {
    let error = Error::new(Code::GUEST_EXIT, format!("the guest exited with status {status}")).with("exit", status);
    if status == 0 { error.hint("a function must return; only commands exit") } else { error }
}

pub(crate) fn vanished() -> Error {
    Error::internal("an export is gone after instantiation")
}

fn callable(component: &Component, export: &Export) -> Result<Option<Callable>> {
    let kind = match export.role {
        Role::Command => CallableKind::Command,
        Role::Task => CallableKind::Function(Edge::new(export.signature.clone())),
        Role::ActorCreate { .. } => CallableKind::Create(Edge::dynamic(export.outward().into_owned())),
        Role::ActorMethod { .. } => CallableKind::Method(Edge::dynamic(export.outward().into_owned())),
        Role::NotCallable { .. } => return Ok(None),
    };
    let interface = match &export.name.interface {
        None => None,
        Some(name) => Some(component.get_export_index(None, name.to_string()).ok_or_else(|| missing(export))?),
    };
    let index = component.get_export_index(interface.as_ref(), export.name.func.as_str()).ok_or_else(|| missing(export))?;
    Ok(Some(Callable { index, kind }))
}

fn missing(export: &Export) -> Error {
    Error::internal(format!("the compiled artifact has no export `{}`", export.name))
}

/// Opens an interval of the meter around each poll.
pub(crate) struct Metered<F> {
    pub(crate) budget: Arc<Budget>,
    pub(crate) inner: Pin<Box<F>>,
}

impl<F: Future> Future for Metered<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.budget.cpu.enter();
        let poll = self.inner.as_mut().poll(cx);
        self.budget.cpu.leave();
        poll
    }
}
