//! Does what `spill` decides: writing, deleting and moving, without the lock, and the thread that does so whenever it is needed.

use std::{io, sync::Arc, thread, time::Duration};

use parking_lot::{Condvar, Mutex};
use rwasm_types::{Error, Result};

use crate::{
    error,
    pin::Sealed,
    spill::Work,
    store::{Shared, Store},
};

/// After an error the target is left alone for as long.
const RETRY: Duration = Duration::from_secs(1);

/// Tells the keeper that there is something to do.
#[derive(Default)]
pub(crate) struct Signal {
    state: Mutex<Raised>,
    changed: Condvar,
}

#[derive(Default)]
struct Raised {
    work: bool,
    stop: bool,
}

impl Signal {
    pub(crate) fn raise(&self) {
        let mut state = self.state.lock();
        if !state.work {
            state.work = true;
            self.changed.notify_all();
        }
    }

    fn stop(&self) {
        self.state.lock().stop = true;
        self.changed.notify_all();
    }

    /// Waits until there is something to do; whether there ever will be.
    fn wait(&self) -> bool {
        let mut state = self.state.lock();
        self.changed.wait_while(&mut state, |state| !state.work && !state.stop);
        state.work = false;
        !state.stop
    }

    /// Waits for a while, or until it is to stop.
    fn pause(&self) {
        let mut state = self.state.lock();
        let _ = self.changed.wait_while_for(&mut state, |state| !state.stop, RETRY);
    }
}

impl Store {
    /// Does one thing that makes room, if one is needed: writes objects to disk, deletes what is not needed there, or moves an object. Takes
    /// as long as the disk does. Whether something was done.
    ///
    /// # Errors
    ///
    /// [`Code::SPILL_FAILED`](rwasm_types::Code::SPILL_FAILED) if the disk refused; what was to be written stays in memory.
    pub fn relieve(&self) -> Result<bool> {
        let (Some(work), _) = self.shared().with_untold(|state, after| state.plan(after)) else { return Ok(false) };
        self.shared().perform(work).map(|()| true)
    }

    /// A thread that makes room whenever it is needed, until what is returned is dropped.
    ///
    /// # Errors
    ///
    /// [`Code::NO_CAPACITY`](rwasm_types::Code::NO_CAPACITY) if the machine gives no thread.
    pub fn keep(&self) -> Result<Keeper> {
        let store = self.clone();
        let thread = thread::Builder::new().name("rwasm-objects".to_owned()).spawn(move || store.keep_relieved()).map_err(error::thread)?;
        Ok(Keeper { store: self.clone(), thread: Some(thread) })
    }

    fn keep_relieved(&self) {
        let signal = self.shared().signal();
        let mut failing: Option<Error> = None;
        while signal.wait() {
            loop {
                match self.relieve() {
                    Ok(true) => failing = None,
                    Ok(false) => break,
                    Err(error) => {
                        if failing.as_ref() != Some(&error) {
                            tracing::warn!("objects stay in memory: {error}");
                        }
                        failing = Some(error);
                        signal.pause();
                        signal.raise();
                        break;
                    }
                }
            }
        }
    }
}

impl Shared {
    fn perform(&self, work: Work) -> Result<()> {
        match work {
            Work::More => {}
            Work::Delete { file, target } => {
                target.delete(file).map_err(|error| error::spill("deleted from", &error))?;
                self.with(|state, _| state.deleted(file));
            }
            Work::Write { file, parts, target } => {
                let written = write(file, &parts, &*target);
                self.with(|state, after| state.written(file, parts, written.is_ok(), after));
                written.map_err(|error| error::spill("written to", &error))?;
            }
            Work::Move { key, from, mut to } => {
                let bytes = to.extent.bytes_mut();
                let (copy, rest) = bytes.split_at_mut(from.length);
                copy.copy_from_slice(from.bytes());
                if let Some(old) = rest.get_mut(..to.dirty.saturating_sub(from.length)) {
                    old.fill(0);
                }
                let sealed = Sealed { room: to, length: from.length, meta: Arc::clone(&from.meta) };
                self.with(|state, after| state.moved(key, from, sealed, after));
            }
        }
        Ok(())
    }
}

fn write(file: u64, parts: &[(u64, Arc<Sealed>)], target: &dyn crate::SpillTarget) -> io::Result<()> {
    let bytes: Vec<&[u8]> = parts
        .iter()
        .map(|(_, sealed)| {
            // What comes back is checked against it.
            sealed.meta.sums.whole(sealed.bytes());
            sealed.bytes()
        })
        .collect();
    target.put(file, &bytes)
}

/// A thread that makes room in a store; it ends when this is dropped.
#[derive(Debug)]
pub struct Keeper {
    store: Store,
    thread: Option<thread::JoinHandle<()>>,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.store.shared().signal().stop();
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has nothing left to say.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use rwasm_types::{ObjectId, Tenant};

    use super::*;
    use crate::{Config, raw::PAGE};

    fn id(sequence: u64) -> ObjectId {
        format!("o1-1-{sequence}-0").parse().unwrap()
    }

    #[test]
    fn a_keeper_that_cannot_help_sleeps_until_something_changes() {
        let store = Store::open(Config::new(2 * PAGE as u64)).unwrap();
        let tenant = Tenant::default();
        let put = |sequence| store.create(&tenant, id(sequence), 0).unwrap().seal([0; 32], Vec::new()).unwrap();
        let (unread, read) = (put(1), put(2));
        drop(unread);
        let waiting = store.reserve(&tenant, id(3), 1).unwrap();
        let called = || std::mem::take(&mut store.shared().signal().state.lock().work);
        assert!(called(), "whoever waits calls the keeper");
        assert_eq!(store.relieve(), Ok(false));
        assert!(!called(), "it does not call itself");
        drop(read);
        assert!(called(), "but others do");
        drop(waiting);
    }
}
