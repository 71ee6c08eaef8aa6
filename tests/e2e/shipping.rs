//! What nodes did is known when they are gone: their past is shipped to the head, and what did not arrive shows as a gap.

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::{Value, json};

use crate::harness::{Cluster, eventually, guest};

/// Submits through a node's own gateway.
fn submit(cluster: &Cluster, gateway: &str, token: &str, args: &[&str], lines: &str) -> i32 {
    let submit = cluster.rwasm(["submit", "--address", gateway]).args(args).env("RWASM_TOKEN", token);
    submit.stdin(lines).run().code()
}

/// The segments of a directory that hold something.
fn segments(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().filter(|entry| entry.path().extension().is_some_and(|e| e == "seg"));
    let read = entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap_or_default()));
    read.filter(|(_, bytes)| bytes.len() > 80).collect()
}

fn shipped(cluster: &Cluster) -> BTreeMap<String, Vec<u8>> {
    segments(&cluster.home.state().join("head/shipped/n2"))
}

/// Waits until the head has, byte for byte, what the node wrote, and that tells of so many jobs that ended.
fn until_all_is_shipped(cluster: &Cluster, ended: usize) {
    eventually("all is shipped", || {
        let written = segments(&cluster.home.state().join("node-1/past"));
        let ends: usize = written.values().map(|bytes| count(bytes, b"\"chunks\":[")).sum();
        (ends == ended && written == shipped(cluster)).then_some(())
    });
}

fn count(bytes: &[u8], text: &[u8]) -> usize {
    bytes.windows(text.len()).filter(|found| *found == text).count()
}

fn ask(cluster: &Cluster, token: &str, question: &[&str]) -> Value {
    cluster.rwasm(question).env("RWASM_TOKEN", token).args(["--json"]).run().ok().json()
}

/// What several questions are answered.
fn answers(cluster: &Cluster, token: &str, job: &str) -> Vec<Value> {
    let task = format!("t{}-0", job.trim_start_matches('j'));
    let questions: [&[&str]; 6] = [
        &["job", "list"],
        &["job", "list", "--state", "failed"],
        &["job", "status", job],
        &["list", "tasks"],
        &["list", "tasks", "--job", job, "--state", "failed"],
        &["why", &task],
    ];
    questions.iter().map(|question| ask(cluster, token, question)).collect()
}

#[test]
fn the_past_of_a_node_that_is_gone_is_answered_for_by_the_head() {
    let mut cluster = Cluster::start(0);
    let gateway = cluster.add_gateway(None);
    let token = |name: &str| {
        cluster.rwasm(["tenant", "create", name]).run().ok();
        cluster.rwasm(["token", "create", "--tenant", name]).run().ok().stdout().trim().to_owned()
    };
    let (acme, other) = (token("acme"), token("other"));
    assert_eq!(submit(&cluster, &gateway, &acme, &[&guest("hello"), "--map", "-", "--func", "divide"], "[1, 0]\n[4, 2]\n"), 1);
    assert_eq!(submit(&cluster, &gateway, &acme, &[&guest("hello"), "--call", "add(1, 2)"], ""), 0);
    until_all_is_shipped(&cluster, 2);
    let jobs = ask(&cluster, &acme, &["job", "list"]);
    let job = jobs["rows"][1]["id"].as_str().unwrap().to_owned();
    assert!(job.starts_with("j2-"), "{jobs}");
    let before = answers(&cluster, &acme, &job);
    cluster.nodes[0].kill();
    eventually("the head answers for it, and nothing is missing", || (answers(&cluster, &acme, &job) == before).then_some(()));
    cluster.head.kill();
    cluster.start_head_again();
    assert_eq!(answers(&cluster, &acme, &job), before);
    cluster.rwasm(["job", "list"]).env("RWASM_TOKEN", &acme).run().ok().has("hello").has("failed");

    // Of another tenant's there is nothing, and of a deleted tenant's neither.
    for list in [["job", "list"], ["list", "tasks"]] {
        assert_eq!(ask(&cluster, &other, &list), json!({ "rows": [], "total": 0, "missing": [] }));
    }
    let told = |job: &str| {
        let told = cluster.rwasm(["job", "status", job]).env("RWASM_TOKEN", &other).run().fails(2, "RW0003").stderr();
        told.replace(job, "JOB")
    };
    assert_eq!(told(&job), told("j2-777777"));
    let task = format!("t{}-0", job.trim_start_matches('j'));
    cluster.rwasm(["why", &task]).env("RWASM_TOKEN", &other).run().fails(2, "RW0003");
    cluster.rwasm(["list", "tasks", "--job", &job]).env("RWASM_TOKEN", &other).run().fails(2, "RW0003");
    cluster.rwasm(["job", "list", "--tenant", "acme"]).run().ok().has("hello");
    cluster.rwasm(["tenant", "delete", "acme"]).run().ok();
    cluster.rwasm(["job", "list", "--tenant", "acme"]).run().fails(2, "RW0003");
    cluster.rwasm(["job", "list"]).env("RWASM_TOKEN", &acme).run().exits(2);
}

/// The node dies when it is asked for the end of its job.
#[test]
fn what_did_not_arrive_is_a_gap_and_a_job_without_an_end_is_lost_until_its_owner_is_back() {
    let mut cluster = Cluster::start(0);
    let gateway = cluster.add_gateway(Some("before-shipping:2"));
    let token = cluster.token();
    assert_eq!(submit(&cluster, &gateway, &token, &[&guest("evil-wasi"), "--call", "sleep-for(1000)", "--no-wait"], ""), 0);
    eventually("its begin has arrived", || {
        shipped(&cluster).values().any(|bytes| count(bytes, b"\"state\":\"running\"") == 1).then_some(())
    });
    cluster.nodes[0].gone();
    let lost = eventually("the job is lost", || {
        let jobs = cluster.rwasm(["job", "list", "--state", "failed", "--json"]).run().ok().json();
        (jobs["total"] == 1).then_some(jobs)
    });
    let job = lost["rows"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!((&lost["rows"][0]["state"], &lost["rows"][0]["error"]["code"]), (&json!("failed"), &json!("RW0504")), "{lost}");
    let missing = eventually("the gap is told", || {
        let jobs = cluster.rwasm(["job", "list", "--json"]).run().ok().json();
        jobs["missing"].to_string().contains("lost since").then(|| jobs["missing"].clone())
    });
    assert_eq!(missing.as_array().unwrap().len(), 1, "{missing}");
    for list in [["job", "list"], ["list", "tasks"]] {
        cluster.rwasm(list).run().ok().says("incomplete: node n2 is lost since 2").says("is not known here");
    }
    cluster.rwasm(["job", "status", &job]).run().ok().has("failed").has("RW0504");
    cluster.rwasm(["list", "tasks", "--job", &job]).run().ok().says("which tasks it had is not known");
    assert_eq!(cluster.rwasm(["job", "list", "--state", "running", "--json"]).run().ok().json()["total"], 0);
    cluster.head.kill();
    cluster.start_head_again();
    cluster.rwasm(["job", "list"]).run().ok().says("incomplete: node n2 is lost since 2");

    cluster.add_gateway(None);
    cluster.rwasm(["job", "wait", &job]).run().ok().has("succeeded");
    until_all_is_shipped(&cluster, 1);
    cluster.nodes[1].kill();
    eventually("nothing is missing", || {
        let jobs = cluster.rwasm(["job", "list", "--json"]).run().ok().json();
        (jobs["missing"] == json!([]) && jobs["rows"][0]["state"] == "succeeded" && jobs["total"] == 1).then_some(())
    });
}

#[test]
fn a_head_that_dies_while_it_is_shipped_to_has_everything_once() {
    for point in ["before-shipped:2", "after-shipped:2", "after-indexed:2", "after-shipped:5"] {
        let mut cluster = Cluster::build().env("RWASM_FAULT_POINT", point).start();
        let gateway = cluster.add_gateway(None);
        let token = cluster.token();
        for job in 0..6 {
            let lines = "[4, 2]\n".repeat(2_000 + job);
            assert_eq!(submit(&cluster, &gateway, &token, &[&guest("hello"), "--map", "-", "--func", "divide"], &lines), 0, "{point}");
        }
        cluster.head.gone();
        cluster.start_head_again();
        until_all_is_shipped(&cluster, 6);
        let before = ask(&cluster, &token, &["job", "list"]);
        assert_eq!((&before["total"], &before["missing"]), (&json!(6), &json!([])), "{point}");
        cluster.nodes[0].kill();
        eventually("the head has the same", || (ask(&cluster, &token, &["job", "list"]) == before).then_some(()));
        let tasks = ask(&cluster, &token, &["list", "tasks", "--state", "succeeded", "--limit", "1"]);
        assert_eq!(tasks["total"], (0..6).map(|job| 2_000 + job).sum::<u64>(), "{point}");
    }
}

/// What is stopped in peace has said all.
#[test]
fn a_node_that_leaves_leaves_no_gap() {
    let mut cluster = Cluster::start(0);
    let gateway = cluster.add_gateway(None);
    let token = cluster.token();
    assert_eq!(submit(&cluster, &gateway, &token, &[&guest("hello"), "--call", "add(1, 2)"], ""), 0);
    until_all_is_shipped(&cluster, 1);
    cluster.nodes[0].process.signal(rustix::process::Signal::TERM);
    cluster.nodes[0].gone();
    eventually("all of it is there", || {
        let jobs = ask(&cluster, &token, &["job", "list"]);
        (jobs["missing"] == json!([]) && jobs["total"] == 1).then_some(())
    });
}
