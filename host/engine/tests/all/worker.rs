//! The compile worker of these tests: this very program, told by its arguments to run one test and nothing else. The engine's own arguments
//! come after two hyphens, where the test harness takes them for names of tests that do not exist.

use std::{env, path::PathBuf, process::exit};

use rwasm_engine::compile::worker::WorkerOptions;

/// The program and its first arguments.
pub(crate) fn command() -> Vec<PathBuf> {
    let program = env::current_exe().unwrap();
    let arguments = ["--exact", "worker::compile_worker", "--nocapture", "--"];
    [program].into_iter().chain(arguments.map(PathBuf::from)).collect()
}

/// Does nothing where it is run as a test.
#[test]
fn compile_worker() {
    let arguments: Vec<String> = env::args().collect();
    let number =
        |name: &str| -> Option<u64> { arguments.iter().find_map(|argument| argument.strip_prefix(name)?.strip_prefix('=')?.parse().ok()) };
    let Some(memory_bytes) = number("--memory") else { return };
    let status = rwasm_engine::compile_worker(&WorkerOptions {
        memory_bytes,
        cpu_seconds: number("--cpu-seconds").unwrap(),
        output_bytes: number("--output-bytes").unwrap(),
        code: arguments.iter().any(|argument| argument == "--code"),
        parent: number("--parent").and_then(|parent| u32::try_from(parent).ok()).unwrap(),
    });
    exit((0..=255u8).find(|number| status == (*number).into()).unwrap().into());
}
