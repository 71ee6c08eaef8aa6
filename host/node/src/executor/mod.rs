//! Executors: what actually runs guests. They are spoken to by messages and speak back by messages, so that one can be a set of threads
//! in this process and another a child process.

mod actor;
mod threads;

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use rwasm_engine::{
    Control, Discard, Identity, Output, Prepared, Request,
    objects::{NoObjects, Object},
    tasks::{NoTasks, Tasks},
};
use rwasm_history::work::Outcome;
use rwasm_types::{Attempt, Code, Error, Grants, JobId, NodeId, Result, TaskId, TaskLimits, Tenant};
use rwasm_values::{
    Role, Type,
    codec::{self, Limits, ResultView},
};

use rwasm_wire::{convert, msg};

pub(crate) use self::threads::Threads;
use crate::{
    actors::{Actors, Ticket},
    dispatch::RunId,
    guest::{Origin, Reach},
    node::Shared,
    objects::{Copies, Objects, inlined, names_objects},
};

/// Error values of functions that are longer are not shown in records.
const APPLICATION_ERROR_BYTES_MAX: usize = 4096;

/// One attempt that waits or runs.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) task: TaskId,
    pub(crate) attempt: Attempt,
    /// Arguments in the codec's message form.
    pub(crate) args: Bytes,
    /// Copies of other nodes' objects that it needs.
    pub(crate) copies: Copies,
    /// Of a call of an actor: its place among those that the actor may have.
    pub(crate) ticket: Option<Arc<Ticket>>,
    /// How many tasks started one another until this one.
    pub(crate) depth: u32,
}

impl Item {
    /// An attempt that needs no copies, or has none yet.
    pub(crate) fn new(task: TaskId, attempt: Attempt, args: Bytes) -> Self {
        Self { task, attempt, args, copies: Copies::default(), ticket: None, depth: 0 }
    }
}

/// Objects that are held until this is dropped.
pub(crate) type HeldObjects = Vec<Arc<dyn Object>>;

/// An attempt that ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) task: TaskId,
    pub(crate) attempt: Attempt,
    pub(crate) result: Result<Bytes>,
    /// The function ran and returned its error case, which the result holds; said as an error for records.
    pub(crate) failed: Option<Error>,
    /// The objects that the result names, held until the task's owner holds them.
    pub(crate) held: HeldObjects,
    pub(crate) cpu: Duration,
    pub(crate) wall: Duration,
    pub(crate) memory_bytes: u64,
}

/// Who the attempts of a class are run for: takes what they write and how they end.
pub(crate) trait Taker: Send + Sync {
    /// Attempts were given a slot.
    fn started(&self, items: &[Item]);

    /// Attempts ended.
    fn ended(&self, ended: Vec<Ended>);

    /// The actor that an attempt makes takes calls from now on; of interest to those whose attempts make some.
    fn alive(&self, _item: &Item) {}

    /// Attempts that were given a slot have not begun, and wait again.
    fn returned(&self, items: &[Item]);

    /// This node ended attempts that their owner may try again; gives those that are to wait here as the next attempt.
    fn lost(&self, items: Vec<Item>, error: &Error) -> Vec<Item>;

    /// Where an attempt's output goes.
    fn output(&self, task: TaskId, attempt: Attempt) -> Arc<dyn Output>;
}

/// A class's call, ready to run: everything that its attempts have in common.
pub(crate) struct LoadedCall {
    pub(crate) prepared: Arc<Prepared>,
    /// Which of the artifact's exports.
    pub(crate) export: usize,
    pub(crate) limits: TaskLimits,
    /// Memory that each attempt was admitted with, in bytes.
    pub(crate) memory_reserved: u64,
    pub(crate) grants: Arc<Grants>,
    pub(crate) tenant: Tenant,
    pub(crate) job: JobId,
    /// This node.
    pub(crate) node: NodeId,
    pub(crate) taker: Arc<dyn Taker>,
    /// Where the values of arguments are that are given by ref.
    pub(crate) objects: Arc<Objects>,
    /// The actors of this node.
    pub(crate) actors: Arc<Actors>,
    /// What tasks that an attempt starts have from it.
    pub(crate) origin: Arc<Origin>,
    /// The node, which starts them; none where guests are only measured.
    pub(crate) host: Weak<Shared>,
    /// Whether attempts share threads with others, so that each must give way: they hold less than a whole core.
    pub(crate) shares_core: bool,
}

impl std::fmt::Debug for LoadedCall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoadedCall").field("prepared", &self.prepared).field("job", &self.job).finish_non_exhaustive()
    }
}

impl LoadedCall {
    /// Whether attempts run from start to end on one thread, without a fiber.
    pub(crate) fn is_sync(&self) -> bool {
        self.prepared.is_sync() && !self.shares_core && !self.makes_actor()
    }

    /// Whether attempts make actors.
    pub(crate) fn makes_actor(&self) -> bool {
        matches!(self.prepared.info().exports.get(self.export), Some(export) if matches!(export.role, Role::ActorCreate { .. }))
    }

    /// Whether another attempt follows the one that ended, of those that make actors.
    pub(crate) fn tries_again(&self, attempt: Attempt) -> bool {
        attempt.0 <= self.origin.options.retries_max.unwrap_or(0)
    }

    /// The error of a function that returned its error case.
    pub(crate) fn application_error(&self, result: &Result<Bytes>) -> Option<Error> {
        let outward = self.prepared.info().exports.get(self.export)?.outward();
        application_error(outward.result.as_ref(), result)
    }

    /// Has in memory what an attempt's arguments name, until what is given is dropped.
    ///
    /// # Errors
    ///
    /// Why it cannot be there.
    pub(crate) async fn bring(&self, item: &Item) -> Result<impl Sized + use<>> {
        if !names_objects(&item.args) {
            return Ok(Vec::new());
        }
        self.objects.bring_named(&self.tenant, &item.args).await
    }

    /// What the engine is asked for one attempt.
    ///
    /// # Errors
    ///
    /// Why the value of an object that stands for an argument is not there.
    pub(crate) fn request(
        &self,
        item: &Item,
        control: Arc<Control>,
        slot: impl FnOnce() -> Arc<dyn Slot>,
    ) -> Result<(Request, Option<Arc<Reach>>)> {
        let info = self.prepared.info();
        let args = match info.exports.get(self.export) {
            Some(export) => inlined(&self.objects, &self.tenant, &export.outward(), &item.args)?,
            None => item.args.clone(),
        };
        let reach = self.prepared.uses_objects().then(|| Reach::new(self, item, slot())).transpose()?;
        let (objects, tasks): (Arc<dyn rwasm_engine::objects::Objects>, Arc<dyn Tasks>) = match &reach {
            Some(reach) => (Arc::clone(reach) as _, Arc::clone(reach) as _),
            None => (Arc::new(NoObjects), Arc::new(NoTasks)),
        };
        // An artifact without imports cannot write.
        let output: Arc<dyn Output> = if info.imports.is_empty() { Arc::new(Discard) } else { self.taker.output(item.task, item.attempt) };
        let request = Request {
            export: self.export,
            args,
            limits: self.limits,
            memory_reserved: self.memory_reserved,
            grants: Arc::clone(&self.grants),
            objects,
            tasks,
            identity: Identity { task: item.task, job: self.job, attempt: item.attempt, node: self.node, tenant: self.tenant.clone() },
            output,
            control,
        };
        Ok((request, reach))
    }
}

/// The error of a function that returned its error case, given the type of its result.
pub(crate) fn application_error(ty: Option<&Type>, result: &Result<Bytes>) -> Option<Error> {
    let ty = ty.filter(|ty| matches!(ty, Type::Result(_)))?;
    let message = result.as_ref().ok()?;
    let failed = ResultView::parse(Some(ty), message, &Limits { bytes: message.len(), ..Limits::default() })
        .is_ok_and(|view| view.is_application_error());
    failed.then(|| {
        let limits = Limits { bytes: APPLICATION_ERROR_BYTES_MAX, ..Limits::default() };
        let text = codec::decode_result(Some(ty), message, &limits).and_then(|returned| rwasm_values::wave::to_string(Some(ty), &returned));
        Error::new(Code::APPLICATION, format!("the function returned {}", text.unwrap_or_else(|_| "its error case".to_owned())))
    })
}

impl Ended {
    /// A task that did not run.
    pub(crate) fn unrun(item: &Item, error: Error) -> Self {
        Self {
            task: item.task,
            attempt: item.attempt,
            result: Err(error),
            failed: None,
            held: Vec::new(),
            cpu: Duration::ZERO,
            wall: Duration::ZERO,
            memory_bytes: 0,
        }
    }

    /// As it is written down, with or without its result.
    pub(crate) fn outcome(&self, with_result: bool) -> Outcome {
        let result = match &self.result {
            Ok(result) => Ok(if with_result { result.clone() } else { Bytes::new() }),
            Err(error) => Err(error.clone()),
        };
        Outcome {
            sequence: self.task.sequence,
            attempt: self.attempt,
            result,
            failed: self.failed.clone(),
            cpu_ns: convert::nanos(self.cpu),
            wall_ns: convert::nanos(self.wall),
            memory_bytes: self.memory_bytes,
        }
    }

    /// As it travels, and what is held until it has arrived.
    pub(crate) fn into_message(self) -> (msg::Outcome, HeldObjects) {
        let outcome = msg::Outcome {
            sequence: self.task.sequence,
            attempt: self.attempt.0,
            failed: self.failed.is_some(),
            cpu_ns: convert::nanos(self.cpu),
            wall_ns: convert::nanos(self.wall),
            memory_bytes: self.memory_bytes,
            result: Some(convert::outcome_result(self.result)),
            alive: false,
        };
        (outcome, self.held)
    }
}

/// The slot that an attempt runs in, as the attempt sees it.
pub(crate) trait Slot: Send + Sync {
    /// The attempt waits for other tasks, which may have its slot meanwhile.
    fn block(&self);

    /// It goes on.
    fn resume(&self);
}

/// What an executor is told.
#[derive(Debug)]
pub(crate) enum ToExecutor {
    /// Run these attempts, one after the other.
    Assign { run: RunId, call: Arc<LoadedCall>, items: Vec<Item> },
    /// End this attempt, whether it has begun or not.
    Cancel { run: RunId, task: TaskId },
    /// End the attempt that runs, for what it waits for can never start.
    GiveUp { run: RunId },
}

/// What an executor tells.
#[derive(Debug)]
pub(crate) enum FromExecutor {
    /// Attempts ended, and the run goes on: told early where the next one takes long.
    Ended { call: Arc<LoadedCall>, ended: Vec<Ended> },
    /// An actor ended by itself after it was alive: it may be made anew. The end of its run is told after that.
    Crashed { run: RunId, call: Arc<LoadedCall>, item: Item, error: Error },
    /// The attempt that runs waits for other tasks; those behind it have not begun, and are given back.
    Blocked { run: RunId, call: Arc<LoadedCall>, unbegun: Vec<Item> },
    /// It goes on.
    Resumed { run: RunId },
    /// The run is over, with these attempts.
    Finished { run: RunId, call: Arc<LoadedCall>, ended: Vec<Ended>, tasks: usize, took: Duration },
}

/// Something that runs guests.
pub(crate) trait Executor: Send + Sync {
    /// Takes a message; never blocks.
    fn send(&self, message: ToExecutor);
}

/// Who listens to an executor.
pub(crate) trait Events: Send + Sync {
    /// Takes a message, on a thread of the executor.
    fn receive(&self, message: FromExecutor);
}
