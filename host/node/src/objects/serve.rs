//! Objects on their way to other nodes, and from which node each is pulled.
//!
//! ```text
//! n2 ─ where from? ─▶ owner n1: from me          n1 ──chunks──▶ n2 ──chunks──▶ n3
//! n3 ─ where from? ─▶ owner n1: from n2               (n2 passes on what it has, while it gets the rest)
//! ```
//!
//! Whoever is asked names, of all nodes that have the object or are getting it, the one that serves the fewest. So an object that many want
//! at once goes along a chain, and leaves its owner once. Whoever pulls keeps its question open meanwhile: that is its place in the chain.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use parking_lot::Mutex;
use rwasm_objects::{
    CHUNK_BYTES, Checksum,
    refs::{Meta, State, not_found},
};
use rwasm_runtime::{OnEnd, aside, fault};
use rwasm_types::{
    Code, Error, NodeId, ObjectId, Result, Tenant,
    metrics::{Family, Kind},
};
use rwasm_wire::{Caller, Outbound, Sender, convert, msg};
use tokio::sync::Semaphore;

use super::{Coming, Objects, Stored, Value};
use crate::node::Shared;

/// Objects that are sent at once; the others wait.
const SENDS_MAX: usize = 32;
/// Chunks of one object that may wait for the network.
const CHUNKS: usize = 2;

/// What this node sends to others, and whom it has told where to pull.
pub(super) struct Serving {
    pulls: Mutex<HashMap<ObjectId, Vec<Pull>>>,
    sends: Semaphore,
    last: AtomicU64,
    pub(super) sent_bytes: AtomicU64,
    pub(super) received_bytes: AtomicU64,
}

/// A node that pulls an object from another.
#[derive(Clone, Copy, Debug)]
struct Pull {
    number: u64,
    node: NodeId,
    source: NodeId,
}

impl Default for Serving {
    fn default() -> Self {
        let (sent_bytes, received_bytes) = Default::default();
        Self { pulls: Mutex::default(), sends: Semaphore::new(SENDS_MAX), last: AtomicU64::new(0), sent_bytes, received_bytes }
    }
}

/// Where an object is pulled from, for as long as that takes.
pub(super) struct Place {
    objects: Arc<Objects>,
    id: ObjectId,
    number: u64,
    pub(super) source: NodeId,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut pulls = self.objects.serving.pulls.lock();
        if let Some(of_object) = pulls.get_mut(&self.id) {
            of_object.retain(|pull| pull.number != self.number);
            if of_object.is_empty() {
                pulls.remove(&self.id);
            }
        }
    }
}

/// Who pulls, and what is known of the nodes that it could pull from.
struct Wish<'a> {
    node: NodeId,
    /// Nodes that have all of it.
    have: &'a [NodeId],
    pulls: &'a [Pull],
    avoid: &'a [NodeId],
    /// Whoever is asked, who would rather not send it again and again.
    asked: NodeId,
}

impl Wish<'_> {
    /// The node that serves the fewest, of those that have all of an object and those that are getting it; those that have it first, and of
    /// them others than the node that is asked. Where that leaves several, they take turns.
    fn choose(&self, turn: u64) -> Option<NodeId> {
        let getting = self.pulls.iter().map(|pull| pull.node).filter(|getting| !self.have.contains(getting));
        let getting = getting.filter(|getting| !self.waits_for_asker(*getting)).map(|candidate| (candidate, true));
        let fit = |(candidate, _): &(NodeId, bool)| *candidate != self.node && !self.avoid.contains(candidate);
        let load = |candidate| self.pulls.iter().filter(|pull| pull.source == candidate).count();
        let candidates = self.have.iter().map(|candidate| (*candidate, false)).chain(getting).filter(fit);
        let ranked: Vec<_> =
            candidates.map(|(candidate, partly)| ((load(candidate), partly, candidate == self.asked), candidate)).collect();
        let best = ranked.iter().map(|(rank, _)| *rank).min()?;
        let best: Vec<NodeId> = ranked.into_iter().filter(|(rank, _)| *rank == best).map(|(_, candidate)| candidate).collect();
        best.get(usize::try_from(turn % best.len() as u64).ok()?).copied()
    }

    /// Whether a node gets the object from the asker, be it through others: then it has nothing that the asker has not.
    fn waits_for_asker(&self, mut at: NodeId) -> bool {
        for _ in 0..=self.pulls.len() {
            match self.pulls.iter().find(|pull| pull.node == at) {
                Some(pull) if pull.source == self.node => return true,
                Some(pull) => at = pull.source,
                None => return false,
            }
        }
        true
    }
}

/// What of an object is here.
pub(super) enum Local {
    All(Value),
    Coming(Arc<Coming>),
}

impl Objects {
    /// Where a node is to pull a tenant's object from, with what the object is. Nowhere, if its value is told with that.
    ///
    /// # Errors
    ///
    /// [`Code::NO_SUCH_OBJECT`], [`Code::OBJECT_LOST`], [`Code::OBJECT_DEADLINE`] if it is not ready, or [`Code::UNREACHABLE`] if there is no
    /// node to name.
    pub(super) fn place(self: &Arc<Self>, tenant: &Tenant, id: ObjectId, node: NodeId, avoid: &[NodeId]) -> Result<(Meta, Option<Place>)> {
        let here = self.local(tenant, id);
        let (meta, mut have) = {
            let directory = self.directory.lock();
            match (directory.look(tenant, id), &here) {
                (Some(State::Ready(meta)), _) => (meta.clone(), directory.copies(id).collect::<Vec<_>>()),
                (Some(State::Lost(error)), _) => return Err(error.clone()),
                (_, Some(Local::All(value))) => (value.meta.clone(), Vec::new()),
                (Some(State::Pending), _) => return Err(Error::new(Code::OBJECT_DEADLINE, format!("object {id} is not ready"))),
                (None, _) => return Err(not_found(id)),
            }
        };
        if meta.inline.is_some() {
            return Ok((meta, None));
        }
        if matches!(here, Some(Local::All(_))) && !have.contains(&self.node) {
            have.push(self.node);
        }
        let mut pulls = self.serving.pulls.lock();
        let of_object = pulls.entry(id).or_default();
        let number = self.serving.last.fetch_add(1, Relaxed);
        let wish = Wish { node, have: &have, pulls: of_object, avoid, asked: self.node };
        let Some(source) = wish.choose(number) else {
            if of_object.is_empty() {
                pulls.remove(&id);
            }
            return Err(Error::new(Code::UNREACHABLE, format!("no node that has object {id} can be reached")).with("object", id));
        };
        of_object.push(Pull { number, node, source });
        Ok((meta, Some(Place { objects: Arc::clone(self), id, number, source })))
    }

    /// What of a tenant's object is here.
    pub(super) fn local(&self, tenant: &Tenant, id: ObjectId) -> Option<Local> {
        match self.look(tenant, id) {
            Ok(Some(value)) => Some(Local::All(value)),
            _ => self.fetched.coming(tenant, id).map(Local::Coming),
        }
    }

    /// One chunk of an object; waits until it is there.
    async fn chunk(&self, tenant: &Tenant, id: ObjectId, local: &mut Local, index: u64) -> Result<msg::PullChunk> {
        loop {
            let coming = match local {
                Local::All(value) => return aside(async { value.chunk(index) }).await.ok_or_else(|| not_found(id)),
                Local::Coming(coming) => coming,
            };
            let mut moved = coming.subscribe();
            if let Some(chunk) = coming.chunk(index) {
                return Ok(chunk);
            }
            if coming.is_over() {
                *local = self.all(tenant, id)?;
            } else {
                // Its end is told as well.
                let _ = moved.changed().await;
            }
        }
    }

    fn all(&self, tenant: &Tenant, id: ObjectId) -> Result<Local> {
        let value = self.look(tenant, id).ok().flatten();
        let broken = || Error::new(Code::CONNECTION_LOST, format!("object {id} did not come to node {}, either", self.node));
        value.map(Local::All).ok_or_else(broken)
    }

    /// Sends the chunks of an object from one on, and then its checksum, as long as somebody reads.
    async fn send_chunks(&self, tenant: &Tenant, id: ObjectId, (mut local, size, from): (Local, u64, u64), sender: &Parts) -> Result<()> {
        let _turn = self.serving.sends.acquire().await.map_err(|_closed| Error::internal("nothing more is sent"))?;
        for index in from..rwasm_objects::chunks(size) {
            let chunk = tokio::select! {
                chunk = self.chunk(tenant, id, &mut local, index) => chunk?,
                () = sender.closed() => return Ok(()),
            };
            let bytes = chunk.data.len() as u64;
            if sender.send(Ok(part(msg::pull_part::Part::Chunk(chunk)))).await.is_err() {
                return Ok(());
            }
            self.serving.sent_bytes.fetch_add(bytes, Relaxed);
            fault::point("object-chunk-sent");
        }
        let value = loop {
            match &local {
                Local::All(value) => break value,
                Local::Coming(coming) => {
                    let mut moved = coming.subscribe();
                    if !coming.is_over() {
                        let _ = moved.changed().await;
                        continue;
                    }
                }
            }
            local = self.all(tenant, id)?;
        };
        let checksum = Bytes::copy_from_slice(&value.checksum().await);
        // Whoever has all of it may be gone.
        let _ = sender.send(Ok(part(msg::pull_part::Part::Checksum(checksum)))).await;
        Ok(())
    }
}

impl Objects {
    /// What is counted and measured of them.
    pub(crate) fn families(&self) -> [Family; 2] {
        let usage = self.store.usage();
        let bytes = [("used", usage.used_bytes), ("pinned", usage.pinned_bytes), ("capacity", usage.capacity_bytes)];
        let Serving { sent_bytes, received_bytes, .. } = &self.serving;
        let moved = [("sent", sent_bytes), ("received", received_bytes)].map(|(way, bytes)| (way, bytes.load(Relaxed) as f64));
        let store = "Shared memory for objects: used, of that held by readers, capacity.";
        let transfers = "Bytes of objects that were sent to other nodes and received from them.";
        [
            Family::labelled(Kind::Gauge, "rwasm_object_store_bytes", store, "state", bytes.map(|(state, bytes)| (state, bytes as f64))),
            Family::labelled(Kind::Counter, "rwasm_object_transfer_bytes_total", transfers, "direction", moved),
        ]
    }
}

impl Value {
    /// One of its chunks, with the checksum that it is checked with where it arrives.
    fn chunk(&self, index: u64) -> Option<msg::PullChunk> {
        match &self.bytes {
            Stored::Pinned(pin) => pin.chunk(index).map(|chunk| pull_chunk(index, chunk.bytes, chunk.checksum)),
            // What is inline is told with what the object is.
            Stored::Inline(_) => None,
        }
    }
}

pub(super) fn pull_chunk(index: u64, bytes: &[u8], checksum: Checksum) -> msg::PullChunk {
    debug_assert!(bytes.len() as u64 <= CHUNK_BYTES);
    msg::PullChunk { index, data: Bytes::copy_from_slice(bytes), checksum: Bytes::copy_from_slice(&checksum.0) }
}

type Parts = Sender<Result<msg::PullPart>>;

fn part(part: msg::pull_part::Part) -> msg::PullPart {
    msg::PullPart { part: Some(part) }
}

fn head(meta: &Meta) -> msg::PullPart {
    part(msg::pull_part::Part::Head(msg::PullHead {
        descriptor: meta.descriptor.clone(),
        size: meta.size,
        refs: meta.refs.iter().map(|id| convert::object_bytes(*id)).collect(),
        inline: meta.inline.clone(),
    }))
}

impl Shared {
    /// Another node pulls an object: it is told from where, or is sent what is here.
    pub(crate) async fn serve_pull(
        self: &Arc<Self>,
        caller: &Caller,
        request: &msg::PullRequest,
    ) -> Result<Outbound<Result<msg::PullPart>>> {
        let node = convert::node(request.node)?;
        self.head.proof().check(caller, Some(node))?;
        let tenant = Tenant::new(&request.tenant).map_err(convert::malformed)?;
        let id = convert::object(&request.object)?;
        let avoid = request.avoid.iter().map(|node| convert::node(*node)).collect::<Result<Vec<_>>>()?;
        let objects = &self.objects;
        // It may be on disk.
        let brought = objects.bring_own(&tenant, id).await?;
        let (meta, place) = if request.anywhere {
            objects.place(&tenant, id, node, &avoid)?
        } else {
            let local = objects.local(&tenant, id).ok_or_else(|| not_found(id))?;
            (local.meta().await.ok_or_else(|| not_found(id))?, None)
        };
        let (sender, outbound) = Outbound::channel(CHUNKS);
        // The channel was made with room for both.
        let _ = sender.try_send(Ok(head(&meta)));
        if let Some(place) = &place {
            let _ = sender.try_send(Ok(part(msg::pull_part::Part::Source(place.source.get()))));
        }
        if meta.inline.is_some() {
            return Ok(outbound);
        }
        let (objects, from) = (Arc::clone(objects), request.chunk);
        self.scope.spawn("object-sender", OnEnd::Continue, async move {
            let _brought = brought;
            if place.as_ref().is_some_and(|place| place.source != objects.node) {
                // It holds its place until it has all.
                return sender.closed().await;
            }
            let sent = match objects.local(&tenant, id) {
                Some(local) => objects.send_chunks(&tenant, id, (local, meta.size, from), &sender).await,
                None => Err(not_found(id)),
            };
            if let Err(error) = sent {
                tracing::debug!(%tenant, object = %id, to = %node, %error, "an object was not sent");
                let _ = sender.send(Err(error)).await;
            }
        });
        Ok(outbound)
    }
}

impl Local {
    async fn meta(&self) -> Option<Meta> {
        match self {
            // What is small and lies beside the store is told as a whole.
            Self::All(Value { meta, bytes: Stored::Inline(bytes) }) => Some(Meta { inline: Some(bytes.clone()), ..meta.clone() }),
            Self::All(value) => Some(value.meta.clone()),
            Self::Coming(coming) => coming.meta().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u32) -> NodeId {
        NodeId::new(number).unwrap()
    }

    fn choose(have: &[NodeId], pulls: &[Pull], asker: u32, avoid: &[NodeId]) -> Option<NodeId> {
        Wish { node: node(asker), have, pulls, avoid, asked: node(1) }.choose(0)
    }

    #[test]
    fn an_object_that_many_pull_goes_along_a_chain() {
        let mut pulls = Vec::new();
        for number in 2..=5 {
            let source = choose(&[node(1)], &pulls, number, &[]).unwrap();
            assert_eq!(source, node(number - 1));
            pulls.push(Pull { number: 0, node: node(number), source });
        }
        // The third breaks off, and comes back: nobody that waits for it is named to it.
        pulls.retain(|pull| pull.node != node(3));
        assert_eq!(choose(&[node(1)], &pulls, 3, &[node(2)]), Some(node(1)));
        // The fourth, which pulled from the third, goes where nobody waits for it.
        pulls.retain(|pull| pull.node != node(4));
        assert_eq!(choose(&[node(1)], &pulls, 4, &[node(3)]), Some(node(2)));
        assert_eq!(choose(&[node(1)], &pulls, 4, &[node(1), node(2), node(3)]), None, "the fifth has nothing that the fourth has not");
    }

    #[test]
    fn nodes_that_have_all_of_it_share_the_work() {
        let pulls = [Pull { number: 0, node: node(4), source: node(1) }];
        assert_eq!(choose(&[node(1), node(2)], &pulls, 3, &[]), Some(node(2)));
        assert_eq!(choose(&[node(1)], &[], 1, &[]), None, "nobody pulls from itself");
        let round = [Pull { number: 0, node: node(2), source: node(3) }, Pull { number: 1, node: node(3), source: node(2) }];
        assert_eq!(choose(&[], &round, 4, &[]), None, "a ring has nothing");
        let have = [node(1), node(2), node(3)];
        let wish = Wish { node: node(5), have: &have, pulls: &[], avoid: &[], asked: node(1) };
        assert_eq!([0, 1, 2].map(|turn| wish.choose(turn)), [node(2), node(3), node(2)].map(Some));
    }
}
