//! One command: started, watched, and ended by its deadline at the latest.

use std::{
    ffi::OsStr,
    fmt,
    io::{Read, Write},
    os::unix::process::{CommandExt, ExitStatusExt},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::Value;

use super::{DEADLINE, Home, within};

/// A command that is not started yet.
#[must_use = "nothing runs before `run` or `spawn`"]
pub(crate) struct Run<'a> {
    home: &'a Home,
    command: Command,
    stdin: Stdin,
    deadline: Duration,
}

/// What a command reads.
enum Stdin {
    Nothing,
    Bytes(Vec<u8>),
    /// Nothing comes, and it does not end.
    Endless,
}

impl<'a> Run<'a> {
    pub(crate) fn new(home: &'a Home, program: &str, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        let mut command = Command::new(program);
        // Nothing of the environment that the tests were started in, but where programs and temporary files are.
        command.env_clear().args(args).current_dir(home.work());
        command.envs(["PATH", "TMPDIR"].into_iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        command.envs(home.variables());
        // A group of its own, so that all it starts can be killed with it, and Ctrl-C at the tests is not its.
        command.process_group(0);
        Self { home, command, stdin: Stdin::Nothing, deadline: DEADLINE }
    }

    /// Further arguments.
    pub(crate) fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(args);
        self
    }

    /// A variable of its environment.
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Its working directory.
    pub(crate) fn cwd(mut self, dir: impl AsRef<Path>) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// What it reads from standard input; without this, nothing.
    pub(crate) fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Stdin::Bytes(bytes.into());
        self
    }

    /// Standard input that waits for somebody to type.
    pub(crate) fn endless_stdin(mut self) -> Self {
        self.stdin = Stdin::Endless;
        self
    }

    /// With what compilers need of the environment that the tests were started in.
    pub(crate) fn with_tools(mut self) -> Self {
        self.command.env("HOME", std::env::var_os("HOME").unwrap_or_default());
        let tools = std::env::vars_os().filter(|(name, _)| {
            let name = name.to_string_lossy();
            ["CARGO_HOME", "RUSTUP_", "GUEST_TOOLCHAIN", "XDG_CACHE_HOME", "CARGO_NET", "CARGO_HTTP", "http", "HTTP", "SSL_"]
                .iter()
                .any(|tool| name.starts_with(tool))
        });
        self.command.envs(tools);
        self
    }

    /// How long it may take; [`DEADLINE`] without this.
    pub(crate) fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Runs it to its end.
    pub(crate) fn run(self) -> Output {
        self.spawn().wait()
    }

    /// Starts it.
    pub(crate) fn spawn(mut self) -> Running {
        let shown = shown(self.home, &self.command);
        let stdin = if matches!(self.stdin, Stdin::Nothing) { Stdio::null() } else { Stdio::piped() };
        self.command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().unwrap_or_else(|error| panic!("{shown}: {error}"));
        let stdout = Captured::read(child.stdout.take().unwrap());
        let stderr = Captured::read(child.stderr.take().unwrap());
        if let Stdin::Bytes(bytes) = self.stdin
            && let Some(mut stdin) = child.stdin.take()
        {
            // On a thread: it may print before it has read all. It may also end without reading.
            thread::spawn(move || stdin.write_all(&bytes));
        }
        Running { shown, child: Some(child), stdout, stderr, deadline: self.deadline }
    }
}

fn shown(home: &Home, command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args()).map(|word| word.to_string_lossy().into_owned());
    home.tidy(&words.collect::<Vec<_>>().join(" "))
}

/// What a stream has given so far.
#[derive(Debug)]
struct Captured {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Captured {
    fn read(mut stream: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let written = Arc::clone(&bytes);
        let reader = thread::spawn(move || {
            let mut buffer = vec![0; 64 << 10];
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                written.lock().extend_from_slice(&buffer[..count]);
            }
        });
        Self { bytes, reader }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock()).into_owned()
    }
}

/// A command that runs.
#[derive(Debug)]
pub(crate) struct Running {
    shown: String,
    /// There until it has ended.
    child: Option<Child>,
    stdout: Captured,
    stderr: Captured,
    deadline: Duration,
}

impl Running {
    /// Its process number.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().map(Child::id).expect("it has not been waited for")
    }

    /// Sends it a signal; Ctrl-C is `Signal::INT`.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.raw_pid(), signal).unwrap_or_else(|error| panic!("{}: {error}", self.shown));
    }

    fn raw_pid(&self) -> Pid {
        Pid::from_child(self.child.as_ref().expect("it has not been waited for"))
    }

    /// What it has printed so far.
    pub(crate) fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// What it has said on standard error so far.
    pub(crate) fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Waits until standard output holds a text.
    pub(crate) fn until_stdout(&mut self, text: &str) -> &mut Self {
        self.until(text, |running| running.stdout().contains(text))
    }

    /// Waits until standard error holds a text.
    pub(crate) fn until_stderr(&mut self, text: &str) -> &mut Self {
        self.until(text, |running| running.stderr().contains(text))
    }

    fn until(&mut self, text: &str, holds: impl Fn(&Self) -> bool) -> &mut Self {
        let deadline = self.deadline;
        let found = within(deadline, || {
            // Asked before the look: what an ended process printed is all there once its output has ended.
            let ended = self.stdout.reader.is_finished() && self.stderr.reader.is_finished();
            if holds(self) { Some(true) } else { ended.then_some(false) }
        });
        if found != Some(true) {
            let why = if found.is_none() { "did not come in time" } else { "did not come before its output ended" };
            panic!("{text:?} {why}\n{}", self.so_far());
        }
        self
    }

    /// Whether it still runs.
    pub(crate) fn runs(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    /// Waits for its end; kills it and panics when that does not come in time.
    pub(crate) fn wait(mut self) -> Output {
        let Some(status) = within(self.deadline, || self.child.as_mut().and_then(|child| child.try_wait().unwrap())) else {
            let so_far = self.so_far();
            panic!("not ended within {:?}\n{so_far}", self.deadline);
        };
        let closed = || (self.stdout.reader.is_finished() && self.stderr.reader.is_finished()).then_some(());
        if within(DEADLINE, closed).is_none() {
            panic!("it ended, but something that it started still holds its output\n{}", self.so_far());
        }
        self.child = None;
        let bytes = |captured: &Captured| std::mem::take(&mut *captured.bytes.lock());
        Output { command: self.shown.clone(), status, stdout: bytes(&self.stdout), stderr: bytes(&self.stderr) }
    }

    fn so_far(&self) -> String {
        format!("$ {}\n--- stdout\n{}\n--- stderr\n{}", self.shown, self.stdout(), self.stderr())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // A test that failed, or that needs no more of it.
            let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
            let _ = child.wait();
        }
    }
}

/// How a command ended, with all it printed.
#[derive(Clone)]
pub(crate) struct Output {
    command: String,
    status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "$ {}\n({})\n--- stdout\n{}\n--- stderr\n{}", self.command, self.status, self.stdout(), self.stderr())
    }
}

impl Output {
    /// Its exit status, as a shell has it: 128 and the number for a signal.
    pub(crate) fn code(&self) -> i32 {
        self.status.code().or_else(|| self.status.signal().map(|signal| 128 + signal)).expect("it ended")
    }

    /// Standard output as text.
    pub(crate) fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard error as text.
    pub(crate) fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// It succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        self.exits(0)
    }

    /// It ended with this status.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert!(self.code() == code, "the exit status is {}, not {code}\n{self:?}", self.code());
        self
    }

    /// It ended with this status, and the last error it reported in a line has this code.
    #[track_caller]
    pub(crate) fn fails(self, exit: i32, code: &str) -> Self {
        let output = self.exits(exit);
        let stderr = output.stderr();
        let last = stderr.lines().rev().find(|line| line.starts_with("error"));
        assert!(last.is_some_and(|line| line.starts_with(&format!("error[{code}]: "))), "no error[{code}]\n{output:?}");
        output
    }

    /// It printed exactly this.
    #[track_caller]
    pub(crate) fn prints(self, text: &str) -> Self {
        assert!(self.stdout() == text, "standard output is not {text:?}\n{self:?}");
        self
    }

    /// Standard output holds this.
    #[track_caller]
    pub(crate) fn has(self, text: &str) -> Self {
        assert!(self.stdout().contains(text), "standard output has no {text:?}\n{self:?}");
        self
    }

    /// Standard error holds this.
    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Self {
        assert!(self.stderr().contains(text), "standard error has no {text:?}\n{self:?}");
        self
    }

    /// Standard error is empty.
    #[track_caller]
    pub(crate) fn quiet(self) -> Self {
        assert!(self.stderr.is_empty(), "standard error is not empty\n{self:?}");
        self
    }

    /// Standard output as one JSON value.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|error| panic!("standard output is no JSON: {error}\n{self:?}"))
    }

    /// Standard output as lines of JSON.
    #[track_caller]
    pub(crate) fn json_lines(&self) -> Vec<Value> {
        let line = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line:?} is no JSON: {error}\n{self:?}"));
        self.stdout().lines().map(line).collect()
    }

    /// The error that `--json` reports, which is the last line of standard error.
    #[track_caller]
    pub(crate) fn json_error(&self) -> Value {
        let stderr = self.stderr();
        let last = stderr.lines().last().unwrap_or_default();
        let mut error: Value = serde_json::from_str(last).unwrap_or_else(|error| panic!("{last:?} is no JSON: {error}\n{self:?}"));
        error["error"].take()
    }
}
