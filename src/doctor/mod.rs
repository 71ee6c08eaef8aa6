//! What a machine must have for rwasm, and what to do where it has not: facts go in, findings come out. Nothing here looks at the machine;
//! [`facts`] does.

pub(crate) mod facts;
mod judge;

use std::path::PathBuf;

use rwasm_types::{Error, Result};
use serde::Serialize;

pub(crate) use self::judge::judge;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Level {
    /// As it should be.
    Ok,
    /// Good to know; nothing has to be done.
    Note,
    /// Something has to be done.
    Bad,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// What was looked at: stable, for machines.
    pub(crate) check: &'static str,
    pub(crate) level: Level,
    /// What was found.
    pub(crate) found: String,
    /// What to do; absent where all is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) remedy: Option<String>,
}

/// What is known of a machine. Where the machine does not tell, a fact is `None`.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    /// The kernel's release, as `6.1.0-18-amd64`.
    pub(crate) kernel: String,
    /// The processor, as `x86_64`.
    pub(crate) processor: String,
    /// Whether files in memory can be made, which guests' initial memory is mapped from.
    pub(crate) memfd: bool,
    /// Open files that a process may have, at most.
    pub(crate) open_files: Option<u64>,
    /// Memory mappings that a process may have.
    pub(crate) mappings: Option<u64>,
    /// The limit of a process's address space, in bytes; `None` is without limit.
    pub(crate) address_space: Option<u64>,
    /// Memory of the machine, in bytes.
    pub(crate) memory: u64,
    /// The control group's limit of it.
    pub(crate) memory_limit: Option<u64>,
    /// Cores of the machine, and those that this process may use.
    pub(crate) cores: (u64, u64),
    /// The three directories.
    pub(crate) dirs: Vec<Dir>,
    /// Ports that a head takes by default.
    pub(crate) ports: Vec<Port>,
    pub(crate) clock: Clock,
    /// What the engine's pools have room for, or why there is none.
    pub(crate) engine: Result<Pools>,
    /// Whether artifacts can be compiled, which a child does.
    pub(crate) compiling: Result<()>,
    /// The cluster that commands of this user are led to, if any.
    pub(crate) cluster: Option<Cluster>,
    /// This program's version.
    pub(crate) version: &'static str,
    /// Daemons that ended without clearing up.
    pub(crate) gone: usize,
}

/// A directory of this user's.
#[derive(Clone, Debug)]
pub(crate) struct Dir {
    /// `runtime`, `state` or `cache`.
    pub(crate) what: &'static str,
    /// The variable that moves it.
    pub(crate) variable: &'static str,
    pub(crate) path: PathBuf,
    /// What is wrong with it, if anything; one that is not there yet is made when it is needed.
    pub(crate) fault: Option<Fault>,
    /// Bytes that are free there.
    pub(crate) free: Option<u64>,
}

/// What can be wrong with a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It, or what is above it, is no directory.
    NoDirectory,
    /// Nothing can be written there.
    ReadOnly,
    /// It belongs to another user, who could replace what is in it.
    Foreign,
}

/// A port.
#[derive(Clone, Debug)]
pub(crate) struct Port {
    pub(crate) number: u16,
    /// What it is for.
    pub(crate) what: &'static str,
    /// The flag that chooses another.
    pub(crate) flag: &'static str,
    pub(crate) holder: Holder,
}

/// Who has a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    Nobody,
    /// A daemon of this user.
    Ours {
        pid: u32,
    },
    /// Something else.
    Other,
    /// It cannot be listened on, whoever has it.
    Refused {
        why: String,
    },
}

/// What is known of the clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    /// Seconds since 1970.
    pub(crate) now_s: u64,
    /// How far the wall clock went, against the monotonic one, while the facts were collected, in milliseconds.
    pub(crate) drift_ms: i64,
    /// How far the newest file of the state directory is ahead of the clock, in seconds.
    pub(crate) ahead_s: u64,
    /// Whether a time service says that the clock is set.
    pub(crate) synchronised: Option<bool>,
}

/// How many guests can be alive.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pools {
    pub(crate) wanted: u32,
    pub(crate) fast: u32,
    pub(crate) asynchronous: u32,
}

/// A cluster.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    pub(crate) address: String,
    /// The version of its head, or why it does not tell.
    pub(crate) version: Result<String, Error>,
}
