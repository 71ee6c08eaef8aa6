//! The core's limits and times, in one place.

/// Demands that one owner may have waiting; further ones are refused.
pub const DEMANDS_PER_OWNER_MAX: usize = 16_384;
/// Demands and groups that may wait in all.
pub const WAITING_MAX: usize = 1_000_000;
/// Slots of one demand.
pub const SLOTS_MAX: u32 = 65_536;
/// Slots of one lease: a lease is given back as a whole, so it had better not be too large.
pub const LEASE_SLOTS_MAX: u32 = 16;
/// Different needs that may wait at the same time.
pub const CLASSES_MAX: usize = 4_096;
/// Nodes that a demand may name as having its data or its artifact.
pub const NEAR_MAX: usize = 16;
/// Bundles of one placement group.
pub const BUNDLES_MAX: usize = 1_024;
/// Placement groups of one tenant.
pub const GROUPS_PER_TENANT_MAX: usize = 1_000;

/// A lease that its owner did not name in a report for so long is over.
pub const LEASE_MS: u64 = 10_000;
/// A lease that was taken back is over after so long, even if its owner does not confirm it.
pub const REVOKED_MS: u64 = 2_000;
/// A node that was lost, or is not back after a restart of the head, is expected for so long: leases on one that is not back wait for it, and
/// nothing is refused that it could meet.
pub const ABSENT_MS: u64 = 10_000;
/// An owner gets no leases for so long on a node that it could not reach.
pub const UNREACHABLE_MS: u64 = 5_000;
/// A demand that has waited for so long may have room made for it among equals, where that evens out shares.
pub const FAIR_AFTER_MS: u64 = 1_000;
/// A demand that has waited for so long may have room made for it by whoever holds no less than its tenant.
pub const STARVING_AFTER_MS: u64 = 5_000;
/// How soon after it failed a gang or a group is tried again when something became free.
pub(crate) const GANG_AGAIN_MS: u64 = 20;

/// Nodes are filled up to this part of [`crate::tree::Offer::FULL`] before the next one is used.
pub(crate) const PACK_BELOW: u32 = crate::tree::Offer::FULL / 2;
/// So many fitting nodes are compared when packing.
pub(crate) const PACK_LOOK_AT: usize = 3;
/// Needs that are remembered though nothing of them waits.
pub(crate) const CLASSES_KEPT: usize = 256;
/// Nodes that a class remembers as large enough for it.
pub(crate) const HOMES_MAX: usize = 1_024;
/// Nodes that are looked at to make room for one demand at a time.
pub(crate) const ROOM_LOOK_AT: usize = 64;
/// Nodes that may be held for one demand at a time.
pub(crate) const HOLDS_MAX: usize = 256;
/// Demands for which room is made at one tick.
pub(crate) const ROOM_PER_TICK: usize = 64;
/// Demands set aside for their owner's sake that are looked at again when a node has room.
pub(crate) const ASIDE_PER_GAIN: usize = 64;
