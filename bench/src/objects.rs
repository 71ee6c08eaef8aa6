//! What a node's store of objects costs by itself: putting, reading, leaving the node, beside one plain copy of as many bytes.

use std::hint::black_box;

use rwasm_objects::{Config, Store};
use rwasm_types::{Error, NodeId, ObjectId, Result, TaskId, Tenant};

use crate::timing::Suite;

/// The bare limit of a large put.
pub(crate) const BARE: &str = "objects: one copy of 64 MiB into warm memory";

const LARGE: usize = 64 << 20;
const SMALL: usize = 1 << 10;
/// Two large objects, and what is kept warm.
const STORE_BYTES: u64 = 1 << 30;

pub(crate) fn rows(suite: &mut Suite<'_>) -> Result<()> {
    let (tenant, id) = (Tenant::default(), id()?);
    let store = Store::open(Config::new(STORE_BYTES))?;
    let bytes = vec![7_u8; LARGE];
    let mut warm = bytes.clone();
    suite.time(BARE, 1.0, || {
        black_box(&mut warm).copy_from_slice(black_box(&bytes));
        Ok(())
    })?;
    // The memory is warm after the first: the store hands out what came back.
    suite.time("objects: put and delete 64 MiB", 1.0, || put_and_delete(&store, &tenant, id, &bytes))?;
    suite.time("objects: put and delete 1 KiB", 1.0, || put_and_delete(&store, &tenant, id, &bytes[..SMALL]))?;
    put(&store, &tenant, id, &bytes)?;
    suite.time("objects: get", 1.0, || match store.get(&tenant, id)?.last() {
        Some(7) => Ok(()),
        other => Err(Error::internal(format!("an object ends with {other:?}"))),
    })?;
    let pin = store.get(&tenant, id)?;
    // What is sent or spilled is hashed once.
    suite.time("objects: checksum of 64 MiB", 1.0, || {
        black_box(blake3::hash(black_box(&pin)));
        Ok(())
    })
}

fn id() -> Result<ObjectId> {
    let owner = NodeId::new(1).ok_or_else(|| Error::internal("there is no node 1"))?;
    Ok(TaskId { owner, session: 1, sequence: 1 }.object(0))
}

fn put(store: &Store, tenant: &Tenant, id: ObjectId, bytes: &[u8]) -> Result<()> {
    let mut writer = store.create(tenant, id, bytes.len() as u64)?;
    writer.write(bytes)?;
    let pin = writer.seal([0; 32], Vec::new())?;
    if pin.last() == bytes.last() { Ok(()) } else { Err(Error::internal("an object is not what was written")) }
}

fn put_and_delete(store: &Store, tenant: &Tenant, id: ObjectId, bytes: &[u8]) -> Result<()> {
    put(store, tenant, id, bytes)?;
    if store.delete(id) { Ok(()) } else { Err(Error::internal("an object was put and is not there")) }
}
