//! What the dashboard needs of a cluster. Whoever starts it provides this: a daemon by the driver library, tests by a table.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{future::BoxFuture, stream::BoxStream};
use rwasm_types::{ArtifactDigest, Attempt, Grants, JobId, Result, Role, Stream, TaskOptions, Tenant, api::Ask};
use rwasm_values::ArtifactInfo;

/// A cluster, as it looks from outside: closed.
pub trait Cluster: Send + Sync + 'static {
    /// What a token opens. It must take the same time for every wrong token.
    ///
    /// # Errors
    ///
    /// Why the token is not good, as far as its bearer may know.
    fn enter(&self, token: &str) -> Result<Visitor>;
}

/// Somebody with a token that was accepted.
#[derive(Clone)]
pub struct Visitor {
    /// On whose behalf the visitor acts.
    pub tenant: Tenant,
    /// What the visitor may do there.
    pub role: Role,
    /// What the visitor can do. The cluster checks each request again; nothing here replaces that.
    pub access: Arc<dyn Access>,
}

impl std::fmt::Debug for Visitor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Visitor").field("tenant", &self.tenant).finish_non_exhaustive()
    }
}

/// What a driver can do.
pub trait Access: Send + Sync {
    /// Asks a question or gives an order; answers with the JSON that the wire carries.
    fn ask(&self, ask: Ask) -> BoxFuture<'_, Result<Bytes>>;

    /// What a stored artifact offers.
    fn describe(&self, artifact: ArtifactDigest) -> BoxFuture<'_, Result<ArtifactInfo>>;

    /// Stores an artifact.
    fn upload(&self, bytes: Bytes) -> BoxFuture<'_, Result<Uploaded>>;

    /// Submits a job. Nothing is queued unless all of it fits.
    fn run(&self, work: Work) -> BoxFuture<'_, Result<Running>>;

    /// A job's output, from its beginning.
    fn logs(&self, request: LogRequest) -> BoxFuture<'_, Result<LogLines>>;
}

/// An artifact that was stored.
#[derive(Clone, Debug)]
pub struct Uploaded {
    /// Its name.
    pub digest: ArtifactDigest,
    /// What it offers.
    pub info: ArtifactInfo,
}

/// A job to be submitted.
#[derive(Clone, Debug)]
pub struct Work {
    /// A stored artifact.
    pub artifact: ArtifactDigest,
    /// The export to call; `None` for the artifact's command.
    pub export: Option<String>,
    /// For each task its arguments as JSON: an array, or an object by parameter name. A command has one task, and its JSON is not read.
    pub calls: Vec<String>,
    /// A name for people.
    pub name: String,
    /// How tasks are run.
    pub options: TaskOptions,
    /// What they are given.
    pub grants: Grants,
}

/// A job that was submitted.
pub struct Running {
    /// Its id.
    pub job: JobId,
    /// How its tasks end. It must be read to its end, or the job is held back.
    pub results: BoxStream<'static, Result<Vec<TaskResult>>>,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").field("job", &self.job).finish_non_exhaustive()
    }
}

/// How a task ended.
#[derive(Clone, Debug)]
pub struct TaskResult {
    /// Which task of the job.
    pub sequence: u64,
    /// Which execution gave the result.
    pub attempt: Attempt,
    /// The value as JSON, `None` for a function without a result.
    pub value: Result<Option<String>>,
    /// Whether the function returned its error case.
    pub failed: bool,
}

/// Which output is wanted.
#[derive(Clone, Copy, Debug)]
pub struct LogRequest {
    /// Whose.
    pub job: JobId,
    /// Only this task's.
    pub sequence: Option<u64>,
    /// Also what is yet to come, until the job ends.
    pub follow: bool,
}

/// Output, as it comes.
pub type LogLines = BoxStream<'static, Result<Vec<Output>>>;

/// What a task wrote.
#[derive(Clone, Debug)]
pub struct Output {
    /// Which task of the job.
    pub sequence: u64,
    /// Which execution.
    pub attempt: Attempt,
    /// Which of its outputs.
    pub stream: Stream,
    /// The bytes, as they were written.
    pub bytes: Bytes,
}
