//! The state directory of a daemon: chosen, locked, in a format that is known; and how it is backed up, put back and checked.
//!
//! ```text
//! STATE/format.json   which format the directory has, and whether it is a head's
//! STATE/lock          held while a daemon uses the directory
//! STATE/journal.redb  the cluster (head)
//! STATE/token         an admin's token, 0600 (head)
//! STATE/node-token    what nodes join with, 0600 (head)
//! STATE/node.json     which node of which cluster this is
//! STATE/certificate.json  what a node with TLS proves with that it is itself, 0600
//! STATE/ca.pem        the cluster's certificate authority, and its key in ca-key.pem, 0600 (head with TLS)
//! STATE/sessions      how far this node's job numbers are reserved
//! STATE/artifacts     what was submitted
//! ```
//!
//! Files whose names begin with a dot are not finished, and belong to no backup.

mod archive;
mod backup;
mod check;
mod dir;
mod format;
mod restore;

pub(crate) use self::{
    backup::{Backup, back_up},
    check::{Finding, Report, check, verdict},
    dir::State,
    restore::{Restored, restore},
};

/// What a daemon holds while it uses the directory.
const LOCK: &str = "lock";
/// What a daemon says, if it has a directory of its own for that.
const LOG: &str = "daemon.log";

/// An error of a file or directory.
fn io_error(path: &std::path::Path, error: &std::io::Error) -> rwasm_types::Error {
    use rwasm_types::{Code, Error};

    let path = path.display();
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            Error::new(Code::DISK_FULL, format!("no space is left for {path}")).hint("free some, and try again")
        }
        _ => Error::new(Code::IO, format!("cannot use {path}: {error}")),
    }
}
