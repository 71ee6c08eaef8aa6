//! A daemon: a head with its node, or a node alone, in this process, until it is told to stop.
//!
//! ```text
//! RUNTIME/endpoint.json       where drivers of this user find the cluster, 0600
//! RUNTIME/daemons/PID.json    what runs here, for `stop`
//! ```

mod driver;
pub(crate) mod log;
mod register;

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use rwasm_client::Endpoint;
use rwasm_dashboard::DashboardOptions;
use rwasm_head::{Head, HeadOptions};
use rwasm_node::{Node, NodeOptions, StorageOptions};
use rwasm_runtime::{Dirs, Scope, create_private_dir};
use rwasm_types::{Code, Error, Name, Result};
use rwasm_wire::{Connector, Listener, duplex};
use serde::{Deserialize, Serialize};

pub(crate) use self::register::{Here, Registered, registered};
use self::{driver::Door, register::Registration};
use crate::{
    args::{StartArgs, StorageArgs},
    embedded::{clear_up, compile_options, new_token, pool_options},
    machine,
    state::State,
};

const DATA_PORT: &str = "--data-port";
/// The port that browsers know.
const DASHBOARD_PORT: u16 = 8265;
/// How long tasks that run may go on after a signal, while the node takes no more.
const LEAVE: Duration = Duration::from_secs(2);
/// How long what is left may take to end after that.
const SHUT_DOWN: Duration = Duration::from_secs(10);

/// What a daemon says of itself when it is ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ready {
    /// `head` or `node`.
    pub(crate) role: String,
    pub(crate) pid: u32,
    pub(crate) cluster: String,
    pub(crate) node: rwasm_types::NodeId,
    /// Where nodes join.
    pub(crate) head_address: String,
    /// Where drivers attach, if here.
    pub(crate) gateway_address: Option<String>,
    /// Where browsers and REST clients go, and metrics are, if here.
    #[serde(default)]
    pub(crate) dashboard_address: Option<String>,
    /// Where the metrics of a node without a dashboard are, if here.
    #[serde(default)]
    pub(crate) metrics_address: Option<String>,
    pub(crate) state_dir: PathBuf,
}

/// A running daemon.
pub(crate) struct Daemon {
    scope: Scope,
    node: Node,
    pub(crate) ready: Ready,
    /// What is left on disk while it runs, removed with it.
    _registration: Registration,
    _state: Arc<State>,
    _head: Option<Head>,
}

impl Daemon {
    /// Starts what the arguments say. When this returns, it takes work.
    pub(crate) async fn start(args: &StartArgs) -> Result<Self> {
        for (host, flag) in [(Some(args.host), "--host"), (args.dashboard_host, "--dashboard-host")] {
            if let Some(host) = host.filter(|host| !host.is_loopback()) {
                let message = format!("{host} is not a loopback address, and other addresses need TLS");
                return Err(Error::new(Code::INVALID_ARGUMENT, message).hint(format!("leave out {flag}")));
            }
        }
        let dirs = Dirs::from_env();
        let runtime_dir = |error| Error::new(Code::IO, format!("cannot use {}: {error}", dirs.runtime.display()));
        create_private_dir(&dirs.runtime).map_err(runtime_dir)?;
        clear_up(&dirs);
        registered(&dirs);
        if args.head {
            return Self::head(args, &dirs, State::open(args, &dirs)?).await;
        }
        // Directories of other clusters, held until another one is found.
        let mut passed = Vec::new();
        loop {
            let state = Arc::new(State::open(args, &dirs)?);
            match Self::node(args, &dirs, Arc::clone(&state)).await {
                Err(error) if error.code() == Code::FOREIGN_CLUSTER && args.state_dir.is_none() => {
                    tracing::info!(dir = %state.dir().display(), %error, "the directory is another cluster's; the next one is tried");
                    passed.push(state);
                }
                outcome => return outcome,
            }
        }
    }

    async fn head(args: &StartArgs, dirs: &Dirs, state: State) -> Result<Self> {
        let token = state.token()?;
        let journal = state.journal()?;
        // Everything is bound before anything is done.
        let listener = bind(args.host, args.port, "--port").await?;
        let gateway = bind(args.host, args.client_port, "--client-port").await?;
        let data = bind(args.host, args.data_port, DATA_PORT).await?;
        let pages = bind_dashboard(args).await?;
        let (head_address, gateway_address) = (address(&listener), address(&gateway));
        let scope = Scope::new();
        let head = Head::start(HeadOptions { journal, token: token.clone(), listener }, &scope).await?;
        // The head's own node joins through the same service, over a pipe in memory.
        let (to_head, local) = duplex();
        head.serve(Listener::Memory(local), &scope);
        let node = node_options(args, dirs, &state, to_head, token.clone(), data, Some(gateway))?;
        let node = Node::start(node, &scope).await?;
        let dashboard_address = serve_dashboard(pages, &head, &node, token.clone(), &scope)?;
        let endpoint = Endpoint { address: gateway_address.clone(), token };
        let ready = Ready {
            role: "head".to_owned(),
            pid: std::process::id(),
            cluster: head.cluster().to_owned(),
            node: node.id(),
            head_address,
            gateway_address: Some(gateway_address),
            dashboard_address: Some(dashboard_address),
            metrics_address: None,
            state_dir: state.dir().to_owned(),
        };
        let registration = Registration::leave(dirs, &ready, Some(&endpoint))?;
        Ok(Self { scope, node, ready, _registration: registration, _state: Arc::new(state), _head: Some(head) })
    }

    async fn node(args: &StartArgs, dirs: &Dirs, state: Arc<State>) -> Result<Self> {
        let head_address = args.address.clone().unwrap_or_default();
        let head_address = if head_address.contains(':') { head_address } else { format!("{head_address}:6379") };
        let token = match std::env::var("RWASM_TOKEN").ok().filter(|token| !token.is_empty()) {
            Some(token) => token,
            None => Endpoint::read(&Endpoint::file(dirs))?.map(|endpoint| endpoint.token).ok_or_else(|| {
                Error::new(Code::TOKEN_REFUSED, "there is no token to join with").hint("set RWASM_TOKEN to the cluster's token")
            })?,
        };
        let data = bind(args.host, args.data_port, DATA_PORT).await?;
        let metrics = match args.metrics_port {
            Some(port) => Some(bind(args.host, port, "--metrics-port").await?),
            None => None,
        };
        let scope = Scope::new();
        let options = node_options(args, dirs, &state, Connector::Tcp(head_address.clone()), token, data, None)?;
        let node = Node::start(options, &scope).await?;
        let metrics_address = metrics.as_ref().map(address);
        if let Some(Listener::Tcp(listener)) = metrics {
            rwasm_dashboard::serve_metrics(vec![node_metrics(&node)], listener, &scope);
        }
        let ready = Ready {
            role: "node".to_owned(),
            pid: std::process::id(),
            cluster: node.cluster().to_owned(),
            node: node.id(),
            head_address,
            gateway_address: None,
            dashboard_address: None,
            metrics_address,
            state_dir: state.dir().to_owned(),
        };
        let registration = Registration::leave(dirs, &ready, None)?;
        Ok(Self { scope, node, ready, _registration: registration, _state: state, _head: None })
    }

    /// Serves until a signal comes or something vital ends.
    pub(crate) async fn run(self) -> Result<()> {
        let mut signal =
            rwasm_runtime::termination().map_err(|error| Error::internal(format!("signals cannot be listened for: {error}")))?;
        let asked = tokio::select! {
            signal = signal() => {
                tracing::info!(?signal, "stopping");
                true
            }
            () = self.scope.cancelled() => false,
        };
        if asked {
            // A second signal does not wait for what runs.
            tokio::select! {
                () = self.node.leave(LEAVE) => {}
                _signal = signal() => {}
                () = self.scope.cancelled() => {}
            }
        }
        if !self.scope.shut_down(SHUT_DOWN).await {
            tracing::warn!("some tasks did not end in time");
        }
        if asked { Ok(()) } else { Err(Error::internal("a vital part of the daemon ended; its log says why")) }
    }
}

async fn bind(host: IpAddr, port: u16, flag: &str) -> Result<Listener> {
    Listener::bind(SocketAddr::new(host, port)).await.map_err(|error| {
        if error.code() == Code::PORT_IN_USE {
            let message = error.message().to_owned();
            return Error::new(Code::PORT_IN_USE, message)
                .hint(if matches!(flag, DATA_PORT | "--dashboard-port" | "--metrics-port") {
                    format!("choose another with {flag}, or leave it out to take a free one")
                } else {
                    format!("choose another with {flag}, take free ones with --port 0 --client-port 0, or run `rwasm stop` if it is ours")
                })
                .with("port", port);
        }
        error
    })
}

/// The port that browsers know, or the one that was asked for.
async fn bind_dashboard(args: &StartArgs) -> Result<Listener> {
    let (host, flag) = (args.dashboard_host.unwrap_or(args.host), "--dashboard-port");
    match args.dashboard_port {
        Some(port) => bind(host, port, flag).await,
        None => match bind(host, DASHBOARD_PORT, flag).await {
            // Nobody asked for this very port, and the answer of `start` says which it became.
            Err(error) if error.code() == Code::PORT_IN_USE => bind(host, 0, flag).await,
            bound => bound,
        },
    }
}

/// Starts the dashboard beside the head's node; gives its address.
fn serve_dashboard(listener: Listener, head: &Head, node: &Node, token: String, scope: &Scope) -> Result<String> {
    let address = address(&listener);
    let Listener::Tcp(listener) = listener else {
        return Err(Error::internal("the dashboard's listener is no socket"));
    };
    let (gateway, local) = duplex();
    node.serve_drivers(Listener::Memory(local), scope)?;
    let options = DashboardOptions {
        cluster_id: node.cluster().to_owned(),
        cluster: Arc::new(Door::new(gateway, token)),
        artifact_bytes_max: rwasm_node::ARTIFACT_BYTES_MAX,
        metrics: vec![Box::new(head.metrics()), node_metrics(node)],
    };
    rwasm_dashboard::serve(options, listener, scope);
    Ok(address)
}

fn node_metrics(node: &Node) -> rwasm_dashboard::Source {
    let metrics = node.metrics();
    Box::new(move || metrics.families())
}

fn address(listener: &Listener) -> String {
    listener.local_addr().map(|address| address.to_string()).unwrap_or_default()
}

fn node_options(
    args: &StartArgs,
    dirs: &Dirs,
    state: &State,
    head: Connector,
    token: String,
    data: Listener,
    gateway: Option<Listener>,
) -> Result<NodeOptions> {
    let endpoint = |listener: Listener| rwasm_node::Endpoint { address: address(&listener), listener };
    let wanted = machine::Wanted {
        cpus: args.num_cpus,
        gpus: args.num_gpus,
        memory: args.memory,
        custom: args.resources.clone().unwrap_or_default(),
    };
    let machine = rustix::system::uname();
    Ok(NodeOptions {
        name: args.name.clone().unwrap_or_else(|| Name::lossy(&machine.nodename().to_string_lossy())),
        capacity: machine::capacity(wanted)?,
        labels: args.labels.iter().cloned().collect::<BTreeMap<_, _>>(),
        state_dir: state.dir().to_owned(),
        compile: compile_options(&args.engine, dirs),
        pool: pool_options(&args.engine),
        head,
        token,
        data: Some(endpoint(data)),
        gateway: gateway.map(endpoint),
        embedded: false,
        storage: storage_options(&args.storage),
    })
}

fn storage_options(args: &StorageArgs) -> StorageOptions {
    let default = StorageOptions::default();
    StorageOptions {
        artifact_bytes: args.artifact_storage.unwrap_or(default.artifact_bytes),
        job_output_bytes: args.job_output.unwrap_or(default.job_output_bytes),
        output_bytes: args.output_storage.unwrap_or(default.output_bytes),
        output_age: args.output_age.unwrap_or(default.output_age),
    }
}

impl State {
    /// The cluster's token, made at the first start.
    fn token(&self) -> Result<String> {
        self.once("token", new_token)
    }
}
