//! What runs here: each daemon leaves a file with its process, so that `stop` and drivers of this user find it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rwasm_client::Endpoint;
use rwasm_runtime::{Dirs, create_private_dir, write_private};
use rwasm_types::{Code, Error, Result};
use serde::{Deserialize, Serialize};

use super::Ready;

/// A daemon that runs here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Registered {
    #[serde(flatten)]
    pub(crate) ready: Ready,
    /// When its process began, in the kernel's ticks since boot: with the process number, it names one process for ever.
    began: u64,
}

impl Registered {
    /// Whether that very process still runs.
    pub(crate) fn runs(&self) -> bool {
        began(self.ready.pid) == Some(self.began)
    }
}

/// Files that a daemon left, removed when it ends.
#[derive(Debug)]
pub(crate) struct Registration {
    file: PathBuf,
    endpoint: Option<(PathBuf, Endpoint)>,
}

impl Registration {
    /// Leaves a daemon's file, and the endpoint if it has one.
    pub(crate) fn leave(dirs: &Dirs, ready: &Ready, endpoint: Option<&Endpoint>) -> Result<Self> {
        let dir = dirs.runtime.join("daemons");
        let file = dir.join(format!("{}.json", ready.pid));
        let bad = |error: io::Error| Error::new(Code::IO, format!("cannot write {}: {error}", file.display()));
        create_private_dir(&dir).map_err(bad)?;
        let registered = Registered { ready: ready.clone(), began: began(ready.pid).unwrap_or_default() };
        let json = serde_json::to_vec_pretty(&registered).map_err(|error| Error::internal(format!("a daemon has no JSON: {error}")))?;
        write_private(&file, &json).map_err(bad)?;
        let endpoint = endpoint.map(|endpoint| (Endpoint::file(dirs), endpoint.clone()));
        if let Some((file, endpoint)) = &endpoint {
            endpoint.write(file)?;
        }
        Ok(Self { file, endpoint })
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // What cannot be removed is found out to be stale by whoever reads it.
        let _ = fs::remove_file(&self.file);
        if let Some((file, endpoint)) = &self.endpoint {
            // Another head may have started since.
            if Endpoint::read(file).is_ok_and(|left| left.as_ref() == Some(endpoint)) {
                let _ = fs::remove_file(file);
            }
        }
    }
}

/// The daemons that run here; files of those that are gone are removed.
pub(crate) fn registered(dirs: &Dirs) -> Vec<Registered> {
    let entries = fs::read_dir(dirs.runtime.join("daemons")).into_iter().flatten().flatten();
    let read = |path: &Path| serde_json::from_slice::<Registered>(&fs::read(path).ok()?).ok();
    let mut daemons = Vec::new();
    for path in entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|extension| extension == "json")) {
        match read(&path) {
            Some(daemon) if daemon.runs() => daemons.push(daemon),
            _ => drop(fs::remove_file(&path)),
        }
    }
    daemons.sort_by_key(|daemon| daemon.ready.pid);
    daemons
}

/// When a process began: the 22nd field of its `stat`; its name, in brackets before, may hold anything.
fn began(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let after_name = stat.rsplit_once(')')?.1;
    after_name.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_began_once() {
        let ours = began(std::process::id());
        assert!(ours.is_some_and(|ticks| ticks > 0));
        assert_eq!(ours, began(std::process::id()));
        assert_eq!(began(u32::MAX), None);
    }
}
