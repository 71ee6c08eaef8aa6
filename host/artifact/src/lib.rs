//! What a submitted file is, what can be called in it, what it needs, and the component that an engine compiles.
//!
//! ```text
//! bytes ── source ──▶ Wasm ─┬─ core module ── module, adapt ──▶ component ─┐
//!                           └─ component ──────────────────────────────────┴─ component, types, imports ──▶ Artifact
//! ```
//!
//! [`analyse`] is the only door. `docs/artifacts.md` says for users what runs, what does not, and what to do about it.
//!
//! The room never names an engine and runs nothing. Every binary goes through the validator of `wasmparser` before anything else looks at
//! it, with the features of [`features()`]. The crates that read text (`wast`) and that make components of modules (`wit-component`) are
//! written for files of friends: they may use much time or memory, or even panic, on hostile ones. In production this room therefore
//! runs in a child process with limits of its own, and the file is refused if the child fails.

#![forbid(unsafe_code)]

mod adapt;
mod component;
mod exit;
mod features;
mod imports;
mod kebab;
mod module;
mod role;
mod source;
mod types;

use std::borrow::Cow;

use rwasm_types::{Code, Error, format_bytes};
use rwasm_values::{ArtifactInfo, ArtifactKind, Role};
pub use wasmparser::WasmFeatures;

pub use self::{
    features::features,
    imports::{HOST, HostInterface, Track},
};

/// What a file may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnalyseLimits {
    /// Bytes of the file, and of the component that is made of it. Default 256 MiB.
    pub bytes: u64,
    /// Functions that it exports. Default 10,000.
    pub exports: usize,
    /// Its imports. Default 10,000.
    pub imports: usize,
}

impl Default for AnalyseLimits {
    fn default() -> Self {
        Self { bytes: 256 << 20, exports: 10_000, imports: 10_000 }
    }
}

impl AnalyseLimits {
    fn check_bytes(&self, bytes: &[u8]) -> Result<(), Error> {
        let length = bytes.len() as u64;
        if length <= self.bytes {
            return Ok(());
        }
        let message = format!("the artifact has {}, but may have {}", format_bytes(length), format_bytes(self.bytes));
        Err(Error::new(Code::ARTIFACT_TOO_LARGE, message).hint("strip its debug information, as `wasm-tools strip` does"))
    }

    fn check_exports(&self, count: usize) -> Result<(), Error> {
        if count <= self.exports {
            return Ok(());
        }
        Err(Error::new(Code::LIMIT, format!("the artifact exports more than {} functions", self.exports)))
    }

    fn check_imports(&self, count: usize) -> Result<(), Error> {
        if count <= self.imports {
            return Ok(());
        }
        Err(Error::new(Code::LIMIT, format!("the artifact has more than {} imports", self.imports)))
    }
}

/// A file that can be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// What is known of it.
    pub info: ArtifactInfo,
    /// The component that the engine compiles: the file itself, or what was made of it.
    pub component: Vec<u8>,
}

/// Finds out what a file is, and makes a component of it if it is none.
///
/// Imports that no host provides are reported and not refused; see [`ArtifactInfo::check_imports`].
///
/// # Errors
///
/// The codes are those of the table in `docs/artifacts.md`: [`Code::EMPTY_FILE`], [`Code::NOT_WASM`], [`Code::MALFORMED_WASM`],
/// [`Code::MALFORMED_TEXT`] with the fields `line` and `column`, [`Code::ARTIFACT_TOO_LARGE`], [`Code::USES_THREADS`],
/// [`Code::USES_PREVIEW0`], [`Code::FOREIGN_IMPORTS`], [`Code::USES_PROPOSAL`] with the field `feature`, [`Code::NOTHING_TO_CALL`], and
/// [`Code::LIMIT`] for too many exports or imports.
pub fn analyse(bytes: &[u8], limits: &AnalyseLimits) -> Result<Artifact, Error> {
    limits.check_bytes(bytes)?;
    let source::Source { wasm, text } = source::read(bytes)?;
    limits.check_bytes(&wasm)?;
    let (made, component) = if source::is_component(&wasm) {
        (None, wasm)
    } else {
        let adapted = adapt::adapt(&wasm, limits)?;
        limits.check_bytes(&adapted.component)?;
        (Some((adapted.kind, adapted.refused)), Cow::Owned(adapted.component))
    };
    let face = component::read(&component, limits)?;
    let (kind, refused) = made.unwrap_or_else(|| (kind_of(&face.exports), Vec::new()));
    let mut exports = face.exports;
    exports.extend(refused);
    let info = ArtifactInfo {
        kind,
        text,
        profile: face.profile,
        exports,
        imports: face.imports,
        memory_initial_bytes: face.memory_initial_bytes,
        size_bytes: bytes.len() as u64,
    };
    check_callable(&info)?;
    Ok(Artifact { info, component: component.into_owned() })
}

fn kind_of(exports: &[rwasm_values::Export]) -> ArtifactKind {
    if exports.iter().any(|export| export.role == Role::Command) { ArtifactKind::Command } else { ArtifactKind::Component }
}

fn check_callable(info: &ArtifactInfo) -> Result<(), Error> {
    if info.is_callable() {
        return Ok(());
    }
    let error = Error::new(Code::NOTHING_TO_CALL, format!("the {} exports nothing that can be called", info.kind));
    let first = info.exports.iter().find_map(|export| match &export.role {
        Role::NotCallable { why } => Some(format!("`{}`: {why}", export.name)),
        _ => None,
    });
    Err(error.hint(first.unwrap_or_else(|| "export a function, or `wasi:cli/run`".to_owned())))
}
