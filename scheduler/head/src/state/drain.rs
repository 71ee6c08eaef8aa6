//! Draining nodes: what was ordered is kept here, told to the node, and told again whenever it joins.

use std::time::Duration;

use bytes::Bytes;
use rwasm_core::Event;
use rwasm_types::{
    Code, Error, NodeId, Result, Tenant,
    api::{Ask, Drain, NodeRecord, Order},
};
use tokio::sync::oneshot;

use super::{Shared, State, now_ms};

/// The longest that a node may be given to finish what runs on it.
const WITHIN_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// What the node says of an order, once it does; `None` if it is away.
type Answer = Option<oneshot::Receiver<Result<Bytes>>>;

impl Shared {
    /// Has a node take no more work. The order holds from now on, whether the node hears it at once or when it is back.
    ///
    /// # Errors
    ///
    /// [`Code::NOT_FOUND`] if there is no such node, [`Code::LIMIT`] for a deadline that is too far away.
    pub(crate) fn drain(&self, id: NodeId, within: Duration) -> Result<Answer> {
        if within > WITHIN_MAX {
            return Err(Error::new(Code::LIMIT, "a node can be given at most 7 days to finish what runs on it"));
        }
        let now = now_ms();
        let within_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        {
            let mut state = self.state.lock();
            state.must_live(id)?;
            let since_ms = state.drains.get(&id).map_or(now, |known| known.since_ms);
            state.drains.insert(id, Drain { since_ms, deadline_ms: Some(now + within_ms) });
            state.settle_drain(id);
        }
        tracing::info!(node = %id, ?within, "a node is drained");
        self.tell(id, &Order::DrainNode { node: id, within_ms })
    }

    /// Has a node take work again.
    ///
    /// # Errors
    ///
    /// [`Code::NOT_FOUND`] if there is no such node.
    pub(crate) fn undrain(&self, id: NodeId) -> Result<Answer> {
        {
            let mut state = self.state.lock();
            state.must_live(id)?;
            state.drains.remove(&id);
            state.settle_drain(id);
        }
        tracing::info!(node = %id, "a node takes work again");
        self.tell(id, &Order::UndrainNode { node: id })
    }

    /// Tells a node that joined what was ordered before; one that was here before may have missed it.
    pub(crate) fn remind_of_drain(&self, node: NodeId, again: bool) {
        let drain = self.state.lock().drains.get(&node).copied();
        let order = match drain.and_then(|drain| drain.deadline_ms) {
            Some(deadline_ms) => Order::DrainNode { node, within_ms: deadline_ms.saturating_sub(now_ms()) },
            None if again => Order::UndrainNode { node },
            None => return,
        };
        // Nobody waits for its answer.
        if let Err(error) = self.tell(node, &order) {
            tracing::error!(%node, %error, "a node was not told whether it is drained");
        }
    }

    fn tell(&self, id: NodeId, order: &Order) -> Result<Answer> {
        let ask =
            serde_json::to_vec(&Ask::Order(order.clone())).map_err(|error| Error::internal(format!("an order has no JSON: {error}")))?;
        Ok(self.question(id, Tenant::default().as_str(), ask.into()))
    }

    /// A node's record.
    ///
    /// # Errors
    ///
    /// [`Code::NOT_FOUND`] if there is no such node.
    pub(crate) fn node_record(&self, id: NodeId) -> Result<NodeRecord> {
        self.state.lock().nodes.get(&id).map(|node| node.record.clone()).ok_or_else(|| unknown(id))
    }
}

impl State {
    fn must_live(&self, id: NodeId) -> Result<()> {
        match self.nodes.get(&id) {
            Some(node) if node.record.alive => Ok(()),
            Some(_) => Err(Error::new(Code::NOT_FOUND, format!("node {id} is lost")).hint("`rwasm list nodes` shows which are alive")),
            None => Err(unknown(id)),
        }
    }

    /// Brings a node's record and the core in line with what is known of its draining: what was ordered, else that it is about to leave.
    pub(super) fn settle_drain(&mut self, id: NodeId) {
        let ordered = self.drains.get(&id).copied();
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let leaving = || node.leaving.then(|| Drain { since_ms: now_ms(), deadline_ms: None });
        node.record.drain = ordered.or_else(leaving);
        let draining = node.record.drain.is_some();
        self.step(Event::NodeDraining { node: id, draining });
    }
}

fn unknown(id: NodeId) -> Error {
    Error::new(Code::NOT_FOUND, format!("there is no node {id}")).hint("`rwasm list nodes` shows what there is")
}
