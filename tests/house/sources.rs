//! What source files may hold.

use crate::{
    code::{without_comments_and_literals, words},
    no_complaints,
    tree::{self, Source},
};

/// The most lines of a Rust file. Most have a quarter of that.
const LINES_MAX: usize = 600;

/// Written by a program, kept fresh by a test of its own room.
const GENERATED: &[&str] = &["host/wire/src/generated.rs"];

/// Words of the code and the only places that may hold them.
const PLACES: &[(&[&str], &[&str], &str)] = &[
    (
        &["unsafe"],
        &["host/engine/src/raw.rs", "host/objects/src/raw.rs", "guest-sdk/rust/src/panic.rs", "guest-sdk/rust/src/region.rs"],
        "unsafe code has four modules in this repository",
    ),
    (&["wasmtime", "wasmtime_wasi", "cranelift"], &["host/engine"], "only the engine names wasmtime"),
    (&["rustls", "tokio_rustls", "rcgen", "webpki", "ring"], &["host/tls"], "only the room of certificates names rustls and rcgen"),
    (&["prost", "tonic", "tonic_prost", "tonic_prost_build"], &["host/wire"], "only the wire names prost and tonic"),
];

/// What the head's decisions do without, so that the same events give the same actions.
const NOT_IN_CORE: &[&str] = &[
    "tokio",
    "async",
    "await",
    "thread",
    "Instant",
    "SystemTime",
    "HashMap",
    "HashSet",
    "RandomState",
    "rand",
    "random",
    "Mutex",
    "RwLock",
    "Atomic",
    "env",
    "fs",
    "net",
    "process",
    "io",
    "f32",
    "f64",
    "tracing",
];

/// Complaints about a file that does not say first what it is.
fn opening(file: &Source) -> Option<String> {
    let told = file.text.starts_with("//!") || file.is_in(GENERATED);
    (!told).then(|| format!("{} does not begin with `//!`", file.path))
}

/// Complaints about a file that is too long for one topic.
fn length(file: &Source) -> Option<String> {
    let lines = file.text.lines().count();
    (lines > LINES_MAX && !file.is_in(GENERATED)).then(|| format!("{} has {lines} lines, more than {LINES_MAX}", file.path))
}

/// Complaints about words of the code that stand in the wrong place.
fn places(file: &Source) -> Vec<String> {
    let rules: Vec<_> = PLACES.iter().filter(|(_, places, _)| !file.is_in(places)).collect();
    let code = without_comments_and_literals(&file.text);
    let misplaced = |(line, word): (usize, &str)| {
        let (_, _, why) = rules.iter().find(|(reserved, ..)| reserved.contains(&word))?;
        Some(format!("{}:{line} has `{word}`: {why}", file.path))
    };
    words(&code).filter_map(misplaced).collect()
}

/// Complaints about what would make the core's decisions depend on more than its events.
fn determinism(file: &Source) -> Vec<String> {
    if !file.is_in(&["scheduler/core/src"]) {
        return Vec::new();
    }
    let code = without_comments_and_literals(&file.text);
    let found = words(&code).filter(|(_, word)| NOT_IN_CORE.contains(word) || word.starts_with("Atomic"));
    found.map(|(line, word)| format!("{}:{line} has `{word}`: the core does without", file.path)).collect()
}

/// Complaints about notes to oneself, and about paths of the machine that something was written on.
fn leftovers(file: &Source) -> Vec<String> {
    // Put together here, so that this file has none.
    const NOTES: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), concat!("HA", "CK")];
    const PATHS: &[&str] = &[concat!("/ro", "ot"), concat!("/wo", "rk")];
    let mut complaints = Vec::new();
    for (number, line) in file.text.lines().enumerate() {
        let place = format!("{}:{}", file.path, number + 1);
        let notes = words(line).filter(|(_, word)| NOTES.contains(word));
        complaints.extend(notes.map(|(_, word)| format!("{place} has a {word}: do it, or open an issue")));
        let paths = PATHS.iter().filter(|path| has_path(line, path));
        complaints.extend(paths.map(|path| format!("{place} has a path of one machine: {path}")));
    }
    complaints
}

/// Whether a line has an absolute path that begins with this directory.
fn has_path(line: &str, dir: &str) -> bool {
    line.match_indices(dir).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + dir.len()..].chars().next();
        let absolute = before.is_none_or(|c| !c.is_alphanumeric() && !"._-~*/$}<>\\".contains(c));
        absolute && after.is_none_or(|c| !c.is_alphanumeric() && !"_-".contains(c))
    })
}

fn check_rust<T: IntoIterator<Item = String>>(rule: impl Fn(&Source) -> T) {
    no_complaints(&tree::rust().iter().flat_map(rule).collect::<Vec<_>>());
}

#[test]
fn files_say_first_what_they_are() {
    check_rust(opening);
}

#[test]
fn files_have_one_topic() {
    check_rust(length);
}

#[test]
fn words_stay_in_their_places() {
    check_rust(places);
}

#[test]
fn the_core_depends_on_its_events_alone() {
    check_rust(determinism);
}

#[test]
fn nothing_is_left_over() {
    no_complaints(&tree::sources().iter().flat_map(leftovers).collect::<Vec<_>>());
}

#[test]
fn exceptions_are_needed() {
    let files = tree::rust();
    let exceptions = GENERATED.iter().chain(PLACES.iter().flat_map(|(_, places, _)| places.iter()));
    for place in exceptions {
        assert!(files.iter().any(|file| file.is_in(&[place])), "{place} is an exception, but is not there");
    }
}

#[test]
fn bad_files_are_found() {
    let file = |path: &str, text: &str| Source::new(path, text);
    assert!(opening(&file("src/a.rs", "// a comment\n//! too late\n")).is_some());
    assert!(opening(&file("src/a.rs", "//! What it is.\n")).is_none());
    assert!(length(&file("src/a.rs", &"\n".repeat(LINES_MAX + 1))).is_some());
    assert!(length(&file("src/a.rs", &"\n".repeat(LINES_MAX))).is_none());
    for (path, text, line) in [
        ("host/node/src/a.rs", "//! A.\nfn a() { unsafe { b() } }", 2),
        ("host/engine/src/a.rs", "#[unsafe(no_mangle)]", 1),
        ("host/node/src/a.rs", "//! A.\n\nuse wasmtime::Engine;", 3),
        ("client/src/a.rs", "use ::prost::Message;", 1),
        ("host/enginex/src/a.rs", "wasmtime_wasi::p2", 1),
    ] {
        let found = places(&file(path, text));
        assert!(matches!(&found[..], [one] if one.starts_with(&format!("{path}:{line} "))), "{path}: {found:?}");
    }
    for (path, text) in [
        ("host/engine/src/raw.rs", "unsafe { wasmtime::load() }"),
        ("host/node/src/a.rs", "// unsafe, wasmtime and tonic\nlet a = \"unsafe\"; unsafe_code"),
        ("host/wire/src/a.rs", "use tonic::Status;"),
    ] {
        assert_eq!(places(&file(path, text)), [""; 0], "{path}");
    }
    for word in ["use std::collections::HashMap;", "std::time::Instant::now()", "async fn a() {}", "AtomicU64::new(0)", "0 as f64"] {
        assert_eq!(determinism(&file("scheduler/core/src/a.rs", word)).len(), 1, "{word}");
        assert_eq!(determinism(&file("scheduler/head/src/a.rs", word)), [""; 0], "{word}");
    }
}

#[test]
fn leftovers_are_found() {
    let (note, dir) = (concat!("TO", "DO"), concat!("/ro", "ot"));
    let complaints = |text: &str| leftovers(&Source::new("docs/a.md", text)).len();
    for bad in [format!("// {note}: later"), format!("see {dir}/a"), format!("\"{dir}\""), format!("{dir}: x"), format!("PATH={dir}/bin")] {
        assert_eq!(complaints(&bad), 1, "{bad}");
    }
    for good in
        [format!("my{note}s and {}", note.to_lowercase()), format!("$HOME{dir}"), format!("a{dir}/b {dir}less ~{dir}"), "todo".into()]
    {
        assert_eq!(complaints(&good), 0, "{good}");
    }
}
