//! `doctor`: what it finds is what is, and its exit status says whether something has to be done.

use serde_json::Value;

use crate::harness::{Cluster, Home};

fn finding<'a>(report: &'a Value, check: &str) -> &'a Value {
    let findings = report["findings"].as_array().unwrap();
    findings.iter().find(|finding| finding["check"] == check).unwrap_or_else(|| panic!("no {check}: {report}"))
}

#[test]
fn the_exit_status_says_whether_something_has_to_be_done() {
    let home = Home::new();
    let shown = home.rwasm(["doctor", "--json"]).run();
    let report = shown.json();
    // Whether this machine has what is needed is not the test's to say; that it can be looked at is.
    assert_eq!(shown.code(), i32::from(report["ok"] != true), "{shown:?}");
    for check in ["kernel", "processor", "memory-files", "engine", "compiling", "runtime-directory", "state-directory", "cache-directory"] {
        assert_eq!(finding(&report, check)["level"].as_str().map(|level| level == "bad"), Some(false), "{report}");
    }
    assert_eq!(finding(&report, "cluster")["found"], "none runs here");
    let text = home.rwasm(["doctor"]).run().stdout();
    assert_eq!(text.lines().filter(|line| line.starts_with("BAD")).count() == 0, report["ok"] == true, "{text}");
}

#[test]
fn what_is_wrong_is_named_with_what_to_do() {
    let home = Home::new();
    let file = home.write("file", "");
    let report = home.rwasm(["doctor", "--json"]).env("RWASM_STATE_DIR", &file).run().exits(1).json();
    let state = finding(&report, "state-directory");
    assert_eq!((&state["level"], &report["ok"]), (&Value::from("bad"), &Value::from(false)));
    assert!(state["remedy"].as_str().unwrap().contains("RWASM_STATE_DIR"), "{state}");
    let report = home.rwasm(["doctor", "--json", "--address", "127.0.0.1:1"]).env("RWASM_TOKEN", "x").run().exits(1).json();
    assert!(finding(&report, "cluster")["found"].as_str().unwrap().contains("RW0501"), "{report}");
}

#[test]
fn a_running_cluster_is_found_and_its_ports_are_ours() {
    let cluster = Cluster::start(0);
    let report = cluster.rwasm(["doctor", "--json"]).run().json();
    let found = finding(&report, "cluster");
    assert_eq!(found["level"], "ok", "{found}");
    assert!(found["found"].as_str().unwrap().starts_with(&cluster.gateway()), "{found}");
}
