//! The calls of an actor that lives on this node, in the order in which they came.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use parking_lot::Mutex;
use rwasm_engine::Control;
use rwasm_types::{Error, TaskId, TaskLimits};
use rwasm_values::{ArtifactInfo, Signature};
use tokio::sync::Notify;

use crate::executor::{Ended, Item, Taker};

/// How long a call that runs and is cancelled may go on: it can look whether it is asked to end. Then its actor is ended.
pub(crate) const CANCEL_GRACE: Duration = Duration::from_secs(2);

/// A call on its way into an actor.
pub(crate) struct Delivery {
    pub(crate) item: Item,
    /// Which of the artifact's exports.
    pub(crate) export: usize,
    pub(crate) limits: TaskLimits,
    /// Who hears how it ends.
    pub(crate) taker: Arc<dyn Taker>,
}

impl Delivery {
    /// Ends it without having run.
    pub(crate) fn refuse(self, error: Error) {
        self.taker.ended(vec![Ended::unrun(&self.item, error)]);
    }
}

/// The calls of one actor.
pub(crate) struct Mailbox {
    /// What its artifact offers.
    pub(crate) info: Arc<ArtifactInfo>,
    /// The types of its exports as callers see them, in their order.
    pub(crate) outward: Vec<Signature>,
    control: Arc<Control>,
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Default)]
struct State {
    calls: VecDeque<Delivery>,
    /// The call that runs.
    current: Option<TaskId>,
    /// Whether that call is cancelled.
    asked: bool,
    /// It ends when the calls that it has are worked off.
    retiring: bool,
    /// Why it takes none any more.
    closed: Option<Error>,
}

/// What is to be known when a call has ended.
pub(crate) struct Done {
    /// Whether another waits.
    pub(crate) more: bool,
    /// Whether whoever made the call cancelled it.
    pub(crate) cancelled: bool,
}

impl Mailbox {
    /// The mailbox of an actor that `control` ends.
    pub(crate) fn new(info: Arc<ArtifactInfo>, control: Arc<Control>) -> Arc<Self> {
        let outward = info.exports.iter().map(|export| export.outward().into_owned()).collect();
        Arc::new(Self { info, outward, control, state: Mutex::default(), wake: Notify::new() })
    }

    /// Adds calls; gives them back, and why, if it takes none any more.
    pub(crate) fn deliver(&self, calls: Vec<Delivery>) -> Result<(), (Vec<Delivery>, Error)> {
        {
            let mut state = self.state.lock();
            if let Some(error) = &state.closed {
                return Err((calls, error.clone()));
            }
            state.calls.extend(calls);
        }
        self.wake.notify_one();
        Ok(())
    }

    /// The call that is next, when it has come; `None` once it is to end.
    pub(crate) async fn next(&self) -> Option<Delivery> {
        loop {
            {
                let mut state = self.state.lock();
                if let Some(call) = state.calls.pop_front() {
                    state.current = Some(call.item.task);
                    return Some(call);
                }
                if state.retiring {
                    return None;
                }
            }
            self.wake.notified().await;
        }
    }

    /// The call that ran has ended.
    pub(crate) fn done(&self) -> Done {
        let mut state = self.state.lock();
        state.current = None;
        self.control.calm();
        Done { more: !state.calls.is_empty(), cancelled: std::mem::take(&mut state.asked) }
    }

    /// Has it end when it has worked off its calls.
    pub(crate) fn retire(&self) {
        self.state.lock().retiring = true;
        self.wake.notify_one();
    }

    /// It takes no calls any more; gives those that it had.
    pub(crate) fn close(&self, error: &Error) -> Vec<Delivery> {
        let mut state = self.state.lock();
        state.closed = Some(error.clone());
        state.current = None;
        state.calls.drain(..).collect()
    }

    /// Takes calls out that wait; of the one that runs, the guest is asked to end it. Gives what was taken out, and the call that was asked.
    pub(crate) fn cancel(&self, wanted: impl Fn(TaskId) -> bool) -> (Vec<Delivery>, Option<TaskId>) {
        let mut state = self.state.lock();
        let (cancelled, kept) = std::mem::take(&mut state.calls).into_iter().partition::<Vec<_>, _>(|call| wanted(call.item.task));
        state.calls = kept.into();
        let asked = state.current.filter(|task| wanted(*task));
        if asked.is_some() {
            state.asked = true;
            self.control.ask();
        }
        (cancelled, asked)
    }

    /// Ends the actor if a call runs still.
    pub(crate) fn end_if_at(&self, task: TaskId) {
        if self.state.lock().current == Some(task) {
            self.control.cancel();
        }
    }
}
