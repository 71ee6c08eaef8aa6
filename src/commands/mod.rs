//! One module for each command. Each reads its arguments, calls the client or starts daemons, and prints.

mod actor;
pub(crate) mod artifact;
mod bench;
mod doctor;
mod explain;
pub(crate) mod grants;
mod group;
mod health;
mod input;
mod inspect;
mod job;
mod list;
mod new;
mod node;
pub(crate) mod object;
mod start;
mod state;
mod status;
mod stop;
mod submit;
mod tenant;
mod token;

use std::process::ExitCode;

use clap::CommandFactory;
use rwasm_engine::compile::worker::WorkerOptions;
use rwasm_types::{Error, Result};

use crate::{
    args::{Cli, Command},
    ui,
};

/// Carries out a command.
pub(crate) fn run(cli: Cli) -> Result<ExitCode> {
    let json = cli.json;
    match cli.command {
        // First of all: a compile worker gives up rights before it does anything else.
        Command::CompileWorker(args) => Ok(rwasm_engine::compile_worker(&WorkerOptions {
            memory_bytes: args.memory,
            cpu_seconds: args.cpu_seconds,
            output_bytes: args.output_bytes,
            code: args.code,
            parent: args.parent,
        })),
        Command::Start(args) => start::start(*args, json),
        Command::Stop(args) => stop::stop(&args, json),
        Command::Completions(args) => {
            let mut script = Vec::new();
            clap_complete::generate(args.shell, &mut shown(&Cli::command()), "rwasm", &mut script);
            ui::out(&script).map(|()| ExitCode::SUCCESS)
        }
        Command::Doctor(args) => block_on(doctor::doctor(&args, json)),
        Command::Health => block_on(health::health(json)),
        Command::Explain(args) => explain::explain(args.code, json),
        Command::New(args) => new::new(&args),
        Command::State(args) => block_on(state::state(args.command, json)),
        Command::Bench(args) => block_on(bench::bench(args, json)),
        Command::Status(args) => block_on(status::status(&args, json)),
        Command::Submit(args) => submit::submit(*args, json),
        Command::Run(args) => submit::run(*args, json),
        Command::Inspect(args) => block_on(inspect::inspect(&args, json)),
        Command::Job(args) => block_on(job::job(args.command, json)),
        Command::List(args) => block_on(list::list(args.command, json)),
        Command::Artifact(args) => block_on(artifact::artifact(args.command, json)),
        Command::Put(args) => block_on(object::put(&args, json)),
        Command::Get(args) => block_on(object::get(&args, json)),
        Command::Rm(args) => block_on(object::rm(&args, json)),
        Command::Memory(args) => block_on(object::memory(&args, json)),
        Command::Actor(args) => block_on(actor::actor(args.command, json)),
        Command::PlacementGroup(args) => block_on(group::group(args.command, json)),
        Command::Node(args) => block_on(node::node(args.command, json)),
        Command::Why(args) => block_on(list::why(&args, json)),
        Command::Tenant(args) => block_on(tenant::tenant(args.command, json)),
        Command::Token(args) => block_on(token::token(args.command, json)),
    }
}

/// A grammar without what is hidden, which the generators of completions do not leave out.
fn shown(command: &clap::Command) -> clap::Command {
    // Names have to live as long as the process, which ends with this.
    clap::Command::new(&*command.get_name().to_owned().leak())
        .about(command.get_about().cloned().unwrap_or_default())
        .args(command.get_arguments().filter(|arg| !arg.is_hide_set()).cloned())
        .subcommands(command.get_subcommands().filter(|command| !command.is_hide_set()).map(shown))
}

/// Runs a command that only talks to a cluster: one thread is enough, and the quickest.
pub(crate) fn block_on<T>(command: impl Future<Output = Result<T>>) -> Result<T> {
    finish(tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(no_runtime)?, command)
}

/// Runs a command with a cluster in this process.
pub(crate) fn block_on_threads<T>(command: impl Future<Output = Result<T>>) -> Result<T> {
    finish(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(no_runtime)?, command)
}

fn finish<T>(runtime: tokio::runtime::Runtime, command: impl Future<Output = Result<T>>) -> Result<T> {
    let result = runtime.block_on(command);
    // Nothing that is worth waiting for is left, such as a read of standard input that never ends.
    runtime.shutdown_background();
    result
}

#[expect(clippy::needless_pass_by_value, reason = "its only use is map_err")]
fn no_runtime(error: std::io::Error) -> Error {
    Error::internal(format!("the runtime does not start: {error}"))
}
