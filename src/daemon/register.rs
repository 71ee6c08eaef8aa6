//! What runs here: each daemon leaves a file with its process, so that `stop` and drivers of this user find it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rwasm_client::Endpoint;
use rwasm_runtime::{Dirs, NEW_PREFIX, create_private_dir, write_private};
use rwasm_types::{Code, Error, Result};
use serde::{Deserialize, Serialize};

use super::{
    Ready,
    health::{self, Health},
};

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
    /// Where it says how it is.
    pub(super) socket: PathBuf,
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
        Ok(Self { socket: health::socket(&dir, ready.pid), file, endpoint })
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // What cannot be removed is found out to be stale by whoever reads it.
        let _ = fs::remove_file(&self.file);
        let _ = fs::remove_file(&self.socket);
        if let Some((file, endpoint)) = &self.endpoint {
            // Another head may have started since.
            if Endpoint::read(file).is_ok_and(|left| left.as_ref() == Some(endpoint)) {
                let _ = fs::remove_file(file);
            }
        }
    }
}

/// Asks a daemon that runs here how it is.
///
/// # Errors
///
/// [`Code::UNWELL`] if it does not answer.
pub(crate) async fn ask_health(dirs: &Dirs, pid: u32) -> Result<Health> {
    health::ask(&health::socket(&dirs.runtime.join("daemons"), pid)).await
}

/// What daemons of this user left here.
#[derive(Debug, Default)]
pub(crate) struct Here {
    /// Those that run.
    pub(crate) running: Vec<Registered>,
    /// Those that ended without clearing up. What they left is removed by now.
    pub(crate) gone: Vec<Registered>,
}

/// The daemons that run here; what those that are gone left is removed.
pub(crate) fn registered(dirs: &Dirs) -> Here {
    let dir = dirs.runtime.join("daemons");
    rwasm_runtime::remove_leftovers(&dir, |name| name.starts_with(NEW_PREFIX));
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let read = |path: &Path| serde_json::from_slice::<Registered>(&fs::read(path).ok()?).ok();
    let mut here = Here::default();
    for path in entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|extension| extension == "json")) {
        match read(&path) {
            Some(daemon) if daemon.runs() => here.running.push(daemon),
            daemon => {
                let _ = fs::remove_file(&path);
                let _ = fs::remove_file(path.with_extension("sock"));
                here.gone.extend(daemon);
            }
        }
    }
    let endpoint = Endpoint::file(dirs);
    // Another head may have left one since.
    let left = Endpoint::read(&endpoint).ok().flatten().map(|endpoint| endpoint.address);
    if left.is_some() && here.gone.iter().any(|daemon| daemon.ready.gateway_address == left) {
        let _ = fs::remove_file(&endpoint);
    }
    here.running.sort_by_key(|daemon| daemon.ready.pid);
    here
}

/// When a process began, if it still runs.
fn began(pid: u32) -> Option<u64> {
    began_by(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The 22nd field of a process's `stat`; its name, in brackets before, may hold anything. One that has ended and waits for its parent to
/// notice has a `stat` too: a container's first process may never notice. It has not ended before its last thread, which closes its ports.
fn began_by(stat: &str) -> Option<u64> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let (state, threads, began) = (fields.first()?, fields.get(17)?, fields.get(19)?.parse().ok()?);
    let ended = matches!(*state, "Z" | "X") && matches!(*threads, "0" | "1");
    (!ended).then_some(began)
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

    #[test]
    fn what_has_ended_does_not_run() {
        let stat =
            |state: char, threads: u32| format!("7 (a) Z (b) {state} 1 7 7 0 -1 4194560 1 0 0 0 2 3 0 0 20 0 {threads} 0 4711 0 0 1844");
        assert_eq!(began_by(&stat('S', 9)), Some(4711));
        assert_eq!(began_by(&stat('Z', 1)), None);
        assert_eq!(began_by(&stat('Z', 2)), Some(4711), "its other threads are still ending");
        assert_eq!(began_by("garbage"), None);
    }
}
