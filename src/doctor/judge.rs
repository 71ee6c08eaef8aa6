//! The rules: what each fact should be, and what to do where it is not.

use rwasm_types::format_bytes;

use super::{Clock, Cluster, Dir, Facts, Fault, Finding, Holder, Level, Pools, Port};

/// The oldest kernel that everything is known to work on: long-term, and the oldest that distributions of today ship.
const KERNEL_MIN: (u32, u32) = (5, 10);
/// From here on, the engine clears used memory by looking only at what was written.
const KERNEL_PAGEMAP_SCAN: (u32, u32) = (6, 7);
/// A daemon takes up to 4,096 connections on each of three ports.
const OPEN_FILES: u64 = 16_384;
/// What the kernel allows by default, and the full pools need most of.
const MAPPINGS: u64 = 65_530;
/// What a node needs to be of use: its daemon, and a few guests.
const MEMORY: u64 = 256 << 20;
/// Free disk below which something fails soon, and below which it is good to know.
const DISK_BAD: u64 = 256 << 20;
const DISK_NOTE: u64 = 2 << 30;
/// The begin of 2025: no clock that is set shows less.
const CLOCK_MIN_S: u64 = 1_735_689_600;
/// How far the two clocks may part while the facts are collected, which takes a second.
const DRIFT_MS: u64 = 500;
/// How far a file may be ahead of the clock.
const AHEAD_S: u64 = 60;

/// Says of everything whether it is as it should be, and what to do else.
pub(crate) fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![
        kernel(facts),
        processor(facts),
        memfd(facts),
        open_files(facts.open_files),
        mappings(facts.mappings),
        address_space(facts.address_space),
        memory(facts),
        cores(facts.cores),
        engine(&facts.engine),
        compiling(facts),
    ];
    findings.extend(facts.dirs.iter().map(dir));
    findings.extend(facts.ports.iter().map(port));
    findings.push(clock(facts.clock));
    findings.push(synchronised(facts.clock));
    findings.push(cluster(facts));
    findings
}

fn ok(check: &'static str, found: impl Into<String>) -> Finding {
    Finding { check, level: Level::Ok, found: found.into(), remedy: None }
}

fn note(check: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding { check, level: Level::Note, found: found.into(), remedy: Some(remedy.into()) }
}

fn bad(check: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding { check, level: Level::Bad, found: found.into(), remedy: Some(remedy.into()) }
}

/// The first two numbers of a release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn kernel(facts: &Facts) -> Finding {
    let found = format!("Linux {}", facts.kernel);
    match version(&facts.kernel) {
        Some(version) if version < KERNEL_MIN => bad("kernel", found, format!("use Linux {}.{} or newer", KERNEL_MIN.0, KERNEL_MIN.1)),
        Some(version) if version < KERNEL_PAGEMAP_SCAN => {
            note("kernel", found, "Linux 6.7 and newer clear the memory of guests that ended faster")
        }
        Some(_) => ok("kernel", found),
        None => note("kernel", found, "its version cannot be read from that; 5.10 or newer is needed"),
    }
}

fn processor(facts: &Facts) -> Finding {
    match facts.processor.as_str() {
        "x86_64" => ok("processor", "x86_64"),
        other => bad("processor", other, "rwasm runs on x86_64 so far"),
    }
}

fn memfd(facts: &Facts) -> Finding {
    if facts.memfd {
        ok("memory-files", "files in memory can be made")
    } else {
        bad(
            "memory-files",
            "the kernel or a filter refuses memfd_create",
            "allow that system call, as containers' default profiles do; without it, starting a guest copies its memory",
        )
    }
}

fn open_files(limit: Option<u64>) -> Finding {
    match limit {
        None => ok("open-files", "without limit"),
        Some(limit) if limit < OPEN_FILES => bad(
            "open-files",
            format!("a process may have at most {limit} files open"),
            format!(
                "raise the hard limit to {OPEN_FILES} or more: `ulimit -Hn {OPEN_FILES}`, LimitNOFILE= of systemd, or --ulimit nofile= of docker"
            ),
        ),
        Some(limit) => ok("open-files", format!("a process may have {limit} files open")),
    }
}

fn mappings(limit: Option<u64>) -> Finding {
    match limit {
        None => note("memory-mappings", "vm.max_map_count cannot be read", "nothing, if the engine below is all right"),
        Some(limit) if limit < MAPPINGS => bad(
            "memory-mappings",
            format!("vm.max_map_count is {limit}"),
            format!("raise it: `sysctl -w vm.max_map_count={MAPPINGS}`, or start nodes with a smaller --instances"),
        ),
        Some(limit) => ok("memory-mappings", format!("vm.max_map_count is {limit}")),
    }
}

fn address_space(limit: Option<u64>) -> Finding {
    match limit {
        None => ok("address-space", "without limit"),
        Some(limit) => bad(
            "address-space",
            format!("a process may have {} of addresses", format_bytes(limit)),
            "lift the limit: `ulimit -v unlimited`; each guest reserves 4 GiB of addresses, which cost no memory",
        ),
    }
}

fn memory(facts: &Facts) -> Finding {
    let usable = facts.memory_limit.map_or(facts.memory, |limit| limit.min(facts.memory));
    let found = match facts.memory_limit.filter(|limit| *limit < facts.memory) {
        Some(limit) => format!("{} by the control group, {} in the machine", format_bytes(limit), format_bytes(facts.memory)),
        None => format_bytes(usable),
    };
    if usable < MEMORY {
        return bad("memory", found, format!("give the machine or container {} or more", format_bytes(MEMORY)));
    }
    ok("memory", found)
}

fn cores((machine, usable): (u64, u64)) -> Finding {
    if usable < machine {
        return ok("cores", format!("{usable} of {machine}, by the control group or the affinity of this process"));
    }
    ok("cores", usable.to_string())
}

fn engine(engine: &rwasm_types::Result<Pools>) -> Finding {
    match engine {
        Err(error) => bad("engine", error.message(), error.next_step().unwrap_or("see the lines above")),
        Ok(Pools { wanted, fast, asynchronous }) if fast < wanted => note(
            "engine",
            format!("room for {fast} guests of the fast profile and {asynchronous} of the async one, instead of {wanted}"),
            "lift the limit of the address space, if nodes are to hold more guests at once",
        ),
        Ok(Pools { fast, asynchronous, .. }) => {
            ok("engine", format!("room for {fast} guests of the fast profile and {asynchronous} of the async one"))
        }
    }
}

fn compiling(facts: &Facts) -> Finding {
    match &facts.compiling {
        Ok(()) => ok("compiling", "a compile worker runs"),
        Err(error) => {
            bad("compiling", format!("{} ({})", error.message(), error.code()), error.next_step().unwrap_or("see `rwasm explain`"))
        }
    }
}

fn dir(dir: &Dir) -> Finding {
    let check = match dir.what {
        "runtime" => "runtime-directory",
        "state" => "state-directory",
        _ => "cache-directory",
    };
    let path = dir.path.display();
    let elsewhere = format!("choose another with {}", dir.variable);
    match (dir.fault, dir.free) {
        (Some(Fault::NoDirectory), _) => bad(check, format!("{path} is no directory"), format!("remove it, or {elsewhere}")),
        (Some(Fault::ReadOnly), _) => bad(check, format!("{path} cannot be written"), format!("give yourself permission, or {elsewhere}")),
        (Some(Fault::Foreign), _) => bad(check, format!("{path} belongs to another user, who could replace what is in it"), elsewhere),
        (None, Some(free)) if free < DISK_BAD => {
            bad(check, format!("{path} has {} left", format_bytes(free)), format!("free some, or {elsewhere}"))
        }
        (None, Some(free)) if free < DISK_NOTE => {
            note(check, format!("{path} has {} left", format_bytes(free)), format!("free some in time, or {elsewhere}"))
        }
        (None, Some(free)) => ok(check, format!("{path} has {} left", format_bytes(free))),
        (None, None) => ok(check, path.to_string()),
    }
}

fn port(port: &Port) -> Finding {
    let Port { number, what, flag, holder } = port;
    match holder {
        Holder::Nobody => ok("port", format!("{number}, for {what}, is free")),
        Holder::Ours { pid } => ok("port", format!("{number}, for {what}, is held by our daemon, process {pid}")),
        Holder::Other => bad(
            "port",
            format!("{number}, for {what}, is taken by another program"),
            format!("choose another with `{flag}` of `rwasm start`"),
        ),
        Holder::Refused { why } => {
            bad("port", format!("{number}, for {what}, cannot be used: {why}"), format!("choose another with `{flag}` of `rwasm start`"))
        }
    }
}

fn clock(clock: Clock) -> Finding {
    let now = humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + std::time::Duration::from_secs(clock.now_s));
    let set = "set the clock, best by a time service such as chrony or systemd-timesyncd";
    if clock.now_s < CLOCK_MIN_S {
        return bad("clock", format!("it shows {now}, which is in the past"), set);
    }
    if clock.drift_ms.unsigned_abs() > DRIFT_MS {
        let direction = if clock.drift_ms > 0 { "forward" } else { "back" };
        return bad(
            "clock",
            format!("it was set {direction} by {} ms just now", clock.drift_ms.unsigned_abs()),
            "run this again when it is settled",
        );
    }
    if clock.ahead_s > AHEAD_S {
        let found = format!("it shows {now}, and files of the state directory are {} s ahead of it", clock.ahead_s);
        return bad("clock", found, format!("{set}; tokens and certificates depend on it"));
    }
    ok("clock", format!("it shows {now}"))
}

fn synchronised(clock: Clock) -> Finding {
    match clock.synchronised {
        Some(true) => ok("time-service", "the clock is synchronised"),
        Some(false) => {
            note("time-service", "one runs, and has not set the clock yet", "wait, or see why: `timedatectl` or `chronyc tracking`")
        }
        None => note(
            "time-service",
            "none is known to set the clock",
            "on a cluster of several machines, let one do so; a virtual machine's host may do it unseen",
        ),
    }
}

fn cluster(facts: &Facts) -> Finding {
    let Some(Cluster { address, version }) = &facts.cluster else {
        return match facts.gone {
            0 => ok("cluster", "none runs here"),
            gone => note(
                "cluster",
                format!("none runs here; {gone} daemons had ended without clearing up, and what they left is removed by now"),
                "see in their logs why they ended",
            ),
        };
    };
    match version {
        Ok(version) if version == facts.version => ok("cluster", format!("{address} answers, version {version}")),
        Ok(version) => bad(
            "cluster",
            format!("{address} answers with version {version}, and this program is {}", facts.version),
            "use one version: start the cluster anew with this program, or call the other one",
        ),
        Err(error) => bad(
            "cluster",
            format!("{address}: {} ({})", error.message(), error.code()),
            error.next_step().unwrap_or("run `rwasm stop`, then start it anew"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use rwasm_types::{Code, Error};

    use super::*;

    fn healthy() -> Facts {
        let dir =
            |what, variable| Dir { what, variable, path: PathBuf::from(format!("/home/ada/{what}")), fault: None, free: Some(80 << 30) };
        let port = |number, what, flag| Port { number, what, flag, holder: Holder::Nobody };
        Facts {
            kernel: "6.12.3-amd64".to_owned(),
            processor: "x86_64".to_owned(),
            memfd: true,
            open_files: Some(1_048_576),
            mappings: Some(65_530),
            address_space: None,
            memory: 16 << 30,
            memory_limit: None,
            cores: (8, 8),
            dirs: vec![dir("runtime", "RWASM_RUNTIME_DIR"), dir("state", "RWASM_STATE_DIR"), dir("cache", "RWASM_CACHE_DIR")],
            ports: vec![port(6379, "nodes that join", "--port"), port(10001, "drivers", "--client-port")],
            clock: Clock { now_s: 1_800_000_000, drift_ms: 3, ahead_s: 0, synchronised: Some(true) },
            engine: Ok(Pools { wanted: 12_000, fast: 12_000, asynchronous: 1_000 }),
            compiling: Ok(()),
            cluster: None,
            version: "0.1.0",
            gone: 0,
        }
    }

    /// The levels of all findings that are not as they should be, by their checks.
    fn found(change: impl FnOnce(&mut Facts)) -> Vec<(&'static str, Level)> {
        let mut facts = healthy();
        change(&mut facts);
        let findings = judge(&facts);
        assert!(findings.iter().all(|finding| (finding.level == Level::Ok) == finding.remedy.is_none()), "{findings:?}");
        findings.into_iter().filter(|finding| finding.level != Level::Ok).map(|finding| (finding.check, finding.level)).collect()
    }

    #[test]
    fn a_healthy_machine_needs_nothing() {
        assert_eq!(found(|_| {}), []);
    }

    #[test]
    fn each_fault_is_found_by_its_own_check() {
        type Case = (fn(&mut Facts), &'static str, Level);
        let cases: &[Case] = &[
            (|facts| facts.kernel = "5.4.0-generic".into(), "kernel", Level::Bad),
            (|facts| facts.kernel = "4.19".into(), "kernel", Level::Bad),
            (|facts| facts.kernel = "6.1.0-18-amd64".into(), "kernel", Level::Note),
            (|facts| facts.kernel = "mainline".into(), "kernel", Level::Note),
            (|facts| facts.processor = "aarch64".into(), "processor", Level::Bad),
            (|facts| facts.memfd = false, "memory-files", Level::Bad),
            (|facts| facts.open_files = Some(1_024), "open-files", Level::Bad),
            (|facts| facts.mappings = Some(1_000), "memory-mappings", Level::Bad),
            (|facts| facts.mappings = None, "memory-mappings", Level::Note),
            (|facts| facts.address_space = Some(64 << 30), "address-space", Level::Bad),
            (|facts| facts.memory = 128 << 20, "memory", Level::Bad),
            (|facts| facts.memory_limit = Some(128 << 20), "memory", Level::Bad),
            (|facts| facts.engine = Err(Error::new(Code::NO_CAPACITY, "no address space")), "engine", Level::Bad),
            (|facts| facts.engine = Ok(Pools { wanted: 12_000, fast: 3_000, asynchronous: 250 }), "engine", Level::Note),
            (|facts| facts.compiling = Err(Error::new(Code::COMPILE_FAILED, "it does not start")), "compiling", Level::Bad),
            (|facts| facts.dirs[0].fault = Some(Fault::Foreign), "runtime-directory", Level::Bad),
            (|facts| facts.dirs[1].fault = Some(Fault::ReadOnly), "state-directory", Level::Bad),
            (|facts| facts.dirs[1].free = Some(100 << 20), "state-directory", Level::Bad),
            (|facts| facts.dirs[2].free = Some(1 << 30), "cache-directory", Level::Note),
            (|facts| facts.dirs[2].fault = Some(Fault::NoDirectory), "cache-directory", Level::Bad),
            (|facts| facts.ports[0].holder = Holder::Other, "port", Level::Bad),
            (|facts| facts.ports[1].holder = Holder::Refused { why: "no".into() }, "port", Level::Bad),
            (|facts| facts.clock.now_s = 86_400, "clock", Level::Bad),
            (|facts| facts.clock.drift_ms = -3_600_000, "clock", Level::Bad),
            (|facts| facts.clock.ahead_s = 90_000, "clock", Level::Bad),
            (|facts| facts.clock.synchronised = None, "time-service", Level::Note),
            (|facts| facts.clock.synchronised = Some(false), "time-service", Level::Note),
            (|facts| facts.gone = 2, "cluster", Level::Note),
            (|facts| facts.cluster = Some(Cluster { address: "a:1".into(), version: Ok("0.2.0".into()) }), "cluster", Level::Bad),
            (
                |facts| facts.cluster = Some(Cluster { address: "a:1".into(), version: Err(Error::new(Code::UNREACHABLE, "gone")) }),
                "cluster",
                Level::Bad,
            ),
        ];
        for (number, (change, check, level)) in cases.iter().enumerate() {
            assert_eq!(found(change), [(*check, *level)], "case {number}");
        }
    }

    #[test]
    fn what_is_ours_or_only_smaller_is_well() {
        assert_eq!(found(|facts| facts.ports[0].holder = Holder::Ours { pid: 7 }), []);
        assert_eq!(found(|facts| facts.memory_limit = Some(2 << 30)), []);
        assert_eq!(found(|facts| facts.cores = (8, 2)), []);
        assert_eq!(found(|facts| facts.open_files = None), []);
        assert_eq!(found(|facts| facts.cluster = Some(Cluster { address: "a:1".into(), version: Ok("0.1.0".into()) })), []);
    }
}
