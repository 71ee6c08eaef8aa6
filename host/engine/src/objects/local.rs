//! Objects of one process: a task's way to a store that has no other nodes around it. For tests and for measuring what a guest pays.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use rwasm_objects::{Pin, Store, Writer};
use rwasm_types::{Code, Error, ObjectId, Result, TaskId, Tenant};
use rwasm_values::Type;

use super::{Draft, Info, Object, Objects, Region, Sealed, Waits};

/// The objects of one task and tenant. What is put stays for as long as the store does.
pub struct LocalObjects(Arc<Shelf>);

struct Shelf {
    store: Store,
    tenant: Tenant,
    task: TaskId,
    /// How long a guest waits for room.
    patience: Duration,
    types: Mutex<HashMap<ObjectId, Type>>,
    made: AtomicU32,
}

impl LocalObjects {
    /// Reaches all that it puts itself, and nothing else of the store.
    pub fn new(store: Store, tenant: Tenant, task: TaskId, patience: Duration) -> Self {
        Self(Arc::new(Shelf { store, tenant, task, patience, types: Mutex::default(), made: AtomicU32::new(0) }))
    }

    /// Puts a value in its stored form.
    ///
    /// # Errors
    ///
    /// Those of [`Store::create`].
    pub fn put(&self, value_type: Type, bytes: &[u8]) -> Result<ObjectId> {
        let id = self.0.next();
        let mut writer = self.0.store.create(&self.0.tenant, id, bytes.len() as u64)?;
        writer.write(bytes)?;
        Making { shelf: Arc::clone(&self.0), writer, value_type }.finish().map(|object| object.id)
    }
}

impl fmt::Debug for LocalObjects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalObjects").field("task", &self.0.task.to_string()).finish_non_exhaustive()
    }
}

impl Shelf {
    /// Results have index 0.
    fn next(&self) -> ObjectId {
        self.task.object(self.made.fetch_add(1, Relaxed) + 1)
    }
}

impl Objects for LocalObjects {
    fn open(&self, id: ObjectId) -> Result<Arc<dyn Object>> {
        match self.0.types.lock().get(&id) {
            Some(value_type) => Ok(Arc::new(Local { shelf: Arc::clone(&self.0), id, value_type: value_type.clone() })),
            None => Err(Error::new(Code::NO_SUCH_OBJECT, format!("no object {id} is here")).with("object", id)),
        }
    }

    fn create<'a>(&'a self, ty: &'a Type, size: u64) -> Waits<'a, Box<dyn Draft>> {
        Box::pin(async move {
            let mut reserving = self.0.store.reserve(&self.0.tenant, self.0.next(), size)?;
            let writer = match tokio::time::timeout(self.0.patience, &mut reserving).await {
                Ok(writer) => writer?,
                Err(_) => return Err(reserving.expired()),
            };
            Ok(Box::new(Making { shelf: Arc::clone(&self.0), writer, value_type: ty.clone() }) as Box<dyn Draft>)
        })
    }
}

struct Local {
    shelf: Arc<Shelf>,
    id: ObjectId,
    value_type: Type,
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.id, f)
    }
}

impl Object for Local {
    fn id(&self) -> ObjectId {
        self.id
    }

    fn info(&self) -> Waits<'_, Info> {
        Box::pin(async move {
            let info = self.shelf.store.info(&self.shelf.tenant, self.id)?;
            Ok(Info { size: info.size, value_type: self.value_type.clone() })
        })
    }

    fn refs(&self) -> Waits<'_, Vec<Arc<dyn Object>>> {
        // What guests put names nothing.
        Box::pin(async { Ok(Vec::new()) })
    }

    fn bytes(&self) -> Waits<'_, Arc<dyn Sealed>> {
        Box::pin(async move {
            let fetched = self.shelf.store.fetch(&self.shelf.tenant, self.id).await?;
            Ok(Arc::new(fetched.into_pin()?) as Arc<dyn Sealed>)
        })
    }
}

struct Making {
    shelf: Arc<Shelf>,
    writer: Writer,
    value_type: Type,
}

impl Making {
    fn finish(self) -> Result<Local> {
        let Self { shelf, writer, value_type } = self;
        let pin = writer.seal(value_type.hash().0, Vec::new())?;
        shelf.types.lock().insert(pin.id(), value_type.clone());
        Ok(Local { id: pin.id(), value_type, shelf })
    }
}

impl Draft for Making {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.writer.write(bytes)
    }

    fn bytes(&mut self) -> &[u8] {
        self.writer.bytes_mut()
    }

    fn seal(self: Box<Self>) -> Waits<'static, Arc<dyn Object>> {
        Box::pin(async move { Ok(Arc::new(self.finish()?) as Arc<dyn Object>) })
    }
}

impl Sealed for Pin {
    fn bytes(&self) -> &[u8] {
        self
    }

    fn region(&self) -> Option<Region<'_>> {
        Some(Self::region(self))
    }
}
