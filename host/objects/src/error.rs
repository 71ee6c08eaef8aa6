//! The errors of this room, each with its numbers.

use rwasm_types::{Code, Error, ObjectId, Tenant, format_bytes};

/// What a store has, when something does not fit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fill {
    pub(crate) capacity_bytes: u64,
    pub(crate) used_bytes: u64,
    pub(crate) pinned_bytes: u64,
}

/// Whether an error may pass by itself, when others let go of what they hold: then [`Store::reserve`](crate::Store::reserve) takes a place
/// in the queue.
pub fn may_wait(error: &Error) -> bool {
    matches!(error.code(), Code::STORE_FULL | Code::OBJECT_QUOTA)
}

fn with_fill(error: Error, asked_bytes: u64, fill: Fill) -> Error {
    error.with("asked", asked_bytes).with("capacity", fill.capacity_bytes).with("used", fill.used_bytes).with("pinned", fill.pinned_bytes)
}

fn told(fill: Fill) -> String {
    format!(
        "{} of {} are used, {} of them held by readers",
        format_bytes(fill.used_bytes),
        format_bytes(fill.capacity_bytes),
        format_bytes(fill.pinned_bytes)
    )
}

pub(crate) fn full(asked_bytes: u64, fill: Fill) -> Error {
    let message = format!("no room for an object of {}: {}", format_bytes(asked_bytes), told(fill));
    let hint = "delete objects that are not needed, or start the node with a larger --object-store-memory";
    with_fill(Error::new(Code::STORE_FULL, message).hint(hint), asked_bytes, fill)
}

pub(crate) fn quota(tenant: &Tenant, asked_bytes: u64, fill: Fill) -> Error {
    let message = format!("no room for an object of {} among those of tenant {tenant}: {}", format_bytes(asked_bytes), told(fill));
    let hint = "delete objects that are not needed, or ask for a larger part of the store";
    with_fill(Error::new(Code::OBJECT_QUOTA, message).hint(hint), asked_bytes, fill).with("tenant", tenant)
}

pub(crate) fn too_large(asked_bytes: u64, most_bytes: u64) -> Error {
    let message = format!("an object of {} can never fit into {}", format_bytes(asked_bytes), format_bytes(most_bytes));
    let hint = "split it, or start the node with a larger --object-store-memory";
    Error::new(Code::OBJECT_TOO_LARGE, message).hint(hint).with("asked", asked_bytes).with("most", most_bytes)
}

/// The same, whether there is no such object or it is another tenant's.
pub(crate) fn absent(id: ObjectId) -> Error {
    Error::new(Code::NO_SUCH_OBJECT, format!("no object {id} is here")).with("object", id)
}

pub(crate) fn exists(id: ObjectId) -> Error {
    Error::new(Code::OBJECT_EXISTS, format!("object {id} is sealed already")).with("object", id)
}

pub(crate) fn unfinished(id: ObjectId, written_bytes: u64, size_bytes: u64) -> Error {
    let message = format!("object {id} has {size_bytes} bytes, and {written_bytes} were written");
    Error::new(Code::OBJECT_UNFINISHED, message).with("object", id).with("written", written_bytes).with("size", size_bytes)
}

pub(crate) fn kernel(errno: rustix::io::Errno) -> Error {
    let message = format!("the machine gives no shared memory: {}", std::io::Error::from(errno));
    Error::new(Code::NO_CAPACITY, message).hint("see that `ulimit -n`, `ulimit -v` and `sysctl vm.max_map_count` leave room for it")
}

pub(crate) fn thread(error: std::io::Error) -> Error {
    Error::new(Code::NO_CAPACITY, format!("no thread to make room for objects: {error}"))
        .hint("raise `ulimit -u` or the container's limit of processes")
}

pub(crate) fn spill(done: &str, error: &std::io::Error) -> Error {
    let message = format!("objects cannot be {done} disk: {error}");
    Error::new(Code::SPILL_FAILED, message).hint("see that the directory for them is there, may be written and has room")
}

pub(crate) fn damaged(id: ObjectId) -> Error {
    Error::new(Code::OBJECT_DAMAGED, format!("the bytes of object {id} are not those that were sealed")).with("object", id)
}
