//! A cluster of real processes on free ports of loopback, gone when the test is.

use std::{ffi::OsStr, thread};

use rustix::process::Signal;
use serde_json::Value;

use super::{
    Home, eventually,
    process::{self, Process},
    run::Run,
};

/// A daemon, as `rwasm start --json` introduced it.
#[derive(Clone, Debug)]
pub(crate) struct Daemon {
    pub(crate) process: Process,
    /// Everything that `start` said.
    pub(crate) ready: Value,
}

impl Daemon {
    pub(crate) fn read(ready: Value) -> Self {
        let pid = ready["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).unwrap_or_else(|| panic!("no process: {ready}"));
        let process = Process::of(pid).unwrap_or_else(|| panic!("a daemon that says that it is ready does not run: {ready}"));
        Self { process, ready }
    }

    /// Kills it as a power cut does, and waits until it is gone.
    pub(crate) fn kill(&self) {
        self.process.signal(Signal::KILL);
        self.gone();
    }

    /// Waits until it is gone.
    pub(crate) fn gone(&self) {
        eventually("a daemon is gone", || (!self.process.runs()).then_some(()));
    }
}

fn text(ready: &Value, field: &str) -> String {
    ready[field].as_str().unwrap_or_else(|| panic!("no {field}: {ready}")).to_owned()
}

/// How a cluster is made.
#[derive(Clone, Debug)]
#[must_use = "nothing runs before `start`"]
pub(crate) struct Builder {
    nodes: usize,
    cpus: u32,
    args: Vec<String>,
    /// A variable of the head's first life.
    env: Option<(&'static str, String)>,
    own_cache: bool,
}

impl Builder {
    /// So many nodes beside the one that runs with the head.
    pub(crate) fn nodes(mut self, nodes: usize) -> Self {
        self.nodes = nodes;
        self
    }

    /// So many cores on each node; 2 without this, whatever the machine has.
    pub(crate) fn cpus(mut self, cpus: u32) -> Self {
        self.cpus = cpus;
        self
    }

    /// Further arguments of `start`, for every daemon.
    pub(crate) fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|arg| (*arg).to_owned()));
        self
    }

    /// A variable of the head's first life.
    pub(crate) fn env(mut self, name: &'static str, value: &str) -> Self {
        self.env = Some((name, value.to_owned()));
        self
    }

    /// Nothing that other tests compiled.
    pub(crate) fn own_cache(mut self) -> Self {
        self.own_cache = true;
        self
    }

    /// Starts it, and waits until all of it takes work.
    pub(crate) fn start(self) -> Cluster {
        let home = if self.own_cache { Home::with_own_cache() } else { Home::new() };
        let cpus = self.cpus.to_string();
        let ports = ["--port", "0", "--client-port", "0", "--dashboard-port", "0"];
        let head = home.rwasm(["start", "--head", "--num-cpus", &cpus, "--json"]).args(ports).args(&self.args);
        let head = self.env.iter().fold(head, |head, (name, value)| head.env(name, value));
        let head = Daemon::read(head.run().ok().json());
        let mut cluster = Cluster { home, head, nodes: Vec::new(), builder: self.clone() };
        for _ in 0..self.nodes {
            cluster.add_node();
        }
        cluster
    }
}

/// A running cluster.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) home: Home,
    /// The head, with its node and gateway.
    pub(crate) head: Daemon,
    /// The other nodes, in the order in which they joined.
    pub(crate) nodes: Vec<Daemon>,
    builder: Builder,
}

impl Cluster {
    /// A head with its node, and so many further nodes.
    pub(crate) fn start(nodes: usize) -> Self {
        Self::build().nodes(nodes).start()
    }

    /// A cluster of another shape.
    pub(crate) fn build() -> Builder {
        Builder { nodes: 0, cpus: 2, args: Vec::new(), env: None, own_cache: false }
    }

    /// The head starts again where it was, after its end.
    pub(crate) fn start_head_again(&mut self) -> &Daemon {
        self.head = Daemon::read(self.head_again().run().ok().json());
        &self.head
    }

    /// The same, and it is killed at a named point: before it takes work, or later. Waits until it is gone.
    pub(crate) fn start_head_to_die(&mut self, point: &str) {
        let started = self.head_again().env("RWASM_FAULT_POINT", point).run();
        if started.code() == 0 {
            self.head = Daemon::read(started.json());
            self.head.gone();
        }
    }

    fn head_again(&self) -> Run<'_> {
        let port = |address: String| address.rsplit_once(':').expect("an address has a port").1.to_owned();
        let (head, gateway, cpus) = (port(self.head_address()), port(self.gateway()), self.builder.cpus.to_string());
        let start = self.home.rwasm(["start", "--head", "--port", &head, "--client-port", &gateway, "--num-cpus", &cpus, "--json"]);
        start.args(&self.builder.args)
    }

    /// One more node joins.
    pub(crate) fn add_node(&mut self) -> &Daemon {
        self.add_node_with(&[])
    }

    /// One more node joins, with further arguments.
    pub(crate) fn add_node_with(&mut self, args: &[&str]) -> &Daemon {
        let (address, cpus) = (self.head_address(), self.builder.cpus.to_string());
        let node = self.home.rwasm(["start", "--address", &address, "--num-cpus", &cpus, "--json"]).args(&self.builder.args).args(args);
        let ready = node.run().ok().json();
        self.nodes.push(Daemon::read(ready));
        self.nodes.last().expect("just pushed")
    }

    /// One more node joins that has a gateway, and gives its address. It is killed at a named point, if there is one.
    pub(crate) fn add_gateway(&mut self, point: Option<&str>) -> String {
        let (address, cpus) = (self.head_address(), self.builder.cpus.to_string());
        let start = ["start", "--address", &address, "--num-cpus", &cpus, "--json", "--gateway", "--client-port", "0"];
        let node = self.home.rwasm(start).args(&self.builder.args);
        let node = point.iter().fold(node, |node, point| node.env("RWASM_FAULT_POINT", point));
        let node = Daemon::read(node.run().ok().json());
        let gateway = text(&node.ready, "gateway_address");
        self.nodes.push(node);
        gateway
    }

    /// `rwasm ARGS…` of the user who started the cluster, which finds it by the endpoint file.
    pub(crate) fn rwasm(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Run<'_> {
        self.home.rwasm(args)
    }

    /// Where nodes join.
    pub(crate) fn head_address(&self) -> String {
        text(&self.head.ready, "head_address")
    }

    /// Where drivers attach.
    pub(crate) fn gateway(&self) -> String {
        text(&self.head.ready, "gateway_address")
    }

    /// The token of its first admin.
    pub(crate) fn token(&self) -> String {
        let path = format!("{}/token", text(&self.head.ready, "state_dir"));
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}")).trim().to_owned()
    }

    /// All daemons: the head first.
    pub(crate) fn daemons(&self) -> impl Iterator<Item = &Daemon> {
        std::iter::once(&self.head).chain(&self.nodes)
    }

    /// Everything that runs for it: the daemons, and what they started.
    pub(crate) fn processes(&self) -> Vec<Process> {
        let leaders: Vec<u32> = self.daemons().map(|daemon| daemon.process.pid).collect();
        process::in_sessions(&leaders)
    }

    /// What the daemons logged, for messages.
    pub(crate) fn logs(&self) -> String {
        let logs = ["head.log", "node.log"].map(|name| self.home.state().join(name));
        logs.map(|path| format!("--- {}\n{}", path.display(), std::fs::read_to_string(&path).unwrap_or_default())).join("\n")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let failed = thread::panicking();
        if failed {
            // Whoever reads of a failed test wants to know this too.
            eprintln!("{}", self.logs());
        }
        let left = self.processes();
        let daemons: Vec<Process> = self.daemons().map(|daemon| daemon.process).collect();
        for process in left.iter().chain(&daemons) {
            process.signal(if failed || !daemons.contains(process) { Signal::KILL } else { Signal::TERM });
        }
        let all = || left.iter().chain(&daemons).all(|process| !process.runs()).then_some(());
        let gone = super::within(super::DEADLINE, all);
        if gone.is_none() {
            left.iter().chain(&daemons).for_each(|process| process.signal(Signal::KILL));
            assert!(failed, "daemons do not end when they are asked to\n{}", self.logs());
        }
    }
}
