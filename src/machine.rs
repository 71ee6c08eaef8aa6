//! What this machine or container has: the limits of the control group come before those of the machine.

use std::{fs, path::Path};

use rwasm_types::{Code, Error, Quantity, ResourceSet, Result, format_bytes};

use crate::args::Resources;

/// What guests get of a machine's memory unless told otherwise; the rest is for the daemon, the object store and the page cache.
const GUEST_PERCENT: u64 = 60;
/// What a daemon itself needs.
const OVERHEAD_BYTES: u64 = 96 << 20;

/// What a node is asked to give.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) cpus: Option<u32>,
    pub(crate) gpus: u32,
    pub(crate) memory: Option<u64>,
    pub(crate) custom: Resources,
}

/// What a node gives its tasks.
///
/// # Errors
///
/// [`Code::NO_CAPACITY`], with numbers, if the machine or container is too small for what is asked.
pub(crate) fn capacity(wanted: Wanted) -> Result<ResourceSet> {
    // The standard library asks the control group too.
    let cores = std::thread::available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(u32::MAX));
    let memory = memory_bytes();
    let usable = memory.saturating_sub(OVERHEAD_BYTES);
    let guests = wanted.memory.unwrap_or(usable / 100 * GUEST_PERCENT);
    if guests > usable || guests == 0 {
        let message = format!(
            "{} for guests and {} for the daemon do not fit into the {} of this machine or container",
            format_bytes(guests),
            format_bytes(OVERHEAD_BYTES),
            format_bytes(memory)
        );
        return Err(Error::new(Code::NO_CAPACITY, message).hint("lower --memory, or give the container more"));
    }
    let (cpu, gpu) = (Quantity::whole(wanted.cpus.unwrap_or(cores)), Quantity::whole(wanted.gpus));
    ResourceSet { cpu, gpu, memory: guests, custom: wanted.custom }.checked()
}

/// What objects get of a machine's memory unless told otherwise.
const OBJECT_PERCENT: u64 = 30;

/// Bytes of shared memory for a node's objects.
///
/// # Errors
///
/// [`Code::NO_CAPACITY`], with numbers, if they do not fit beside what guests have.
pub(crate) fn object_bytes(wanted: Option<u64>, guests: u64) -> Result<u64> {
    let memory = memory_bytes();
    let usable = memory.saturating_sub(OVERHEAD_BYTES);
    let bytes = wanted.unwrap_or_else(|| (usable / 100 * OBJECT_PERCENT).min(usable.saturating_sub(guests)));
    if bytes.saturating_add(guests) > usable {
        let message = format!(
            "{} for objects, {} for guests and {} for the daemon do not fit into the {} of this machine or container",
            format_bytes(bytes),
            format_bytes(guests),
            format_bytes(OVERHEAD_BYTES),
            format_bytes(memory)
        );
        return Err(Error::new(Code::NO_CAPACITY, message).hint("lower --object-store-memory or --memory, or give the container more"));
    }
    Ok(bytes)
}

/// The memory of the container, else of the machine.
fn memory_bytes() -> u64 {
    let machine = total_bytes();
    memory_limit().map_or(machine, |limit| limit.min(machine))
}

/// The memory of the machine.
pub(crate) fn total_bytes() -> u64 {
    let machine = rustix::system::sysinfo();
    machine.totalram.saturating_mul(u64::from(machine.mem_unit))
}

/// What the container may use of it, if that is limited.
pub(crate) fn memory_limit() -> Option<u64> {
    cgroup_limit(Path::new("/proc/self/cgroup"), Path::new("/sys/fs/cgroup"))
}

/// The smallest limit on the way from our control group to the root: `memory.max` of version 2, `memory.limit_in_bytes` of version 1. In a
/// container the root may be our own group, whatever path the kernel says it has.
fn cgroup_limit(membership: &Path, root: &Path) -> Option<u64> {
    let text = fs::read_to_string(membership).ok()?;
    let limits = text.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, group) = (parts.next()?, parts.next()?, parts.next()?);
        match controllers {
            "" => smallest(root, group, "memory.max"),
            controllers if controllers.split(',').any(|controller| controller == "memory") => {
                smallest(&root.join("memory"), group, "memory.limit_in_bytes")
            }
            _ => None,
        }
    });
    limits.min()
}

fn smallest(root: &Path, group: &str, file: &str) -> Option<u64> {
    let limits = Path::new(group.trim_start_matches('/')).ancestors().filter_map(|group| {
        let limit = fs::read_to_string(root.join(group).join(file)).ok()?;
        limit.trim().parse::<u64>().ok()
    });
    limits.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_limit_on_the_way_up_counts() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("membership"), "1:name=x:/y\n0::/a/b\n").unwrap();
        fs::write(root.join("a/memory.max"), "1000\n").unwrap();
        fs::write(root.join("a/b/memory.max"), "max\n").unwrap();
        assert_eq!(cgroup_limit(&root.join("membership"), root), Some(1000));
        fs::write(root.join("a/b/memory.max"), "500").unwrap();
        assert_eq!(cgroup_limit(&root.join("membership"), root), Some(500));
        assert_eq!(cgroup_limit(&root.join("absent"), root), None);
    }

    #[test]
    fn version_1_is_read_where_it_has_the_memory() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        // What a container sees: its own group as the root, and the path that the machine knows it by.
        fs::create_dir_all(root.join("memory")).unwrap();
        fs::write(root.join("membership"), "9:name=systemd:/docker/1\n4:cpu,memory:/docker/1\n0::/\n").unwrap();
        fs::write(root.join("memory/memory.limit_in_bytes"), "536870912\n").unwrap();
        assert_eq!(cgroup_limit(&root.join("membership"), root), Some(512 << 20));
        fs::create_dir_all(root.join("memory/docker/1")).unwrap();
        fs::write(root.join("memory/docker/1/memory.limit_in_bytes"), "1000\n").unwrap();
        assert_eq!(cgroup_limit(&root.join("membership"), root), Some(1000));
    }

    #[test]
    fn what_does_not_fit_is_refused_with_numbers() {
        let error = capacity(Wanted { memory: Some(u64::MAX / 2), ..Wanted::default() }).unwrap_err();
        assert_eq!(error.code(), Code::NO_CAPACITY);
        assert!(error.message().contains("8EiB") || error.message().contains("EiB"), "{error}");
        assert_eq!(capacity(Wanted { cpus: Some(3), gpus: 1, ..Wanted::default() }).unwrap().cpu, Quantity::whole(3));
    }
}
