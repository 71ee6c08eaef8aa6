//! The imports of `rwasm:core/objects`. Whatever may have to wait for bytes or room runs on the guest's fiber.
//!
//! They are linked by hand: bindings would copy each list out of the guest before the host sees it.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use rwasm_values::{
    Scalar, Type,
    codec::{self, Limits},
};
use wasmtime::{
    StoreContextMut,
    component::{ComponentType, Linker, Lower, Resource, ResourceType},
};

use super::{
    Object, Sealed,
    error::Refusal,
    handles::{Held, Writing},
    window::Window,
};
use crate::{raw::GuestBytes, store::Host};

/// The interface, as this host has it.
const VERSIONED: &str = "rwasm:core/objects@0.1.0";

/// The interface, without its version.
pub(crate) const INTERFACE: &str = "rwasm:core/objects";

/// The most bytes that one call copies, so that a guest can be ended between two. For more there are ranges, writers and windows.
pub(super) const COPY_BYTES_MAX: u64 = 64 << 20;

/// The largest value that is read as a whole to see that it is one. Lists of numbers need no reading, and may be larger.
const CHECKED_BYTES_MAX: u64 = 256 << 20;

/// What guests get: an answer of theirs, or a refusal that they can handle.
type Answer<T> = Result<T, Refusal>;

type Cx<'a> = StoreContextMut<'a, Host>;

/// `rwasm:core/objects.object-info`.
#[derive(ComponentType, Lower)]
#[component(record)]
struct ObjectInfo {
    id: String,
    size: u64,
    #[component(name = "value-type")]
    value_type: String,
}

/// Adds the interface to a linker.
pub(crate) fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    let mut linker = linker.instance(VERSIONED)?;
    linker.resource("object", ResourceType::host::<Held>(), |mut cx, rep| {
        drop(cx.data_mut().objects()?.table.delete(Resource::<Held>::new_own(rep))?);
        Ok(())
    })?;
    linker.resource("writer", ResourceType::host::<Writing>(), |mut cx, rep| {
        drop(cx.data_mut().objects()?.table.delete(Resource::<Writing>::new_own(rep))?);
        Ok(())
    })?;
    linker.resource("window", ResourceType::host::<Window>(), |mut cx, rep| {
        if let Some(window) = cx.data_mut().objects()?.windows.take(rep) {
            window.close(&mut cx);
        }
        Ok(())
    })?;
    linker.func_wrap_async("[method]object.info", |cx: Cx<'_>, (object,): (Resource<Held>,)| {
        Box::new(async move {
            let object = held(&cx, &object)?;
            Ok((info(&*object).await,))
        })
    })?;
    linker.func_wrap_async("[method]object.read", |cx: Cx<'_>, (object, offset, length): (Resource<Held>, u64, u64)| {
        Box::new(async move {
            let object = held(&cx, &object)?;
            Ok((read(&*object, Some((offset, length))).await,))
        })
    })?;
    linker.func_wrap_async("[method]object.get", |cx: Cx<'_>, (object,): (Resource<Held>,)| {
        Box::new(async move {
            let object = held(&cx, &object)?;
            Ok((read(&*object, None).await,))
        })
    })?;
    linker.func_wrap_async("[method]object.show", |cx: Cx<'_>, (object, region, offset): (Resource<Held>, GuestBytes, u64)| {
        Box::new(async move {
            let object = held(&cx, &object)?;
            Ok((show(cx, &*object, region, offset).await,))
        })
    })?;
    linker.func_wrap_async("[method]object.refs", |mut cx: Cx<'_>, (object,): (Resource<Held>,)| {
        Box::new(async move {
            let object = held(&cx, &object)?;
            Ok((refs(&mut cx, &*object).await,))
        })
    })?;
    linker.func_wrap("[method]object.duplicate", |mut cx: Cx<'_>, (object,): (Resource<Held>,)| {
        let object = held(&cx, &object)?;
        Ok((hold(&mut cx, object),))
    })?;
    linker.func_wrap("[method]writer.append", |cx: Cx<'_>, (writer, bytes): (Resource<Writing>, GuestBytes)| {
        append(cx, &writer, &bytes).map(|answer| (answer,))
    })?;
    linker.func_wrap_async("[static]writer.seal", |mut cx: Cx<'_>, (writer,): (Resource<Writing>,)| {
        Box::new(async move {
            let writing = cx.data_mut().objects()?.table.delete(writer)?;
            Ok((seal(cx, writing).await,))
        })
    })?;
    linker.func_wrap_async("create", |cx: Cx<'_>, (size, value_type): (u64, String)| {
        Box::new(async move { Ok((create(cx, size, &value_type).await,)) })
    })?;
    linker.func_wrap_async("put", |cx: Cx<'_>, (bytes, value_type): (GuestBytes, String)| {
        Box::new(async move { Ok((put(cx, bytes, &value_type).await,)) })
    })
}

/// The object of a handle. A handle that is none is wasmtime's fault or ours, and traps.
fn held(cx: &Cx<'_>, handle: &Resource<Held>) -> wasmtime::Result<Arc<dyn Object>> {
    cx.data().objects_ref()?.object(handle)
}

/// A handle for an object.
fn hold(cx: &mut Cx<'_>, object: Arc<dyn Object>) -> Answer<Resource<Held>> {
    Ok(cx.data_mut().objects()?.table.push(Held(object))?)
}

async fn info(object: &dyn Object) -> Answer<ObjectInfo> {
    let info = object.info().await?;
    Ok(ObjectInfo { id: object.id().to_string(), size: info.size, value_type: info.value_type.to_string() })
}

async fn refs(cx: &mut Cx<'_>, object: &dyn Object) -> Answer<Vec<Resource<Held>>> {
    let named = object.refs().await?;
    let mut handles = Vec::with_capacity(named.len());
    for object in named {
        match hold(cx, object) {
            Ok(handle) => handles.push(handle),
            Err(full) => {
                // The guest gets none of them, so nobody would drop those that were made.
                let table = &mut cx.data_mut().objects()?.table;
                handles.into_iter().for_each(|handle| drop(table.delete(handle)));
                return Err(full);
            }
        }
    }
    Ok(handles)
}

/// A range of an object, or all of it; copied once, into the guest.
async fn read(object: &dyn Object, range: Option<(u64, u64)>) -> Answer<Bytes> {
    /// What keeps the bytes alive until they are in the guest.
    struct Part(Arc<dyn Sealed>, Range<usize>);
    impl AsRef<[u8]> for Part {
        fn as_ref(&self) -> &[u8] {
            self.0.bytes().get(self.1.clone()).unwrap_or_default()
        }
    }
    let sealed = object.bytes().await?;
    let (offset, length) = range.unwrap_or_else(|| (0, sealed.bytes().len() as u64));
    let range = within(&*sealed, offset, length)?;
    if length > COPY_BYTES_MAX {
        return Err(Refusal::TooLarge);
    }
    Ok(Bytes::from_owner(Part(sealed, range)))
}

/// A range of an object, if it has one there.
fn within(sealed: &dyn Sealed, offset: u64, length: u64) -> Answer<Range<usize>> {
    let end = offset.checked_add(length).filter(|end| *end <= sealed.bytes().len() as u64).ok_or(Refusal::OutOfRange)?;
    // Both are below a length, which is a usize.
    Ok(offset as usize..end as usize)
}

async fn show(mut cx: Cx<'_>, object: &dyn Object, region: GuestBytes, offset: u64) -> Answer<Resource<Window>> {
    let started_with = cx.data().limiter.started_with();
    // Said before the bytes come from elsewhere: what is wrong with the region stays wrong.
    cx.data().objects_ref()?.windows.check(&region, offset, started_with)?;
    let sealed = object.bytes().await?;
    let range = within(&*sealed, offset, region.len() as u64)?;
    // Others of this guest may have opened windows meanwhile.
    let place = cx.data().objects_ref()?.windows.check(&region, offset, started_with)?;
    let window = Window::open(&mut cx, region, sealed, range)?;
    cx.data_mut().objects()?.windows.keep(place, window);
    Ok(Resource::new_own(place))
}

fn append(mut cx: Cx<'_>, writer: &Resource<Writing>, bytes: &GuestBytes) -> wasmtime::Result<Answer<()>> {
    if bytes.len() as u64 > COPY_BYTES_MAX {
        return Ok(Err(Refusal::TooLarge));
    }
    let (host, bytes) = bytes.with_data(&mut cx);
    Ok(host.objects()?.table.get_mut(writer)?.append(bytes))
}

async fn create(mut cx: Cx<'_>, size: u64, value_type: &str) -> Answer<Resource<Writing>> {
    let ty = storable(value_type)?;
    if size > CHECKED_BYTES_MAX && !needs_no_check(&ty) {
        return Err(Refusal::TooLarge);
    }
    let source = Arc::clone(&cx.data().objects_ref()?.source);
    let draft = source.create(&ty, size).await?;
    Ok(cx.data_mut().objects()?.table.push(Writing { draft, left: size, ty })?)
}

async fn put(mut cx: Cx<'_>, bytes: GuestBytes, value_type: &str) -> Answer<Resource<Held>> {
    if bytes.len() as u64 > COPY_BYTES_MAX {
        return Err(Refusal::TooLarge);
    }
    let ty = storable(value_type)?;
    let source = Arc::clone(&cx.data().objects_ref()?.source);
    let draft = source.create(&ty, bytes.len() as u64).await?;
    let mut writing = Writing { draft, left: bytes.len() as u64, ty };
    writing.append(bytes.with_data(&mut cx).1)?;
    seal(cx, writing).await
}

impl Writing {
    fn append(&mut self, bytes: &[u8]) -> Answer<()> {
        let left = self.left.checked_sub(bytes.len() as u64).ok_or(Refusal::TooLarge)?;
        self.draft.append(bytes)?;
        self.left = left;
        Ok(())
    }
}

/// What was written is in memory already, and was charged there.
const UNLIMITED: Limits = Limits { bytes: usize::MAX, parts: usize::MAX };

/// Makes an object of what was written, if it is a value of its type.
async fn seal(mut cx: Cx<'_>, writing: Writing) -> Answer<Resource<Held>> {
    let Writing { mut draft, left, ty } = writing;
    if left > 0 {
        return Err(Refusal::Unfinished);
    }
    codec::check_stored(&ty, draft.bytes(), &[], &UNLIMITED)?;
    let object = draft.seal().await?;
    hold(&mut cx, object)
}

/// The type of a value that a guest may store: it holds no handles, for which there would have to be refs.
fn storable(text: &str) -> Answer<Type> {
    let ty: Type = text.parse().map_err(|_| Refusal::Malformed)?;
    if ty.is_storable() && !ty.has_handles() { Ok(ty) } else { Err(Refusal::Malformed) }
}

/// Whether any bytes are a value, as long as there are enough of them.
fn needs_no_check(ty: &Type) -> bool {
    matches!(ty, Type::List(element) if element.scalar().is_some_and(|scalar| !matches!(scalar, Scalar::Bool | Scalar::Char)))
}
