//! Tasks that start tasks: results as objects, chains and fans on few slots, and what goes with the task or the job that started it.

use serde_json::{Value, json};

use crate::harness::{Cluster, eventually, everywhere, guest};

fn made(printed: &str) -> String {
    printed.trim().strip_prefix("ok(@ref(").and_then(|rest| rest.strip_suffix("))")).unwrap_or_else(|| panic!("{printed}")).to_owned()
}

/// Rows of a list, as JSON.
fn rows(cluster: &Cluster, what: &str) -> Vec<Value> {
    let list = cluster.rwasm(["list", what, "--json"]).run().ok().json();
    list["rows"].as_array().cloned().unwrap_or_default()
}

#[test]
fn tasks_start_tasks_and_have_their_results() {
    everywhere(|place| {
        place.work("parallel", ["--call", "fibonacci(10)"]).run().ok().prints("ok(55)\n");
        place.work("parallel", ["--call", "primes-below(10000, 40)"]).run().ok().prints("ok(1229)\n");
    });
}

#[test]
fn results_are_passed_on_by_ref_and_values_come_back_in_order() {
    let cluster = Cluster::build().cpus(1).start();
    let submit = |call: &str| cluster.rwasm(["submit", &guest("parallel"), "--call", call]).run().ok();
    // Large enough that its parts are no inline values.
    let numbers = made(&submit("shuffled(100000)").stdout());
    cluster.rwasm(["submit", &guest("parallel"), "--call", &format!("sort(@ref({numbers}), 5)"), "--json", "-o", "sorted"]).run().ok();
    let sorted: Value = serde_json::from_slice(&cluster.home.read("sorted")).unwrap();
    let sorted: Vec<i64> = sorted["ok"].as_array().unwrap().iter().map(|number| number.as_i64().unwrap()).collect();
    assert!(sorted.len() == 100_000 && sorted.is_sorted());
    cluster.rwasm(["rm", &numbers]).run().ok();
    let left = eventually("nothing is left of what tasks made", || {
        let memory = cluster.rwasm(["memory", "--json"]).run().ok().json()["rows"][0].clone();
        (memory["sealed"]["objects"] == 0 && memory["inline"]["objects"] == 0).then_some(memory)
    });
    assert_eq!(left["pinned"]["objects"], 0, "{left}");
}

/// A task that waits for another lends it the slot, or nothing would ever end here.
#[test]
fn chains_and_fans_need_one_slot() {
    let cluster = Cluster::build().cpus(1).start();
    let submit = |name: &str, call: &str| cluster.rwasm(["submit", &guest(name), "--call", call]);
    submit("evil-tasks", "chain(1000)").run().ok().prints("ok(1000)\n");
    submit("evil-tasks", "chain(1100)").run().fails(1, "RW0411").has("RW0831");
    submit("parallel", "primes-below(2000, 2000)").run().ok().prints("ok(303)\n");
    eventually("nothing holds a slot any more", || {
        let node = rows(&cluster, "nodes")[0].clone();
        (node["used"]["cpu"].as_f64() == Some(0.0) && node["tasks_running"] == 0 && node["tasks_queued"] == 0).then_some(())
    });
}

#[test]
fn what_a_task_started_goes_with_it_if_it_fails() {
    let cluster = Cluster::start(0);
    cluster.rwasm(["submit", &guest("evil-tasks"), "--call", "fail-and-leave()"]).run().fails(1, "RW0401");
    let tasks = eventually("what it started is cancelled", || {
        let tasks = rows(&cluster, "tasks");
        tasks.iter().any(|task| task["export"] == "spin-alone" && task["state"] == "cancelled").then_some(tasks)
    });
    assert_eq!(tasks.len(), 2, "{tasks:?}");
    let jobs = rows(&cluster, "jobs");
    let (child, root) = (jobs.iter().find(|job| job["parent"].is_string()), jobs.iter().find(|job| job["parent"].is_null()));
    assert_eq!(child.unwrap()["parent"], root.unwrap()["id"], "{jobs:?}");
    assert_ne!(child.unwrap()["state"], json!("running"), "{jobs:?}");
}

#[test]
fn what_tasks_of_a_job_started_ends_with_the_job() {
    let cluster = Cluster::start(0);
    let job = cluster.rwasm(["submit", &guest("evil-tasks"), "--call", "wait-for-ever()", "--no-wait"]).run().ok().stdout();
    eventually("the task has started another", || (rows(&cluster, "tasks").len() == 2).then_some(()));
    cluster.rwasm(["job", "stop", job.trim()]).run().ok();
    let ended = |task: &Value| task["state"] == "cancelled";
    eventually("both have ended", || rows(&cluster, "tasks").iter().all(ended).then_some(()));
    // A bomb, whose tasks wait for nobody: its job ends when the first task does.
    cluster.rwasm(["submit", &guest("evil-tasks"), "--call", "fork-bomb(50)"]).run().ok();
    eventually("nothing of it runs or waits", || rows(&cluster, "jobs").iter().all(|job| job["state"] != "running").then_some(()));
    cluster.rwasm(["submit", &guest("hello"), "--call", "greet(\"Ada\")"]).run().ok().prints("\"Hello, Ada!\"\n");
}

#[test]
fn what_tasks_ask_for_is_no_more_than_they_have() {
    let cluster = Cluster::start(0);
    let ask = |call: &str| cluster.rwasm(["submit", &guest("evil-tasks"), "--call", call]).run();
    ask("ask-for-more(0, 0, 0.5)").ok().prints("ok(0)\n");
    ask("ask-for-more(8589934592, 0, 1.0)").fails(1, "RW0411").has("RW0007").has("memory");
    ask("ask-for-more(0, 5, 1.0)").fails(1, "RW0411").has("RW0007").has("priority");
    for cpus in ["-1.0", "nan", "0.00001", "1e300"] {
        ask(&format!("ask-for-more(0, 0, {cpus})")).fails(1, "RW0411").has("RW0002");
    }
    ask("ask-for-more(0, 0, 100000.0)").fails(1, "RW0411").has("RW0801");
    ask("hoard-arguments(300, 1000000)").fails(1, "RW0411").has("RW0802");
}

/// The task runs on the other node, which owns what it starts; and what it starts has room on both.
#[test]
fn what_a_task_starts_is_owned_where_it_runs_and_spreads() {
    let mut cluster = Cluster::start(0);
    cluster.add_node_with(&["--resources", "{\"far\": 1}"]);
    let submit = |call: &str| cluster.rwasm(["submit", &guest("parallel"), "--call", call, "--resources", "{\"far\": 1}"]);
    submit("fibonacci(8)").run().ok().prints("ok(21)\n");
    submit("primes-below(300000, 60)").run().ok().prints("ok(25997)\n");
    let tasks = rows(&cluster, "tasks");
    let owned = |task: &&Value| task["export"] == "count-primes";
    assert!(tasks.iter().filter(owned).all(|task| task["id"].as_str().unwrap().starts_with("t2-")), "{tasks:?}");
    let nodes: std::collections::BTreeSet<&str> = tasks.iter().filter(owned).filter_map(|task| task["node"].as_str()).collect();
    assert_eq!(nodes.into_iter().collect::<Vec<_>>(), ["n1", "n2"], "both nodes count");
}
