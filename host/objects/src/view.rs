//! What is shown of a store: its objects, and what each tenant uses of it.

use std::collections::BTreeMap;

use rwasm_types::{ObjectId, Tenant, api::Tally};
use serde::{Deserialize, Serialize};

use crate::sum::Checksum;

/// Where an object is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ObjectState {
    /// It is being written; it has no name yet.
    Creating,
    /// It is sealed and in memory, and nobody reads it.
    Sealed,
    /// It is sealed and in memory, and held there by readers; also if it was deleted meanwhile.
    Pinned,
    /// It is sealed, and on disk alone.
    Spilled,
}

/// One object of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its id.
    pub id: ObjectId,
    /// Whose it is.
    pub tenant: Tenant,
    /// Its size in bytes.
    pub size: u64,
    /// Where it is in its life.
    pub state: ObjectState,
    /// The hash of its type's descriptor.
    pub type_hash: [u8; 32],
    /// The objects that its value refers to.
    pub refs: Box<[ObjectId]>,
    /// Its checksum, if somebody asked for it already.
    pub checksum: Option<Checksum>,
}

/// What one tenant uses of a store, by state: bytes are whole pages of memory, or what objects take on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantUsage {
    /// Being written.
    pub creating: Tally,
    /// Sealed, in memory, unread.
    pub sealed: Tally,
    /// Sealed, in memory, held by readers.
    pub pinned: Tally,
    /// On disk alone.
    pub spilled: Tally,
    /// Bytes of memory that its segments hold, free ones that are kept warm included.
    pub held_bytes: u64,
}

impl TenantUsage {
    pub(crate) fn tally(&mut self, state: ObjectState) -> &mut Tally {
        match state {
            ObjectState::Creating => &mut self.creating,
            ObjectState::Sealed => &mut self.sealed,
            ObjectState::Pinned => &mut self.pinned,
            ObjectState::Spilled => &mut self.spilled,
        }
    }

    /// Bytes of memory that its objects take.
    pub fn memory_bytes(&self) -> u64 {
        self.creating.bytes + self.sealed.bytes + self.pinned.bytes
    }
}

/// What a store has, and who uses it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Bytes of memory that it may use.
    pub capacity_bytes: u64,
    /// Bytes of memory that it holds, free ones that are kept warm included.
    pub held_bytes: u64,
    /// Bytes of memory that objects take.
    pub used_bytes: u64,
    /// Bytes of memory that readers hold.
    pub pinned_bytes: u64,
    /// Segments, each a descriptor and a mapping.
    pub segments: u64,
    /// Bytes that objects take on disk, those that are also in memory and those that were deleted a moment ago included.
    pub disk_bytes: u64,
    /// Bytes of disk that it may use.
    pub disk_most_bytes: u64,
    /// How many wait for room.
    pub waiting: u64,
    /// By tenant; who has nothing is left out.
    pub tenants: BTreeMap<Tenant, TenantUsage>,
}
