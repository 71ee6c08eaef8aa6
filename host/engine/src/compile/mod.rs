//! Compiling, where hostile code cannot hurt: in a child process with limits, through a cache on disk.
//!
//! ```text
//! bytes ─▶ Compiler::artifact ─▶ cache (disk, checked by a keyed hash) ──hit──▶ Compiled
//!                │ miss                                                          ▲
//!                └─▶ child `rwasm compile-worker` ─▶ info.json + out.cwasm ──────┘
//! ```
//!
//! Validation, adaptation and compilation cannot be stopped or capped inside a process, so none of them happens in ours.

mod cache;
mod child;
mod evict;
pub mod worker;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rwasm_types::{ArtifactDigest, Result, Tenant};
use rwasm_values::ArtifactInfo;
use tokio::sync::OnceCell;

use self::cache::Cache;

/// What a compilation may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompileLimits {
    /// Address space of the child, in bytes. Default 4 GiB.
    pub memory_bytes: u64,
    /// Wall-clock time. Default 3 minutes.
    pub time: Duration,
    /// The largest machine code that is kept, in bytes. Default 1 GiB.
    pub output_bytes: u64,
}

impl Default for CompileLimits {
    fn default() -> Self {
        Self { memory_bytes: 4 << 30, time: Duration::from_secs(180), output_bytes: 1 << 30 }
    }
}

/// How artifacts are compiled.
#[derive(Clone, Debug)]
pub struct CompileOptions {
    /// The program and its first arguments that become a compile worker: this binary and `compile-worker`.
    pub worker: Vec<PathBuf>,
    /// The cache directory; made if absent, readable by this user only.
    pub cache_dir: PathBuf,
    /// Limits of one compilation.
    pub limits: CompileLimits,
    /// Children that may run at once.
    pub workers_max: usize,
    /// Bytes that the cache keeps; beyond, entries that nothing uses make room for new ones, those that were not used for longest first.
    pub cache_bytes_max: u64,
}

impl CompileOptions {
    /// What a cache keeps where nothing else is said: 10 GiB.
    pub const CACHE_BYTES_DEFAULT: u64 = 10 << 30;
}

/// An artifact that can be loaded: what it offers and where its machine code is.
#[derive(Clone, Debug)]
pub(crate) struct Compiled {
    pub(crate) info: Arc<ArtifactInfo>,
    /// Machine code that this machine made itself, for exactly this engine.
    pub(crate) code: PathBuf,
}

/// One artifact's compiling, which all who want the artifact wait for.
type Compiling = Arc<OnceCell<Compiled>>;

/// Compiles artifacts once per tenant and digest, however many ask at once.
#[derive(Debug)]
pub(crate) struct Compiler {
    options: CompileOptions,
    cache: Cache,
    permits: tokio::sync::Semaphore,
    running: Mutex<HashMap<(Tenant, ArtifactDigest), Compiling>>,
    /// Whether something was added to the cache.
    grown: AtomicBool,
    counts: Counts,
}

/// What came of looking for compiled artifacts.
#[derive(Debug, Default)]
struct Counts {
    found: AtomicU64,
    compiled: AtomicU64,
    failed: AtomicU64,
    ns: AtomicU64,
}

/// How artifacts were made ready since the engine started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompileCounts {
    /// Found compiled on disk.
    pub found: u64,
    /// Compiled in a child.
    pub compiled: u64,
    /// Refused by the compiler, or beyond its limits.
    pub failed: u64,
    /// What the children took together, waiting for a turn left out.
    pub time: Duration,
}

impl Compiler {
    pub(crate) fn new(options: CompileOptions, compatibility: blake3::Hash) -> Result<Self> {
        let cache = Cache::open(&options.cache_dir, compatibility)?;
        Ok(Self {
            cache,
            permits: tokio::sync::Semaphore::new(options.workers_max.max(1)),
            running: Mutex::default(),
            grown: AtomicBool::new(true),
            counts: Counts::default(),
            options,
        })
    }

    /// Removes what was compiled for a tenant.
    pub(crate) fn forget_tenant(&self, tenant: &Tenant) {
        self.cache.remove_tenant(tenant);
    }

    /// The compiled form of an artifact, from the cache or a child. `bytes` are read on a miss only.
    pub(crate) async fn artifact(&self, tenant: &Tenant, digest: ArtifactDigest, bytes: &[u8]) -> Result<Compiled> {
        let running = Running::join(self, (tenant.clone(), digest));
        running.cell.get_or_try_init(|| self.artifact_once(tenant, digest, bytes)).await.cloned()
    }

    async fn artifact_once(&self, tenant: &Tenant, digest: ArtifactDigest, bytes: &[u8]) -> Result<Compiled> {
        if let Some(compiled) = self.cache.look_up(tenant, digest) {
            self.counts.found.fetch_add(1, Relaxed);
            return Ok(compiled);
        }
        let _permit = self.permits.acquire().await;
        let scratch = self.cache.scratch()?;
        let begun = Instant::now();
        let made = child::compile(&self.options, scratch.path(), bytes, child::Goal::Code).await;
        self.counts.ns.fetch_add(u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX), Relaxed);
        let compiled = made.and_then(|info| self.cache.insert(tenant, digest, info, scratch));
        if compiled.is_ok() { &self.counts.compiled } else { &self.counts.failed }.fetch_add(1, Relaxed);
        if compiled.is_ok() {
            self.grown.store(true, Relaxed);
        }
        compiled
    }

    /// How artifacts were made ready.
    pub(crate) fn counts(&self) -> CompileCounts {
        let of = |counter: &AtomicU64| counter.load(Relaxed);
        let Counts { found, compiled, failed, ns } = &self.counts;
        CompileCounts { found: of(found), compiled: of(compiled), failed: of(failed), time: Duration::from_nanos(of(ns)) }
    }

    /// Keeps the cache within its size, if it has grown since this was last called. What is in use stays.
    pub(crate) fn tidy(&self, in_use: impl FnOnce() -> Vec<(Tenant, ArtifactDigest)>) {
        if self.grown.swap(false, Relaxed) {
            self.cache.evict(self.options.cache_bytes_max, &in_use());
        }
    }

    /// Bytes of an artifact's machine code, and what belongs to it, in the cache.
    pub(crate) fn size(&self, tenant: &Tenant, digest: ArtifactDigest) -> u64 {
        self.cache.size(tenant, digest)
    }

    /// Removes an artifact from the cache; gives the bytes that it had.
    pub(crate) fn remove(&self, tenant: &Tenant, digest: ArtifactDigest) -> Result<u64> {
        self.cache.remove(tenant, digest)
    }

    /// An artifact in the cache.
    pub(crate) fn compiled(&self, tenant: &Tenant, digest: ArtifactDigest) -> Option<Compiled> {
        self.cache.look_up(tenant, digest)
    }

    /// What an artifact in the cache offers.
    pub(crate) fn known(&self, tenant: &Tenant, digest: ArtifactDigest) -> Option<Arc<ArtifactInfo>> {
        self.compiled(tenant, digest).map(|compiled| compiled.info)
    }

    /// What an artifact offers, without compiling it.
    pub(crate) async fn inspect(&self, bytes: &[u8]) -> Result<ArtifactInfo> {
        let _permit = self.permits.acquire().await;
        let scratch = self.cache.scratch()?;
        child::compile(&self.options, scratch.path(), bytes, child::Goal::Info).await
    }
}

/// One of those who wait for the same compilation. The last to leave forgets it, also where it was given up.
struct Running<'a> {
    compiler: &'a Compiler,
    key: (Tenant, ArtifactDigest),
    cell: Arc<OnceCell<Compiled>>,
}

impl<'a> Running<'a> {
    fn join(compiler: &'a Compiler, key: (Tenant, ArtifactDigest)) -> Self {
        let cell = Arc::clone(compiler.running.lock().entry(key.clone()).or_default());
        Self { compiler, key, cell }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut running = self.compiler.running.lock();
        // The map holds one and we hold one; nobody can join while the map is locked.
        if Arc::strong_count(&self.cell) == 2 {
            running.remove(&self.key);
        }
    }
}
