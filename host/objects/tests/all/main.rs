//! The store from outside: its promises to producers, readers and whoever is not to see anything.

#![cfg(test)]

mod life;
mod model;
mod receive;
mod spill;
mod waiting;

use std::{collections::HashMap, fs::File, io, os::unix::fs::FileExt, sync::Arc};

use parking_lot::Mutex;
use rwasm_objects::{Config, Pin, Spill, SpillTarget, Store};
use rwasm_types::{Code, Error, ObjectId, Result, Tenant};

/// The unit of an object's memory.
const PAGE: u64 = 4096;

fn tenant(name: &str) -> Tenant {
    Tenant::new(name).unwrap()
}

fn id(sequence: u64) -> ObjectId {
    format!("o1-1-{sequence}-0").parse().unwrap()
}

fn code<T: std::fmt::Debug>(result: Result<T, Error>) -> Code {
    result.unwrap_err().code()
}

/// A store of that many pages.
fn store(pages: u64) -> Store {
    Store::open(Config::new(pages * PAGE)).unwrap()
}

/// Bytes that differ from one object to the next, and from place to place.
fn bytes(sequence: u64, size: u64) -> Vec<u8> {
    (0..size).map(|at| (at / 3 + sequence * 7) as u8).collect()
}

/// Puts bytes as an object of no refs.
fn put(store: &Store, name: &str, sequence: u64, bytes: &[u8]) -> Result<Pin> {
    let mut writer = store.create(&tenant(name), id(sequence), bytes.len() as u64)?;
    writer.write(bytes)?;
    writer.seal([0; 32], Vec::new())
}

/// The pages of an object as another process sees them.
fn pages(pin: &Pin) -> Vec<u8> {
    let region = pin.region();
    let file = File::from(region.file.try_clone_to_owned().unwrap());
    let mut bytes = vec![1; (region.length.div_ceil(PAGE).max(1) * PAGE) as usize];
    file.read_exact_at(&mut bytes, region.offset).unwrap();
    bytes
}

/// Files in memory, with the faults of a disk.
#[derive(Debug, Default)]
struct Shelf {
    files: Mutex<HashMap<u64, Vec<u8>>>,
    /// Every write fails.
    full: Mutex<bool>,
    /// Every read fails.
    unreadable: Mutex<bool>,
}

impl Shelf {
    fn spill(self: &Arc<Self>, most_bytes: u64) -> Spill {
        Spill { target: Arc::<Self>::clone(self), most_bytes, threshold_percent: Spill::THRESHOLD_PERCENT }
    }

    /// A store of that many pages that spills here.
    fn store(self: &Arc<Self>, pages: u64, most_bytes: u64) -> Store {
        Store::open(Config { spill: Some(self.spill(most_bytes)), ..Config::new(pages * PAGE) }).unwrap()
    }

    fn count(&self) -> usize {
        self.files.lock().len()
    }
}

impl SpillTarget for Shelf {
    fn put(&self, file: u64, parts: &[&[u8]]) -> io::Result<()> {
        if *self.full.lock() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let old = self.files.lock().insert(file, parts.concat());
        assert!(old.is_none(), "a file is written once");
        Ok(())
    }

    fn get(&self, file: u64, offset: u64, into: &mut [u8]) -> io::Result<()> {
        if *self.unreadable.lock() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let files = self.files.lock();
        let bytes = files.get(&file).and_then(|file| file.get(offset as usize..)?.get(..into.len()));
        into.copy_from_slice(bytes.ok_or(io::ErrorKind::NotFound)?);
        Ok(())
    }

    fn delete(&self, file: u64) -> io::Result<()> {
        self.files.lock().remove(&file).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}
