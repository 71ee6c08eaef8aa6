//! Questions that cross the cluster: what the head knows itself, what one node knows, and what is put together from all of them.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use rwasm_types::{
    Code, Error, JobId, NodeId, Result, Tenant,
    api::{Ask, JobRecord, LIMIT_MAX, Listing, Order, Query, Reason, TaskRecord},
};
use rwasm_wire::{convert, msg};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::oneshot;

use crate::{
    orders::Begun,
    state::{Shared, ToNode},
};

/// How long nodes have to answer. Whoever has not is named in the answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Answers a node's question on its stream.
pub(crate) async fn answer(shared: &Arc<Shared>, question: msg::Question, queue: ToNode) {
    let result = match find(shared, &question).await {
        Ok(answer) => msg::answer::Result::Answer(answer),
        Err(error) => msg::answer::Result::Error((&error).into()),
    };
    let answer = msg::Answer { number: question.number, result: Some(result) };
    // The node may be gone by now.
    let _ = queue.send(msg::HeadMessage { message: Some(msg::head_message::Message::Answer(answer)) });
}

async fn find(shared: &Shared, question: &msg::Question) -> Result<Bytes> {
    let ask: Ask =
        serde_json::from_slice(&question.ask).map_err(|error| convert::malformed(format_args!("a question is not understood: {error}")))?;
    match &ask {
        Ask::Query(Query::Nodes) => {
            let rows = shared.node_records();
            json(&Listing { total: rows.len() as u64, rows, missing: Vec::new() })
        }
        Ask::Query(Query::Status) => status(shared, question).await,
        Ask::Query(Query::Place(place)) => json(&shared.plan(place, &question.tenant)?),
        Ask::Query(Query::Demand { owner, request }) => json(&Reason { why: shared.why(*owner, *request, &question.tenant) }),
        Ask::Query(Query::Plan { .. }) => Err(Error::internal("the head was asked what only a gateway knows")),
        Ask::Query(Query::Jobs { limit, .. }) => {
            let mut all: Listing<JobRecord> = from_all(shared, question).await?;
            all.rows.sort_by_key(|row| std::cmp::Reverse((row.submitted_ms, row.id)));
            all.rows.truncate((*limit).min(LIMIT_MAX));
            json(&all)
        }
        Ask::Query(Query::Tasks { job: None, limit, .. }) => {
            let mut all: Listing<TaskRecord> = from_all(shared, question).await?;
            all.rows.sort_by_key(|row| std::cmp::Reverse((row.queued_ms, row.id)));
            all.rows.truncate((*limit).min(LIMIT_MAX));
            json(&all)
        }
        Ask::Query(Query::Artifacts { limit, digest }) => {
            let mut all = shared.artifacts(question, digest.as_ref()).await?;
            all.rows.truncate((*limit).min(LIMIT_MAX));
            json(&all)
        }
        Ask::Query(Query::Artifact { artifact }) => json(&shared.artifact(question, artifact).await?),
        Ask::Query(Query::Tags { limit }) => json(&shared.tags(&question.tenant, *limit)?),
        Ask::Query(Query::Tasks { job: Some(job), .. } | Query::Job { job }) => {
            from_owner(shared, question, job.owner, &job_of(*job)).await
        }
        Ask::Order(order) => carry_out(shared, question, order).await,
        Ask::Query(Query::Task { task } | Query::Why { task }) => {
            from_owner(shared, question, task.owner, &Error::new(Code::NOT_FOUND, format!("there is no task {task}"))).await
        }
    }
}

/// Waits until a node has heard an order, if it is there, and gives its record. What it reports comes before its answer, so the record tells
/// what runs there since then.
async fn settled(shared: &Shared, node: NodeId, heard: Option<oneshot::Receiver<Result<Bytes>>>) -> Result<Bytes> {
    if let Some(heard) = heard
        && !matches!(tokio::time::timeout(ANSWER_WITHIN, heard).await, Ok(Ok(Ok(_))))
    {
        tracing::warn!(%node, "a node has not heard an order yet; it is told again when it joins");
    }
    json(&shared.node_record(node)?)
}

/// Carries out an order, if it was not carried out before.
async fn carry_out(shared: &Shared, question: &msg::Question, order: &Order) -> Result<Bytes> {
    let tenant = Tenant::new(&question.tenant).map_err(convert::malformed)?;
    let once = match shared.orders.begin(&tenant, &question.key, order).await? {
        Begun::Before(answer) => return Ok(answer),
        Begun::Now(once) => once,
    };
    let answer = match order {
        Order::StopJob { job } => from_owner(shared, question, job.owner, &job_of(*job)).await?,
        Order::TagArtifact { tag, artifact } => shared.tag(question, tag, artifact, &once).await?,
        Order::Untag { tag } => shared.untag(question, tag, &once).await?,
        Order::RemoveArtifact { artifact, force } => json(&shared.remove_artifact(question, artifact, *force).await?)?,
        Order::CollectArtifacts { unused_for_ms, dry_run, keep } => {
            json(&shared.collect_artifacts(question, *unused_for_ms, *dry_run, keep).await?)?
        }
        Order::DrainNode { node, within_ms } => {
            settled(shared, *node, shared.drain(*node, Duration::from_millis(*within_ms)).await?).await?
        }
        Order::UndrainNode { node } => settled(shared, *node, shared.undrain(*node).await?).await?,
    };
    once.done(&answer).await;
    Ok(answer)
}

fn job_of(job: JobId) -> Error {
    Error::new(Code::NOT_FOUND, format!("there is no job {job}")).hint("`rwasm job list` shows what there is")
}

/// The cluster at a glance, with how many jobs are in each state.
async fn status(shared: &Shared, question: &msg::Question) -> Result<Bytes> {
    let mut status = shared.status();
    let jobs = serde_json::to_vec(&Ask::Query(Query::Jobs { state: None, limit: LIMIT_MAX })).map_err(no_json)?;
    let jobs = msg::Question { ask: jobs.into(), ..question.clone() };
    for job in from_all::<JobRecord>(shared, &jobs).await?.rows {
        *status.jobs.entry(job.state.to_string()).or_default() += 1;
    }
    json(&status)
}

/// Asks the node that owns what is asked about.
async fn from_owner(shared: &Shared, question: &msg::Question, owner: NodeId, unknown: &Error) -> Result<Bytes> {
    let Some(answer) = shared.question(owner, &question.tenant, question.ask.clone()) else {
        return Err(unknown.clone().context(format_args!("node {owner} is not there")));
    };
    match tokio::time::timeout(ANSWER_WITHIN, answer).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) | Err(_) => Err(Error::new(Code::DEADLINE, format!("node {owner} did not answer in time"))),
    }
}

/// Asks all nodes at once and puts their parts together; says who did not answer.
pub(crate) async fn from_all<T: DeserializeOwned>(shared: &Shared, question: &msg::Question) -> Result<Listing<T>> {
    let asked = shared.nodes_reachable().into_iter().map(|node| (node, shared.question(node, &question.tenant, question.ask.clone())));
    let asked: Vec<_> = asked.collect();
    let deadline = tokio::time::Instant::now() + ANSWER_WITHIN;
    let mut all = Listing::default();
    for (node, answer) in asked {
        let part = match answer {
            Some(answer) => tokio::time::timeout_at(deadline, answer).await.ok().and_then(std::result::Result::ok),
            None => None,
        };
        match part {
            Some(Ok(part)) => {
                all.merge(
                    serde_json::from_slice(&part)
                        .map_err(|error| convert::malformed(format_args!("node {node} answers in another way: {error}")))?,
                );
            }
            Some(Err(error)) => all.missing.push(format!("node {node}: {}", error.message())),
            None => all.missing.push(format!("node {node} did not answer in time")),
        }
    }
    Ok(all)
}

pub(crate) fn json<T: Serialize>(answer: &T) -> Result<Bytes> {
    serde_json::to_vec(answer).map(Bytes::from).map_err(no_json)
}

#[expect(clippy::needless_pass_by_value, reason = "its only use is map_err")]
fn no_json(error: serde_json::Error) -> Error {
    Error::internal(format!("an answer has no JSON: {error}"))
}
