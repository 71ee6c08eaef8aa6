//! Draining: a node that takes no more work, lets what runs go on for a while, and then gives it back.
//!
//! ```text
//! order of the head ──▶ drain ──▶ dispatcher admits nothing; tasks of other owners that wait go back to them
//!                         │
//!                         └─ deadline ─▶ runs are ended; their tasks are their owners' again, as lost attempts
//! ```
//!
//! What this node owns stays here: its own waiting tasks go to other nodes by leases, and its gateway goes on.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use rwasm_types::{Code, Error, NodeId};
use tokio::{sync::watch, time::Instant};

use crate::node::Shared;

/// How often is looked for runs that have not ended after the deadline.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// The field of an error that says that the attempt had not begun, so that it counts for nothing.
const NOT_BEGUN: &str = "not-begun";

/// Whether the node is drained.
pub(crate) struct Draining {
    /// When what still runs is ended.
    deadline: watch::Sender<Option<Instant>>,
    /// Whether the daemon is about to end, so that no order has it take work again.
    leaving: AtomicBool,
}

impl Default for Draining {
    fn default() -> Self {
        Self { deadline: watch::Sender::new(None), leaving: AtomicBool::new(false) }
    }
}

impl Draining {
    /// Told when draining begins or ends.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Option<Instant>> {
        self.deadline.subscribe()
    }

    /// Whether the node takes no more work.
    pub(crate) fn is_on(&self) -> bool {
        self.deadline.borrow().is_some()
    }

    /// Whether what still runs is to be ended.
    fn is_over(&self) -> bool {
        self.deadline.borrow().is_some_and(|deadline| deadline <= Instant::now())
    }

    /// Whether it is about to leave.
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Relaxed)
    }
}

impl Shared {
    /// Takes no more work; what runs is ended after `within`.
    pub(crate) fn drain(&self, within: Duration) {
        self.dispatcher.lock().set_draining(true);
        self.draining.deadline.send_replace(Some(Instant::now() + within));
        // What waits here is for other nodes now.
        self.surplus.notify_one();
    }

    /// Takes work again.
    pub(crate) fn undrain(&self) {
        if self.draining.is_leaving() {
            return;
        }
        self.draining.deadline.send_replace(None);
        self.dispatcher.lock().set_draining(false);
        self.pump();
    }

    /// Drains because the daemon is about to end, and waits until nothing runs or the time is over.
    pub(crate) async fn leave(&self, within: Duration) {
        self.draining.leaving.store(true, Relaxed);
        self.drain(within);
        self.head.report_now(self);
        let over = Instant::now() + within;
        while self.dispatcher.lock().running() > 0 && Instant::now() < over {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.ship_the_last().await;
    }

    /// Ends what still runs at the deadline, for as long as the node runs.
    pub(crate) async fn watch_drain(self: Arc<Self>) {
        let mut changed = self.draining.subscribe();
        loop {
            let deadline = *changed.borrow_and_update();
            let over = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                outcome = changed.changed() => if outcome.is_err() { return },
                () = over => {
                    // A run that was given out just before is not with the executor yet, so one look may not be enough.
                    while self.end_runs() {
                        tokio::time::sleep(LOOK_AGAIN).await;
                    }
                    if changed.changed().await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// Ends all runs; their tasks are their owners' again. Says whether any still hold slots.
    fn end_runs(&self) -> bool {
        // Meanwhile it may be taken back, or given more time.
        if !self.draining.is_over() {
            return false;
        }
        let runs = self.dispatcher.lock().runs();
        let left = !runs.is_empty();
        let error = drained(self.id);
        let mut ended = 0;
        for (run, class) in runs {
            let Some((call, items)) = self.executor().and_then(|executor| executor.take_run(run)) else { continue };
            ended += items.len();
            let again = call.taker.lost(items, &error);
            // A class that is gone has ended its tasks.
            let _ = self.dispatcher.lock().put_back(class, again);
        }
        if ended > 0 {
            tracing::warn!(attempts = ended, "attempts that still ran were ended: the node is drained");
            self.surplus.notify_one();
        }
        left
    }
}

/// The error of an attempt that a drained node ended.
fn drained(node: NodeId) -> Error {
    Error::new(Code::NODE_DRAINED, format!("node {node} was drained before the task ended")).with("node", node)
}

/// The error of an attempt that a draining node gives back as it came.
pub(crate) fn given_back(node: NodeId) -> Error {
    Error::new(Code::NODE_DRAINED, format!("node {node} takes no more work")).with("node", node).with(NOT_BEGUN, true)
}

/// The error of an attempt that a node lets go before it began, because its owner is away.
pub(crate) fn let_go(node: NodeId) -> Error {
    Error::new(Code::OWNER_AWAY, format!("node {node} lost the connection to the task's owner")).with("node", node).with(NOT_BEGUN, true)
}

/// Whether an attempt's end says that its node gave it back, and is no end of the task.
pub(crate) fn is_given_back(error: &Error) -> bool {
    [Code::NODE_DRAINED, Code::OWNER_AWAY].contains(&error.code())
}

/// Whether an attempt that its node gave back had begun.
pub(crate) fn had_begun(error: &Error) -> bool {
    error.field(NOT_BEGUN).is_none()
}
