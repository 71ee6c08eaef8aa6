//! What is refused: files that cannot run, artifacts that are too much to compile, calls that do not fit. Each with its code and exit status,
//! its cause and the next step in one line, and the same by every way in.

use std::{collections::BTreeSet, fmt::Write, fs, path::Path};

use crate::harness::{Cluster, Home, everywhere, guest, run::Output};

/// The line that reports the error.
fn error_of(output: &Output) -> String {
    let stderr = output.stderr();
    stderr.lines().rfind(|line| line.starts_with("error")).unwrap_or("no error").to_owned()
}

/// The guest of a name as bytes.
fn bytes_of(name: &str) -> Vec<u8> {
    fs::read(guest(name)).unwrap()
}

/// Files that are no artifacts: name, content, the row of the documentation that they are an example of.
fn files() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let hello = bytes_of("hello");
    let mut invalid = hello.clone();
    invalid.truncate(hello.len() - 1);
    invalid.push(0xff);
    let no_memory =
        r#"(module (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32))) (func (export "_start")))"#;
    let wrong_type =
        r#"(module (import "wasi_snapshot_preview1" "fd_write" (func (param i64))) (memory (export "memory") 1) (func (export "_start")))"#;
    let many = format!(
        r#"(component (core module $M (func (export "f"))) (core instance $m (instantiate $M)) {})"#,
        (0..10_001).map(|number| format!(r#"(func (export "f{number}") (canon lift (core func $m "f")))"#)).collect::<String>()
    );
    let long = format!(r#"(module (func (export "{}")))"#, "x".repeat(1_025));
    vec![
        ("empty.wasm", Vec::new(), "an empty file"),
        ("text.wasm", b"hello\n".to_vec(), "a file that is not WebAssembly"),
        ("program.wasm", fs::read("/proc/self/exe").unwrap(), "a file that is not WebAssembly"),
        ("archive.wasm.gz", b"\x1f\x8b\x08\x00rest".to_vec(), "a file that is not WebAssembly"),
        ("page.wasm", b"<!doctype html><title>404</title>".to_vec(), "a file that is not WebAssembly"),
        ("script.wasm", b"#!/bin/sh\necho hello\n".to_vec(), "a file that is not WebAssembly"),
        ("half.wasm", hello[..hello.len() / 2].to_vec(), "a binary that is cut off or invalid"),
        ("header.wasm", hello[..6].to_vec(), "a binary that is cut off or invalid"),
        ("invalid.wasm", invalid, "a binary that is cut off or invalid"),
        ("no-memory.wat", no_memory.into(), "a core module that no component can be made of"),
        ("wrong-type.wat", wrong_type.into(), "a core module that no component can be made of"),
        ("broken.wat", b"(module\n  (func (export \"f\") (resul i32)))".to_vec(), "text that does not parse"),
        ("threads.wasm", bytes_of("evil-threads"), "threads"),
        ("preview0.wasm", bytes_of("evil-preview0"), "WASI preview 0"),
        ("foreign.wasm", bytes_of("evil-foreign-import"), "core imports that are not WASI preview 1"),
        ("page-size.wasm", bytes_of("evil-page-size"), "a feature that is turned off"),
        ("nothing.wasm", bytes_of("evil-nothing"), "nothing that can be called"),
        ("type-bomb.wasm", bytes_of("evil-type-bomb"), "nothing that can be called"),
        ("many.wat", many.into(), "more than 10,000 exported functions"),
        ("long.wat", long.into(), "more than 10,000 exported functions"),
        ("instances.wasm", bytes_of("evil-many-instances"), "more inside than an instance can hold"),
        ("unknown-import.wasm", bytes_of("evil-unknown-import"), "imports that no host provides"),
        ("unknown-version.wasm", bytes_of("evil-unknown-version"), "imports that no host provides"),
        ("wrong-import.wasm", bytes_of("evil-wrong-import"), "imports that no host provides"),
    ]
}

/// What can be said of a file only when it is to be run: `inspect` shows it.
const NOT_ON_INSPECT: [&str; 2] = ["more inside than an instance can hold", "imports that no host provides"];

#[test]
fn files_that_cannot_run() {
    let files = files();
    everywhere(|place| {
        let mut seen = String::new();
        for (name, content, row) in &files {
            let path = place.home().write(name, content);
            let ran = place.work_file(&path, ["--call", "run()"]).run().exits(2).prints("");
            let _ = writeln!(seen, "{name}\n    {}", place.home().tidy(&error_of(&ran)));
            let inspected = place.home().rwasm(["inspect", &path]).run();
            if NOT_ON_INSPECT.contains(row) {
                inspected.ok();
            } else {
                assert_eq!(error_of(&ran), error_of(&inspected.exits(2).prints("")), "inspect {name}");
            }
        }
        insta::allow_duplicates! { insta::assert_snapshot!(seen, @""); }
    });
}

/// The table in the documentation and the files above name the same things.
#[test]
fn what_cannot_run_is_documented_and_tested() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/artifacts.md")).unwrap();
    let (_, table) = page.split_once("## What cannot run\n").unwrap();
    let rows: Vec<&str> = table.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    let mut tested: BTreeSet<&str> = files().into_iter().map(|(_, _, row)| row).collect();
    // The large file has a test of its own.
    tested.insert("a file of more than 256 MiB");
    for row in &rows {
        assert!(tested.iter().any(|name| row[2..].starts_with(name)), "no file is an example of: {row}");
    }
    for name in tested {
        assert!(rows.iter().any(|row| row[2..].starts_with(name)), "no row of the table begins with: {name}");
    }
}

/// The limit is looked at before the file is read, so a sparse file of any size is refused at once.
#[test]
fn a_large_file() {
    everywhere(|place| {
        let path = place.home().write("large.wasm", bytes_of("hello"));
        fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(300 << 20).unwrap();
        for command in ["run", "submit", "inspect"] {
            let refused = place.home().rwasm([command, &path]).run().fails(2, "RW0104");
            insta::allow_duplicates! { insta::assert_snapshot!(error_of(&refused), @""); }
        }
    });
}

#[test]
fn files_that_cannot_be_read() {
    let home = Home::new();
    fs::create_dir(home.path("directory.wasm")).unwrap();
    let mut seen = String::new();
    for name in ["missing.wasm", "directory.wasm", "/dev/null"] {
        for command in ["run", "submit", "inspect"] {
            let refused = home.rwasm([command, name]).run().exits(2).prints("");
            let _ = writeln!(seen, "{command} {name}\n    {}", error_of(&refused));
        }
    }
    insta::assert_snapshot!(seen, @"");
}

/// Compiling is limited, and what is too much for it harms nobody: the same process compiles and runs the next artifact.
#[test]
fn artifacts_that_are_too_much_to_compile() {
    let home = Home::with_own_cache();
    let of = |output: &Output| home.tidy(&error_of(output));
    let run = |name: &str, limit: [&str; 2]| home.rwasm(["run", &guest(name), "--call", "run(1)"]).args(limit).run().exits(2).prints("");
    let mut seen = String::new();
    for (name, limit) in [
        ("evil-compile-bomb", ["--compile-timeout", "1s"]),
        ("evil-huge-branches", ["--compile-timeout", "1s"]),
        ("evil-huge-function", ["--compile-memory", "512M"]),
        ("evil-huge-function", ["--compile-memory", "16M"]),
        ("hello", ["--compile-memory", "16M"]),
    ] {
        let _ = writeln!(seen, "{name} {}\n    {}", limit.join(" "), of(&run(name, limit)));
    }
    insta::assert_snapshot!(seen, @"");
    let cluster = Cluster::build().args(&["--compile-memory", "700M"]).own_cache().start();
    let call = |name: &str, call: &str| cluster.rwasm(["submit", &guest(name), "--call", call]);
    let mut hopeless = call("evil-huge-function", "run(1)").spawn();
    // The node does other things meanwhile.
    call("hello", "add(1, 2)").run().ok().prints("3\n");
    assert!(hopeless.runs() || !hopeless.stderr().is_empty());
    hopeless.wait().fails(2, "RW0106");
    call("hello", "add(1, 2)").run().ok().prints("3\n");
}

/// Large artifacts that are not too large.
#[test]
fn artifacts_that_are_large_and_run() {
    let home = Home::new();
    let call = |name: &str, call: &str| home.rwasm(["run", &guest(name), "--call", call]).run().ok().stdout();
    assert_eq!(call("evil-huge-data", "run(1)"), "227\n");
    assert_eq!(call("evil-many-exports", "export-n9999()"), "1\n");
    assert_eq!(call("evil-memory64", "grow(1)"), "1\n");
}

/// Calls that do not fit are refused before anything is queued.
#[test]
fn calls_that_do_not_fit() {
    everywhere(|place| {
        let mut seen = String::new();
        for (name, call) in [
            ("hello", "gret(\"x\")"),
            ("hello", "nothing-like-it()"),
            ("hello", "greet()"),
            ("hello", "add(1, 2, 3)"),
            ("hello", "greet(1)"),
            ("hello", "add(\"x\", 2)"),
            ("hello", "add(1, -1)"),
            ("hello", "add(1, 4294967296)"),
            ("hello", "echo([1, 256])"),
            ("hello", "spread([1, \"x\"])"),
            ("hello", "divide(9223372036854775808, 1)"),
            ("hello", "add(1, 2"),
            ("hello", "add"),
            ("evil-wasi", "write-file(\"x\", [1, 2, 3], 4)"),
            ("evil-resources", "make(13)"),
            ("evil-resources", "look(13)"),
            ("async-example", "upper(1)"),
            ("wordcount", "count()"),
        ] {
            let refused = place.work(name, ["--call", call]).run().exits(2).prints("");
            let _ = writeln!(seen, "{name} {call}\n    {}", error_of(&refused));
        }
        let refused = place.work("hello", [""; 0]).run().exits(2).prints("");
        let _ = writeln!(seen, "hello\n    {}", error_of(&refused));
        insta::allow_duplicates! { insta::assert_snapshot!(seen, @""); }
        if let crate::harness::place::Place::Cluster(cluster) = place {
            let jobs = cluster.rwasm(["list", "jobs", "--json"]).run().ok().json();
            assert_eq!(jobs["total"], 0, "{jobs}");
        }
    });
}

/// The cache's disk is full: the task runs all the same or is refused with its own code, and nothing that was cut off is used later.
#[test]
fn a_full_disk_under_the_compile_cache() {
    let home = Home::with_own_cache();
    fs::create_dir(home.cache()).unwrap();
    // Hello's machine code does not fit into so little. The namespace ends with the command, and with it the mount.
    let script =
        r#"mount -t tmpfs -o size=64k,nr_inodes=64 tmpfs "$RWASM_CACHE_DIR" && "$@"; status=$?; ls -R "$RWASM_CACHE_DIR"; exit $status"#;
    let in_namespace = |call: &str| {
        let shell = ["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh", env!("CARGO_BIN_EXE_rwasm"), "run"];
        home.command("unshare", shell).args([&guest("hello"), "--call", call])
    };
    let full = in_namespace("add(1, 2)").run().fails(1, "RW0601");
    let listed = full.stdout();
    assert!(!listed.contains(".cwasm") && !listed.contains("scratch-"), "{listed}");
    insta::assert_snapshot!(home.tidy(&error_of(&full)), @"");
    // With room it works, in the same directory.
    home.rwasm(["run", &guest("hello"), "--call", "add(1, 2)"]).run().ok().prints("3\n");
}
