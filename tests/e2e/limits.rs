//! Limits as a user meets them: the flag, the message, the next step; and what stays within.

use std::{fmt::Write, fs, time::Duration};

use crate::harness::{Home, everywhere, guest, run::Output};

fn error_of(output: &Output) -> String {
    let stderr = output.stderr();
    // A guest may have left its last line without an end.
    let found = stderr.rfind("error[").map(|start| &stderr[start..]);
    found.and_then(|error| error.lines().next()).unwrap_or("no error").to_owned()
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
        insta::allow_duplicates! { insta::assert_snapshot!(seen, @r#"
        fill-memory(50, 1) --memory 64M
            ok
        fill-memory(70, 1) --memory 64M
            1 error[RW0404]: the task needs 71.1MiB of memory, but is limited to 64MiB; raise it with --memory
        fill-memory(400, 1) 
            ok
        fill-memory(600, 1) 
            1 error[RW0404]: the task needs 601.1MiB of memory, but is limited to 512MiB; raise it with --memory
        one() 
            1 error[RW0404]: the artifact starts with 4GiB of memory, but tasks are limited to 512MiB; raise it with --memory
        one() --memory 4G
            ok
        sleep-for(1) --timeout 1m
            ok
        sleep-for(3600000) --timeout 50ms
            1 error[RW0402]: the task ran longer than 50.0ms; raise it with --timeout
        sleep-for(200) --cpu-time 150ms
            ok
        work(1000) --cpu-time 1m
            ok
        spin() --cpu-time 50ms
            1 error[RW0403]: the task used more than 50.0ms of processor time; raise it with --cpu-time
        recurse() 
            1 error[RW0405]: the guest used up its stack in `evil_compute::descend`; look for endless recursion; the stack is set where the node starts, with --stack
        grow-at-once(1000) --max-table-elements 1000
            ok
        grow-at-once(1001) --max-table-elements 1000
            1 error[RW0410]: the task needs 1001 table elements, but is limited to 1000; raise it with --max-table-elements
        grow-at-once(100000) 
            ok
        grow-at-once(100001) 
            1 error[RW0410]: the task needs 100001 table elements, but is limited to 100000; raise it with --max-table-elements
        print("12345") --max-stdout 5
            ok
        print("123456") --max-stdout 5
            1 error[RW0406]: the task wrote more than 5B to standard output; raise it with --max-stdout
        log-bytes(100) --max-stderr 200
            ok
        log-bytes(200) --max-stderr 200
            1 error[RW0406]: the task wrote more than 200B to standard error; raise it with --max-stderr
        return-text(1000) --max-result 1010
            ok
        return-text(1010) --max-result 1010
            1 error[RW0407]: the result is larger than the task's limit: the encoded value has more than 1010 bytes; raise it with --max-result
        return-text(100000) --max-result 1010
            1 error[RW0407]: the guest handed over more than its limit of 1010B in one call; raise it with --max-result
        one() --memory 64M
            1 error[RW0404]: while it started: the task needs 64.1MiB of memory, but is limited to 64MiB; raise it with --memory
        one() --cpu-time 50ms
            1 error[RW0403]: while it started: the task used more than 50.0ms of processor time; raise it with --cpu-time
        "#); }
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
        insta::allow_duplicates! { insta::assert_snapshot!(seen, @r#"
        --memory 5G
            2 error[RW0007]: a task's memory can be limited to at most 4GiB, not to 5GiB
        --memory 0
            1 error[RW0404]: the artifact starts with 1.1MiB of memory, but tasks are limited to 0B; raise it with --memory
        --memory lots
            2 error[RW0002]: --memory <SIZE>: `lots` is not a size, which looks like 4096, 64MiB or 1.5G
        --timeout 400d
            2 error[RW0007]: a task's time can be limited to at most 366 days
        --timeout soon
            2 error[RW0002]: --timeout <TIME>: `soon` is not a duration, which looks like 250ms, 3s or 1h30m
        --cpu-time 400d
            2 error[RW0007]: a task's time can be limited to at most 366 days
        --max-stdout 5G
            2 error[RW0007]: a task's standard output can be limited to at most 4GiB, not to 5GiB
        --max-stderr 5G
            2 error[RW0007]: a task's standard error can be limited to at most 4GiB, not to 5GiB
        --max-result 1G
            2 error[RW0007]: a task's result can be limited to at most 128MiB, not to 1GiB
        --max-table-elements 2000000
            2 error[RW0007]: a task's tables can have at most 1000000 elements, not 2000000
        --max-table-elements -1
            2 error[RW0002]: unexpected argument '-1' found
        "#); }
    });
}

/// The stack is the node's to set.
#[test]
fn the_stack_has_the_size_that_was_set() {
    let home = Home::new();
    let deep = |stack: &str| home.rwasm(["run", &guest("evil-compute"), "--stack", stack, "--call", "recurse()"]).run();
    let shown = deep("64K").fails(1, "RW0405");
    insta::assert_snapshot!(error_of(&shown), @r#"error[RW0405]: the guest used up its stack in `evil_compute::descend`; look for endless recursion; the stack is set where the node starts, with --stack"#);
    // The frames are the guest's own, the innermost first, and no more than can be read.
    let frames = shown.stderr().lines().filter(|line| line.trim_start().starts_with("at ")).count();
    assert!((1..=16).contains(&frames), "{shown:?}");
    // The guest's compiler has given it a second stack, in its memory, which ends before this one does.
    deep("8M").fails(1, "RW0401");
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
