//! An artifact's public face: what it is, what can be called, what it needs. It is found once, when an artifact is submitted, and then
//! travels with it, so that neither a head nor a client needs an engine to check a call.

use std::{borrow::Cow, fmt};

use rwasm_types::{Code, Error};
use serde::{Deserialize, Serialize};

use crate::{ExportName, ResourceName, Signature, Type};

/// All that is known of an artifact without compiling it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactInfo {
    /// What was submitted.
    pub kind: ArtifactKind,
    /// Whether it was submitted as text (`.wat`).
    pub text: bool,
    /// How it is run.
    pub profile: Profile,
    /// Its functions, in the order of the component, with those that cannot be called and why.
    pub exports: Vec<Export>,
    /// What it imports, in the order of the component.
    pub imports: Vec<Import>,
    /// Bytes of all linear memories that its modules define, as they are at the start. It is a lower bound of what an instance needs.
    pub memory_initial_bytes: u64,
    /// Bytes as submitted.
    pub size_bytes: u64,
}

/// What was submitted. Everything but a component is made into one before it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ArtifactKind {
    /// A component with typed exports.
    Component,
    /// A component that exports `wasi:cli/run`; it may have typed exports as well.
    Command,
    /// A core module of WASI preview 1 with a `_start`.
    Preview1Command,
    /// A core module of WASI preview 1 without one.
    Preview1Reactor,
    /// A core module without imports.
    CoreModule,
}

impl fmt::Display for ArtifactKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Component => "component",
            Self::Command => "WASI command",
            Self::Preview1Command => "WASI preview 1 command",
            Self::Preview1Reactor => "WASI preview 1 reactor",
            Self::CoreModule => "core module",
        })
    }
}

/// How an artifact is run; it follows from what it uses and is part of the key of its compiled form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// Without the concurrency of WASI 0.3, which costs time on every call.
    Fast,
    /// With it.
    Async,
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Fast => "fast",
            Self::Async => "async",
        })
    }
}

/// An exported function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Export {
    /// Its name.
    pub name: ExportName,
    /// Its type. Where the role is [`Role::NotCallable`], parts of it may be left out.
    pub signature: Signature,
    /// How it is used.
    pub role: Role,
}

impl Export {
    /// Its type as callers see it: a method's without the actor itself, and without the actor where it makes one.
    pub fn outward(&self) -> Cow<'_, Signature> {
        let Signature { params, result } = &self.signature;
        match &self.role {
            Role::ActorMethod { .. } => Cow::Owned(Signature { params: params.iter().skip(1).cloned().collect(), result: result.clone() }),
            Role::ActorCreate { .. } => {
                let result = match result {
                    Some(Type::Result(types)) => Some(Type::result(None, types.err.clone())),
                    _ => None,
                };
                Cow::Owned(Signature { params: params.clone(), result })
            }
            Role::Task | Role::Command | Role::NotCallable { .. } => Cow::Borrowed(&self.signature),
        }
    }
}

/// How an exported function is used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// It is called as a task, in an instance of its own.
    Task,
    /// It is `wasi:cli/run`, which takes its arguments from the command line.
    Command,
    /// It makes an actor: an instance that stays, and holds the resource.
    ActorCreate {
        /// The resource.
        resource: ResourceName,
    },
    /// It is called on an actor that holds the resource.
    ActorMethod {
        /// The resource.
        resource: ResourceName,
    },
    /// It cannot be called.
    NotCallable {
        /// One sentence that says why, without a full stop.
        why: String,
    },
}

impl Role {
    /// Whether the function can be called in some way.
    pub fn is_callable(&self) -> bool {
        !matches!(self, Self::NotCallable { .. })
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Task => f.write_str("task"),
            Self::Command => f.write_str("command"),
            Self::ActorCreate { resource } => write!(f, "creates actor {}", resource.name),
            Self::ActorMethod { resource } => write!(f, "method of actor {}", resource.name),
            Self::NotCallable { why } => write!(f, "not callable: {why}"),
        }
    }
}

/// An import of an artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Import {
    /// Its name, as in `wasi:cli/stdout@0.2.6`.
    pub name: String,
    /// What it takes to provide it.
    pub need: Need,
    /// Whether a call of it may suspend the guest.
    pub blocking: bool,
}

/// What it takes to provide an import.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Need {
    /// Every guest has it.
    Provided,
    /// It is there, but does nothing without a grant. Many artifacts import it and never use it, so it is no reason to refuse one.
    Grant(GrantKind),
    /// No host provides it.
    Missing,
}

/// A kind of grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GrantKind {
    /// Directories: `--dir`.
    Directory,
    /// Network destinations: `--allow-net`.
    Network,
}

impl fmt::Display for GrantKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Directory => "directory",
            Self::Network => "network",
        })
    }
}

impl ArtifactInfo {
    /// Whether a call may suspend the guest, so that it needs a stack of its own.
    pub fn may_block(&self) -> bool {
        self.imports.iter().any(|import| import.blocking)
    }

    /// Whether anything can be called.
    pub fn is_callable(&self) -> bool {
        self.exports.iter().any(|export| export.role.is_callable())
    }

    /// The `wasi:cli/run` of a command.
    pub fn command(&self) -> Option<&Export> {
        self.exports.iter().find(|export| export.role == Role::Command)
    }

    /// Checks that the host provides all imports, with or without grants.
    ///
    /// # Errors
    ///
    /// [`Code::MISSING_IMPORTS`] with the first few missing imports, and in the field `missing` how many there are.
    pub fn check_imports(&self) -> Result<(), Error> {
        let missing: Vec<&str> =
            self.imports.iter().filter(|import| import.need == Need::Missing).map(|import| import.name.as_str()).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let hint = if missing.iter().any(|name| name.starts_with("wasi:") || name.starts_with("rwasm:")) {
            "rebuild it against a version that this host provides, which `rwasm inspect` shows"
        } else {
            "compose it with a component that exports them, as `wac plug` does"
        };
        let message = format!("the artifact imports what no grant can provide: {}", crate::resolve::listed(&missing));
        Err(Error::new(Code::MISSING_IMPORTS, message).hint(hint).with("missing", missing.len()))
    }
}
