//! The worker daemon: what a node is.
//!
//! It takes jobs from drivers through its gateway and owns them, runs tasks on its own executors, lends its slots to other owners, and
//! borrows theirs by leases that the head grants. [`Node::start`] joins a head and serves until its scope is shut down; everything else
//! here is private.

mod artifacts;
mod batch;
mod clock;
mod dispatch;
mod executor;
mod gateway;
mod head_link;
mod local_runs;
mod logs;
mod node;
mod owner;
mod query;
mod runner;

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, sync::Arc};

use rwasm_engine::{CompileOptions, Engine, EngineOptions, PoolOptions};
use rwasm_runtime::{OnEnd, Scope, create_private_dir};
use rwasm_types::{Code, Error, Incarnation, Name, NodeId, ResourceSet, Result};
use rwasm_wire::{Connector, Listener, Server};

use self::{
    artifacts::Artifacts,
    gateway::Gateway,
    head_link::{HeadHandle, Registration},
    logs::LogThread,
    node::{NodeLimits, Parts, Shared, Token, own_addresses},
    runner::Runner,
};

pub use self::{
    artifacts::{ARTIFACT_BYTES_MAX, too_large},
    local_runs::LocalRuns,
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
}

/// A bound listener and the address that others are told.
#[derive(Debug)]
pub struct Endpoint {
    /// Where connections come in.
    pub listener: Listener,
    /// `host:port` as others reach it; empty inside a process.
    pub address: String,
}

/// Bytes of a job's output that a node keeps.
const LOG_BYTES: u64 = 256 << 20;
/// Tasks of one job that may be submitted and not ended.
const WINDOW: u64 = 2_000_000;
/// Jobs that a node remembers after their end, tasks of them, and bytes of their output.
const JOBS_KEPT: usize = 10_000;
const TASKS_KEPT: u64 = 4_000_000;
const LOG_BYTES_KEPT: u64 = 4 << 30;

/// A running node.
#[derive(Debug)]
pub struct Node {
    id: NodeId,
    cluster: String,
}

impl Node {
    /// Joins the head and serves until `scope` is shut down. When this returns, the node takes work.
    ///
    /// # Errors
    ///
    /// If the head cannot be reached or does not take the node, or the machine lacks something.
    pub async fn start(options: NodeOptions, scope: &Scope) -> Result<Self> {
        let NodeOptions { name, capacity, labels, state_dir, compile, pool, head, token, data, gateway, embedded } = options;
        let bad_dir = |error| Error::new(Code::IO, format!("cannot use the state directory {}: {error}", state_dir.display()));
        create_private_dir(&state_dir).map_err(bad_dir)?;
        let addresses: Vec<IpAddr> =
            data.iter().chain(&gateway).filter_map(|endpoint| endpoint.listener.local_addr()).map(|address| address.ip()).collect();
        let engine = Engine::new(EngineOptions { compile, pool, reserved: own_addresses(addresses) })?;
        let artifacts = Artifacts::open(&state_dir)?;
        let address = |endpoint: &Option<Endpoint>| endpoint.as_ref().map(|endpoint| endpoint.address.clone()).unwrap_or_default();
        let registration = Registration {
            name: name.clone(),
            capacity: capacity.clone(),
            labels,
            data_address: address(&data),
            gateway_address: address(&gateway),
        };
        let incarnation = Incarnation(clock::now_ms());
        let joined = head_link::join(&head, &token, "", incarnation, None, &registration).await?;
        let (id, cluster) = (joined.node, joined.cluster.clone());
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
                log_bytes: LOG_BYTES,
                window: WINDOW,
                jobs_kept: JOBS_KEPT,
                tasks_kept: TASKS_KEPT,
                log_bytes_kept: LOG_BYTES_KEPT,
            },
        })?;
        scope.spawn("head-link", OnEnd::ShutDown, head_link::stay(Arc::downgrade(&shared), head, joined));
        scope.spawn("spread", OnEnd::ShutDown, Arc::clone(&shared).spread_work());
        if let Some(data) = data {
            serve(scope, "data", Server::new().peer(Arc::new(Runner(Arc::clone(&shared)))), data.listener);
        }
        if let Some(gateway) = gateway {
            let service = Arc::new(Gateway::new(&shared)?);
            serve(scope, "gateway", Server::new().gateway(service), gateway.listener);
        }
        Ok(Self { id, cluster })
    }

    /// The number that the head gave.
    pub fn id(&self) -> NodeId {
        self.id
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
