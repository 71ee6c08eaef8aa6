//! The embedded cluster: a head and a node in this process, for one command. The same code as a real one, over pipes in memory.

use std::{
    fs::{self, File},
    path::PathBuf,
    sync::Arc,
    thread,
    time::Duration,
};

use rwasm_client::Client;
use rwasm_engine::{CompileLimits, CompileOptions, PoolOptions};
use rwasm_head::{Head, HeadOptions};
use rwasm_journal::Journal;
use rwasm_node::{Credential, Endpoint, Node, NodeOffer, NodeOptions, Retention, StorageOptions};
use rwasm_runtime::{Dirs, NEW_PREFIX, Scope, create_private_dir};
use rwasm_types::{Code, Error, Name, Result, UserToken};
use rwasm_wire::{Listener, duplex};
use tempfile::TempDir;

use crate::{args::EngineArgs, machine};

/// Guests of an embedded cluster: as many as one command can use, and little address space.
const INSTANCES: u32 = 1_200;
/// What directories of embedded clusters are called.
const EMBEDDED_PREFIX: &str = "embedded-";
/// How long what still runs may take to end.
const SHUT_DOWN: Duration = Duration::from_secs(5);
/// How often, and with what pause, the directory is removed again while a thread that ends puts something there.
const REMOVALS: u32 = 100;
const REMOVAL_PAUSE: Duration = Duration::from_millis(5);

/// A running embedded cluster.
pub(crate) struct Embedded {
    scope: Scope,
    /// Removed with the cluster, or by a later one if this process is killed.
    state: TempDir,
    _in_use: File,
    _head: Arc<Head>,
}

impl Embedded {
    /// Starts head and node, and connects to them.
    pub(crate) async fn start(engine: &EngineArgs) -> Result<(Self, Client)> {
        let dirs = Dirs::from_env();
        let io = |error: std::io::Error| Error::new(Code::IO, format!("cannot make a directory for the embedded cluster: {error}"));
        create_private_dir(&dirs.runtime).map_err(io)?;
        clear_up(&dirs);
        let state = tempfile::Builder::new().prefix(EMBEDDED_PREFIX).tempdir_in(&dirs.runtime).map_err(io)?;
        let in_use = rwasm_runtime::in_use(state.path()).map_err(io)?;
        let scope = Scope::new();
        let (token, admin) = (node_token()?, user_token()?);
        let (to_head, head_listener) = duplex();
        let (to_gateway, gateway_listener) = duplex();
        let listener = Listener::memory(head_listener);
        let options = HeadOptions {
            journal: Journal::in_memory()?,
            history: None,
            token: token.clone(),
            admin: admin.clone(),
            issuer: None,
            listener,
        };
        let head = Head::start(options, &scope).await?;
        let mut pool = pool_options(engine);
        pool.instances_max = pool.instances_max.min(engine.instances.unwrap_or(INSTANCES));
        pool.async_instances_max = pool.async_instances_max.min(100);
        let capacity = machine::capacity(machine::Wanted::default())?;
        Node::start(
            NodeOptions {
                name: Name::lossy("embedded"),
                object_bytes: machine::object_bytes(None, capacity.memory)?,
                spill: None,
                capacity,
                labels: std::collections::BTreeMap::new(),
                state_dir: state.path().to_owned(),
                compile: compile_options(engine, &dirs),
                pool,
                head: to_head.into(),
                credential: Credential::Shared(token),
                data: None,
                gateway: Some(Endpoint { listener: Listener::memory(gateway_listener), address: String::new() }),
                embedded: true,
                offer: NodeOffer::default(),
                storage: StorageOptions::default(),
                // All of it goes with the command.
                retention: Retention { age_ms: u64::MAX, bytes: u64::MAX },
            },
            &scope,
        )
        .await?;
        let client = Client::connect_by(&to_gateway.into(), &admin.reveal(), None).await?;
        Ok((Self { scope, state, _in_use: in_use, _head: Arc::new(head) }, client))
    }

    /// Ends it.
    pub(crate) async fn stop(self) {
        self.scope.shut_down(SHUT_DOWN).await;
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.scope.cancel();
        for _ in 0..REMOVALS {
            // What cannot be removed is seen by the next look.
            let _ = fs::remove_dir_all(self.state.path());
            if !self.state.path().exists() {
                return;
            }
            thread::sleep(REMOVAL_PAUSE);
        }
        tracing::warn!(path = %self.state.path().display(), "the embedded cluster's directory cannot be removed");
    }
}

/// Removes what killed processes of this user left in the runtime directory.
pub(crate) fn clear_up(dirs: &Dirs) {
    let left = rwasm_runtime::remove_leftovers(&dirs.runtime, |name| name.starts_with(EMBEDDED_PREFIX) || name.starts_with(NEW_PREFIX));
    if left > 0 {
        tracing::info!(left, "what killed processes had left is removed");
    }
}

/// Bytes that nobody guesses.
pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    rwasm_runtime::random_bytes().map_err(|error| Error::internal(format!("no random numbers: {error}")))
}

/// A user's token that nobody guesses.
pub(crate) fn user_token() -> Result<UserToken> {
    Ok(UserToken::from_random(random()?, random()?))
}

/// What nodes of a cluster show each other; nobody guesses it either.
pub(crate) fn node_token() -> Result<String> {
    Ok(format!("rwn_{}", blake3::Hash::from_bytes(random()?).to_hex()))
}

/// How this process compiles artifacts: in children of this very program.
pub(crate) fn compile_options(engine: &EngineArgs, dirs: &Dirs) -> CompileOptions {
    let default = CompileLimits::default();
    CompileOptions {
        // Not by its path: there may be another version by the time that something is compiled.
        worker: vec![PathBuf::from("/proc/self/exe"), PathBuf::from("compile-worker")],
        cache_dir: dirs.cache.join("compiled"),
        limits: CompileLimits {
            memory_bytes: engine.compile_memory.unwrap_or(default.memory_bytes),
            time: engine.compile_timeout.unwrap_or(default.time),
            ..default
        },
        workers_max: 2,
        cache_bytes_max: engine.compile_cache.unwrap_or(CompileOptions::CACHE_BYTES_DEFAULT),
    }
}

/// How many guests this process can hold.
pub(crate) fn pool_options(engine: &EngineArgs) -> PoolOptions {
    let default = PoolOptions::default();
    PoolOptions {
        instances_max: engine.instances.unwrap_or(default.instances_max),
        stack_bytes: engine.stack.map_or(default.stack_bytes, |stack| usize::try_from(stack).unwrap_or(usize::MAX)),
        ..default
    }
}
