//! Attacks by tasks that start tasks.

use rwasm::{
    Task,
    task::{Error, Options},
};

/// Starts itself, and waits for that, so many times in a row.
#[rwasm::export]
fn chain(depth: u32) -> Result<u32, Error> {
    if depth == 0 { Ok(0) } else { Ok(chain::submit(depth - 1)?.get()?? + 1) }
}

/// Each task starts so many like itself, and waits for none.
#[rwasm::export]
fn fork_bomb(width: u32) -> Result<u32, Error> {
    for _ in 0..width {
        fork_bomb::submit(width)?;
    }
    Ok(width)
}

/// The same, with large arguments.
#[rwasm::export]
fn hoard_arguments(tasks: u32, bytes: u32) -> Result<u32, Error> {
    let kept = vec![0_u8; bytes as usize];
    let started = (0..tasks).map(|_| take_bytes::submit(&kept)).collect::<Result<Vec<Task<u32>>, _>>()?;
    Ok(started.len() as u32)
}

/// Computes without end, with something to hold.
#[rwasm::export]
fn take_bytes(bytes: &[u8]) -> u32 {
    while std::hint::black_box(bytes.len()) < usize::MAX {}
    0
}

/// Computes without end.
#[rwasm::export]
fn spin_alone() -> u32 {
    while std::hint::black_box(true) {}
    0
}

/// Starts one that computes without end, and fails.
#[rwasm::export]
fn fail_and_leave() -> Result<u32, Error> {
    spin_alone::submit()?;
    panic!("it leaves a task behind")
}

/// Starts one that computes without end, and waits for it.
#[rwasm::export]
fn wait_for_ever() -> Result<u32, Error> {
    spin_alone::submit()?.get()
}

/// Asks for more than it has itself.
#[rwasm::export]
fn ask_for_more(memory: u64, priority: i8, cpus: f64) -> Result<u32, Error> {
    let options = Options::new().memory(memory).priority(priority).cpus(cpus);
    Ok(chain::with(options).submit(0)?.get()??)
}
