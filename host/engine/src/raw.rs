//! The one module of this room with unsafe code: loading machine code, lifting bytes straight into a result's message, bytes of a guest
//! that are not copied, and files that are mapped over a guest's memory.

#![expect(
    unsafe_code,
    reason = "machine code is trusted by its keyed hash, lifting is an unsafe trait, and memory of a guest is mapped over; no type can show it"
)]

use std::{os::fd::BorrowedFd, path::Path, ptr, slice};

use rustix::{
    io::Errno,
    mm::{MapFlags, ProtFlags, mmap, mmap_anonymous},
    param::page_size,
};

use rwasm_values::{
    Scalar,
    codec::{FlatWriter, Limits},
};
use wasmtime::{
    Engine, Result, StoreContextMut,
    component::{
        __internal::{CanonicalAbiInfo, InstanceType, InterfaceType, LiftContext},
        Component, ComponentType, Lift, WasmList,
    },
};

use crate::store::Host;

/// Maps the machine code of a compile cache entry.
///
/// The caller has checked the file's keyed hash; [`crate::compile`] alone hands out such paths.
pub(crate) fn load(engine: &Engine, code: &Path) -> Result<Component> {
    // SAFETY: the file was written by a compile worker of this installation and has been checked against a hash whose key only this user
    // can read, so it is what `Engine::precompile_component` made. Its directory is writable by this user only, who could as well replace
    // this program. wasmtime itself checks version, configuration and processor features and refuses what does not fit this engine.
    unsafe { Component::deserialize_file(engine, code) }
}

/// A `list<u8>` that a guest returns, as the message that it becomes.
///
/// Lifted as a `Vec<u8>`, the bytes would be copied again behind the message's header. They cannot be taken from a [`WasmList`] after the
/// call either: by then the guest's `post-return` has freed them.
pub(crate) struct BytesMessage(pub(crate) FlatWriter);

impl BytesMessage {
    fn copy(cx: &mut LiftContext<'_>, list: &WasmList<u8>) -> Result<Self> {
        // The limit holds already: wasmtime has charged the list to the call's fuel, which comes from the limit.
        let limits = Limits { bytes: usize::MAX, ..Limits::default() };
        let mut writer =
            FlatWriter::list(Scalar::U8, list.len(), &limits).map_err(|error| wasmtime::Error::msg(error.message().to_owned()))?;
        u8::linear_lift_into_from_memory(cx, list, &mut writer)?;
        Ok(Self(writer))
    }
}

// SAFETY: all that describes the type to wasmtime (what it is lowered to, its layout, what it may be) is that of `WasmList<u8>`.
unsafe impl ComponentType for BytesMessage {
    type Lower = <WasmList<u8> as ComponentType>::Lower;

    const ABI: CanonicalAbiInfo = <WasmList<u8> as ComponentType>::ABI;

    fn typecheck(ty: &InterfaceType, types: &InstanceType<'_>) -> Result<()> {
        <WasmList<u8> as ComponentType>::typecheck(ty, types)
    }
}

// SAFETY: pointer and length are lifted and checked as `WasmList<u8>` does; the bytes are read by wasmtime's own safe function.
unsafe impl Lift for BytesMessage {
    fn linear_lift_from_flat(cx: &mut LiftContext<'_>, ty: InterfaceType, src: &Self::Lower) -> Result<Self> {
        let list = WasmList::<u8>::linear_lift_from_flat(cx, ty, src)?;
        Self::copy(cx, &list)
    }

    fn linear_lift_from_memory(cx: &mut LiftContext<'_>, ty: InterfaceType, bytes: &[u8]) -> Result<Self> {
        let list = WasmList::<u8>::linear_lift_from_memory(cx, ty, bytes)?;
        Self::copy(cx, &list)
    }
}

/// A `list<u8>` that a guest passes: where it lies in the guest's memory. Nothing is copied, so nothing is charged.
///
/// It is lifted at the beginning of a host call, for the guest's store, and is of no use to any other. Memories of our engines neither move
/// nor shrink as long as their store lives, for each has all of what it can grow to reserved.
pub(crate) struct GuestBytes {
    /// The address in this process.
    address: usize,
    /// The address in the guest.
    offset: usize,
    len: usize,
}

impl GuestBytes {
    fn lift(cx: &LiftContext<'_>, offset: u32, len: u32) -> Result<Self> {
        let (offset, len) = (offset as usize, len as usize);
        match offset.checked_add(len) {
            Some(end) if end <= cx.memory().len() => Ok(Self { address: cx.memory().as_ptr().expose_provenance() + offset, offset, len }),
            _ => Err(wasmtime::Error::msg("list pointer/length out of bounds of memory")),
        }
    }

    /// Where it begins in the guest's memory.
    pub(crate) fn offset(&self) -> usize {
        self.offset
    }

    /// How many bytes it has.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Whether it has a byte in common with another, in whichever memories of the guest they are.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        self.address < other.address + other.len && other.address < self.address + self.len
    }

    /// The bytes, beside the data of the guest's store.
    pub(crate) fn with_data<'a>(&'a self, cx: &'a mut StoreContextMut<'_, Host>) -> (&'a mut Host, &'a [u8]) {
        // SAFETY: the range was within the memory when it was lifted, and the memory has neither moved nor shrunk since. For as long as the
        // slice lives the store is borrowed, so neither the guest nor a host function runs that could write there; the store's data, the
        // only thing that can be changed meanwhile, is no part of a guest's memory.
        let bytes = unsafe { slice::from_raw_parts(ptr::with_exposed_provenance(self.address), self.len) };
        (cx.data_mut(), bytes)
    }

    /// Writes bytes at a place in it; what does not fit is left out.
    pub(crate) fn write(&self, _cx: &mut StoreContextMut<'_, Host>, at: usize, bytes: &[u8]) {
        let count = bytes.len().min(self.len.saturating_sub(at));
        // SAFETY: `at` and `count` stay within the range, which lies within the memory as above. The store is borrowed for writing, so
        // nobody else reads or writes there, and `bytes` is borrowed from elsewhere.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), ptr::with_exposed_provenance_mut::<u8>(self.address + at), count) }
    }

    /// Writes zeros from a place in it to its end.
    pub(crate) fn clear(&self, _cx: &mut StoreContextMut<'_, Host>, at: usize) {
        let count = self.len.saturating_sub(at);
        // SAFETY: as above.
        unsafe { ptr::write_bytes(ptr::with_exposed_provenance_mut::<u8>(self.address + at), 0, count) }
    }
}

// SAFETY: all that describes the type to wasmtime (what it is lowered to, its layout, what it may be) is that of `WasmList<u8>`.
unsafe impl ComponentType for GuestBytes {
    type Lower = <WasmList<u8> as ComponentType>::Lower;

    const ABI: CanonicalAbiInfo = <WasmList<u8> as ComponentType>::ABI;

    fn typecheck(ty: &InterfaceType, types: &InstanceType<'_>) -> Result<()> {
        <WasmList<u8> as ComponentType>::typecheck(ty, types)
    }
}

// SAFETY: a list is a pair of pointer and length, both of 32 bits, as wasmtime itself lifts it; the range is checked against the memory.
unsafe impl Lift for GuestBytes {
    fn linear_lift_from_flat(cx: &mut LiftContext<'_>, _ty: InterfaceType, [pointer, len]: &Self::Lower) -> Result<Self> {
        Self::lift(cx, pointer.get_u32(), len.get_u32())
    }

    fn linear_lift_from_memory(cx: &mut LiftContext<'_>, _ty: InterfaceType, bytes: &[u8]) -> Result<Self> {
        match bytes.as_chunks::<4>() {
            ([pointer, len], []) => Self::lift(cx, u32::from_le_bytes(*pointer), u32::from_le_bytes(*len)),
            _ => Err(wasmtime::Error::msg("a list has eight bytes in memory")),
        }
    }
}

/// Pages of a file over a part of a guest's memory. Dropped, it leaves fresh memory there.
///
/// It must be dropped before the memory's instance is: kept in the data of the guest's store, it is, for `Store` drops its data first, and
/// clippy knows `Store::into_data`, which does not. If it cannot be undone, the process ends at once: the memory would be the next guest's.
pub(crate) struct Mapping {
    address: usize,
    len: usize,
}

impl Mapping {
    /// Maps whole pages over the beginning of a region, for the guest alone: what it writes there changes neither file nor other mappings.
    pub(crate) fn new(region: &GuestBytes, len: usize, fd: BorrowedFd<'_>, offset: u64) -> rustix::io::Result<Self> {
        let page = page_size();
        if len == 0 || len > region.len || !len.is_multiple_of(page) || !region.address.is_multiple_of(page) {
            return Err(Errno::INVAL);
        }
        let address = ptr::with_exposed_provenance_mut(region.address);
        let flags = MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE;
        // SAFETY: the pages lie within the region, which is memory of a guest that is at a host call, and so of nobody else; no reference to
        // it is alive. They stay readable and writable. That the guest loses what was there is what it asked for; the region is above all
        // that its module put into memory, which wasmtime expects to find there when it uses the slot again.
        let mapped = unsafe { mmap(address, len, ProtFlags::READ | ProtFlags::WRITE, flags, fd, offset) };
        // Made before the result is looked at: the kernel removes what was there first, so a mapping that failed may have left a hole.
        let mapping = Self { address: region.address, len };
        mapped.map(|_| mapping)
    }

    /// Bytes that are mapped.
    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        let address = ptr::with_exposed_provenance_mut(self.address);
        let flags = MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE;
        // SAFETY: the pages are those that were mapped over memory of a guest, which has not been freed: see the type. No reference to
        // them is alive, for those that are given out borrow the store.
        if let Err(error) = unsafe { mmap_anonymous(address, self.len, ProtFlags::READ | ProtFlags::WRITE, flags) } {
            tracing::error!(%error, "a window cannot be undone; its memory would be another guest's, so this process ends");
            std::process::abort();
        }
    }
}
