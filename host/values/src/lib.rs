//! WIT types and values outside of any engine: what the head, the client and the nodes must agree on about a call without running it.
//!
//! ```text
//!           text                       memory                        bytes
//!   WAVE  ── wave ──┐          ┌─ Type, Signature ── encode ──▶  descriptor, TypeHash
//!                   ├─▶ Value ─┤
//!   JSON  ── json ──┘    Args  └─ Value, Args ────── codec ───▶  message form, stored form
//! ```
//!
//! A [`Value`] means nothing without its [`Type`]: types carry the names, values the content, and refs live in a table beside the value.
//! The formats are specified in `docs/values.md`. [`ArtifactInfo`] is what is known of an artifact without compiling it.
//!
//! This room never names an engine, reads no files and runs no threads. Everything it reads may be hostile: depth, parts, bytes and
//! refs are limited, and every limit is checked before memory is taken. Its tests read random bytes and texts; set `PROPTEST_CASES`
//! for more of them than the 256 of each run.

#![forbid(unsafe_code)]

mod artifact;
mod check;
pub mod codec;
mod fault;
mod flat;
mod index;
pub mod json;
mod name;
mod refs;
mod resolve;
mod signature;
mod ty;
mod value;
pub mod wave;

pub use artifact::{ArtifactInfo, ArtifactKind, Export, GrantKind, Import, Need, Profile, Role};
pub use codec::Limits;
pub use flat::{Element, Flat, Scalar};
pub use name::{ExportName, InterfaceName, Label, PackageName, ResourceName};
pub use refs::Ref;
pub use signature::{Arg, Args, Param, Returned, Signature};
pub use ty::{Case, Field, Resource, ResultType, Type, TypeHash};
pub use value::Value;
