//! The store from outside: its promises to producers, readers and whoever is not to see anything.

#![cfg(test)]

mod life;

use rwasm_objects::{Config, Pin, Store};
use rwasm_types::{ObjectId, Result, Tenant};

/// The unit of an object's memory.
const PAGE: u64 = 4096;

fn tenant(name: &str) -> Tenant {
    Tenant::new(name).unwrap()
}

fn id(sequence: u64) -> ObjectId {
    format!("o1-1-{sequence}-0").parse().unwrap()
}

/// A store of that many pages.
fn store(pages: u64) -> Store {
    Store::open(Config::new(pages * PAGE)).unwrap()
}

/// Puts bytes as an object of no refs.
fn put(store: &Store, name: &str, sequence: u64, bytes: &[u8]) -> Result<Pin> {
    let mut writer = store.create(&tenant(name), id(sequence), bytes.len() as u64)?;
    writer.write(bytes)?;
    writer.seal([0; 32], Vec::new())
}
