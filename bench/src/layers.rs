//! One no-op task, layer by layer: bare wasmtime, the engine, a node's executor, an embedded cluster, a cluster in another process.

use std::sync::Arc;

use bytes::Bytes;
use rwasm_client::{Artifact, Call, Client, Job, JobEvent, JobOptions};
use rwasm_engine::{
    Bare, Control, Discard, Engine, EngineOptions, Identity, PoolOptions, Prepared, Request, objects::NoObjects, tasks::NoTasks,
};
use rwasm_node::LocalRuns;
use rwasm_types::{ArtifactDigest, Attempt, Error, Grants, JobId, NodeId, Result, TaskLimits, TaskOptions, Tenant};

use crate::{NOOP, Setup, bulk, timing::Suite, windows};

/// Tasks of one batch.
const BATCH: usize = 1_000;

/// The arguments of a function without parameters.
const NO_ARGS: &[u8] = &[1, 0, 0];

/// Rows without a cluster.
pub(crate) async fn inside(setup: &Setup, suite: &mut Suite<'_>) -> Result<()> {
    let pool = PoolOptions { instances_max: 256, async_instances_max: 16, ..PoolOptions::default() };
    let engine =
        Engine::new(EngineOptions { compile: setup.compile.clone(), pool, guest_memory_bytes: u64::MAX, reserved: Arc::default() })?;
    let bytes = Bytes::from_static(NOOP.as_bytes());
    let digest = ArtifactDigest(*blake3_of(&bytes).as_bytes());
    let prepared = engine.prepare(&Tenant::default(), digest, &bytes).await?;
    let export = prepared.info().exports.iter().position(|export| export.name.func.as_str() == "noop").unwrap_or_default();
    let bare = Bare::new(&engine, &Tenant::default(), digest, "noop")?;
    suite.time("bare: instantiate and call", 1.0, || bare.run())?;
    suite.time("bare: warm call", 1000.0, || bare.run_warm(1000))?;
    suite.time("engine: task on a thread", 1.0, || prepared.run(request(export, Bytes::from_static(NO_ARGS))).result.map(drop))?;
    suite
        .time_async("engine: task on a fiber", 1.0, || {
            let run = Arc::clone(&prepared).run_async(request(export, Bytes::from_static(NO_ARGS)));
            async { run.await.result.map(drop) }
        })
        .await?;
    node(&prepared, export, suite)?;
    bulk::rows(setup, &engine, suite).await?;
    windows::rows(&engine, suite).await
}

fn node(prepared: &Arc<Prepared>, export: usize, suite: &mut Suite<'_>) -> Result<()> {
    if !suite.wants("node: tasks, one thread") && !suite.wants("node: tasks, all cores") {
        return Ok(());
    }
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let one = LocalRuns::start(Arc::clone(prepared), export, 1)?;
    suite.time("node: tasks, one thread", BATCH as f64, || one.run(BATCH, NO_ARGS))?;
    drop(one);
    let all = LocalRuns::start(Arc::clone(prepared), export, cores)?;
    suite.time("node: tasks, all cores", BATCH as f64, || all.run(BATCH, NO_ARGS))
}

fn blake3_of(bytes: &[u8]) -> blake3::Hash {
    blake3::hash(bytes)
}

pub(crate) fn request(export: usize, args: Bytes) -> Request {
    let job = JobId { owner: NodeId::FIRST, session: 1 };
    Request {
        export,
        args,
        limits: TaskLimits::default(),
        memory_reserved: 0,
        grants: Arc::new(Grants::default()),
        objects: Arc::new(NoObjects),
        tasks: Arc::new(NoTasks),
        identity: Identity { task: job.task(0), job, attempt: Attempt::FIRST, node: NodeId::FIRST, tenant: Tenant::default() },
        output: Arc::new(Discard),
        control: Arc::new(Control::default()),
    }
}

/// Rows with a cluster in this process, and with one in another.
pub(crate) async fn across(setup: &Setup, suite: &mut Suite<'_>) -> Result<()> {
    cluster(&setup.embedded, "embedded", suite).await?;
    let client = Client::connect(&setup.cluster).await?;
    cluster(&client, "across processes", suite).await?;
    let client = Client::connect(&setup.encrypted).await?;
    cluster(&client, "with TLS", suite).await
}

async fn cluster(client: &Client, place: &str, suite: &mut Suite<'_>) -> Result<()> {
    let artifact = client.artifact(&Bytes::from_static(NOOP.as_bytes())).await?;
    let session = Opened::open(client, &artifact).await?;
    suite.time_async(&format!("{place}: tasks, one at a time"), 1.0, || session.run(1)).await?;
    suite.time_async(&format!("{place}: tasks, batches of 1,000"), BATCH as f64, || session.run(BATCH)).await
}

/// A job that takes any number of no-op tasks.
struct Opened {
    job: tokio::sync::Mutex<Job>,
    call: Call,
}

impl Opened {
    async fn open(client: &Client, artifact: &Artifact) -> Result<Self> {
        let job = client.open_job(JobOptions { name: "bench".to_owned(), ..JobOptions::default() }).await?;
        let call = job.define(artifact, Some("noop"), &TaskOptions::default(), &Grants::default()).await?;
        Ok(Self { job: tokio::sync::Mutex::new(job), call })
    }

    /// Runs so many tasks and takes all their results.
    async fn run(&self, tasks: usize) -> Result<()> {
        let mut job = self.job.lock().await;
        let submitter = job.submitter();
        submitter.submit(&self.call, vec![Bytes::from_static(NO_ARGS); tasks]).await?;
        let mut left = tasks;
        while left > 0 {
            match job.next().await? {
                Some(JobEvent::Outcomes(outcomes)) => {
                    left -= outcomes.len();
                    for outcome in outcomes {
                        outcome.result?;
                    }
                }
                Some(JobEvent::Outputs(_) | JobEvent::Away(_) | JobEvent::Back) => {}
                Some(JobEvent::Ended(_)) | None => return Err(Error::internal("the benchmark's job ended")),
            }
        }
        Ok(())
    }
}
