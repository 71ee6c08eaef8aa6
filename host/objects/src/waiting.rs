//! A place in the queue for room, as a future that any executor can poll, and for threads that may block.
//!
//! Who waits says for how long: with a timeout of its executor's around the future, or of its own with `wait`. Dropping a place gives it up,
//! with what was granted meanwhile.

use std::{
    fmt,
    future::Future,
    pin::Pin as Pinned,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use rwasm_types::{Error, ObjectId, Result, Tenant};

use crate::{
    arena::Room,
    error,
    pin::{Pin, Sealed},
    queue::{Look, Outcome, Purpose},
    state::{Place, State},
    store::{Shared, Store},
    writer::Writer,
};

/// A place in the queue.
struct Ticket {
    shared: Arc<Shared>,
    number: u64,
    tenant: Tenant,
    id: ObjectId,
    size: u64,
}

impl Ticket {
    fn claim(&self, waker: Option<&Waker>) -> Option<Outcome> {
        self.shared.with(|state, _| state.claim(self.number, waker))
    }

    /// Waits as a thread; `None` when the time is up.
    fn wait(&self, timeout: Duration) -> Option<Outcome> {
        self.shared.wait(timeout, |state| state.claim(self.number, None))
    }

    /// Waits for as long as somebody else reads the same object from disk: that ends without anybody's making room.
    fn wait_while_read(&self) -> Option<Outcome> {
        let settled = |state: &mut State| match state.claim(self.number, None) {
            Some(outcome) => Some(Some(outcome)),
            None => (!state.is_read(&self.tenant, self.id)).then_some(None),
        };
        self.shared.wait(Duration::MAX, settled).flatten()
    }

    fn expired(&self) -> Error {
        self.shared.with(|state, _| state.expired(&self.tenant, self.size))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.shared.with(|state, after| state.cancel(self.number, after));
    }
}

/// Waits for room for a new object.
pub struct Reserving(Ticket);

impl Reserving {
    /// Waits as a thread.
    ///
    /// # Errors
    ///
    /// Those of [`Store::create`]; that there is no room, when the time is up.
    pub fn wait(self, timeout: Duration) -> Result<Writer> {
        self.0.wait(timeout).map_or_else(|| Err(self.0.expired()), |outcome| self.ready(outcome))
    }

    /// The error of whoever waited for too long: how full the store is, and by whom it is held.
    pub fn expired(&self) -> Error {
        self.0.expired()
    }

    fn ready(&self, outcome: Outcome) -> Result<Writer> {
        let Ticket { shared, tenant, id, size, .. } = &self.0;
        match outcome {
            Outcome::Room(key, room) => writer(shared, key, *id, tenant, *size, room),
            Outcome::Failed(error) => Err(error),
            Outcome::Pinned(..) | Outcome::Again => Err(self.0.expired()),
        }
    }
}

impl Future for Reserving {
    type Output = Result<Writer>;

    fn poll(self: Pinned<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.claim(Some(context.waker())).map_or(Poll::Pending, |outcome| Poll::Ready(self.ready(outcome)))
    }
}

fn writer(shared: &Arc<Shared>, key: u64, id: ObjectId, tenant: &Tenant, size: u64, room: Room) -> Result<Writer> {
    match usize::try_from(size) {
        Ok(length) => Ok(Writer::new(Arc::clone(shared), key, id, tenant.clone(), length, room)),
        Err(_) => {
            shared.abandon(key, room);
            Err(error::too_large(size, usize::MAX as u64))
        }
    }
}

/// A tenant's object, when it is there or can be brought back.
#[derive(Debug)]
pub enum Fetched {
    /// It is in memory.
    Ready(Pin),
    /// It is on disk, and there is room for it. Reading takes as long as the disk does.
    Stored(Restore),
}

/// Waits for a tenant's object.
pub struct Fetching {
    shared: Arc<Shared>,
    tenant: Tenant,
    id: ObjectId,
    ticket: Option<Ticket>,
}

impl Fetching {
    /// Waits as a thread, for room and for the disk.
    ///
    /// # Errors
    ///
    /// Those of [`Store::get`]; that there is no room, when the time is up.
    pub fn wait(mut self, timeout: Duration) -> Result<Pin> {
        loop {
            if let Some(fetched) = self.look()? {
                return fetched.into_pin();
            }
            let Some(ticket) = &self.ticket else { continue };
            let Some(outcome) = ticket.wait(timeout).or_else(|| ticket.wait_while_read()) else { return Err(ticket.expired()) };
            if let Some(fetched) = self.ready(outcome)? {
                return fetched.into_pin();
            }
        }
    }

    /// The error of whoever waited for too long: how full the store is, and by whom it is held.
    pub fn expired(&self) -> Error {
        self.ticket.as_ref().map_or_else(|| error::absent(self.id), Ticket::expired)
    }

    /// Looks, unless it waits already.
    fn look(&mut self) -> Result<Option<Fetched>> {
        if self.ticket.is_some() {
            return Ok(None);
        }
        let look = self.shared.with(|state, after| {
            let look = state.look(&self.tenant, self.id, after)?;
            let size = state.find(&self.tenant, self.id)?.1.size;
            Ok::<_, Error>((look, size))
        })?;
        match look {
            (Look::Pinned(key, sealed), _) => Ok(Some(self.pinned(key, sealed))),
            (Look::Room(key, room), _) => Ok(Some(self.stored(key, room))),
            (Look::Queued(number), size) => {
                let (shared, tenant) = (Arc::clone(&self.shared), self.tenant.clone());
                self.ticket = Some(Ticket { shared, number, tenant, id: self.id, size });
                Ok(None)
            }
        }
    }

    fn ready(&mut self, outcome: Outcome) -> Result<Option<Fetched>> {
        self.ticket = None;
        match outcome {
            Outcome::Pinned(key, sealed) => Ok(Some(self.pinned(key, sealed))),
            Outcome::Room(key, room) => Ok(Some(self.stored(key, room))),
            Outcome::Again => Ok(None),
            Outcome::Failed(error) => Err(error),
        }
    }

    fn pinned(&self, key: u64, sealed: Arc<Sealed>) -> Fetched {
        Fetched::Ready(Pin::new(Arc::clone(&self.shared), key, self.id, sealed))
    }

    fn stored(&self, key: u64, room: Room) -> Fetched {
        Fetched::Stored(Restore { shared: Arc::clone(&self.shared), key, id: self.id, room: Some(room) })
    }
}

impl Future for Fetching {
    type Output = Result<Fetched>;

    fn poll(mut self: Pinned<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            match self.look() {
                Ok(None) => {}
                Ok(Some(fetched)) => return Poll::Ready(Ok(fetched)),
                Err(error) => return Poll::Ready(Err(error)),
            }
            let outcome = self.ticket.as_ref().and_then(|ticket| ticket.claim(Some(context.waker())));
            let Some(outcome) = outcome else { return Poll::Pending };
            match self.ready(outcome) {
                Ok(None) => {}
                Ok(Some(fetched)) => return Poll::Ready(Ok(fetched)),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl Fetched {
    /// The object, read from disk if it is there.
    ///
    /// # Errors
    ///
    /// Those of [`Restore::read`].
    pub fn into_pin(self) -> Result<Pin> {
        match self {
            Self::Ready(pin) => Ok(pin),
            Self::Stored(restore) => restore.read(),
        }
    }
}

/// Room for an object that is on disk. Dropped, it is somebody else's turn.
pub struct Restore {
    shared: Arc<Shared>,
    key: u64,
    id: ObjectId,
    room: Option<Room>,
}

impl Restore {
    /// Reads the object, and checks that it is as it was. Takes as long as the disk does.
    ///
    /// # Errors
    ///
    /// [`Code::OBJECT_DAMAGED`](rwasm_types::Code::OBJECT_DAMAGED) if it is not,
    /// [`Code::SPILL_FAILED`](rwasm_types::Code::SPILL_FAILED) if it cannot be read.
    pub fn read(mut self) -> Result<Pin> {
        let Some(room) = self.room.take() else { return Err(error::absent(self.id)) };
        let restored = match self.shared.with(|state, _| state.stored(self.key)) {
            None => Err((room, error::absent(self.id))),
            Some(stored) => stored.read(room, self.id),
        };
        let sealed = self.shared.with(|state, after| state.restored(self.key, restored, after))?;
        Ok(Pin::new(Arc::clone(&self.shared), self.key, self.id, sealed))
    }
}

impl Drop for Restore {
    fn drop(&mut self) {
        if let Some(room) = self.room.take() {
            self.shared.with(|state, after| state.return_room(self.key, room, after));
        }
    }
}

impl Store {
    /// A place in the queue for room for a new object; it may be granted already.
    ///
    /// # Errors
    ///
    /// Those of [`Store::create`], but for that there is no room now; and that too many wait.
    pub fn reserve(&self, tenant: &Tenant, id: ObjectId, size: u64) -> Result<Reserving> {
        let number = self.shared().with(|state, after| {
            state.admits(id, size)?;
            state.enqueue(tenant, size, Purpose::Create(id), after)
        })?;
        Ok(Reserving(Ticket { shared: Arc::clone(self.shared()), number, tenant: tenant.clone(), id, size }))
    }

    /// Looks for a tenant's object, and waits for room where it is on disk.
    pub fn fetch(&self, tenant: &Tenant, id: ObjectId) -> Fetching {
        Fetching { shared: Arc::clone(self.shared()), tenant: tenant.clone(), id, ticket: None }
    }
}

impl State {
    /// What is needed to read an object from disk.
    fn stored(&self, key: u64) -> Option<crate::spill::Stored> {
        let record = self.records.get(&key)?;
        let Place::Disk { meta, part } = &record.place else { return None };
        let target = self.disk.as_ref()?.target();
        Some(crate::spill::Stored { target, part: *part, meta: Arc::clone(meta), size: record.size })
    }
}

impl fmt::Debug for Reserving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reserving").field("id", &self.0.id.to_string()).field("size", &self.0.size).finish_non_exhaustive()
    }
}

impl fmt::Debug for Fetching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetching").field("id", &self.id.to_string()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Restore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Restore").field("id", &self.id.to_string()).finish_non_exhaustive()
    }
}
