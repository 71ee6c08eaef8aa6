//! The grammar of `node`.

use std::time::Duration;

use clap::{Args, Subcommand};
use rwasm_types::{NodeId, parse_duration};

use super::TargetArgs;

#[derive(Debug, Args)]
pub(crate) struct NodeArgs {
    #[command(subcommand)]
    pub(crate) command: NodeCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// Give a node no more work; what runs there may end, and is else ended and tried again elsewhere
    Drain {
        /// The node, as n2
        node: NodeId,
        /// End what still runs after so long
        #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "5m")]
        deadline: Duration,
        /// Wait until nothing runs there
        #[arg(long)]
        wait: bool,
        #[command(flatten)]
        target: TargetArgs,
    },
    /// Give a node work again
    Undrain {
        /// The node, as n2
        node: NodeId,
        #[command(flatten)]
        target: TargetArgs,
    },
}
