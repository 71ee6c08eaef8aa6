//! Signals that ask a process to end.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Which signal asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Termination {
    /// Ctrl-C.
    Interrupt,
    /// `kill`, a service manager or a container runtime.
    Terminate,
}

/// Listens for both signals from now on; each call of the returned function waits for the next one.
///
/// # Errors
///
/// If the signals cannot be listened for.
pub fn termination() -> io::Result<impl AsyncFnMut() -> Termination> {
    let mut interrupt: Signal = signal(SignalKind::interrupt())?;
    let mut terminate: Signal = signal(SignalKind::terminate())?;
    Ok(async move || {
        tokio::select! {
            _ = interrupt.recv() => Termination::Interrupt,
            _ = terminate.recv() => Termination::Terminate,
        }
    })
}
