//! The handles of one guest: its objects, what it writes, its windows. All of them end with its store.

use std::{collections::HashMap, sync::Arc};

use rwasm_types::{Code, Error, ObjectId, Result};
use rwasm_values::Type;
use wasmtime::{
    StoreContextMut,
    component::{Resource, ResourceAny, ResourceTable},
};

use super::{Draft, Object, Objects, window::Windows};
use crate::{store::Host, tasks::Tasks};

/// The most objects and writers that a guest can hold: as many as a message can have refs.
pub(crate) const HANDLES_MAX: usize = 100_000;

/// An object that a guest holds; what a handle of `object` stands for.
pub(crate) struct Held(pub(crate) Arc<dyn Object>);

/// A value that a guest writes; what a handle of `writer` stands for.
pub(super) struct Writing {
    pub(super) draft: Box<dyn Draft>,
    /// Bytes that are still to come.
    pub(super) left: u64,
    /// What it is to be a value of.
    pub(super) ty: Type,
}

/// All handles of a guest.
pub(crate) struct Handles {
    pub(super) source: Arc<dyn Objects>,
    pub(crate) tasks: Arc<dyn Tasks>,
    pub(crate) table: ResourceTable,
    pub(super) windows: Windows,
    returned: Vec<Arc<dyn Object>>,
    /// The places of those.
    places: HashMap<ObjectId, u32>,
}

impl Handles {
    pub(crate) fn new(source: Arc<dyn Objects>, tasks: Arc<dyn Tasks>) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(HANDLES_MAX);
        Self { source, tasks, table, windows: Windows::default(), returned: Vec::new(), places: HashMap::new() }
    }

    /// The object behind a handle.
    pub(crate) fn object(&self, handle: &Resource<Held>) -> wasmtime::Result<Arc<dyn Object>> {
        Ok(Arc::clone(&self.table.get(handle)?.0))
    }

    /// A handle for an object of a call's arguments.
    pub(crate) fn enter(cx: &mut StoreContextMut<'_, Host>, id: ObjectId) -> Result<ResourceAny> {
        let handles = cx.data_mut().objects()?;
        let object = handles.source.open(id)?;
        let handle = handles.table.push(Held(object)).map_err(|_| {
            Error::new(Code::OBJECT_HANDLES, format!("the call passes more than {HANDLES_MAX} objects"))
                .hint("give several tasks a part each")
        })?;
        handle.try_into_resource_any(&mut *cx).map_err(|error| Error::internal(format!("a handle cannot be passed: {error:#}")))
    }

    /// Takes back a handle that a call returned; gives the place of its object among those that were returned.
    pub(crate) fn leave(cx: &mut StoreContextMut<'_, Host>, handle: ResourceAny) -> Result<u32> {
        let lifted = handle.try_into_resource::<Held>(&mut *cx);
        let taken = lifted.and_then(|handle| {
            let handles = cx.data_mut().objects()?;
            let Held(object) = handles.table.delete(handle)?;
            Ok(*handles.places.entry(object.id()).or_insert_with(|| {
                handles.returned.push(object);
                handles.returned.len() as u32 - 1
            }))
        });
        taken.map_err(|error| Error::internal(format!("a handle cannot be returned: {error:#}")))
    }

    /// What was returned is the caller's; the next result begins anew.
    pub(crate) fn forget_returned(&mut self) {
        self.returned.clear();
        self.places.clear();
    }

    /// The objects that were returned, each once.
    pub(crate) fn returned(&self) -> &[Arc<dyn Object>] {
        &self.returned
    }
}
