//! `list` and `why`: what the cluster knows, in tables.

use std::{path::PathBuf, process::ExitCode};

use rwasm_client::Client;
use rwasm_types::{
    JobState, Result,
    api::{JobRecord, Listing, NodeRecord, Query, Reason, TaskRecord},
    format_bytes, format_duration,
    view::{JobPage, TaskPage},
};
use serde::Serialize;

use super::{artifact, object, status::clock};
use crate::{
    args::{ListCommand, ListOptions, WhyArgs},
    target, ui,
};

/// `rwasm list …`.
pub(crate) async fn list(command: ListCommand, json: bool) -> Result<ExitCode> {
    match command {
        ListCommand::Tasks { job, list, view } => {
            let query = Query::Tasks { job, state: list.state, limit: list.limit, page: TaskPage::default() };
            let listing: Listing<TaskRecord> = target::connect_into(&view).await?.query(&query).await?;
            show(&listing, json, &["TASK", "STATE", "EXPORT", "NODE", "ATTEMPT", "TOOK", "CPU", "ERROR"], task)
        }
        ListCommand::Nodes { target } => {
            let listing: Listing<NodeRecord> = target::connect(&target).await?.query(&Query::Nodes).await?;
            let code = show(&listing, json, &["NODE", "NAME", "STATE", "CPU", "GPU", "MEMORY", "RUNNING", "WAITING", "ADDRESS"], node)?;
            for row in listing.rows.iter().filter(|row| !json && row.alive && row.clock_is_off()) {
                ui::note(&format!("{}: {}", row.id, clock(row)));
            }
            Ok(code)
        }
        ListCommand::Jobs { list, view } => jobs(&target::connect_into(&view).await?, &list, json).await,
        ListCommand::Objects { limit, view } => object::objects(&target::connect_into(&view).await?, limit, json).await,
        ListCommand::Actors { limit, view } => super::actor::list(&view, limit, json).await,
        ListCommand::PlacementGroups { view } => super::group::list(&view, json).await,
        ListCommand::Artifacts { limit, view } => artifact::artifacts(&target::connect_into(&view).await?, limit, json).await,
    }
}

/// Lists jobs.
pub(crate) async fn jobs(client: &Client, list: &ListOptions<JobState>, json: bool) -> Result<ExitCode> {
    let listing: Listing<JobRecord> = client.query(&Query::Jobs { state: list.state, limit: list.limit, page: JobPage::default() }).await?;
    show(&listing, json, &["JOB", "STATE", "NAME", "TASKS", "FAILED", "SUBMITTED", "ERROR"], |row| {
        vec![
            row.id.to_string(),
            row.state.to_string(),
            row.name.clone(),
            format!("{}/{}", row.tasks.finished(), row.tasks.total()),
            row.tasks.failed.to_string(),
            ui::time(row.submitted_ms),
            row.error.as_ref().map(|error| error.code().to_string()).unwrap_or_default(),
        ]
    })
}

/// `rwasm why`.
pub(crate) async fn why(args: &WhyArgs, json: bool) -> Result<ExitCode> {
    let reason: Reason = target::connect_into(&args.view).await?.query(&Query::Why { task: args.task }).await?;
    if json {
        ui::json(&reason)?
    } else {
        ui::line(&ui::printable(&reason.why))?
    }
    Ok(ExitCode::SUCCESS)
}

fn task(row: &TaskRecord) -> Vec<String> {
    let took =
        row.started_ms.zip(row.ended_ms).map(|(from, to)| format_duration(std::time::Duration::from_millis(to.saturating_sub(from))));
    vec![
        row.id.to_string(),
        row.state.to_string(),
        row.export.clone(),
        row.node.map(|node| node.to_string()).unwrap_or_default(),
        row.attempt.0.to_string(),
        took.unwrap_or_default(),
        if row.state.is_final() { format_duration(std::time::Duration::from_micros(row.cpu_us)) } else { String::new() },
        row.error.as_ref().map(|error| format!("{}: {}", error.code(), error.message())).unwrap_or_default(),
    ]
}

fn node(row: &NodeRecord) -> Vec<String> {
    vec![
        row.id.to_string(),
        row.name.to_string(),
        format!("{}{}", row.state(), if row.alive && row.head { ", head" } else { "" }),
        format!("{}/{}", row.used.cpu, row.capacity.cpu),
        format!("{}/{}", row.used.gpu, row.capacity.gpu),
        format!("{}/{}", format_bytes(row.used.memory), format_bytes(row.capacity.memory)),
        row.tasks_running.to_string(),
        row.tasks_queued.to_string(),
        row.gateway_address.as_ref().or(row.data_address.as_ref()).map(PathBuf::from).unwrap_or_default().display().to_string(),
    ]
}

/// Shows rows as a table or as JSON, and what is missing of them.
pub(crate) fn show<T: Serialize>(listing: &Listing<T>, json: bool, headers: &[&str], row: impl Fn(&T) -> Vec<String>) -> Result<ExitCode> {
    if json {
        ui::json(listing)?;
        return Ok(ExitCode::SUCCESS);
    }
    ui::table(headers, listing.rows.iter().map(row))?;
    if listing.total > listing.rows.len() as u64 {
        ui::note(&format!("{} of {}; --limit shows more", listing.rows.len(), listing.total));
    }
    for missing in &listing.missing {
        ui::note(&format!("incomplete: {missing}"));
    }
    Ok(ExitCode::SUCCESS)
}
