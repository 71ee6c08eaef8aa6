//! `start`: leaves a daemon, or stays with it.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rwasm_runtime::{Dirs, create_private_dir};
use rwasm_types::{Code, Error, Result};
use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

use crate::{
    args::StartArgs,
    daemon::{
        Daemon, Ready,
        log::{self, Log, LogLimits},
        registered,
    },
    ui,
};

/// What a daemon in the background tells the command that started it, in one line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Told {
    Ready(Ready),
    Failed(Error),
}

/// `rwasm start`.
pub(crate) fn start(args: StartArgs, json: bool) -> Result<ExitCode> {
    if args.head {
        let running =
            registered(&Dirs::from_env()).running.into_iter().find(|daemon| daemon.ready.role == "head" && args.state_dir.is_none());
        if let Some(head) = running {
            let message = format!("a head runs here already, as process {}, with nodes at {}", head.ready.pid, head.ready.head_address);
            return Err(Error::new(Code::ALREADY_RUNNING, message)
                .hint("`rwasm stop` stops it; --state-dir DIR --port 0 --client-port 0 starts another"));
        }
    }
    if args.daemon || args.block { stay(&args, json) } else { leave(&args, json) }
}

/// Runs the daemon in this process.
fn stay(args: &StartArgs, json: bool) -> Result<ExitCode> {
    init_log(args)?;
    if args.daemon {
        // Away from the terminal, so that closing it or Ctrl-C in it does not reach the daemon.
        rustix::process::setsid().map_err(|error| Error::internal(format!("cannot leave the terminal: {error}")))?;
    }
    raise_open_files();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        // Guests have threads of their own. Where cores are few, a second thread for the network takes more from them than it gives: the
        // two wake each other for every message.
        .worker_threads((cores / 2).clamp(1, 8))
        .thread_name("io")
        .enable_all()
        .build()
        .map_err(|error| Error::internal(format!("the runtime does not start: {error}")))?;
    runtime.block_on(async {
        let daemon = match Daemon::start(args).await {
            Ok(daemon) => daemon,
            Err(error) if args.daemon => {
                tell(&Told::Failed(error.clone()))?;
                return Err(error);
            }
            Err(error) => return Err(error),
        };
        if args.daemon {
            tell(&Told::Ready(daemon.ready.clone()))?;
        } else {
            show(&daemon.ready, json)?;
        }
        daemon.run().await
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Lets the daemon have as many files open as it may: shells are careful with what old programs cannot stand.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
    {
        tracing::warn!(%error, ?limit, "the limit of open files cannot be raised");
    }
}

/// In the background, a daemon writes to files of its own; in the foreground, to standard error, wherever that leads.
fn init_log(args: &StartArgs) -> Result<()> {
    let filter = EnvFilter::try_from_env("RWASM_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter);
    if args.daemon {
        let log = Log::of_stderr(log_path(args)?, LogLimits::new(args.storage.log_size, args.storage.log_files, args.storage.log_age))?;
        subscriber.with_writer(move || log.clone()).with_ansi(false).init();
    } else {
        let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
        subscriber.with_writer(std::io::stderr).with_ansi(ansi).init();
    }
    Ok(())
}

/// Tells whoever started us, and lets go of the pipe.
fn tell(told: &Told) -> Result<()> {
    let line = serde_json::to_string(told).map_err(|error| Error::internal(format!("a daemon has no JSON: {error}")))?;
    // Whoever started us may have been interrupted; the daemon goes on.
    let _ = writeln!(std::io::stdout(), "{line}");
    let null = fs::OpenOptions::new()
        .write(true)
        .open("/dev/null")
        .map_err(|error| Error::new(Code::IO, format!("cannot open /dev/null: {error}")))?;
    rustix::stdio::dup2_stdout(null).map_err(|error| Error::internal(format!("cannot let go of standard output: {error}")))
}

/// Starts this program again as a daemon and waits until it is ready.
fn leave(args: &StartArgs, json: bool) -> Result<ExitCode> {
    let log = log_path(args)?;
    let file = log::open(&log)?;
    let program = std::env::current_exe().map_err(|error| Error::internal(format!("cannot find this program: {error}")))?;
    let mut child = Command::new(program)
        .args(std::env::args_os().skip(1))
        .arg("--daemon")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(file)
        .spawn()
        .map_err(|error| Error::new(Code::START_FAILED, format!("the daemon does not start: {error}")))?;
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        // An end without a line is told below.
        let _ = BufReader::new(stdout).read_line(&mut line);
    }
    match serde_json::from_str(&line) {
        Ok(Told::Ready(ready)) => show(&ready, json).map(|()| ExitCode::SUCCESS),
        Ok(Told::Failed(error)) => {
            // What it held, it holds until it is gone; whoever tries again at once must find it free.
            let _ = child.wait();
            Err(error)
        }
        Err(_) => {
            let status = child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
            let message = format!("the daemon ended before it was ready ({status})");
            Err(Error::new(Code::START_FAILED, message).hint(format!("its log is {}", log.display())))
        }
    }
}

/// Where a daemon's log goes: into the user's state directory, one file for heads and one for nodes.
fn log_path(args: &StartArgs) -> Result<PathBuf> {
    let dir = Dirs::from_env().state;
    create_private_dir(&dir).map_err(|error| Error::new(Code::IO, format!("cannot use {}: {error}", dir.display())))?;
    Ok(match (&args.state_dir, args.head) {
        (Some(state), _) => {
            create_private_dir(state).map_err(|error| Error::new(Code::IO, format!("cannot use {}: {error}", state.display())))?;
            state.join("daemon.log")
        }
        (None, true) => dir.join("head.log"),
        (None, false) => dir.join("node.log"),
    })
}

fn show(ready: &Ready, json: bool) -> Result<()> {
    if json {
        return ui::json(ready);
    }
    let Ready { role, cluster, node, head_address, gateway_address, dashboard_address, metrics_address, tls, pid, .. } = ready;
    match gateway_address {
        Some(gateway) if role == "node" => {
            ui::line(&format!("node {node} joined cluster {cluster} at {head_address} (process {pid})"))?;
            ui::note(&format!("  drivers attach here, too:     rwasm submit FILE.wasm --address {gateway}"));
        }
        Some(gateway) => {
            ui::line(&format!("cluster {cluster} runs, with node {node} (process {pid})"))?;
            ui::note(&format!("  submit work here:     rwasm submit FILE.wasm     (drivers attach at {gateway})"));
            let token = if *tls { "RWASM_JOIN_TOKEN=$(rwasm token join) " } else { "" };
            ui::note(&format!("  add a node:           {token}rwasm start --address {head_address}"));
            if let Some(dashboard) = dashboard_address {
                let scheme = if *tls { "https" } else { "http" };
                ui::note(&format!("  see it in a browser:  {scheme}://{dashboard}     (sign in with a token of `rwasm token create`)"));
            }
            ui::note("  see it, stop it:      rwasm status, rwasm stop");
        }
        None => {
            ui::line(&format!("node {node} joined cluster {cluster} at {head_address} (process {pid})"))?;
            if let Some(metrics) = metrics_address {
                let scheme = if *tls { "https" } else { "http" };
                ui::note(&format!("  its metrics:          {scheme}://{metrics}/metrics"));
            }
        }
    }
    Ok(())
}
