//! What a guest's store holds: who it is, what it may use, and its WASI world where it imports one.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rwasm_types::{
    Access, Attempt, Code, Error, Grants, JobId, NodeId, ObjectId, Result, Stream, TaskId, TaskLimits, Tenant, VolumeSource,
};
use wasmtime::{Store, UpdateDeadline, component::ResourceTable};
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView, p2::pipe::MemoryInputPipe};

use crate::{
    Control, Output,
    limit::{Budget, Limiter, Span},
    memory::Share,
    meter::CpuMeter,
    net::{Net, Reserved},
    objects::{HANDLES_MAX as OBJECT_HANDLES_MAX, Handles, Object, Objects},
    output::Pipe,
    tasks::Tasks,
};

/// Who runs. A guest reads it through `rwasm:core/context`; it is no authority.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The task.
    pub task: TaskId,
    /// The job it belongs to.
    pub job: JobId,
    /// Which execution of the task this is.
    pub attempt: Attempt,
    /// The node it runs on.
    pub node: NodeId,
    /// The tenant it belongs to.
    pub tenant: Tenant,
}

impl Budget {
    pub(crate) fn new(limits: TaskLimits, memory: Share, control: Arc<Control>) -> Self {
        let span = Span { started: Instant::now(), wall: limits.wall, cpu: limits.cpu, cpu_before: Duration::ZERO };
        Self { limits, memory, span: Mutex::new(span), cpu: CpuMeter::default(), control, tripped: OnceLock::new() }
    }
}

/// The data of a guest's store.
pub(crate) struct Host {
    pub(crate) identity: Identity,
    pub(crate) budget: Arc<Budget>,
    pub(crate) limiter: Limiter,
    pub(crate) stderr: Pipe,
    /// Lines of `log` that found no room; told when one does.
    pub(crate) log_lines_dropped: u64,
    wasi: Option<Box<Wasi>>,
    /// Objects and windows, where the artifact imports them. The store drops its data before its instances, so windows end before
    /// their memory does.
    objects: Option<Box<Handles>>,
}

struct Wasi {
    ctx: WasiCtx,
    table: ResourceTable,
    net: Option<Net>,
}

/// The most handles of all kinds that a guest can hold open.
const HANDLES_MAX: usize = 10_000;

/// The most random bytes of one call.
const RANDOM_BYTES_MAX: u64 = 1 << 20;

/// What stands above the limit of a result in the bytes that one host call may move: small values and their bookkeeping.
const HOSTCALL_SLACK_BYTES: u64 = 64 << 10;

impl Host {
    /// The guest's objects. Only who imports them can ask.
    pub(crate) fn objects(&mut self) -> Result<&mut Handles> {
        self.objects.as_deref_mut().ok_or_else(no_objects)
    }

    /// The same, to look at.
    pub(crate) fn objects_ref(&self) -> Result<&Handles> {
        self.objects.as_deref().ok_or_else(no_objects)
    }

    /// The objects that the guest returned, in the order of the result's refs.
    pub(crate) fn returned(&self) -> impl Iterator<Item = ObjectId> {
        self.objects.iter().flat_map(|handles| handles.returned()).map(|object| object.id())
    }

    /// Another call begins, which has returned nothing yet.
    pub(crate) fn forget_returned(&mut self) {
        if let Some(handles) = &mut self.objects {
            handles.forget_returned();
        }
    }

    /// The same, to be kept.
    pub(crate) fn held(&self) -> Vec<Arc<dyn Object>> {
        self.objects.as_deref().map_or_else(Vec::new, |handles| handles.returned().to_vec())
    }

    pub(crate) fn net(&self) -> Option<Net> {
        self.wasi.as_ref().and_then(|wasi| wasi.net.clone())
    }
}

fn no_objects() -> Error {
    Error::internal("the guest imports no objects, and uses them")
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        // A guest without WASI imports never comes here; if one did, it would find an empty world.
        let wasi =
            self.wasi.get_or_insert_with(|| Box::new(Wasi { ctx: WasiCtxBuilder::new().build(), table: ResourceTable::new(), net: None }));
        WasiCtxView { ctx: &mut wasi.ctx, table: &mut wasi.table }
    }
}

/// Everything that a store is built from, beside the engine.
pub(crate) struct StoreOptions<'a> {
    pub(crate) identity: Identity,
    pub(crate) budget: Arc<Budget>,
    pub(crate) output: &'a Arc<dyn Output>,
    /// The grants, where the artifact imports WASI.
    pub(crate) wasi: Option<&'a Grants>,
    /// What it reaches of the cluster's objects and tasks, where the artifact imports them.
    pub(crate) objects: Option<(Arc<dyn Objects>, Arc<dyn Tasks>)>,
    /// Addresses of the cluster.
    pub(crate) reserved: &'a Arc<Reserved>,
    /// Whether a guest that computes gives way to others of its thread at each tick.
    pub(crate) yields: bool,
}

/// Builds a store whose every limit is set.
pub(crate) fn store(engine: &wasmtime::Engine, options: StoreOptions<'_>) -> Result<Store<Host>> {
    let StoreOptions { identity, budget, output, wasi, objects, reserved, yields } = options;
    let stderr = Pipe::new(output, &budget, Stream::Stderr);
    let wasi = wasi.map(|grants| world(grants, output, &budget, &stderr, reserved)).transpose()?;
    let fuel = budget.limits.result_bytes.saturating_add(HOSTCALL_SLACK_BYTES);
    let limiter = Limiter::new(&budget);
    let objects = objects.map(|(source, tasks)| Box::new(Handles::new(source, tasks)));
    let has_objects = objects.is_some();
    let mut store = Store::new(engine, Host { identity, budget, limiter, stderr, log_lines_dropped: 0, wasi, objects });
    store.limiter(|host| &mut host.limiter);
    store.set_hostcall_fuel(usize::try_from(fuel).unwrap_or(usize::MAX));
    if has_objects {
        // Each is counted twice on its way into a guest, and once more while it is lent.
        store.set_max_component_handles(3 * OBJECT_HANDLES_MAX + HANDLES_MAX);
    }
    store.set_epoch_deadline(1);
    if yields {
        store.epoch_deadline_callback(|cx| cx.data().budget.check().map(|()| UpdateDeadline::Yield(1)).map_err(Into::into));
    } else {
        store.epoch_deadline_callback(|cx| cx.data().budget.check().map(|()| UpdateDeadline::Continue(1)).map_err(Into::into));
    }
    Ok(store)
}

/// The WASI world that the grants describe; whatever is not granted is not there.
fn world(grants: &Grants, output: &Arc<dyn Output>, budget: &Arc<Budget>, stderr: &Pipe, reserved: &Arc<Reserved>) -> Result<Box<Wasi>> {
    let mut wasi = WasiCtxBuilder::new();
    wasi.stdin(MemoryInputPipe::new(grants.stdin.clone()))
        .stdout(Pipe::new(output, budget, Stream::Stdout))
        .stderr(stderr.clone())
        .max_random_size(RANDOM_BYTES_MAX)
        .arg("guest")
        .args(&grants.args)
        .envs(&grants.env);
    for volume in &grants.volumes {
        let VolumeSource::Host(path) = &volume.source else {
            return Err(Error::internal(format!("volume {:?} was not resolved by its node", volume.source)));
        };
        let permissions = match volume.access {
            Access::ReadOnly => FsPerms::ReadOnly,
            Access::ReadWrite => FsPerms::ReadWrite,
        };
        wasi.preopened_dir(path, &volume.guest_path, permissions).map_err(|error| {
            Error::new(Code::BAD_DIRECTORY, format!("cannot open {} for the guest: {error:#}", path.display())).with("path", path.display())
        })?;
    }
    let net = Net::new(&grants.net, reserved, stderr.clone());
    net.configure(&mut wasi);
    let mut table = ResourceTable::new();
    table.set_max_capacity(HANDLES_MAX);
    Ok(Box::new(Wasi { ctx: wasi.build(), table, net: Some(net) }))
}
