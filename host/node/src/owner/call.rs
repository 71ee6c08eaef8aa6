//! The calls that a job's tasks are of.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;
use rwasm_types::{ActorId, ArtifactDigest, Attempt, Code, Error, Grants, ResourceSet, Result, TaskOptions, TaskState};
use rwasm_values::{
    Export, Role,
    codec::{ArgsView, Limits},
};

use crate::dispatch::ClassId;

/// What a driver said of a call, checked.
pub(crate) struct JobCall {
    pub(crate) number: u16,
    pub(crate) artifact: ArtifactDigest,
    pub(crate) export: Export,
    /// Which of the artifact's exports.
    pub(crate) export_index: usize,
    pub(crate) options: TaskOptions,
    /// What the submit asks for.
    pub(crate) grants: Grants,
    /// What of it this node gives; nothing if it does not offer all, and then the call's tasks run elsewhere.
    pub(crate) granted: Option<Arc<Grants>>,
    /// How often a lost task is tried again.
    pub(crate) retries_max: u32,
    /// What one task holds while it runs.
    pub(crate) shape: ResourceSet,
    pub(crate) class: ClassId,
    /// Whether the artifact is compiled, or why it cannot be.
    pub(crate) ready: RwLock<Option<Result<()>>>,
    /// Of a method: the actor that it is called on.
    pub(crate) actor: Option<ActorId>,
}

impl JobCall {
    /// Where a task of it begins.
    pub(crate) fn first_state(&self) -> TaskState {
        if self.ready.read().is_some() { TaskState::Queued } else { TaskState::Compiling }
    }

    /// Whether its tasks make actors.
    pub(crate) fn makes_actor(&self) -> bool {
        matches!(self.export.role, Role::ActorCreate { .. })
    }

    /// Whether an actor whose attempt ended like this, after it was alive, is made anew.
    pub(crate) fn is_made_again(&self, attempt: Attempt, error: &Error) -> bool {
        self.makes_actor() && error.code() != Code::CANCELLED && attempt.0 <= self.retries_max
    }

    /// Checks that arguments fit the export, before anything is queued.
    pub(crate) fn check(&self, args: &Bytes) -> Result<()> {
        if self.export.role == Role::Command {
            return if args.is_empty() { Ok(()) } else { Err(Error::new(Code::WRONG_ARITY, "a command takes its arguments after `--`")) };
        }
        ArgsView::parse(&self.export.signature, args, &Limits { bytes: args.len(), ..Limits::default() }).map(drop)
    }
}
