//! `submit` and `run`: an artifact's command, one call, or one call for each line of a file.

mod file;
mod files;
mod outcome;
mod output;
mod plan;
mod planned;

use std::{path::Path, process::ExitCode};

use bytes::Bytes;
use rwasm_client::{Artifact, Call, Client, Job, JobEvent, JobOptions};
use rwasm_runtime::Termination;
use rwasm_types::{ArtifactName, Code, Error, Result};

use self::plan::Plan;
pub(crate) use self::{
    file::ResultFile,
    files::Files,
    outcome::{Collector, Form},
    output::Outputs,
};
use super::{
    artifact::{no_cluster, stored},
    block_on, block_on_threads, grants, input,
};
use crate::{
    args::{EngineArgs, RunArgs, SubmitArgs, WorkArgs},
    embedded::Embedded,
    exit, target, ui,
};

/// How long a cancelled job may take to end before the command leaves it.
const CANCEL_WAIT: std::time::Duration = std::time::Duration::from_secs(5);

/// How a submit goes on after its job is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stay {
    /// The command leaves; the job stays with the cluster.
    No,
    /// The command waits.
    OnCluster,
    /// The command waits, and the cluster ends with it.
    Embedded,
}

/// What is submitted.
pub(super) enum Source {
    /// A file's bytes.
    File(Bytes),
    /// Something that the cluster has.
    Stored(ArtifactName),
}

impl Source {
    /// A file's bytes, or what the cluster has of that name.
    pub(super) fn of(file: &Path) -> Result<Self> {
        stored_name(file).map_or_else(|| input::artifact(file).map(Self::File), |name| Ok(Self::Stored(name)))
    }

    /// Makes sure that the cluster has it.
    pub(super) async fn send(self, client: &Client) -> Result<Artifact> {
        let spinner = ui::spinner("sending the artifact");
        let artifact = match self {
            Self::File(bytes) => client.artifact(&bytes).await,
            Self::Stored(name) => client.stored(&name).await,
        };
        spinner.finish_and_clear();
        artifact
    }
}

fn stored_name(file: &Path) -> Option<ArtifactName> {
    file.to_str().and_then(stored)
}

/// `rwasm submit`.
pub(crate) fn submit(mut args: SubmitArgs, json: bool) -> Result<ExitCode> {
    // Read first, so that a wrong path is said at once and nothing is started for it.
    let source = Source::of(&args.work.file)?;
    match target::find(&args.target)? {
        Some(found) => {
            grants::on_cluster(&mut args.work.grants)?;
            block_on(async {
                let client = found.connect().await?.reconnecting(args.reconnect);
                if args.plan {
                    return plan(&client, &args.work, source, json).await;
                }
                work(&client, &args.work, source, if args.no_wait { Stay::No } else { Stay::OnCluster }, json).await
            })
        }
        None if args.no_wait => Err(Error::new(Code::NOT_EMBEDDED, "no cluster is named, and an embedded one ends with the command")
            .hint("start one with `rwasm start --head`, or leave out --no-wait")),
        None => {
            if let Source::Stored(name) = &source {
                return Err(no_cluster(name));
            }
            if args.plan {
                return Err(Error::new(Code::NOT_EMBEDDED, "no cluster is named, and an embedded one has nothing to plan")
                    .hint("start one with `rwasm start --head`"));
            }
            ui::note("rwasm: no cluster is named and none was started here; running on an embedded one");
            embedded(&args.work, &EngineArgs::default(), source, json)
        }
    }
}

/// `rwasm run`.
pub(crate) fn run(args: RunArgs, json: bool) -> Result<ExitCode> {
    // What a cluster would have is of no use here, and what is here may be called anything.
    let source = match input::artifact(&args.work.file) {
        Ok(bytes) => Source::File(bytes),
        Err(error) => return Err(stored_name(&args.work.file).map_or(error, |name| no_cluster(&name))),
    };
    embedded(&args.work, &args.engine, source, json)
}

fn embedded(args: &WorkArgs, engine: &EngineArgs, source: Source, json: bool) -> Result<ExitCode> {
    block_on_threads(async {
        let (cluster, client) = Embedded::start(engine).await?;
        // What it would come back to is this process.
        let client = client.reconnecting(std::time::Duration::ZERO);
        let result = work(&client, args, source, Stay::Embedded, json).await;
        drop(client);
        cluster.stop().await;
        result
    })
}

/// Checks a submit as if it were one, and shows where it would go.
async fn plan(client: &Client, args: &WorkArgs, source: Source, json: bool) -> Result<ExitCode> {
    let artifact = source.send(client).await?;
    let plan = Plan::of(client, args, &artifact, json).await?;
    planned::show(client, &artifact, &plan, json).await
}

async fn work(client: &Client, args: &WorkArgs, source: Source, stay: Stay, json: bool) -> Result<ExitCode> {
    let mut interrupt =
        rwasm_runtime::termination().map_err(|error| Error::internal(format!("signals cannot be listened for: {error}")))?;
    let open = async {
        let artifact = source.send(client).await?;
        let plan = Plan::of(client, args, &artifact, json).await?;
        let name =
            args.name.clone().unwrap_or_else(|| args.file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default());
        let wait = stay != Stay::No;
        let mut job = client.open_job(JobOptions { name, detached: !wait, follow: wait }).await?;
        let Plan { tasks, uploads, collector, is_command, .. } = plan;
        let begun = async {
            let call = job.define(&artifact, plan.export.as_deref(), &plan.options, &plan.grants).await?;
            let tasks = uploads.store(client, job.id(), tasks).await?;
            Ok::<_, Error>((call, tasks))
        };
        match begun.await {
            Ok((call, tasks)) => Ok((tasks, collector, is_command, job, call)),
            Err(refused) => {
                end_refused(&mut job).await;
                Err(refused)
            }
        }
    };
    let (tasks, mut collector, is_command, mut job, call) = tokio::select! {
        opened = open => opened?,
        _signal = interrupt() => return Err(Error::new(Code::INTERRUPTED, "interrupted before anything was submitted")),
    };
    if stay == Stay::No {
        job.submit(&call, tasks).await?;
        job.finish().await?;
        return submitted(&job, client, json).await;
    }
    let mut outputs = Outputs::new(is_command, tasks.len() > 1);
    let ended = attend(&mut job, (&call, tasks), (&mut collector, &mut outputs), &mut interrupt, stay).await;
    if ended.is_err() {
        collector.abandon();
    }
    ended
}

/// Ends a job whose call was refused, so that it does not wait for more. What was refused is what the user hears; if the connection is
/// lost as well, the gateway ends the job by itself.
pub(super) async fn end_refused(job: &mut Job) {
    if job.finish().await.is_ok() {
        while let Ok(Some(event)) = job.next().await {
            if matches!(event, JobEvent::Ended(_)) {
                break;
            }
        }
    }
}

/// Says which job was submitted, once the gateway knows of it.
async fn submitted(job: &Job, client: &Client, json: bool) -> Result<ExitCode> {
    job.arrived().await?;
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
pub(super) async fn attend(
    job: &mut Job,
    (call, tasks): (&Call, Vec<Bytes>),
    (collector, outputs): (&mut Collector, &mut Outputs),
    interrupt: &mut impl AsyncFnMut() -> Termination,
    stay: Stay,
) -> Result<ExitCode> {
    let (submitter, canceller) = (job.submitter(), job.submitter());
    collector.expect(tasks.len() as u64);
    let mut submitting = std::pin::pin!(async {
        submitter.submit(call, tasks).await?;
        submitter.finish().await
    });
    let mut submitted = false;
    let mut cancelling = std::pin::pin!(async {
        let cancelled = canceller.cancel().await;
        tokio::time::sleep(CANCEL_WAIT).await;
        cancelled
    });
    let mut interrupted = false;
    loop {
        tokio::select! {
            done = &mut submitting, if !submitted => {
                submitted = true;
                done?;
            }
            event = job.next() => match event? {
                // That the rest was cancelled is no news to whoever asked for it.
                Some(JobEvent::Outcomes(_)) if interrupted => {}
                Some(JobEvent::Outcomes(outcomes)) => collector.take(outcomes)?,
                Some(JobEvent::Outputs(pieces)) => collector.aside(|| outputs.write(pieces))?,
                Some(JobEvent::Away(error)) => {
                    collector.aside(|| ui::note(&format!("rwasm: {}; trying to come back to job {}", error.message(), job.id())));
                }
                Some(JobEvent::Back) => collector.aside(|| ui::note(&format!("rwasm: back at job {}", job.id()))),
                Some(JobEvent::Ended(_)) if interrupted => {
                    outputs.finish()?;
                    return Err(Error::new(Code::INTERRUPTED, format!("interrupted; job {} was cancelled", job.id())));
                }
                Some(JobEvent::Ended(record)) => {
                    outputs.finish()?;
                    let failed = collector.finish(&record)?;
                    return Ok(failed.map_or(ExitCode::SUCCESS, |error| {
                        outputs.end_line();
                        exit::report(&error, collector.is_json())
                    }));
                }
                None => return Err(Error::new(Code::CONNECTION_LOST, "the job's end did not come")),
            },
            _signal = interrupt() => {
                if interrupted {
                    return Err(Error::new(Code::INTERRUPTED, format!("interrupted twice; {}", left(job, stay))));
                }
                interrupted = true;
                collector.aside(|| ui::note("rwasm: cancelling the job; Ctrl-C again leaves at once"));
                // What was not sent yet is not sent any more.
                submitted = true;
            }
            cancelled = &mut cancelling, if interrupted => {
                cancelled?;
                return Err(Error::new(Code::INTERRUPTED, format!("interrupted; {}", left(job, stay))));
            }
        }
    }
}

/// What becomes of a job that was cancelled and whose end is not waited for.
fn left(job: &Job, stay: Stay) -> String {
    match stay {
        Stay::Embedded => "what still ran has ended with the command".to_owned(),
        Stay::No | Stay::OnCluster => format!("job {id} was cancelled and has not ended yet; see `rwasm job status {id}`", id = job.id()),
    }
}
