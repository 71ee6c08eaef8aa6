//! The one thread that advances the epochs of all engines, so that running guests look at their limits.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
};

use rwasm_types::{Error, Result};

use crate::EPOCH_TICK;

/// Ticks until it is dropped.
#[derive(Debug)]
pub(crate) struct Ticker {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    pub(crate) fn start(engines: [wasmtime::Engine; 2]) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let thread = thread::Builder::new()
            .name("epoch-ticker".to_owned())
            .spawn({
                let stop = Arc::clone(&stop);
                move || {
                    while !stop.load(Relaxed) {
                        thread::park_timeout(EPOCH_TICK);
                        engines.iter().for_each(wasmtime::Engine::increment_epoch);
                    }
                }
            })
            .map_err(|error| Error::internal(format!("the epoch ticker does not start: {error}")))?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A ticker cannot panic; if it did, there would be nothing left to end.
            let _ = thread.join();
        }
    }
}
