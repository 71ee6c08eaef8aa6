//! The one module of this room with unsafe code: loading machine code.

#![expect(unsafe_code, reason = "machine code is trusted by its keyed hash, which no type can show")]

use std::path::Path;

use wasmtime::{Engine, component::Component};

/// Maps the machine code of a compile cache entry.
///
/// The caller has checked the file's keyed hash; [`crate::compile`] alone hands out such paths.
pub(crate) fn load(engine: &Engine, code: &Path) -> wasmtime::Result<Component> {
    // SAFETY: the file was written by a compile worker of this installation and has been checked against a hash whose key only this user
    // can read, so it is what `Engine::precompile_component` made. Its directory is writable by this user only, who could as well replace
    // this program. wasmtime itself checks version, configuration and processor features and refuses what does not fit this engine.
    unsafe { Component::deserialize_file(engine, code) }
}
