//! The grammar of `actor`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand, ValueHint};
use rwasm_types::{
    ActorId, ActorName, ActorOptions, GroupRef, LabelSelector, Name, NodeId, Priority, Quantity, parse_bytes, parse_duration,
};

use super::{GrantArgs, LimitArgs, Resources, TargetArgs, ViewArgs, limit, priority, resources};

#[derive(Debug, Args)]
pub(crate) struct ActorArgs {
    #[command(subcommand)]
    pub(crate) command: ActorCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ActorCommand {
    /// Make an actor: an instance that stays, until it is killed, and keeps its state between calls
    Create(Box<CreateActorArgs>),
    /// Call a method of an actor
    Call(CallActorArgs),
    /// List actors, newest first
    List {
        /// How many at most
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = limit)]
        limit: usize,
        #[command(flatten)]
        view: ViewArgs,
    },
    /// Show one actor
    Status {
        /// Its id, as a1-7-0, or its name
        actor: WhichActor,
        #[command(flatten)]
        view: ViewArgs,
    },
    /// End an actor
    Kill {
        /// Its id, as a1-7-0, or its name
        actor: WhichActor,
        /// Let it work off the calls that it has, and run its destructor
        #[arg(long)]
        drain: bool,
        #[command(flatten)]
        target: TargetArgs,
    },
}

/// An actor, as people name it.
#[derive(Clone, Debug)]
pub(crate) enum WhichActor {
    Id(ActorId),
    Name(ActorName),
}

impl std::str::FromStr for WhichActor {
    type Err = rwasm_types::ParseNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self::Id).or_else(|_| text.parse().map(Self::Name))
    }
}

#[derive(Debug, Args)]
pub(crate) struct CreateActorArgs {
    /// The artifact, or the tag or digest of one that the cluster has
    #[arg(value_name = "FILE.wasm", value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    /// The constructor, or another function that makes the actor, with arguments in WAVE: 'counter(5)'
    #[arg(long, value_name = "'CLASS(ARGS)'")]
    pub(crate) call: String,
    /// A name by which it is found, one of a kind in its namespace
    #[arg(long)]
    pub(crate) name: Option<Name>,
    /// The namespace of the name
    #[arg(long, value_name = "NAME", default_value = "default", requires = "name")]
    pub(crate) namespace: Name,
    /// If the name is taken, print the actor that has it
    #[arg(long, requires = "name")]
    pub(crate) get_if_exists: bool,
    /// How often it is made anew, with a new state, if it traps or its node is lost
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) max_restarts: u32,
    /// Calls that may wait or run; more are refused
    #[arg(long, value_name = "N", default_value_t = ActorOptions::CALLS_DEFAULT, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_pending_calls: u32,
    /// Leave before it is alive
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// Cores that it holds as long as it lives; its calls run without any
    #[arg(long, value_name = "N", default_value = "0", help_heading = "What it needs")]
    pub(crate) num_cpus: Quantity,
    /// Graphics processors that it holds
    #[arg(long, value_name = "N", default_value = "0", help_heading = "What it needs")]
    pub(crate) num_gpus: Quantity,
    /// Custom resources that it holds, as JSON: '{"license": 1}'
    #[arg(long, value_name = "JSON", value_parser = resources, help_heading = "What it needs")]
    pub(crate) resources: Option<Resources>,
    /// Who goes first, -100 to 100
    #[arg(long, value_name = "N", default_value = "0", allow_negative_numbers = true, value_parser = priority, help_heading = "What it needs")]
    pub(crate) priority: Priority,
    /// A condition on labels of the node, as of `submit`
    #[arg(long, value_name = "CONDITION", help_heading = "What it needs")]
    pub(crate) label: Vec<LabelSelector>,
    /// The only node that may have it
    #[arg(long, value_name = "NODE", help_heading = "What it needs")]
    pub(crate) node: Option<NodeId>,
    /// The placement group that it comes out of, or one of its bundles, as 'trainer:1'
    #[arg(long, value_name = "NAME[:BUNDLE]", help_heading = "What it needs")]
    pub(crate) placement_group: Option<GroupRef>,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
    #[command(flatten)]
    pub(crate) grants: GrantArgs,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

#[derive(Debug, Args)]
pub(crate) struct CallActorArgs {
    /// Its id, as a1-7-0, or its name
    pub(crate) actor: WhichActor,
    /// The method, with arguments in WAVE: 'increment(1)'
    #[arg(value_name = "'METHOD(ARGS)'", required_unless_present = "map", conflicts_with = "map")]
    pub(crate) call: Option<String>,
    /// Call a method once for each line of a file, in their order, as of `submit`
    #[arg(long, value_name = "FILE.jsonl", requires = "func", value_hint = ValueHint::FilePath)]
    pub(crate) map: Option<PathBuf>,
    /// The method that --map calls
    #[arg(long, value_name = "METHOD", requires = "map")]
    pub(crate) func: Option<String>,
    /// The longest that the call may take; one day by default. An actor that is not done by then is ended
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) timeout: Option<Duration>,
    /// Processor time that the call may take
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) cpu_time: Option<Duration>,
    /// Bytes of the result; 128 MiB by default
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    pub(crate) max_result: Option<u64>,
    /// How often the call is made again if the actor's node is lost, and the actor is made anew
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) max_retries: u32,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}
