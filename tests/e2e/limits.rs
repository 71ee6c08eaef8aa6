//! Limits as a user meets them: the flag, the message, the next step; and what stays within.

use std::{fmt::Write, fs, time::Duration};

use crate::harness::{Home, everywhere, guest, run::Output};

fn error_of(output: &Output) -> String {
    let stderr = output.stderr();
    stderr.lines().rfind(|line| line.starts_with("error")).unwrap_or("no error").to_owned()
}

/// Each limit: what stays within it, and what does not.
#[test]
fn every_limit_has_a_flag_and_a_message() {
    everywhere(|place| {
        let mut seen = String::new();
        for (name, call, options) in [
            ("evil-compute", "fill-memory(50, 1)", "--memory 64M"),
            ("evil-compute", "fill-memory(70, 1)", "--memory 64M"),
            ("evil-compute", "fill-memory(400, 1)", ""),
            ("evil-compute", "fill-memory(600, 1)", ""),
            ("evil-big-memory", "one()", ""),
            ("evil-big-memory", "one()", "--memory 4G"),
            ("evil-wasi", "sleep-for(1)", "--timeout 1m"),
            ("evil-wasi", "sleep-for(3600000)", "--timeout 50ms"),
            ("evil-wasi", "sleep-for(200)", "--cpu-time 150ms"),
            ("evil-compute", "work(1000)", "--cpu-time 1m"),
            ("evil-compute", "spin()", "--cpu-time 50ms"),
            ("evil-compute", "recurse()", ""),
            ("evil-table", "grow-at-once(1000)", "--max-table-elements 1000"),
            ("evil-table", "grow-at-once(1001)", "--max-table-elements 1000"),
            ("evil-table", "grow-at-once(100000)", ""),
            ("evil-table", "grow-at-once(100001)", ""),
            ("evil-wasi", "print(\"12345\")", "--max-stdout 5"),
            ("evil-wasi", "print(\"123456\")", "--max-stdout 5"),
            ("evil-compute", "log-bytes(100)", "--max-stderr 200"),
            ("evil-compute", "log-bytes(200)", "--max-stderr 200"),
            ("evil-compute", "return-text(1000)", "--max-result 1010"),
            ("evil-compute", "return-text(1010)", "--max-result 1010"),
            ("evil-compute", "return-text(100000)", "--max-result 1010"),
            ("evil-start-grow", "one()", "--memory 64M"),
            ("evil-start-spin", "one()", "--cpu-time 50ms"),
        ] {
            let output = place.work(name, ["--call", call]).args(options.split_whitespace()).run();
            let end = if output.code() == 0 { "ok".to_owned() } else { format!("{} {}", output.code(), error_of(&output)) };
            let _ = writeln!(seen, "{call} {options}\n    {end}");
        }
        insta::allow_duplicates! { insta::assert_snapshot!(seen, @""); }
    });
}

/// What cannot be asked for is refused, and not cut to what can.
#[test]
fn limits_that_cannot_be_had() {
    everywhere(|place| {
        let mut seen = String::new();
        for options in [
            "--memory 5G",
            "--memory 0",
            "--memory lots",
            "--timeout 400d",
            "--timeout soon",
            "--cpu-time 400d",
            "--max-stdout 5G",
            "--max-stderr 5G",
            "--max-result 1G",
            "--max-table-elements 2000000",
            "--max-table-elements -1",
        ] {
            let output = place.work("evil-compute", ["--call", "work(1)"]).args(options.split_whitespace()).run();
            let end = if output.code() == 0 { "ok".to_owned() } else { format!("{} {}", output.code(), error_of(&output)) };
            let _ = writeln!(seen, "{options}\n    {end}");
        }
        insta::allow_duplicates! { insta::assert_snapshot!(seen, @""); }
    });
}

/// The stack is the node's to set.
#[test]
fn the_stack_has_the_size_that_was_set() {
    let home = Home::new();
    let deep = |stack: &str| home.rwasm(["run", &guest("evil-compute"), "--stack", stack, "--call", "recurse()"]).run().fails(1, "RW0405");
    let shown = deep("64K");
    insta::assert_snapshot!(error_of(&shown), @"");
    // The frames are the guest's own, the innermost first, and no more than can be read.
    let frames = shown.stderr().lines().filter(|line| line.trim_start().starts_with("at ")).count();
    assert!((1..=16).contains(&frames), "{shown:?}");
    deep("8M");
}

/// A guest that is held up in a call of the host can be left: its task ends, and so does the command.
#[test]
fn a_guest_that_the_kernel_holds_up_is_left() {
    let home = Home::new();
    fs::create_dir(home.path("data")).unwrap();
    home.command("mkfifo", [home.path("data/pipe")]).run().ok();
    // Nobody ever writes to the pipe.
    let held =
        home.rwasm(["run", &guest("evil-wasi"), "--dir", "data::/data", "--timeout", "100ms", "--call", "read-file(\"/data/pipe\")"]);
    held.deadline(Duration::from_secs(60)).run().fails(1, "RW0402");
}
