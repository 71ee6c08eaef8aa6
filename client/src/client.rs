//! A connection to a cluster.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use rwasm_runtime::random_bytes;
use rwasm_types::{
    ArtifactDigest, ArtifactName, Code, Error, JobId, Result, Tenant,
    api::{ArtifactRecord, Ask, Order, Query},
};
use rwasm_values::{ArtifactInfo, Export, Role};
use rwasm_wire::{CHUNK_BYTES, Connector, GatewayClient, Inbound, Outbound, msg};
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;

use crate::{Endpoint, Job, JobOptions, TaskOutput, session::Session};

/// A connection to a cluster's gateway. Clones share it.
#[derive(Clone)]
pub struct Client {
    pub(crate) gateway: GatewayClient,
    /// Opened with the first job, and anew with one after it was lost.
    session: Arc<Mutex<Option<Arc<Session>>>>,
    /// How long jobs wait for a connection that broke.
    pub(crate) reconnect: Duration,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

/// An artifact that the cluster has.
#[derive(Clone, Debug)]
pub struct Artifact {
    digest: ArtifactDigest,
    info: Arc<ArtifactInfo>,
}

impl Artifact {
    /// Its digest.
    pub fn digest(&self) -> ArtifactDigest {
        self.digest
    }

    /// What it offers.
    pub fn info(&self) -> &ArtifactInfo {
        &self.info
    }

    /// The export of a name, or the artifact's command, if it can be called as a task.
    ///
    /// # Errors
    ///
    /// Which exports there are instead, or why this one cannot be called.
    pub fn callable(&self, export: Option<&str>) -> Result<&Export> {
        let Some(name) = export else {
            return self.info.command().ok_or_else(|| {
                Error::new(Code::NO_SUCH_EXPORT, "the artifact is no command: it has no `wasi:cli/run`")
                    .hint("name an export with --call; `rwasm inspect` lists them")
            });
        };
        let export = self.info.resolve(name)?;
        match &export.role {
            Role::Task | Role::Command => Ok(export),
            Role::NotCallable { why } => Err(Error::new(Code::NOT_CALLABLE, format!("`{}` cannot be called: {why}", export.name))),
            Role::ActorCreate { .. } | Role::ActorMethod { .. } => {
                let error = Error::new(Code::NOT_CALLABLE, format!("`{}` belongs to an actor and cannot be called as a task", export.name));
                Err(error.hint("`rwasm actor create` makes an actor, and `rwasm actor call` calls its methods"))
            }
        }
    }
}

/// Which output of a job is wanted.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogFilter {
    /// Only this task's.
    pub sequence: Option<u64>,
    /// Also what is yet to come, until the job ends.
    pub follow: bool,
}

/// A job's output, as it comes.
#[derive(Debug)]
pub struct LogStream(Inbound<msg::LogsChunk>);

impl LogStream {
    /// The next pieces; `None` at the end.
    ///
    /// # Errors
    ///
    /// If the connection ends, or the output cannot be read.
    pub async fn next(&mut self) -> Result<Option<Vec<TaskOutput>>> {
        let Some(chunk) = self.0.next().await? else { return Ok(None) };
        chunk.outputs.into_iter().map(TaskOutput::read).collect::<Result<_>>().map(Some)
    }
}

impl Client {
    /// How long it is tried to come back after the connection broke, unless told otherwise: longer than a node takes to start anew.
    pub const RECONNECT_DEFAULT: Duration = Duration::from_secs(60);

    /// Connects to an endpoint.
    ///
    /// # Errors
    ///
    /// [`Code::UNREACHABLE`] if nobody answers; why the other side is not believed, or that it speaks TLS and the endpoint does not.
    pub async fn connect(endpoint: &Endpoint) -> Result<Self> {
        Self::connect_by(&endpoint.connector()?, &endpoint.token, None).await
    }

    /// Connects to an endpoint to look into a tenant, which for any but the token's own takes an operator.
    ///
    /// # Errors
    ///
    /// [`Code::UNREACHABLE`] if nobody answers.
    pub async fn connect_into(endpoint: &Endpoint, tenant: &Tenant) -> Result<Self> {
        Self::connect_by(&endpoint.connector()?, &endpoint.token, Some(tenant)).await
    }

    /// Connects in any way there is; so the embedded cluster is reached.
    ///
    /// # Errors
    ///
    /// [`Code::UNREACHABLE`] if nobody answers.
    pub async fn connect_by(connector: &Connector, token: &str, tenant: Option<&Tenant>) -> Result<Self> {
        let gateway = GatewayClient::connect(connector, token, tenant).await?;
        Ok(Self { gateway, session: Arc::default(), reconnect: Self::RECONNECT_DEFAULT })
    }

    /// The same, with jobs that wait so long for a connection that broke; not at all if zero. It holds for jobs that are opened afterwards,
    /// if none was before.
    #[must_use]
    pub fn reconnecting(self, within: Duration) -> Self {
        Self { reconnect: within, ..self }
    }

    /// Makes sure that the cluster has an artifact; sends it if need be.
    ///
    /// # Errors
    ///
    /// Why the cluster does not take it.
    pub async fn artifact(&self, bytes: &Bytes) -> Result<Artifact> {
        let digest = ArtifactDigest(*blake3::hash(bytes).as_bytes());
        let mut gateway = self.gateway.clone();
        let info = match gateway.describe(digest).await {
            Err(error) if error.code() == Code::NO_SUCH_ARTIFACT => self.upload(digest, bytes).await?,
            described => described?,
        };
        described(digest, &info)
    }

    /// An artifact that the cluster has, by its tag or digest.
    ///
    /// # Errors
    ///
    /// [`Code::NO_SUCH_ARTIFACT`] if it has none of that name.
    pub async fn stored(&self, name: &ArtifactName) -> Result<Artifact> {
        let whole = match name {
            ArtifactName::Digest(prefix) => prefix.whole(),
            ArtifactName::Tag(_) => None,
        };
        let digest = match whole {
            Some(digest) => digest,
            None => self.query::<ArtifactRecord>(&Query::Artifact { artifact: name.clone() }).await?.digest,
        };
        described(digest, &self.gateway.clone().describe(digest).await?)
    }

    async fn upload(&self, digest: ArtifactDigest, bytes: &Bytes) -> Result<Bytes> {
        let (sender, outbound) = Outbound::channel(4);
        let mut gateway = self.gateway.clone();
        let send = async {
            let (length, mut rest, mut first) = (bytes.len() as u64, bytes.clone(), true);
            while first || !rest.is_empty() {
                let data = rest.split_to(CHUNK_BYTES.min(rest.len()));
                let digest = if first { Bytes::copy_from_slice(&digest.0) } else { Bytes::new() };
                if sender.send(msg::ArtifactChunk { digest, length: if first { length } else { 0 }, data }).await.is_err() {
                    break;
                }
                first = false;
            }
            drop(sender);
        };
        let (info, ()) = tokio::join!(gateway.upload(outbound), send);
        info
    }

    /// Opens a job.
    ///
    /// # Errors
    ///
    /// Why the cluster does not take it.
    pub async fn open_job(&self, options: JobOptions) -> Result<Job> {
        let session = {
            let mut session = self.session.lock().await;
            match &*session {
                Some(open) if !open.is_lost() => Arc::clone(open),
                _ => Arc::clone(session.insert(Arc::new(Session::open(&self.gateway, self.reconnect).await?))),
            }
        };
        Job::open(&session, options).await
    }

    /// Asks a question.
    ///
    /// # Errors
    ///
    /// What the cluster says.
    pub async fn query<T: DeserializeOwned>(&self, query: &Query) -> Result<T> {
        read(&self.ask(&Ask::Query(query.clone())).await?)
    }

    /// Asks a question or gives an order; the answer is the JSON that it travels as.
    ///
    /// # Errors
    ///
    /// What the cluster says.
    pub async fn ask(&self, ask: &Ask) -> Result<Bytes> {
        let no_json = |error| Error::internal(format!("a question has no JSON: {error}"));
        let mut gateway = self.gateway.clone();
        match ask {
            Ask::Query(query) => gateway.query(serde_json::to_vec(query).map_err(no_json)?.into()).await,
            Ask::Order(order) => {
                let key = random_bytes::<16>().map_err(|error| Error::internal(format!("no random numbers: {error}")))?;
                gateway.control(serde_json::to_vec(order).map_err(no_json)?.into(), Bytes::copy_from_slice(&key)).await
            }
            Ask::Offered { .. } | Ask::TenantUse | Ask::Place(_) | Ask::Demand { .. } | Ask::NameActor { .. } | Ask::UnnameActor { .. } => {
                Err(Error::internal("a driver does not ask what nodes ask of each other"))
            }
        }
    }

    /// Gives an order.
    ///
    /// # Errors
    ///
    /// What the cluster says.
    pub async fn order<T: DeserializeOwned>(&self, order: &Order) -> Result<T> {
        read(&self.ask(&Ask::Order(order.clone())).await?)
    }

    /// A job's output.
    ///
    /// # Errors
    ///
    /// [`Code::NOT_FOUND`] if there is no such job.
    pub async fn logs(&self, job: JobId, filter: LogFilter) -> Result<LogStream> {
        let request = msg::LogsRequest { job: Some(job.into()), sequence: filter.sequence, follow: filter.follow };
        self.gateway.clone().logs(request).await.map(LogStream)
    }
}

/// An artifact as a gateway describes it.
fn described(digest: ArtifactDigest, info: &[u8]) -> Result<Artifact> {
    let info = serde_json::from_slice(info)
        .map_err(|error| Error::new(Code::MALFORMED_MESSAGE, format!("what an artifact offers is not understood: {error}")))?;
    Ok(Artifact { digest, info: Arc::new(info) })
}

fn read<T: DeserializeOwned>(answer: &[u8]) -> Result<T> {
    serde_json::from_slice(answer).map_err(|error| {
        Error::new(Code::MALFORMED_MESSAGE, format!("an answer is not understood: {error}"))
            .hint("check that the cluster is not of a newer version")
    })
}
