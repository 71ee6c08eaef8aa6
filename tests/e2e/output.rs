//! What tasks write: live, apart by stream, and said whose it is only where several are mixed.

use crate::harness::{Cluster, Home, eventually, everywhere, guest, text_guest};

#[test]
fn output_comes_while_the_task_runs() {
    everywhere(|place| {
        let mut work = place.work_file(&text_guest("speaks"), ["--name", "speaks"]).spawn();
        work.until_stdout("to stdout\n").until_stderr("to stderr\n");
        assert!(work.runs(), "it sleeps for an hour");
        assert_eq!((work.stdout().as_str(), work.stderr().as_str()), ("to stdout\n", "to stderr\n"), "nothing stands before a line");
        work.signal(rustix::process::Signal::INT);
        work.wait().exits(130);
    });
}

#[test]
fn logs_are_followed_until_the_job_ends() {
    let cluster = Cluster::start(0);
    let job = cluster.rwasm(["submit", &text_guest("speaks"), "--no-wait"]).run().ok().stdout().trim().to_owned();
    let mut follow = cluster.rwasm(["job", "logs", "-f", &job]).spawn();
    follow.until_stdout("to stdout\n").until_stderr("to stderr\n");
    // Without -f, what there is by now.
    cluster.rwasm(["job", "logs", &job]).run().ok().prints("to stdout\n").says("to stderr\n");
    assert!(follow.runs());
    cluster.rwasm(["job", "stop", &job]).run().ok();
    let followed = follow.wait().ok().prints("to stdout\n");
    assert_eq!(followed.stderr(), "to stderr\n");
    // And after its end.
    cluster.rwasm(["job", "logs", "-f", &job]).run().ok().prints("to stdout\n");
}

#[test]
fn lines_of_several_tasks_say_whose_they_are() {
    everywhere(|place| {
        let map = place.work("hello", ["--map", "-", "--func", "whereabouts"]).stdin("[]\n[]\n[]\n").run().ok();
        assert_eq!(map.stdout().lines().count(), 3);
        for (number, result) in map.json_lines().iter().enumerate() {
            assert!(map.stderr().contains(&format!("[{number}] INFO {}\n", result.as_str().unwrap())), "{map:?}");
        }
        // One line is one task, and nothing is mixed.
        let one = place.work("hello", ["--map", "-", "--func", "whereabouts"]).stdin("[]\n").run().ok();
        assert!(one.stderr().starts_with("INFO task "), "{one:?}");
    });
}

#[test]
fn logs_of_a_job_of_several_tasks_and_of_one_of_them() {
    let cluster = Cluster::start(1);
    let submit = cluster.rwasm(["submit", &guest("hello"), "--map", "-", "--func", "whereabouts", "--no-wait"]);
    let job = submit.stdin("[]\n".repeat(4)).run().ok().stdout().trim().to_owned();
    cluster.rwasm(["job", "wait", &job]).run().ok();
    let all = cluster.rwasm(["job", "logs", &job]).run().ok().prints("");
    let mut lines: Vec<String> = all.stderr().lines().map(|line| line.chars().take(14).collect()).collect();
    lines.sort();
    assert_eq!(lines, (0..4).map(|number| format!("[{number}] INFO task ")[..14].to_owned()).collect::<Vec<_>>());
    let task = format!("t{}-2", job.trim_start_matches('j'));
    let one = cluster.rwasm(["job", "logs", &task]).run().ok();
    assert!(one.stderr().starts_with(&format!("INFO task {task}, attempt 1, on node n")), "{one:?}");
    assert_eq!(one.stderr().lines().count(), 1);
}

/// What runs on another node comes back through the owner, live as well.
#[test]
fn output_of_other_nodes_is_live_too() {
    let cluster = Cluster::build().nodes(1).cpus(1).start();
    let speaks = || cluster.rwasm(["submit", &text_guest("speaks")]).spawn();
    let (mut one, mut other) = (speaks(), speaks());
    one.until_stdout("to stdout\n").until_stderr("to stderr\n");
    other.until_stdout("to stdout\n").until_stderr("to stderr\n");
    let tasks = cluster.rwasm(["list", "tasks", "--state", "running", "--json"]).run().ok().json();
    let mut nodes: Vec<_> = tasks["rows"].as_array().unwrap().iter().map(|task| task["node"].as_str().unwrap()).collect();
    nodes.sort_unstable();
    assert_eq!(nodes, ["n1", "n2"]);
    for driver in [one, other] {
        driver.signal(rustix::process::Signal::INT);
        driver.wait().exits(130);
    }
}

#[test]
fn much_output_arrives_whole() {
    everywhere(|place| {
        let count = 5_000_000;
        let output = place.work("evil-command", ["--", "write", &count.to_string()]).run().ok().quiet();
        assert!(output.stdout.len() == count && output.stdout.iter().all(|byte| *byte == b'x'), "{} bytes", output.stdout.len());
    });
}

/// A guest must not steer the terminal of whoever reads its log lines or its errors.
#[test]
fn texts_of_guests_do_not_steer_a_terminal() {
    let home = Home::new();
    let run = |call: &str| home.rwasm(["run", &guest("evil-compute"), "--call", call]).run();
    let logged = run("log-controls()").ok();
    assert!(!logged.stderr().contains('\x1b'), "{logged:?}");
    let failed = run("fail(\"\\u{1b}[2J\")").exits(1);
    assert!(!failed.stderr().contains('\x1b') && !failed.stdout().contains('\x1b'), "{failed:?}");
}

/// The one who follows is slower than the one who writes.
#[test]
fn a_job_that_writes_much_can_be_followed_by_many() {
    let cluster = Cluster::start(0);
    let job = cluster.rwasm(["submit", &guest("evil-command"), "--no-wait", "--", "write", "2000000"]).run().ok().stdout();
    let followers: Vec<_> = (0..4).map(|_| cluster.rwasm(["job", "logs", "-f", job.trim()]).spawn()).collect();
    for follower in followers {
        let output = follower.wait().ok();
        assert_eq!(output.stdout.len(), 2_000_000);
    }
    eventually("it has ended", || (cluster.rwasm(["job", "wait", job.trim()]).run().code() == 0).then_some(()));
}
