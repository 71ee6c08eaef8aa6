//! The one module of this room with unsafe code: loading machine code, and lifting bytes straight into a result's message.

#![expect(unsafe_code, reason = "machine code is trusted by its keyed hash, and lifting is an unsafe trait; no type can show either")]

use std::path::Path;

use rwasm_values::{
    Scalar,
    codec::{FlatWriter, Limits},
};
use wasmtime::{
    Engine, Result,
    component::{
        __internal::{CanonicalAbiInfo, InstanceType, InterfaceType, LiftContext},
        Component, ComponentType, Lift, WasmList,
    },
};

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
