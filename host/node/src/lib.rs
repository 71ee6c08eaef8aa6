//! The worker daemon: what a node is.
//!
//! It takes jobs from drivers through its gateway and owns them, runs tasks on its own executors, lends its slots to other owners, and
//! borrows theirs by leases that the head grants. [`Node::start`] joins a head and serves until its scope is shut down; everything else
//! here is private.

mod artifacts;
mod batch;
mod clock;
mod dispatch;
mod drain;
mod executor;
mod gateway;
mod head_link;
mod identity;
mod local_runs;
mod logs;
mod metrics;
mod node;
mod owner;
mod query;
mod retention;
mod runner;
mod tally;

use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, Weak},
    time::Duration,
};

use rwasm_engine::{CompileOptions, Engine, EngineOptions, PoolOptions};
use rwasm_runtime::{OnEnd, Scope, create_private_dir};
use rwasm_types::{Code, Error, Name, NodeId, ResourceSet, Result};
use rwasm_wire::{Connector, Listener, Server};

use self::{
    artifacts::Artifacts,
    gateway::Gateway,
    head_link::{HeadHandle, Registration},
    identity::Identity,
    logs::LogThread,
    node::{NodeLimits, Parts, Shared, Token, own_addresses},
    runner::Runner,
};

pub use self::{
    artifacts::{ARTIFACT_BYTES_MAX, too_large},
    identity::{check, renumber},
    local_runs::LocalRuns,
    metrics::NodeMetrics,
};

/// How a node is set up.
#[derive(Debug)]
pub struct NodeOptions {
    /// A name for people; the machine's by default.
    pub name: Name,
    /// All that its tasks may hold together.
    pub capacity: ResourceSet,
    /// Labels, for placement.
    pub labels: BTreeMap<Name, String>,
    /// What must survive; one node at a time uses it.
    pub state_dir: PathBuf,
    /// How artifacts are compiled.
    pub compile: CompileOptions,
    /// How many guests can be alive.
    pub pool: PoolOptions,
    /// How the head is reached.
    pub head: Connector,
    /// The cluster's token.
    pub token: String,
    /// Where other nodes reach this one; without, it runs nothing for others.
    pub data: Option<Endpoint>,
    /// Where drivers reach this node; without, it has no gateway.
    pub gateway: Option<Endpoint>,
    /// Whether the driver runs in this process.
    pub embedded: bool,
    /// What the node keeps on disk.
    pub storage: StorageOptions,
}

/// What a node keeps on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StorageOptions {
    /// Bytes of all artifacts together; beyond, those that nothing uses make room, the least recently used first. 10 GiB by default.
    pub artifact_bytes: u64,
    /// Bytes of one job's output. 256 MiB by default.
    pub job_output_bytes: u64,
    /// Bytes of the output of all jobs that ended. 4 GiB by default.
    pub output_bytes: u64,
    /// How long the output of a job that ended is kept. 7 days by default.
    pub output_age: Duration,
}

impl Default for StorageOptions {
    fn default() -> Self {
        Self {
            artifact_bytes: 10 << 30,
            job_output_bytes: 256 << 20,
            output_bytes: 4 << 30,
            output_age: Duration::from_secs(7 * 24 * 3600),
        }
    }
}

/// A bound listener and the address that others are told.
#[derive(Debug)]
pub struct Endpoint {
    /// Where connections come in.
    pub listener: Listener,
    /// `host:port` as others reach it; empty inside a process.
    pub address: String,
}

/// Tasks of one job that may be submitted and not ended.
const WINDOW: u64 = 2_000_000;
/// Jobs that a node remembers after their end, and tasks of them.
const JOBS_KEPT: usize = 10_000;
const TASKS_KEPT: u64 = 4_000_000;

/// A running node.
pub struct Node {
    id: NodeId,
    cluster: String,
    shared: Weak<Shared>,
    gateway: Weak<Gateway>,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").field("id", &self.id).field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

impl Node {
    /// Joins the head and serves until `scope` is shut down. When this returns, the node takes work.
    ///
    /// # Errors
    ///
    /// If the head cannot be reached or does not take the node, or the machine lacks something.
    pub async fn start(options: NodeOptions, scope: &Scope) -> Result<Self> {
        let NodeOptions { name, capacity, labels, state_dir, compile, pool, head, token, data, gateway, embedded, storage } = options;
        let bad_dir = |error| Error::new(Code::IO, format!("cannot use the state directory {}: {error}", state_dir.display()));
        create_private_dir(&state_dir).map_err(bad_dir)?;
        let addresses: Vec<IpAddr> =
            data.iter().chain(&gateway).filter_map(|endpoint| endpoint.listener.local_addr()).map(|address| address.ip()).collect();
        let engine = Engine::new(EngineOptions { compile, pool, reserved: own_addresses(addresses) })?;
        let artifacts = Artifacts::open(&state_dir, storage.artifact_bytes)?;
        let address = |endpoint: &Option<Endpoint>| endpoint.as_ref().map(|endpoint| endpoint.address.clone()).unwrap_or_default();
        let registration = Registration {
            name: name.clone(),
            capacity: capacity.clone(),
            labels,
            data_address: address(&data),
            gateway_address: address(&gateway),
        };
        let mut identity = if embedded { Identity::passing() } else { Identity::begin(&state_dir)? };
        let incarnation = identity.incarnation();
        let joined = head_link::join(&head, &token, identity.cluster(), incarnation, identity.node(), &registration).await?;
        let (id, cluster) = (joined.node, joined.cluster.clone());
        identity.joined(&cluster, id)?;
        tracing::info!(node = %id, %cluster, %name, capacity = %capacity, "joined");
        let shared = Shared::new(Parts {
            id,
            cluster: cluster.clone(),
            incarnation,
            token: Token::new(&token),
            embedded,
            state_dir,
            engine,
            artifacts,
            logs: LogThread::start()?,
            capacity,
            head: HeadHandle::new(token, registration),
            scope: scope.clone(),
            limits: NodeLimits {
                log_bytes: storage.job_output_bytes,
                window: WINDOW,
                jobs_kept: JOBS_KEPT,
                tasks_kept: TASKS_KEPT,
                log_bytes_kept: storage.output_bytes,
                log_age: storage.output_age,
            },
        })?;
        scope.spawn("head-link", OnEnd::ShutDown, head_link::stay(Arc::downgrade(&shared), head, joined));
        scope.spawn("spread", OnEnd::ShutDown, Arc::clone(&shared).spread_work());
        scope.spawn("retention", OnEnd::ShutDown, Arc::clone(&shared).expire_outputs());
        scope.spawn("drain", OnEnd::ShutDown, Arc::clone(&shared).watch_drain());
        if let Some(data) = data {
            serve(scope, "data", Server::new().peer(Arc::new(Runner(Arc::clone(&shared)))), data.listener);
        }
        let service = match gateway {
            Some(gateway) => {
                let service = Arc::new(Gateway::new(&shared)?);
                let weak = Arc::downgrade(&service);
                serve(scope, "gateway", Server::new().gateway(service), gateway.listener);
                weak
            }
            None => Weak::new(),
        };
        Ok(Self { id, cluster, shared: Arc::downgrade(&shared), gateway: service })
    }

    /// Serves drivers on a further listener: one inside of this process.
    ///
    /// # Errors
    ///
    /// If the node has no gateway.
    pub fn serve_drivers(&self, listener: Listener, scope: &Scope) -> Result<()> {
        let service = self.gateway.upgrade().ok_or_else(|| Error::internal("a node without a gateway was to serve drivers"))?;
        serve(scope, "gateway", Server::new().gateway(service), listener);
        Ok(())
    }

    /// What it counts and measures.
    pub fn metrics(&self) -> NodeMetrics {
        NodeMetrics::of(&self.shared)
    }

    /// The number that the head gave.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// Takes no more work, and waits until what runs has ended, but no longer than `within`: to be called before the scope is shut down.
    pub async fn leave(&self, within: Duration) {
        if let Some(shared) = self.shared.upgrade() {
            shared.leave(within).await;
        }
    }

    /// The cluster it joined.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }
}

fn serve(scope: &Scope, name: &'static str, server: Server, listener: Listener) {
    let until = scope.clone();
    scope.spawn(name, OnEnd::ShutDown, async move {
        if let Err(error) = server.serve(listener, async move { until.cancelled().await }).await {
            tracing::error!(server = name, %error, "a server ended");
        }
    });
}
