//! The grammar of `artifact`.

use std::time::Duration;

use clap::{Args, Subcommand, ValueHint};
use rwasm_types::{ArtifactName, Tag, parse_duration};

use super::{access::ViewArgs, limit};

#[derive(Debug, Args)]
pub(crate) struct ArtifactArgs {
    #[command(subcommand)]
    pub(crate) command: ArtifactCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ArtifactCommand {
    /// List artifacts, newest first
    List {
        /// How many at most
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = limit)]
        limit: usize,
        #[command(flatten)]
        view: ViewArgs,
    },
    /// Give an artifact a tag, which `submit` and `inspect` take instead of a file; a tag that there is moves
    Tag {
        /// A file, which is sent, or what the cluster has: a tag, or a digest as lists show it
        #[arg(value_name = "FILE|TAG|DIGEST", value_hint = ValueHint::FilePath)]
        artifact: String,
        /// The tag, as hello:1
        tag: Tag,
        #[command(flatten)]
        view: ViewArgs,
    },
    /// Remove a tag, or an artifact with its machine code
    Rm {
        /// A tag, of which only the tag goes, or a digest as lists show it
        #[arg(value_name = "TAG|DIGEST", value_parser = crate::commands::artifact::name)]
        artifact: ArtifactName,
        /// Even if it has tags or a job uses it; tags go too, and what runs goes on
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        view: ViewArgs,
    },
    /// Remove artifacts that have no tag and that no job used lately
    Gc {
        /// How long an artifact stays that nothing uses
        #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "7d")]
        unused_for: Duration,
        /// Only say what would go
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        view: ViewArgs,
    },
}
