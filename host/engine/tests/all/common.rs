//! How the tests set up an engine, prepare guests and run tasks.

use std::{
    path::Path,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use parking_lot::Mutex;
use rwasm_engine::{
    CompileLimits, CompileOptions, Control, Engine, EngineOptions, Identity, Outcome, Output, PoolOptions, Prepared, Request,
    objects::{NoObjects, Objects},
    tasks::NoTasks,
};
use rwasm_types::{ArtifactDigest, Attempt, Code, Grants, JobId, NodeId, Result, Stream, TaskId, TaskLimits, Tenant};
use rwasm_values::{
    Arg, Args, Role, Value,
    codec::{self, Limits},
    wave,
};
use tempfile::TempDir;
use tokio::sync::Notify;

use crate::worker;

/// An engine with a cache of its own and room for very few guests, so that whatever is not given back is missed at once.
pub(crate) struct Lab {
    pub(crate) engine: Engine,
    pub(crate) cache: TempDir,
}

pub(crate) fn lab() -> Lab {
    lab_with(|_| {})
}

pub(crate) fn lab_with(change: impl FnOnce(&mut EngineOptions)) -> Lab {
    let cache = tempfile::tempdir().unwrap();
    let mut options = options(cache.path());
    change(&mut options);
    Lab { engine: Engine::new(options).unwrap(), cache }
}

pub(crate) fn options(cache: &Path) -> EngineOptions {
    EngineOptions {
        compile: CompileOptions {
            worker: worker::command(),
            cache_dir: cache.to_owned(),
            limits: CompileLimits::default(),
            workers_max: 2,
            cache_bytes_max: CompileOptions::CACHE_BYTES_DEFAULT,
        },
        pool: PoolOptions { instances_max: 2, async_instances_max: 2, ..PoolOptions::default() },
        guest_memory_bytes: u64::MAX,
        reserved: Arc::default(),
    }
}

/// Runs what waits on this thread.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

pub(crate) fn digest(bytes: &[u8]) -> ArtifactDigest {
    ArtifactDigest(*blake3::hash(bytes).as_bytes())
}

impl Lab {
    pub(crate) async fn try_prepare(&self, guest: &str) -> Result<Arc<Prepared>> {
        self.engine.prepare(&Tenant::default(), digest(guest.as_bytes()), guest.as_bytes()).await
    }

    pub(crate) async fn prepare(&self, guest: &str) -> Arc<Prepared> {
        self.try_prepare(guest).await.unwrap_or_else(|error| panic!("{}: {error}", error.code()))
    }
}

/// The two ways in which a guest is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// On the bare thread; only for guests that never wait.
    Thread,
    Fiber,
}

impl Way {
    /// Those in which an artifact can be run.
    pub(crate) fn of(prepared: &Prepared) -> &'static [Self] {
        if prepared.is_sync() { &[Self::Thread, Self::Fiber] } else { &[Self::Fiber] }
    }
}

/// One task, before it runs.
pub(crate) struct Task {
    prepared: Arc<Prepared>,
    request: Request,
}

impl Task {
    /// A call in WAVE, `f(1, "x")`; nothing calls the command.
    pub(crate) fn new(prepared: &Arc<Prepared>, call: &str) -> Self {
        let exports = &prepared.info().exports;
        let (export, args) = if call.is_empty() {
            (exports.iter().position(|export| export.role == Role::Command).unwrap(), Bytes::new())
        } else {
            let (name, args) = wave::parse_call(call).unwrap();
            let export = exports.iter().position(|export| export.name.func == name).unwrap_or_else(|| panic!("no export {name}"));
            let signature = &exports[export].signature;
            let args = wave::parse_args(args, signature).unwrap();
            (export, codec::encode_args(signature, &args, &Limits::default()).unwrap())
        };
        Self::of(prepared, export, args)
    }

    /// A call with one list of bytes.
    pub(crate) fn with_bytes(prepared: &Arc<Prepared>, name: &str, bytes: &[u8]) -> Self {
        let export = prepared.info().exports.iter().position(|export| export.name.func == name).unwrap();
        let args = Args { refs: Vec::new(), params: vec![Arg::Value(Value::bytes(bytes.to_vec()))] };
        let args = codec::encode_args(&prepared.info().exports[export].signature, &args, &Limits::default()).unwrap();
        Self::of(prepared, export, args)
    }

    fn of(prepared: &Arc<Prepared>, export: usize, args: Bytes) -> Self {
        let job = JobId { owner: NodeId::FIRST, session: 1 };
        let identity = Identity {
            task: TaskId { owner: job.owner, session: job.session, sequence: 0 },
            job,
            attempt: Attempt(1),
            node: NodeId::FIRST,
            tenant: Tenant::default(),
        };
        let request = Request {
            export,
            args,
            limits: TaskLimits::default(),
            memory_reserved: 0,
            grants: Arc::default(),
            objects: Arc::new(NoObjects),
            tasks: Arc::new(NoTasks),
            identity,
            output: Arc::<Collected>::default(),
            control: Arc::default(),
        };
        Self { prepared: Arc::clone(prepared), request }
    }

    pub(crate) fn limits(mut self, change: impl FnOnce(&mut TaskLimits)) -> Self {
        change(&mut self.request.limits);
        self
    }

    pub(crate) fn grants(mut self, grants: Grants) -> Self {
        self.request.grants = Arc::new(grants);
        self
    }

    pub(crate) fn objects(mut self, objects: &Arc<impl Objects>) -> Self {
        self.request.objects = Arc::clone(objects) as Arc<dyn Objects>;
        self
    }

    pub(crate) fn output(mut self, output: &Arc<Collected>) -> Self {
        self.request.output = Arc::<Collected>::clone(output);
        self
    }

    /// What the engine is asked for.
    pub(crate) fn into_request(self) -> Request {
        self.request
    }

    pub(crate) fn control(&self) -> Arc<Control> {
        Arc::clone(&self.request.control)
    }

    pub(crate) async fn run(self, way: Way) -> Ran {
        let Self { prepared, request } = self;
        let export = request.export;
        let outcome = match way {
            Way::Thread => prepared.run(request),
            Way::Fiber => Arc::clone(&prepared).run_async(request).await,
        };
        Ran { prepared, export, outcome }
    }
}

/// A task that ended.
pub(crate) struct Ran {
    prepared: Arc<Prepared>,
    export: usize,
    pub(crate) outcome: Outcome,
}

impl Ran {
    /// The result as WAVE.
    pub(crate) fn wave(&self) -> String {
        let message = self.outcome.result.as_ref().unwrap_or_else(|error| panic!("{}: {error}", error.code()));
        let ty = self.prepared.info().exports[self.export].signature.result.as_ref();
        let returned = codec::decode_result(ty, message, &Limits::default()).unwrap();
        wave::to_string(ty, &returned).unwrap()
    }

    /// What it failed with.
    pub(crate) fn code(&self) -> Option<Code> {
        self.outcome.result.as_ref().err().map(rwasm_types::Error::code)
    }

    /// The error's text, or the result's length.
    pub(crate) fn text(&self) -> String {
        match &self.outcome.result {
            Ok(message) => format!("{} bytes", message.len()),
            Err(error) => format!("{}: {error}", error.code()),
        }
    }
}

/// What a task wrote.
#[derive(Default)]
pub(crate) struct Collected {
    written: Mutex<[Vec<u8>; 2]>,
    changed: Notify,
}

impl Output for Collected {
    fn write(&self, stream: Stream, bytes: Bytes) {
        self.written.lock()[index(stream)].extend_from_slice(&bytes);
        self.changed.notify_waiters();
    }

    fn poll_room(&self, _cx: &mut Context<'_>) -> Poll<usize> {
        Poll::Ready(1 << 20)
    }
}

fn index(stream: Stream) -> usize {
    match stream {
        Stream::Stdout => 0,
        Stream::Stderr => 1,
    }
}

impl Collected {
    pub(crate) fn of(&self, stream: Stream) -> Vec<u8> {
        self.written.lock()[index(stream)].clone()
    }

    pub(crate) fn text(&self, stream: Stream) -> String {
        String::from_utf8(self.of(stream)).unwrap()
    }

    /// Waits until the task has written anything.
    pub(crate) async fn anything(&self) {
        loop {
            let changed = self.changed.notified();
            if self.written.lock().iter().any(|written| !written.is_empty()) {
                return;
            }
            changed.await;
        }
    }
}
