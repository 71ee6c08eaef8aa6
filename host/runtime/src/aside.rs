//! Work that holds its thread up: reading and hashing large files, linking machine code.
//!
//! The few threads that serve the network must not wait for a slow disk: a node that says nothing for too long counts as lost. What may
//! take long runs [`aside`], where it can still be cancelled at each await.

use std::{
    future::{Future, poll_fn},
    pin::pin,
};

use tokio::{
    runtime::{Handle, RuntimeFlavor},
    task::block_in_place,
};

/// Runs a future whose polls may take long: meanwhile another thread serves the other tasks of this one. In a runtime that has one thread
/// on purpose, as the embedded cluster's, it is polled like any other.
pub async fn aside<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|cx| hold_up(|| future.as_mut().poll(cx))).await
}

fn hold_up<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => block_in_place(work),
        _ => work(),
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Duration};

    use super::*;
    use crate::{OnEnd, Scope};

    #[test]
    fn others_go_on_beside_work_that_holds_its_thread_up() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let (sender, receiver) = mpsc::channel();
        let (done, is_done) = mpsc::channel();
        runtime.block_on(async {
            let scope = Scope::new();
            scope.spawn("holds-up", OnEnd::Continue, async move {
                // Only the other task can end this wait, and there is one thread for both.
                let heard = aside(async move { receiver.recv_timeout(Duration::from_secs(60)) }).await;
                done.send(heard).unwrap();
            });
            scope.spawn("other", OnEnd::Continue, async move { sender.send(7).unwrap() });
        });
        assert_eq!(is_done.recv().unwrap(), Ok(7));
    }

    #[tokio::test]
    async fn on_the_only_thread_it_is_an_ordinary_future() {
        assert_eq!(aside(async { 7 }).await, 7);
    }
}
