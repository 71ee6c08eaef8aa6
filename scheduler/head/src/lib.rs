//! The control plane daemon: adapters around the decisions of `rwasm_core`.
//!
//! ```text
//! nodes ──join──▶ join.rs ──events──▶ State { Core } ──actions──▶ the nodes' streams
//!                    │ └──numbers.rs──▶ journal
//!                    ├─────────pasts──▶ history.rs ──▶ segments of other nodes, which answer when those are gone
//!                    └────questions──▶ ask.rs ──▶ answered here, or put together from what nodes answer
//!                                        └─orders──▶ orders.rs ──▶ journal
//! ```
//!
//! The head knows nodes, demands and leases, and what is left of jobs when they have ended (`history.rs`). It never sees arguments, results or
//! an object's bytes.

mod access;
mod actors;
mod artifacts;
mod ask;
mod history;
mod invite;
mod join;
mod numbers;
mod orders;
mod records;
mod state;
mod stored;

use std::{sync::Arc, time::Duration};

use rwasm_journal::Journal;
use rwasm_runtime::{OnEnd, Scope};
use rwasm_tls::JoinToken;
use rwasm_types::{Result, TokenId, UserToken, metrics::Family};
use rwasm_wire::{Listener, Server};

pub use rwasm_history::Retention;

pub use self::{
    history::HistoryOptions,
    invite::Issuer,
    numbers::{cluster, cluster_of, renumber},
};
use self::{invite::Invitations, state::Shared};

/// How often nodes are heard from.
pub(crate) const HEARTBEAT: Duration = Duration::from_millis(250);
/// How long a node may be silent, or its stream be gone, before it counts as lost.
pub(crate) const LOST_AFTER: Duration = Duration::from_millis(1_500);
/// How often silent nodes are looked for, and the core is told that time passes.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How a head is set up.
#[derive(Debug)]
pub struct HeadOptions {
    /// What survives: the cluster itself, its nodes, tenants and tokens, the orders that were carried out.
    pub journal: Journal,
    /// What is kept of the past of other nodes; nothing without.
    pub history: Option<HistoryOptions>,
    /// What nodes show.
    pub token: String,
    /// The token of an admin, who is made one if nobody knows it: of whoever may read the cluster's state.
    pub admin: UserToken,
    /// Who issues certificates of nodes; without, the cluster has no TLS.
    pub issuer: Option<Issuer>,
    /// Where nodes join.
    pub listener: Listener,
}

/// A running head. Clones are the same.
#[derive(Clone, Debug)]
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
        let HeadOptions { journal, history, token, admin, issuer, listener } = options;
        let invitations = Invitations::new(journal.clone(), issuer);
        let shared = Arc::new(Shared::new(journal, &token, history, invitations, scope.clone()).await?);
        shared.found(&admin).await?;
        let head = Self { shared };
        head.serve(listener, scope);
        scope.spawn("node-watch", OnEnd::ShutDown, watch(Arc::clone(&head.shared)));
        let shared = Arc::clone(&head.shared);
        scope.spawn("history", OnEnd::ShutDown, async move { history::retain(&shared).await });
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

    /// Lets up to `nodes` nodes join by a new token, for so long. The `former` token is good for nothing from then on.
    ///
    /// # Errors
    ///
    /// [`rwasm_types::Code::TLS_REQUIRED`] without TLS, [`rwasm_types::Code::LIMIT`] for more time or nodes than a token can be good for, and
    /// what the journal says.
    pub async fn invite(&self, former: Option<TokenId>, life: Duration, nodes: u32) -> Result<JoinToken> {
        self.shared.invitations.replace(former, life, nodes).await
    }

    /// What it counts and measures; to be called at each scrape.
    pub fn metrics(&self) -> impl Fn() -> Vec<Family> + Send + Sync + 'static {
        let shared = Arc::clone(&self.shared);
        move || shared.families()
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
        let lost = shared.lose_silent_nodes();
        shared.owners_lost(&lost).await;
        shared.step(rwasm_core::Event::Tick);
    }
}
