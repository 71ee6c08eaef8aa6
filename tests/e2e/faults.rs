//! Processes that die: a retry or a named error, never a hang, and nothing left behind.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{
    Cluster, Home, eventually, everywhere, guest,
    place::Place,
    process, text_guest,
    work::{sleepers, tasks, until_running},
};

#[test]
fn work_of_a_killed_node_is_done_by_another() {
    let cluster = Cluster::build().nodes(2).cpus(1).start();
    let driver = sleepers(&cluster, 1000, 3, &[]);
    until_running(&cluster, 3);
    cluster.nodes[0].kill();
    driver.wait().ok().prints("null\nnull\nnull\n").says(" 0 failed");
    let again: Vec<_> = tasks(&cluster, "succeeded").into_iter().filter(|task| task["attempt"] == 2).collect();
    assert_eq!(again.len(), 1, "{again:?}");
    let status = cluster.rwasm(["status"]).run().ok().stdout();
    assert!(status.contains("Recent failures:\n n2 ") && !status.contains("(no failures)"), "{status}");
    cluster.rwasm(["list", "nodes"]).run().ok().has(" lost ");
}

#[test]
fn without_retries_a_lost_node_is_a_named_error_of_its_line() {
    let cluster = Cluster::build().nodes(1).cpus(1).start();
    let driver = sleepers(&cluster, 3000, 2, &["--max-retries", "0"]);
    let running = until_running(&cluster, 2);
    let lost = running.iter().position(|task| task["node"] == "n2").unwrap();
    let lost = running[lost]["id"].as_str().unwrap().rsplit_once('-').unwrap().1.parse::<usize>().unwrap();
    cluster.nodes[0].kill();
    let output = driver.wait().fails(1, "RW0413");
    let lines = output.json_lines();
    assert_eq!(lines[lost]["$error"]["code"], "RW0504", "{output:?}");
    assert_eq!(lines[1 - lost], Value::Null, "the rest is returned");
    output.says(&format!("1 of 2 tasks failed; the first, line {}: ", lost + 1)).says("(RW0504)");
}

/// A command has side effects, so it is not run twice unless that is asked for.
#[test]
fn a_command_on_a_lost_node_is_not_repeated() {
    let cluster = Cluster::build().nodes(1).cpus(1).start();
    let speaks = || cluster.rwasm(["submit", &text_guest("speaks")]).spawn();
    let mut drivers = [speaks(), speaks()];
    for driver in &mut drivers {
        driver.until_stdout("to stdout\n");
    }
    let lost = until_running(&cluster, 2).into_iter().find(|task| task["node"] == "n2").unwrap();
    cluster.nodes[0].kill();
    let failed = eventually("its task has failed", || tasks(&cluster, "failed").pop());
    assert_eq!((&failed["id"], &failed["attempt"], &failed["error"]["code"]), (&lost["id"], &json!(1), &json!("RW0504")));
    // One driver is told; the other's work goes on.
    let told = eventually("its driver ends", || drivers.iter_mut().position(|driver| !driver.runs()));
    let [first, second] = drivers;
    let (told, left) = if told == 0 { (first, second) } else { (second, first) };
    told.wait().fails(1, "RW0504");
    left.signal(Signal::INT);
    left.wait().exits(130);
}

/// Every node but the gateway's dies while an endless loop runs on each.
#[test]
fn all_other_nodes_may_die() {
    let cluster = Cluster::build().nodes(2).cpus(1).start();
    let map = cluster.rwasm(["submit", &guest("evil-compute"), "--map", "-", "--func", "spin"]);
    let driver = map.stdin("[]\n[]\n[]\n").spawn();
    until_running(&cluster, 3);
    cluster.nodes.iter().for_each(|node| node.kill());
    let waiting = eventually("their tasks wait again", || Some(tasks(&cluster, "queued")).filter(|tasks| tasks.len() == 2));
    assert!(waiting.iter().all(|task| task["attempt"] == 2), "{waiting:?}");
    driver.signal(Signal::INT);
    driver.wait().fails(130, "RW0005");
}

#[test]
fn a_node_that_is_stopped_gives_its_work_to_others() {
    let cluster = Cluster::build().nodes(1).cpus(1).start();
    let driver = sleepers(&cluster, 1000, 4, &[]);
    until_running(&cluster, 2);
    cluster.nodes[0].process.signal(Signal::TERM);
    cluster.nodes[0].gone();
    driver.wait().ok().prints(&"null\n".repeat(4));
}

#[test]
fn a_node_joins_while_work_waits() {
    let mut cluster = Cluster::build().cpus(1).start();
    let driver = sleepers(&cluster, 3_600_000, 2, &[]);
    until_running(&cluster, 1);
    cluster.add_node();
    let running = until_running(&cluster, 2);
    assert!(running.iter().any(|task| task["node"] == "n2"), "{running:?}");
    driver.signal(Signal::INT);
    driver.wait().exits(130);
}

/// A node that hangs, as a machine that lost its network does, is given up like one that died.
#[test]
fn a_node_that_hangs_is_given_up() {
    let cluster = Cluster::build().nodes(1).cpus(1).start();
    let driver = sleepers(&cluster, 1000, 2, &[]);
    until_running(&cluster, 2);
    cluster.nodes[0].process.pause();
    driver.wait().ok().prints("null\nnull\n");
    cluster.nodes[0].process.signal(Signal::CONT);
    eventually("the node is back, under its number", || {
        let nodes = cluster.rwasm(["list", "nodes", "--json"]).run().ok().json();
        nodes["rows"].as_array().unwrap().iter().any(|node| node["id"] == "n2" && node["alive"] == true).then_some(())
    });
    cluster.rwasm(["submit", &guest("hello"), "--call", "add(1, 2)"]).run().ok().prints("3\n");
}

/// Nobody waits any more for what a driver that died asked for.
#[test]
fn work_of_a_killed_driver_ends() {
    let cluster = Cluster::build().cpus(1).start();
    let driver = sleepers(&cluster, 3_600_000, 2, &[]);
    until_running(&cluster, 1);
    driver.signal(Signal::KILL);
    driver.wait().exits(137);
    let job = eventually("its job has ended", || {
        let jobs = cluster.rwasm(["job", "list", "--json"]).run().ok().json();
        (jobs["rows"][0]["state"] != "running").then(|| jobs["rows"][0].clone())
    });
    assert_eq!((&job["tasks"]["cancelled"], &job["error"]["code"]), (&json!(2), &json!("RW0506")), "{job}");
    cluster.rwasm(["submit", &guest("hello"), "--call", "add(1, 2)"]).run().ok().prints("3\n");
}

/// A service manager asks as politely as a user.
#[test]
fn a_driver_that_is_asked_to_end_cancels_its_job() {
    let cluster = Cluster::build().cpus(1).start();
    let driver = sleepers(&cluster, 3_600_000, 2, &[]);
    until_running(&cluster, 1);
    driver.signal(Signal::TERM);
    driver.wait().fails(130, "RW0005");
    let jobs = cluster.rwasm(["job", "list", "--json"]).run().ok().json();
    assert_eq!(jobs["rows"][0]["state"], "cancelled");
}

#[test]
fn drivers_of_a_killed_head_get_one_clean_error() {
    let cluster = Cluster::build().nodes(1).cpus(1).start();
    let map = sleepers(&cluster, 3_600_000, 2, &["--reconnect", "0s"]);
    let mut command = cluster.rwasm(["submit", &text_guest("speaks"), "--num-cpus", "0", "--reconnect", "0s"]).spawn();
    command.until_stdout("to stdout\n");
    let job = cluster.rwasm(["submit", &guest("evil-wasi"), "--call", "sleep-for(3600000)", "--no-wait"]).run().ok().stdout();
    let wait = cluster.rwasm(["job", "wait", job.trim()]).spawn();
    let jobs = cluster.rwasm(["job", "list", "--json"]).run().ok().json();
    let speaks = jobs["rows"].as_array().unwrap().iter().find(|job| job["name"] == "speaks.wat").unwrap();
    let mut logs = cluster.rwasm(["job", "logs", "-f", speaks["id"].as_str().unwrap()]).spawn();
    logs.until_stdout("to stdout\n");
    until_running(&cluster, 3);
    cluster.head.kill();
    for driver in [map, command, logs] {
        let output = driver.wait().fails(1, "RW0506");
        assert_eq!(output.stderr().lines().filter(|line| line.starts_with("error")).count(), 1, "{output:?}");
    }
    // It looks again and again, so it may meet the closed port instead.
    let output = wait.wait();
    assert!([1, 2].contains(&output.code()) && output.stderr().lines().count() == 1, "{output:?}");
    // The node waits for its head to come back, and is stopped like any other.
    cluster.rwasm(["stop"]).run().ok().has("stopped node n2").has("head n1 (process ");
    assert_eq!(cluster.processes(), []);
}

#[test]
fn a_head_that_comes_back_at_its_port_gets_its_nodes_back() {
    let cluster = Cluster::build().nodes(1).cpus(1).start();
    let port = |address: String| address.rsplit_once(':').unwrap().1.to_owned();
    let (head, gateway) = (port(cluster.head_address()), port(cluster.gateway()));
    cluster.head.kill();
    let start = cluster.rwasm(["start", "--head", "--port", &head, "--client-port", &gateway, "--num-cpus", "1"]);
    start.run().ok();
    eventually("the node is back", || {
        let nodes = cluster.rwasm(["list", "nodes", "--json"]).run().ok().json();
        (nodes["rows"].as_array().unwrap().iter().filter(|node| node["alive"] == true).count() == 2).then_some(())
    });
    let driver = sleepers(&cluster, 3_600_000, 2, &[]);
    until_running(&cluster, 2);
    driver.signal(Signal::INT);
    driver.wait().exits(130);
    cluster.rwasm(["stop"]).run().ok();
}

#[test]
fn stop_leaves_no_process_whatever_runs() {
    let cluster = Cluster::build().nodes(2).own_cache().start();
    let submit = |name: &str, call: &str| cluster.rwasm(["submit", &guest(name), "--call", call, "--no-wait"]).run().ok();
    submit("evil-compute", "spin()");
    submit("evil-wasi", "sleep-for(3600000)");
    submit("evil-compile-bomb", "run(1)");
    let waiting = cluster.rwasm(["submit", &guest("evil-wasi"), "--call", "sleep-for(3600000)", "--reconnect", "0s"]).spawn();
    let all = eventually("a compile worker runs", || Some(cluster.processes()).filter(|all| all.len() > 3));
    let stopped = cluster.rwasm(["stop"]).run().ok();
    assert_eq!(stopped.stdout().lines().count(), 3, "{stopped:?}");
    assert!(stopped.stdout().lines().last().unwrap().starts_with("stopped head n1 (process "), "the head last: {stopped:?}");
    stopped.quiet();
    for process in all {
        eventually("nothing of it runs", || (!process.runs()).then_some(()));
    }
    assert_eq!(waiting.wait().exits(1).stderr().lines().filter(|line| line.starts_with("error")).count(), 1);
    let left = |dir: std::path::PathBuf| std::fs::read_dir(dir).map_or(0, Iterator::count);
    assert_eq!((left(cluster.home.runtime().join("daemons")), left(cluster.home.runtime())), (0, 1));
}

#[test]
fn stop_kills_what_does_not_end() {
    let cluster = Cluster::start(1);
    cluster.nodes[0].process.pause();
    let stopped = cluster.rwasm(["stop", "--grace", "3s", "--json"]).run().ok().json();
    assert_eq!((&stopped["killed"], stopped["stopped"].as_array().unwrap().len()), (&json!(1), 2));
    cluster.daemons().for_each(|daemon| daemon.gone());
    let cluster = Cluster::start(1);
    cluster.rwasm(["stop", "--force"]).run().ok();
    cluster.daemons().for_each(|daemon| daemon.gone());
    cluster.rwasm(["stop"]).run().fails(2, "RW0508");
}

/// A compiler whose node was killed has nobody to compile for.
#[test]
fn a_killed_daemon_takes_its_compile_workers_along() {
    let cluster = Cluster::build().own_cache().start();
    cluster.rwasm(["submit", &guest("evil-compile-bomb"), "--call", "run(1)", "--no-wait"]).run().ok();
    let worker = eventually("a compile worker runs", || process::children(cluster.head.process.pid).pop());
    cluster.head.kill();
    eventually("it is gone", || (!worker.runs()).then_some(()));
}

#[test]
fn in_the_foreground_a_daemon_ends_with_ctrl_c() {
    let home = Home::new();
    for signal in [Signal::INT, Signal::TERM] {
        let mut daemon = home.rwasm(["start", "--head", "--block", "--port", "0", "--client-port", "0", "--json"]).spawn();
        daemon.until_stdout("}\n");
        home.rwasm(["submit", &guest("hello"), "--call", "add(1, 2)"]).run().ok().prints("3\n").quiet();
        daemon.signal(signal);
        daemon.wait().ok();
        home.rwasm(["status"]).run().fails(2, "RW0508");
    }
}

#[test]
fn ctrl_c_during_a_map_cancels_the_job() {
    everywhere(|place| {
        let input = place.home().write("in.jsonl", format!("[1]\n{}", "[3600000]\n".repeat(5)));
        let map = place.work("evil-wasi", ["--map", &input, "--func", "sleep-for"]);
        let mut driver = map.spawn();
        // The first result, so that the others run or wait by now.
        driver.until_stdout("null\n");
        driver.signal(Signal::INT);
        let output = driver.wait().fails(130, "RW0005").prints("null\n").says("rwasm: cancelling the job");
        assert!(output.stderr().contains("interrupted; job j1-") && output.stderr().contains("was cancelled"), "{output:?}");
        if let Place::Cluster(cluster) = place {
            let jobs = cluster.rwasm(["job", "list", "--json"]).run().ok().json();
            assert_eq!((&jobs["rows"][0]["state"], &jobs["rows"][0]["tasks"]["cancelled"]), (&json!("cancelled"), &json!(5)));
            eventually("its slots are free", || cluster.rwasm(["status"]).run().ok().stdout().contains(" 0/2 CPU").then_some(()));
        }
    });
}

/// Lines that came before are worth keeping, but not under the name of the whole.
#[test]
fn an_interrupted_map_keeps_its_part_beside_the_file() {
    everywhere(|place| {
        place.home().write("out.jsonl", "precious");
        let map = place.work("evil-wasi", ["--map", "-", "--func", "sleep-for", "-o", "out.jsonl", "--num-cpus", "2"]);
        let driver = map.stdin("[1]\n[3600000]\n").spawn();
        let part = || {
            let names = std::fs::read_dir(place.home().work()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
            names.filter(|name| name.ends_with(".part")).count() == 1
        };
        eventually("the file is begun", || part().then_some(()));
        if let Place::Cluster(cluster) = place {
            eventually("the first has ended", || (tasks(cluster, "succeeded").len() == 1).then_some(()));
        }
        driver.signal(Signal::INT);
        let output = driver.wait().fails(130, "RW0005");
        assert_eq!(place.home().read("out.jsonl"), b"precious");
        // Embedded, nobody can be asked whether the first result came before the signal; both are well.
        if output.stderr().contains("the first 1 results are in ") {
            assert_eq!(place.home().read("out.jsonl.part"), b"null\n");
            std::fs::remove_file(place.home().path("out.jsonl.part")).unwrap();
        }
        let left: Vec<_> = std::fs::read_dir(place.home().work()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["out.jsonl"]);
    });
}

#[test]
fn whoever_is_interrupted_twice_leaves_at_once() {
    let cluster = Cluster::start(0);
    let mut driver = cluster.rwasm(["submit", &text_guest("speaks")]).spawn();
    driver.until_stdout("to stdout\n");
    // The cluster cannot answer.
    cluster.head.process.pause();
    driver.signal(Signal::INT);
    driver.until_stderr("again leaves at once");
    driver.signal(Signal::INT);
    let output = driver.wait().fails(130, "RW0005");
    cluster.head.process.signal(Signal::CONT);
    insta::assert_snapshot!(output.stderr().lines().last().unwrap(), @"error[RW0005]: interrupted twice; job j1-1 was cancelled and has not ended yet; see `rwasm job status j1-1`");
}

/// Before there is a job: while the artifact is compiled, and while standard input is read.
#[test]
fn ctrl_c_works_before_anything_is_submitted() {
    let home = Home::with_own_cache();
    let run = home.rwasm(["run", &guest("evil-compile-bomb"), "--call", "run(1)"]).spawn();
    let pid = run.pid();
    let worker = eventually("a compile worker runs", || process::children(pid).pop());
    run.signal(Signal::INT);
    run.wait().exits(130);
    eventually("it is gone", || (!worker.runs()).then_some(()));
    let waits = home.rwasm(["run", &guest("hello"), "--map", "-", "--func", "add"]).endless_stdin().spawn();
    let pid = waits.pid();
    eventually("it has its handler", || process::catches(pid, Signal::INT).then_some(()));
    waits.signal(Signal::INT);
    waits.wait().exits(130);
    let left: Vec<_> = std::fs::read_dir(home.runtime()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.is_empty(), "the embedded cluster's directory is gone: {left:?}");
}
