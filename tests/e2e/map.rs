//! `--map`: one task for each line, results in the order of the lines, whatever becomes of some of them.

use serde_json::{Value, json};

use crate::harness::{Cluster, Home, eventually, everywhere, guest};

/// `[0, 1]`, `[1, 1]`, ….
fn sums(count: u32) -> String {
    (0..count).map(|number| format!("[{number}, 1]\n")).collect()
}

#[test]
fn results_come_in_the_order_of_the_lines() {
    everywhere(|place| {
        let input = place.home().write("in.jsonl", sums(3000));
        let map = |args: &[&str]| place.work("hello", ["--map", &input, "--func", "add"]).args(args).run();
        let expected: String = (1..=3000).map(|sum| format!("{sum}\n")).collect();
        map(&[]).ok().prints(&expected).says("3000 tasks in ").says(", 0 failed, ");
        map(&["-o", "out.jsonl"]).ok().prints("");
        assert_eq!(place.home().read("out.jsonl"), expected.as_bytes());
    });
}

#[test]
fn lines_are_arrays_or_objects_and_may_come_from_standard_input() {
    everywhere(|place| {
        let lines = "[1, 2]\n\n  {\"b\": 4, \"a\": 3}\r\n[5,6]";
        let map = place.work("hello", ["--map", "-", "--func", "add"]).stdin(lines);
        map.run().ok().prints("3\n7\n11\n").says("3 tasks in ");
    });
}

#[test]
fn standard_input_is_read_once() {
    let home = Home::new();
    let run = home.rwasm(["run", &guest("hello"), "--map", "-", "--func", "add", "--stdin", "-"]);
    run.stdin("[1, 2]\n").run().fails(2, "RW0002").says("cannot both read standard input");
    let run = home.rwasm(["run", &guest("hello"), "--call", "greet(@file(-))", "--stdin", "-"]);
    run.stdin("Ada").run().fails(2, "RW0002").says("cannot both read standard input");
}

#[test]
fn nothing_to_do_is_done() {
    everywhere(|place| {
        place.work("hello", ["--map", "-", "--func", "add"]).stdin("\n").run().ok().prints("").says("0 tasks in ");
    });
}

/// Errors name the line of the file, whether it was read or run.
#[test]
fn failures_stand_in_their_lines_and_the_rest_is_returned() {
    everywhere(|place| {
        let input = place.home().write("in.jsonl", "[8, 2]\n\n[1, 0]\n[9, 3]\n[1, 0]\n");
        let map = |args: &[&str]| place.work("hello", ["--map", &input, "--func", "divide"]).args(args).run();
        let output = map(&[]).fails(1, "RW0413");
        assert_eq!(
            output.json_lines(),
            [json!({"ok": 4}), json!({"err": "1 cannot be divided by 0"}), json!({"ok": 3}), json!({"err": "1 cannot be divided by 0"})]
        );
        let error = output.stderr().lines().last().unwrap().to_owned();
        insta::allow_duplicates! {
            insta::assert_snapshot!(error, @"error[RW0413]: 2 of 4 tasks failed; the first, line 3: the function returned its error case (RW0411)");
        }
        let error = map(&["--json", "-o", "out.jsonl"]).exits(1).json_error();
        assert_eq!(error["fields"], json!({"cause": "RW0411", "failed": "2", "line": "3"}));
        assert_eq!(place.home().read("out.jsonl"), output.stdout, "what did not fail is written");
    });
}

#[test]
fn a_task_without_a_result_has_its_error_in_its_line() {
    everywhere(|place| {
        let map = place.work("evil-compute", ["--map", "-", "--func", "return-bytes", "--max-result", "1000"]);
        let output = map.stdin("[2]\n[100000]\n[0]\n").run().fails(1, "RW0413");
        let lines = output.json_lines();
        assert_eq!((lines.len(), &lines[2]), (3, &json!("")), "{output:?}");
        assert_eq!(lines[1]["$error"]["code"], "RW0407");
        output.says("1 of 3 tasks failed; the first, line 2: ").says("(RW0407)");
    });
}

/// Everything is read and checked before anything is submitted.
#[test]
fn a_broken_line_is_named_and_nothing_runs() {
    everywhere(|place| {
        let error_of = |line_7: &str| {
            let input = place.home().write("in.jsonl", format!("{}\n{line_7}\n[1, 2]\n", "[1, 2]\n".repeat(5)));
            place.work("hello", ["--map", &input, "--func", "add", "--json"]).run().exits(2).prints("").json_error()
        };
        for (line, cause) in [("[1, ", "RW0212"), ("[1]", "RW0203"), ("[1, \"x\"]", "RW0204"), ("[1, -1]", "RW0205"), ("7", "RW0204")] {
            let error = error_of(line);
            assert_eq!((error["code"].as_str(), error["fields"]["line"].as_str()), (Some("RW0206"), Some("7")), "{error}");
            assert_eq!(error["fields"]["cause"], cause, "{line}: {error}");
        }
        place.work("hello", ["--map", "/no/such/file", "--func", "add"]).run().fails(2, "RW0004");
    });
}

/// The tasks sleep until they are stopped, so each node has to have one for all of them to run.
#[test]
fn three_processes_share_the_work_over_their_slots() {
    let cluster = Cluster::build().nodes(2).cpus(1).start();
    let work = cluster.rwasm(["submit", &guest("evil-wasi"), "--map", "-", "--func", "sleep-for", "--no-wait"]);
    let job = work.stdin("[3600000]\n".repeat(4)).run().ok().stdout().trim().to_owned();
    let tasks = eventually("a task runs on each node", || {
        let tasks = cluster.rwasm(["list", "tasks", "--state", "running", "--json"]).run().ok().json();
        (tasks["total"] == 3).then_some(tasks)
    });
    let mut nodes: Vec<&Value> = tasks["rows"].as_array().unwrap().iter().map(|task| &task["node"]).collect();
    nodes.sort_by_key(|node| node.as_str().unwrap().to_owned());
    assert_eq!(nodes, ["n1", "n2", "n3"]);

    // What nodes hold reaches the head with their next message.
    let status = eventually("the status says so", || {
        let status = cluster.rwasm(["status", "-v"]).run().ok().stdout();
        (status.contains(" 3/3 CPU") && status.matches(" 1/1 CPU").count() == 3 && status.contains("1 waiting tasks")).then_some(status)
    });
    for line in [
        "Active:",
        " n1 head ",
        " n2 node ",
        " n3 node ",
        "Recent failures:\n (no failures)",
        "Pending demands:\n {cpu 1, ",
        "Jobs:\n 1 running",
    ] {
        assert!(status.contains(line), "{line:?} is missing in\n{status}");
    }
    cluster.rwasm(["job", "stop", &job]).run().ok();
    eventually("the slots are free", || cluster.rwasm(["status"]).run().ok().stdout().contains(" 0/3 CPU").then_some(()));
}

#[test]
fn many_nodes_give_one_ordered_answer() {
    let cluster = Cluster::start(2);
    let input = cluster.home.write("in.jsonl", sums(20_000));
    let map = cluster.rwasm(["submit", &guest("hello"), "--map", &input, "--func", "add"]);
    let expected: String = (1..=20_000).map(|sum| format!("{sum}\n")).collect();
    map.run().ok().prints(&expected);
}

/// `script` gives a command a terminal, and itself none: what the terminal shows is its standard output.
#[test]
fn there_is_a_progress_bar_on_a_terminal_and_nowhere_else() {
    let home = Home::new();
    let input = home.write("in.jsonl", "[300]\n".repeat(4));
    let map = format!("{} run {} --map {input} --func sleep-for -o out.jsonl", env!("CARGO_BIN_EXE_rwasm"), guest("evil-wasi"));
    let terminal = || home.command("script", ["-qec", &map, "/dev/null"]).env("TERM", "xterm");
    let shown = terminal().run().ok();
    assert!(shown.stdout().contains("━") && shown.stdout().contains("/4 "), "{shown:?}");
    let shown = terminal().env("NO_COLOR", "1").run().ok();
    assert!(shown.stdout().contains("/4 ") && !shown.stdout().contains("\x1b[1;31m"), "{shown:?}");
    let piped = home.command("bash", ["-c", &map]).run().ok().prints("");
    assert_eq!(piped.stderr().lines().count(), 1, "{piped:?}");
    assert!(!piped.stderr().contains('\x1b') && !piped.stderr().contains("━"), "{piped:?}");
}

#[test]
fn errors_have_colours_on_a_terminal_unless_nobody_wants_them() {
    let home = Home::new();
    let terminal =
        || home.command("script", ["-qec", &format!("{} status", env!("CARGO_BIN_EXE_rwasm")), "/dev/null"]).env("TERM", "xterm");
    terminal().run().exits(2).has("\x1b[1;31merror[RW0508]\x1b[0m: ");
    let plain = terminal().env("NO_COLOR", "1").run().exits(2).has("error[RW0508]: ");
    assert!(!plain.stdout().contains('\x1b'), "{plain:?}");
}
