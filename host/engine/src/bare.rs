//! wasmtime without us: the same configuration, epoch, limiter and pool, a store with nothing in it, and one typed call. What a benchmark
//! measures everything else against.

use std::sync::Arc;

use rwasm_types::{ArtifactDigest, Code, Error, Result, TaskLimits, Tenant};
use rwasm_values::Profile;
use wasmtime::{
    Store, UpdateDeadline,
    component::{ComponentExportIndex, InstancePre, Linker},
};

use crate::{
    Engine,
    limit::{Budget, Limiter},
    memory::GuestMemory,
    raw,
};

/// A no-op function of an artifact without imports.
#[expect(missing_debug_implementations, reason = "nothing in it can be shown")]
pub struct Bare {
    engine: wasmtime::Engine,
    pre: InstancePre<Limiter>,
    index: ComponentExportIndex,
    budget: Arc<Budget>,
}

impl Bare {
    /// Finds a function that takes and gives nothing in an artifact that the engine has compiled.
    ///
    /// # Errors
    ///
    /// If the artifact is not compiled, has imports, or has no such function.
    pub fn new(engine: &Engine, tenant: &Tenant, digest: ArtifactDigest, func: &str) -> Result<Self> {
        let compiled = engine.compiler.compiled(tenant, digest).ok_or_else(|| Error::new(Code::NO_SUCH_ARTIFACT, "it is not compiled"))?;
        if compiled.info.profile != Profile::Fast {
            return Err(Error::new(Code::INVALID_ARGUMENT, "only the fast profile is measured"));
        }
        let wasmtime = &engine.fast.engine;
        let load = || {
            let component = raw::load(wasmtime, &compiled.code)?;
            let pre = Linker::new(wasmtime).instantiate_pre(&component)?;
            let index = component.get_export_index(None, func).ok_or_else(|| wasmtime::Error::msg("no such function"))?;
            let memory = Arc::new(GuestMemory::new(u64::MAX));
            let budget = Arc::new(Budget::new(TaskLimits::default(), memory.share(0), Arc::default()));
            Ok(Self { engine: wasmtime.clone(), pre, index, budget })
        };
        load().map_err(failed)
    }

    fn store(&self) -> Store<Limiter> {
        let mut store = Store::new(&self.engine, Limiter::new(&self.budget));
        store.limiter(|limiter| limiter);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|_| Ok(UpdateDeadline::Continue(1)));
        store
    }

    /// A fresh instance, and one call.
    ///
    /// # Errors
    ///
    /// If wasmtime refuses.
    pub fn run(&self) -> Result<()> {
        self.calls(1)
    }

    /// A fresh instance, and so many calls.
    ///
    /// # Errors
    ///
    /// If wasmtime refuses.
    pub fn run_warm(&self, calls: u32) -> Result<()> {
        self.calls(calls)
    }

    fn calls(&self, calls: u32) -> Result<()> {
        let run = || {
            let mut store = self.store();
            let instance = self.pre.instantiate(&mut store)?;
            let func = instance.get_typed_func::<(), ()>(&mut store, self.index)?;
            (0..calls).try_for_each(|_| func.call(&mut store, ()))
        };
        run().map_err(failed)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "its only use is map_err")]
fn failed(error: wasmtime::Error) -> Error {
    Error::internal(format!("bare wasmtime failed: {error:#}"))
}
