//! What the kernel says of processes that are not our children.

use std::fs;

use rustix::process::{Pid, Signal};

/// One process for ever: its number, and when it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    began: u64,
}

impl Process {
    /// The process of a number, if it runs. One that has ended and that nobody has waited for does not, once its last thread has ended too:
    /// that one closes its ports.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let stat = stat(pid)?;
        (!matches!(stat.state, 'Z' | 'X') || stat.threads > 1).then_some(Self { pid, began: stat.began })
    }

    /// Whether this very process still runs.
    pub(crate) fn runs(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Sends a signal, if it still runs.
    pub(crate) fn signal(self, signal: Signal) {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw).expect("a process number");
        if self.runs() {
            // It may end in between.
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    /// Stops it, and waits until none of its threads runs.
    pub(crate) fn pause(self) {
        self.signal(Signal::STOP);
        super::eventually("a process is stopped", || {
            let threads = fs::read_dir(format!("/proc/{}/task", self.pid)).ok()?.flatten();
            let mut stats = threads.filter_map(|thread| fs::read_to_string(thread.path().join("stat")).ok());
            stats.all(|stat| stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('T'))).then_some(())
        });
    }

    /// Its arguments, for messages.
    pub(crate) fn command(self) -> String {
        let bytes = fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).trim_end_matches('\0').replace('\0', " ")
    }
}

/// Every process that runs in one of these sessions: a daemon leads one, and what it starts stays in it.
pub(crate) fn in_sessions(leaders: &[u32]) -> Vec<Process> {
    all().filter(|pid| stat(*pid).is_some_and(|stat| leaders.contains(&stat.session))).filter_map(Process::of).collect()
}

/// Every process whose environment holds this text.
pub(crate) fn with_environment(text: &str) -> Vec<Process> {
    let holds = |pid: &u32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == text.as_bytes())
    };
    all().filter(holds).filter_map(Process::of).collect()
}

/// Whether a process handles a signal by now.
pub(crate) fn catches(pid: u32, signal: Signal) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or_default();
    u64::from_str_radix(mask.trim(), 16).is_ok_and(|mask| mask >> (signal.as_raw() - 1) & 1 == 1)
}

/// The children of a process.
pub(crate) fn children(parent: u32) -> Vec<Process> {
    all().filter(|pid| stat(*pid).is_some_and(|stat| stat.parent == parent)).filter_map(Process::of).collect()
}

fn all() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

struct Stat {
    state: char,
    parent: u32,
    session: u32,
    threads: u32,
    began: u64,
}

/// `/proc/PID/stat`. The second field is the name, in brackets, and may hold anything.
fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    Some(Stat {
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        session: fields.get(3)?.parse().ok()?,
        threads: fields.get(17)?.parse().ok()?,
        began: fields.get(19)?.parse().ok()?,
    })
}
