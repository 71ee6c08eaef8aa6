//! The grammar of `state`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};

#[derive(Debug, Args)]
pub(crate) struct StateArgs {
    #[command(subcommand)]
    pub(crate) command: StateCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum StateCommand {
    /// Write all of a state directory to a file; also while its daemon runs
    Backup {
        /// The file, or a directory in which one is made
        #[arg(value_name = "FILE|DIR", value_hint = ValueHint::AnyPath)]
        to: PathBuf,
        #[command(flatten)]
        dir: StateDirArgs,
    },
    /// Put a backup back, into a directory that is empty and that no daemon uses
    Restore {
        /// What `state backup` made
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
        #[command(flatten)]
        dir: StateDirArgs,
    },
    /// Check a state directory: format, journal, artifacts, what was left behind; exit 0 if nothing is wrong
    Check {
        #[command(flatten)]
        dir: StateDirArgs,
    },
}

/// Which state directory.
#[derive(Clone, Debug, Args)]
pub(crate) struct StateDirArgs {
    /// The state directory; that of this user's head by default
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) state_dir: Option<PathBuf>,
}
