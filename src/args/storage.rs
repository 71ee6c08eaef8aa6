//! What a node keeps on disk, as `start` takes it.

use std::time::Duration;

use clap::Args;
use rwasm_types::{parse_bytes, parse_duration};

/// What a node keeps on disk.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct StorageArgs {
    /// Artifacts; 10 GiB by default. Those that nothing uses make room for new ones
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes, help_heading = "What is kept on disk")]
    pub(crate) artifact_storage: Option<u64>,
    /// Output of one job; 256 MiB by default
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes, help_heading = "What is kept on disk")]
    pub(crate) job_output: Option<u64>,
    /// Output of all jobs that ended; 4 GiB by default
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes, help_heading = "What is kept on disk")]
    pub(crate) output_storage: Option<u64>,
    /// How long output is kept after its job ended; 7 days by default
    #[arg(long, value_name = "TIME", value_parser = parse_duration, help_heading = "What is kept on disk")]
    pub(crate) output_age: Option<Duration>,
    /// A file of the daemon's log; 16 MiB by default
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes, help_heading = "What is kept on disk")]
    pub(crate) log_size: Option<u64>,
    /// Files of the daemon's log; 4 by default
    #[arg(long, value_name = "N", help_heading = "What is kept on disk")]
    pub(crate) log_files: Option<u32>,
}
