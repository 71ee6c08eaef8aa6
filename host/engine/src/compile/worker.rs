//! The inside of a compile worker: a child process that first gives up what it does not need and then touches hostile bytes.
//!
//! It finds `in.wasm` in its working directory, a scratch directory of its own, and leaves there `info.json` and, if asked, `out.cwasm`,
//! or `error.json`. Its environment is empty but for the allocator's settings, and it inherits no descriptors but standard error.

use std::{fs, io, process::ExitCode};

use rustix::process::{Resource, Rlimit, Signal, getppid, set_parent_process_death_signal, setrlimit};
use rwasm_artifact::AnalyseLimits;
use rwasm_types::{Code, Error, Result, format_bytes};
use rwasm_values::{ArtifactInfo, Profile};

use crate::config;

/// What the parent writes.
pub(crate) const INPUT: &str = "in.wasm";
/// What the artifact offers, as JSON.
pub(crate) const INFO: &str = "info.json";
/// The machine code.
pub(crate) const CODE: &str = "out.cwasm";
/// Why there is none.
pub(crate) const ERROR: &str = "error.json";
/// The exit status that says that `error.json` was written.
pub(crate) const EXIT_REFUSED: u8 = 3;
/// The exit status that says that the disk is full; nothing could be written.
pub(crate) const EXIT_DISK_FULL: u8 = 4;

/// What the command line of a compile worker says.
#[derive(Clone, Copy, Debug)]
pub struct WorkerOptions {
    /// Address space, in bytes.
    pub memory_bytes: u64,
    /// Processor time of all threads together, in seconds.
    pub cpu_seconds: u64,
    /// The largest file it may write, in bytes.
    pub output_bytes: u64,
    /// Whether machine code is wanted, or only what the artifact offers.
    pub code: bool,
    /// The process that started it.
    pub parent: u32,
}

/// Runs a compile worker in the current directory; to be called first thing in a process made for it.
pub fn run(options: &WorkerOptions) -> ExitCode {
    let outcome = confine(options).and_then(|()| work(options));
    let Err(error) = outcome else { return ExitCode::SUCCESS };
    if error.code() == Code::DISK_FULL {
        return EXIT_DISK_FULL.into();
    }
    let written = serde_json::to_vec(&error).map_err(io::Error::other).and_then(|json| fs::write(ERROR, json));
    if written.is_ok() { EXIT_REFUSED.into() } else { EXIT_DISK_FULL.into() }
}

/// Gives up memory, time, the network, other processes and other programs.
fn confine(options: &WorkerOptions) -> Result<()> {
    // The signal that names the processor time as the cause comes at the lower of its two limits, and at the upper one only SIGKILL.
    let limits = [
        (Resource::As, options.memory_bytes, options.memory_bytes),
        (Resource::Cpu, options.cpu_seconds, options.cpu_seconds.saturating_add(5)),
        (Resource::Fsize, options.output_bytes, options.output_bytes),
        (Resource::Core, 0, 0),
        (Resource::Nofile, 64, 64),
    ];
    for (resource, current, maximum) in limits {
        setrlimit(resource, Rlimit { current: Some(current), maximum: Some(maximum) })
            .map_err(|error| Error::internal(format!("cannot limit {resource:?} of a compile worker: {error}")))?;
    }
    // Whoever was killed cannot end its children, and nobody waits for this any more.
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| Error::internal(format!("a compile worker cannot end with its parent: {error}")))?;
    // It may have been killed before that was said.
    if getppid().is_none_or(|parent| parent.as_raw_pid().unsigned_abs() != options.parent) {
        return Err(Error::new(Code::COMPILE_FAILED, "whoever started the compile worker is gone"));
    }
    // Where memory runs out for the whole machine or container, this process goes first. Without /proc there is nobody to tell.
    let _ = fs::write("/proc/self/oom_score_adj", "1000");
    forbid_system_calls().map_err(|error| Error::internal(format!("cannot confine a compile worker: {error}")))
}

/// Refuses system calls that compiling has no use for. Threads and files of the scratch directory stay.
fn forbid_system_calls() -> Result<(), seccompiler::Error> {
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
    // Numbers of x86-64, the one architecture we build for; by name they would need the libc crate, which this room does without.
    const FORBIDDEN: &[(i64, &str)] = &[
        (41, "socket"),
        (42, "connect"),
        (43, "accept"),
        (49, "bind"),
        (50, "listen"),
        (53, "socketpair"),
        (57, "fork"),
        (58, "vfork"),
        (59, "execve"),
        (62, "kill"),
        (101, "ptrace"),
        (161, "chroot"),
        (165, "mount"),
        (272, "unshare"),
        (308, "setns"),
        (310, "process_vm_readv"),
        (311, "process_vm_writev"),
        (321, "bpf"),
        (322, "execveat"),
        (425, "io_uring_setup"),
    ];
    const EPERM: u32 = 1;
    let rules = FORBIDDEN.iter().map(|(number, _)| (*number, Vec::new())).collect();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(EPERM), std::env::consts::ARCH.try_into()?)?;
    let program: BpfProgram = filter.try_into()?;
    seccompiler::apply_filter_all_threads(&program)
}

fn work(options: &WorkerOptions) -> Result<()> {
    let bytes = fs::read(INPUT).map_err(|error| {
        let code = if error.kind() == io::ErrorKind::OutOfMemory { Code::COMPILE_MEMORY } else { Code::IO };
        Error::new(code, format!("cannot read the artifact: {error}"))
    })?;
    let artifact = rwasm_artifact::analyse(&bytes, &AnalyseLimits::default())?;
    drop(bytes);
    if options.code {
        let code = compile(&artifact.info, &artifact.component)?;
        if code.len() as u64 > options.output_bytes {
            return Err(too_much_code(options.output_bytes));
        }
        write(CODE, &code)?;
    }
    let info = serde_json::to_vec(&artifact.info).map_err(|error| Error::internal(format!("an artifact's face has no JSON: {error}")))?;
    write(INFO, &info)
}

fn compile(info: &ArtifactInfo, component: &[u8]) -> Result<Vec<u8>> {
    let engine = compiler(info.profile)?;
    engine.precompile_component(component).map_err(|error| {
        let message = format!("the artifact does not compile: {error:#}");
        // The parent knows the limit and says it.
        let code = if is_out_of_memory(&message) { Code::COMPILE_MEMORY } else { Code::COMPILE_FAILED };
        Error::new(code, message).hint("check it with `wasm-tools validate`")
    })
}

/// Whether a worker's last words tell that it was refused memory: by the allocator, by `mmap`, or for the stack of a thread. All of them
/// end at the limit of the address space.
pub(crate) fn is_out_of_memory(words: &str) -> bool {
    const SAID: &[&str] = &["memory allocation of", "ThreadPoolBuildError", "failed to spawn thread", "os error 11)", "os error 12)"];
    SAID.iter().any(|said| words.contains(said))
}

/// The error of machine code that is larger than what is kept.
pub(crate) fn too_much_code(limit: u64) -> Error {
    Error::new(Code::ARTIFACT_TOO_LARGE, format!("the artifact compiles to more than {} of machine code", format_bytes(limit)))
        .hint("split it, or take data out of it")
}

/// The engine that compiles for a profile.
pub(crate) fn compiler(profile: Profile) -> Result<wasmtime::Engine> {
    wasmtime::Engine::new(&config::config(profile, None))
        .map_err(|error| Error::internal(format!("the {profile:?} compiler does not start: {error:#}")))
}

fn write(name: &str, bytes: &[u8]) -> Result<()> {
    fs::write(name, bytes).map_err(|error| match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::new(Code::DISK_FULL, "no space for machine code"),
        _ => Error::new(Code::IO, format!("cannot write {name}: {error}")),
    })
}
