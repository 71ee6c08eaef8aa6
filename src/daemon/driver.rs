//! The dashboard's way into the cluster: it is a driver like any other, attached to the gateway of this process by a pipe in memory.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use futures_util::{
    FutureExt, StreamExt, TryStreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use parking_lot::Mutex;
use rwasm_client::{Call, Client, Job, JobEvent, JobOptions, LogFilter, TaskOutcome};
use rwasm_dashboard::{Access, Cluster, LogLines, LogRequest, Output, Running, TaskResult, Uploaded, Visitor, Work};
use rwasm_node::Tokens;
use rwasm_runtime::now_ms;
use rwasm_types::{ArtifactDigest, ArtifactName, Code, Error, Identity, Result, TokenId, UserToken, api::Ask};
use rwasm_values::{ArtifactInfo, Role, json};
use rwasm_wire::Connector;
use tokio::sync::OnceCell;

/// Connections to the gateway that are kept, each for one token.
const DRIVERS_MAX: usize = 256;

/// The cluster of this process, for whoever shows a token of it.
pub(super) struct Door {
    gateway: Connector,
    tokens: Tokens,
    drivers: Mutex<HashMap<TokenId, Arc<Driver>>>,
}

/// A connection to the gateway with the token of a visitor, opened when it is first needed. So the cluster sees who asks, and what may be
/// done is decided in one place.
struct Driver {
    gateway: Connector,
    token: String,
    used: AtomicU64,
    client: OnceCell<Client>,
}

impl Door {
    pub(super) fn new(gateway: Connector, tokens: Tokens) -> Self {
        Self { gateway, tokens, drivers: Mutex::default() }
    }

    /// What is kept for a token that opens nothing any more is let go of. For any other reason it is not: whoever guesses an id has not the
    /// token.
    fn let_go(&self, token: &str, error: &Error) {
        if matches!(error.code(), Code::TOKEN_REVOKED | Code::TOKEN_EXPIRED)
            && let Ok(token) = UserToken::parse(token)
        {
            self.drivers.lock().remove(&token.id());
        }
    }

    fn driver(&self, id: TokenId, token: &str) -> Arc<Driver> {
        let mut drivers = self.drivers.lock();
        if drivers.len() >= DRIVERS_MAX && !drivers.contains_key(&id) {
            let idle = drivers.iter().min_by_key(|(_, driver)| driver.used.load(Relaxed)).map(|(id, _)| *id);
            idle.map(|idle| drivers.remove(&idle));
        }
        let new = || Driver { gateway: self.gateway.clone(), token: token.to_owned(), used: AtomicU64::new(0), client: OnceCell::new() };
        let driver = drivers.entry(id).or_insert_with(|| Arc::new(new()));
        driver.used.store(now_ms(), Relaxed);
        Arc::clone(driver)
    }
}

impl Cluster for Door {
    fn enter(&self, token: &str) -> Result<Visitor> {
        let Identity { tenant, role, token: id } = self.tokens.identify(token).inspect_err(|error| self.let_go(token, error))?;
        let id = id.ok_or_else(|| Error::internal("a user's token has no id"))?;
        Ok(Visitor { tenant, role, access: self.driver(id, token) })
    }
}

impl Driver {
    async fn client(&self) -> Result<&Client> {
        self.client.get_or_try_init(|| Client::connect_by(&self.gateway, &self.token, None)).await
    }

    async fn submit(&self, work: Work) -> Result<Running> {
        let Work { artifact, export, calls, name, options, grants } = work;
        let client = self.client().await?;
        let artifact = client.stored(&ArtifactName::Digest(artifact.into())).await?;
        let callable = artifact.callable(export.as_deref())?.clone();
        // All calls are checked before anything is opened, so that a job that does not fit leaves no trace.
        let check = Call::check_only(&callable);
        let mut encoded = Vec::with_capacity(calls.len().max(1));
        for (index, call) in calls.iter().enumerate() {
            let args = json::parse_args(call.as_bytes(), &callable.signature, &rwasm_values::Limits::default());
            encoded.push(args.and_then(|args| check.encode(&args)).map_err(|error| error.with("call", index))?);
        }
        if callable.role == Role::Command {
            encoded = vec![Bytes::new()];
        }
        // It outlives a connection that breaks, and nobody is to wait for this process to come back.
        let job = client.open_job(JobOptions { name, detached: true, follow: false }).await?;
        match submit_all(&job, &artifact, export.as_deref(), &options, &grants, encoded).await {
            Ok(call) => Ok(Running { job: job.id(), results: results(job, call) }),
            Err(error) => {
                // The job is of no use without its tasks; if the connection is gone, it has none anyway.
                let _ = job.cancel().await;
                Err(error)
            }
        }
    }

    async fn output(&self, request: LogRequest) -> Result<LogLines> {
        let LogRequest { job, sequence, follow } = request;
        let logs = self.client().await?.logs(job, LogFilter { sequence, follow }).await?;
        let pieces = stream::try_unfold(logs, |mut logs| async move { Ok(logs.next().await?.map(|pieces| (pieces, logs))) });
        let output = |piece: rwasm_client::TaskOutput| Output {
            sequence: piece.sequence,
            attempt: piece.attempt,
            stream: piece.stream,
            bytes: piece.bytes,
        };
        Ok(pieces.map_ok(move |pieces| pieces.into_iter().map(output).collect()).boxed())
    }
}

async fn submit_all(
    job: &Job,
    artifact: &rwasm_client::Artifact,
    export: Option<&str>,
    options: &rwasm_types::TaskOptions,
    grants: &rwasm_types::Grants,
    args: Vec<Bytes>,
) -> Result<Call> {
    let call = job.define(artifact, export, options, grants).await?;
    job.submit(&call, args).await?;
    job.finish().await?;
    Ok(call)
}

/// How a job's tasks end, as they do.
fn results(job: Job, call: Call) -> BoxStream<'static, Result<Vec<TaskResult>>> {
    let events = stream::try_unfold(job, |mut job| async move { Ok(job.next().await?.map(|event| (event, job))) });
    let read = move |event: JobEvent| {
        let call = call.clone();
        async move {
            match event {
                JobEvent::Outcomes(outcomes) => Some(outcomes.into_iter().map(|outcome| result(&call, outcome)).collect()),
                JobEvent::Outputs(_) | JobEvent::Away(_) | JobEvent::Back | JobEvent::Ended(_) => None,
            }
        }
    };
    events.try_filter_map(move |event| read(event).map(Ok)).boxed()
}

fn result(call: &Call, outcome: TaskOutcome) -> TaskResult {
    let TaskOutcome { sequence, attempt, result, failed, .. } = outcome;
    let value = result.and_then(|message| {
        let returned = call.decode(&message)?;
        if returned.value.is_none() {
            return Ok(None);
        }
        json::to_string(call.export().signature.result.as_ref(), &returned).map(Some)
    });
    TaskResult { sequence, attempt, value, failed }
}

impl Access for Driver {
    fn ask(&self, ask: Ask) -> BoxFuture<'_, Result<Bytes>> {
        async move { self.client().await?.ask(&ask).await }.boxed()
    }

    fn describe(&self, artifact: ArtifactDigest) -> BoxFuture<'_, Result<ArtifactInfo>> {
        async move { Ok(self.client().await?.stored(&ArtifactName::Digest(artifact.into())).await?.info().clone()) }.boxed()
    }

    fn upload(&self, bytes: Bytes) -> BoxFuture<'_, Result<Uploaded>> {
        async move {
            let artifact = self.client().await?.artifact(&bytes).await?;
            Ok(Uploaded { digest: artifact.digest(), info: artifact.info().clone() })
        }
        .boxed()
    }

    fn run(&self, work: Work) -> BoxFuture<'_, Result<Running>> {
        self.submit(work).boxed()
    }

    fn logs(&self, request: LogRequest) -> BoxFuture<'_, Result<LogLines>> {
        self.output(request).boxed()
    }
}
