//! What guests reach of the cluster's tasks: the doors that the node fulfils, and the imports of `rwasm:core/tasks` that lead to them.
//!
//! ```text
//! guest ── submit ──▶ Tasks ──▶ own<task> ──▶ Task ── output ──▶ Object, which is there when the task has ended
//!   └───── wait ────▶ Tasks
//! ```

mod imports;

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use rwasm_types::{Code, Error, LabelSelector, ObjectId, Priority, ResourceSet, TaskId};

pub(crate) use self::imports::{INTERFACE, add_to_linker};
use crate::objects::{Object, Waits};

/// The tasks that one attempt starts.
pub trait Tasks: Send + Sync + 'static {
    /// Checks a call and starts it; it is refused where the job has as many tasks under way as it may.
    fn submit(&self, call: Call) -> Waits<'_, Arc<dyn Task>>;

    /// Waits until `count` of the objects are ready or can never be, or until the time is over; gives the positions of those that are.
    fn wait(&self, objects: Vec<Arc<dyn Object>>, count: usize, within: Option<Duration>) -> Waits<'_, Vec<u32>>;
}

/// A task that an attempt has started.
pub trait Task: fmt::Debug + Send + Sync + 'static {
    /// Its id.
    fn id(&self) -> TaskId;

    /// Its result, which the attempt holds until that is dropped.
    fn output(&self) -> Arc<dyn Object>;

    /// Ends it, and what it has started. Nothing happens if it has ended.
    fn cancel(&self);
}

/// A call, as a guest asks for it.
#[derive(Clone, Debug)]
pub struct Call {
    /// The artifact, by tag or digest; without, the running one.
    pub artifact: Option<String>,
    /// The export.
    pub export: String,
    /// The arguments in the codec's message form, without version and ref table.
    pub args: Bytes,
    /// That table: objects that the attempt holds.
    pub refs: Vec<ObjectId>,
    /// How it is run.
    pub options: CallOptions,
}

/// How a call is run; what is left out is as for the task that starts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallOptions {
    /// What it holds while it runs. Memory 0 means what the artifact starts with, and a margin.
    pub resources: ResourceSet,
    /// Conditions on its node's labels.
    pub labels: Vec<LabelSelector>,
    /// Whether it goes to the node that is used least.
    pub spread: bool,
    /// Who goes first.
    pub priority: Option<Priority>,
    /// How often it is tried again.
    pub retries: Option<u32>,
    /// Wall-clock time of an attempt.
    pub wall: Option<Duration>,
}

/// Where there are no other tasks: every call is refused.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoTasks;

impl Tasks for NoTasks {
    fn submit(&self, _call: Call) -> Waits<'_, Arc<dyn Task>> {
        Box::pin(async { Err(absent()) })
    }

    fn wait(&self, _objects: Vec<Arc<dyn Object>>, _count: usize, _within: Option<Duration>) -> Waits<'_, Vec<u32>> {
        Box::pin(async { Err(absent()) })
    }
}

fn absent() -> Error {
    Error::new(Code::OBJECTS_ABSENT, "nothing can be started here: there is no node around this guest")
}
