//! Names what ended a guest: turns wasmtime's errors into ours, with code, cause and the guest's own frames.

use rwasm_types::{Code, Error, format_bytes};
use wasmtime::{GcHeapOutOfMemory, Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use crate::{limit::Reached, store::Host};

/// How an attempt ended, where it did not return.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The guest called `exit` with this status.
    Exit(i32),
    /// Anything else.
    Error(Error),
}

/// Guest frames that are kept, innermost first.
const FRAMES_MAX: usize = 16;
/// The most bytes of a frame's name, which the guest chose.
const FRAME_BYTES_MAX: usize = 160;

pub(crate) fn ended(error: &wasmtime::Error, host: &Host) -> Ended {
    if let Some(exit) = error.downcast_ref::<I32Exit>() {
        return Ended::Exit(exit.0);
    }
    if let Some(reached) = error.downcast_ref::<Reached>() {
        return Ended::Error((*reached).into());
    }
    if let (true, Some(reached)) = (error.is::<GcHeapOutOfMemory<()>>(), host.limiter.refused()) {
        // The heap of collected objects tries to grow and does without; that it was our limit is lost on the way.
        return Ended::Error(reached.into());
    }
    let frames = frames(error);
    let with_frames = |error: Error| if frames.is_empty() { error } else { error.with("frames", frames.join("\n")) };
    let place = frames.first().map(|name| format!(" in `{name}`")).unwrap_or_default();
    let cause = error.root_cause().to_string();
    // wasmtime keeps this type to itself.
    if cause.contains("fuel allocated for hostcalls has been exhausted") {
        let message = format!("the guest handed over more than its limit of {} in one call", format_bytes(host.budget.limits.result_bytes));
        return Ended::Error(with_frames(Error::new(Code::RESULT_TOO_LARGE, message).hint("raise it with --max-result")));
    }
    Ended::Error(with_frames(match error.downcast_ref::<Trap>() {
        Some(Trap::StackOverflow) => Error::new(Code::STACK_OVERFLOW, format!("the guest used up its stack{place}"))
            .hint("look for endless recursion; the stack is set where the node starts, with --stack"),
        Some(Trap::UnreachableCodeReached) => Error::new(Code::TRAP, format!("the guest trapped{place}: unreachable code was reached"))
            .hint("a panic or abort ends this way; its message is on standard error"),
        Some(trap) => {
            let text = trap.to_string();
            Error::new(Code::TRAP, format!("the guest trapped{place}: {}", text.strip_prefix("wasm trap: ").unwrap_or(&text)))
        }
        // The guest broke the canonical ABI, or a host function refused it.
        None => Error::new(Code::TRAP, format!("the guest trapped{place}: {cause}")),
    }))
}

fn frames(error: &wasmtime::Error) -> Vec<String> {
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else { return Vec::new() };
    let name = |frame: &wasmtime::FrameInfo| match frame.func_name() {
        Some(name) => {
            let name = demangle(name);
            name.chars().filter(|c| !c.is_control()).take(FRAME_BYTES_MAX).collect()
        }
        None => format!("function {}", frame.func_index()),
    };
    backtrace.frames().iter().take(FRAMES_MAX).map(name).collect()
}

/// A function's name as its author wrote it.
fn demangle(name: &str) -> String {
    rustc_demangle::try_demangle(name).map_or_else(|_| name.to_owned(), |name| format!("{name:#}"))
}

/// The error of an instantiation that wasmtime refused.
pub(crate) fn instantiation(error: &wasmtime::Error) -> Option<Error> {
    error.is::<wasmtime::PoolConcurrencyLimitError>().then(|| {
        Error::new(Code::NO_CAPACITY, format!("the node has no room for another instance: {error}"))
            .hint("let fewer tasks run at once, or start the node with more --instances")
    })
}
