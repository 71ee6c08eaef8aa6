//! Runs guests. The only room that names wasmtime.
//!
//! ```text
//! bytes ─▶ compile (child process, cache) ─▶ Prepared (code mapped, imports linked) ─▶ run: Store ─▶ instance ─▶ call ─▶ Outcome
//!                                                                                       │
//!                                                        Budget: limits, cpu meter, control; looked at every epoch tick
//! ```
//!
//! An attempt gets a store and an instance of its own and leaves nothing behind. What it may use is in its [`Request`]; whatever is not
//! there, it cannot reach. Reaching a limit, trapping or being cancelled ends that attempt alone, and its instance is never entered again.

mod actor;
mod bare;
pub mod compile;
mod config;
mod edge;
mod guest;
mod limit;
mod link;
mod memory;
mod meter;
mod net;
pub mod objects;
mod output;
mod prepared;
mod raw;
mod store;
pub mod tasks;
mod ticker;
mod trap;

use std::{num::NonZeroUsize, sync::Arc};

use parking_lot::Mutex;
use rwasm_types::{ArtifactDigest, Code, Error, Result, Tenant};
use rwasm_values::{ArtifactInfo, Profile};

pub use self::{
    actor::{Actor, Created, MethodCall},
    bare::Bare,
    compile::{CompileCounts, CompileLimits, CompileOptions},
    config::{EPOCH_TICK, PoolOptions},
    meter::Control,
    net::Reserved,
    output::{Discard, Output},
    prepared::{Outcome, Prepared, Request},
    store::Identity,
};
use self::{
    compile::{Compiler, worker},
    link::{Linkers, World},
    memory::GuestMemory,
    ticker::Ticker,
};

/// Artifacts that stay mapped and linked; others are mapped again from the compile cache when they are next used.
const PREPARED_MAX: usize = 256;

/// How an engine is set up.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// How artifacts are compiled.
    pub compile: CompileOptions,
    /// How many guests can be alive.
    pub pool: PoolOptions,
    /// Memory of all guests together, in bytes. What attempts reserved is theirs; what they grow beyond that has to be free.
    pub guest_memory_bytes: u64,
    /// Addresses of the cluster, which names may not lead guests to.
    pub reserved: Arc<Reserved>,
}

/// Everything that runs guests in this process.
#[derive(Debug)]
pub struct Engine {
    compiler: Compiler,
    fast: ProfileEngine,
    asynchronous: ProfileEngine,
    prepared: Mutex<lru::LruCache<(Tenant, ArtifactDigest), Arc<Prepared>>>,
    reserved: Arc<Reserved>,
    memory: Arc<GuestMemory>,
    _ticker: Ticker,
}

/// One of the two profiles.
struct ProfileEngine {
    profile: Profile,
    engine: wasmtime::Engine,
    /// The pool it has, which may be smaller than what was asked for.
    pool: PoolOptions,
    linkers: Linkers,
}

impl std::fmt::Debug for ProfileEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProfileEngine").field("profile", &self.profile).finish_non_exhaustive()
    }
}

impl Engine {
    /// Reserves the pools, opens the compile cache and starts the ticker.
    ///
    /// # Errors
    ///
    /// [`Code::NO_CAPACITY`] if there is too little address space, [`Code::IO`] or [`Code::DISK_FULL`] if the cache cannot be used.
    pub fn new(options: EngineOptions) -> Result<Self> {
        let engine = |profile| -> Result<ProfileEngine> {
            let (engine, pool) = config::engine(profile, &options.pool)?;
            Ok(ProfileEngine { profile, engine, pool, linkers: Linkers::default() })
        };
        let fast = engine(Profile::Fast)?;
        let asynchronous = engine(Profile::Async)?;
        let ticker = Ticker::start([fast.engine.clone(), asynchronous.engine.clone()])?;
        let compiler = Compiler::new(options.compile, compatibility([&fast.engine, &asynchronous.engine]))?;
        let prepared = Mutex::new(lru::LruCache::new(NonZeroUsize::new(PREPARED_MAX).unwrap_or(NonZeroUsize::MIN)));
        let memory = Arc::new(GuestMemory::new(options.guest_memory_bytes));
        Ok(Self { compiler, fast, asynchronous, prepared, reserved: options.reserved, memory, _ticker: ticker })
    }

    /// Addresses of the cluster, which names may not lead guests to.
    pub fn reserved(&self) -> &Reserved {
        &self.reserved
    }

    /// How many guests of a profile can be alive at once.
    pub fn instances_max(&self, profile: Profile) -> u32 {
        let ProfileEngine { pool, .. } = self.of(profile);
        config::instances_max(profile, pool)
    }

    fn of(&self, profile: Profile) -> &ProfileEngine {
        match profile {
            Profile::Fast => &self.fast,
            Profile::Async => &self.asynchronous,
        }
    }

    /// An artifact, ready to run: from memory, from the compile cache, or compiled in a child process.
    ///
    /// # Errors
    ///
    /// Why it cannot be compiled, or [`Code::MISSING_IMPORTS`] if no grant could make it run.
    pub async fn prepare(&self, tenant: &Tenant, digest: ArtifactDigest, bytes: &[u8]) -> Result<Arc<Prepared>> {
        if let Some(prepared) = self.prepared.lock().get(&(tenant.clone(), digest)) {
            return Ok(Arc::clone(prepared));
        }
        let compiled = self.compiler.artifact(tenant, digest, bytes).await?;
        let linked = match self.link(digest, &compiled) {
            // It was removed between being found and being loaded, to make room or because somebody asked for that.
            Err(_) if !compiled.code.exists() => {
                let compiled = self.compiler.artifact(tenant, digest, bytes).await?;
                self.link(digest, &compiled)?
            }
            linked => linked?,
        };
        let prepared = Arc::new(linked);
        self.prepared.lock().put((tenant.clone(), digest), Arc::clone(&prepared));
        self.compiler.tidy(|| self.prepared.lock().iter().map(|(key, _)| key.clone()).collect());
        Ok(prepared)
    }

    /// Bytes that an artifact has in the compile cache; 0 if it is not there.
    pub fn code_bytes(&self, tenant: &Tenant, digest: ArtifactDigest) -> u64 {
        self.compiler.size(tenant, digest)
    }

    /// Removes an artifact from memory and from the compile cache; gives the bytes that it had there. What runs goes on.
    ///
    /// # Errors
    ///
    /// [`Code::IO`] if it cannot be removed.
    pub fn remove(&self, tenant: &Tenant, digest: ArtifactDigest) -> Result<u64> {
        self.forget(tenant, digest);
        self.compiler.remove(tenant, digest)
    }

    /// How artifacts were made ready since the engine started; those that were in memory are not counted.
    pub fn compile_counts(&self) -> CompileCounts {
        self.compiler.counts()
    }

    /// Drops an artifact from memory. What runs goes on; what comes finds it in the compile cache.
    pub fn forget(&self, tenant: &Tenant, digest: ArtifactDigest) {
        self.prepared.lock().pop(&(tenant.clone(), digest));
    }

    /// Drops all of a tenant's artifacts from memory and from the compile cache. What runs goes on.
    pub fn forget_tenant(&self, tenant: &Tenant) {
        let mut prepared = self.prepared.lock();
        let of_tenant: Vec<_> = prepared.iter().map(|(key, _)| key).filter(|(of, _)| of == tenant).cloned().collect();
        of_tenant.iter().for_each(|key| drop(prepared.pop(key)));
        drop(prepared);
        self.compiler.forget_tenant(tenant);
    }

    /// What an artifact offers, if it has been compiled here before.
    pub fn known(&self, tenant: &Tenant, digest: ArtifactDigest) -> Option<Arc<ArtifactInfo>> {
        if let Some(prepared) = self.prepared.lock().get(&(tenant.clone(), digest)) {
            return Some(Arc::clone(prepared.info()));
        }
        self.compiler.known(tenant, digest)
    }

    /// What an artifact offers, without compiling it.
    ///
    /// # Errors
    ///
    /// Why it cannot be one.
    pub async fn inspect(&self, bytes: &[u8]) -> Result<ArtifactInfo> {
        self.compiler.inspect(bytes).await
    }

    fn link(&self, digest: ArtifactDigest, compiled: &compile::Compiled) -> Result<Prepared> {
        compiled.info.check_imports()?;
        let ProfileEngine { profile, engine, pool, linkers } = self.of(compiled.info.profile);
        let component = raw::load(engine, &compiled.code).map_err(|error| not_loaded(&error))?;
        let linker = linkers.get(engine, *profile, World::of(&compiled.info))?;
        let pre = linker
            .instantiate_pre(&component)
            .map_err(|error| Error::new(Code::MISSING_IMPORTS, format!("the artifact's imports do not fit the host: {error:#}")))?;
        let fits_thread = pool.stack_bytes <= config::THREAD_STACK_BYTES;
        let (info, reserved, memory) = (Arc::clone(&compiled.info), Arc::clone(&self.reserved), Arc::clone(&self.memory));
        Prepared::new(digest, info, &component, pre, reserved, memory, fits_thread)
    }
}

/// Why machine code that we made ourselves cannot be loaded.
fn not_loaded(error: &wasmtime::Error) -> Error {
    let cause = error.root_cause().to_string();
    // The pool has no type of its own for a component that is too large for it. After the first line it tells what takes how much.
    if cause.contains("exceeds the") {
        let cause = cause.lines().next().unwrap_or_default();
        let cause = cause.trim_end_matches("; breakdown of allocation requirement:").trim_end_matches(" in the pooling allocator");
        return Error::new(Code::LIMIT, format!("the artifact is too large for an instance: {cause}")).hint("split it");
    }
    Error::new(Code::COMPILE_FAILED, format!("machine code from the cache cannot be loaded: {error:#}")).hint("remove the compile cache")
}

/// What machine code depends on beside the artifact: wasmtime's version and configuration, this machine's processor.
fn compatibility(engines: [&wasmtime::Engine; 2]) -> blake3::Hash {
    use std::hash::{Hash, Hasher};
    struct Collect(blake3::Hasher);
    impl Hasher for Collect {
        fn finish(&self) -> u64 {
            0
        }

        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
    }
    let mut collect = Collect(blake3::Hasher::new());
    engines.iter().for_each(|engine| engine.precompile_compatibility_hash().hash(&mut collect));
    collect.0.finalize()
}

/// What an artifact offers, found out without an engine.
///
/// # Errors
///
/// Why it cannot be an artifact, or that the compile cache's directory cannot be used.
pub async fn inspect(options: CompileOptions, bytes: &[u8]) -> Result<ArtifactInfo> {
    Compiler::new(options, blake3::hash(b"no machine code"))?.inspect(bytes).await
}

/// Runs a compile worker in the current directory; to be called first thing in a process made for it.
pub fn compile_worker(options: &worker::WorkerOptions) -> std::process::ExitCode {
    worker::run(options)
}
