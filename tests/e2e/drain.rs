//! Nodes that are taken out of use: what runs may end, what waits goes elsewhere, and it is remembered.

use serde_json::json;

use crate::harness::{
    Cluster, eventually, guest, text_guest,
    work::{sleepers, tasks, until_running},
};

/// A node's state, as lists show it.
fn state(cluster: &Cluster, node: &str) -> String {
    let shown = cluster.rwasm(["list", "nodes"]).run().ok().stdout();
    let row = shown.lines().find(|line| line.starts_with(&format!("{node} "))).unwrap_or_default();
    row.split_whitespace().nth(2).unwrap_or_default().trim_end_matches(',').to_owned()
}

#[test]
fn what_runs_may_end_and_nothing_new_begins() {
    let cluster = Cluster::build().nodes(1).cpus(1).start();
    let driver = sleepers(&cluster, 2_000, 4, &[]);
    until_running(&cluster, 2);
    let told = cluster.rwasm(["node", "drain", "n2", "--json"]).run().ok().json();
    assert!(told["drain"]["deadline_ms"].as_u64() > told["drain"]["since_ms"].as_u64(), "{told}");
    if told["tasks_running"] == 1 {
        cluster.rwasm(["status"]).run().ok();
    }
    cluster.rwasm(["node", "drain", "n2", "--wait"]).run().ok().prints("node n2 takes no more work, and nothing runs there\n");
    assert_eq!((state(&cluster, "n2").as_str(), state(&cluster, "n1").as_str()), ("drained", "alive"));
    cluster.rwasm(["status"]).run().ok().has(" (drained)");
    driver.wait().ok().prints(&"null\n".repeat(4)).says(" 0 failed");
    let done = tasks(&cluster, "succeeded");
    assert!(done.iter().all(|task| task["attempt"] == 1), "nothing was tried again: {done:?}");
    assert!(done.iter().filter(|task| task["node"] == "n2").count() <= 2, "{done:?}");
    // More than one node's worth, and still nothing for the other.
    let driver = sleepers(&cluster, 300, 3, &[]);
    driver.wait().ok();
    let latest = &tasks(&cluster, "succeeded")[..3];
    assert!(latest.iter().all(|task| task["node"] == "n1"), "{latest:?}");
    cluster.rwasm(["node", "undrain", "n2"]).run().ok().has("node n2 takes work");
    let driver = sleepers(&cluster, 3_600_000, 2, &[]);
    assert!(until_running(&cluster, 2).iter().any(|task| task["node"] == "n2"));
    driver.signal(rustix::process::Signal::INT);
    driver.wait().exits(130);
}

#[test]
fn at_the_deadline_functions_are_tried_elsewhere_and_commands_are_not() {
    let mut cluster = Cluster::build().nodes(1).cpus(1).start();
    let driver = sleepers(&cluster, 3_600_000, 2, &[]);
    until_running(&cluster, 2);
    cluster.rwasm(["node", "drain", "n2", "--deadline", "0s", "--wait"]).run().ok();
    let waiting = eventually("its task waits again", || tasks(&cluster, "queued").pop());
    assert_eq!(waiting["attempt"], 2, "{waiting}");
    cluster.rwasm(["why", waiting["id"].as_str().unwrap()]).run().ok();
    cluster.add_node();
    let running = until_running(&cluster, 2);
    assert!(running.iter().any(|task| task["node"] == "n3" && task["attempt"] == 2), "{running:?}");
    driver.signal(rustix::process::Signal::INT);
    driver.wait().exits(130);

    let mut speaks = [(); 2].map(|()| cluster.rwasm(["submit", &text_guest("speaks")]).spawn());
    for driver in &mut speaks {
        driver.until_stdout("to stdout\n");
    }
    cluster.rwasm(["node", "drain", "n3", "--deadline", "0s"]).run().ok();
    let failed = eventually("its command has failed", || tasks(&cluster, "failed").pop());
    assert_eq!((&failed["attempt"], &failed["error"]["code"]), (&json!(1), &json!("RW0653")), "{failed}");
    let ended = eventually("its driver ends", || speaks.iter_mut().position(|driver| !driver.runs()));
    let [first, second] = speaks;
    let (ended, left) = if ended == 0 { (first, second) } else { (second, first) };
    ended.wait().fails(1, "RW0653");
    left.signal(rustix::process::Signal::INT);
    left.wait().exits(130);
}

/// The node that drivers attach to goes on owning their jobs; their tasks run elsewhere.
#[test]
fn the_gateways_own_node_can_be_drained() {
    let cluster = Cluster::build().nodes(1).cpus(1).start();
    let driver = sleepers(&cluster, 3_600_000, 1, &[]);
    until_running(&cluster, 1);
    cluster.rwasm(["node", "drain", "n1", "--deadline", "0s", "--wait"]).run().ok();
    let running = until_running(&cluster, 1);
    assert_eq!((&running[0]["node"], &running[0]["attempt"]), (&json!("n2"), &json!(2)), "{running:?}");
    driver.signal(rustix::process::Signal::INT);
    driver.wait().exits(130);
    cluster.rwasm(["submit", &guest("hello"), "--call", "add(1, 2)"]).run().ok().prints("3\n");
    assert_eq!(tasks(&cluster, "succeeded")[0]["node"], "n2");
    cluster.rwasm(["node", "drain", "n2", "--deadline", "0s", "--wait"]).run().ok();
    let driver = sleepers(&cluster, 1, 1, &[]);
    let waiting = eventually("it waits", || tasks(&cluster, "queued").pop());
    cluster.rwasm(["why", waiting["id"].as_str().unwrap()]).run().ok().has("node n1 takes no more work");
    cluster.rwasm(["node", "undrain", "n1"]).run().ok();
    driver.wait().ok().prints("null\n");
}

#[test]
fn a_drained_node_stays_so_when_the_head_starts_again() {
    let mut cluster = Cluster::build().nodes(1).cpus(1).start();
    cluster.rwasm(["node", "drain", "n2", "--deadline", "1h"]).run().ok();
    cluster.head.kill();
    cluster.start_head_again();
    eventually("the node is back", || (state(&cluster, "n2") == "drained").then_some(()));
    cluster.rwasm(["node", "undrain", "n2"]).run().ok();
    assert_eq!(state(&cluster, "n2"), "alive");
}

#[test]
fn what_cannot_be_drained_is_said_so() {
    let cluster = Cluster::start(0);
    cluster.rwasm(["node", "drain", "n7"]).run().fails(2, "RW0003");
    cluster.rwasm(["node", "undrain", "n7"]).run().fails(2, "RW0003");
    cluster.rwasm(["node", "drain", "n1", "--deadline", "10d"]).run().fails(2, "RW0007");
    cluster.rwasm(["node", "drain", "x"]).run().exits(2);
}
