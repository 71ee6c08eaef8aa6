//! The grammar of objects: `put`, `get`, `rm`, `memory`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueHint};
use rwasm_types::{ObjectId, parse_duration};
use rwasm_values::Type;

use super::TargetArgs;
use super::access::ViewArgs;

#[derive(Debug, Args)]
pub(crate) struct PutArgs {
    /// The file; - is standard input
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    /// The type of the value: of bytes, a string or a list of numbers the file has the bytes, of anything else the JSON
    #[arg(long = "type", value_name = "TYPE", default_value = "list<u8>", value_parser = crate::commands::object::value_type)]
    pub(crate) ty: Type,
    /// How long the tenant holds it, unless `rwasm rm` comes first; at most 366d
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "1d")]
    pub(crate) keep: Duration,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// The object, as o1-7-0-0
    pub(crate) object: ObjectId,
    /// Write it to a file: bytes, strings and lists of numbers as they are stored, anything else as WAVE
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) output: Option<PathBuf>,
    /// How long to wait until it is ready
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "60s")]
    pub(crate) timeout: Duration,
    #[command(flatten)]
    pub(crate) view: ViewArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RmArgs {
    /// The objects, as o1-7-0-0
    #[arg(required = true)]
    pub(crate) objects: Vec<ObjectId>,
    #[command(flatten)]
    pub(crate) view: ViewArgs,
}

#[derive(Debug, Args)]
pub(crate) struct MemoryArgs {
    #[command(flatten)]
    pub(crate) view: ViewArgs,
}
