//! Hostile functions that reach for the world outside, by WASI 0.2. One attack per export, so that one artifact serves many tests.
//!
//! Files go through the standard library where it is what a guest would use, and past it where it would refuse an attack by itself.
//! Sockets go past it always.

mod files;
mod sockets;

use std::{
    env,
    hint::black_box,
    io::{self, Write},
    process, thread,
    time::{Duration, Instant},
};

use wasip2::{
    clocks::monotonic_clock,
    io::poll::{self, Pollable},
};

/// Sleeps so many milliseconds.
#[rwasm::export]
fn sleep_for(milliseconds: u64) {
    thread::sleep(Duration::from_millis(milliseconds));
}

/// Waits for a moment that does not come.
#[rwasm::export]
fn poll_forever() {
    monotonic_clock::subscribe_instant(u64::MAX).block();
}

/// Waits without waiting: polls something that is ready, for ever.
#[rwasm::export]
fn poll_busily() {
    let now = monotonic_clock::subscribe_duration(0);
    loop {
        black_box(poll::poll(&[&now]));
    }
}

/// Makes so many handles that the host has to keep, waits for them all at once, and returns how many were ready.
#[rwasm::export]
fn hoard_handles(count: u32) -> u32 {
    let handles: Vec<Pollable> = (0..count).map(|_| monotonic_clock::subscribe_duration(0)).collect();
    let all: Vec<&Pollable> = handles.iter().collect();
    poll::poll(&all).len() as u32
}

/// Keeps the processor busy for so many milliseconds of the wall clock, and returns how often it looked.
#[rwasm::export]
fn burn(milliseconds: u64) -> u64 {
    let start = Instant::now();
    let mut looks = 0;
    while start.elapsed() < Duration::from_millis(milliseconds) {
        for _ in 0..10_000 {
            black_box(());
        }
        looks += 1;
    }
    looks
}

/// Writes to standard output without end.
#[rwasm::export]
fn flood_stdout() {
    flood(io::stdout());
}

/// Writes to standard error without end.
#[rwasm::export]
fn flood_stderr() {
    flood(io::stderr());
}

fn flood(mut out: impl Write) {
    loop {
        // Errors too: a host that closes the stream is not asked to end the guest as well.
        let _ = out.write_all(b"a line of the flood, and then the next line of the flood, and then the next\n");
    }
}

/// Writes a text to standard output, and returns its length.
#[rwasm::export]
fn print(text: &str) -> Result<u64, io::Error> {
    io::stdout().write_all(text.as_bytes())?;
    io::stdout().flush()?;
    Ok(text.len() as u64)
}

/// Ends the whole guest from within a typed function, which so never returns its result. The standard library tells only whether the
/// status is 0.
#[rwasm::export]
fn exit_with(status: u8) -> u32 {
    process::exit(status.into())
}

/// The same by the function of WASI 0.2.12 that tells the status.
#[rwasm::export]
fn exit_with_code(status: u8) -> u32 {
    wasip2::cli::exit::exit_with_code(status);
    unreachable!("the host went on after an exit")
}

/// Returns the arguments of the guest.
#[rwasm::export]
fn arguments() -> Vec<String> {
    env::args().collect()
}

/// Returns the environment of the guest.
#[rwasm::export]
fn environment() -> Vec<(String, String)> {
    env::vars().collect()
}

/// Returns so many random bytes.
#[rwasm::export]
fn random_bytes(count: u64) -> Vec<u8> {
    wasip2::random::random::get_random_bytes(count)
}
