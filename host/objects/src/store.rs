//! The store of a node: what others call.

use std::{fmt, sync::Arc, task::Waker, time::Duration};

use parking_lot::{Condvar, Mutex};
use rwasm_types::{Code, Error, ObjectId, Result, Tenant};

use crate::{
    arena::{Arena, Room, Sizes},
    error,
    pin::{Pin, Sealed},
    raw::{self, PAGE},
    relieve::Signal,
    spill::{Disk, Spill},
    state::{self, After, Most, State},
    view::{ObjectInfo, Usage},
    writer::Writer,
};

/// How a store is set up.
#[derive(Clone, Debug)]
pub struct Config {
    /// Bytes of memory that it may use. Nothing fits into 0.
    pub capacity_bytes: u64,
    /// The most bytes of a segment, but for those of an object that is larger. At most and by default [`Config::SEGMENT_BYTES_MAX`].
    pub segment_bytes: u64,
    /// Bytes of memory that nothing uses and that are kept warm all the same. A quarter of the capacity by default.
    pub idle_bytes: u64,
    /// Bytes of memory that one tenant may use; all by default.
    pub tenant_bytes: u64,
    /// Where objects go when memory runs short; they stay by default.
    pub spill: Option<Spill>,
}

impl Config {
    /// The largest segment: what is dropped as a whole, and what is kept alive as a whole by one object.
    pub const SEGMENT_BYTES_MAX: u64 = 256 << 20;

    /// The defaults of a store of that many bytes.
    pub fn new(capacity_bytes: u64) -> Self {
        Self { capacity_bytes, segment_bytes: Self::SEGMENT_BYTES_MAX, idle_bytes: capacity_bytes / 4, tenant_bytes: u64::MAX, spill: None }
    }
}

/// All objects of one node. Clones are the same store.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

/// What writers and pins hold of the store.
pub(crate) struct Shared {
    state: Mutex<State>,
    /// Somebody got what they waited for.
    settled: Condvar,
    signal: Signal,
}

impl Shared {
    /// Works on the state, does what is left to do when the lock is let go of, and tells the keeper if it is needed.
    pub(crate) fn with<R>(&self, work: impl FnOnce(&mut State, &mut After) -> R) -> R {
        let (result, relief) = self.with_untold(work);
        if relief {
            self.signal.raise();
        }
        result
    }

    /// The same, but whether the keeper is needed is only returned. This is the keeper's own way to look for work: it would else wake itself
    /// for as long as somebody waits and nothing helps.
    pub(crate) fn with_untold<R>(&self, work: impl FnOnce(&mut State, &mut After) -> R) -> (R, bool) {
        let mut after = After::default();
        let mut state = self.state.lock();
        let result = work(&mut state, &mut after);
        if state.freed {
            state.serve(&mut after);
        }
        let relief = state.wants_relief();
        drop(state);
        if after.settled {
            self.settled.notify_all();
        }
        after.wakes.into_iter().for_each(Waker::wake);
        (result, relief)
    }

    /// Waits as a thread until the state has something, at most for a time.
    pub(crate) fn wait<R>(&self, timeout: Duration, mut work: impl FnMut(&mut State) -> Option<R>) -> Option<R> {
        let mut state = self.state.lock();
        let mut result = work(&mut state);
        if result.is_none() {
            let missing = |state: &mut State| {
                result = work(state);
                result.is_none()
            };
            let _ = self.settled.wait_while_for(&mut state, missing, timeout);
        }
        result
    }

    pub(crate) fn signal(&self) -> &Signal {
        &self.signal
    }

    pub(crate) fn seal(shared: &Arc<Self>, key: u64, id: ObjectId, sealed: Sealed) -> Result<Pin> {
        let sealed = shared.with(|state, after| {
            state.seal(key, id, sealed).map_err(|sealed| {
                state.abandon(key, sealed.room, after);
                error::exists(id)
            })
        });
        sealed.map(|sealed| Pin::new(Arc::clone(shared), key, id, sealed))
    }

    pub(crate) fn abandon(&self, key: u64, room: Room) {
        self.with(|state, after| state.abandon(key, room, after));
    }

    pub(crate) fn unpin(&self, key: u64) {
        self.with(|state, after| state.unpin(key, after));
    }
}

impl Store {
    /// A store without objects. It takes memory as objects come.
    ///
    /// # Errors
    ///
    /// [`Code::NO_CAPACITY`] on a machine whose pages are larger than 4 KiB.
    pub fn open(config: Config) -> Result<Self> {
        if !raw::page_size_fits() {
            return Err(Error::new(Code::NO_CAPACITY, format!("objects need pages of {PAGE} bytes, which this machine has not")));
        }
        let pages = |bytes: u64| bytes / PAGE as u64;
        let capacity = pages(config.capacity_bytes);
        let segment = pages(config.segment_bytes.min(Config::SEGMENT_BYTES_MAX)).max(1);
        let arena = Arena::new(Sizes { capacity, segment, idle: pages(config.idle_bytes) });
        let most = Most { capacity, quota: pages(config.tenant_bytes) };
        let state = State::new(arena, most, config.spill.map(Disk::new));
        Ok(Self { shared: Arc::new(Shared { state: Mutex::new(state), settled: Condvar::new(), signal: Signal::default() }) })
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Room for an object of that many bytes. Nobody sees it before it is sealed; two producers may make the same object, and the first
    /// to seal it is right.
    ///
    /// # Errors
    ///
    /// At once, [`Code::STORE_FULL`] or [`Code::OBJECT_QUOTA`] if there is no room now, [`Code::OBJECT_TOO_LARGE`] if there never can be,
    /// [`Code::OBJECT_EXISTS`] if it is sealed already, [`Code::NO_CAPACITY`] if the machine gives no memory.
    pub fn create(&self, tenant: &Tenant, id: ObjectId, size: u64) -> Result<Writer> {
        self.reserve(tenant, id, size)?.wait(Duration::ZERO)
    }

    /// A tenant's object, to be read. One that is on disk is brought back, which takes as long as the disk does.
    ///
    /// # Errors
    ///
    /// [`Code::NO_SUCH_OBJECT`] if it is not here, or is another tenant's. If it is on disk, [`Code::STORE_FULL`] or [`Code::OBJECT_QUOTA`]
    /// if there is no room for it now, and the errors of [`Restore::read`](crate::Restore::read).
    pub fn get(&self, tenant: &Tenant, id: ObjectId) -> Result<Pin> {
        self.fetch(tenant, id).wait(Duration::ZERO)
    }

    /// Takes an object's name: nobody finds it any more, and its memory is free when its last reader is gone. Whether it was there.
    pub fn delete(&self, id: ObjectId) -> bool {
        self.shared.with(|state, after| state.delete(id, after))
    }

    /// What is known of a tenant's object.
    ///
    /// # Errors
    ///
    /// [`Code::NO_SUCH_OBJECT`] if it is not here, or is another tenant's.
    pub fn info(&self, tenant: &Tenant, id: ObjectId) -> Result<ObjectInfo> {
        self.shared.with(|state, _| {
            let (_, record) = state.find(tenant, id)?;
            state::info(record).ok_or_else(|| error::absent(id))
        })
    }

    /// Sealed objects in the order of their ids, of one tenant or of all: at most `max` of those after the id `after`.
    pub fn list(&self, tenant: Option<&Tenant>, after: Option<ObjectId>, max: usize) -> Vec<ObjectInfo> {
        self.shared.with(|state, _| state.list(tenant, after, max))
    }

    /// What there is and who uses it.
    pub fn usage(&self) -> Usage {
        self.shared.with(|state, _| state.usage())
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}
