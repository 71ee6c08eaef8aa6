//! `submit` and `run`: an artifact's command, one call, or one call for each line of a file.

mod outcome;
mod output;

use std::{path::Path, process::ExitCode};

use bytes::Bytes;
use rwasm_client::{Artifact, Call, Client, Job, JobEvent, JobOptions};
use rwasm_types::{Code, Error, Result};
use rwasm_values::wave;

use self::outcome::{Collector, Form};
pub(crate) use self::output::Outputs;
use super::{block_on, block_on_threads, grants, input};
use crate::{
    args::{EngineArgs, RunArgs, SubmitArgs, WorkArgs},
    embedded::Embedded,
    exit, target, ui,
};

/// How long a cancelled job may take to end before the command leaves it.
const CANCEL_WAIT: std::time::Duration = std::time::Duration::from_secs(5);

/// `rwasm submit`.
pub(crate) fn submit(args: SubmitArgs, json: bool) -> Result<ExitCode> {
    // Read first, so that a wrong path is said at once and nothing is started for it.
    let bytes = input::artifact(&args.work.file)?;
    match target::find(&args.target)? {
        Some(endpoint) => {
            if let Some(volume) = args.work.grants.dir.first() {
                return Err(Error::new(Code::NOT_ON_CLUSTER, format!("--dir {} works on the embedded cluster only", volume.guest_path))
                    .hint("use `rwasm run`, or a volume that nodes offer"));
            }
            block_on(async {
                let client = Client::connect(&endpoint).await?;
                work(&client, &args.work, bytes, args.no_wait, json).await
            })
        }
        None if args.no_wait => Err(Error::new(Code::NOT_EMBEDDED, "no cluster is named, and an embedded one ends with the command")
            .hint("start one with `rwasm start --head`, or leave out --no-wait")),
        None => {
            ui::note("rwasm: no cluster is named and none was started here; running on an embedded one");
            embedded(&args.work, &EngineArgs::default(), bytes, json)
        }
    }
}

/// `rwasm run`.
pub(crate) fn run(args: RunArgs, json: bool) -> Result<ExitCode> {
    let bytes = input::artifact(&args.work.file)?;
    embedded(&args.work, &args.engine, bytes, json)
}

fn embedded(args: &WorkArgs, engine: &EngineArgs, bytes: Bytes, json: bool) -> Result<ExitCode> {
    block_on_threads(async {
        let (cluster, client) = Embedded::start(engine).await?;
        let result = work(&client, args, bytes, false, json).await;
        drop(client);
        cluster.stop().await;
        result
    })
}

/// What one submit asks for, read and checked.
struct Plan {
    /// The export; `None` is the artifact's command.
    export: Option<String>,
    kind: Kind,
}

enum Kind {
    Command,
    /// Arguments in WAVE.
    Call(String),
    Map,
}

impl Plan {
    fn of(args: &WorkArgs, artifact: &Artifact) -> Result<Self> {
        if let Some(text) = &args.call {
            let (name, arguments) = wave::parse_call(text)?;
            return Ok(Self { export: Some(name.to_owned()), kind: Kind::Call(arguments.to_owned()) });
        }
        if let (Some(_), Some(func)) = (&args.map, &args.func) {
            return Ok(Self { export: Some(func.clone()), kind: Kind::Map });
        }
        artifact.callable(None)?;
        Ok(Self { export: None, kind: Kind::Command })
    }
}

async fn work(client: &Client, args: &WorkArgs, bytes: Bytes, no_wait: bool, json: bool) -> Result<ExitCode> {
    let spinner = ui::spinner("sending the artifact");
    let artifact = client.artifact(&bytes).await;
    spinner.finish_and_clear();
    let artifact = artifact?;
    drop(bytes);
    let plan = Plan::of(args, &artifact)?;
    let (options, grants) = (grants::options(args)?, grants::grants(&args.grants, &args.args)?);
    // Checked before a job is opened, so that what is refused leaves no trace.
    let export = artifact.callable(plan.export.as_deref())?.clone();
    artifact.info().check_imports()?;
    let checked = Call::check_only(&export);
    let tasks = match &plan.kind {
        Kind::Command => vec![Bytes::new()],
        Kind::Call(text) => vec![checked.encode(&wave::parse_args(text, &export.signature)?)?],
        Kind::Map => input::map_lines(args.map.as_deref().unwrap_or(Path::new("-")), &checked)?,
    };
    let name =
        args.name.clone().unwrap_or_else(|| args.file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default());
    let mut job = client.open_job(JobOptions { name, detached: no_wait, follow: !no_wait }).await?;
    let call = job.define(&artifact, plan.export.as_deref(), &options, &grants).await?;
    if no_wait {
        job.submit(&call, tasks).await?;
        job.finish().await?;
        return submitted(&job, client, json).await;
    }
    let form = Form { json, lines: matches!(plan.kind, Kind::Map), file: args.output.clone() };
    let outputs = Outputs::new(matches!(plan.kind, Kind::Command), tasks.len() > 1);
    attend(&mut job, &call, tasks, Collector::new(call.clone(), form)?, outputs).await
}

/// Says which job was submitted, once the gateway knows of it.
async fn submitted(job: &Job, client: &Client, json: bool) -> Result<ExitCode> {
    // The messages of a session are worked off in order, so an answer about the job means that its tasks have arrived.
    let record: rwasm_types::api::JobRecord = client.query(&rwasm_types::api::Query::Job { job: job.id() }).await?;
    if json {
        ui::json(&record)?;
    } else {
        ui::line(&job.id().to_string())?;
        ui::note(&format!("follow it with `rwasm job logs -f {id}`, wait for it with `rwasm job wait {id}`", id = job.id()));
    }
    Ok(ExitCode::SUCCESS)
}

/// Submits tasks and takes what comes back, until the job has ended or the user has had enough.
async fn attend(job: &mut Job, call: &Call, tasks: Vec<Bytes>, mut collector: Collector, mut outputs: Outputs) -> Result<ExitCode> {
    let mut interrupt =
        rwasm_runtime::termination().map_err(|error| Error::internal(format!("signals cannot be listened for: {error}")))?;
    let total = tasks.len() as u64;
    collector.expect(total);
    let submitter = job.submitter();
    let mut submitting = std::pin::pin!(async {
        submitter.submit(call, tasks).await?;
        submitter.finish().await
    });
    let mut submitted = false;
    let mut interrupted = false;
    loop {
        tokio::select! {
            done = &mut submitting, if !submitted => {
                submitted = true;
                done?;
            }
            event = job.next() => match event? {
                Some(JobEvent::Outcomes(outcomes)) => collector.take(outcomes)?,
                Some(JobEvent::Outputs(pieces)) => collector.aside(|| outputs.write(pieces))?,
                Some(JobEvent::Ended(record)) => {
                    outputs.finish()?;
                    if interrupted {
                        collector.abandon();
                        return Err(Error::new(Code::INTERRUPTED, format!("interrupted; job {} was cancelled", job.id())));
                    }
                    return collector.finish(&record).map(|error| error.map_or(ExitCode::SUCCESS, |error| exit::report(&error, collector.is_json())));
                }
                None => return Err(Error::new(Code::CONNECTION_LOST, "the job's end did not come")),
            },
            _signal = interrupt() => {
                if interrupted {
                    return Err(Error::new(Code::INTERRUPTED, "interrupted twice; the job is left to the cluster"));
                }
                interrupted = true;
                submitted = true;
                job.cancel().await?;
            }
            () = tokio::time::sleep(CANCEL_WAIT), if interrupted => {
                return Err(Error::new(Code::INTERRUPTED, format!("interrupted; job {} has not ended yet", job.id())));
            }
        }
    }
}
