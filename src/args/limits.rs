//! Where a task ends, and what it is given.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueHint};
use rwasm_types::{parse_bytes, parse_duration};

/// Where a task ends.
#[derive(Clone, Debug, Args)]
pub(crate) struct LimitArgs {
    /// Memory, reserved and enforced; without it 512 MiB are enforced and what the artifact starts with is reserved
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes, help_heading = "Limits of each task")]
    pub(crate) memory: Option<u64>,
    /// Wall-clock time; one day by default
    #[arg(long, value_name = "TIME", value_parser = parse_duration, help_heading = "Limits of each task")]
    pub(crate) timeout: Option<Duration>,
    /// Processor time; one day by default
    #[arg(long, value_name = "TIME", value_parser = parse_duration, help_heading = "Limits of each task")]
    pub(crate) cpu_time: Option<Duration>,
    /// Bytes of standard output; 16 MiB by default
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes, help_heading = "Limits of each task")]
    pub(crate) max_stdout: Option<u64>,
    /// Bytes of standard error and log lines; 16 MiB by default
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes, help_heading = "Limits of each task")]
    pub(crate) max_stderr: Option<u64>,
    /// Bytes of the result; 128 MiB by default
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes, help_heading = "Limits of each task")]
    pub(crate) max_result: Option<u64>,
    /// Elements of all tables together; 100,000 by default
    #[arg(long, value_name = "N", help_heading = "Limits of each task")]
    pub(crate) max_table_elements: Option<u64>,
}

/// What a task is given; nothing by default.
#[derive(Clone, Debug, Args)]
pub(crate) struct GrantArgs {
    /// On a cluster a volume that nodes offer, embedded a directory, and where the guest sees it; read-only with `:ro` at the end
    #[arg(long, value_name = "NAME::GUEST[:ro]", value_parser = crate::commands::grants::directory, help_heading = "Grants")]
    pub(crate) dir: Vec<rwasm_types::VolumeGrant>,
    /// An environment variable
    #[arg(long, value_name = "K=V", value_parser = crate::commands::grants::variable, help_heading = "Grants")]
    pub(crate) env: Vec<(String, String)>,
    /// A network destination
    #[arg(long, value_name = "HOST:PORT", help_heading = "Grants")]
    pub(crate) allow_net: Vec<rwasm_types::NetGrant>,
    /// Standard input from a file; - is our own
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Grants")]
    pub(crate) stdin: Option<PathBuf>,
}
