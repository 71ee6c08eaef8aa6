//! The past of jobs whose owners are gone: what nodes ship while they are there, and the answers that come of it afterwards.
//!
//! ```text
//! node: written to 3/9000 ──▶ pull: wanted from 3/4711 ──▶ node ──▶ batch ──▶ Shipped, on stable storage ──▶ wanted from 3/9000
//! ```
//!
//! The head pulls: each node sends one batch when it is asked, and few are asked at a time. So neither many nodes nor a broken one fill the
//! head's memory, and how fast a disk is decides how fast all goes.
//!
//! The node in the head's own process is never asked: its past lies on the same disk, and one is not there without the other.

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use rwasm_history::{
    Found, Kept, PastBatch, Position, Retention, Shipped, View,
    past::{self, EndedJob},
    ship::BATCH_BYTES,
    shipped::Absent,
};
use rwasm_runtime::{aside, now_ms};
use rwasm_types::{
    Code, Error, JobId, NodeId, Result, TaskId, Tenant,
    api::{JobRecord, LIMIT_MAX, Listing, Query, Reason, TaskRecord, UnixMs},
    view::{JobsWanted, Span, Summary, TasksWanted},
};
use rwasm_wire::{convert, msg};
use tokio::sync::{Semaphore, mpsc, watch};

use crate::{
    ask::{each, from_those_there, json},
    state::{Shared, ToNode},
};

/// Nodes that are asked at the same time.
const PULLS_MAX: usize = 16;
/// How long a node has to send what was asked for.
const SENT_WITHIN: Duration = Duration::from_secs(10);
/// The first and the longest pause after something went wrong.
const PAUSE_FIRST: Duration = Duration::from_millis(500);
const PAUSE_LONGEST: Duration = Duration::from_secs(60);
/// How long nodes have to come back after the head started, before they count as lost: longer than they take to try again.
const BACK_WITHIN_MS: u64 = 5_000;
/// How often is looked for what is too old.
const RETAIN_EVERY: Duration = Duration::from_secs(60);
/// What a node has written that never wrote anything.
const NOTHING: Position = Position { segment: 1, offset: 0 };

/// What a head keeps of the past of nodes.
#[derive(Clone, Debug)]
pub struct HistoryOptions {
    /// A directory for it alone.
    pub dir: PathBuf,
    /// How long, and how much.
    pub retention: Retention,
}

/// The past of nodes, and what they say that they have.
pub(crate) struct History {
    store: Shipped,
    turns: Semaphore,
    /// Up to where nodes that are there have written.
    written: Mutex<HashMap<NodeId, Position>>,
}

/// A node's stream, as far as its history goes.
pub(crate) struct Stream {
    node: NodeId,
    written: watch::Sender<Position>,
    batches: mpsc::Sender<msg::HistoryBatch>,
}

/// The other end of a [`Stream`].
pub(crate) struct Pull {
    node: NodeId,
    written: watch::Receiver<Position>,
    batches: mpsc::Receiver<msg::HistoryBatch>,
}

fn read(position: Option<msg::HistoryPosition>) -> Result<Position> {
    let msg::HistoryPosition { segment, offset } = convert::required(position, "a place in the history")?;
    Ok(Position { segment, offset })
}

fn read_batch(batch: msg::HistoryBatch) -> Result<PastBatch> {
    let msg::HistoryBatch { at, records, sealed, unreadable } = batch;
    Ok(PastBatch { at: read(at)?, records, sealed, unreadable })
}

/// What a node is told: what is here, and how much is wanted.
fn wanted(from: Position, bytes: usize, error: Option<&Error>) -> msg::HeadMessage {
    let Position { segment, offset } = from;
    let wanted = msg::HistoryWanted {
        from: Some(msg::HistoryPosition { segment, offset }),
        bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
        error: error.map(Into::into),
    };
    msg::HeadMessage { message: Some(msg::head_message::Message::HistoryWanted(wanted)) }
}

impl Stream {
    /// A node's stream begins.
    pub(crate) fn new(node: NodeId) -> (Self, Pull) {
        let (written, is_written) = watch::channel(Position::default());
        // One batch is asked for at a time.
        let (batches, sent) = mpsc::channel(1);
        (Self { node, written, batches }, Pull { node, written: is_written, batches: sent })
    }

    /// A node says up to where it has written.
    ///
    /// # Errors
    ///
    /// If that is no place.
    pub(crate) fn written(&self, shared: &Shared, written: msg::HistoryWritten) -> Result<()> {
        let to = read(written.to)?;
        if let Some(history) = &shared.history {
            history.written.lock().insert(self.node, to);
        }
        self.written.send_replace(to);
        Ok(())
    }

    /// A node sends a batch.
    ///
    /// # Errors
    ///
    /// [`Code::MALFORMED_MESSAGE`] if it sends more than it was asked for.
    pub(crate) fn sent(&self, batch: msg::HistoryBatch) -> Result<()> {
        self.batches.try_send(batch).map_err(|_| convert::malformed("more of the history than was asked for"))
    }
}

impl History {
    /// Opens what is there.
    ///
    /// # Errors
    ///
    /// As [`Shipped::open`].
    pub(crate) async fn open(options: HistoryOptions, cluster: &str) -> Result<Self> {
        let store = aside(async { Shipped::open(&options.dir, cluster, options.retention) }).await?;
        Ok(Self { store, turns: Semaphore::new(PULLS_MAX), written: Mutex::default() })
    }

    /// What a node is told first when it joins: before it removes anything, it knows that the head wants it.
    pub(crate) fn greet(&self, node: Option<NodeId>, queue: &ToNode) {
        let had = node.map(|node| self.store.had(node)).unwrap_or_default();
        // The stream is being opened.
        let _ = queue.send(wanted(had, 0, None));
    }

    /// Gets one batch of a node; gives what is here then.
    async fn pull_once(&self, shared: &Shared, pull: &mut Pull, queue: &ToNode, had: Position) -> Result<Position> {
        let _turn = self.turns.acquire().await.map_err(|_| Error::internal("nobody closes the turns"))?;
        // One that came too late is not what is asked for now.
        while pull.batches.try_recv().is_ok() {}
        let _ = queue.send(wanted(had, BATCH_BYTES, None));
        let late = |_| Error::new(Code::DEADLINE, format!("node {} did not send its history in time", pull.node));
        let sent = tokio::time::timeout(SENT_WITHIN, pull.batches.recv()).await.map_err(late)?;
        let batch = read_batch(sent.ok_or_else(|| Error::new(Code::CONNECTION_LOST, "the node's stream ended"))?)?;
        let live = shared.nodes_live();
        aside(async { self.store.accept(pull.node, &batch, &|node| live.contains(&node), now_ms()) }).await
    }
}

impl Pull {
    /// Gets what a node has, for as long as its stream is open.
    pub(crate) async fn run(mut self, shared: &Shared, queue: &ToNode) {
        let Some(history) = &shared.history else { return std::future::pending().await };
        let mut had = history.store.had(self.node);
        let mut pause = PAUSE_FIRST;
        loop {
            if self.written.wait_for(|to| *to > had.max(NOTHING)).await.is_err() {
                return std::future::pending().await;
            }
            match history.pull_once(shared, &mut self, queue, had).await {
                Ok(now) if now > had => {
                    had = now;
                    pause = PAUSE_FIRST;
                    let _ = queue.send(wanted(had, 0, None));
                    continue;
                }
                // It has nothing more, whatever it said.
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(node = %self.node, %error, "a node's history is not taken");
                    let _ = queue.send(wanted(had, 0, Some(&error)));
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_LONGEST);
        }
    }
}

/// Removes what is too old, for as long as the head runs.
pub(crate) async fn retain(shared: &Shared) {
    let Some(history) = &shared.history else { return std::future::pending().await };
    let mut ticks = tokio::time::interval(RETAIN_EVERY);
    loop {
        ticks.tick().await;
        let live = shared.nodes_live();
        if let Err(error) = aside(async { history.store.retain(&|node| live.contains(&node), now_ms()) }).await {
            tracing::error!(%error, "the history of nodes cannot be cut to what is kept");
        }
    }
}

impl Shared {
    /// Notes that nodes were lost, and what they had written by then.
    pub(crate) async fn owners_lost(&self, lost: &[NodeId]) {
        let Some(history) = &self.history else { return };
        for node in lost {
            let Some(written) = history.written.lock().remove(node) else { continue };
            if let Err(error) = aside(async { history.store.lost(*node, written, now_ms()) }).await {
                tracing::error!(%node, %error, "it cannot be noted that a node was lost");
            }
        }
    }

    /// Notes that a node is there again.
    ///
    /// # Errors
    ///
    /// If it cannot be noted.
    pub(crate) async fn owner_is_back(&self, node: NodeId) -> Result<()> {
        match &self.history {
            Some(history) => aside(async { history.store.back(node) }).await,
            None => Ok(()),
        }
    }

    /// Since when an owner that does not answer is lost.
    fn absent(&self, history: &History, owner: NodeId) -> Absent {
        let lost_ms = self.lost_ms(owner).unwrap_or_else(|| {
            let (lost_ms, heard_ms) = history.store.last_seen_ms(owner);
            let late = now_ms().saturating_sub(self.started_ms()) > BACK_WITHIN_MS;
            lost_ms.or_else(|| late.then_some(heard_ms))
        });
        Absent { owner, lost_ms }
    }

    /// Owners that did not answer, as far as something is kept of them.
    fn absent_but(&self, answered: &HashSet<NodeId>) -> Option<(&History, Vec<Absent>)> {
        let history = self.history.as_ref()?;
        let owners = history.store.owners().into_iter().filter(|owner| !answered.contains(owner));
        let absent: Vec<Absent> = owners.map(|owner| self.absent(history, owner)).collect();
        (!absent.is_empty()).then_some((history, absent))
    }

    /// Adds what is kept of owners that did not answer.
    async fn with_history<T>(
        &self,
        mut all: Listing<T>,
        answered: &HashSet<NodeId>,
        ask: impl FnOnce(&Shipped, &[Absent]) -> Result<Found<T>>,
    ) -> Result<Listing<T>> {
        let Some((history, absent)) = self.absent_but(answered) else { return Ok(all) };
        let found = aside(async { ask(&history.store, &absent) }).await?;
        all.merge(Listing { rows: found.rows, total: found.total, missing: found.missing });
        all.missing.extend(absent.iter().flat_map(|absent| history.store.missing(absent.owner)));
        Ok(all)
    }

    /// A tenant's jobs at all owners, newest first.
    ///
    /// # Errors
    ///
    /// If an answer is not understood, or the history cannot be read.
    pub(crate) async fn job_list(
        &self,
        question: &msg::Question,
        tenant: &Tenant,
        wanted: JobsWanted<'_>,
        limit: usize,
    ) -> Result<Listing<JobRecord>> {
        let limit = limit.min(LIMIT_MAX);
        let (all, answered) = from_those_there::<JobRecord>(self, question).await?;
        let mut all = self.with_history(all, &answered, |store, absent| store.jobs(tenant, wanted, limit, absent)).await?;
        all.rows.sort_by_key(|row| std::cmp::Reverse(row.cursor()));
        all.rows.truncate(limit);
        Ok(all)
    }

    /// A tenant's tasks at all owners, those of the newest jobs first.
    ///
    /// # Errors
    ///
    /// If an answer is not understood, or the history cannot be read.
    pub(crate) async fn task_list(
        &self,
        question: &msg::Question,
        tenant: &Tenant,
        wanted: TasksWanted<'_>,
        limit: usize,
    ) -> Result<Listing<TaskRecord>> {
        let limit = limit.min(LIMIT_MAX);
        let (all, answered) = from_those_there::<TaskRecord>(self, question).await?;
        let mut all = self.with_history(all, &answered, |store, absent| store.tasks(tenant, wanted, limit, absent)).await?;
        all.rows.sort_by_key(|row| std::cmp::Reverse(row.cursor()));
        all.rows.truncate(limit);
        Ok(all)
    }

    /// What of a tenant ran between two times, the longest first.
    ///
    /// # Errors
    ///
    /// If an answer is not understood, or the history cannot be read.
    pub(crate) async fn timeline(
        &self,
        question: &msg::Question,
        tenant: &Tenant,
        from_ms: UnixMs,
        to_ms: UnixMs,
        limit: usize,
    ) -> Result<Listing<Span>> {
        let limit = limit.min(LIMIT_MAX);
        let (all, answered) = from_those_there::<Span>(self, question).await?;
        let mut all = self.with_history(all, &answered, |store, absent| store.spans(tenant, from_ms, to_ms, limit, absent)).await?;
        Span::keep_longest(&mut all.rows, to_ms, limit);
        Ok(all)
    }

    /// A tenant's jobs and tasks at all owners, by state.
    ///
    /// # Errors
    ///
    /// If an answer is not understood, or the history cannot be read.
    pub(crate) async fn summary(&self, question: &msg::Question, tenant: &Tenant) -> Result<Summary> {
        let (parts, missing) = each(self, question).await;
        let answered = parts.iter().map(|(node, _)| *node).collect();
        let mut summary = Summary { missing, ..Summary::default() };
        for (node, part) in parts {
            let part = serde_json::from_slice(&part)
                .map_err(|error| convert::malformed(format_args!("node {node} answers in another way: {error}")))?;
            summary.merge(part);
        }
        if let Some((history, absent)) = self.absent_but(&answered) {
            summary.merge(aside(async { history.store.summary(tenant, &absent) }).await?);
            summary.missing.extend(absent.iter().flat_map(|absent| history.store.missing(absent.owner)));
        }
        Ok(summary)
    }

    /// Answers for an owner that does not; `None` if what is asked for is not known here.
    ///
    /// # Errors
    ///
    /// If the history cannot be read.
    pub(crate) async fn of_the_gone(&self, tenant: &Tenant, query: &Query) -> Result<Option<Bytes>> {
        let Some(history) = &self.history else { return Ok(None) };
        aside(async {
            match query {
                Query::Job { job } => {
                    let kept = history.store.view(job.owner).job(tenant, *job)?;
                    kept.map(|kept| json(&self.absent(history, job.owner).shown(&kept))).transpose()
                }
                Query::Tasks { job: Some(job), state, limit, page } => {
                    let wanted = TasksWanted { state: *state, page };
                    let listing = history.of_job(tenant, *job, |view, job| view.tasks_of(job, wanted, (*limit).min(LIMIT_MAX)))?;
                    listing.map(|listing| json(&listing)).transpose()
                }
                Query::Timeline { job: Some(job), from_ms, to_ms, limit } => {
                    let listing =
                        history.of_job(tenant, *job, |view, job| view.spans_of(job, *from_ms, *to_ms, (*limit).min(LIMIT_MAX)))?;
                    listing.map(|listing| json(&listing)).transpose()
                }
                Query::Task { task } => history.task(tenant, *task)?.map(|task| json(&task)).transpose(),
                Query::Why { task } => history.task(tenant, *task)?.map(|task| json(&Reason { why: past::why(&task) })).transpose(),
                _ => Ok(None),
            }
        })
        .await
    }
}

impl History {
    /// A list of what belongs to one job.
    fn of_job<T>(
        &self,
        tenant: &Tenant,
        job: JobId,
        ask: impl FnOnce(&View<'_>, &EndedJob) -> Result<Found<T>>,
    ) -> Result<Option<Listing<T>>> {
        let view = self.store.view(job.owner);
        let Some(kept) = view.job(tenant, job)? else { return Ok(None) };
        let found = match kept {
            // All of it is here.
            Kept::Ended(job) => ask(&view, &job)?,
            Kept::Began(_) => {
                let mut missing = self.store.missing(job.owner);
                missing.push(format!("job {job} had not ended when node {} was heard of last: which tasks it had is not known", job.owner));
                Found { missing, ..Found::default() }
            }
        };
        Ok(Some(Listing { rows: found.rows, total: found.total, missing: found.missing }))
    }

    fn task(&self, tenant: &Tenant, task: TaskId) -> Result<Option<TaskRecord>> {
        let view = self.store.view(task.owner);
        match view.job(tenant, task.job())? {
            Some(Kept::Ended(job)) => view.task_of(&job, task.sequence),
            Some(Kept::Began(_)) | None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_sends_more_than_was_asked_for_is_sent_away_and_nothing_piles_up() {
        let (stream, mut pull) = Stream::new(NodeId::FIRST);
        let batch = || msg::HistoryBatch { at: Some(msg::HistoryPosition { segment: 1, offset: 0 }), ..msg::HistoryBatch::default() };
        stream.sent(batch()).unwrap();
        assert_eq!(stream.sent(batch()).unwrap_err().code(), Code::MALFORMED_MESSAGE);
        assert!(pull.batches.try_recv().is_ok() && pull.batches.try_recv().is_err());
        assert!(read_batch(batch()).is_ok());
        assert_eq!(read_batch(msg::HistoryBatch::default()).unwrap_err().code(), Code::MALFORMED_MESSAGE);
    }
}
