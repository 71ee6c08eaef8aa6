//! Jobs and tasks after they were submitted: listed, looked into, waited for, stopped, explained.

use serde_json::{Value, json};

use crate::harness::{Cluster, Home, eventually, guest, run::Output};

/// Submits a call that nobody waits for; gives its job.
fn submit(cluster: &Cluster, name: &str, args: &[&str]) -> String {
    let submitted = cluster.rwasm(["submit", &guest(name), "--no-wait"]).args(args).run().ok();
    submitted.stdout().trim().to_owned()
}

/// A call that goes on until it is stopped.
fn endless(cluster: &Cluster) -> String {
    submit(cluster, "evil-wasi", &["--call", "sleep-for(3600000)"])
}

fn task(job: &str, sequence: u32) -> String {
    format!("t{}-{sequence}", job.trim_start_matches('j'))
}

fn until_state(cluster: &Cluster, job: &str, count: &str, wanted: u64) -> Value {
    eventually(&format!("{wanted} of the tasks of {job} are {count}"), || {
        let record = cluster.rwasm(["job", "status", job, "--json"]).run().ok().json();
        (record["tasks"][count] == wanted).then_some(record)
    })
}

#[test]
fn a_job_is_left_to_the_cluster_and_waited_for_later() {
    let cluster = Cluster::start(0);
    let submitted = cluster.rwasm(["submit", &guest("hello"), "--call", "add(1, 2)", "--no-wait"]).run().ok();
    let job = submitted.stdout().trim().to_owned();
    assert_eq!(submitted.stderr(), format!("follow it with `rwasm job logs -f {job}`, wait for it with `rwasm job wait {job}`\n"));
    let waited = cluster.rwasm(["job", "wait", &job]).run().ok().has("state     succeeded");
    waited.has("tasks     1 of 1 ended: 1 succeeded, 0 failed");
    let record = cluster.rwasm(["submit", &guest("hello"), "--map", "-", "--func", "divide", "--no-wait", "--json", "--name", "a name"]);
    let record = record.stdin("[1, 0]\n[4, 2]\n").run().ok().json();
    assert_eq!((&record["name"], &record["detached"]), (&json!("a name"), &json!(true)));
    let failed = cluster.rwasm(["job", "wait", record["id"].as_str().unwrap(), "--json"]).run().exits(1);
    assert_eq!(failed.json()["tasks"]["failed"], 1);
    assert_eq!(failed.json_error()["code"], "RW0411");
    cluster.rwasm(["job", "wait", record["id"].as_str().unwrap()]).run().fails(1, "RW0411");
}

#[test]
fn waiting_ends_with_its_timeout() {
    let cluster = Cluster::start(0);
    let job = endless(&cluster);
    let late = cluster.rwasm(["job", "wait", &job, "--timeout", "50ms"]).run().fails(1, "RW0511");
    assert!(late.stderr().contains("has not ended within 50.0ms"), "{late:?}");
    cluster.rwasm(["job", "stop", &job]).run().ok();
    cluster.rwasm(["job", "wait", &job]).run().exits(1).has("state     cancelled");
}

#[test]
fn jobs_tasks_nodes_and_artifacts_are_listed() {
    let cluster = Cluster::start(1);
    let ok = submit(&cluster, "hello", &["--call", "add(1, 2)", "--name", "sum"]);
    until_state(&cluster, &ok, "succeeded", 1);
    let failed = submit(&cluster, "hello", &["--call", "divide(1, 0)"]);
    until_state(&cluster, &failed, "failed", 1);
    let running = endless(&cluster);
    until_state(&cluster, &running, "running", 1);
    let rows = |output: Output| -> Vec<Vec<String>> {
        let cells = |line: &str| line.split_whitespace().map(str::to_owned).collect();
        output.ok().quiet().stdout().lines().map(cells).collect()
    };
    let ask = |args: &[&str]| cluster.rwasm(args).run();

    let jobs = rows(ask(&["job", "list"]));
    assert_eq!(jobs[0], ["JOB", "STATE", "NAME", "TASKS", "FAILED", "SUBMITTED", "ERROR"]);
    let short: Vec<_> = jobs[1..].iter().map(|row| row[..5].join(" ")).collect();
    assert_eq!(
        short,
        [
            format!("{running} running evil-wasi.wasm 0/1 0"),
            format!("{failed} failed hello.wasm 1/1 1"),
            format!("{ok} succeeded sum 1/1 0")
        ]
    );
    assert_eq!(jobs[2].last().unwrap(), "RW0411");
    assert_eq!(rows(ask(&["list", "jobs"])), jobs);
    assert_eq!(rows(ask(&["list", "jobs", "--state", "failed"])).len(), 2);
    let cut = ask(&["job", "list", "--limit", "1"]).ok().says("1 of 3; --limit shows more");
    assert_eq!(cut.stdout().lines().count(), 2);

    let tasks = rows(ask(&["list", "tasks"]));
    assert_eq!(tasks[0], ["TASK", "STATE", "EXPORT", "NODE", "ATTEMPT", "TOOK", "CPU", "ERROR"]);
    assert_eq!(tasks[1][..3], [task(&running, 0).as_str(), "running", "sleep-for"]);
    assert_eq!(tasks[2][..5], [task(&failed, 0).as_str(), "failed", "divide", "n1", "1"]);
    assert!(tasks[2].join(" ").ends_with("RW0411: the function returned err(\"1 cannot be divided by 0\")"), "{:?}", tasks[2]);
    assert_eq!(rows(ask(&["list", "tasks", "--state", "succeeded"]))[1..].len(), 1);
    assert_eq!(rows(ask(&["list", "tasks", "--job", &failed]))[1..].len(), 1);
    let json = ask(&["list", "tasks", "--json", "--state", "failed"]).ok().json();
    assert_eq!((&json["total"], &json["rows"][0]["error"]["code"], &json["missing"]), (&json!(1), &json!("RW0411"), &json!([])));

    let nodes = rows(ask(&["list", "nodes"]));
    assert_eq!(nodes[0], ["NODE", "NAME", "STATE", "CPU", "GPU", "MEMORY", "RUNNING", "WAITING", "ADDRESS"]);
    assert_eq!((nodes[1][0].as_str(), nodes[2][0].as_str(), nodes.len()), ("n1", "n2", 3));
    assert_eq!(ask(&["list", "nodes", "--json"]).ok().json()["rows"][0]["gateway_address"], cluster.gateway());

    let artifacts = ask(&["list", "artifacts", "--json"]).ok().json();
    assert_eq!(artifacts["total"], 2);
    let inspected = ask(&["inspect", &guest("hello"), "--json"]).ok().json();
    assert!(artifacts["rows"].as_array().unwrap().iter().any(|row| row["digest"] == inspected["digest"]), "{artifacts}");
    assert_eq!(rows(ask(&["list", "artifacts"]))[0], ["ARTIFACT", "TAGS", "SIZE", "COMPILED", "NODES", "JOBS", "STORED", "USED", "TENANT"]);
    ask(&["job", "stop", &running]).ok();
}

/// The shape is that of `ray status`: sections, rules, `used/total`.
#[test]
fn the_status_at_a_glance() {
    let mut cluster = Cluster::build().cpus(4).args(&["--memory", "1GiB"]).start();
    cluster.add_node_with(&["--name", "bert", "--labels", "zone=a", "--resources", "{\"license\": 2}", "--num-gpus", "1"]);
    let shown = cluster.rwasm(["status", "-v"]).run().ok().quiet();
    let own_name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let line = |line: &str| match line.trim_start().split_once(' ').unwrap_or_default() {
        ("Joined:", _) => " Joined: AGE ago".to_owned(),
        ("Daemon", _) => " Daemon memory: SIZE".to_owned(),
        ("Cluster", _) => "Cluster ID, version VERSION, up AGE".to_owned(),
        _ => line.replace(own_name.trim(), "HOSTNAME"),
    };
    let lines: Vec<String> = cluster.home.tidy(&shown.stdout()).lines().map(line).collect();
    insta::assert_snapshot!(lines.join("\n"), @r#"
    ======== Cluster status: TIME ========
    Cluster ID, version VERSION, up AGE

    Node status
    ---------------------------------------------------------------
    Active:
     n1 head HOSTNAME: 0 running, 0 waiting
     n2 node bert: 0 running, 0 waiting
    Recent failures:
     (no failures)

    Resources
    ---------------------------------------------------------------
    Total usage:
     0/8 CPU
     0/1 GPU
     0B/2GiB memory
     0/2 license
    Pending demands:
     (no resource demands)
    Jobs:
     (none)

    Node: n1 (HOSTNAME)
     State: alive
     Joined: AGE ago
     Addresses: data 127.0.0.1:PORT, gateway 127.0.0.1:PORT
     Daemon memory: SIZE
     Usage:
     0/4 CPU
     0B/1GiB memory

    Node: n2 (bert)
     State: alive
     Joined: AGE ago
     Addresses: data 127.0.0.1:PORT, gateway -
     Labels: zone=a
     Daemon memory: SIZE
     Usage:
     0/4 CPU
     0/1 GPU
     0B/1GiB memory
     0/2 license
    "#);
    let json = cluster.rwasm(["status", "--json"]).run().ok().json();
    assert_eq!((json["nodes"].as_array().unwrap().len(), &json["nodes"][1]["capacity"]["custom"]), (2, &json!({"license": 2})));
}

#[test]
fn why_says_what_each_task_waits_for_or_died_of() {
    let cluster = Cluster::build().cpus(1).args(&["--memory", "1GiB"]).start();
    let why = |task: &str| {
        let said = cluster.rwasm(["why", task]).run().ok().quiet().stdout();
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(cluster.rwasm(["why", task, "--json"]).run().ok().json()["why"].as_str().map(str::len) > Some(0));
        said.trim_end().to_owned()
    };
    let running = endless(&cluster);
    until_state(&cluster, &running, "running", 1);
    assert!(why(&task(&running, 0)).starts_with(&format!("{} has been on node n1 for ", task(&running, 0))));
    let queued = endless(&cluster);
    until_state(&cluster, &queued, "queued", 1);
    let said = why(&task(&queued, 0));
    assert!(said.starts_with(&format!("{} waits for cpu 1, memory ", task(&queued, 0))), "{said}");
    assert!(said.contains(": node n1 has memory ") && said.ends_with(" free of cpu 1, memory 1GiB, and 1 tasks wait there"), "{said}");
    for job in [&queued, &running] {
        cluster.rwasm(["job", "stop", job]).run().ok();
        until_state(&cluster, job, "cancelled", 1);
    }
    assert_eq!(why(&task(&queued, 0)), format!("{} was cancelled", task(&queued, 0)));
    let ok = submit(&cluster, "hello", &["--call", "add(1, 2)"]);
    until_state(&cluster, &ok, "succeeded", 1);
    assert_eq!(why(&task(&ok, 0)), format!("{} succeeded on node n1", task(&ok, 0)));
    let failed = submit(&cluster, "evil-command", &["--", "exit-code", "3"]);
    until_state(&cluster, &failed, "failed", 1);
    assert_eq!(why(&task(&failed, 0)), format!("{} failed on node n1: the guest exited with status 3 (RW0408)", task(&failed, 0)));
    let infeasible = submit(&cluster, "hello", &["--call", "add(1, 2)", "--num-cpus", "64"]);
    until_state(&cluster, &infeasible, "failed", 1);
    let said = why(&task(&infeasible, 0));
    assert!(said.contains(" failed on no node: no node has cpu 64, memory ") && said.ends_with(" (RW0801)"), "{said}");
    for unknown in ["t1-999999-0", "t9-1-0", &task(&ok, 7)] {
        cluster.rwasm(["why", unknown]).run().fails(2, "RW0003");
    }
    cluster.rwasm(["why", "x"]).run().fails(2, "RW0002").says("`x` is not a task id, which looks like");
}

/// The bomb compiles for minutes; nothing of it is in the cache, and nothing is left of its compiler.
#[test]
fn a_task_waits_visibly_for_its_artifact_and_can_be_stopped_then() {
    let cluster = Cluster::build().own_cache().start();
    let job = submit(&cluster, "evil-compile-bomb", &["--call", "run(1)"]);
    let record = until_state(&cluster, &job, "compiling", 1);
    assert_eq!(record["state"], "running");
    let said = cluster.rwasm(["why", &task(&job, 0)]).run().ok().stdout();
    assert!(said.ends_with("to be compiled\n"), "{said}");
    eventually("a compile worker runs", || (cluster.processes().len() == 2).then_some(()));
    cluster.rwasm(["job", "stop", &job]).run().ok();
    until_state(&cluster, &job, "cancelled", 1);
}

#[test]
fn an_endless_loop_is_stopped_and_the_slot_is_free() {
    let cluster = Cluster::build().cpus(1).start();
    let job = submit(&cluster, "evil-compute", &["--call", "spin()"]);
    until_state(&cluster, &job, "running", 1);
    let stopped = cluster.rwasm(["job", "stop", &job, "--json"]).run().ok().json();
    assert_eq!(stopped["id"], job.as_str());
    assert_eq!(until_state(&cluster, &job, "cancelled", 1)["state"], "cancelled");
    cluster.rwasm(["submit", &guest("hello"), "--call", "add(1, 2)"]).run().ok().prints("3\n");
    // Once more does no harm.
    cluster.rwasm(["job", "stop", &job]).run().ok();
}

/// Whoever waits in the foreground is told.
#[test]
fn a_driver_is_told_that_somebody_stopped_its_job() {
    let cluster = Cluster::build().cpus(1).start();
    let work = cluster.rwasm(["submit", &guest("evil-compute"), "--map", "-", "--func", "work"]);
    let driver = work.stdin("[18446744073709551615]\n".repeat(3)).spawn();
    let job = eventually("its job runs", || {
        let jobs = cluster.rwasm(["job", "list", "--json"]).run().ok().json();
        (jobs["rows"][0]["tasks"]["running"] == 1).then(|| jobs["rows"][0]["id"].as_str().unwrap().to_owned())
    });
    cluster.rwasm(["job", "stop", &job]).run().ok();
    let told = driver.wait().fails(1, "RW0413");
    assert_eq!(told.json_lines().len(), 3);
    assert!(told.json_lines().iter().all(|line| line["$error"]["code"] == "RW0409"), "{told:?}");
}

#[test]
fn unknown_jobs_are_refused() {
    let cluster = Cluster::start(0);
    for command in ["status", "logs", "stop", "wait"] {
        cluster.rwasm(["job", command, "j1-999999"]).run().fails(2, "RW0003").prints("");
        cluster.rwasm(["job", command, "j7-1"]).run().fails(2, "RW0003").prints("");
        cluster.rwasm(["job", command, "7"]).run().fails(2, "RW0002").says("is not a job id, which looks like");
    }
}

#[test]
fn nothing_of_this_needs_more_than_a_home() {
    // An empty cluster has empty lists, not errors.
    let cluster = Cluster::start(0);
    for what in ["tasks", "jobs", "artifacts"] {
        let listing = cluster.rwasm(["list", what, "--json"]).run().ok().json();
        assert_eq!(listing, json!({"rows": [], "total": 0, "missing": []}));
        assert_eq!(cluster.rwasm(["list", what]).run().ok().stdout().lines().count(), 1);
    }
    let home = Home::new();
    home.rwasm(["list", "tasks", "--limit", "0"]).run().fails(2, "RW0002").says("`0` is not a number from 1 to 10000");
    home.rwasm(["list", "tasks", "--state", "asleep"]).run().fails(2, "RW0002").says("compiling, queued, running");
}
