//! What goes on elsewhere while its owner's process is dead, and who hears of it afterwards.

use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Cluster, Home, cluster::Daemon, eventually, relay::Relay, run::Running, text_guest, work::until_running};

/// A cluster whose second node alone has the directory that the guest `waits` needs; and that directory.
struct Elsewhere {
    cluster: Cluster,
    dir: PathBuf,
}

impl Elsewhere {
    fn start() -> Self {
        let mut elsewhere = Self { cluster: Cluster::build().cpus(1).start(), dir: PathBuf::new() };
        elsewhere.make_dir();
        elsewhere.add_node();
        elsewhere
    }

    fn make_dir(&mut self) {
        self.dir = self.cluster.home.work().join("data");
        std::fs::create_dir(&self.dir).unwrap();
    }

    fn add_node(&mut self) {
        let volume = format!("data={}", self.dir.display());
        self.cluster.add_node_with(&["--volume", &volume]);
    }

    /// Adds the node that reaches the head at this address.
    fn add_node_at(&mut self, address: &str) {
        let volume = format!("data={}", self.dir.display());
        let node = self.cluster.rwasm(["start", "--address", address, "--num-cpus", "1", "--volume", &volume, "--json"]);
        let node = Daemon::read(node.run().ok().json());
        self.cluster.nodes.push(node);
    }

    /// A command that waits on the second node, until `go`; it runs by now.
    fn waits(&self, args: &[&str]) -> Running {
        let mut driver = self.cluster.rwasm(["submit", &text_guest("waits"), "--dir", "data::/data"]).args(args).spawn();
        driver.until_stdout("begun\n");
        let running = until_running(&self.cluster, 1);
        assert_eq!((&running[0]["node"], &running[0]["attempt"]), (&json!("n2"), &json!(1)));
        driver
    }

    fn go(&self) {
        std::fs::write(self.dir.join("go"), "").unwrap();
    }

    fn until_ended(&self) {
        eventually("the guest is done", || self.dir.join("ended").exists().then_some(()));
    }

    /// The only task there is.
    fn task(&self) -> Value {
        let tasks = self.cluster.rwasm(["list", "tasks", "--json"]).run().ok().json();
        assert_eq!(tasks["total"], 1, "{tasks}");
        tasks["rows"][0].clone()
    }
}

/// A command is not repeated, so it succeeds only if its one attempt is taken up: where it still runs, and where it ended meanwhile.
#[test]
fn a_task_elsewhere_goes_on_while_its_owner_is_dead() {
    for ends_meanwhile in [false, true] {
        let mut elsewhere = Elsewhere::start();
        let mut driver = elsewhere.waits(&[]);
        elsewhere.cluster.head.kill();
        if ends_meanwhile {
            elsewhere.go();
            elsewhere.until_ended();
        }
        elsewhere.cluster.start_head_again();
        driver.until_stderr("back at job");
        if !ends_meanwhile {
            assert_eq!(elsewhere.task()["state"], "running");
            elsewhere.go();
        }
        driver.wait().ok().prints("begun\ndone\n");
        let task = elsewhere.task();
        assert_eq!((&task["state"], &task["attempt"], &task["node"]), (&json!("succeeded"), &json!(1), &json!("n2")), "{task}");
        eventually("its slot is free", || elsewhere.cluster.rwasm(["status"]).run().ok().stdout().contains(" 0/2 CPU").then_some(()));
    }
}

/// Killed again and again, also before it has heard of the node.
#[test]
fn a_task_elsewhere_outlives_several_lives_of_its_owner() {
    let mut elsewhere = Elsewhere::start();
    let driver = elsewhere.waits(&[]);
    for _ in 0..3 {
        elsewhere.cluster.head.kill();
        elsewhere.cluster.start_head_again();
    }
    elsewhere.go();
    driver.wait().ok().prints("begun\ndone\n");
    assert_eq!(elsewhere.task()["attempt"], 1);
}

#[test]
fn a_task_that_was_taken_up_can_be_stopped() {
    let mut elsewhere = Elsewhere::start();
    let driver = elsewhere.waits(&[]);
    elsewhere.cluster.head.kill();
    elsewhere.cluster.start_head_again();
    let job = elsewhere.task()["job"].as_str().unwrap().to_owned();
    elsewhere.cluster.rwasm(["job", "stop", &job]).run().ok();
    driver.wait().exits(1);
    assert_eq!(elsewhere.task()["state"], "cancelled");
    eventually("its slot is free", || elsewhere.cluster.rwasm(["status"]).run().ok().stdout().contains(" 0/2 CPU").then_some(()));
    assert!(!elsewhere.dir.join("ended").exists());
}

/// What the node had for its owner is gone with the node's process: the attempt is lost, and tried again if it may be.
#[test]
fn a_task_whose_node_died_while_its_owner_was_dead_is_lost() {
    for retries in ["0", "1"] {
        let mut elsewhere = Elsewhere::start();
        let mut driver = elsewhere.waits(&["--max-retries", retries]);
        elsewhere.cluster.head.kill();
        elsewhere.cluster.nodes[0].kill();
        elsewhere.cluster.start_head_again();
        // The same node, in another life.
        elsewhere.add_node();
        if retries == "0" {
            let output = driver.wait().fails(1, "RW0641");
            assert_eq!(output.stdout(), "begun\n");
            continue;
        }
        driver.until_stdout("begun again\n");
        elsewhere.go();
        driver.wait().ok().prints("begun\nbegun again\ndone\n");
        assert_eq!(elsewhere.task()["attempt"], 2);
    }
}

/// A head that stood still while a copy of its state directory took its place: the node listens to the later one, and the earlier one ends.
#[test]
fn an_owner_that_a_later_life_has_replaced_is_fenced() {
    let mut elsewhere = Elsewhere { cluster: Cluster::build().cpus(1).start(), dir: PathBuf::new() };
    elsewhere.make_dir();
    let relay = Relay::to(&elsewhere.cluster.head_address());
    elsewhere.add_node_at(relay.address());
    elsewhere.cluster.rwasm(["submit", &text_guest("waits"), "--dir", "data::/data", "--no-wait"]).run().ok();
    eventually("the guest has begun", || elsewhere.dir.join("began").exists().then_some(()));
    let earlier = elsewhere.cluster.head.clone();
    earlier.process.pause();
    let home = Home::new();
    copy(&elsewhere.cluster.home.state().join("head"), &home.state().join("head"));
    let later = home.rwasm(["start", "--head", "--port", "0", "--client-port", "0", "--num-cpus", "1", "--json"]).run().ok().json();
    let later = Daemon::read(later);
    relay.lead_to(later.ready["head_address"].as_str().unwrap());
    let log = |home: &Home| std::fs::read_to_string(home.state().join("head.log")).unwrap_or_default();
    eventually("the later one has taken the task up", || log(&home).contains("attempts that were under way on a node").then_some(()));
    earlier.process.signal(Signal::CONT);
    earlier.gone();
    assert!(log(&elsewhere.cluster.home).contains("took its place"), "{}", log(&elsewhere.cluster.home));
    elsewhere.go();
    let task = eventually("the task has ended", || {
        let tasks = home.rwasm(["list", "tasks", "--json"]).run().ok().json();
        (tasks["rows"][0]["state"] != "running").then(|| tasks["rows"][0].clone())
    });
    assert_eq!((&task["state"], &task["attempt"]), (&json!("succeeded"), &json!(1)), "{task}");
    home.rwasm(["job", "logs", task["job"].as_str().unwrap()]).run().ok().prints("begun\ndone\n");
    later.kill();
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => copy(&entry.path(), &to),
            kind if kind.is_file() => drop(std::fs::copy(entry.path(), to).unwrap()),
            _ => {}
        }
    }
}
