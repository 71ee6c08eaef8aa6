//! The worker daemon: what a node is.
//!
//! It takes jobs from drivers through its gateway and owns them, runs tasks on its own executors, lends its slots to other owners, and
//! borrows theirs by leases that the head grants. [`Node::start`] joins a head and serves until its scope is shut down; everything else
//! here is private.

mod access;
mod actors;
mod artifacts;
mod batch;
mod cancel;
mod credential;
mod dispatch;
mod drain;
mod executor;
mod gateway;
mod guest;
mod head_link;
mod identity;
mod local_runs;
mod logs;
mod members;
mod metrics;
mod node;
mod objects;
mod offer;
mod owner;
mod purge;
mod query;
mod reach;
mod relay;
mod retention;
mod runner;
mod sessions;
mod ship;
mod tally;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use rwasm_engine::{CompileOptions, Engine, EngineOptions, PoolOptions, Reserved};
use rwasm_objects::{Config as StoreConfig, Store};
use rwasm_runtime::{OnEnd, Scope, aside, create_private_dir};
use rwasm_types::{Code, Error, Name, NodeId, ResourceSet, Result};
use rwasm_wire::{Connector, Listener, Server, duplex};

use self::{
    artifacts::Artifacts,
    credential::Proof,
    gateway::Gateway,
    head_link::{HeadHandle, Registration},
    identity::Identity,
    logs::{LogThread, outputs},
    node::{NodeLimits, Parts, Shared},
    objects::Objects,
    owner::ledger::Ledger,
    reach::Reach,
    runner::Runner,
    sessions::Sessions,
};

pub use rwasm_history::Retention;

pub use self::{
    access::Tokens,
    artifacts::{ARTIFACT_BYTES_MAX, too_large},
    credential::Credential,
    identity::{check, renumber},
    local_runs::LocalRuns,
    metrics::NodeMetrics,
    objects::{SpillOptions, SpillTo},
    offer::{NodeOffer, Volume},
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
    /// How the head is reached; what makes it an encrypted connection is added to it.
    pub head: Connector,
    /// With what the node joins.
    pub credential: Credential,
    /// Where other nodes reach this one; without, they reach it through a relay.
    pub data: Option<Endpoint>,
    /// Where drivers reach this node; without, it has no gateway.
    pub gateway: Option<Endpoint>,
    /// Whether the driver runs in this process.
    pub embedded: bool,
    /// What guests may have here, beside what every guest has.
    pub offer: NodeOffer,
    /// What the node keeps on disk.
    pub storage: StorageOptions,
    /// How long the past of jobs is kept.
    pub retention: Retention,
    /// Bytes of shared memory that objects may take.
    pub object_bytes: u64,
    /// Where objects go when that runs short; without, they stay.
    pub spill: Option<SpillOptions>,
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

/// How long a gateway waits for the head to say who may do what.
const DIRECTORY_WITHIN: Duration = Duration::from_secs(10);
/// Tasks of one job that may be submitted and not ended.
const WINDOW: u64 = 2_000_000;
/// Jobs that a node has in memory after their end, and tasks of them; on disk are more.
const JOBS_KEPT: usize = 1_000;
const TASKS_KEPT: u64 = 200_000;

/// A running node. Clones are the same.
#[derive(Clone)]
pub struct Node {
    id: NodeId,
    cluster: String,
    shared: Weak<Shared>,
    gateway: Weak<Gateway>,
    scrapers: Option<rwasm_tls::Acceptor>,
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
        let NodeOptions {
            name,
            capacity,
            labels,
            state_dir,
            compile,
            pool,
            head,
            credential,
            data,
            gateway,
            embedded,
            offer,
            storage,
            retention,
            object_bytes,
            spill,
        } = options;
        let bad_dir = |error| Error::new(Code::IO, format!("cannot use the state directory {}: {error}", state_dir.display()));
        create_private_dir(&state_dir).map_err(bad_dir)?;
        let reserved = Arc::<Reserved>::default();
        let own = data.iter().chain(&gateway).filter_map(|endpoint| endpoint.listener.local_addr()).map(|address| address.ip());
        reserved.add(own.filter(|address| !address.is_unspecified()));
        let engine = Engine::new(EngineOptions { compile, pool, guest_memory_bytes: capacity.memory, reserved })?;
        let artifacts = Artifacts::open(&state_dir, storage.artifact_bytes)?;
        let address = |endpoint: &Option<Endpoint>| endpoint.as_ref().map(|endpoint| endpoint.address.clone()).unwrap_or_default();
        let registration = Registration {
            name: name.clone(),
            capacity: capacity.clone(),
            labels,
            data_address: address(&data),
            gateway_address: address(&gateway),
            offer: offer.told(),
        };
        registration.offer.check()?;
        let proof = Proof::open(&credential, &state_dir)?;
        let mut identity = if embedded { Identity::passing() } else { Identity::begin(&state_dir)? };
        let incarnation = identity.incarnation();
        let joined =
            head_link::join(&head, &proof, identity.cluster(), incarnation, identity.node(), &registration, &ResourceSet::default())
                .await?;
        let (id, cluster) = (joined.node, joined.cluster.clone());
        if let Some(former) = identity.node().filter(|former| *former != id) {
            Ledger::set_aside(&state_dir, former)?;
        }
        identity.joined(&cluster, id)?;
        let acceptor = proof.acceptor()?;
        let scrapers = proof.for_scrapers()?;
        let outputs = outputs::Kept::new(&state_dir, storage.output_bytes, storage.output_age);
        let ledger = Arc::new(Ledger::open(&state_dir, &cluster, id, retention, outputs.clone())?);
        let sessions = Arc::new(Mutex::new(Sessions::open(&state_dir)?));
        // A place elsewhere takes its time to answer.
        let spill = aside(async { spill.map(|spill| spill.open(&cluster, id)).transpose() }).await?;
        let store = StoreConfig { spill, ..StoreConfig::new(object_bytes) };
        let (door, tunnels) = duplex();
        tracing::info!(node = %id, %cluster, %name, capacity = %capacity, "joined");
        let shared = Shared::new(Parts {
            id,
            cluster: cluster.clone(),
            incarnation,
            embedded,
            offer,
            state_dir,
            engine,
            artifacts,
            objects: Arc::new(Objects::new(id, Store::open(store)?, Arc::clone(&sessions))?),
            sessions,
            logs: LogThread::start()?,
            outputs,
            ledger,
            capacity,
            head: HeadHandle::new(proof, registration),
            reach: Reach::new(door),
            scope: scope.clone(),
            limits: NodeLimits {
                log_bytes: storage.job_output_bytes,
                window: WINDOW,
                jobs_kept: JOBS_KEPT,
                tasks_kept: TASKS_KEPT,
                log_age: storage.output_age,
            },
        })?;
        scope.spawn("head-link", OnEnd::ShutDown, head_link::stay(Arc::downgrade(&shared), head, joined));
        tokio::time::timeout(DIRECTORY_WITHIN, shared.access.known())
            .await
            .map_err(|_elapsed| Error::new(Code::DEADLINE, "the head did not say in time who may do what"))?;
        shared.restore_jobs().await?;
        scope.spawn("actors", OnEnd::ShutDown, Arc::clone(&shared).mind_actors());
        scope.spawn("spread", OnEnd::ShutDown, Arc::clone(&shared).spread_work());
        scope.spawn("retention", OnEnd::ShutDown, Arc::clone(&shared).expire_outputs());
        scope.spawn("late-results", OnEnd::ShutDown, Arc::clone(&shared.objects).publish_late(scope.clone()));
        scope.spawn("object-holds", OnEnd::ShutDown, Arc::clone(&shared.objects).expire());
        scope.spawn("object-ways", OnEnd::ShutDown, Arc::clone(&shared).tell_others());
        scope.spawn("object-copies", OnEnd::ShutDown, Arc::clone(&shared.objects).forget_idle());
        scope.spawn("say-written", OnEnd::ShutDown, Arc::clone(&shared).say_what_is_written());
        scope.spawn("drain", OnEnd::ShutDown, Arc::clone(&shared).watch_drain());
        if !embedded {
            scope.spawn("relay", OnEnd::ShutDown, reach::attend(Arc::downgrade(&shared)));
            // Connections that come through a relay are like those that come to the data port.
            for (name, listener) in [("data", data.map(|data| data.listener)), ("tunnels", Some(Listener::memory(tunnels)))] {
                let Some(listener) = listener else { continue };
                let listener = match &acceptor {
                    Some(acceptor) => listener.with_tls(acceptor.clone()),
                    None => listener,
                };
                serve(scope, name, Server::new().peer(Arc::new(Runner(Arc::clone(&shared)))), listener);
            }
        }
        let mut service = Weak::new();
        if let Some(gateway) = gateway {
            let drivers = Arc::new(Gateway::new(&shared)?);
            service = Arc::downgrade(&drivers);
            let mut server = Server::new().gateway(drivers);
            if !embedded {
                let relay = shared.reach.become_relay(id);
                server = server.relay(Arc::new(relay::Service { relay, shared: Arc::downgrade(&shared) }));
            }
            serve(scope, "gateway", server, gateway.listener);
        }
        Ok(Self { id, cluster, shared: Arc::downgrade(&shared), gateway: service, scrapers })
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

    /// Who callers are, for other doors to the cluster in this process.
    pub fn tokens(&self) -> Tokens {
        Tokens(Weak::clone(&self.shared))
    }

    /// How those who read metrics are let in; `None` without TLS.
    pub fn for_scrapers(&self) -> Option<rwasm_tls::Acceptor> {
        self.scrapers.clone()
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

    /// Whether the head hears this node now.
    pub fn is_joined(&self) -> bool {
        self.shared.upgrade().is_some_and(|shared| shared.head.is_there())
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
