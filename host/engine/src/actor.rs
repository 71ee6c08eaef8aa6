//! Actors: instances that stay, each with one resource of its own, on which methods are called one after the other.
//!
//! ```text
//! Prepared::create ─▶ constructor ─▶ Actor ─▶ call ─▶ call ─▶ … ─▶ end: destructor
//!                                      └─ trapped, cancelled, out of time ─▶ unusable, and never entered again
//! ```
//!
//! Memory, tables and output count over an actor's whole life; time counts for each call.

use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use rwasm_types::{Code, Error, Result, format_bytes};
use wasmtime::{
    Store,
    component::{Instance, ResourceAny},
};

use crate::{
    Outcome, Prepared, Request,
    edge::CallError,
    limit::{Budget, Reached},
    prepared::{CallableKind, Metered, vanished},
    store::Host,
};

/// An instance that stays. Its resource is what methods are called on.
pub struct Actor {
    prepared: Arc<Prepared>,
    budget: Arc<Budget>,
    store: Store<Host>,
    instance: Instance,
    resource: ResourceAny,
    usable: bool,
}

impl std::fmt::Debug for Actor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Actor").field("prepared", &self.prepared).field("usable", &self.usable).finish_non_exhaustive()
    }
}

/// One call of a method.
#[derive(Clone, Debug)]
pub struct MethodCall {
    /// Which of the artifact's exports.
    pub export: usize,
    /// The arguments in the codec's message form, without the actor itself.
    pub args: Bytes,
    /// The longest that it may take.
    pub wall: Duration,
    /// Processor time that it may take.
    pub cpu: Duration,
    /// Bytes that its result may have, if that is less than what the actor's may.
    pub result_bytes: u64,
}

/// How making an actor ended.
#[derive(Debug)]
pub struct Created {
    /// The actor, if there is one: a constructor may fail, or return its error case.
    pub actor: Option<Actor>,
    /// What the constructor returned beside the actor, and what it used.
    pub outcome: Outcome,
}

impl Prepared {
    /// Makes an actor, on a fiber.
    pub async fn create(self: Arc<Self>, request: Request) -> Created {
        let started = Instant::now();
        let memory = self.memory.share(request.memory_reserved);
        let budget = Arc::new(Budget::new(request.limits, memory, Arc::clone(&request.control)));
        let making = Metered { budget: Arc::clone(&budget), inner: Box::pin(Arc::clone(&self).make(request, Arc::clone(&budget))) };
        let (result, actor, memory_bytes) = match making.await {
            Ok((message, actor, memory_bytes)) => (budget.untripped().map(|()| message), actor, memory_bytes),
            Err(error) => (Err(error), None, 0),
        };
        let actor = actor.filter(|_| result.is_ok());
        let outcome = Outcome { result, held: Vec::new(), cpu: budget.cpu.used(), wall: started.elapsed(), memory_bytes };
        Created { actor, outcome }
    }

    async fn make(self: Arc<Self>, request: Request, budget: Arc<Budget>) -> Result<(Bytes, Option<Actor>, u64)> {
        let Request { export, args, limits, grants, objects, tasks, identity, output, .. } = request;
        let callable = self.callable(export)?;
        let CallableKind::Create(edge) = &callable.kind else { return Err(Error::internal("what is no constructor was to make an actor")) };
        let mut store = self.store(identity, &budget, &output, &grants, (objects, tasks), true)?;
        let made = within(&self, &budget, limits.wall, async {
            let instance = self.pre.instantiate_async(&mut store).await.map_err(|error| self.not_instantiated(&store, &error))?;
            let func = instance.get_func(&mut store, callable.index).ok_or_else(vanished)?;
            let made = edge.make(&func, &mut store, &args).await.map_err(|error| self.not_returned(&store, error))?;
            Ok((instance, made))
        });
        let (instance, (message, resource)) = made.await?;
        let memory_bytes = store.data().limiter.memory_bytes();
        let actor = resource.map(|resource| Actor { prepared: Arc::clone(&self), budget, store, instance, resource, usable: true });
        Ok((message, actor, memory_bytes))
    }
}

impl Actor {
    /// Whether it takes further calls: not after it trapped, or a call of it did not come to its end.
    pub fn is_usable(&self) -> bool {
        self.usable
    }

    /// Calls a method, on a fiber.
    pub async fn call(&mut self, call: MethodCall) -> Outcome {
        let started = Instant::now();
        let budget = Arc::clone(&self.budget);
        let cpu_before = budget.cpu.used();
        budget.begin(call.wall, call.cpu);
        self.store.data_mut().forget_returned();
        // Until it has come to its end, so that one that is dropped on the way leaves none that looks whole.
        self.usable = false;
        let result_bytes = call.result_bytes;
        let result = Metered { budget: Arc::clone(&budget), inner: Box::pin(self.enter(call)) }.await;
        let result = match (budget.untripped(), result) {
            (Ok(()), Ok(message)) => {
                self.usable = true;
                if message.len() as u64 <= result_bytes { Ok(message) } else { Err(too_large(message.len() as u64, result_bytes)) }
            }
            // The guest has returned, and is as whole as before; only its result cannot be passed on.
            (Ok(()), Err(Failed::Result(error))) => {
                self.usable = true;
                Err(error)
            }
            (Err(error), _) | (Ok(()), Err(Failed::Guest(error))) => Err(error),
        };
        Outcome {
            result,
            held: self.store.data().held(),
            cpu: budget.cpu.used().saturating_sub(cpu_before),
            wall: started.elapsed(),
            memory_bytes: self.store.data().limiter.memory_bytes(),
        }
    }

    async fn enter(&mut self, call: MethodCall) -> Result<Bytes, Failed> {
        let Self { prepared, budget, store, instance, resource, .. } = self;
        let callable = prepared.callable(call.export).map_err(Failed::Result)?;
        let CallableKind::Method(edge) = &callable.kind else {
            return Err(Failed::Result(Error::internal("what is no method was called on an actor")));
        };
        let func = instance.get_func(&mut *store, callable.index).ok_or_else(|| Failed::Result(vanished()))?;
        let called = within(prepared, budget, call.wall, async { Ok(edge.call_on(*resource, &func, store, &call.args).await) });
        match called.await.map_err(Failed::Guest)? {
            Ok(message) => Ok(message),
            Err(error @ CallError::Ours(_)) => Err(Failed::Result(prepared.not_returned(store, error))),
            Err(error @ CallError::Guest(_)) => Err(Failed::Guest(prepared.not_returned(store, error))),
        }
    }

    /// Ends it, with its destructor, which may take so long.
    ///
    /// # Errors
    ///
    /// What the destructor ended with, if it did not return.
    pub async fn end(self, wall: Duration, cpu: Duration) -> Result<()> {
        let Self { prepared, budget, mut store, resource, usable, .. } = self;
        if !usable {
            return Ok(());
        }
        budget.begin(wall, cpu);
        let dropped = Metered {
            budget: Arc::clone(&budget),
            inner: Box::pin(within(&prepared, &budget, wall, async {
                let dropped = resource.resource_drop_async(&mut store).await;
                dropped.map_err(|error| prepared.not_returned(&store, CallError::Guest(error)))
            })),
        };
        dropped.await
    }
}

fn too_large(size: u64, limit: u64) -> Error {
    let message = format!("the result has {}, and the call's limit is {}", format_bytes(size), format_bytes(limit));
    Error::new(Code::RESULT_TOO_LARGE, message).hint("raise it with --max-result")
}

/// Why a call has no result.
enum Failed {
    /// The guest did not come to the end of the call.
    Guest(Error),
    /// It did, or was not entered.
    Result(Error),
}

/// Waits for a guest, unless somebody ends it or its time is over first.
async fn within<T>(prepared: &Prepared, budget: &Budget, wall: Duration, run: impl Future<Output = Result<T>>) -> Result<T> {
    let run = pin!(run);
    if prepared.is_sync() {
        // It never waits, so ticks alone end it, and no timer is needed.
        return run.await;
    }
    tokio::select! {
        biased;
        done = run => done,
        reached = budget.ended() => Err(reached.into()),
        () = tokio::time::sleep(wall) => Err(Reached::Wall { limit: wall }.into()),
    }
}
