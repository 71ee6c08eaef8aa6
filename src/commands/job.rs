//! `job`: list, status, logs, stop, wait.

use std::process::ExitCode;

use rwasm_client::{Client, LogFilter};
use rwasm_runtime::now_ms;
use rwasm_types::{
    Code, Error, JobId, JobState, Result,
    api::{JobRecord, Order, Query},
};

use super::{list, submit::Outputs};
use crate::{
    args::{JobCommand, JobOrTask},
    exit, target, ui,
};

/// How often a job that is waited for is looked at where its end cannot be followed.
const LOOK_EVERY: std::time::Duration = std::time::Duration::from_millis(200);

/// `rwasm job …`.
pub(crate) async fn job(command: JobCommand, json: bool) -> Result<ExitCode> {
    match command {
        JobCommand::List { list, view } => list::jobs(&target::connect_into(&view).await?, &list, json).await,
        JobCommand::Status { job, view } => {
            let record: JobRecord = target::connect_into(&view).await?.query(&Query::Job { job }).await?;
            show(&record, json)?;
            Ok(ExitCode::SUCCESS)
        }
        JobCommand::Logs { job, follow, view } => logs(&target::connect_into(&view).await?, job, follow).await,
        JobCommand::Stop { job, view } => {
            let record: JobRecord = target::connect_into(&view).await?.order(&Order::StopJob { job }).await?;
            show(&record, json)?;
            Ok(ExitCode::SUCCESS)
        }
        JobCommand::Wait { job, timeout, view } => {
            let client = target::connect_into(&view).await?;
            let ended = wait(&client, job);
            let record = match timeout {
                None => ended.await?,
                Some(timeout) => tokio::time::timeout(timeout, ended).await.map_err(|_elapsed| {
                    Error::new(Code::DEADLINE, format!("job {job} has not ended within {}", rwasm_types::format_duration(timeout)))
                })??,
            };
            show(&record, json)?;
            Ok(verdict(&record, json))
        }
    }
}

/// The exit status of a job that has ended.
fn verdict(record: &JobRecord, json: bool) -> ExitCode {
    match (&record.state, &record.error) {
        (JobState::Succeeded, _) => ExitCode::SUCCESS,
        (_, Some(error)) => exit::report(error, json),
        _ => ExitCode::FAILURE,
    }
}

async fn wait(client: &Client, job: JobId) -> Result<JobRecord> {
    loop {
        let record: JobRecord = client.query(&Query::Job { job }).await?;
        if record.state.is_final() {
            return Ok(record);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn logs(client: &Client, JobOrTask { job, sequence }: JobOrTask, follow: bool) -> Result<ExitCode> {
    let mixed = sequence.is_none() && client.query::<JobRecord>(&Query::Job { job }).await?.tasks.total() > 1;
    let mut stream = client.logs(job, LogFilter { sequence, follow }).await?;
    let mut outputs = Outputs::new(true, mixed);
    while let Some(pieces) = stream.next().await? {
        outputs.write(pieces)?;
    }
    outputs.finish()?;
    Ok(ExitCode::SUCCESS)
}

fn show(record: &JobRecord, json: bool) -> Result<()> {
    if json {
        return ui::json(record);
    }
    let counts = &record.tasks;
    let took = ui::age(record.submitted_ms, record.ended_ms.unwrap_or_else(now_ms));
    let mut lines = vec![
        format!("job       {} ({})", record.id, record.name),
        format!("state     {}", record.state),
        format!("tenant    {}", record.tenant),
        format!(
            "tasks     {} of {} ended: {} succeeded, {} failed, {} cancelled; {} running, {} waiting, {} compiling",
            counts.finished(),
            counts.total(),
            counts.succeeded,
            counts.failed,
            counts.cancelled,
            counts.running,
            counts.queued,
            counts.compiling
        ),
        format!("submitted {}, {} {took}", ui::time(record.submitted_ms), if record.ended_ms.is_some() { "took" } else { "runs since" }),
    ];
    lines.extend(record.artifacts.iter().map(|artifact| format!("artifact  {}", artifact.short())));
    lines.extend(record.error.as_ref().map(|error| format!("error     {} ({})", error.message(), error.code())));
    lines.push(String::new());
    ui::out(ui::printable_lines(&lines).as_bytes())
}
