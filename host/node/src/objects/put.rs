//! Values on their way in: checked against their type, then sealed.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use rwasm_objects::{
    Writer, may_wait,
    refs::{Holder, Meta, not_found},
};
use rwasm_runtime::aside;
use rwasm_types::{Code, Error, ObjectId, Result, Tenant};
use rwasm_values::{Limits, Ref, Type, codec};

use super::{INLINE_BYTES_MAX, Objects};

/// How long a value waits for room in the store.
const ROOM_WITHIN: Duration = Duration::from_secs(30);
/// The largest type descriptor that is read; see docs/values.md, section 1.
const REFS_MAX: usize = Limits::REFS_MAX as usize;

/// A value that is being stored.
pub(crate) struct Incoming {
    id: ObjectId,
    tenant: Tenant,
    ty: Type,
    descriptor: Bytes,
    refs: Arc<[ObjectId]>,
    size: u64,
    into: Into,
}

enum Into {
    Inline(Vec<u8>),
    Store(Writer),
}

impl Incoming {
    /// Begins to store a value; waits for room in the store where there is none.
    ///
    /// # Errors
    ///
    /// If the descriptor is none of a storable type, or why there is no room.
    pub(crate) async fn begin(
        objects: &Objects,
        tenant: &Tenant,
        id: ObjectId,
        (descriptor, refs): (Bytes, Vec<ObjectId>),
        size: u64,
    ) -> Result<Self> {
        let ty = Type::decode(&descriptor)?;
        if !ty.is_storable() {
            return Err(Error::new(Code::OBJECT_TYPE, format!("values of the type `{ty}` cannot be stored")));
        }
        if refs.len() > REFS_MAX {
            return Err(Error::new(Code::VALUE_TOO_LARGE, format!("a value may name {REFS_MAX} objects")));
        }
        let into = if size <= INLINE_BYTES_MAX {
            Into::Inline(Vec::with_capacity(usize::try_from(size).unwrap_or_default()))
        } else {
            Into::Store(room(objects, tenant, id, size).await?)
        };
        Ok(Self { id, tenant: tenant.clone(), ty, descriptor, refs: refs.into(), size, into })
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    ///
    /// If they are more than were announced.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.into {
            Into::Inline(so_far) if so_far.len() as u64 + bytes.len() as u64 > self.size => {
                Err(Error::new(Code::OBJECT_DAMAGED, format!("more bytes came than the {} that were announced", self.size)))
            }
            Into::Inline(so_far) => {
                so_far.extend_from_slice(bytes);
                Ok(())
            }
            Into::Store(writer) => writer.write(bytes),
        }
    }

    /// Seals it, once it is checked: what is sealed is a value of its type.
    ///
    /// # Errors
    ///
    /// If bytes are missing, it is no value of its type, or it names objects that are not there; nothing is left of it then.
    pub(crate) async fn seal(self, objects: &Objects, holder: Holder) -> Result<ObjectId> {
        let Self { id, tenant, ty, descriptor, refs, size, into } = self;
        let table: Vec<Ref> = refs.iter().copied().map(Ref::Object).collect();
        let check = |bytes: &[u8]| codec::check_stored(&ty, bytes, &table, &Limits { bytes: usize::MAX, ..Limits::default() }).map(drop);
        let meta = |inline| Meta { tenant: tenant.clone(), descriptor: descriptor.clone(), size, refs: refs.clone(), inline };
        match into {
            Into::Inline(bytes) => {
                if (bytes.len() as u64) < size {
                    return Err(Error::new(Code::OBJECT_DAMAGED, format!("{} of {size} bytes came", bytes.len())));
                }
                check(&bytes)?;
                objects.with(|directory| directory.seal(id, meta(Some(bytes.into())), objects.node, Some(holder)))?;
            }
            Into::Store(writer) => {
                let hash = *blake3::hash(&descriptor).as_bytes();
                // Large values are looked through, and their pages are touched.
                let sealed = aside(async {
                    let pin = writer.seal(hash, refs.to_vec())?;
                    check(&pin)?;
                    objects.with(|directory| directory.seal(id, meta(None), objects.node, Some(holder)))
                });
                if let Err(error) = sealed.await {
                    objects.store.delete(id);
                    return Err(error);
                }
            }
        }
        Ok(id)
    }
}

/// Room in the store, which others may have to leave first.
async fn room(objects: &Objects, tenant: &Tenant, id: ObjectId, size: u64) -> Result<Writer> {
    let mut changes = objects.changed.subscribe();
    let deadline = tokio::time::Instant::now() + ROOM_WITHIN;
    loop {
        changes.mark_unchanged();
        match objects.store.create(tenant, id, size) {
            Err(error) if may_wait(&error) => {
                let freed = tokio::time::timeout_at(deadline, changes.changed()).await;
                if !matches!(freed, Ok(Ok(()))) {
                    return Err(error);
                }
            }
            created => return created,
        }
    }
}

/// Objects that a value names.
///
/// # Errors
///
/// [`Code::OBJECT_NOT_FOUND`] if one is of a node that is not this one.
pub(super) fn own(objects: &Objects, refs: &[ObjectId]) -> Result<()> {
    refs.iter().find(|named| named.task.owner != objects.node).map_or(Ok(()), |named| Err(not_found(*named)))
}
