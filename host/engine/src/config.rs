//! The one constructor of wasmtime configurations. Whatever compiles and whatever runs goes through [`config`], so the two cannot differ.

use rwasm_types::{Code, Error, Result, TaskLimits};
use rwasm_values::Profile;
use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, WasmBacktraceDetails};

/// How often running guests are looked at: limits, cancellation and fairness are as fine as this.
pub const EPOCH_TICK: std::time::Duration = std::time::Duration::from_millis(10);

/// How large the pools of an engine are. Slots reserve address space, not memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolOptions {
    /// Guests that can be alive at once in the `fast` profile, 1 to 15,000. Each reserves 4 GiB and a guard of address space.
    pub instances_max: u32,
    /// The same for the `async` profile, 1 to 5,000.
    pub async_instances_max: u32,
    /// Bytes of stack for guest frames, 64 KiB to 16 MiB. It holds for all guests of a node.
    pub stack_bytes: usize,
}

impl Default for PoolOptions {
    fn default() -> Self {
        Self { instances_max: 12_000, async_instances_max: 1_000, stack_bytes: 1 << 20 }
    }
}

/// Host stack that a fiber needs beyond the guest's own frames: host functions run on it too.
const FIBER_HOST_STACK_BYTES: usize = 1 << 20;

/// The largest stack for guest frames with which a guest may run on a bare thread: threads have 2 MiB by default, and the host's own frames
/// need a part of that.
pub(crate) const THREAD_STACK_BYTES: usize = 1 << 20;

/// The configuration of a profile, for compiling (`pool` is `None`) and for running.
///
/// The features are those that wasmtime 48 turns on by itself, all of its first support tier, without threads.
pub(crate) fn config(profile: Profile, pool: Option<&PoolOptions>) -> Config {
    let mut config = Config::new();
    config
        .concurrency_support(profile == Profile::Async)
        .shared_memory(false)
        .epoch_interruption(true)
        .memory_init_cow(true)
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .generate_address_map(true)
        .parallel_compilation(true)
        // The pool below and the code that is compiled for it must agree on these two; they are wasmtime's defaults, said here on purpose.
        .memory_reservation(4 << 30)
        .memory_guard_size(32 << 20);
    if let Some(options) = pool {
        let stack = options.stack_bytes.clamp(64 << 10, 16 << 20);
        config
            .max_wasm_stack(stack)
            .async_stack_size(stack + FIBER_HOST_STACK_BYTES)
            .allocation_strategy(InstanceAllocationStrategy::Pooling(pooling(profile, options)));
    }
    config
}

/// Pool sizes. The totals that a guest multiplies (core instances, tables) allow several per guest on average and many for one.
fn pooling(profile: Profile, options: &PoolOptions) -> PoolingAllocationConfig {
    let count = instances_max(profile, options);
    let mut pool = PoolingAllocationConfig::default();
    pool.total_component_instances(count)
        .total_core_instances(count.saturating_mul(4))
        .total_memories(count)
        .total_tables(count.saturating_mul(2))
        .total_stacks(count)
        .total_gc_heaps(count.min(1_000))
        .max_memory_size(TaskLimits::MEMORY_BYTES_MAX as usize)
        .max_memories_per_module(16)
        .max_tables_per_module(16)
        .max_memories_per_component(64)
        .max_tables_per_component(64)
        .max_core_instances_per_component(256)
        .max_core_instance_size(1 << 20)
        .max_component_instance_size(1 << 20)
        .table_elements(TaskLimits::TABLE_ELEMENTS_MAX as usize)
        // What stays resident is cleared by memset instead of by a system call; more would cost memory for each idle slot.
        .linear_memory_keep_resident(64 << 10)
        .table_keep_resident(16 << 10)
        .async_stack_keep_resident(16 << 10)
        .max_unused_warm_slots(64);
    pool
}

/// How many guests of a profile a pool has room for.
pub(crate) fn instances_max(profile: Profile, options: &PoolOptions) -> u32 {
    match profile {
        Profile::Fast => options.instances_max.clamp(1, 15_000),
        Profile::Async => options.async_instances_max.clamp(1, 5_000),
    }
}

/// An engine for running, with smaller and smaller pools where the machine does not give that much address space; and the pools it has.
pub(crate) fn engine(profile: Profile, options: &PoolOptions) -> Result<(Engine, PoolOptions)> {
    let mut options = *options;
    loop {
        match Engine::new(&config(profile, Some(&options))) {
            Ok(engine) => return Ok((engine, options)),
            Err(error) if options.instances_max <= 16 => {
                let message = format!("the {profile:?} engine cannot reserve address space: {error:#}");
                return Err(Error::new(Code::NO_CAPACITY, message).hint("raise `ulimit -v` and vm.max_map_count"));
            }
            Err(error) => {
                options.instances_max /= 4;
                options.async_instances_max = (options.async_instances_max / 4).max(1);
                tracing::warn!(%error, instances_max = options.instances_max, ?profile, "no address space for the whole pool, trying a smaller one");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Code is compiled by an engine without a pool and run by one with it; if the two disagreed, nothing could be loaded.
    #[test]
    fn what_is_compiled_without_a_pool_runs_with_one() {
        for profile in [Profile::Fast, Profile::Async] {
            let compiler = Engine::new(&config(profile, None)).unwrap();
            let (runner, _) =
                engine(profile, &PoolOptions { instances_max: 16, async_instances_max: 16, ..PoolOptions::default() }).unwrap();
            let hash = |engine: &Engine| {
                use std::hash::{DefaultHasher, Hash, Hasher};
                let mut hasher = DefaultHasher::new();
                engine.precompile_compatibility_hash().hash(&mut hasher);
                hasher.finish()
            };
            assert_eq!(hash(&compiler), hash(&runner), "{profile:?}");
        }
    }

    /// An artifact is analysed without an engine, and must be found to fit exactly where it does.
    #[test]
    fn features_are_those_that_artifacts_are_analysed_with() {
        for profile in [Profile::Fast, Profile::Async] {
            let engine = Engine::new(&config(profile, None)).unwrap();
            let (ours, theirs) = (rwasm_artifact::features(profile), engine.get_wasm_features());
            let names = |features: wasmtime::WasmFeatures| features.iter_names().map(|(name, _)| name).collect::<Vec<_>>();
            assert_eq!(names(theirs), names(ours), "{profile:?}");
        }
    }
}
