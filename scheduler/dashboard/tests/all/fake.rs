//! A cluster that is a table: as many tasks as a test wants, answered as a real one does.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream};
use parking_lot::Mutex;
use rwasm_dashboard::{
    Access, Cluster, DashboardOptions, LogLines, LogRequest, Output, Port, Running, TaskResult, Told, Uploaded, Visitor, Work, serve,
};
use rwasm_runtime::Scope;
use rwasm_types::{
    ArtifactDigest, Attempt, Code, Error, JobId, JobState, Name, NodeId, ResourceSet, Result, Role, Stream, TaskState, Tenant,
    api::{ArtifactRecord, Ask, JobRecord, Listing, NodeRecord, Order, Query, Reason, TaskCounts, TaskRecord},
    metrics::{Family, Kind},
    view::Summary,
};
use rwasm_values::{ArtifactInfo, ArtifactKind, Profile};
use serde::Serialize;
use tokio::net::TcpListener;

use crate::http::Client;

pub(crate) const TOKEN: &str = "rwasm_good";
pub(crate) const ARTIFACT: ArtifactDigest = ArtifactDigest([7; 32]);
/// The job whose tasks there are.
pub(crate) const JOB: JobId = JobId { owner: NodeId::FIRST, session: 1 };
/// Tasks of [`JOB`].
pub(crate) const TASKS: u64 = 250;

/// What the fake cluster holds.
#[derive(Default)]
pub(crate) struct Held {
    pub(crate) stopped: Vec<JobId>,
    pub(crate) ran: Vec<Work>,
    /// Tokens that opened something and do not any more.
    pub(crate) revoked: Vec<String>,
}

#[derive(Clone, Default)]
pub(crate) struct Fake(pub(crate) Arc<Mutex<Held>>);

/// A dashboard over a fake cluster, gone with the test.
pub(crate) struct Place {
    pub(crate) fake: Fake,
    pub(crate) client: Client,
    _scope: Scope,
}

/// Starts one.
pub(crate) async fn place() -> Place {
    let (fake, scope) = (Fake::default(), Scope::new());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::new(listener.local_addr().unwrap());
    let options = DashboardOptions {
        cluster_id: "c1".to_owned(),
        cluster: Arc::new(fake.clone()),
        artifact_bytes_max: 1_000,
        metrics: vec![Box::new(fake_metrics)],
    };
    serve(options, Port { listener, tls: None, hosts: Vec::new() }, &scope);
    Place { fake, client, _scope: scope }
}

fn fake_metrics(told: &Told) -> Vec<Family> {
    let mut families = vec![Family::gauge("rwasm_fake", "Of the tests.", 7.0)];
    if let Told::Tenant(tenant) = told {
        families.push(Family::labelled(Kind::Counter, "rwasm_fake_total", "Of a tenant.", "tenant", [(tenant, 3.0)]));
    }
    families
}

impl Cluster for Fake {
    fn enter(&self, token: &str) -> Result<Visitor> {
        if token != TOKEN || self.0.lock().revoked.iter().any(|revoked| revoked == token) {
            return Err(Error::new(Code::TOKEN_REFUSED, "the token was not accepted"));
        }
        Ok(Visitor { tenant: Tenant::default(), role: Role::Submitter, access: Arc::new(self.clone()) })
    }
}

fn task(sequence: u64) -> TaskRecord {
    TaskRecord {
        id: JOB.task(sequence),
        job: JOB,
        tenant: Tenant::default(),
        export: "double".to_owned(),
        artifact: ARTIFACT,
        state: if sequence.is_multiple_of(10) { TaskState::Failed } else { TaskState::Succeeded },
        attempt: Attempt::FIRST,
        node: Some(NodeId::FIRST),
        job_submitted_ms: 1_000,
        queued_ms: 1_000 + sequence / 7,
        started_ms: Some(2_000),
        ended_ms: Some(3_000),
        cpu_us: 5,
        error: None,
    }
}

fn job(id: JobId) -> JobRecord {
    JobRecord {
        id,
        name: "a name".to_owned(),
        tenant: Tenant::default(),
        state: JobState::Running,
        tasks: TaskCounts { running: 1, ..TaskCounts::default() },
        parent: None,
        detached: true,
        artifacts: vec![ARTIFACT],
        submitted_ms: 1_000,
        ended_ms: None,
        error: None,
    }
}

fn node() -> NodeRecord {
    NodeRecord {
        id: NodeId::FIRST,
        name: Name::lossy("here"),
        alive: true,
        head: true,
        data_address: None,
        gateway_address: None,
        capacity: ResourceSet::cpus(2),
        used: ResourceSet::default(),
        labels: std::collections::BTreeMap::new(),
        tasks_queued: 0,
        tasks_running: 0,
        memory_bytes: 1,
        joined_ms: 1,
        lost_ms: None,
        clock_ahead_ms: 0,
        drain: None,
    }
}

fn listing<T>(rows: Vec<T>, limit: usize) -> Listing<T> {
    let total = rows.len() as u64;
    Listing { rows: rows.into_iter().take(limit).collect(), total, missing: Vec::new() }
}

fn json<T: Serialize>(value: &T) -> Result<Bytes> {
    Ok(serde_json::to_vec(value).unwrap().into())
}

fn absent() -> Error {
    Error::new(Code::NOT_FOUND, "it is not there")
}

impl Fake {
    fn answer(&self, query: Query) -> Result<Bytes> {
        match query {
            Query::Tasks { state, limit, page, .. } => {
                let all = (0..TASKS).rev().map(task).filter(|task| state.is_none_or(|state| task.state == state));
                let rows: Vec<_> = all.collect();
                let total = rows.len() as u64;
                let behind = |task: &TaskRecord| page.after.is_none_or(|after| task.cursor() < after);
                let rows = rows.into_iter().filter(behind).take(limit).collect();
                json(&Listing { rows, total, missing: vec!["node n9 did not answer in time".to_owned()] })
            }
            Query::Task { task: id } if id.job() == JOB && id.sequence < TASKS => json(&task(id.sequence)),
            Query::Jobs { limit, .. } => json(&listing(vec![job(JOB)], limit)),
            Query::Job { job: id } if id == JOB => json(&job(id)),
            Query::Why { .. } => json(&Reason { why: "because".to_owned() }),
            Query::Nodes => json(&listing(vec![node()], 100)),
            Query::Artifacts { limit, .. } => {
                let record = ArtifactRecord {
                    digest: ARTIFACT,
                    tenant: Tenant::default(),
                    size_bytes: 9,
                    stored_ms: 1,
                    used_ms: 1,
                    code_bytes: 0,
                    nodes: Vec::new(),
                    jobs: Vec::new(),
                    tags: Vec::new(),
                };
                json(&listing(vec![record], limit))
            }
            Query::Summary => json(&Summary { now_s: 1, ..Summary::default() }),
            _ => Err(absent()),
        }
    }
}

fn info() -> ArtifactInfo {
    ArtifactInfo {
        kind: ArtifactKind::Component,
        text: false,
        profile: Profile::Fast,
        exports: Vec::new(),
        imports: Vec::new(),
        memory_initial_bytes: 0,
        size_bytes: 9,
    }
}

impl Access for Fake {
    fn ask(&self, ask: Ask) -> BoxFuture<'_, Result<Bytes>> {
        let answer = match ask {
            Ask::Query(query) => self.answer(query),
            Ask::Order(Order::StopJob { job: id }) if id == JOB => {
                self.0.lock().stopped.push(id);
                json(&job(id))
            }
            _ => Err(absent()),
        };
        async move { answer }.boxed()
    }

    fn describe(&self, artifact: ArtifactDigest) -> BoxFuture<'_, Result<ArtifactInfo>> {
        async move { if artifact == ARTIFACT { Ok(info()) } else { Err(Error::new(Code::NO_SUCH_ARTIFACT, "it is not there")) } }.boxed()
    }

    fn upload(&self, _bytes: Bytes) -> BoxFuture<'_, Result<Uploaded>> {
        async move { Ok(Uploaded { digest: ARTIFACT, info: info() }) }.boxed()
    }

    fn run(&self, work: Work) -> BoxFuture<'_, Result<Running>> {
        let results = (0u64..).zip(&work.calls).map(|(sequence, call)| TaskResult {
            sequence,
            attempt: Attempt::FIRST,
            value: Ok(Some(call.clone())),
            failed: false,
        });
        let results = stream::iter([Ok(results.collect::<Vec<_>>())]).boxed();
        self.0.lock().ran.push(work);
        async move { Ok(Running { job: JobId { session: 2, ..JOB }, results }) }.boxed()
    }

    fn logs(&self, request: LogRequest) -> BoxFuture<'_, Result<LogLines>> {
        let output = |bytes: &'static str| Output {
            sequence: 3,
            attempt: Attempt::FIRST,
            stream: Stream::Stderr,
            bytes: Bytes::from_static(bytes.as_bytes()),
        };
        let pieces = vec![Ok(vec![output("one\ntw"), output("o\n")]), Err(Error::new(Code::CONNECTION_LOST, "it broke off"))];
        async move { if request.job == JOB { Ok(stream::iter(pieces).boxed()) } else { Err(absent()) } }.boxed()
    }
}
