//! The memory that all guests of an engine share: what attempts reserved is theirs, and what they take beyond that has to be free.
//!
//! ```text
//! capacity   ├── reserved by A ──┤── reserved by B ──┤── taken by A beyond ──┤······ free ······┤
//! ```
//!
//! Limits are larger than reservations where a submit does not say how much it needs. Without this, guests that are each within their limit
//! could together take more than the node gives, and the kernel would end the node.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// Bytes that guests take, and how many there are.
#[derive(Debug)]
pub(crate) struct GuestMemory {
    capacity: u64,
    taken: AtomicU64,
}

impl GuestMemory {
    pub(crate) fn new(capacity: u64) -> Self {
        Self { capacity, taken: AtomicU64::new(0) }
    }

    pub(crate) fn capacity(&self) -> u64 {
        self.capacity
    }

    /// An attempt's share, with what was reserved for it: whoever admitted the attempt has seen that it is there.
    pub(crate) fn share(self: &Arc<Self>, reserved: u64) -> Share {
        self.taken.fetch_add(reserved, Relaxed);
        Share { of: Arc::clone(self), bytes: AtomicU64::new(reserved) }
    }
}

/// What one attempt takes; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    of: Arc<GuestMemory>,
    /// Changed by the attempt alone.
    bytes: AtomicU64,
}

impl Share {
    /// Whether the attempt may have so many bytes in all; takes what is missing.
    pub(crate) fn grow_to(&self, bytes: u64) -> bool {
        let missing = bytes.saturating_sub(self.bytes.load(Relaxed));
        if missing == 0 {
            return true;
        }
        let fits = |taken: u64| taken.checked_add(missing).filter(|taken| *taken <= self.of.capacity);
        if self.of.taken.fetch_update(Relaxed, Relaxed, fits).is_err() {
            return false;
        }
        self.bytes.store(bytes, Relaxed);
        true
    }

    pub(crate) fn capacity(&self) -> u64 {
        self.of.capacity()
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.of.taken.fetch_sub(*self.bytes.get_mut(), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beyond_a_reservation_has_to_be_free() {
        let memory = Arc::new(GuestMemory::new(100));
        let one = memory.share(30);
        assert!(one.grow_to(30) && one.grow_to(60));
        let other = memory.share(10);
        assert!(!other.grow_to(41), "60 and 41 are more than there is");
        assert!(other.grow_to(40));
        assert!(!one.grow_to(61) && one.grow_to(5), "what it has it may use");
        drop(one);
        assert!(other.grow_to(100));
        drop(other);
        assert_eq!(memory.taken.load(Relaxed), 0);
    }

    #[test]
    fn a_reservation_is_there_whatever_others_took_beyond_theirs() {
        let memory = Arc::new(GuestMemory::new(100));
        let greedy = memory.share(0);
        assert!(greedy.grow_to(100));
        let reserved = memory.share(50);
        assert!(reserved.grow_to(50) && !reserved.grow_to(51) && !greedy.grow_to(101));
        drop(greedy);
        assert!(reserved.grow_to(51));
    }
}
