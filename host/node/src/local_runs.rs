//! A node's dispatcher and executor without a cluster around them, so that a benchmark can tell what they cost.

use std::sync::{Arc, OnceLock, Weak};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use rwasm_engine::{Discard, Output, Prepared};
use rwasm_objects::{Config as StoreConfig, Store};
use rwasm_types::{Attempt, Error, Grants, JobId, NodeId, Priority, ResourceSet, Result, TaskId, TaskLimits, TaskOptions, Tenant};

use crate::{
    dispatch::{ClassId, Dispatcher, Places},
    executor::{Ended, Events, Executor, FromExecutor, Item, LoadedCall, Taker, Threads, ToExecutor},
    guest::Origin,
    objects::Objects,
    sessions::Sessions,
};

/// Runs tasks of one export on executor threads.
#[expect(missing_debug_implementations, reason = "nothing in it can be shown")]
pub struct LocalRuns {
    shared: Arc<Shared>,
    class: ClassId,
}

struct Shared {
    dispatcher: Mutex<Dispatcher<Item, LoadedCall>>,
    threads: OnceLock<Threads>,
    counter: Arc<Counter>,
}

/// Counts results.
#[derive(Default)]
struct Counter {
    state: Mutex<(usize, Option<Error>)>,
    changed: Condvar,
}

impl Taker for Counter {
    fn started(&self, _items: &[Item]) {}

    fn ended(&self, ended: Vec<Ended>) {
        let mut state = self.state.lock();
        state.0 += ended.len();
        if let Some(error) = ended.into_iter().find_map(|ended| ended.result.err()) {
            state.1 = Some(error);
        }
        self.changed.notify_one();
    }

    fn returned(&self, _items: &[Item]) {}

    fn lost(&self, items: Vec<Item>, error: &Error) -> Vec<Item> {
        self.ended(items.iter().map(|item| Ended::unrun(item, error.clone())).collect());
        Vec::new()
    }

    fn output(&self, _task: TaskId, _attempt: Attempt) -> Arc<dyn Output> {
        Arc::new(Discard)
    }
}

struct Listener(Weak<Shared>);

impl Events for Listener {
    fn receive(&self, message: FromExecutor) {
        let Some(shared) = self.0.upgrade() else { return };
        match message {
            FromExecutor::Ended { call, ended } => call.taker.ended(ended),
            // It is told as a lost one, and none is made anew.
            FromExecutor::Crashed { call, item, error, .. } => drop(call.taker.lost(vec![item], &error)),
            // Nothing that is measured waits for other tasks.
            FromExecutor::Blocked { .. } | FromExecutor::Resumed { .. } => {}
            FromExecutor::Finished { run, call, ended, tasks, took } => {
                call.taker.ended(ended);
                shared.dispatcher.lock().finish(run, tasks, took);
                shared.pump();
            }
        }
    }
}

impl Shared {
    fn pump(&self) {
        let mut admissions = Vec::new();
        self.dispatcher.lock().admit(&mut admissions);
        if let Some(threads) = self.threads.get() {
            for admission in admissions {
                threads.send(ToExecutor::Assign { run: admission.run, call: admission.call, items: admission.tasks });
            }
        }
    }
}

impl LocalRuns {
    /// Starts as many executor threads as are asked for.
    ///
    /// # Errors
    ///
    /// If the machine gives no more threads.
    pub fn start(prepared: Arc<Prepared>, export: usize, threads: usize) -> Result<Self> {
        let counter = Arc::<Counter>::default();
        let cpus = u32::try_from(threads).unwrap_or(1);
        let (capacity, places) = (ResourceSet::cpus(cpus), Places { fast: cpus, asynchronous: cpus });
        let profile = prepared.info().profile;
        let shared = Arc::new(Shared {
            dispatcher: Mutex::new(Dispatcher::new(capacity, places)),
            threads: OnceLock::new(),
            counter: Arc::clone(&counter),
        });
        let started = Threads::start(threads, Arc::new(Listener(Arc::downgrade(&shared))))?;
        let _ = shared.threads.set(started);
        let (sessions, artifact) = (Arc::new(Mutex::new(Sessions::passing())), prepared.digest());
        let class = {
            let mut dispatcher = shared.dispatcher.lock();
            let class = dispatcher.add_class(ResourceSet::cpus(1), Priority::default(), false);
            let call = LoadedCall {
                prepared,
                export,
                limits: TaskLimits::default(),
                memory_reserved: 0,
                grants: Arc::new(Grants::default()),
                tenant: Tenant::default(),
                job: JobId { owner: NodeId::FIRST, session: 1 },
                node: NodeId::FIRST,
                taker: counter,
                objects: Arc::new(Objects::new(NodeId::FIRST, Store::open(StoreConfig::new(0))?, sessions)?),
                origin: Arc::new(Origin {
                    root: JobId { owner: NodeId::FIRST, session: 1 },
                    artifact,
                    grants: Grants::default(),
                    options: TaskOptions::default(),
                }),
                host: Weak::new(),
                actors: Arc::default(),
                shares_core: false,
            };
            dispatcher.set_call(class, Arc::new(call), profile);
            class
        };
        Ok(Self { shared, class })
    }

    /// Runs so many tasks, each with these arguments, and waits for all of them.
    ///
    /// # Errors
    ///
    /// The error of a task that failed.
    pub fn run(&self, tasks: usize, args: &'static [u8]) -> Result<()> {
        *self.shared.counter.state.lock() = (0, None);
        let job = JobId { owner: NodeId::FIRST, session: 1 };
        let items = (0..tasks as u64).map(|sequence| Item::new(job.task(sequence), Attempt::FIRST, Bytes::from_static(args)));
        if self.shared.dispatcher.lock().enqueue(self.class, items).is_err() {
            return Err(Error::internal("the class is gone"));
        }
        self.shared.pump();
        let mut state = self.shared.counter.state.lock();
        while state.0 < tasks {
            self.shared.counter.changed.wait(&mut state);
        }
        state.1.take().map_or(Ok(()), Err)
    }
}
