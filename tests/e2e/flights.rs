//! The demo on its real data: what a cluster of three processes sums up is what Python's csv module sums up, to the last digit.

use std::{
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

/// Runs a script of the repository and gives what it printed.
fn tool(name: &str, args: &[&str]) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools").join(name);
    let Output { status, stdout, stderr } =
        Command::new(&path).args(args).env("RWASM", env!("CARGO_BIN_EXE_rwasm")).env("CHUNKS", "24").output().unwrap();
    let (stdout, stderr) = (String::from_utf8(stdout).unwrap(), String::from_utf8_lossy(&stderr).into_owned());
    assert!(status.success(), "{name} {args:?} ended with {status}\n{stdout}\n{stderr}");
    stdout
}

#[test]
fn the_demo_sums_up_what_an_independent_computation_does() {
    let csv = tool("fetch-flights.sh", &[]);
    let merged: Value = serde_json::from_str(&tool("demo.sh", &["--json"])).unwrap();
    let reference: Value = serde_json::from_str(&tool("flights_reference.py", &[csv.trim()])).unwrap();
    let carriers = merged.as_array().unwrap();
    assert_eq!(carriers.iter().map(|carrier| carrier["flights"].as_u64().unwrap()).sum::<u64>(), 336_776);
    assert_eq!(merged, reference);
}
