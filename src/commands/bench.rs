//! `bench`: runs the suite against an embedded cluster and one in another process, and shows rates and ratios.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, ExitCode, Stdio},
};

use rwasm_bench::{HeadProcess, Measured, Method, Row, Setup, echo_server, resident_bytes};
use rwasm_client::Endpoint;
use rwasm_runtime::{Dirs, Scope};
use rwasm_types::{Code, Error, Result};

use crate::{
    args::{BenchArgs, EngineArgs},
    embedded::{Embedded, compile_options},
    ui,
};

/// `rwasm bench`.
pub(crate) async fn bench(args: BenchArgs, json: bool) -> Result<ExitCode> {
    if args.echo_server {
        return serve_echo().await;
    }
    let scratch = tempfile::tempdir().map_err(|error| Error::new(Code::IO, format!("cannot make a directory: {error}")))?;
    let HeadProcess { endpoint: cluster, pid, guard: _cluster_process, .. } = start_head(&scratch.path().join("plain"))?;
    let idle = resident_bytes(pid)?;
    let HeadProcess { endpoint: encrypted, guard: _encrypted_process, .. } = start_cluster(&scratch.path().join("encrypted"), &["--tls"])?;
    let (_echo_process, echo) = start(&["bench", "--echo-server"], &[])?;
    let (embedded_cluster, embedded) = Embedded::start(&EngineArgs::default()).await?;
    let setup = Setup {
        method: if args.quick { Method::QUICK } else { Method::FULL },
        only: args.only,
        compile: compile_options(&EngineArgs::default(), &Dirs::from_env()),
        embedded,
        cluster,
        start_head,
        encrypted,
        echo: echo.trim().to_owned(),
        parallel: args.guests.as_deref().map(|dir| read(&dir.join("parallel.wasm"))).transpose()?,
        hello: args.guests.as_deref().map(|dir| read(&dir.join("hello.wasm"))).transpose()?,
    };
    let mut told = |row: &Row| {
        if !json {
            ui::note(&format!("{:<44} {:>14.2} /s  ± {:.2}", row.name, row.per_second, row.sd));
        }
    };
    let Measured { rows, history_memory_bytes } = rwasm_bench::run(&setup, &mut told).await?;
    drop(setup);
    embedded_cluster.stop().await;
    if json {
        ui::json(&rows)?;
    } else {
        show(&rows)?;
    }
    ui::note(&format!("resident memory of the idle head and node: {}", rwasm_types::format_bytes(idle)));
    if let Some(bytes) = history_memory_bytes {
        ui::note(&format!("resident memory of a head with 1,000,000 tasks in its history: {}", rwasm_types::format_bytes(bytes)));
    }
    Ok(ExitCode::SUCCESS)
}

fn read(path: &Path) -> Result<bytes::Bytes> {
    std::fs::read(path).map(Into::into).map_err(|error| Error::new(Code::IO, format!("cannot read {}: {error}", path.display())))
}

/// The rows, each beside what it is compared with.
fn show(rows: &[Row]) -> Result<()> {
    let cells = rows.iter().map(|row| {
        let reference = row.reference().and_then(|name| rows.iter().find(|row| row.name == name));
        vec![
            row.name.clone(),
            format!("{:.0}", row.per_second),
            format!("{:.1} %", 100.0 * row.sd / row.per_second),
            format!("{:.2}", row.seconds() * 1e6),
            reference.map(|to| format!("{:.2}", row.seconds() / to.seconds())).unwrap_or_default(),
            reference.map(|to| to.name.clone()).unwrap_or_default(),
        ]
    });
    ui::table(&["ROW", "PER SECOND", "SD", "MICROSECONDS", "RATIO", "TO"], cells)
}

async fn serve_echo() -> Result<ExitCode> {
    let scope = Scope::new();
    ui::line(&echo_server(&scope).await?)?;
    scope.cancelled().await;
    Ok(ExitCode::SUCCESS)
}

/// A process that ends with its handle.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts this program and reads its first line.
fn start(args: &[&str], vars: &[(&str, &Path)]) -> Result<(Running, String)> {
    let program = std::env::current_exe().map_err(|error| Error::internal(format!("cannot find this program: {error}")))?;
    let mut child = Command::new(program)
        .args(args)
        .envs(vars.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| Error::new(Code::START_FAILED, format!("a process does not start: {error}")))?;
    let stdout = child.stdout.take();
    let running = Running(child);
    let mut line = String::new();
    if let Some(stdout) = stdout {
        let _ = BufReader::new(stdout).read_line(&mut line);
    }
    if line.is_empty() {
        return Err(Error::new(Code::START_FAILED, "a process of the benchmark ended before it was ready"));
    }
    Ok((running, line))
}

/// A head with its node in another process, with directories of its own.
fn start_head(scratch: &Path) -> Result<HeadProcess> {
    start_cluster(scratch, &[])
}

fn start_cluster(scratch: &Path, args: &[&str]) -> Result<HeadProcess> {
    let (runtime, state) = (scratch.join("runtime"), scratch.join("state"));
    let vars = [("RWASM_RUNTIME_DIR", runtime.as_path()), ("RWASM_STATE_DIR", state.as_path())];
    let (running, _ready) = start(&[&["start", "--head", "--block", "--port", "0", "--client-port", "0"], args].concat(), &vars)?;
    let dirs = Dirs { runtime, ..Dirs::from_env() };
    let endpoint = Endpoint::read(&Endpoint::file(&dirs))?.ok_or_else(|| Error::internal("the benchmark's cluster left no endpoint"))?;
    Ok(HeadProcess { endpoint, pid: running.0.id(), state_dir: state.join("head"), guard: Box::new(running) })
}
