//! `rwasm`: the command line, and in the same binary the head, the node and the compile worker.
//!
//! What is here parses, calls `rwasm_client` or starts daemons, and prints. Nothing here decides what a cluster does.

mod args;
mod commands;
mod daemon;
mod doctor;
mod embedded;
mod exit;
mod machine;
mod state;
mod target;
mod ui;
mod usage;

use std::process::ExitCode;

use clap::Parser;

/// Many small allocations on several threads is what a node does.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match args::Cli::try_parse() {
        Ok(cli) => {
            let json = cli.json;
            commands::run(cli).unwrap_or_else(|error| exit::report(&error, json))
        }
        Err(error) => usage::report(&error),
    }
}
