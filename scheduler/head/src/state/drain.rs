//! Draining nodes: what was ordered is written down, told to the node, and told again whenever it joins.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use rwasm_core::Event;
use rwasm_journal::{Change, Journal, Table};
use rwasm_runtime::now_ms;
use rwasm_types::{
    Code, Error, NodeId, Result, Tenant,
    api::{Ask, Drain, NodeRecord, Order},
};
use tokio::sync::oneshot;

use super::{Shared, State};
use crate::stored;

/// The longest that a node may be given to finish what runs on it.
const WITHIN_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// What the node says of an order, once it does; `None` if it is away.
type Answer = Option<oneshot::Receiver<Result<Bytes>>>;

impl Shared {
    /// Has a node take no more work. The order holds from now on, whether the node hears it at once or when it is back.
    ///
    /// # Errors
    ///
    /// [`Code::NOT_FOUND`] if there is no such node, [`Code::LIMIT`] for a deadline that is too far away; what the journal says.
    pub(crate) async fn drain(&self, id: NodeId, within: Duration) -> Result<Answer> {
        if within > WITHIN_MAX {
            return Err(Error::new(Code::LIMIT, "a node can be given at most 7 days to finish what runs on it"));
        }
        let now = now_ms();
        let within_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        let since_ms = {
            let state = self.state.lock();
            state.must_live(id)?;
            state.drains.get(&id).map_or(now, |known| known.since_ms)
        };
        let drain = Drain { since_ms, deadline_ms: Some(now + within_ms) };
        self.journal.commit(vec![stored::put(Table::Drains, id.to_string(), &drain)?]).await?;
        {
            let mut state = self.state.lock();
            state.drains.insert(id, drain);
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
    pub(crate) async fn undrain(&self, id: NodeId) -> Result<Answer> {
        self.state.lock().must_live(id)?;
        self.journal.commit(vec![Change::Delete { table: Table::Drains, key: id.to_string() }]).await?;
        {
            let mut state = self.state.lock();
            state.drains.remove(&id);
            state.settle_drain(id);
        }
        tracing::info!(node = %id, "a node takes work again");
        self.tell(id, &Order::UndrainNode { node: id })
    }

    /// Tells a node that joined what was ordered before; one that was here before may have missed it. A node that is new under its number
    /// is not the one that was drained.
    ///
    /// # Errors
    ///
    /// What the journal says.
    pub(crate) async fn remind_of_drain(&self, node: NodeId, again: bool) -> Result<()> {
        let drain = self.state.lock().drains.get(&node).copied();
        match drain.and_then(|drain| drain.deadline_ms) {
            Some(deadline_ms) if again => {
                self.tell(node, &Order::DrainNode { node, within_ms: deadline_ms.saturating_sub(now_ms()) })?;
            }
            Some(_) => {
                self.undrain(node).await?;
            }
            None if again => {
                self.tell(node, &Order::UndrainNode { node })?;
            }
            None => {}
        }
        Ok(())
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

/// The orders that were written down.
pub(super) fn read(journal: &Journal) -> Result<BTreeMap<NodeId, Drain>> {
    let stored = stored::scan::<Drain>(journal, Table::Drains, "")?;
    Ok(stored.into_iter().filter_map(|(id, drain)| Some((id.parse().ok()?, drain))).collect())
}

fn unknown(id: NodeId) -> Error {
    Error::new(Code::NOT_FOUND, format!("there is no node {id}")).hint("`rwasm list nodes` shows what there is")
}
