//! Passing connections on between nodes that cannot reach each other: what a node with a gateway does for the others.
//!
//! It sees bytes. Who may dial whom, and who is there, the two ends find out from each other.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use rwasm_runtime::{OnEnd, random_bytes};
use rwasm_types::{Code, Error, NodeId, Result};
use rwasm_wire::{Caller, DuplexDialler, Inbound, Outbound, RelayService, Sender, Tunnel, convert, msg};
use tokio::{io::DuplexStream, sync::oneshot};

use crate::node::Shared;

/// How long a node may take to answer a ring.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Rings that a node may leave unheard.
const RINGS: usize = 64;
/// Rings that may wait for their answers, of all nodes.
const WAITING_MAX: usize = 4096;
/// Bytes that a connection holds at the relay, each way.
const PIPE_BYTES: usize = 128 << 10;

/// 16 random bytes, which only the node that was rung hears.
type RingNumber = [u8; 16];

/// Nodes that can be rung, and rings that were not answered yet.
pub(crate) struct Relay {
    /// The relay's own node.
    id: NodeId,
    /// Where connections to it go.
    own: DuplexDialler,
    attending: Mutex<HashMap<NodeId, Sender<Result<msg::Ring>>>>,
    waiting: Mutex<HashMap<RingNumber, Waiting>>,
}

struct Waiting {
    node: NodeId,
    dialler: oneshot::Sender<DuplexStream>,
}

impl Relay {
    pub(crate) fn new(id: NodeId, own: DuplexDialler) -> Self {
        Self { id, own, attending: Mutex::default(), waiting: Mutex::default() }
    }

    /// A node waits for rings from now on; one that waited before, and lost its connection, does so no more.
    fn attend(&self, node: NodeId) -> Outbound<Result<msg::Ring>> {
        let (sender, rings) = Outbound::channel(RINGS);
        let mut attending = self.attending.lock();
        attending.retain(|_, sender| !sender.is_closed());
        attending.insert(node, sender);
        rings
    }

    /// A connection to a node.
    ///
    /// # Errors
    ///
    /// [`Code::UNREACHABLE`] if it is not here, or does not answer; [`Code::LIMIT`] if too much is under way.
    pub(crate) async fn dial(&self, node: NodeId) -> Result<DuplexStream> {
        let absent = |why: &str| Error::new(Code::UNREACHABLE, format!("node {node} {why}")).with("node", node);
        if node == self.id {
            let (theirs, ours) = tokio::io::duplex(PIPE_BYTES);
            self.own.hand_over(ours).await.map_err(|_closed| absent("is about to end"))?;
            return Ok(theirs);
        }
        let sender = self.attending.lock().get(&node).cloned().ok_or_else(|| absent("has no connection to the relay"))?;
        let number: RingNumber = random_bytes().map_err(|error| Error::internal(format!("no random numbers: {error}")))?;
        let (dialler, answered) = oneshot::channel();
        {
            let mut waiting = self.waiting.lock();
            waiting.retain(|_, waiting| !waiting.dialler.is_closed());
            if waiting.len() >= WAITING_MAX {
                return Err(Error::new(Code::LIMIT, format!("{WAITING_MAX} connections wait at the relay, which is the limit")));
            }
            waiting.insert(number, Waiting { node, dialler });
        }
        if sender.try_send(Ok(msg::Ring { number: number.to_vec().into() })).is_err() {
            self.waiting.lock().remove(&number);
            return Err(absent("does not listen to the relay"));
        }
        let answered = tokio::time::timeout(ANSWER_WITHIN, answered).await;
        self.waiting.lock().remove(&number);
        answered.ok().and_then(std::result::Result::ok).ok_or_else(|| absent("did not answer the relay"))
    }

    /// A node answers a ring; gives its end of the connection.
    ///
    /// # Errors
    ///
    /// [`Code::NOT_FOUND`] if nobody waits for it any more, [`Code::NODE_IDENTITY`] if another was rung.
    fn answer(&self, number: &[u8], proven: Option<NodeId>) -> Result<DuplexStream> {
        let number: RingNumber = number.try_into().map_err(|_| convert::malformed("a ring's number has not 16 bytes"))?;
        let gone = || Error::new(Code::NOT_FOUND, "nobody waits for this answer any more");
        let Waiting { node, dialler } = self.waiting.lock().remove(&number).ok_or_else(gone)?;
        if proven.is_some_and(|proven| proven != node) {
            return Err(Error::new(Code::NODE_IDENTITY, format!("node {node} was rung, and another answers")));
        }
        let (theirs, ours) = tokio::io::duplex(PIPE_BYTES);
        dialler.send(theirs).map_err(|_gone| gone())?;
        Ok(ours)
    }
}

/// The service that nodes speak with.
pub(crate) struct Service {
    pub(crate) relay: Arc<Relay>,
    pub(crate) shared: Weak<Shared>,
}

impl Service {
    fn shared(&self) -> Result<Arc<Shared>> {
        self.shared.upgrade().ok_or_else(|| Error::new(Code::CONNECTION_LOST, "this node is shutting down"))
    }
}

impl RelayService for Service {
    async fn attend(&self, caller: Caller, node: u32) -> Result<Outbound<Result<msg::Ring>>> {
        let node = convert::node(node)?;
        self.shared()?.head.proof().check(&caller, Some(node))?;
        tracing::debug!(%node, "a node attends the relay");
        Ok(self.relay.attend(node))
    }

    async fn tunnel(&self, caller: Caller, mut inbound: Inbound<msg::TunnelPart>) -> Result<Outbound<Result<msg::TunnelPart>>> {
        let shared = self.shared()?;
        shared.head.proof().check(&caller, None)?;
        let first = convert::required(inbound.next().await?.and_then(|first| first.part), "a tunnel's first part")?;
        let pipe = match first {
            msg::tunnel_part::Part::Dial(node) => self.relay.dial(convert::node(node)?).await?,
            msg::tunnel_part::Part::Answer(number) => self.relay.answer(&number, caller.node)?,
            msg::tunnel_part::Part::Bytes(_) => return Err(convert::malformed("a tunnel begins with bytes")),
        };
        let (tunnel, outbound) = Tunnel::answer(inbound);
        shared.scope.spawn("tunnel", OnEnd::Continue, tunnel.carry(pipe));
        Ok(outbound)
    }
}

#[cfg(test)]
mod tests {
    use rwasm_wire::duplex;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn node(number: u32) -> NodeId {
        NodeId::new(number).unwrap()
    }

    #[tokio::test]
    async fn two_nodes_meet_at_the_relay() {
        let (own, _listener) = duplex();
        let relay = Relay::new(node(1), own);
        assert_eq!(relay.dial(node(3)).await.unwrap_err().code(), Code::UNREACHABLE, "it is not here");
        let mut rings = relay.attend(node(3));
        let answer = async {
            let rung = rings.next().await.unwrap().unwrap();
            assert_eq!(relay.answer(&rung.number, Some(node(4))).unwrap_err().code(), Code::NODE_IDENTITY);
            assert_eq!(relay.answer(&rung.number, Some(node(3))).unwrap_err().code(), Code::NOT_FOUND, "a ring is answered once");
        };
        let (dialled, ()) = tokio::join!(relay.dial(node(3)), answer);
        assert_eq!(dialled.unwrap_err().code(), Code::UNREACHABLE);
        let answer = async {
            let rung = rings.next().await.unwrap().unwrap();
            relay.answer(&rung.number, Some(node(3))).unwrap()
        };
        let (dialled, mut answered) = tokio::join!(relay.dial(node(3)), answer);
        let mut dialled = dialled.unwrap();
        dialled.write_all(b"hello").await.unwrap();
        drop(dialled);
        let mut heard = Vec::new();
        answered.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, b"hello");
        assert!(relay.waiting.lock().is_empty());
        drop(rings);
        assert_eq!(relay.dial(node(3)).await.unwrap_err().code(), Code::UNREACHABLE, "it went");
    }
}
