//! Where tasks go: labels, nodes, spreading, plans, and what is said of those that wait.

use serde_json::json;

use crate::harness::{Cluster, eventually, guest};

/// A head whose node is in zone a, and a node in zone b.
fn zones() -> Cluster {
    let mut cluster = Cluster::build().cpus(1).args(&["--labels", "zone=a"]).start();
    // The last of two labels of a name counts.
    cluster.add_node_with(&["--labels", "zone=b"]);
    cluster
}

fn whereabouts(cluster: &Cluster, options: &[&str]) -> String {
    let run = cluster.rwasm(["submit", &guest("hello"), "--call", "whereabouts()", "--json"]).args(options).run().ok();
    run.json().to_string()
}

#[test]
fn a_task_runs_where_its_labels_say() {
    let cluster = zones();
    for (options, node) in [
        (&["--label", "zone=a"][..], "n1"),
        (&["--label", "zone=b"], "n2"),
        (&["--label", "zone in (b, c)"], "n2"),
        (&["--label", "zone!=b"], "n1"),
        (&["--node", "n2"], "n2"),
        (&["--node", "n1", "--label", "zone"], "n1"),
    ] {
        let said = whereabouts(&cluster, options);
        assert!(said.contains(node), "{options:?}: {said}");
    }
}

#[test]
fn what_no_node_may_run_is_said_at_once() {
    let cluster = zones();
    let refused = cluster.rwasm(["submit", &guest("hello"), "--call", "add(1, 2)", "--label", "zone=c"]).run().fails(2, "RW0801");
    refused.says("no node has the labels zone=c");
    cluster.rwasm(["submit", &guest("hello"), "--call", "add(1, 2)", "--node", "n9"]).run().fails(2, "RW0801").says("there is no node n9");
    cluster.rwasm(["submit", &guest("hello"), "--call", "add(1, 2)", "--label", "a b"]).run().fails(2, "RW0002");
}

#[test]
fn a_plan_says_where_tasks_would_go_and_submits_nothing() {
    let cluster = zones();
    let lines = "[1, 2]\n".repeat(5);
    let plan = |options: &[&str]| {
        let map = ["submit", &guest("hello"), "--map", "-", "--func", "add", "--plan"];
        cluster.rwasm(map).args(options).stdin(lines.clone()).run()
    };
    let both = plan(&["--json"]).ok().json();
    assert_eq!(both["placed"], json!([{ "node": "n1", "tasks": 1 }, { "node": "n2", "tasks": 1 }]), "{both}");
    assert_eq!(both["waiting"], 3);
    let there = plan(&["--json", "--label", "zone=b"]).ok().json();
    assert_eq!(there["placed"], json!([{ "node": "n2", "tasks": 1 }]), "{there}");
    assert_eq!(there["turned"], json!([{ "node": "n1", "why": "its label zone is `a`, asked for is zone=b" }]), "{there}");
    plan(&["--num-gpus", "1"]).fails(2, "RW0801").says("no node has cpu 1, gpu 1");
    plan(&[]).ok().says("3 would wait").has("n2");
    assert_eq!(cluster.rwasm(["job", "list", "--json"]).run().ok().json()["total"], 0);
}

#[test]
fn a_task_that_waits_for_another_node_says_who_holds_it() {
    let cluster = zones();
    let map = ["submit", &guest("evil-wasi"), "--map", "-", "--func", "sleep-for", "--label", "zone=b", "--no-wait"];
    let first = cluster.rwasm(map).stdin("[60000]\n").run().ok().stdout().trim().to_owned();
    eventually("the first one runs", || {
        let running = cluster.rwasm(["list", "tasks", "--state", "running", "--json"]).run().ok().json();
        (running["total"] == 1).then_some(())
    });
    let second = cluster.rwasm(map).stdin("[60000]\n").run().ok().stdout().trim().to_owned();
    let task = format!("{}-0", second.replacen('j', "t", 1));
    eventually("the head's reason is told", || {
        let why = cluster.rwasm(["why", &task]).run().ok().stdout();
        let told = why.contains("may not run on node n1 (zone=b was asked for)")
            && why.contains("elsewhere it waits for cpu 1")
            && why.contains(&format!("node n2 alone has it, leased to job {first} until given back"));
        told.then_some(())
    });
}

/// The nodes of a group's bundles, as they are told.
fn bundles(record: &serde_json::Value) -> Vec<&str> {
    record["bundles"].as_array().unwrap().iter().filter_map(|bundle| bundle["node"].as_str()).collect()
}

#[test]
fn work_that_is_submitted_into_a_placement_group_runs_on_its_bundles() {
    let cluster = zones();
    let create = ["placement-group", "create", "pair", "--bundle", "cpu=1", "--bundle", "cpu=1", "--strategy", "strict-spread"];
    let record = cluster.rwasm(create).args(["--wait", "--json"]).run().ok().json();
    assert_eq!((&record["state"], bundles(&record)), (&json!("placed"), vec!["n1", "n2"]), "{record}");
    cluster.rwasm(create).run().fails(2, "RW0528");
    for (bundle, node) in [("pair:0", "n1"), ("pair:1", "n2")] {
        let said = whereabouts(&cluster, &["--placement-group", bundle]);
        assert!(said.contains(node), "{bundle}: {said}");
    }
    let lines = "[1, 2]\n".repeat(20);
    let map = ["submit", &guest("hello"), "--map", "-", "--func", "add", "--placement-group", "pair"];
    assert_eq!(cluster.rwasm(map).stdin(lines).run().ok().stdout().lines().count(), 20);
    cluster.rwasm(["submit", &guest("hello"), "--call", "add(1, 2)", "--placement-group", "pair:2"]).run().fails(2, "RW0003");
    cluster.rwasm(["placement-group", "remove", "pair"]).run().ok();
    cluster.rwasm(["submit", &guest("hello"), "--call", "add(1, 2)", "--placement-group", "pair"]).run().fails(2, "RW0003");
    assert_eq!(cluster.rwasm(["placement-group", "list", "--json"]).run().ok().json()["total"], 0);
}

#[test]
fn a_placement_group_outlives_the_head_and_one_that_is_too_large_is_refused_at_once() {
    let mut cluster = zones();
    let create =
        |name: &str, bundle: &str| cluster.rwasm(["placement-group", "create", name, "--bundle", bundle, "--label", "zone=b"]).run();
    create("huge", "cpu=100").fails(2, "RW0801").says("no node with zone=b has cpu 100");
    create("kept", "cpu=1").ok();
    create("odd", "cpu=-1").fails(2, "RW0002");
    cluster.head.kill();
    cluster.head.gone();
    cluster.start_head_again();
    eventually("the group has its node again", || {
        let groups = cluster.rwasm(["list", "placement-groups", "--json"]).run().ok().json();
        (bundles(groups["rows"].get(0)?) == ["n2"]).then_some(())
    });
    let said = whereabouts(&cluster, &["--placement-group", "kept"]);
    assert!(said.contains("n2"), "{said}");
}

#[test]
fn work_that_runs_or_waits_in_a_group_that_is_removed_ends_and_says_so() {
    let cluster = zones();
    cluster.rwasm(["placement-group", "create", "trainer", "--bundle", "cpu=1", "--label", "zone=b", "--wait"]).run().ok();
    let map = ["submit", &guest("evil-wasi"), "--map", "-", "--func", "sleep-for", "--placement-group", "trainer", "--no-wait"];
    let submit = |lines: &str| cluster.rwasm(map).stdin(lines).run().ok().stdout().trim().to_owned();
    let job = submit("[60000]\n");
    eventually("its task runs", || {
        let running = cluster.rwasm(["list", "tasks", "--state", "running", "--json"]).run().ok().json();
        (running["total"] == 1).then_some(())
    });
    let waiting = submit("[60000]\n[60000]\n");
    eventually("others wait for it at the head", || {
        let why = cluster.rwasm(["why", &format!("{}-0", waiting.replacen('j', "t", 1))]).run().ok().stdout();
        why.contains("all bundles of placement group trainer are in use").then_some(())
    });
    cluster.rwasm(["placement-group", "remove", "trainer"]).run().ok();
    for job in [job, waiting] {
        cluster.rwasm(["job", "wait", &job]).run().fails(1, "RW0823").says("placement group trainer was removed");
    }
}
