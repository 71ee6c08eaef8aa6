//! Tests that change or end their process, and so have one of their own: this very program, told by its arguments to run one test.

use std::{
    env,
    process::{Command, Output},
};

/// What tells a test that it has the process for itself.
const ALONE: &str = "--alone";

/// Runs a test again in a process of its own; `None` in that process, where the test goes on.
pub(crate) fn alone(test: &str) -> Option<Output> {
    if env::args().any(|argument| argument == ALONE) {
        return None;
    }
    let arguments = ["--exact", test, "--nocapture", "--", ALONE];
    Some(Command::new(env::current_exe().unwrap()).args(arguments).output().unwrap())
}

/// Such a test's end, where it should succeed.
pub(crate) fn succeeded(output: &Output) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}\n{}\n{}", output.status, text(&output.stdout), text(&output.stderr));
    assert!(text(&output.stdout).contains("1 passed"), "{}", text(&output.stdout));
}

/// How many mappings this process has.
pub(crate) fn maps() -> usize {
    std::fs::read_to_string("/proc/self/maps").unwrap().lines().count()
}
