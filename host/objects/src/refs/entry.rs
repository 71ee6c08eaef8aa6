//! What a directory knows of one object.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use rwasm_types::{Attempt, Error, JobId, NodeId, ObjectId, TaskId, Tenant, api::UnixMs};

/// What an object is. It never changes: objects are sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Whose it is.
    pub tenant: Tenant,
    /// The descriptor of its type, whose BLAKE3 digest is the type's hash.
    pub descriptor: Bytes,
    /// Bytes of its stored form.
    pub size: u64,
    /// Objects that its value names; they are held as long as it is there.
    pub refs: Arc<[ObjectId]>,
    /// The stored form, where it is small: then there are no copies, and it is wherever this is.
    pub inline: Option<Bytes>,
}

/// About what the row of an object takes besides its value, in bytes, with its share of the indices and what the store knows of it.
const ROW_BYTES: u64 = 512;
/// About what one ref of it does: twice the ref, and the hold that goes with it in both directions.
const REF_BYTES: u64 = 128;

/// About what a row takes of this process's memory, in bytes, without a value that lies in it.
pub fn row_bytes(descriptor: &[u8], refs: &[ObjectId]) -> u64 {
    ROW_BYTES + descriptor.len() as u64 + REF_BYTES * refs.len() as u64
}

impl Meta {
    /// About what it takes as a row, in bytes, the value included where that is inline.
    pub(crate) fn bytes(&self) -> u64 {
        row_bytes(&self.descriptor, &self.refs) + self.inline.as_ref().map_or(0, |value| value.len() as u64)
    }
}

/// Who holds an object. An object that nobody holds is let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Holder {
    /// A job, until it ends.
    Job(JobId),
    /// A driver's session, until it ends.
    Driver(u64),
    /// A task that takes it as an argument, until the task has ended.
    Task(TaskId),
    /// An attempt of a task that runs here and has it in hand, and what it returned until the task's owner holds that.
    Attempt(TaskId, Attempt),
    /// A task whose result it is, until somebody has taken that.
    Result(TaskId),
    /// An object that names it.
    Object(ObjectId),
    /// Another node, whose own directory has holders of it, as long as that node is there.
    Node(NodeId),
    /// Its tenant, until a time.
    Kept,
    /// Nobody yet: an owner that began anew waits for those who come back.
    Recovery,
}

/// Where an object is in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It is not there yet: a result of a task that has not ended, or its owner has not answered.
    Pending,
    /// It is sealed.
    Ready(Meta),
    /// It is gone, or never came to be; whoever holds it hears why.
    Lost(Error),
}

/// One object.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) tenant: Tenant,
    pub(crate) state: State,
    pub(crate) holders: BTreeSet<Holder>,
    /// Nodes that have a copy, this one included.
    pub(crate) copies: BTreeSet<NodeId>,
    /// Of an object of another owner: who that is, and the number of our asking for it. Without, we are its owner, or have taken its place.
    pub(crate) lender: Option<Lender>,
    /// Until when its tenant holds it.
    pub(crate) kept_until: Option<UnixMs>,
    /// Nodes that borrow it, with the number of their last asking: they are told when it is ready, and when it is lost.
    pub(crate) borrowers: BTreeMap<NodeId, u64>,
    /// Whether it was named by somebody who held it before this life, and nobody has said yet what it is.
    pub(crate) remembered: bool,
}

/// The owner of an object that is borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lender {
    pub(crate) node: NodeId,
    pub(crate) number: u64,
}

impl Entry {
    pub(crate) fn new(tenant: Tenant, state: State) -> Self {
        Self {
            tenant,
            state,
            holders: BTreeSet::new(),
            copies: BTreeSet::new(),
            lender: None,
            kept_until: None,
            borrowers: BTreeMap::new(),
            remembered: false,
        }
    }

    pub(crate) fn row(&self, id: ObjectId) -> Row<'_> {
        Row {
            id,
            tenant: &self.tenant,
            state: &self.state,
            holders: &self.holders,
            copies: &self.copies,
            kept_until: self.kept_until,
            borrowed: self.lender.is_some(),
        }
    }

    pub(crate) fn meta(&self) -> Option<&Meta> {
        match &self.state {
            State::Ready(meta) => Some(meta),
            State::Pending | State::Lost(_) => None,
        }
    }

    /// Whether its bytes can be had from here or from copies that are known here.
    pub(crate) fn is_at_hand(&self) -> bool {
        self.meta().is_some_and(|meta| meta.inline.is_some() || !self.copies.is_empty())
    }
}

/// A row of a list of objects.
#[derive(Clone, Debug)]
pub struct Row<'a> {
    /// Which object.
    pub id: ObjectId,
    /// Whose.
    pub tenant: &'a Tenant,
    /// Where it is in its life.
    pub state: &'a State,
    /// Who holds it.
    pub holders: &'a BTreeSet<Holder>,
    /// Nodes that have a copy.
    pub copies: &'a BTreeSet<NodeId>,
    /// Until when its tenant holds it.
    pub kept_until: Option<UnixMs>,
    /// Whether another node is its owner.
    pub borrowed: bool,
}
