//! The cluster's state: at a glance, as lists, and one by one.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    extract::{Path, State},
    response::Response,
};
use rwasm_types::{
    Code, Error, NodeId, Result,
    api::{ArtifactRecord, LIMIT_MAX, Listing, NodeRecord, Query, TaskCounts, TaskRecord},
    view::{Summary, TaskPage},
};
use serde::Serialize;

use super::{ask, pass, stream_permit};
use crate::{
    app::{Admitted, App},
    live,
    page::{Page, Params, id},
    reply::{Failure, Json},
};

/// Spans of a timeline where nothing else is asked for, and the most.
const SPANS: usize = 2_000;
const SPANS_MAX: usize = 10_000;

/// `GET /api/v1/status`
pub(crate) async fn status(Admitted { visitor, .. }: Admitted, params: Params) -> Result<Json, Failure> {
    params.done()?;
    Ok(pass(&visitor, Query::Status).await?)
}

/// Everything by state.
#[derive(Serialize)]
struct Everything {
    jobs: BTreeMap<String, u64>,
    tasks: TaskCounts,
    nodes: BTreeMap<&'static str, u64>,
    artifacts: Artifacts,
    now_s: u64,
    ended_per_second: Vec<u32>,
    missing: Vec<String>,
}

#[derive(Serialize)]
struct Artifacts {
    count: u64,
    size_bytes: u64,
}

/// `GET /api/v1/summary`
pub(crate) async fn summary(Admitted { visitor, .. }: Admitted, params: Params) -> Result<Json, Failure> {
    params.done()?;
    let Summary { jobs, tasks, now_s, ended_per_second, mut missing } = ask(&visitor, Query::Summary).await?;
    let known: Listing<NodeRecord> = ask(&visitor, Query::Nodes).await?;
    let alive = known.rows.iter().filter(|node| node.alive).count() as u64;
    let nodes = BTreeMap::from([("alive", alive), ("lost", known.rows.len() as u64 - alive)]);
    let stored: Listing<ArtifactRecord> = ask(&visitor, Query::Artifacts { limit: LIMIT_MAX, digest: None }).await?;
    let artifacts = Artifacts { count: stored.total, size_bytes: stored.rows.iter().map(|row| row.size_bytes).sum() };
    missing.extend(stored.missing);
    Json::of(&Everything { jobs, tasks, nodes, artifacts, now_s, ended_per_second, missing })
}

/// `GET /api/v1/events`
pub(crate) async fn events(State(app): State<Arc<App>>, admitted: Admitted, params: Params) -> Result<Response, Failure> {
    params.done()?;
    let permit = stream_permit(&app)?;
    Ok(live::events(app, admitted.credentials, permit))
}

/// `GET /api/v1/timeline`
pub(crate) async fn timeline(Admitted { visitor, .. }: Admitted, mut params: Params) -> Result<Json, Failure> {
    let (from_ms, to_ms) = (params.take("from")?, params.take("to")?);
    let (job, limit) = (params.take("job")?, params.limit_to(SPANS, SPANS_MAX)?);
    params.done()?;
    let (Some(from_ms), Some(to_ms)) = (from_ms, to_ms) else {
        return Err(Error::new(Code::INVALID_ARGUMENT, "a timeline is from one time to another")
            .hint("give `from` and `to` in milliseconds since 1970")
            .into());
    };
    Ok(pass(&visitor, Query::Timeline { job, from_ms, to_ms, limit }).await?)
}

/// `GET /api/v1/nodes`
pub(crate) async fn nodes(Admitted { visitor, .. }: Admitted, mut params: Params) -> Result<Json, Failure> {
    let (alive, name): (Option<bool>, _) = (params.take("alive")?, params.text("name")?.map(|name| name.to_lowercase()));
    let (after, limit): (Option<NodeId>, _) = (params.take("after")?, params.limit()?);
    params.done()?;
    let mut nodes: Listing<NodeRecord> = ask(&visitor, Query::Nodes).await?;
    let wanted = |node: &NodeRecord| {
        alive.is_none_or(|alive| node.alive == alive)
            && name.as_ref().is_none_or(|name| node.name.as_str().to_lowercase().contains(name.as_str()))
    };
    nodes.rows.retain(wanted);
    nodes.total = nodes.rows.len() as u64;
    nodes.rows.retain(|node| after.is_none_or(|after| node.id > after));
    Json::of(&Page::of(nodes, limit, |node| node.id.to_string()))
}

/// `GET /api/v1/nodes/{node}`
pub(crate) async fn node(Admitted { visitor, .. }: Admitted, Path(node): Path<String>, params: Params) -> Result<Json, Failure> {
    params.done()?;
    let node: NodeId = id(&node)?;
    let nodes: Listing<NodeRecord> = ask(&visitor, Query::Nodes).await?;
    let found = nodes.rows.iter().find(|known| known.id == node);
    Json::of(found.ok_or_else(|| Error::new(Code::NOT_FOUND, format!("there is no node {node}")))?)
}

/// `GET /api/v1/tasks`
pub(crate) async fn tasks(Admitted { visitor, .. }: Admitted, mut params: Params) -> Result<Json, Failure> {
    let (job, state) = (params.take("job")?, params.take("state")?);
    let page =
        TaskPage { node: params.take("node")?, export: params.text("export")?, code: params.take("code")?, after: params.take("after")? };
    let limit = params.limit()?;
    params.done()?;
    let tasks: Listing<TaskRecord> = ask(&visitor, Query::Tasks { job, state, limit: limit + 1, page }).await?;
    Json::of(&Page::of(tasks, limit, |task| task.cursor().to_string()))
}

/// `GET /api/v1/tasks/{task}`
pub(crate) async fn task(Admitted { visitor, .. }: Admitted, Path(task): Path<String>, params: Params) -> Result<Json, Failure> {
    params.done()?;
    Ok(pass(&visitor, Query::Task { task: id(&task)? }).await?)
}

/// `GET /api/v1/why/{task}`
pub(crate) async fn why(Admitted { visitor, .. }: Admitted, Path(task): Path<String>, params: Params) -> Result<Json, Failure> {
    params.done()?;
    Ok(pass(&visitor, Query::Why { task: id(&task)? }).await?)
}
