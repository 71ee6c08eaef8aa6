//! A port that leads to another one, and can lead elsewhere from one moment to the next.

use std::{
    io,
    net::{Shutdown, TcpListener, TcpStream},
    sync::Arc,
    thread,
};

use parking_lot::Mutex;

/// A relay; it ends with the tests.
#[derive(Debug)]
pub(crate) struct Relay {
    address: String,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    to: String,
    open: Vec<TcpStream>,
}

impl Relay {
    /// Leads to an address.
    pub(crate) fn to(address: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let relay = Self {
            address: listener.local_addr().unwrap().to_string(),
            state: Arc::new(Mutex::new(State { to: address.to_owned(), open: Vec::new() })),
        };
        let state = Arc::clone(&relay.state);
        thread::spawn(move || listener.incoming().flatten().for_each(|incoming| connect(&state, &incoming)));
        relay
    }

    /// Where it is.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Leads to another address from now on; what is open breaks.
    pub(crate) fn lead_to(&self, address: &str) {
        let mut state = self.state.lock();
        address.clone_into(&mut state.to);
        for stream in state.open.drain(..) {
            // The other side may have closed it.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn connect(state: &Mutex<State>, incoming: &TcpStream) {
    let mut state = state.lock();
    let Ok(outgoing) = TcpStream::connect(&state.to) else { return };
    for (from, to) in [(incoming, &outgoing), (&outgoing, incoming)] {
        let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
        state.open.push(from.try_clone().unwrap());
        thread::spawn(move || {
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Both);
        });
    }
}
