//! A daemon: a head with its node, or a node alone, in this process, until it is told to stop.
//!
//! ```text
//! RUNTIME/endpoint.json       where drivers of this user find the cluster, 0600
//! RUNTIME/daemons/PID.json    what runs here, for `stop`
//! RUNTIME/daemons/PID.sock    whether it does its work, for `health`
//! ```

mod address;
mod driver;
mod health;
mod invite;
pub(crate) mod log;
mod pages;
mod register;
mod security;

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rwasm_client::{Endpoint, token_in};
use rwasm_head::{Head, HeadOptions, HistoryOptions};
use rwasm_node::{Credential, Node, NodeOffer, NodeOptions, Retention, SpillOptions, SpillTo, StorageOptions};
use rwasm_runtime::{Dirs, Scope, create_private_dir};
use rwasm_types::{Code, Error, Name, Result, UserToken};
use rwasm_wire::{Connector, Listener, duplex};
use serde::{Deserialize, Serialize};

pub(crate) use self::register::{Here, Registered, ask_health, registered};
use self::{register::Registration, security::Security};
use crate::{
    args::{DataPort, SpillWhere, StartArgs, StorageArgs},
    embedded::{clear_up, compile_options, node_token, pool_options, user_token},
    machine,
    state::State,
};

const DATA_PORT: &str = "--data-port";
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
    /// Whether the cluster has TLS.
    #[serde(default)]
    pub(crate) tls: bool,
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
        let advertised = address::advertised(args).await?;
        let dirs = Dirs::from_env();
        let runtime_dir = |error| Error::new(Code::IO, format!("cannot use {}: {error}", dirs.runtime.display()));
        create_private_dir(&dirs.runtime).map_err(runtime_dir)?;
        clear_up(&dirs);
        registered(&dirs);
        if args.head {
            return Self::head(args, &dirs, State::open(args, &dirs)?, &advertised).await;
        }
        // Directories of other clusters, held until another one is found.
        let mut passed = Vec::new();
        loop {
            let state = Arc::new(State::open(args, &dirs)?);
            match Self::node(args, &dirs, Arc::clone(&state), &advertised).await {
                Err(error) if error.code() == Code::FOREIGN_CLUSTER && args.state_dir.is_none() => {
                    tracing::info!(dir = %state.dir().display(), %error, "the directory is another cluster's; the next one is tried");
                    passed.push(state);
                }
                outcome => return outcome,
            }
        }
    }

    async fn head(args: &StartArgs, dirs: &Dirs, state: State, advertised: &[String]) -> Result<Self> {
        let (token, admin) = (state.node_token()?, state.admin(args.admin_token_file.as_deref())?);
        let journal = state.journal()?;
        let security = Security::open(args, advertised, &state, &rwasm_head::cluster(&journal).await?)?;
        let told = address::told(args, advertised);
        // Everything is bound before anything is done.
        let listener = bind(args.host, args.port, "--port").await?;
        let gateway = bind(args.host, args.client_port, "--client-port").await?;
        let data = data_port(args).await?;
        let pages = pages::bind_dashboard(args, security.is_some()).await?;
        let (head_address, gateway_address) = (address::of(&listener, &told), address::of(&gateway, &told));
        let scope = Scope::new();
        let (listener, gateway) = match &security {
            Some(security) => {
                security.keep(&scope);
                (listener.with_tls(security.for_nodes()?), gateway.with_tls(security.for_drivers()?))
            }
            None => (listener, gateway),
        };
        let issuer = security.as_ref().map(Security::issuer);
        let issues = issuer.is_some();
        let history = HistoryOptions {
            dir: state.dir().join("shipped"),
            retention: retention(args.history.cluster_history_age, args.history.cluster_history_bytes),
        };
        let options = HeadOptions { journal, history: Some(history), token: token.clone(), admin: admin.clone(), issuer, listener };
        let head = Head::start(options, &scope).await?;
        // The head's own node joins through the same service, over a pipe in memory.
        let (to_head, local) = duplex();
        head.serve(Listener::memory(local), &scope);
        let credential = match &security {
            Some(_) => Credential::InProcess(token.clone()),
            None => Credential::Shared(token.clone()),
        };
        let mut node = node_options(args, dirs, &state, to_head.into(), credential)?;
        (node.data, node.gateway) = (endpoint(data, &told), endpoint(Some(gateway), &told));
        let node = Node::start(node, &scope).await?;
        if let Some(file) = &args.network.ca_out {
            invite::tell_authority(file, security.as_ref())?;
        }
        if let Some(file) = &args.network.join_token_out {
            invite::keep(file, &head, &scope).await?;
        }
        let dashboard = pages::serve(pages, security.as_ref(), &head, &node, &told, &scope)?;
        let endpoint = Endpoint {
            address: gateway_address.clone(),
            token: admin.reveal(),
            // With TLS, a node joins with a token of its own.
            node_token: security.is_none().then_some(token),
            ca: security.map(|security| security.outside_ca),
        };
        let ready = Ready {
            role: "head".to_owned(),
            pid: std::process::id(),
            cluster: head.cluster().to_owned(),
            node: node.id(),
            head_address,
            gateway_address: Some(gateway_address),
            tls: issues,
            dashboard_address: Some(dashboard),
            metrics_address: None,
            state_dir: state.dir().to_owned(),
        };
        let registration = Registration::leave(dirs, &ready, Some(&endpoint))?;
        health::serve(&registration.socket, node.clone(), &scope);
        Ok(Self { scope, node, ready, _registration: registration, _state: Arc::new(state), _head: Some(head) })
    }

    async fn node(args: &StartArgs, dirs: &Dirs, state: Arc<State>, advertised: &[String]) -> Result<Self> {
        let head_address = address::head_address(args.address.as_deref().unwrap_or_default());
        let told = address::told(args, advertised);
        let credential = credential(args, dirs, &state, &head_address).await?;
        if !args.host.is_loopback() && matches!(credential, Credential::Shared(_)) {
            let message = format!("a node without TLS cannot listen on {}", args.host);
            return Err(
                Error::new(Code::TLS_REQUIRED, message).hint("start the head with TLS, and join with a token of `rwasm token join`")
            );
        }
        let data = data_port(args).await?;
        if args.gateway && !matches!(credential, Credential::Shared(_)) {
            return Err(Error::new(Code::INVALID_ARGUMENT, "a node that joins with TLS has no gateway of its own yet")
                .hint("leave --gateway out; drivers attach to the head's"));
        }
        let gateway = if args.gateway { Some(bind(args.host, args.client_port, "--client-port").await?) } else { None };
        let metrics = pages::bind_metrics(args).await?;
        let gateway_address = gateway.as_ref().map(|gateway| address::of(gateway, &told));
        let scope = Scope::new();
        let mut options = node_options(args, dirs, &state, Connector::tcp(&head_address), credential)?;
        (options.data, options.gateway) = (endpoint(data, &told), endpoint(gateway, &told));
        let node = Node::start(options, &scope).await.map_err(|error| {
            let needs_tls = error.code() == Code::TLS_REQUIRED;
            if needs_tls {
                error.hint("join with a token of `rwasm token join`: pass it with --join-token or RWASM_JOIN_TOKEN, or in a file with --join-token-file")
            } else {
                error
            }
        })?;
        let metrics_address = match metrics {
            Some(metrics) => Some(pages::serve_metrics(metrics, &node, args, advertised, &scope)?),
            None => None,
        };
        let ready = Ready {
            role: "node".to_owned(),
            pid: std::process::id(),
            cluster: node.cluster().to_owned(),
            node: node.id(),
            head_address,
            gateway_address,
            tls: node.for_scrapers().is_some(),
            dashboard_address: None,
            metrics_address,
            state_dir: state.dir().to_owned(),
        };
        let registration = Registration::leave(dirs, &ready, None)?;
        health::serve(&registration.socket, node.clone(), &scope);
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
                .hint(if matches!(flag, DATA_PORT | pages::DASHBOARD_FLAG | pages::METRICS_FLAG) {
                    format!("choose another with {flag}, or leave it out to take a free one")
                } else {
                    format!("choose another with {flag}, take free ones with --port 0 --client-port 0, or run `rwasm stop` if it is ours")
                })
                .with("port", port);
        }
        error
    })
}

async fn data_port(args: &StartArgs) -> Result<Option<Listener>> {
    match args.data_port {
        DataPort::None => Ok(None),
        DataPort::Port(port) => bind(args.host, port, DATA_PORT).await.map(Some),
    }
}

fn endpoint(listener: Option<Listener>, told: &str) -> Option<rwasm_node::Endpoint> {
    listener.map(|listener| rwasm_node::Endpoint { address: address::of(&listener, told), listener })
}

/// With what a node joins: a token that was given, what it has of an earlier join, or on loopback what the head left for this user.
async fn credential(args: &StartArgs, dirs: &Dirs, state: &State, head_address: &str) -> Result<Credential> {
    if let Some(token) = args.network.join_token.as_ref().filter(|token| !token.is_empty()) {
        return token.parse().map(Some).map(Credential::Join);
    }
    if let Some(file) = &args.network.join_token_file {
        // A node that has joined needs none, and the file may have another by now.
        let is_there = file.exists() || !Credential::is_kept(state.dir());
        return Ok(Credential::Join(if is_there { Some(invite::wait(file).await?) } else { None }));
    }
    if Credential::is_kept(state.dir()) || !rwasm_client::is_loopback(head_address) {
        return Ok(Credential::Join(None));
    }
    if let Some(token) = std::env::var("RWASM_NODE_TOKEN").ok().filter(|token| !token.is_empty()) {
        return Ok(Credential::Shared(token));
    }
    match Endpoint::read(&Endpoint::file(dirs))? {
        Some(Endpoint { node_token: Some(token), .. }) => Ok(Credential::Shared(token)),
        // What runs here has TLS.
        Some(Endpoint { ca: Some(_), .. }) => Ok(Credential::Join(None)),
        _ => Err(Error::new(Code::TOKEN_REFUSED, "there is no token to join with").hint(
            "set RWASM_NODE_TOKEN to the cluster's node token, which `rwasm start --head` wrote to its state directory; with TLS, join with a \
             token of `rwasm token join`",
        )),
    }
}

/// How many times the memory for objects is their part of a disk, unless told otherwise.
const SPILL_TIMES: u64 = 4;

fn spill_options(args: &StartArgs, state: &State, object_bytes: u64) -> Option<SpillOptions> {
    let below_state = || Some(SpillTo::Directory(state.dir().join("spill")));
    let to = args.storage.object_spill.clone().map_or_else(below_state, |SpillWhere(to)| to)?;
    Some(SpillOptions { to, most_bytes: args.storage.object_spill_max.unwrap_or_else(|| object_bytes.saturating_mul(SPILL_TIMES)) })
}

fn node_options(args: &StartArgs, dirs: &Dirs, state: &State, head: Connector, credential: Credential) -> Result<NodeOptions> {
    let wanted = machine::Wanted {
        cpus: args.num_cpus,
        gpus: args.num_gpus,
        memory: args.memory,
        custom: args.resources.clone().unwrap_or_default(),
    };
    let machine = rustix::system::uname();
    let capacity = machine::capacity(wanted)?;
    let object_bytes = machine::object_bytes(args.object_store_memory, capacity.memory)?;
    Ok(NodeOptions {
        object_bytes,
        spill: spill_options(args, state, object_bytes),
        name: args.name.clone().unwrap_or_else(|| Name::lossy(&machine.nodename().to_string_lossy())),
        capacity,
        labels: args.labels.iter().cloned().collect::<BTreeMap<_, _>>(),
        state_dir: state.dir().to_owned(),
        compile: compile_options(&args.engine, dirs),
        pool: pool_options(&args.engine),
        head,
        credential,
        data: None,
        gateway: None,
        embedded: false,
        offer: offer(args)?,
        storage: storage_options(&args.storage),
        retention: retention(args.history.history_age, args.history.history_bytes),
    })
}

fn retention(age: Duration, bytes: u64) -> Retention {
    Retention { age_ms: u64::try_from(age.as_millis()).unwrap_or(u64::MAX), bytes }
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

/// What guests may have here.
fn offer(args: &StartArgs) -> Result<NodeOffer> {
    let mut offer = NodeOffer { volumes: BTreeMap::new(), destinations: args.allow_net.clone() };
    for (name, volume) in &args.volume {
        if offer.volumes.insert(name.clone(), volume.clone()).is_some() {
            return Err(
                Error::new(Code::INVALID_ARGUMENT, format!("volume `{name}` is offered twice")).hint("give each --volume its own name")
            );
        }
    }
    Ok(offer)
}

impl State {
    /// What nodes join with, made at the first start.
    fn node_token(&self) -> Result<String> {
        self.once("node-token", node_token)
    }

    /// The token of the admin who starts the cluster: the one in the file, else one that is made at the first start.
    fn admin(&self, file: Option<&Path>) -> Result<UserToken> {
        if let Some(file) = file {
            let hint = "write one there: `rwu_`, 16 hexadecimal digits, `_`, and 64 more, drawn at random";
            return UserToken::parse(&token_in(file)?).map_err(|error| error.context(file.display()).hint(hint));
        }
        let text = self.once("token", || Ok(user_token()?.reveal()))?;
        UserToken::parse(&text).map_err(|error| {
            let path = self.dir().join("token");
            error.context(path.display()).hint(format!("remove {}; the next start makes another admin's token", path.display()))
        })
    }
}
