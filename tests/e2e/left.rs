//! Nothing is left behind: after kill -9 of everything with work under way, and a start, there are no processes and no files that nobody
//! uses.

use std::{fs, path::Path};

use rustix::process::Signal;

use crate::harness::{Cluster, Home, eventually, guest, process, run::Running};

/// Small numbers that come again with the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

/// Files that are made for a moment, below a directory.
fn passing(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if [".new-", ".part-", ".rwasm-", "scratch-", "secret-", "embedded-"].iter().any(|prefix| name.starts_with(prefix)) {
            found.push(entry.path().display().to_string());
        } else if entry.path().is_dir() {
            found.extend(passing(&entry.path()));
        }
    }
    found
}

/// Work of all kinds; the drivers lose their cluster.
fn work(cluster: &Cluster) -> Vec<Running> {
    let map = |guest_name: &str, func: &str, line: &str| {
        cluster.rwasm(["submit", &guest(guest_name), "--map", "-", "--func", func]).stdin(line.repeat(4)).spawn()
    };
    let run = cluster.rwasm(["run", &guest("evil-wasi"), "--call", "sleep-for(3600000)"]).spawn();
    let bomb = cluster.rwasm(["submit", &guest("evil-compile-bomb"), "--call", "run(1)"]).spawn();
    vec![run, bomb, map("evil-compute", "spin", "[]\n"), map("evil-wasi", "sleep-for", "[3600000]\n")]
}

/// Waits for one of the moments at which something has been begun and not ended.
fn moment(cluster: &Cluster, which: usize) {
    match which {
        0 => {
            eventually("a compile worker runs", || process::children(cluster.head.process.pid).pop());
        }
        1 => eventually("a file is on its way", || {
            let dirs = [cluster.home.state(), cluster.home.runtime(), cluster.home.cache().to_owned()];
            dirs.iter().any(|dir| !passing(dir).is_empty()).then_some(())
        }),
        2 => eventually("a task runs on the other node", || {
            let running = cluster.rwasm(["list", "tasks", "--state", "running", "--json"]).run().ok().json();
            running["rows"].as_array().unwrap().iter().any(|task| task["node"] == "n2").then_some(())
        }),
        _ => drop(cluster.rwasm(["node", "drain", "n2", "--deadline", "1h"]).run().ok()),
    }
}

#[test]
fn after_kill_9_of_everything_and_a_start_nothing_is_left() {
    for seed in [0x9e37_79b9, 0x51ed_270b, 0xdead_beef] {
        // Shown if the test fails.
        eprintln!("seed {seed:#x}");
        let mut random = Random(seed);
        let mut cluster = Cluster::build().nodes(1).cpus(1).own_cache().start();
        let drivers = work(&cluster);
        moment(&cluster, random.below(4));
        let mut dying = [cluster.head.clone(), cluster.nodes[0].clone()];
        if random.below(2) == 0 {
            dying.reverse();
        }
        dying[0].process.signal(Signal::KILL);
        if random.below(2) == 0 {
            dying[0].gone();
        }
        dying[1].process.signal(Signal::KILL);
        drivers.iter().for_each(|driver| driver.signal(Signal::KILL));
        drop(drivers);
        dying.iter().for_each(|daemon| daemon.gone());
        eventually("no process of it runs", || cluster.home.processes().is_empty().then_some(()));

        cluster.nodes.clear();
        cluster.start_head_again();
        cluster.add_node();
        // Its jobs are there again, and wait for their drivers, which do not come.
        let jobs = cluster.rwasm(["job", "list", "--state", "running", "--json"]).run().ok().json();
        for job in jobs["rows"].as_array().unwrap() {
            cluster.rwasm(["job", "stop", job["id"].as_str().unwrap()]).run().ok();
        }
        cluster.rwasm(["submit", &guest("hello"), "--call", "add(1, 2)"]).run().ok().prints("3\n");
        let state = passing(&cluster.home.state());
        assert!(state.is_empty(), "{state:?}");
        // What the dead left; a compile that the living began anew goes on.
        let cache = passing(cluster.home.cache());
        let dying: Vec<String> = dying.iter().map(|daemon| format!("scratch-{}-", daemon.process.pid)).collect();
        let left: Vec<_> =
            cache.iter().filter(|path| !path.contains("/scratch-") || dying.iter().any(|dead| path.contains(dead))).collect();
        assert!(left.is_empty(), "{left:?}");
        // What is for every process of the user is looked at by each that starts, once it is old enough that nobody is about to use it.
        eventually("nothing is left in the runtime directory", || {
            cluster.rwasm(["run", &guest("hello"), "--call", "add(1, 2)"]).run().ok();
            passing(&cluster.home.runtime()).is_empty().then_some(())
        });
        // A file and a socket of each.
        let daemons = fs::read_dir(cluster.home.runtime().join("daemons")).unwrap().count();
        assert_eq!(daemons, 4, "only those that run");
        cluster.rwasm(["stop"]).run().ok();
        cluster.daemons().for_each(|daemon| daemon.gone());
        assert_eq!(fs::read_dir(cluster.home.runtime().join("daemons")).unwrap().count(), 0);
        assert!(!cluster.home.runtime().join("endpoint.json").exists());
        let shared =
            fs::read_dir("/dev/shm").into_iter().flatten().flatten().filter(|entry| entry.file_name().to_string_lossy().contains("rwasm"));
        assert_eq!(shared.count(), 0, "memory is shared without names");
    }
}

/// A command that was killed leaves its unfinished file beside the one that it was to write; the next one clears it up.
#[test]
fn a_killed_commands_part_goes_with_the_next_one() {
    let home = Home::new();
    let map = home.rwasm(["run", &guest("evil-wasi"), "--map", "-", "--func", "sleep-for", "-o", "out.jsonl"]);
    let driver = map.stdin("[3600000]\n").spawn();
    eventually("the file is begun", || (!passing(&home.work()).is_empty()).then_some(()));
    driver.signal(Signal::KILL);
    driver.wait().exits(137);
    assert_eq!(passing(&home.work()).len(), 1);
    eventually("the part is gone", || {
        home.rwasm(["run", &guest("hello"), "--call", "greet(\"Ada\")", "-o", "other.txt"]).run().ok();
        passing(&home.work()).is_empty().then_some(())
    });
}
