//! Values on their way in: checked against their type, then sealed.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use rwasm_objects::{
    Checksum, Receiver, Writer, may_wait,
    refs::{Holder, Meta, row_bytes},
};
use rwasm_runtime::aside;
use rwasm_types::{Code, Error, ObjectId, Result, Tenant};
use rwasm_values::{Limits, Ref, Type, codec};

use super::{Objects, Stored, Value, beside::Taken};

/// How long a value waits for room in the store.
pub(super) const ROOM_WITHIN: Duration = Duration::from_secs(30);
/// The most objects that a value names.
const REFS_MAX: usize = Limits::REFS_MAX as usize;

/// A value that is being stored.
pub(crate) struct Incoming {
    id: ObjectId,
    tenant: Tenant,
    ty: Type,
    descriptor: Bytes,
    refs: Arc<[ObjectId]>,
    size: u64,
    taken: Taken,
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
        (mut descriptor, refs): (Bytes, Vec<ObjectId>),
        size: u64,
    ) -> Result<Self> {
        // A slice of the message that it came in would keep all of that.
        descriptor = Bytes::copy_from_slice(&descriptor);
        let ty = Type::decode(&descriptor)?;
        if !ty.is_storable() {
            return Err(Error::new(Code::OBJECT_TYPE, format!("values of the type `{ty}` cannot be stored")));
        }
        if refs.len() > REFS_MAX {
            return Err(Error::new(Code::VALUE_TOO_LARGE, format!("a value may name {REFS_MAX} objects")));
        }
        let row = row_bytes(&descriptor, &refs);
        let taken = match objects.take_beside(row, size) {
            // Copies that no task needs make room for it.
            Err(error) if may_wait(&error) && objects.forget_fetched(Duration::ZERO) => objects.take_beside(row, size)?,
            taken => taken?,
        };
        let into = if taken.inline {
            Into::Inline(Vec::with_capacity(usize::try_from(size).unwrap_or_default()))
        } else {
            Into::Store(room(objects, tenant, id, size).await?)
        };
        Ok(Self { id, tenant: tenant.clone(), ty, descriptor, refs: refs.into(), size, taken, into })
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

    /// All of it, when all came.
    pub(crate) fn so_far(&mut self) -> &[u8] {
        match &mut self.into {
            Into::Inline(so_far) => so_far,
            Into::Store(writer) => writer.bytes_mut(),
        }
    }

    /// Seals a value that whoever wrote it has checked.
    ///
    /// # Errors
    ///
    /// If bytes are missing, or it names objects that are not there; nothing is left of it then.
    pub(crate) fn seal_checked(self, objects: &Objects, holder: Option<Holder>) -> Result<ObjectId> {
        let Self { id, tenant, descriptor, refs, size, into, taken: _taken, ty: _ } = self;
        let inline = match into {
            Into::Inline(bytes) => Some(whole(bytes, size)?),
            Into::Store(writer) => {
                writer.seal(*blake3::hash(&descriptor).as_bytes(), refs.to_vec())?;
                None
            }
        };
        let meta = Meta { tenant, descriptor, size, refs, inline };
        let sealed = objects.with(|directory| directory.seal(id, meta, objects.node, holder));
        sealed.inspect_err(|_refused| {
            objects.store.delete(id);
        })?;
        Ok(id)
    }

    /// Seals it, once it is checked: what is sealed is a value of its type.
    ///
    /// # Errors
    ///
    /// If bytes are missing, it is no value of its type, or it names objects that are not there; nothing is left of it then.
    pub(crate) async fn seal(self, objects: &Objects, holder: Holder) -> Result<ObjectId> {
        let id = self.id;
        let (value, _taken) = self.checked(objects).await?;
        let sealed = objects.with(|directory| directory.seal(id, value.meta, objects.node, Some(holder)));
        sealed.inspect_err(|_refused| {
            objects.store.delete(id);
        })?;
        Ok(id)
    }

    /// The same, without a word to the directory; with what it takes beside the store.
    pub(super) async fn checked(self, objects: &Objects) -> Result<(Value, Taken)> {
        let Self { id, tenant, ty, descriptor, refs, size, taken, into } = self;
        let table: Vec<Ref> = refs.iter().copied().map(Ref::Object).collect();
        let check = |bytes: &[u8]| codec::check_stored(&ty, bytes, &table, &Limits { bytes: usize::MAX, ..Limits::default() }).map(drop);
        let hash = *blake3::hash(&descriptor).as_bytes();
        let meta = |inline| Meta { tenant, descriptor, size, refs: refs.clone(), inline };
        match into {
            Into::Inline(bytes) => {
                let bytes = whole(bytes, size)?;
                check(&bytes)?;
                Ok((Value { meta: meta(Some(bytes.clone())), bytes: Stored::Inline(bytes) }, taken))
            }
            Into::Store(writer) => {
                // Large values are looked through, and their pages are touched.
                let sealed = aside(async {
                    let pin = writer.seal(hash, refs.to_vec())?;
                    check(&pin).map(|()| pin)
                });
                let pin = sealed.await.inspect_err(|_refused| {
                    objects.store.delete(id);
                })?;
                Ok((Value { meta: meta(None), bytes: Stored::Pinned(pin) }, taken))
            }
        }
    }
}

/// Seals what came from another node, once it is checked.
///
/// # Errors
///
/// As [`Incoming::seal`], or if the whole is not what was sealed there.
pub(super) async fn seal_received(objects: &Objects, receiver: Receiver, checksum: Checksum, meta: Meta) -> Result<Value> {
    let (id, ty) = (receiver.id(), Type::decode(&meta.descriptor)?);
    let table: Vec<Ref> = meta.refs.iter().copied().map(Ref::Object).collect();
    let hash = *blake3::hash(&meta.descriptor).as_bytes();
    let sealed = aside(async {
        let pin = receiver.seal(checksum, hash, meta.refs.to_vec())?;
        let checked = codec::check_stored(&ty, &pin, &table, &Limits { bytes: usize::MAX, ..Limits::default() }).map(drop);
        checked.map(|()| pin).inspect_err(|_refused| {
            objects.store.delete(id);
        })
    });
    Ok(Value { bytes: Stored::Pinned(sealed.await?), meta })
}

/// The bytes of a value, if all came.
fn whole(bytes: Vec<u8>, size: u64) -> Result<Bytes> {
    if (bytes.len() as u64) < size {
        return Err(Error::new(Code::OBJECT_DAMAGED, format!("{} of {size} bytes came", bytes.len())));
    }
    Ok(bytes.into())
}

/// Room in the store, which others may have to leave first.
pub(super) async fn room(objects: &Objects, tenant: &Tenant, id: ObjectId, size: u64) -> Result<Writer> {
    match objects.store.create(tenant, id, size) {
        Err(error) if may_wait(&error) => {}
        created => return created,
    }
    // Copies that no task needs make room for it.
    objects.forget_fetched(Duration::ZERO);
    let mut reserving = objects.store.reserve(tenant, id, size)?;
    match tokio::time::timeout(ROOM_WITHIN, &mut reserving).await {
        Ok(writer) => writer,
        Err(_elapsed) => Err(reserving.expired()),
    }
}
