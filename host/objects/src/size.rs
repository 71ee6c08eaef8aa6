//! How much memory a store gets: what was asked for, or a part of what the container or the machine has.

use std::{fs, path::Path};

use rwasm_types::{Code, Error, Result, format_bytes};

/// What a store gets of the memory unless told otherwise.
pub const DEFAULT_PERCENT: u64 = 30;

/// What a process may use of its machine's memory, as it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Bytes of the machine.
    pub machine_bytes: u64,
    /// The smallest limit of the control groups that the process is in.
    pub group_bytes: Option<u64>,
}

impl Memory {
    /// What this machine and the control groups of this process say.
    pub fn here() -> Self {
        let machine = rustix::system::sysinfo();
        let machine_bytes = machine.totalram.saturating_mul(u64::from(machine.mem_unit));
        let membership = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let read = |path: &str| fs::read_to_string(Path::new("/sys/fs/cgroup").join(path)).ok();
        Self { machine_bytes, group_bytes: group_limit(&membership, read) }
    }

    /// The bytes that may be used.
    pub fn bytes(self) -> u64 {
        self.group_bytes.map_or(self.machine_bytes, |group| group.min(self.machine_bytes))
    }

    /// The bytes of a store: those that were asked for, or [`DEFAULT_PERCENT`] of the memory.
    ///
    /// # Errors
    ///
    /// [`Code::NO_CAPACITY`], with numbers, if what was asked for is more than there is.
    pub fn store_bytes(self, asked: Option<u64>) -> Result<u64> {
        let all = self.bytes();
        match asked {
            None => Ok(all / 100 * DEFAULT_PERCENT),
            Some(asked) if asked <= all => Ok(asked),
            Some(asked) => {
                let (asked, all) = (format_bytes(asked), format_bytes(all));
                let whose = if self.bytes() < self.machine_bytes { "container" } else { "machine" };
                let message = format!("{asked} for objects do not fit into the {all} of this {whose}");
                Err(Error::new(Code::NO_CAPACITY, message).hint("lower --object-store-memory, or give the container more"))
            }
        }
    }
}

/// The smallest limit on the way from a process' control group to the root. `membership` is what `/proc/self/cgroup` says, `read` reads a
/// file by its path below the root of the groups.
///
/// Version 2 counts where it has limits; version 1 keeps those of memory in a tree of its own.
pub fn group_limit(membership: &str, read: impl Fn(&str) -> Option<String>) -> Option<u64> {
    // A number that is no limit: version 1 writes the largest multiple of a page instead of `max`.
    const NONE: u64 = 1 << 62;
    let smallest = |group: &str, dir: &str, file: &str| {
        let groups = Path::new(group.trim_start_matches('/')).ancestors();
        let limits = groups.filter_map(|group| read(Path::new(dir).join(group).join(file).to_str()?)?.trim().parse::<u64>().ok());
        limits.filter(|limit| *limit < NONE).min()
    };
    let own = |controller: &str| {
        membership.lines().find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, group) = rest.split_once(':')?;
            controllers.split(',').any(|name| name == controller).then_some(group)
        })
    };
    let second = own("").and_then(|group| smallest(group, "", "memory.max"));
    second.or_else(|| own("memory").and_then(|group| smallest(group, "memory", "memory.limit_in_bytes")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_control_groups() {
        const V1: &str = "12:cpu,cpuacct:/x\n11:memory:/docker/abc\n1:name=systemd:/x\n";
        type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], Option<u64>);
        let rows: &[Row<'_>] = &[
            ("0::/a/b\n", &[("a/b/memory.max", "max\n"), ("a/memory.max", "1000\n")], Some(1_000)),
            ("0::/a/b\n", &[("a/b/memory.max", "500\n"), ("a/memory.max", "1000\n")], Some(500)),
            ("0::/\n", &[("memory.max", "7\n")], Some(7)),
            ("0::/a\n", &[("a/memory.max", "max\n")], None),
            ("0::/../a\n", &[], None),
            (
                V1,
                &[("memory/docker/abc/memory.limit_in_bytes", "9223372036854771712\n"), ("memory/memory.limit_in_bytes", "64\n")],
                Some(64),
            ),
            (V1, &[("memory/docker/abc/memory.limit_in_bytes", "9223372036854771712\n")], None),
            ("0::/x\n11:memory:/m\n", &[("x/memory.max", "max"), ("memory/m/memory.limit_in_bytes", "32")], Some(32)),
            ("0::/x\n11:memory:/m\n", &[("x/memory.max", "16"), ("memory/m/memory.limit_in_bytes", "32")], Some(16)),
            ("", &[], None),
            ("nonsense\n0:\n", &[("memory.max", "1")], None),
        ];
        for (membership, files, expected) in rows {
            let read = |path: &str| files.iter().find(|(name, _)| *name == path).map(|(_, text)| (*text).to_owned());
            assert_eq!(group_limit(membership, read), *expected, "{membership:?} {files:?}");
        }
    }

    #[test]
    fn a_store_gets_what_was_asked_for_or_its_part() {
        let machine = Memory { machine_bytes: 10_000, group_bytes: None };
        let container = Memory { group_bytes: Some(1_000), ..machine };
        let wide = Memory { group_bytes: Some(100_000), ..machine };
        for (memory, asked, expected) in [
            (machine, None, Ok(3_000)),
            (container, None, Ok(300)),
            (wide, None, Ok(3_000)),
            (container, Some(0), Ok(0)),
            (container, Some(1_000), Ok(1_000)),
            (container, Some(1_001), Err("1001B for objects do not fit into the 1000B of this container")),
            (wide, Some(20 << 10), Err("20KiB for objects do not fit into the 9.8KiB of this machine")),
        ] {
            let got = memory.store_bytes(asked);
            assert_eq!(got.as_ref().map_err(Error::message).copied(), expected, "{memory:?} {asked:?}");
        }
        let here = Memory::here();
        assert!(here.bytes() > 0 && here.store_bytes(None).unwrap() < here.bytes());
    }
}
