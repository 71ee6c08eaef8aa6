//! A long history: how soon a head answers that starts with a million tasks in it, and what memory it takes.
//!
//! Half of them are its own node's, half those of a node that is gone, whose past it keeps; both are written by what writes them in daemons.
//! The process is killed between starts, so that each start finds what a crash leaves.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use rwasm_client::{Client, Endpoint};
use rwasm_history::{
    LogKind, Origin, PastStore, Retention, Shipped,
    past::{PastCall, TaskLine},
    ship::BATCH_BYTES,
};
use rwasm_runtime::now_ms;
use rwasm_types::{
    ArtifactDigest, Attempt, Code, Error, JobId, JobState, NodeId, Result, TaskState, Tenant,
    api::{ClusterStatus, JobRecord, Listing, Query, TaskCounts, TaskRecord, UnixMs},
    view::{JobPage, TaskPage},
};

use crate::timing::Suite;

const ROW: &str = "history: head starts with 1,000,000 tasks, to its lists";
/// Jobs of each of the two nodes, and tasks of each job.
const JOBS: u32 = 500;
const TASKS: u64 = 1_000;
/// How many rows are asked for: as many as the command line does.
const LIMIT: usize = 100;
const RETENTION: Retention = Retention { age_ms: UnixMs::MAX, bytes: 4 << 30 };

/// A head with its node in another process. It is killed when this is dropped.
pub struct HeadProcess {
    /// Where drivers attach.
    pub endpoint: Endpoint,
    /// Its process.
    pub pid: u32,
    /// Where it keeps its state.
    pub state_dir: PathBuf,
    /// What kills it.
    pub guard: Box<dyn Send + Sync>,
}

impl fmt::Debug for HeadProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeadProcess").field("pid", &self.pid).field("state_dir", &self.state_dir).finish_non_exhaustive()
    }
}

/// Measures the row; gives the head's resident memory after its lists, in bytes, if the row is wanted.
pub(crate) async fn rows(start: fn(&Path) -> Result<HeadProcess>, suite: &mut Suite<'_>) -> Result<Option<u64>> {
    if !suite.wants(ROW) {
        return Ok(None);
    }
    let scratch = tempfile::tempdir().map_err(|error| Error::new(Code::IO, format!("cannot make a directory: {error}")))?;
    let first = start(scratch.path())?;
    let status: ClusterStatus = Client::connect(&first.endpoint).await?.query(&Query::Status).await?;
    let own = status.nodes.first().ok_or_else(|| Error::internal("a head has a node"))?.id;
    let state_dir = first.state_dir.clone();
    drop(first);
    fill(&state_dir, scratch.path(), &status.cluster, own)?;
    let memory_bytes = parking_lot::Mutex::new(0_u64);
    suite
        .time_async(ROW, 1.0, || async {
            let head = start(scratch.path())?;
            lists(&head.endpoint).await?;
            let now = resident_bytes(head.pid)?;
            let mut most = memory_bytes.lock();
            *most = now.max(*most);
            Ok(())
        })
        .await?;
    Ok(Some(memory_bytes.into_inner()))
}

/// What somebody looks at first, which must be all there.
async fn lists(endpoint: &Endpoint) -> Result<()> {
    let client = Client::connect(endpoint).await?;
    let jobs: Listing<JobRecord> = client.query(&Query::Jobs { state: None, limit: LIMIT, page: JobPage::default() }).await?;
    let tasks: Listing<TaskRecord> =
        client.query(&Query::Tasks { job: None, state: None, limit: LIMIT, page: TaskPage::default() }).await?;
    let expected = (u64::from(JOBS) * 2, u64::from(JOBS) * 2 * TASKS);
    if (jobs.total, tasks.total) != expected || jobs.rows.len() != LIMIT || tasks.rows.len() != LIMIT {
        return Err(Error::internal(format!("the history has {} jobs and {} tasks, not {expected:?}", jobs.total, tasks.total)));
    }
    Ok(())
}

/// Writes half of the history as the head's own node does, and half as another one, which ships it.
fn fill(state_dir: &Path, scratch: &Path, cluster: &str, own: NodeId) -> Result<()> {
    let origin = |owner| Origin { kind: LogKind::Past, cluster: cluster.to_owned(), owner };
    write(&PastStore::open(&state_dir.join("past"), origin(own), RETENTION, now_ms())?, own)?;
    let other = NodeId::new(own.get() + 1).ok_or_else(|| Error::internal("there is a second node"))?;
    let store = PastStore::open(&scratch.join("other"), origin(other), RETENTION, now_ms())?;
    write(&store, other)?;
    let head = Shipped::open(&state_dir.join("shipped"), cluster, RETENTION)?;
    let mut had = head.had(other);
    while had < store.written() {
        had = head.accept(other, &store.batch(had, BATCH_BYTES, now_ms())?, &|_| true, now_ms())?;
    }
    drop(store);
    fs::remove_dir_all(scratch.join("other")).map_err(|error| Error::new(Code::IO, format!("cannot remove a directory: {error}")))
}

fn write(store: &PastStore, owner: NodeId) -> Result<()> {
    let artifact = ArtifactDigest([7; 32]);
    for session in 1..=JOBS {
        let tasks = TaskCounts { succeeded: TASKS, ..TaskCounts::default() };
        let mut record = JobRecord {
            parent: None,
            id: JobId { owner, session },
            name: "flights.wasm".to_owned(),
            tenant: Tenant::default(),
            state: JobState::Running,
            tasks: TaskCounts::default(),
            detached: false,
            artifacts: vec![artifact],
            submitted_ms: now_ms(),
            ended_ms: None,
            error: None,
        };
        store.began(&record, now_ms())?;
        (record.state, record.tasks, record.ended_ms) = (JobState::Succeeded, tasks, Some(now_ms()));
        let calls = vec![PastCall { export: "sum-delays".to_owned(), artifact }];
        let lines = |first: u64, most: usize| (first..TASKS).take(most).map(|sequence| line(owner, sequence)).collect();
        store.ended(record, calls, lines, now_ms())?;
    }
    Ok(())
}

fn line(node: NodeId, sequence: u64) -> TaskLine {
    let at = u32::try_from(sequence).unwrap_or(u32::MAX);
    TaskLine {
        state: TaskState::Succeeded,
        call: 0,
        attempt: Attempt::FIRST,
        node: Some(node),
        queued_ms: at,
        started_ms: at + 200,
        ended_ms: at + 1_000,
        cpu_us: 700_000 + at,
        error: None,
    }
}

/// Resident memory of a process.
///
/// # Errors
///
/// If the system does not say.
pub fn resident_bytes(pid: u32) -> Result<u64> {
    let unknown = || Error::internal("the system does not say how much memory a process has");
    let status = fs::read_to_string(format!("/proc/{pid}/status")).map_err(|_| unknown())?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).and_then(|rest| rest.split_whitespace().next());
    Ok(kib.and_then(|kib| kib.parse::<u64>().ok()).ok_or_else(unknown)? << 10)
}
