//! The benchmark command: it measures what it is asked for, and says it for people and for machines.

use crate::harness::{Home, guest};

#[test]
fn rows_are_measured_and_printed() {
    let home = Home::new();
    let rows = home.rwasm(["bench", "--quick", "--only", "tasks, one at a time", "--json"]).run().ok().json();
    let names: Vec<&str> = rows.as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["embedded", "across processes", "with TLS"].map(|place| format!("{place}: tasks, one at a time")));
    assert!(rows.as_array().unwrap().iter().all(|row| row["per_second"].as_f64().unwrap() > 0.0));
}

#[test]
fn the_journal_is_measured_beside_its_disk() {
    let home = Home::new();
    let rows = home.rwasm(["bench", "--quick", "--only", "journal: ", "--json"]).run().ok().json();
    let names: Vec<&str> = rows.as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect();
    let journal = ["bare write of 4 KiB and sync", "commit, one at a time", "commits, 64 at once", "open with 20,000 records"];
    assert_eq!(names, journal.map(|name| format!("journal: {name}")));
}

#[test]
fn what_is_checked_and_written_down_for_each_submit_is_measured() {
    let home = Home::new();
    let names = |only: &str| -> Vec<String> {
        let rows = home.rwasm(["bench", "--quick", "--only", only, "--json"]).run().ok().json();
        rows.as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names("access: "), ["access: check of a caller, 5,000 tokens"]);
    assert_eq!(names("work: "), ["work: bare write of 1,000 tasks' bytes", "work: submit of 1,000 tasks written down"]);
}

#[test]
fn a_start_from_the_cache_is_measured_where_the_guests_are() {
    let home = Home::new();
    let guests = std::path::Path::new(&guest("hello")).parent().unwrap().to_str().unwrap().to_owned();
    let output = home.rwasm(["bench", "--quick", "--only", "start: ", "--guests", &guests]).run().ok();
    output.has("start: hello from the compile cache").says("resident memory of the idle head and node");
}

/// A head with a million tasks in its history answers, and says all of them.
#[test]
fn a_long_history_is_measured() {
    let home = Home::new();
    let output = home.rwasm(["bench", "--quick", "--only", "history: "]).run().ok();
    output.has("history: head starts with 1,000,000 tasks, to its lists").says("resident memory of a head with 1,000,000 tasks");
}
