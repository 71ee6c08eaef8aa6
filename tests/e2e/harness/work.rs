//! Work that lasts, for tests of what happens meanwhile.

use serde_json::Value;

use super::{Cluster, eventually, guest, run::Running};

/// A map of calls that sleep, with the driver's process.
pub(crate) fn sleepers(cluster: &Cluster, milliseconds: u64, count: usize, args: &[&str]) -> Running {
    let map = cluster.rwasm(["submit", &guest("evil-wasi"), "--map", "-", "--func", "sleep-for"]).args(args);
    map.stdin(format!("[{milliseconds}]\n").repeat(count)).spawn()
}

/// The records of the tasks in a state.
pub(crate) fn tasks(cluster: &Cluster, state: &str) -> Vec<Value> {
    let listing = cluster.rwasm(["list", "tasks", "--state", state, "--json"]).run().ok().json();
    listing["rows"].as_array().unwrap().clone()
}

/// Waits until so many tasks run.
pub(crate) fn until_running(cluster: &Cluster, count: usize) -> Vec<Value> {
    eventually("so many tasks run", || Some(tasks(cluster, "running")).filter(|tasks| tasks.len() == count))
}
