//! Hostile functions that need nothing but a processor and memory. One attack per export, so that one artifact serves many tests.
//!
//! `black_box` stands wherever the optimiser would see that an attack computes nothing. Traps that no compiler emits are in `wat/`.

use std::{arch::wasm32, hint::black_box};

/// Loops for ever.
#[rwasm::export]
fn spin() {
    loop {
        black_box(());
    }
}

/// Recurses without end, with a small frame.
#[rwasm::export]
fn recurse() -> u64 {
    descend(0)
}

#[expect(unconditional_recursion, reason = "that is the attack")]
fn descend(depth: u64) -> u64 {
    black_box(descend(black_box(depth + 1))) + 1
}

/// Allocates and touches memory without end, a mebibyte at a time, and aborts when it gets no more.
#[rwasm::export]
fn allocate() {
    loop {
        std::mem::forget(black_box(vec![1u8; 1 << 20]));
    }
}

/// Asks for memory without end, a page at a time, and goes on asking when it gets no more.
#[rwasm::export]
fn grow_memory() {
    loop {
        black_box(wasm32::memory_grow::<0>(1));
    }
}

/// Asks for the whole address space at once, and returns whether it got it.
#[rwasm::export]
fn grow_memory_at_once() -> bool {
    wasm32::memory_grow::<0>(65_536 - wasm32::memory_size::<0>()) != usize::MAX
}

/// Fills a region of so many mebibytes so many times. Each time is one instruction.
#[rwasm::export]
fn fill_memory(mebibytes: u32, times: u32) {
    let mut region = vec![0u8; mebibytes as usize * (1 << 20)];
    for time in 0..times {
        black_box(&mut region).fill(time as u8);
    }
}

/// Computes for so many rounds, about a nanosecond each, and returns what cannot be foreseen.
#[rwasm::export]
fn work(rounds: u64) -> u64 {
    (0..rounds).fold(0x9e37_79b9_7f4a_7c15, |state: u64, round| (state ^ round).wrapping_mul(0xbf58_476d_1ce4_e5b9).rotate_left(31))
}

/// Writes to a global, and returns what it held before: always 0, unless somebody ran here earlier.
#[rwasm::export]
fn canary(value: u64) -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};

    static GLOBAL: AtomicU64 = AtomicU64::new(0);
    GLOBAL.swap(value, Ordering::Relaxed)
}

/// Writes log lines without end.
#[rwasm::export]
fn flood_log() {
    loop {
        rwasm::log::info!("a line of the flood, and then the next line of the flood, and then the next");
    }
}

/// Writes one log line of so many bytes.
#[rwasm::export]
fn log_bytes(count: u32) {
    rwasm::log::info!("{}", "x".repeat(count as usize));
}

/// Writes a log line that moves the cursor, clears the screen, sets the title and forges a second line.
#[rwasm::export]
fn log_controls() {
    rwasm::log::warn!("\x1b[2J\x1b[H\x1b]0;owned\x07\r\nforged: all is well\u{202e}\u{0}\u{9b}31m");
}

/// Panics with a message.
#[rwasm::export]
fn panic(message: &str) {
    panic!("{message}");
}

/// Returns its error case.
#[rwasm::export]
fn fail(message: String) -> Result<(), String> {
    Err(message)
}

/// Returns a list of so many bytes.
#[rwasm::export]
fn return_bytes(count: u32) -> Vec<u8> {
    vec![0xa5; count as usize]
}

/// Returns a text of so many bytes.
#[rwasm::export]
fn return_text(count: u32) -> String {
    "x".repeat(count as usize)
}

/// Returns a list of so many numbers, which a host may handle one by one.
#[rwasm::export]
fn return_numbers(count: u32) -> Vec<u64> {
    vec![u64::MAX; count as usize]
}

/// Returns a list of so many empty lists: eight bytes each for the guest, and many more for a host that keeps each as an object.
#[rwasm::export]
fn return_lists(count: u32) -> Vec<Vec<u8>> {
    vec![Vec::new(); count as usize]
}

/// Takes a list, so that a large argument can be given, and returns its length.
#[rwasm::export]
fn take_bytes(bytes: Vec<u8>) -> u64 {
    bytes.len() as u64
}

/// Takes a list of lists, and returns how many bytes they hold together.
#[rwasm::export]
fn take_lists(lists: Vec<Vec<u8>>) -> u64 {
    lists.iter().map(|list| list.len() as u64).sum()
}
