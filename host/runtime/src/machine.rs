//! What the kernel tells of this process and this machine, as metrics. What cannot be read is left out.

use std::{fs, path::Path, str::SplitWhitespace};

use rwasm_types::metrics::{Family, Kind};

/// Families about this process and its machine; `dir` names the disk that counts.
pub fn machine_metrics(dir: &Path) -> Vec<Family> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let ticks_per_second = rustix::param::clock_ticks_per_second() as f64;
    let mut families = Vec::new();
    families.extend(process(&read("/proc/self/stat"), &read("/proc/self/statm"), ticks_per_second));
    families.extend(fs::read_dir("/proc/self/fd").ok().map(|entries| {
        Family::gauge("rwasm_process_open_fds", "Files, sockets and the like that this process holds open.", entries.count() as f64)
    }));
    families.extend(cpu(&read("/proc/stat"), ticks_per_second));
    families.extend(memory(&read("/proc/meminfo")));
    families.extend(network(&read("/proc/net/dev")));
    families.extend(disk(dir));
    families
}

fn process(stat: &str, statm: &str, ticks_per_second: f64) -> Vec<Family> {
    // A process's name, in brackets before the rest, may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect()).unwrap_or_default();
    let field = |index: usize| fields.get(index)?.parse::<f64>().ok();
    let mut families = Vec::new();
    families.extend(statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<f64>().ok()).map(|pages| {
        let bytes = pages * rustix::param::page_size() as f64;
        Family::gauge("rwasm_process_resident_bytes", "Memory of this process, guests included.", bytes)
    }));
    families.extend(field(11).zip(field(12)).map(|(user, system)| {
        let seconds = (user + system) / ticks_per_second;
        Family::counter("rwasm_process_cpu_seconds_total", "Processor time of this process, guests included.", seconds)
    }));
    families.extend(field(17).map(|threads| Family::gauge("rwasm_process_threads", "Threads of this process.", threads)));
    families
}

/// The machine's processors together, since it started.
fn cpu(stat: &str, ticks_per_second: f64) -> Option<Family> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<f64> = line.split_whitespace().map_while(|tick| tick.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal; what guests of a hypervisor take is in user already.
    let idle = ticks.get(3)? + ticks.get(4)?;
    let all: f64 = ticks.iter().take(8).sum();
    let samples = [("busy", (all - idle) / ticks_per_second), ("idle", idle / ticks_per_second)];
    let help = "Time of the machine's processors together since it started.";
    Some(Family::labelled(Kind::Counter, "rwasm_machine_cpu_seconds_total", help, "mode", samples))
}

fn memory(meminfo: &str) -> Option<Family> {
    let bytes = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.split_whitespace().next()?.parse::<f64>().ok()? * 1024.0)
    };
    let samples = [("total", bytes("MemTotal:")?), ("available", bytes("MemAvailable:")?)];
    Some(Family::labelled(Kind::Gauge, "rwasm_machine_memory_bytes", "Memory of the machine.", "state", samples))
}

/// All interfaces but loopback.
fn network(dev: &str) -> Option<Family> {
    let (mut received, mut sent) = (0.0, 0.0);
    let mut any = false;
    let number = |fields: &mut SplitWhitespace<'_>, index: usize| fields.nth(index).and_then(|field| field.parse::<f64>().ok());
    for (name, counts) in dev.lines().filter_map(|line| line.split_once(':')) {
        if name.trim() != "lo" {
            let mut fields = counts.split_whitespace();
            received += number(&mut fields, 0)?;
            sent += number(&mut fields, 7)?;
            any = true;
        }
    }
    let samples = [("received", received), ("sent", sent)];
    let help = "Bytes that crossed the machine's interfaces, loopback left out.";
    any.then(|| Family::labelled(Kind::Counter, "rwasm_machine_network_bytes_total", help, "direction", samples))
}

fn disk(dir: &Path) -> Option<Family> {
    let disk = rustix::fs::statvfs(dir).ok()?;
    let bytes = |blocks: u64| blocks as f64 * disk.f_frsize as f64;
    let samples = [("total", bytes(disk.f_blocks)), ("free", bytes(disk.f_bavail))];
    Some(Family::labelled(Kind::Gauge, "rwasm_machine_disk_bytes", "The disk of the state directory.", "state", samples))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(family: &Family, value: &str) -> f64 {
        family.samples.iter().find(|sample| sample.labels.iter().any(|(_, label)| label == value)).unwrap().value
    }

    #[test]
    fn what_the_kernel_says_is_read() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 9 0 4711 0 0";
        let families = process(stat, "900 3 1 1 0 1 0", 100.0);
        let values: Vec<_> = families.iter().map(|family| family.samples[0].value).collect();
        assert_eq!(values, [3.0 * rustix::param::page_size() as f64, 3.0, 9.0]);
        let cpu = cpu("cpu  100 0 100 700 100 0 0 0 50 0\ncpu0 1 1 1 1 1", 100.0).unwrap();
        assert_eq!((of(&cpu, "busy"), of(&cpu, "idle")), (2.0, 8.0));
        let memory = memory("MemTotal:       10 kB\nMemFree: 1 kB\nMemAvailable:    4 kB\n").unwrap();
        assert_eq!((of(&memory, "total"), of(&memory, "available")), (10_240.0, 4_096.0));
        let lines = "Inter-|\n face |bytes\n lo: 9 0 0 0 0 0 0 0 9 0 0 0 0 0 0 0\neth0: 5 0 0 0 0 0 0 0 7 0 0 0 0 0 0 0\n";
        let network = network(lines).unwrap();
        assert_eq!((of(&network, "received"), of(&network, "sent")), (5.0, 7.0));
    }

    #[test]
    fn garbage_is_left_out() {
        for text in ["", ")", "cpu x", "MemTotal:", "eth0: x"] {
            assert!(process(text, text, 100.0).is_empty() && cpu(text, 100.0).is_none());
            assert!(memory(text).is_none() && network(text).is_none(), "{text}");
        }
    }

    #[test]
    fn this_machine_tells_everything() {
        let names: Vec<_> = machine_metrics(Path::new("/")).into_iter().map(|family| family.name).collect();
        assert!(names.contains(&"rwasm_process_resident_bytes") && names.contains(&"rwasm_machine_disk_bytes"), "{names:?}");
    }
}
