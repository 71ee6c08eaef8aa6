//! The one mapping between values and JSON, for REST, clients and logs. Its table is in `docs/values.md`.
//!
//! Reading is strict: duplicate keys, unknown or missing fields and numbers out of range are refused, and errors carry the path, as in
//! `args[1].items[3].x`. Both directions go without a tree in between, and flat lists without a value for each element.

mod read;
mod scalar;
mod visit;
mod write;

pub use self::{
    read::{parse_args, parse_value},
    write::{args_to_string, to_string, write_args, write_value},
};

/// The only key of the object that stands for a ref: `{"$ref": "o3-17-42-0"}`. No field or case of WIT can have this name.
pub const REF_KEY: &str = "$ref";

/// The largest integer that every reader of JSON has exactly, 2^53 − 1. What is beyond it is written as a string.
pub const SAFE_INTEGER_MAX: u64 = (1 << 53) - 1;
