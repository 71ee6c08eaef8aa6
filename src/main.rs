//! `rwasm`: the command line, and in the same binary the head, the node and the compile worker.
//!
//! What is here parses, calls `rwasm_client` or starts daemons, and prints. Nothing here decides what a cluster does.

mod args;
mod commands;
mod daemon;
mod embedded;
mod exit;
mod machine;
mod target;
mod ui;

use std::process::ExitCode;

/// Many small allocations on several threads is what a node does.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = args::parse();
    let json = cli.json;
    commands::run(cli).unwrap_or_else(|error| exit::report(&error, json))
}
