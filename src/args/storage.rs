//! What a node keeps on disk, as `start` takes it.

use std::time::Duration;

use clap::Args;
use rwasm_node::SpillTo;
use rwasm_types::{parse_bytes, parse_duration};

/// What a node keeps on disk.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct StorageArgs {
    /// Where objects go when their memory runs short: a directory, a URL (s3://BUCKET/PREFIX, gs://, az://, https://, file://), or `none`;
    /// a directory below the state directory by default
    #[arg(long, value_name = "DIR|URL|none", value_parser = spill_to, help_heading = "What is kept on disk")]
    pub(crate) object_spill: Option<SpillWhere>,
    /// The most that objects take there; 4 times the memory for objects by default
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes, help_heading = "What is kept on disk")]
    pub(crate) object_spill_max: Option<u64>,
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
    /// How long a full file of the daemon's log is kept; 30 days by default
    #[arg(long, value_name = "TIME", value_parser = parse_duration, help_heading = "What is kept on disk")]
    pub(crate) log_age: Option<Duration>,
}

/// Where objects go when their memory runs short; nowhere, if they are to stay.
#[derive(Clone, Debug)]
pub(crate) struct SpillWhere(pub(crate) Option<SpillTo>);

fn spill_to(text: &str) -> Result<SpillWhere, String> {
    match text {
        "" => Err("it is empty".to_owned()),
        "none" => Ok(SpillWhere(None)),
        url if url.contains("://") => Ok(SpillWhere(Some(SpillTo::Url(url.parse().map_err(|error| format!("it is no URL: {error}"))?)))),
        path => Ok(SpillWhere(Some(SpillTo::Directory(path.into())))),
    }
}

/// What is remembered of jobs that ended: by each node of its own, and by the head of all others'.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct HistoryArgs {
    /// How long the node remembers jobs that ended
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "30d", help_heading = "History")]
    pub(crate) history_age: Duration,
    /// The most bytes that the node remembers of them, without their output
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes, default_value = "4GiB", help_heading = "History")]
    pub(crate) history_bytes: u64,
    /// How long the head remembers jobs of other nodes, for when they are gone
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "30d", requires = "head", help_heading = "History")]
    pub(crate) cluster_history_age: Duration,
    /// The most bytes that the head remembers of them; of whoever has most, the oldest goes first
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes, default_value = "16GiB", requires = "head", help_heading = "History")]
    pub(crate) cluster_history_bytes: u64,
}
