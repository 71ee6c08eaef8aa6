//! Who this node is in its cluster, kept across its lives: `STATE/node.json`, written before the head is told.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rwasm_runtime::{random_bytes, write_private};
use rwasm_types::{Code, Error, Incarnation, NodeId, Result};
use serde::{Deserialize, Serialize};

use crate::sessions::Sessions;

/// The file's name in the state directory.
const FILE: &str = "node.json";
/// The low bits of an incarnation are drawn, so that of two processes that start from copies of one directory the head fences one for good.
const DRAWN_BITS: u32 = 16;
/// How far incarnations go on after a restore.
const RESTORED_STEP: u64 = 1 << 40;

/// Lets the numbers of a state directory that was put back from a backup go on beyond all that were given since: lives of the node, and
/// jobs.
///
/// # Errors
///
/// If what is there is not understood, or cannot be replaced.
pub fn renumber(state_dir: &Path) -> Result<()> {
    Identity::renumber(state_dir)?;
    Sessions::renumber(state_dir)
}

/// Makes sure that a node could start in a state directory, as far as its numbers go.
///
/// # Errors
///
/// What is not understood.
pub fn check(state_dir: &Path) -> Result<()> {
    Identity::read(state_dir)?;
    Sessions::open(state_dir).map(drop)
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    /// The cluster that it belongs to, and its number there; none before it joined.
    #[serde(default)]
    cluster: Option<String>,
    #[serde(default)]
    node: Option<NodeId>,
    /// Of the current life, or the last.
    incarnation: Incarnation,
}

/// A node's identity.
#[derive(Debug)]
pub(crate) struct Identity {
    /// Where it is kept; nowhere if it ends with the process.
    path: Option<PathBuf>,
    record: Record,
}

impl Identity {
    /// Begins another life of the node that the state directory is of.
    ///
    /// # Errors
    ///
    /// If what is there cannot be read or replaced.
    pub(crate) fn begin(state_dir: &Path) -> Result<Self> {
        let mut identity = Self::read(state_dir)?;
        identity.record.incarnation = next(identity.record.incarnation)?;
        identity.write()?;
        Ok(identity)
    }

    fn read(state_dir: &Path) -> Result<Self> {
        let path = state_dir.join(FILE);
        let bad = |error: io::Error| Error::new(Code::IO, format!("cannot use {}: {error}", path.display()));
        let record = match fs::read(&path) {
            Ok(json) => serde_json::from_slice::<Record>(&json).map_err(|error| {
                let hint = "put it back from a backup, or remove it to join as a new node";
                Error::new(Code::DAMAGED_STATE, format!("{} is not understood: {error}", path.display())).hint(hint)
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Record::default(),
            Err(error) => return Err(bad(error)),
        };
        Ok(Self { path: Some(path), record })
    }

    /// Lets the lives of a node whose state was put back from a backup go on beyond those since.
    fn renumber(state_dir: &Path) -> Result<()> {
        let mut identity = Self::read(state_dir)?;
        if identity.record.node.is_none() {
            return Ok(());
        }
        identity.record.incarnation = Incarnation(identity.record.incarnation.0.saturating_add(RESTORED_STEP));
        identity.write()
    }

    /// A node that ends with the process.
    pub(crate) fn passing() -> Self {
        Self { path: None, record: Record { incarnation: Incarnation(1), ..Record::default() } }
    }

    /// The cluster that it belongs to; empty before it joined one.
    pub(crate) fn cluster(&self) -> &str {
        self.record.cluster.as_deref().unwrap_or_default()
    }

    /// Its number there.
    pub(crate) fn node(&self) -> Option<NodeId> {
        self.record.node
    }

    /// Its current life.
    pub(crate) fn incarnation(&self) -> Incarnation {
        self.record.incarnation
    }

    /// It joined.
    ///
    /// # Errors
    ///
    /// If that cannot be written down.
    pub(crate) fn joined(&mut self, cluster: &str, node: NodeId) -> Result<()> {
        let record = Record { cluster: Some(cluster.to_owned()), node: Some(node), incarnation: self.record.incarnation };
        if record != self.record {
            self.record = record;
            self.write()?;
        }
        Ok(())
    }

    fn write(&self) -> Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let json = serde_json::to_vec(&self.record).map_err(|error| Error::internal(format!("an identity has no JSON: {error}")))?;
        write_private(path, &json).map_err(|error| match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Error::new(Code::DISK_FULL, format!("no space is left for {}", path.display())).hint("free some, and start the node again")
            }
            _ => Error::new(Code::IO, format!("cannot write {}: {error}", path.display())),
        })
    }
}

fn next(last: Incarnation) -> Result<Incarnation> {
    let drawn = random_bytes::<2>().map_err(|error| Error::internal(format!("no random numbers: {error}")))?;
    Ok(Incarnation((((last.0 >> DRAWN_BITS) + 1) << DRAWN_BITS) | u64::from(u16::from_le_bytes(drawn))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_keeps_its_number_and_grows_older() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = Identity::begin(dir.path()).unwrap();
        assert_eq!((first.cluster(), first.node()), ("", None));
        first.joined("c1", NodeId::new(3).unwrap()).unwrap();
        let mut last = first.incarnation();
        for _ in 0..20 {
            let again = Identity::begin(dir.path()).unwrap();
            assert_eq!((again.cluster(), again.node()), ("c1", NodeId::new(3)));
            assert!(again.incarnation() > last);
            last = again.incarnation();
        }
        renumber(dir.path()).unwrap();
        check(dir.path()).unwrap();
        let restored = Identity::begin(dir.path()).unwrap();
        assert!(restored.incarnation().0 > last.0 + RESTORED_STEP);
        fs::write(dir.path().join(FILE), "{").unwrap();
        assert_eq!(check(dir.path()).unwrap_err().code(), Code::DAMAGED_STATE);
        assert_eq!(Identity::begin(dir.path()).unwrap_err().code(), Code::DAMAGED_STATE);
    }
}
