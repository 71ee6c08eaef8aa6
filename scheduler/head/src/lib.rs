//! The control plane daemon: adapters around the decisions of `rwasm_core`.
//!
//! ```text
//! nodes ──join──▶ join.rs ──events──▶ State { Core } ──actions──▶ the nodes' streams
//!                    │ └──numbers.rs──▶ journal
//!                    └────questions──▶ ask.rs ──▶ answered here, or put together from what nodes answer
//!                                        └─orders──▶ orders.rs ──▶ journal
//! ```
//!
//! The head knows nodes, demands and leases. It never sees a task, a result or an object's bytes.

mod artifacts;
mod ask;
mod join;
mod numbers;
mod orders;
mod state;
mod stored;

use std::{sync::Arc, time::Duration};

use rwasm_journal::Journal;
use rwasm_runtime::{OnEnd, Scope};
use rwasm_types::Result;
use rwasm_wire::{Listener, Server};

pub use self::numbers::{cluster_of, renumber};
use self::state::Shared;

/// How often nodes are heard from.
pub(crate) const HEARTBEAT: Duration = Duration::from_millis(250);
/// How long a node may be silent, or its stream be gone, before it counts as lost.
pub(crate) const LOST_AFTER: Duration = Duration::from_millis(1_500);
/// How often silent nodes are looked for, and the core is told that time passes.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How a head is set up.
#[derive(Debug)]
pub struct HeadOptions {
    /// What survives: the cluster itself, its nodes, the orders that were carried out.
    pub journal: Journal,
    /// The cluster's token.
    pub token: String,
    /// Where nodes join.
    pub listener: Listener,
}

/// A running head.
#[derive(Debug)]
pub struct Head {
    shared: Arc<Shared>,
}

impl Head {
    /// Serves until `scope` is shut down. When this returns, nodes can join.
    ///
    /// # Errors
    ///
    /// If the journal cannot be written, or holds what is not understood.
    pub async fn start(options: HeadOptions, scope: &Scope) -> Result<Self> {
        let HeadOptions { journal, token, listener } = options;
        let shared = Arc::new(Shared::new(journal, &token, scope.clone()).await?);
        let head = Self { shared };
        head.serve(listener, scope);
        scope.spawn("node-watch", OnEnd::ShutDown, watch(Arc::clone(&head.shared)));
        Ok(head)
    }

    /// Serves on a further listener: the one that the head's own node joins through.
    pub fn serve(&self, listener: Listener, scope: &Scope) {
        let (until, server) = (scope.clone(), Server::new().head(Arc::new(join::Joining(Arc::clone(&self.shared)))));
        scope.spawn("head", OnEnd::ShutDown, async move {
            if let Err(error) = server.serve(listener, async move { until.cancelled().await }).await {
                tracing::error!(%error, "the head's server ended");
            }
        });
    }

    /// The cluster's id, made when its journal was.
    pub fn cluster(&self) -> &str {
        self.shared.numbers.cluster()
    }

    /// Nodes that are alive.
    pub fn nodes_alive(&self) -> usize {
        self.shared.nodes_alive()
    }
}

/// Looks for nodes that fell silent, and tells the core that time passes.
async fn watch(shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    loop {
        ticks.tick().await;
        shared.lose_silent_nodes();
        shared.step(rwasm_core::Event::Tick);
    }
}
