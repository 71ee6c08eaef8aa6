//! Objects on their way here from other nodes.
//!
//! ```text
//! asked ─▶ told what it is and from where ─▶ room ─▶ chunks, each checked ─▶ checksum of all ─▶ sealed
//!   ▲                                                   │ the connection broke, or the sender is gone
//!   └──────────────── goes on with what is missing ◀────┘
//! ```

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rwasm_objects::{
    Checksum, Receiver,
    refs::{Meta, lost, not_found, row_bytes},
};
use rwasm_runtime::{aside, fault};
use rwasm_types::{Code, Error, NodeId, ObjectId, Result, Tenant};
use rwasm_wire::{Inbound, PeerClient, convert, msg};
use tokio::sync::watch;

use super::{
    Incoming, Value,
    beside::Taken,
    put,
    serve::{Place, pull_chunk},
};
use crate::{members::Standing, node::Shared};

/// How often a pull goes on after it broke without having got anything, and the pause before.
const TRIES: u32 = 5;
const RETRY: Duration = Duration::from_millis(200);
/// How long nothing may come before a pull is tried from elsewhere.
const STALL: Duration = Duration::from_secs(20);

/// Whose task or driver needs an object, and where that node is: it holds the object.
#[derive(Clone, Copy)]
pub(crate) struct Owner<'a> {
    pub(crate) node: NodeId,
    pub(crate) address: &'a str,
}

/// An object on its way here; those who wait for it are told when it moves, and others are sent what of it came.
pub(super) struct Coming {
    tenant: Tenant,
    arrival: Mutex<Arrival>,
    moved: watch::Sender<u64>,
}

#[derive(Default)]
struct Arrival {
    meta: Option<Meta>,
    receiver: Option<Receiver>,
    taken: Option<Taken>,
    over: bool,
}

impl Coming {
    pub(super) fn new(tenant: &Tenant) -> Self {
        Self { tenant: tenant.clone(), arrival: Mutex::default(), moved: watch::Sender::new(0) }
    }

    pub(super) fn tenant(&self) -> &Tenant {
        &self.tenant
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.moved.subscribe()
    }

    /// Whether nothing more comes, because all is here or because it is not coming.
    pub(super) fn is_over(&self) -> bool {
        self.arrival.lock().over
    }

    pub(super) fn end(&self) {
        self.arrival.lock().over = true;
        self.has_moved();
    }

    /// Waits until nothing more comes.
    pub(super) async fn ended(&self) {
        // The sender is ours, so this ends well.
        let _ = self.subscribe().wait_for(|_version| self.is_over()).await;
    }

    /// What it is; waits until that is known. Nothing if it does not come.
    pub(super) async fn meta(&self) -> Option<Meta> {
        let _ = self.subscribe().wait_for(|_version| self.is_over() || self.arrival.lock().meta.is_some()).await;
        self.arrival.lock().meta.clone()
    }

    /// A chunk of it, if that came.
    pub(super) fn chunk(&self, index: u64) -> Option<msg::PullChunk> {
        let arrival = self.arrival.lock();
        let chunk = arrival.receiver.as_ref()?.chunk(index)?;
        Some(pull_chunk(index, chunk.bytes, chunk.checksum))
    }

    /// Takes a chunk.
    fn take(&self, chunk: &msg::PullChunk) -> Result<()> {
        let checksum = Checksum(read_checksum(&chunk.checksum)?);
        if let Some(receiver) = &mut self.arrival.lock().receiver {
            receiver.take(chunk.index, &chunk.data, checksum)?;
        }
        self.has_moved();
        Ok(())
    }

    fn next_missing(&self) -> Option<u64> {
        self.arrival.lock().receiver.as_ref().map_or(Some(0), |receiver| receiver.next_missing(0))
    }

    fn has_moved(&self) {
        self.moved.send_modify(|version| *version += 1);
    }
}

fn read_checksum(bytes: &[u8]) -> Result<[u8; 32]> {
    bytes.try_into().map_err(|_| convert::malformed("a checksum has not 32 bytes"))
}

/// A stream of an object's parts, and the connection that it needs.
struct Parts {
    parts: Inbound<msg::PullPart>,
    _client: Box<PeerClient>,
}

impl Parts {
    async fn next(&mut self) -> Result<Option<msg::pull_part::Part>> {
        let next = tokio::time::timeout(STALL, self.parts.next()).await;
        let stalled = |_elapsed| Error::new(Code::CONNECTION_LOST, "nothing more came");
        next.map_err(stalled)??.map(|part| convert::required(part.part, "a part of an object")).transpose()
    }

    async fn head(&mut self, tenant: &Tenant) -> Result<Meta> {
        let Some(msg::pull_part::Part::Head(head)) = self.next().await? else {
            return Err(convert::malformed("an object does not begin with its head"));
        };
        let refs = head.refs.iter().map(|id| convert::object(id)).collect::<Result<Vec<_>>>()?;
        let (descriptor, inline) = (head.descriptor.to_vec().into(), head.inline.map(|inline| inline.to_vec().into()));
        Ok(Meta { tenant: tenant.clone(), descriptor, size: head.size, refs: refs.into(), inline })
    }
}

/// What keeps a node's place in the chain of those that pull.
enum Held {
    /// Our own word of where to pull from.
    Here(#[expect(dead_code, reason = "held, and dropped at the end")] Place),
    /// That of another node, for as long as its stream is open.
    There(#[expect(dead_code, reason = "held, and dropped at the end")] Parts),
    /// It comes from whoever was asked.
    Same,
}

/// What a pull begins with.
enum Begun {
    /// The value was told with what it is.
    Inline(Meta),
    Chunks {
        meta: Meta,
        from: NodeId,
        parts: Parts,
        held: Held,
    },
}

/// One pull.
struct Pull<'a> {
    shared: &'a Arc<Shared>,
    tenant: &'a Tenant,
    id: ObjectId,
    owner: Owner<'a>,
    coming: &'a Coming,
    /// Nodes that it did not come from.
    avoid: Vec<NodeId>,
    /// Where it is pulled from now.
    source: Option<NodeId>,
}

impl Shared {
    /// Pulls an object, from wherever it is to be had. Where a connection breaks, it goes on from there.
    ///
    /// # Errors
    ///
    /// What those say who should have it, or why nobody can be reached.
    pub(super) async fn pull(
        self: &Arc<Self>,
        tenant: &Tenant,
        owner: Owner<'_>,
        id: ObjectId,
        coming: &Coming,
    ) -> Result<(Value, Option<Taken>)> {
        let _turn = self.objects.fetched.turn().await?;
        let mut pull = Pull { shared: self, tenant, id, owner, coming, avoid: Vec::new(), source: None };
        let (mut tries, mut missing) = (TRIES, None);
        loop {
            let error = match pull.go_on().await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            if tries == 0 || !pull.may_pass(&error) {
                return Err(error);
            }
            tracing::debug!(%tenant, object = %id, from = pull.source.map(tracing::field::display), %error, "a pull broke; it goes on");
            match pull.source.take() {
                Some(source) if !pull.avoid.contains(&source) => pull.avoid.push(source),
                // All were tried, and may be there again.
                _ => pull.avoid.clear(),
            }
            let still = coming.next_missing();
            if missing.replace(still) == Some(still) {
                tries -= 1;
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

impl Pull<'_> {
    /// Whether it may come from elsewhere, or at another time.
    fn may_pass(&self, error: &Error) -> bool {
        let passing = [Code::CONNECTION_LOST, Code::UNREACHABLE, Code::DEADLINE, Code::NODE_LOST, Code::OBJECT_DAMAGED];
        passing.contains(&error.code()) || (self.source.is_some() && error.code() == Code::NO_SUCH_OBJECT)
    }

    async fn go_on(&mut self) -> Result<(Value, Option<Taken>)> {
        let objects = &self.shared.objects;
        let (meta, from, mut parts, _held) = match self.begin().await? {
            Begun::Inline(meta) => {
                let value = meta.inline.clone().unwrap_or_default();
                let mut incoming = Incoming::begin(objects, self.tenant, self.id, (meta.descriptor, meta.refs.to_vec()), meta.size).await?;
                incoming.write(&value)?;
                let (value, taken) = incoming.checked(objects).await?;
                return Ok((value, Some(taken)));
            }
            Begun::Chunks { meta, from, parts, held } => (meta, from, parts, held),
        };
        self.make_room(&meta).await?;
        let checksum = self.receive(&mut parts).await?;
        let (receiver, taken) = {
            let mut arrival = self.coming.arrival.lock();
            (arrival.receiver.take(), arrival.taken.take())
        };
        let receiver = receiver.ok_or_else(|| not_found(self.id))?;
        let value = put::seal_received(objects, receiver, checksum, meta).await?;
        tracing::debug!(tenant = %self.tenant, object = %self.id, %from, bytes = value.meta.size, "pulled an object");
        Ok((value, taken))
    }

    /// Asks where the object is, and opens a stream of its chunks.
    async fn begin(&mut self) -> Result<Begun> {
        let ours = self.id.task.owner == self.shared.id || self.shared.objects.decides(self.tenant, self.id);
        let (meta, source, held, mut asked) = if ours {
            let (meta, place) = self.shared.objects.place(self.tenant, self.id, self.shared.id, &self.avoid)?;
            let Some(place) = place else { return Ok(Begun::Inline(meta)) };
            (meta, place.source, Held::Here(place), None)
        } else {
            let (node, mut asked) = self.ask().await?;
            let meta = asked.head(self.tenant).await?;
            if meta.inline.is_some() {
                return Ok(Begun::Inline(meta));
            }
            let Some(msg::pull_part::Part::Source(source)) = asked.next().await? else {
                return Err(convert::malformed("it is not said where an object is"));
            };
            (meta, convert::node(source)?, Held::Same, Some((node, asked)))
        };
        self.source = Some(source);
        if let Some((_, parts)) = asked.take_if(|(node, _)| *node == source) {
            return Ok(Begun::Chunks { meta, from: source, parts, held });
        }
        let address = self.shared.members.there(source).map(|member| member.address).unwrap_or_default();
        let mut parts = self.open(source, &address, false).await?;
        if parts.head(self.tenant).await? != meta {
            return Err(convert::malformed("an object is another where it is pulled from"));
        }
        let held = asked.map_or(held, |(_, asked)| Held::There(asked));
        Ok(Begun::Chunks { meta, from: source, parts, held })
    }

    /// Asks the node of the object's id, or whoever holds it where that does not know it any more.
    async fn ask(&self) -> Result<(NodeId, Parts)> {
        let (owner, holder) = (self.id.task.owner, self.owner.node);
        let asked = match self.shared.members.standing(owner, Instant::now()) {
            Standing::There(member) => self.open(owner, &member.address, true).await,
            Standing::Awaited => Err(Error::new(Code::UNREACHABLE, format!("it is not known yet where node {owner} is"))),
            Standing::Lost => Err(lost(self.id, format_args!("its owner, node {owner}, is gone"))),
        };
        match asked {
            Err(_) if holder != owner && holder != self.shared.id => {
                self.open(holder, self.owner.address, true).await.map(|parts| (holder, parts))
            }
            asked => asked.map(|parts| (owner, parts)),
        }
    }

    async fn open(&self, node: NodeId, address: &str, anywhere: bool) -> Result<Parts> {
        let mut client = self.shared.peer(node, address).await?;
        let request = msg::PullRequest {
            object: convert::object_bytes(self.id),
            tenant: self.tenant.to_string(),
            chunk: self.coming.next_missing().unwrap_or_default(),
            node: self.shared.id.get(),
            anywhere,
            avoid: self.avoid.iter().map(|node| node.get()).collect(),
        };
        let parts = client.pull(request).await?;
        Ok(Parts { parts, _client: Box::new(client) })
    }

    /// Has room for the object, which others may have to leave first.
    async fn make_room(&self, meta: &Meta) -> Result<()> {
        {
            let mut arrival = self.coming.arrival.lock();
            match &arrival.meta {
                None => arrival.meta = Some(meta.clone()),
                Some(known) if known == meta => {}
                Some(_) => return Err(convert::malformed("an object is another than it was")),
            }
            if arrival.receiver.is_some() {
                return Ok(());
            }
        }
        self.coming.has_moved();
        let objects = &self.shared.objects;
        let taken = objects.take_beside(row_bytes(&meta.descriptor, &meta.refs), u64::MAX)?;
        let receiver = Receiver::new(put::room(objects, self.tenant, self.id, meta.size).await?);
        let mut arrival = self.coming.arrival.lock();
        (arrival.receiver, arrival.taken) = (Some(receiver), Some(taken));
        Ok(())
    }

    /// Takes chunks until all are there; gives the checksum of the whole.
    async fn receive(&self, parts: &mut Parts) -> Result<Checksum> {
        let received = &self.shared.objects.serving.received_bytes;
        loop {
            match parts.next().await? {
                Some(msg::pull_part::Part::Chunk(chunk)) => {
                    aside(async { self.coming.take(&chunk) }).await?;
                    received.fetch_add(chunk.data.len() as u64, Relaxed);
                    fault::point("object-chunk-received");
                }
                Some(msg::pull_part::Part::Checksum(checksum)) if self.coming.next_missing().is_none() => {
                    return read_checksum(&checksum).map(Checksum);
                }
                Some(msg::pull_part::Part::Checksum(_)) | None => {
                    return Err(Error::new(Code::CONNECTION_LOST, format!("not all of object {} came", self.id)));
                }
                Some(msg::pull_part::Part::Head(_) | msg::pull_part::Part::Source(_)) => {
                    return Err(convert::malformed("an object's head comes twice"));
                }
            }
        }
    }
}
