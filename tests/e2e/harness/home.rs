//! The directories of one imaginary user, and the promise that none of its processes outlives them.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    thread,
};

use rustix::process::Signal;
use tempfile::TempDir;

use super::{
    process::{self, Process},
    run::Run,
    text, within,
};

/// A user's directories, apart from everybody else's.
#[derive(Debug)]
pub(crate) struct Home {
    dir: TempDir,
    cache: PathBuf,
}

impl Home {
    /// Directories of its own, with the compile cache that all tests share: it names what it holds by its content, and compiling the
    /// same guests for each test anew would take most of the tests' time.
    pub(crate) fn new() -> Self {
        Self::with_cache(Path::new(env!("CARGO_TARGET_TMPDIR")).join("e2e-cache"))
    }

    /// Directories of its own, also for what is compiled: for tests of compiling itself.
    pub(crate) fn with_own_cache() -> Self {
        let mut home = Self::with_cache(PathBuf::new());
        home.cache = home.dir.path().join("cache");
        home
    }

    fn with_cache(cache: PathBuf) -> Self {
        let dir = tempfile::Builder::new().prefix("rwasm-e2e-").tempdir().unwrap();
        fs::create_dir(dir.path().join("work")).unwrap();
        Self { dir, cache }
    }

    /// `rwasm ARGS…` of this user, in its working directory.
    pub(crate) fn rwasm(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Run<'_> {
        Run::new(self, env!("CARGO_BIN_EXE_rwasm"), args)
    }

    /// Any other program, with the same environment.
    pub(crate) fn command(&self, program: &str, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Run<'_> {
        Run::new(self, program, args)
    }

    /// The variables that make a process one of this user's.
    pub(crate) fn variables(&self) -> [(&'static str, PathBuf); 4] {
        [
            ("HOME", self.dir.path().to_owned()),
            ("RWASM_RUNTIME_DIR", self.runtime()),
            ("RWASM_STATE_DIR", self.state()),
            ("RWASM_CACHE_DIR", self.cache.clone()),
        ]
    }

    /// Where endpoints of running daemons lie.
    pub(crate) fn runtime(&self) -> PathBuf {
        self.dir.path().join("runtime")
    }

    /// Where what must survive lies.
    pub(crate) fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// Where what can be made again lies.
    pub(crate) fn cache(&self) -> &Path {
        &self.cache
    }

    /// Where commands run.
    pub(crate) fn work(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    /// The path of a file in the working directory, as an argument.
    pub(crate) fn path(&self, name: &str) -> String {
        self.work().join(name).to_str().unwrap().to_owned()
    }

    /// Writes a file in the working directory; gives its path, as an argument.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// Reads a file in the working directory.
    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Every process of this user that runs.
    pub(crate) fn processes(&self) -> Vec<Process> {
        process::with_environment(&format!("RWASM_RUNTIME_DIR={}", self.runtime().display()))
    }

    /// A text as snapshots keep it: with names instead of paths, times, durations, digests and ports, which differ from run to run.
    pub(crate) fn tidy(&self, text: &str) -> String {
        text::tidy(&text.replace(self.dir.path().to_str().unwrap(), "HOME"))
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let left = self.processes();
        if left.is_empty() {
            return;
        }
        let commands: Vec<String> = left.iter().map(|process| format!("{} {}", process.pid, process.command())).collect();
        for process in &left {
            process.signal(Signal::KILL);
        }
        let all_gone = within(super::DEADLINE, || left.iter().all(|process| !process.runs()).then_some(())).is_some();
        if !thread::panicking() {
            panic!("left running, and {} now: {commands:#?}", if all_gone { "killed" } else { "not to be killed" });
        }
    }
}
