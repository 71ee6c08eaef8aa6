//! Questions that cross the cluster: what the head knows itself, what one node knows, and what is put together from all of them.

use std::{cmp::Reverse, collections::HashSet, sync::Arc, time::Duration};

use bytes::Bytes;
use rwasm_types::{
    ActorId, Code, Error, Identity, JobId, NodeId, ObjectId, Result, Tenant,
    api::{ActorRecord, Ask, LIMIT_MAX, Listing, MemoryRecord, ObjectRecord, Order, Query, Reason},
    view::Wanted,
};
use rwasm_wire::{convert, msg};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::oneshot;

use crate::{
    invite::NewInvitation,
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
    let (tenant, identity) = shared.asker(question, &ask)?;
    match &ask {
        Ask::Query(Query::Nodes) => {
            let rows = shared.node_records();
            json(&Listing { total: rows.len() as u64, rows, missing: Vec::new() })
        }
        Ask::Query(Query::Status) => status(shared, question, &tenant).await,
        Ask::Query(Query::Groups) => json(&shared.groups(&tenant)),
        Ask::Query(Query::Tenants) => json(&shared.tenants()),
        Ask::Query(Query::Tokens { tenant }) => json(&shared.tokens(tenant.as_ref())),
        Ask::Query(Query::Invitations) => json(&shared.invitations.list()?),
        Ask::Query(Query::Policy) => json(&shared.policy(&tenant)),
        Ask::Offered { needs } => shared.offered(needs).and_then(|()| json(&())),
        Ask::Place(place) => json(&shared.place(place, &tenant)?),
        Ask::Demand { owner, request } => json(&Reason { why: shared.why(*owner, *request, &tenant) }),
        Ask::NameActor { name, actor } => shared.name_actor(&tenant, name, *actor).await,
        Ask::UnnameActor { name, actor } => shared.unname_actor(&tenant, name, *actor).await,
        Ask::Query(Query::NamedActor { name }) => shared.named_actor(&tenant, name),
        Ask::Query(Query::Plan { .. }) => Err(Error::internal("the head was asked what only a gateway knows")),
        Ask::TenantUse => Err(Error::internal("the head was asked what only it asks")),
        Ask::Query(Query::Jobs { state, limit, page }) => {
            json(&shared.job_list(question, &tenant, Wanted { state: *state, page }, *limit).await?)
        }
        Ask::Query(Query::Tasks { job: None, state, limit, page }) => {
            json(&shared.task_list(question, &tenant, Wanted { state: *state, page }, *limit).await?)
        }
        Ask::Query(Query::Timeline { job: None, from_ms, to_ms, limit }) => {
            json(&shared.timeline(question, &tenant, *from_ms, *to_ms, *limit).await?)
        }
        Ask::Query(Query::Summary) => json(&shared.summary(question, &tenant).await?),
        Ask::Query(Query::Artifacts { limit, digest }) => {
            let mut all = shared.artifacts(question, digest.as_ref()).await?;
            all.rows.truncate((*limit).min(LIMIT_MAX));
            json(&all)
        }
        Ask::Query(Query::Artifact { artifact }) => json(&shared.artifact(question, artifact).await?),
        Ask::Query(Query::Tags { limit }) => json(&shared.tags(&question.tenant, *limit)?),
        Ask::Query(query @ (Query::Tasks { job: Some(job), .. } | Query::Timeline { job: Some(job), .. } | Query::Job { job })) => {
            known_of(shared, question, &tenant, query, job.owner, &job_of(*job)).await
        }
        Ask::Query(Query::Objects { limit }) => {
            let mut all = from_all::<ObjectRecord>(shared, question).await?;
            all.rows.sort_by_key(|row| row.id);
            all.rows.truncate((*limit).min(LIMIT_MAX));
            json(&all)
        }
        Ask::Query(Query::Actors { limit }) => {
            let mut all = from_all::<ActorRecord>(shared, question).await?;
            all.rows.sort_by_key(|row| Reverse((row.created_ms, row.id)));
            all.rows.truncate((*limit).min(LIMIT_MAX));
            json(&all)
        }
        Ask::Query(Query::Actor { actor }) => from_owner(shared, question, actor.0.owner, &actor_of(*actor)).await,
        Ask::Query(Query::Memory) => json(&from_all::<MemoryRecord>(shared, question).await?),
        Ask::Query(Query::Object { object }) => from_owner(shared, question, object.task.owner, &object_of(*object)).await,
        Ask::Order(order) => carry_out(shared, question, &identity, order).await,
        Ask::Query(query @ (Query::Task { task } | Query::Why { task })) => {
            let unknown = Error::new(Code::NOT_FOUND, format!("there is no task {task}"));
            known_of(shared, question, &tenant, query, task.owner, &unknown).await
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
async fn carry_out(shared: &Shared, question: &msg::Question, identity: &Identity, order: &Order) -> Result<Bytes> {
    let tenant = Tenant::new(&question.tenant).map_err(convert::malformed)?;
    let once = match shared.orders.begin(&tenant, &question.key, order).await? {
        Begun::Before(answer) => return Ok(answer),
        Begun::Now(once) => once,
    };
    let answer = match order {
        Order::StopJob { job } => from_owner(shared, question, job.owner, &job_of(*job)).await?,
        Order::ReleaseObject { object } => from_owner(shared, question, object.task.owner, &object_of(*object)).await?,
        Order::EndActor { actor, .. } => from_owner(shared, question, actor.0.owner, &actor_of(*actor)).await?,
        Order::TagArtifact { tag, artifact } => shared.tag(question, tag, artifact, &once).await?,
        Order::Untag { tag } => shared.untag(question, tag, &once).await?,
        Order::RemoveArtifact { artifact, force } => json(&shared.remove_artifact(question, artifact, *force).await?)?,
        Order::CollectArtifacts { unused_for_ms, dry_run, keep } => {
            json(&shared.collect_artifacts(question, *unused_for_ms, *dry_run, keep).await?)?
        }
        Order::DrainNode { node, within_ms } => {
            settled(shared, *node, shared.drain(*node, Duration::from_millis(*within_ms)).await?).await?
        }
        Order::InviteNode { id, hash, life_ms, nodes } => {
            let new = NewInvitation { id: *id, hash: *hash, life: Duration::from_millis(*life_ms), nodes: *nodes };
            let answer = shared.invitations.create(&new, &once).await?;
            let by = identity.token.map(tracing::field::display);
            tracing::info!(tenant = %identity.tenant, token = %id, by, "a join token was created");
            answer
        }
        Order::CreateGroup(group) => shared.create_group(&tenant, group, &once).await?,
        Order::RemoveGroup { name } => shared.remove_group(&tenant, name, &once).await?,
        Order::RevokeInvitation { token } => {
            let answer = shared.invitations.revoke(*token).await?;
            let by = identity.token.map(tracing::field::display);
            tracing::info!(tenant = %identity.tenant, %token, by, "a join token was revoked");
            answer
        }
        Order::UndrainNode { node } => settled(shared, *node, shared.undrain(*node).await?).await?,
        Order::CreateTenant { .. }
        | Order::DeleteTenant { .. }
        | Order::CreateToken { .. }
        | Order::RevokeToken { .. }
        | Order::SetPolicy { .. } => shared.manage(identity, order).await?,
    };
    once.done(&answer).await;
    Ok(answer)
}

fn job_of(job: JobId) -> Error {
    Error::new(Code::NOT_FOUND, format!("there is no job {job}")).hint("`rwasm job list` shows what there is")
}

fn actor_of(actor: ActorId) -> Error {
    Error::new(Code::NOT_FOUND, format!("there is no actor {actor}"))
}

fn object_of(object: ObjectId) -> Error {
    Error::new(Code::NO_SUCH_OBJECT, format!("there is no object {object}")).hint("`rwasm list objects` shows what there is")
}

/// The cluster at a glance, with how many jobs are in each state.
async fn status(shared: &Shared, question: &msg::Question, tenant: &Tenant) -> Result<Bytes> {
    let mut status = shared.status();
    let ask = serde_json::to_vec(&Ask::Query(Query::Summary)).map_err(no_json)?;
    let question = msg::Question { ask: ask.into(), ..question.clone() };
    let summary = shared.summary(&question, tenant).await?;
    status.jobs = summary.jobs;
    json(&status)
}

/// Asks the node that owns what is asked about; where it does not answer, what it shipped.
async fn known_of(
    shared: &Shared,
    question: &msg::Question,
    tenant: &Tenant,
    query: &Query,
    owner: NodeId,
    unknown: &Error,
) -> Result<Bytes> {
    match ask_owner(shared, question, owner).await {
        Ok(answer) => answer,
        Err(away) => match shared.of_the_gone(tenant, query).await? {
            Some(answer) => Ok(answer),
            None => Err(away.unwrap_or_else(|| gone(owner, unknown))),
        },
    }
}

/// What is said of something that nobody knows, because its owner is not there.
fn gone(owner: NodeId, unknown: &Error) -> Error {
    unknown.clone().context(format_args!("node {owner} is not there"))
}

/// Asks the node that owns what is asked about.
async fn from_owner(shared: &Shared, question: &msg::Question, owner: NodeId, unknown: &Error) -> Result<Bytes> {
    ask_owner(shared, question, owner).await.unwrap_or_else(|away| Err(away.unwrap_or_else(|| gone(owner, unknown))))
}

/// Asks a node.
///
/// # Errors
///
/// If it is not there, without a reason, or does not answer in time.
async fn ask_owner(shared: &Shared, question: &msg::Question, owner: NodeId) -> Result<Result<Bytes>, Option<Error>> {
    let answer = shared.question(owner, &question.tenant, question.ask.clone()).ok_or(None)?;
    match tokio::time::timeout(ANSWER_WITHIN, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) | Err(_) => Err(Some(Error::new(Code::DEADLINE, format!("node {owner} did not answer in time")))),
    }
}

/// Asks all nodes at once and puts their parts of a list together; says who did not answer.
pub(crate) async fn from_all<T: DeserializeOwned>(shared: &Shared, question: &msg::Question) -> Result<Listing<T>> {
    from_those_there(shared, question).await.map(|(all, _)| all)
}

/// The same; says who answered.
pub(crate) async fn from_those_there<T: DeserializeOwned>(
    shared: &Shared,
    question: &msg::Question,
) -> Result<(Listing<T>, HashSet<NodeId>)> {
    let (parts, missing) = each(shared, question).await;
    let answered = parts.iter().map(|(node, _)| *node).collect();
    let mut all = Listing { missing, ..Listing::default() };
    for (node, part) in parts {
        let part = serde_json::from_slice(&part)
            .map_err(|error| convert::malformed(format_args!("node {node} answers in another way: {error}")))?;
        all.merge(part);
    }
    Ok((all, answered))
}

/// Asks all nodes at once; gives their answers, and a line for each that gave none.
pub(crate) async fn each(shared: &Shared, question: &msg::Question) -> (Vec<(NodeId, Bytes)>, Vec<String>) {
    let asked = shared.nodes_reachable().into_iter().map(|node| (node, shared.question(node, &question.tenant, question.ask.clone())));
    let asked: Vec<_> = asked.collect();
    let deadline = tokio::time::Instant::now() + ANSWER_WITHIN;
    let (mut answers, mut missing) = (Vec::new(), Vec::new());
    for (node, answer) in asked {
        let part = match answer {
            Some(answer) => tokio::time::timeout_at(deadline, answer).await.ok().and_then(std::result::Result::ok),
            None => None,
        };
        match part {
            Some(Ok(part)) => answers.push((node, part)),
            Some(Err(error)) => missing.push(format!("node {node}: {}", error.message())),
            None => missing.push(format!("node {node} did not answer in time")),
        }
    }
    (answers, missing)
}

pub(crate) fn json<T: Serialize>(answer: &T) -> Result<Bytes> {
    serde_json::to_vec(answer).map(Bytes::from).map_err(no_json)
}

#[expect(clippy::needless_pass_by_value, reason = "its only use is map_err")]
fn no_json(error: serde_json::Error) -> Error {
    Error::internal(format!("an answer has no JSON: {error}"))
}
