//! The parent's side of a compile worker: starts it, waits no longer than allowed, and names what ended it.

use std::{fs, io, os::unix::process::ExitStatusExt, path::Path, process::Stdio, time::Duration};

use rwasm_types::{Code, Error, Result, format_bytes, format_duration};
use rwasm_values::ArtifactInfo;
use tokio::{io::AsyncReadExt, process::Command, time::timeout};

use super::{CompileOptions, worker};

/// What a child is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Goal {
    /// Machine code, and what the artifact offers.
    Code,
    /// What the artifact offers.
    Info,
}

/// How much of a child's last words is kept.
const STDERR_BYTES_MAX: u64 = 64 << 10;

/// What the allocator of this program may reserve ahead, in KiB. By itself it takes a gibibyte of addresses before a worker can limit
/// anything, and every smaller limit would then be exceeded from the start. Other allocators do not know the variable.
const ALLOCATOR: (&str, &str) = ("MIMALLOC_ARENA_RESERVE", "16384");

/// The exit status of a Rust program that panicked.
const PANICKED: i32 = 101;

/// Linux's numbers of the signals that a limit ends in.
const SIGABRT: i32 = 6;
const SIGKILL: i32 = 9;
const SIGXCPU: i32 = 24;
const SIGXFSZ: i32 = 25;

/// Has a child work on `bytes` in `scratch`, and reads what the artifact offers.
pub(crate) async fn compile(options: &CompileOptions, scratch: &Path, bytes: &[u8], goal: Goal) -> Result<ArtifactInfo> {
    // The scratch directory will be gone when somebody reads this.
    let full = |error: io::Error| disk_error(&error, scratch.parent().unwrap_or(scratch));
    tokio::fs::write(scratch.join(worker::INPUT), bytes).await.map_err(full)?;
    let outcome = run(options, scratch, goal).await?;
    // The input may be large, and the scratch directory lives on as a cache entry for a moment.
    let _ = fs::remove_file(scratch.join(worker::INPUT));
    match outcome {
        End::Exited(0) => read_json(&scratch.join(worker::INFO)),
        End::Exited(code) if code == i32::from(worker::EXIT_REFUSED) => {
            let error: Error = read_json(&scratch.join(worker::ERROR))?;
            Err(if error.code() == Code::COMPILE_MEMORY { out_of_memory(options) } else { error })
        }
        End::Exited(code) if code == i32::from(worker::EXIT_DISK_FULL) => Err(full(io::Error::from(io::ErrorKind::StorageFull))),
        End::Overdue => Err(overdue(options)),
        End::Killed(signal, stderr) => Err(killed(options, signal, &stderr)),
        End::Failed(stderr) if worker::is_out_of_memory(&stderr) => Err(out_of_memory(options)),
        End::Failed(stderr) => Err(failed(&stderr)),
        End::Exited(code) => Err(failed(&format!("exit status {code}"))),
    }
}

enum End {
    Exited(i32),
    Overdue,
    Killed(i32, String),
    Failed(String),
}

async fn run(options: &CompileOptions, scratch: &Path, goal: Goal) -> Result<End> {
    let limits = &options.limits;
    let Some((program, arguments)) = options.worker.split_first() else {
        return Err(Error::internal("no compile worker was configured"));
    };
    // Processor time is the second line of defence, for a parent that died: as if all cores had worked all of the allowed time.
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let cpu_seconds = limits.time.as_secs().max(1).saturating_mul(cores);
    let mut child = Command::new(program)
        .args(arguments)
        .arg(format!("--memory={}", limits.memory_bytes))
        .arg(format!("--cpu-seconds={cpu_seconds}"))
        .arg(format!("--output-bytes={}", limits.output_bytes))
        .arg(format!("--parent={}", std::process::id()))
        .args((goal == Goal::Code).then_some("--code"))
        .env_clear()
        .env(ALLOCATOR.0, ALLOCATOR.1)
        .current_dir(scratch)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| Error::new(Code::COMPILE_FAILED, format!("cannot start {}: {error}", program.display())))?;
    let mut last_words = Vec::new();
    let pipe = child.stderr.take();
    let finish = async {
        if let Some(pipe) = pipe {
            let _ = pipe.take(STDERR_BYTES_MAX).read_to_end(&mut last_words).await;
        }
        child.wait().await
    };
    let status = match timeout(limits.time, finish).await {
        Ok(status) => status.map_err(|error| Error::internal(format!("cannot wait for a compile worker: {error}")))?,
        Err(_elapsed) => {
            let _ = timeout(Duration::from_secs(5), child.kill()).await;
            return Ok(End::Overdue);
        }
    };
    let stderr = String::from_utf8_lossy(&last_words).trim().to_owned();
    Ok(match (status.code(), status.signal()) {
        (Some(PANICKED), _) => End::Failed(stderr),
        (Some(code), _) => End::Exited(code),
        (None, Some(signal)) => End::Killed(signal, stderr),
        (None, None) => End::Failed(stderr),
    })
}

fn overdue(options: &CompileOptions) -> Error {
    let message = format!("compiling took longer than {}", format_duration(options.limits.time));
    Error::new(Code::COMPILE_TIME, message).hint("split the artifact, or start the node with a larger --compile-timeout")
}

fn killed(options: &CompileOptions, signal: i32, stderr: &str) -> Error {
    match signal {
        SIGXCPU => overdue(options),
        SIGXFSZ => worker::too_much_code(options.limits.output_bytes),
        // The allocator aborts where the address space ends; the kernel kills where the container's memory does.
        SIGABRT if worker::is_out_of_memory(stderr) => out_of_memory(options),
        SIGKILL => Error::new(Code::COMPILE_MEMORY, "the artifact needed more memory to compile than this machine or container has")
            .hint("free memory, or split the artifact"),
        _ => failed(&format!("signal {signal}; {stderr}")),
    }
}

fn out_of_memory(options: &CompileOptions) -> Error {
    let limit = format_bytes(options.limits.memory_bytes);
    Error::new(Code::COMPILE_MEMORY, format!("the artifact needs more than {limit} of memory to compile"))
        .hint("split the artifact, or start the node with a larger --compile-memory")
}

fn failed(stderr: &str) -> Error {
    let last: String = stderr.lines().take(3).collect::<Vec<_>>().join("; ");
    Error::new(Code::COMPILE_FAILED, format!("the compile worker failed: {last}")).hint("please report this with the artifact")
}

/// The error of a cache directory that cannot be written.
pub(crate) fn disk_error(error: &io::Error, path: &Path) -> Error {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Error::new(Code::DISK_FULL, format!("no space is left for the compile cache in {}", path.display()))
                .hint("free some, or choose another directory with RWASM_CACHE_DIR")
        }
        _ => Error::new(Code::IO, format!("cannot use the compile cache in {}: {error}", path.display()))
            .hint("choose another directory with RWASM_CACHE_DIR"),
    }
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let bytes = fs::read(path).map_err(|error| disk_error(&error, path))?;
    serde_json::from_slice(&bytes).map_err(|error| Error::internal(format!("a compile worker left {}: {error}", path.display())))
}
