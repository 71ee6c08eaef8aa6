//! What survives the process that owns it: unfinished jobs, their drivers' streams, and what lists show of jobs that ended.

use std::collections::BTreeMap;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Cluster, eventually, guest, text_guest};

/// Lines for `add`, and what is printed for them.
fn additions(count: u32) -> (String, String) {
    let lines = (0..count).map(|number| format!("[{number}, 1]\n")).collect();
    (lines, (1..=count).map(|sum| format!("{sum}\n")).collect())
}

fn job_of(cluster: &Cluster) -> String {
    let jobs = cluster.rwasm(["job", "list", "--json"]).run().ok().json();
    jobs["rows"][0]["id"].as_str().unwrap().to_owned()
}

fn until_ended(cluster: &Cluster, job: &str) -> Value {
    eventually("the job has ended", || {
        let record = cluster.rwasm(["job", "status", job, "--json"]).run().ok().json();
        (record["state"] != "running").then_some(record)
    })
}

/// The head's process dies at a named point, in the middle of a map. Started again, it goes on, and every line is printed once.
#[test]
fn a_map_survives_the_death_of_its_owner_at_every_point() {
    for point in ["before-append:30", "after-append:30", "before-delivery:9", "during-sync:2"] {
        let mut cluster = Cluster::build().env("RWASM_FAULT_POINT", point).start();
        let (lines, sums) = additions(20_000);
        let driver = cluster.rwasm(["submit", &guest("hello"), "--map", "-", "--func", "add"]).stdin(lines).spawn();
        cluster.head.gone();
        cluster.start_head_again();
        let output = driver.wait().ok();
        assert!(output.stdout() == sums, "{point}: {} lines", output.stdout().lines().count());
        let output = output.says("trying to come back to job").says("back at job").says("20000 tasks in ");
        let record = until_ended(&cluster, &job_of(&cluster));
        assert_eq!((&record["tasks"]["succeeded"], &record["state"]), (&json!(20_000), &json!("succeeded")), "{point}: {output:?}");
    }
}

/// Killed several times in a row, also while it goes on with what it left.
#[test]
fn a_map_survives_several_deaths() {
    let mut cluster = Cluster::build().env("RWASM_FAULT_POINT", "before-delivery:3").start();
    let (lines, sums) = additions(5_000);
    let driver = cluster.rwasm(["submit", &guest("hello"), "--map", "-", "--func", "add"]).stdin(lines).spawn();
    cluster.head.gone();
    for point in ["after-append:7", "before-delivery:2", "before-append:9"] {
        cluster.start_head_to_die(point);
    }
    cluster.start_head_again();
    assert!(driver.wait().ok().stdout() == sums);
}

#[test]
fn a_detached_job_goes_on_after_its_owner_was_killed() {
    let mut cluster = Cluster::build().cpus(1).start();
    let map = cluster.rwasm(["submit", &guest("evil-wasi"), "--map", "-", "--func", "sleep-for", "--no-wait"]);
    let job = map.stdin("[300]\n".repeat(4)).run().ok().stdout().trim().to_owned();
    eventually("a task runs", || {
        let tasks = cluster.rwasm(["list", "tasks", "--state", "running", "--json"]).run().ok().json();
        (tasks["total"] == 1).then_some(())
    });
    cluster.head.kill();
    cluster.start_head_again();
    cluster.rwasm(["job", "wait", &job]).run().ok().has("4 of 4 ended: 4 succeeded");
    let tasks = cluster.rwasm(["list", "tasks", "--job", &job, "--json"]).run().ok().json();
    let attempts: Vec<&Value> = tasks["rows"].as_array().unwrap().iter().map(|task| &task["attempt"]).collect();
    assert!(attempts.contains(&&json!(2)), "what ran was tried again: {tasks}");
}

/// A command has side effects: whether it ran to its end in the process that died cannot be known, so it is not run again.
#[test]
fn a_command_whose_owner_was_killed_is_not_repeated() {
    let mut cluster = Cluster::build().cpus(1).start();
    let mut driver = cluster.rwasm(["submit", &text_guest("speaks")]).spawn();
    driver.until_stdout("to stdout\n");
    cluster.head.kill();
    cluster.start_head_again();
    let output = driver.wait().fails(1, "RW0504");
    assert_eq!(output.stdout(), "to stdout\n", "its output is not printed twice");
}

/// Nobody comes back for what a driver asked for that died with the owner.
#[test]
fn a_driver_that_left_while_its_owner_was_away_has_left() {
    let mut cluster = Cluster::build().cpus(1).start();
    let driver = cluster.rwasm(["submit", &guest("evil-wasi"), "--call", "sleep-for(3600000)"]).spawn();
    eventually("it runs", || {
        let jobs = cluster.rwasm(["job", "list", "--json"]).run().ok().json();
        (jobs["rows"][0]["tasks"]["running"] == 1).then_some(())
    });
    cluster.head.kill();
    driver.signal(Signal::KILL);
    driver.wait().exits(137);
    cluster.start_head_again();
    let record = until_ended(&cluster, &job_of(&cluster));
    assert_eq!((&record["error"]["code"], &record["tasks"]["cancelled"]), (&json!("RW0506"), &json!(1)), "{record}");
}

#[test]
fn jobs_that_ended_are_answered_for_from_disk() {
    let mut cluster = Cluster::start(0);
    cluster.rwasm(["submit", &guest("hello"), "--map", "-", "--func", "divide"]).stdin("[1, 0]\n[4, 2]\n[9, 3]\n").run().exits(1);
    cluster.rwasm(["submit", &guest("async-example"), "--call", "greet(\"a\", 1)"]).run();
    let divided =
        cluster.rwasm(["job", "list", "--state", "failed", "--json"]).run().ok().json()["rows"].as_array().unwrap().last().cloned();
    let job = divided.unwrap()["id"].as_str().unwrap().to_owned();
    let task = format!("t{}-0", job.trim_start_matches('j'));
    let questions: [&[&str]; 7] = [
        &["job", "list", "--json"],
        &["job", "status", &job, "--json"],
        &["list", "tasks", "--job", &job, "--json"],
        &["list", "tasks", "--json"],
        &["list", "tasks", "--state", "failed", "--json"],
        &["why", &task],
        &["job", "logs", &job],
    ];
    let ask = |cluster: &Cluster| -> BTreeMap<String, String> {
        questions.iter().map(|question| (question.join(" "), cluster.rwasm(*question).run().ok().stdout())).collect()
    };
    let before = ask(&cluster);
    for _ in 0..2 {
        cluster.head.kill();
        cluster.start_head_again();
        assert_eq!(ask(&cluster), before);
    }
    assert!(before["list tasks --json"].contains("RW0411"), "{before:#?}");
    let again = cluster.rwasm(["submit", &guest("hello"), "--call", "add(1, 2)", "--no-wait"]).run().ok().stdout();
    assert!(!before["job list --json"].contains(again.trim()), "no number is given twice");
}

#[test]
fn files_of_another_cluster_are_refused() {
    let mut cluster = Cluster::start(0);
    cluster.rwasm(["submit", &guest("hello"), "--call", "add(1, 2)"]).run().ok();
    cluster.head.kill();
    let state = cluster.home.state().join("head");
    let segment =
        std::fs::read_dir(state.join("past")).unwrap().flatten().find(|entry| entry.path().extension().is_some_and(|e| e == "seg"));
    let path = segment.unwrap().path();
    let good = std::fs::read(&path).unwrap();
    let mut foreign = good.clone();
    foreign[..8].copy_from_slice(b"SOMETHIN");
    std::fs::write(&path, foreign).unwrap();
    cluster.rwasm(["start", "--head", "--port", "0", "--client-port", "0"]).run().fails(2, "RW0631");
    std::fs::write(&path, good).unwrap();
    cluster.start_head_again();
    cluster.rwasm(["job", "list"]).run().ok().has("hello");
}
