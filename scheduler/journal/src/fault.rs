//! What can be wrong with a journal's file, as errors with the way out.

use std::{io, path::Path};

use rwasm_types::{Code, Error};

use crate::file::FORMAT;

/// What is wrong with the file at `path`.
pub(crate) fn fault(path: &Path, error: impl Into<redb::Error>) -> Error {
    let path = path.display();
    match error.into() {
        redb::Error::DatabaseAlreadyOpen => Error::new(Code::STATE_LOCKED, format!("another process uses {path}"))
            .hint("stop it with `rwasm stop`, or name another directory with --state-dir"),
        // What has no header of redb is reported as such by this kind.
        redb::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => foreign(&path.to_string()),
        redb::Error::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => damaged(&path.to_string(), "it ends too early"),
        redb::Error::Io(error) => failed(&path.to_string(), &error),
        redb::Error::Corrupted(cause) => damaged(&path.to_string(), &cause),
        redb::Error::UpgradeRequired(_) => foreign(&path.to_string()),
        other => Error::internal(format!("the journal {path}: {other}")),
    }
}

/// The file cannot be read or written.
pub(crate) fn failed(path: &str, error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            Error::new(Code::JOURNAL_FULL, format!("there is no room to write {path}: {error}"))
                .hint("free some; what is asked for after that is carried out, nothing has to be started anew")
        }
        _ => Error::new(Code::IO, format!("cannot use {path}: {error}")),
    }
}

/// The file is something else.
pub(crate) fn foreign(path: &str) -> Error {
    Error::new(Code::FOREIGN_JOURNAL, format!("{path} is not a journal of rwasm"))
        .hint("put back the one that was there, or name another directory with --state-dir")
}

/// The file is a journal, and not whole.
pub(crate) fn damaged(path: &str, cause: &str) -> Error {
    Error::new(Code::DAMAGED_JOURNAL, format!("{path} is truncated or damaged: {cause}"))
        .hint("put a backup back with `rwasm state restore`, or start a new cluster with another --state-dir")
}

/// The file is a journal of a later version.
pub(crate) fn newer(path: &str, format: u64) -> Error {
    Error::new(Code::NEWER_STATE, format!("{path} has format {format}, and this version of rwasm reads formats up to {FORMAT}"))
        .hint("start it with the version that wrote it, or a later one")
}
