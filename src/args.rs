//! The command line's grammar. Its doc comments are the help texts.

pub(crate) mod access;
mod actor;
mod artifact;
mod group;
mod limits;
mod needs;
mod network;
mod node;
mod object;
mod state;
mod storage;

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueHint};
use clap_complete::Shell;
use rwasm_types::{Code, Error, JobId, JobState, Name, Priority, Quantity, TaskId, TaskState, parse_bytes, parse_duration};

use self::access::{TenantArgs, TokenArgs, ViewArgs};
pub(crate) use self::{
    actor::{ActorArgs, ActorCommand, CallActorArgs, CreateActorArgs, WhichActor},
    artifact::{ArtifactArgs, ArtifactCommand},
    group::{CreateGroupArgs, GroupArgs, GroupCommand},
    limits::{GrantArgs, LimitArgs},
    needs::NeedArgs,
    network::{DataPort, NetworkArgs},
    node::{NodeArgs, NodeCommand},
    object::{GetArgs, MemoryArgs, PutArgs, RmArgs},
    state::{StateArgs, StateCommand, StateDirArgs},
    storage::{HistoryArgs, SpillWhere, StorageArgs},
};

/// A cluster that runs WebAssembly the way Ray runs Python.
///
/// Submit a `.wasm`: its functions become tasks, and none of them can touch anything it was not granted.
#[derive(Debug, Parser)]
#[command(name = "rwasm", version, max_term_width = 110, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// Print JSON, for machines: results on standard output, errors on standard error
    #[arg(long, global = true, help_heading = "Global options")]
    pub(crate) json: bool,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a head with a node, or a node that joins a head
    Start(Box<StartArgs>),
    /// Stop the daemons that this user started on this machine
    Stop(StopArgs),
    /// Show the cluster at a glance
    Status(StatusArgs),
    /// Run an artifact's command or function on the cluster, or here if there is none
    Submit(Box<SubmitArgs>),
    /// The same, always here, on an embedded cluster that ends with the command
    Run(Box<RunArgs>),
    /// Show what an artifact offers and needs
    Inspect(InspectArgs),
    /// List, look into, follow and stop jobs
    Job(JobArgs),
    /// List tasks, nodes, jobs, artifacts, objects or actors
    List(ListArgs),
    /// List, tag and remove artifacts that the cluster has stored
    Artifact(ArtifactArgs),
    /// Make, call, list and end actors: instances that stay
    Actor(ActorArgs),
    /// Store a file as an object, and print its ref
    Put(PutArgs),
    /// Print an object's value
    Get(GetArgs),
    /// Let go of objects that were put
    Rm(RmArgs),
    /// Show what objects take of each node's memory
    Memory(MemoryArgs),
    /// Take a node out of use, and back
    Node(NodeArgs),
    /// Reserve resources together, for work that is submitted into them
    PlacementGroup(GroupArgs),
    /// Say in one line why a task is where it is
    Why(WhyArgs),
    /// Create, list and delete tenants, and set what their guests may be granted
    Tenant(TenantArgs),
    /// Create, revoke and list users' tokens
    Token(TokenArgs),
    /// Look whether this machine has what rwasm needs, and say what to do where it has not
    Doctor(DoctorArgs),
    /// Ask the daemons that this user started here whether they do their work; for container engines and other supervisors
    Health,
    /// Back up, restore and check what a daemon keeps on disk
    State(StateArgs),
    /// Make a new project
    New(NewArgs),
    /// Explain an error code
    Explain(ExplainArgs),
    /// Measure this machine: bare limits, and what a task costs layer by layer
    Bench(BenchArgs),
    /// Print completions for a shell
    Completions(CompletionsArgs),
    /// Compile one artifact in the current directory; started by nodes
    #[command(hide = true)]
    CompileWorker(CompileWorkerArgs),
}

/// Where the cluster is.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct TargetArgs {
    /// The cluster's gateway, HOST:PORT or HOST; else RWASM_ADDRESS, else the cluster that was started here
    #[arg(long, value_name = "HOST:PORT", help_heading = "Global options")]
    pub(crate) address: Option<String>,
    /// Whom to believe: a file with the certificate of the cluster's authority, or its fingerprint; else RWASM_CA, else the cluster's that
    /// was started here
    #[arg(long, value_name = "FILE|sha256:…", help_heading = "Global options")]
    pub(crate) ca: Option<String>,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("role").required(true).args(["head", "address"]))]
pub(crate) struct StartArgs {
    /// Start a head, and a node beside it
    #[arg(long)]
    pub(crate) head: bool,
    /// Start a node that joins this head
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) address: Option<String>,
    /// Stay in the foreground
    #[arg(long)]
    pub(crate) block: bool,
    /// The address to listen on; others than loopback's need TLS, for which the head makes certificates at its first start
    #[arg(long, value_name = "IP", env = "RWASM_HOST", default_value = "127.0.0.1")]
    pub(crate) host: std::net::IpAddr,
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
    /// The head's port, where nodes join; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 6379, requires = "head")]
    pub(crate) port: u16,
    /// Let drivers attach to this node, too; a head's always does
    #[arg(long)]
    pub(crate) gateway: bool,
    /// The port of the gateway, if there is one, where drivers attach; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = rwasm_client::Endpoint::PORT_DEFAULT)]
    pub(crate) client_port: u16,
    /// The dashboard's port, for browsers, REST and metrics; 0 takes a free one [default: 8265, or a free one if that is taken]
    #[arg(long, value_name = "PORT", requires = "head")]
    pub(crate) dashboard_port: Option<u16>,
    /// The address that the dashboard listens on; the one of --host by default
    #[arg(long, value_name = "IP", requires = "head")]
    pub(crate) dashboard_host: Option<std::net::IpAddr>,
    /// Serve metrics of a node without a dashboard on this port; 0 takes a free one
    #[arg(long, value_name = "PORT", conflicts_with = "head")]
    pub(crate) metrics_port: Option<u16>,
    /// The node's own port, where other nodes reach it; 0 takes a free one, and `none` none: others reach it through the head's machine
    #[arg(long, value_name = "PORT|none", default_value = "0")]
    pub(crate) data_port: DataPort,
    /// A name for the node; the machine's by default
    #[arg(long)]
    pub(crate) name: Option<Name>,
    /// Labels of the node, KEY=VALUE,…
    #[arg(long, value_name = "K=V,…", value_delimiter = ',', value_parser = label)]
    pub(crate) labels: Vec<(Name, String)>,
    /// Cores for tasks; all of the machine or container by default
    #[arg(long, value_name = "N", help_heading = "What the node gives")]
    pub(crate) num_cpus: Option<u32>,
    /// Graphics processors for tasks
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "What the node gives")]
    pub(crate) num_gpus: u32,
    /// Memory for guests; 60 % of the machine's or container's by default
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes, help_heading = "What the node gives")]
    pub(crate) memory: Option<u64>,
    /// Shared memory for objects; 30 % of the machine's or container's by default
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes, help_heading = "What the node gives")]
    pub(crate) object_store_memory: Option<u64>,
    /// Custom resources, as JSON: '{"license": 2}'
    #[arg(long, value_name = "JSON", value_parser = resources, help_heading = "What the node gives")]
    pub(crate) resources: Option<Resources>,
    /// A directory that guests may have by a name, if their tenant's policy allows it; read-only with `:ro` at the end
    #[arg(long, value_name = "NAME=DIR[:ro]", value_parser = crate::commands::grants::volume, help_heading = "What the node gives")]
    pub(crate) volume: Vec<(Name, rwasm_node::Volume)>,
    /// Network destinations that guests may reach, if their tenant's policy allows it: HOST:PORT, *.DOMAIN:PORT, *:PORT, and `*` for all ports
    #[arg(long, value_name = "HOST:PORT", help_heading = "What the node gives")]
    pub(crate) allow_net: Vec<rwasm_types::Destinations>,
    #[command(flatten)]
    pub(crate) history: HistoryArgs,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
    #[command(flatten)]
    pub(crate) storage: StorageArgs,
    /// Where the daemon keeps what must survive; a directory of its own below the user's state directory by default
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) state_dir: Option<PathBuf>,
    /// A file with the token of an admin, for whoever wants to choose it; the head draws one at its first start without it
    #[arg(long, value_name = "FILE", env = "RWASM_ADMIN_TOKEN_FILE", value_hint = ValueHint::FilePath)]
    pub(crate) admin_token_file: Option<PathBuf>,
    /// Set in the daemon itself: says on standard output when it is ready
    #[arg(long, hide = true)]
    pub(crate) daemon: bool,
}

/// How this process runs and compiles guests.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct EngineArgs {
    /// Guests that can be alive at once
    #[arg(long, value_name = "N", help_heading = "Engine")]
    pub(crate) instances: Option<u32>,
    /// Stack of each guest; 1 MiB by default
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes, help_heading = "Engine")]
    pub(crate) stack: Option<u64>,
    /// The longest that compiling one artifact may take; 3 minutes by default
    #[arg(long, value_name = "TIME", value_parser = parse_duration, help_heading = "Engine")]
    pub(crate) compile_timeout: Option<Duration>,
    /// The most memory that compiling one artifact may take; 4 GiB by default
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes, help_heading = "Engine")]
    pub(crate) compile_memory: Option<u64>,
    /// Compiled artifacts that are kept on disk; 10 GiB by default
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes, help_heading = "Engine")]
    pub(crate) compile_cache: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct StopArgs {
    /// Kill what has not ended after so long
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "10s")]
    pub(crate) grace: Duration,
    /// Kill at once
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Also show each node
    #[arg(long, short)]
    pub(crate) verbose: bool,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

#[derive(Debug, Args)]
pub(crate) struct SubmitArgs {
    #[command(flatten)]
    pub(crate) work: WorkArgs,
    /// Leave when the job is submitted; `rwasm job` follows it
    #[arg(long, conflicts_with = "output")]
    pub(crate) no_wait: bool,
    /// Show where the tasks would go, and why not elsewhere, and submit nothing
    #[arg(long, conflicts_with_all = ["no_wait", "output"])]
    pub(crate) plan: bool,
    /// How long to try to come back if the connection to the cluster breaks; 0s gives up at once
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "60s")]
    pub(crate) reconnect: Duration,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) work: WorkArgs,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
}

/// What is to be run, and how.
#[derive(Debug, Args)]
pub(crate) struct WorkArgs {
    /// The artifact: a component, a core module, or the text of either; for `submit`, also the tag or digest of one that the cluster has
    #[arg(value_name = "FILE.wasm", value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    /// Call a function, with arguments in WAVE: 'add(1, 2)' or 'pkg:iface/func("x")'
    #[arg(long, value_name = "'FUNC(ARGS)'", conflicts_with_all = ["map", "args"])]
    pub(crate) call: Option<String>,
    /// Call a function once for each line of a file, a JSON array of arguments or an object by parameter name; - is standard input
    #[arg(long, value_name = "FILE.jsonl", requires = "func", conflicts_with = "args", value_hint = ValueHint::FilePath)]
    pub(crate) map: Option<PathBuf>,
    /// The function that --map calls
    #[arg(long, value_name = "FUNC", requires = "map")]
    pub(crate) func: Option<String>,
    /// Write the result to a file: bytes and strings as they are, the lines of --map
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) output: Option<PathBuf>,
    /// A name for the job; the file's by default
    #[arg(long)]
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) needs: NeedArgs,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
    #[command(flatten)]
    pub(crate) grants: GrantArgs,
    /// Arguments of a command
    #[arg(last = true, value_name = "ARGS")]
    pub(crate) args: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// The artifact: a file, or the tag or digest of one that the cluster has stored
    #[arg(value_name = "FILE.wasm", value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

#[derive(Debug, Args)]
pub(crate) struct JobArgs {
    #[command(subcommand)]
    pub(crate) command: JobCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum JobCommand {
    /// List jobs, newest first
    List {
        #[command(flatten)]
        list: ListOptions<JobState>,
        #[command(flatten)]
        view: ViewArgs,
    },
    /// Show one job
    Status {
        /// The job, as j1-7
        job: JobId,
        #[command(flatten)]
        view: ViewArgs,
    },
    /// Print what a job's tasks wrote
    Logs {
        /// The job, as j1-7, or one of its tasks, as t1-7-0
        job: JobOrTask,
        /// Go on until the job ends
        #[arg(long, short)]
        follow: bool,
        #[command(flatten)]
        view: ViewArgs,
    },
    /// Cancel a job's tasks and end it
    Stop {
        /// The job, as j1-7
        job: JobId,
        #[command(flatten)]
        view: ViewArgs,
    },
    /// Wait until a job has ended; exit 0 if it succeeded
    Wait {
        /// The job, as j1-7
        job: JobId,
        /// Give up after so long
        #[arg(long, value_name = "TIME", value_parser = parse_duration)]
        timeout: Option<Duration>,
        #[command(flatten)]
        view: ViewArgs,
    },
}

/// A job, or one task of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct JobOrTask {
    pub(crate) job: JobId,
    pub(crate) sequence: Option<u64>,
}

impl std::str::FromStr for JobOrTask {
    type Err = rwasm_types::ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse::<TaskId>() {
            Ok(task) => Ok(Self { job: task.job(), sequence: Some(task.sequence) }),
            Err(_) => text.parse().map(|job| Self { job, sequence: None }),
        }
    }
}

/// How a list is cut.
#[derive(Clone, Debug, Args)]
pub(crate) struct ListOptions<S: std::str::FromStr + Clone + Send + Sync + 'static>
where
    S::Err: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Only those in a state
    #[arg(long)]
    pub(crate) state: Option<S>,
    /// How many at most
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = limit)]
    pub(crate) limit: usize,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(subcommand)]
    pub(crate) command: ListCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ListCommand {
    /// Tasks, newest first
    Tasks {
        /// Only those of a job
        #[arg(long)]
        job: Option<JobId>,
        #[command(flatten)]
        list: ListOptions<TaskState>,
        #[command(flatten)]
        view: ViewArgs,
    },
    /// Nodes
    Nodes {
        #[command(flatten)]
        target: TargetArgs,
    },
    /// Jobs, newest first
    Jobs {
        #[command(flatten)]
        list: ListOptions<JobState>,
        #[command(flatten)]
        view: ViewArgs,
    },
    /// Placement groups, by name
    PlacementGroups {
        #[command(flatten)]
        view: ViewArgs,
    },
    /// Actors, newest first
    Actors {
        /// How many at most
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = limit)]
        limit: usize,
        #[command(flatten)]
        view: ViewArgs,
    },
    /// Objects, in the order of their ids, with who holds them
    Objects {
        /// How many at most
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = limit)]
        limit: usize,
        #[command(flatten)]
        view: ViewArgs,
    },
    /// Artifacts, newest first
    Artifacts {
        /// How many at most
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = limit)]
        limit: usize,
        #[command(flatten)]
        view: ViewArgs,
    },
}

#[derive(Debug, Args)]
pub(crate) struct WhyArgs {
    /// The task, as t1-7-0
    pub(crate) task: TaskId,
    #[command(flatten)]
    pub(crate) view: ViewArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

#[derive(Debug, Args)]
pub(crate) struct NewArgs {
    /// The project's name, and its directory
    pub(crate) name: Name,
    /// The language
    #[arg(long, value_name = "LANG", default_value = "rust")]
    pub(crate) lang: Language,
    /// Where the SDK is; beside the source that this program was built from by default
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) sdk: Option<PathBuf>,
}

/// Languages that there are templates for.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Language {
    /// Rust
    Rust,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// The code, as RW0101; without one, all codes are listed
    pub(crate) code: Option<Code>,
}

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// Only rows whose names hold this text
    #[arg(long, value_name = "TEXT")]
    pub(crate) only: Option<String>,
    /// Measure each row for a second instead of nine
    #[arg(long)]
    pub(crate) quick: bool,
    /// Where the example guests are, for the rows that need them
    #[arg(long, value_name = "DIR", env = "RWASM_GUESTS", hide_env = true, value_hint = ValueHint::DirPath)]
    pub(crate) guests: Option<PathBuf>,
    /// The other process of the transport's rows
    #[arg(long, hide = true)]
    pub(crate) echo_server: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    pub(crate) shell: Shell,
}

#[derive(Debug, Args)]
pub(crate) struct CompileWorkerArgs {
    #[arg(long)]
    pub(crate) memory: u64,
    #[arg(long)]
    pub(crate) cpu_seconds: u64,
    #[arg(long)]
    pub(crate) output_bytes: u64,
    #[arg(long)]
    pub(crate) parent: u32,
    #[arg(long)]
    pub(crate) code: bool,
}

/// Custom resources.
pub(crate) type Resources = std::collections::BTreeMap<Name, Quantity>;

fn resources(text: &str) -> Result<Resources, Error> {
    serde_json::from_str(text).map_err(|error| {
        // A text that is JSON, but names no resources, is another mistake.
        let code = if error.is_data() { Code::INVALID_ARGUMENT } else { Code::MALFORMED_JSON };
        Error::new(code, error.to_string()).hint("write an object of amounts by name: '{\"license\": 2}'")
    })
}

fn priority(text: &str) -> Result<Priority, String> {
    text.parse().ok().and_then(Priority::new).ok_or_else(|| format!("`{text}` is not a number from -{max} to {max}", max = Priority::MAX))
}

fn limit(text: &str) -> Result<usize, String> {
    let max = rwasm_types::api::LIMIT_MAX;
    text.parse().ok().filter(|limit| (1..=max).contains(limit)).ok_or_else(|| format!("`{text}` is not a number from 1 to {max}"))
}

fn label(text: &str) -> Result<(Name, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("`{text}` is not KEY=VALUE"))?;
    Ok((Name::new(key).map_err(|error| error.to_string())?, value.to_owned()))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_grammar_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_job_or_a_task() {
        let of = |text: &str| text.parse::<JobOrTask>().map(|found| (found.job.to_string(), found.sequence));
        assert_eq!(of("j1-7").unwrap(), ("j1-7".into(), None));
        assert_eq!(of("t1-7-3").unwrap(), ("j1-7".into(), Some(3)));
        assert!(of("x").is_err());
    }
}
