//! Scoped tasks: every spawn has a name, a parent that outlives it, and a rule for what its end means.
//!
//! Nothing in rwasm calls `tokio::spawn` itself. A scope that is shut down cancels its tasks and waits for them, so no task works on
//! after its owner is gone.

use std::{future::Future, time::Duration};

use tokio::task::JoinHandle;
use tokio_util::{
    sync::{CancellationToken, WaitForCancellationFuture},
    task::TaskTracker,
};

/// What it means for the scope when a task ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnEnd {
    /// Nothing: the task was meant to end.
    Continue,
    /// The scope cannot go on without it.
    ShutDown,
}

/// A set of tasks that end together. Clones are the same scope.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    token: CancellationToken,
    tracker: TaskTracker,
}

impl Scope {
    /// A scope of its own.
    pub fn new() -> Self {
        Self::default()
    }

    /// A scope that is shut down with this one, and can be before.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { token: self.token.child_token(), tracker: TaskTracker::new() }
    }

    /// Spawns a task that is dropped at its next await when the scope shuts down.
    ///
    /// A task that panics is logged, and shuts the scope down: its state can be half changed.
    pub fn spawn<F>(&self, name: &'static str, on_end: OnEnd, task: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let scope = self.clone();
        self.tracker.spawn(async move {
            let mut bomb = Bomb { name, scope: &scope, armed: true };
            tokio::select! {
                biased;
                () = scope.token.cancelled() => {}
                () = task => {
                    if on_end == OnEnd::ShutDown && !scope.token.is_cancelled() {
                        tracing::info!(task = name, "ended, and its scope with it");
                        scope.token.cancel();
                    }
                }
            }
            bomb.armed = false;
        })
    }

    /// Waits until the scope is asked to shut down.
    pub fn cancelled(&self) -> WaitForCancellationFuture<'_> {
        self.token.cancelled()
    }

    /// Whether the scope was asked to shut down.
    pub fn is_cancelled(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Asks all tasks of this scope and its children to end.
    pub fn cancel(&self) {
        self.token.cancel();
    }

    /// Asks all tasks to end and waits for them; `false` if some had not ended within `grace`.
    pub async fn shut_down(&self, grace: Duration) -> bool {
        self.token.cancel();
        self.tracker.close();
        tokio::time::timeout(grace, self.tracker.wait()).await.is_ok()
    }
}

/// Shuts the scope down if the task it sits in unwinds.
struct Bomb<'a> {
    name: &'static str,
    scope: &'a Scope,
    armed: bool,
}

impl Drop for Bomb<'_> {
    fn drop(&mut self) {
        if self.armed && std::thread::panicking() {
            tracing::error!(task = self.name, "panicked, shutting its scope down");
            self.scope.token.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn shutting_down_ends_tasks_and_children() {
        let scope = Scope::new();
        let child = scope.child();
        scope.spawn("forever", OnEnd::Continue, std::future::pending());
        child.spawn("forever", OnEnd::Continue, std::future::pending());
        assert!(scope.shut_down(Duration::from_secs(5)).await && child.shut_down(Duration::from_secs(5)).await);
    }

    #[tokio::test]
    async fn the_end_of_a_vital_task_or_a_panic_ends_the_scope() {
        let scope = Scope::new();
        scope.spawn("short", OnEnd::Continue, async {}).await.unwrap();
        assert!(!scope.is_cancelled());
        scope.spawn("vital", OnEnd::ShutDown, async {}).await.unwrap();
        assert!(scope.is_cancelled());

        let scope = Scope::new();
        let panicked = scope.spawn("panics", OnEnd::Continue, async { panic!("on purpose") }).await;
        assert!(panicked.is_err() && scope.is_cancelled());
    }
}
