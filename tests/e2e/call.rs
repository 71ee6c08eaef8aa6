//! One call: from text to a result on standard output, in a file, or to an exit status.

use serde_json::json;

use crate::harness::{Home, everywhere, guest, place::Place};

#[test]
fn results_are_a_line_of_wave_or_json() {
    everywhere(|place| {
        let call = |call: &str| place.work("hello", ["--call", call]);
        call("greet(\"Ada \\\"L.\\\"\")").run().ok().prints("\"Hello, Ada \\\"L.\\\"!\"\n").quiet();
        call("add(4294967295, 2)").run().ok().prints("1\n").quiet();
        call("spread([3, 1.5, 2])").run().ok().prints("some((1.5, 2.1666666666666665, 3))\n");
        call("spread([])").args(["--json"]).run().ok().prints("null\n");
        call("spread([3, 1.5, 2])").args(["--json"]).run().ok().prints("[1.5,2.1666666666666665,3.0]\n");
        call("greet(\"ü\\u{1f600}\")").args(["--json"]).run().ok().prints("\"Hello, ü😀!\"\n");
    });
}

#[test]
fn the_error_case_is_a_result_and_the_work_has_failed() {
    everywhere(|place| {
        let divide = |args: &[&str]| place.work("hello", ["--call", "divide(7, 0)"]).args(args).run();
        divide(&[]).fails(1, "RW0411").prints("err(\"7 cannot be divided by 0\")\n");
        let json = divide(&["--json"]).exits(1);
        assert_eq!(json.json(), json!({ "err": "7 cannot be divided by 0" }));
        assert_eq!(json.json_error()["code"], "RW0411");
        place.work("hello", ["--call", "divide(7, 2)"]).run().ok().prints("ok(3)\n");
    });
}

#[test]
fn bytes_and_strings_are_written_as_they_are() {
    everywhere(|place| {
        let to = |file: &str, call: &str, args: &[&str]| place.work("hello", ["--call", call, "-o", file]).args(args).run();
        let read = |file: &str| place.home().read(file);
        to("text", "greet(\"you\")", &[]).ok().prints("").quiet();
        assert_eq!(read("text"), b"Hello, you!");
        to("bytes", "echo([0, 10, 255])", &[]).ok().quiet();
        assert_eq!(read("bytes"), [0, 10, 255]);
        to("json", "add(1, 2)", &["--json"]).ok();
        assert_eq!(read("json"), b"3\n");
        place.work("mandelbrot", ["--call", "image(16, 16, 10)", "-o", "image.png"]).run();
    });
}

/// A result that cannot be written is refused before anything happens to the file or the cluster.
#[test]
fn a_file_is_left_alone_unless_there_is_a_result() {
    everywhere(|place| {
        place.home().write("out", "precious");
        let to = |file: &str, call: &str| place.work("hello", ["--call", call, "-o", file]).run();
        let add = to("out", "add(1, 2)").fails(2, "RW0211");
        insta::allow_duplicates! {
            insta::assert_snapshot!(add.stderr(), @"error[RW0211]: the result is neither bytes nor a string, so it cannot be written to a file as it is; add --json to write it as JSON");
        }
        to("out", "divide(7, 0)").fails(2, "RW0211");
        to("out", "greet(7)").fails(2, "RW0204");
        place.work("evil-compute", ["--call", "panic(\"no\")", "-o", "out", "--json"]).run().exits(1);
        place.work("evil-command", ["-o", "out", "--", "ok"]).run().fails(2, "RW0211").says("redirect its standard output");
        assert_eq!(place.home().read("out"), b"precious");
        to("no/such/directory", "greet(\"x\")").fails(2, "RW0004");
        to(".", "greet(\"x\")").fails(2, "RW0004");
        let left: Vec<_> = std::fs::read_dir(place.home().work()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["out"]);
        if let Place::Cluster(cluster) = place {
            let jobs = cluster.rwasm(["list", "jobs", "--json"]).run().ok().json();
            assert_eq!(jobs["total"], 1, "only the one that ran: {jobs}");
        }
    });
}

/// A device is written to, and not replaced by a file.
#[test]
fn results_go_to_devices_too() {
    let home = Home::new();
    let to = |file: &str| home.rwasm(["run", &guest("hello"), "--call", "greet(\"you\")", "-o", file]).run().ok();
    to("/dev/null").prints("");
    to("/dev/stdout").prints("Hello, you!");
    assert!(!std::fs::metadata("/dev/null").unwrap().is_file());
}

#[test]
fn a_full_disk_is_named() {
    everywhere(|place| {
        let to_file = place.work("hello", ["--call", "greet(\"you\")", "-o", "/dev/full"]).run().fails(1, "RW0601");
        assert!(to_file.stderr().contains("no space is left for /dev/full"), "{to_file:?}");
        let command = if matches!(place, Place::Embedded(_)) { "run" } else { "submit" };
        let to_stdout = format!("{} {command} {} --call 'add(1, 2)' > /dev/full", env!("CARGO_BIN_EXE_rwasm"), guest("hello"));
        place.home().command("bash", ["-c", &to_stdout]).run().fails(1, "RW0601").says("standard output takes no more");
    });
}

#[test]
fn a_command_has_arguments_variables_and_standard_input_and_its_output_is_data() {
    everywhere(|place| {
        let shown = place.work("evil-command", ["--env", "A=b c", "--", "show", "--x", "ü"]).run().ok().quiet();
        assert_eq!(shown.stdout(), "show\n--x\nü\nA=b c\n");
        place.work("evil-command", ["--stdin", "-", "--", "cat"]).stdin("bytes\0\u{ff}").run().ok().prints("bytes\0\u{ff}").quiet();
        let input = place.home().write("input", vec![b'x'; 300_000]);
        place.work("evil-command", ["--stdin", &input, "--", "count-stdin"]).run().ok().prints("300000\n");
        place.work("evil-command", ["--", "count-stdin"]).stdin("not granted").run().ok().prints("0\n");
        let binary = place.work("evil-command", ["--", "write-binary"]).run().ok();
        assert_eq!(binary.stdout, b"\xff\xfe\x00\x1b[2J\x1b]0;owned\x07\r\n", "what goes to a file is what the guest wrote");
    });
}

#[test]
fn a_guests_own_exit_status_is_passed_on() {
    everywhere(|place| {
        place.work("evil-command", ["--", "exit-code", "3"]).run().fails(3, "RW0408");
        place.work("evil-command", ["--", "exit-code", "0"]).run().ok().quiet();
        place.work("evil-command", ["--", "exit-code", "255"]).run().exits(255);
        // Preview 1 has no other way than this, and the adapter keeps what it says.
        place.work("evil-command-p1", ["--", "exit", "42"]).run().exits(42);
        place.work("evil-command", ["--", "exit-mid-line", "1"]).run().exits(1).prints("no line break");
        place.work("evil-wasi", ["--call", "exit-with-code(9)"]).run().fails(9, "RW0408");
    });
}

/// Half a mebibyte of output, of which the reader takes a line.
#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    everywhere(|place| {
        let (binary, artifact) = (env!("CARGO_BIN_EXE_rwasm"), guest("evil-command"));
        let command = if matches!(place, Place::Embedded(_)) { "run" } else { "submit" };
        let pipe = format!("{binary} {command} {artifact} -- flood-stdout | head -n 1; exit ${{PIPESTATUS[0]}}");
        let output = place.home().command("bash", ["-c", &pipe]).run().ok();
        assert_eq!(output.stdout().lines().count(), 1, "{output:?}");
        output.quiet();
    });
}

#[test]
fn a_gateway_takes_long_arguments_and_gives_long_results() {
    everywhere(|place| {
        let text = "x".repeat(3 << 20);
        let input = place.home().write("input.jsonl", format!("[{}]\n", json!(text)));
        let output = place.work("hello", ["--map", &input, "--func", "greet"]).run().ok();
        assert_eq!(output.json_lines(), [json!(format!("Hello, {text}!"))]);
    });
}
