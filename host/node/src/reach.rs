//! Reaching other nodes, and being reached: directly where the network lets us, else through a relay that both ends dial.
//!
//! ```text
//! connect ─▶ the node's data address ─┬─ answers ────────────▶ speak
//!                                     └─ does not, or takes long ─▶ relay ─▶ the node, which attends there ─▶ speak
//! ```

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock, Weak},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rwasm_runtime::OnEnd;
use rwasm_types::{Code, Error, NodeId, Result};
use rwasm_wire::{Connector, DuplexDialler, PeerClient, RelayClient, Tunnel, msg};
use tokio::{
    io::DuplexStream,
    sync::{Semaphore, watch},
};

use crate::{node::Shared, relay::Relay};

/// How long a node may take to answer at its address before the relay is tried beside it.
const HEAD_START: Duration = Duration::from_millis(500);
/// How long an address that did not answer is left alone.
const LEFT_ALONE: Duration = Duration::from_secs(30);
/// Addresses that did not answer and are remembered.
const FAR_MAX: usize = 1024;
/// The first and the longest pause between attempts to reach the relay.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LONGEST: Duration = Duration::from_secs(2);
/// Rings that are being answered at once.
const ANSWERS_MAX: usize = 64;
/// Bytes that a connection holds between its tunnel and whoever speaks through it, each way.
const PIPE_BYTES: usize = 128 << 10;

/// Where a relay is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RelayAddress {
    pub(crate) node: NodeId,
    pub(crate) address: String,
}

/// A node's ways to others and from them.
pub(crate) struct Reach {
    /// Where connections through a relay come in.
    door: DuplexDialler,
    /// The relay that the head names.
    named: watch::Sender<Option<RelayAddress>>,
    /// The connection to it.
    relay: Mutex<Option<RelayClient>>,
    /// This node, where it is one.
    own: OnceLock<Arc<Relay>>,
    /// Nodes that did not answer at their addresses.
    far: Mutex<HashMap<NodeId, Instant>>,
}

impl Reach {
    /// `door` is where connections that came through a relay are to go.
    pub(crate) fn new(door: DuplexDialler) -> Self {
        Self { door, named: watch::Sender::new(None), relay: Mutex::default(), own: OnceLock::new(), far: Mutex::default() }
    }

    /// Makes this node a relay.
    pub(crate) fn become_relay(&self, id: NodeId) -> Arc<Relay> {
        Arc::clone(self.own.get_or_init(|| Arc::new(Relay::new(id, self.door.clone()))))
    }

    /// The head names a relay.
    pub(crate) fn heard_of(&self, relay: RelayAddress) {
        self.named.send_if_modified(|named| {
            let is_new = named.as_ref() != Some(&relay);
            *named = Some(relay);
            is_new
        });
    }

    fn is_far(&self, node: NodeId) -> bool {
        self.far.lock().get(&node).is_some_and(|since| since.elapsed() < LEFT_ALONE)
    }

    fn is_now_far(&self, node: NodeId) {
        let mut far = self.far.lock();
        if far.len() >= FAR_MAX {
            far.retain(|_, since| since.elapsed() < LEFT_ALONE);
        }
        if far.len() < FAR_MAX {
            far.insert(node, Instant::now());
        }
    }
}

impl Shared {
    /// Connects to a node that is to be reached at an address, or nowhere if that is empty.
    ///
    /// # Errors
    ///
    /// [`Code::UNREACHABLE`] if it is reached neither there nor through a relay; what the node says of who we are.
    pub(crate) async fn peer(self: &Arc<Self>, node: NodeId, address: &str) -> Result<PeerClient> {
        if address.is_empty() || self.reach.is_far(node) {
            return self.peer_through_relay(node).await;
        }
        let proof = self.head.proof();
        let connector = proof.to_node(node, Connector::tcp(address))?;
        let direct = PeerClient::connect(&connector, proof.token());
        tokio::pin!(direct);
        // Whoever else may be at this address, as where two networks use the same, is not the node: that shows in its certificate.
        let failed = match tokio::time::timeout(HEAD_START, &mut direct).await {
            Ok(Ok(client)) => return Ok(client),
            Ok(Err(error)) => Some(error),
            Err(_elapsed) => None,
        };
        let relayed = self.peer_through_relay(node);
        tokio::pin!(relayed);
        let (direct, relayed) = match failed {
            Some(error) => (error, relayed.await),
            None => tokio::select! {
                client = &mut direct => match client {
                    Ok(client) => return Ok(client),
                    Err(error) => (error, relayed.await),
                },
                client = &mut relayed => match client {
                    Ok(client) => (Error::new(Code::UNREACHABLE, format!("{address} takes long to answer")), Ok(client)),
                    Err(error) => match direct.await {
                        Ok(client) => return Ok(client),
                        Err(direct) => (direct, Err(error)),
                    },
                },
            },
        };
        match relayed {
            Ok(client) => {
                self.reach.is_now_far(node);
                tracing::info!(%node, address, error = %direct, "a node is reached through a relay");
                Ok(client)
            }
            Err(relayed) => Err(direct.context(format_args!("nor is there a way through a relay, for {}", relayed.message()))),
        }
    }

    async fn peer_through_relay(self: &Arc<Self>, node: NodeId) -> Result<PeerClient> {
        // Nodes attend one relay, which a node with a gateway may be, or not.
        let attends_here = match self.reach.own.get() {
            Some(own) => own.dial(node).await,
            None => Err(Error::new(Code::UNREACHABLE, "this node has no connection to a relay")),
        };
        let other = self.reach.relay.lock().clone();
        let pipe = match (attends_here, other) {
            (Ok(pipe), _) => pipe,
            (Err(_), Some(mut client)) => self.pipe(client.tunnel(msg::tunnel_part::Part::Dial(node.get())).await?),
            (Err(error), None) => return Err(error),
        };
        let proof = self.head.proof();
        let connector = proof.to_node(node, Connector::over(pipe, format!("node {node}, through a relay")))?;
        PeerClient::connect(&connector, proof.token()).await
    }

    /// Has a tunnel carried for as long as it lasts.
    fn pipe(&self, tunnel: Tunnel<msg::TunnelPart>) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
        self.scope.spawn("tunnel", OnEnd::Continue, tunnel.carry(theirs));
        ours
    }
}

/// Waits at the relay that the head names for those that want to reach this node.
pub(crate) async fn attend(shared: Weak<Shared>) {
    let Some(mut named) = shared.upgrade().map(|shared| shared.reach.named.subscribe()) else { return };
    let mut pause = RETRY_FIRST;
    loop {
        let Ok(relay) = named.wait_for(Option::is_some).await.map(|relay| relay.clone()) else { return };
        let Some(relay) = relay.filter(|relay| shared.upgrade().is_some_and(|shared| shared.id != relay.node)) else {
            // What this node is itself, it needs not dial.
            if named.changed().await.is_err() {
                return;
            }
            continue;
        };
        let outcome = tokio::select! {
            outcome = attend_once(&shared, &relay, &mut pause) => outcome,
            changed = named.changed() => match changed {
                Ok(()) => continue,
                Err(_closed) => return,
            },
        };
        let Some(shared) = shared.upgrade() else { return };
        *shared.reach.relay.lock() = None;
        if let Err(error) = outcome {
            tracing::debug!(relay = %relay.node, %error, "the relay is away");
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY_LONGEST);
    }
}

async fn attend_once(shared: &Weak<Shared>, relay: &RelayAddress, pause: &mut Duration) -> Result<()> {
    let gone = || Error::new(Code::CONNECTION_LOST, "this node is shutting down");
    let (connector, token, id) = {
        let shared = shared.upgrade().ok_or_else(gone)?;
        let proof = shared.head.proof();
        // A relay is the head's own node, whose gateway shows nodes what the head shows them.
        (proof.to_head(&Connector::tcp(&relay.address))?, proof.token().to_owned(), shared.id)
    };
    let mut client = RelayClient::connect(&connector, &token).await?;
    let mut rings = client.attend(id).await?;
    *shared.upgrade().ok_or_else(gone)?.reach.relay.lock() = Some(client.clone());
    *pause = RETRY_FIRST;
    tracing::debug!(relay = %relay.node, "attending the relay");
    let answers = Arc::new(Semaphore::new(ANSWERS_MAX));
    while let Some(rung) = rings.next().await? {
        let permit = Arc::clone(&answers).acquire_owned().await.map_err(|_closed| gone())?;
        let shared = shared.upgrade().ok_or_else(gone)?;
        let (mut client, scope) = (client.clone(), shared.scope.clone());
        scope.spawn("relay-answer", OnEnd::Continue, async move {
            let _permit = permit;
            match client.tunnel(msg::tunnel_part::Part::Answer(rung.number)).await {
                Ok(tunnel) => {
                    let pipe = shared.pipe(tunnel);
                    // Without a server for it, the node is about to end.
                    let _ = shared.reach.door.hand_over(pipe).await;
                }
                Err(error) => tracing::debug!(%error, "a ring cannot be answered"),
            }
        });
    }
    Ok(())
}
