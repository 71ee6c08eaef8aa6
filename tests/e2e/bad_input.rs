//! What is refused: files that cannot run, artifacts that are too much to compile, calls that do not fit. Each with its code and exit status,
//! its cause and the next step in one line, and the same by every way in.

use std::{collections::BTreeSet, fmt::Write, fs, path::Path};

use crate::harness::{Cluster, Home, everywhere, guest, run::Output};

/// The line that reports the error.
fn error_of(output: &Output) -> String {
    let stderr = output.stderr();
    // A guest may have left its last line without an end.
    let found = stderr.rfind("error[").map(|start| &stderr[start..]);
    found.and_then(|error| error.lines().next()).unwrap_or("no error").to_owned()
}

/// The guest of a name as bytes.
fn bytes_of(name: &str) -> Vec<u8> {
    fs::read(guest(name)).unwrap()
}

/// Files that are no artifacts: name, content, the row of the documentation that they are an example of.
fn files() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let hello = bytes_of("hello");
    let mut invalid = hello.clone();
    // The number of the first section.
    invalid[8] = 0x7f;
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

fn truncated(error: &str) -> String {
    let place = error.split_once("at byte ").and_then(|(_, rest)| rest.split_once(':')).map(|(place, _)| place.to_owned());
    error.replace(&format!("at byte {}", place.unwrap_or_default()), "at byte N")
}

#[test]
fn files_that_cannot_run() {
    let files = files();
    everywhere(|place| {
        let mut seen = String::new();
        for (name, content, row) in &files {
            let path = place.home().write(name, content);
            let ran = place.work_file(&path, ["--call", "run()"]).run().exits(2).prints("");
            // How long a guest is differs from compiler to compiler.
            let error = if *name == "half.wasm" { truncated(&error_of(&ran)) } else { error_of(&ran) };
            let _ = writeln!(seen, "{name}\n    {}", place.home().tidy(&error));
            let inspected = place.home().rwasm(["inspect", &path]).run();
            if NOT_ON_INSPECT.contains(row) {
                inspected.ok();
            } else {
                assert_eq!(error_of(&ran), error_of(&inspected.exits(2).prints("")), "inspect {name}");
            }
        }
        insta::allow_duplicates! { insta::assert_snapshot!(seen, @r#"
        empty.wasm
            error[RW0103]: HOME/work/empty.wasm is empty; check that it was built
        text.wasm
            error[RW0101]: the file is not WebAssembly; submit a .wasm or .wat file
        program.wasm
            error[RW0101]: the file is a native program or a precompiled module, not WebAssembly; submit the .wasm that it was made of
        archive.wasm.gz
            error[RW0101]: the file is a gzip archive, not WebAssembly; unpack it first
        page.wasm
            error[RW0101]: the file is a web page, not WebAssembly; check the address that it was downloaded from
        script.wasm
            error[RW0101]: the file is a script, not WebAssembly; compile it to WebAssembly first
        half.wasm
            error[RW0102]: the WebAssembly is invalid at byte N: unexpected end-of-file
        header.wasm
            error[RW0102]: the file ends within the header of WebAssembly
        invalid.wasm
            error[RW0102]: the WebAssembly is invalid at byte 10: malformed section id: 127
        no-memory.wat
            error[RW0102]: no component can be made of the module: it uses WASI, but exports no memory; export its memory by the name `memory`
        wrong-type.wat
            error[RW0102]: no component can be made of the module: failed to decode world from module: failed to validate the imports of the adapter module `wasi_snapshot_preview1`: type mismatch for function `fd_write`: expected `[I64] -> []` but found `[I32, I32, I32, I32] -> [I32]`
        broken.wat
            error[RW0113]: the text does not parse at line 2, column 23: unknown operator or unexpected token
        threads.wasm
            error[RW0108]: the module needs threads or shared memory, which guests do not have; build it without threads (for Rust, another target than wasm32-wasip1-threads), and run many tasks instead
        preview0.wasm
            error[RW0109]: the module was built for WASI preview 0 (`wasi_unstable`), which is no longer run; build it with a toolchain from 2020 or later
        foreign.wasm
            error[RW0110]: the module imports what no host provides: `env.foo`; build it for WASI (for Rust, wasm32-wasip2), or link what it needs into it
        page-size.wasm
            error[RW0114]: the module uses a WebAssembly feature that is turned off: custom-page-sizes; build it without that feature
        nothing.wasm
            error[RW0112]: the component exports nothing that can be called; export a function, or `wasi:cli/run`
        type-bomb.wasm
            error[RW0112]: the component exports nothing that can be called; `give`: its types are larger than the limits
        many.wat
            error[RW0007]: the artifact exports more than 10000 functions
        long.wat
            error[RW0112]: the core module exports nothing that can be called; `xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx`: its name cannot be written in WIT
        instances.wasm
            error[RW0201]: the artifact has no export `run`; it exports `one`
        unknown-import.wasm
            error[RW0301]: the artifact imports what no grant can provide: `nobody:anywhere/nothing@1.2.3`; compose it with a component that exports them, as `wac plug` does
        unknown-version.wasm
            error[RW0301]: the artifact imports what no grant can provide: `rwasm:core/context@9.0.0`; rebuild it against a version that this host provides, which `rwasm inspect` shows
        wrong-import.wasm
            error[RW0301]: the artifact's imports do not fit the host: component imports instance `rwasm:core/context@0.1.0`, but a matching implementation was not found in the linker: instance export `attempt` has the wrong type: type mismatch with parameters: expected 0-tuple, found 1-tuple
        "#); }
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
            insta::allow_duplicates! { insta::assert_snapshot!(error_of(&refused), @r#"error[RW0104]: the artifact has 300MiB, but may have 256MiB; strip debug information with `wasm-tools strip`, or read large data at run time"#); }
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
    insta::assert_snapshot!(seen, @r#"
    run missing.wasm
        error[RW0004]: cannot read missing.wasm: No such file or directory (os error 2); check the path
    submit missing.wasm
        error[RW0004]: cannot read missing.wasm: No such file or directory (os error 2); check the path
    inspect missing.wasm
        error[RW0004]: cannot read missing.wasm: No such file or directory (os error 2); check the path
    run directory.wasm
        error[RW0004]: cannot read directory.wasm: Is a directory (os error 21); check the path
    submit directory.wasm
        error[RW0004]: cannot read directory.wasm: Is a directory (os error 21); check the path
    inspect directory.wasm
        error[RW0004]: cannot read directory.wasm: Is a directory (os error 21); check the path
    run /dev/null
        error[RW0103]: /dev/null is empty; check that it was built
    submit /dev/null
        error[RW0103]: /dev/null is empty; check that it was built
    inspect /dev/null
        error[RW0103]: /dev/null is empty; check that it was built
    "#);
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
    ] {
        let _ = writeln!(seen, "{name} {}\n    {}", limit.join(" "), of(&run(name, limit)));
    }
    insta::assert_snapshot!(seen, @r#"
    evil-compile-bomb --compile-timeout 1s
        error[RW0105]: compiling took longer than 1.0s; split the artifact, or start the node with a larger --compile-timeout
    evil-huge-branches --compile-timeout 1s
        error[RW0105]: compiling took longer than 1.0s; split the artifact, or start the node with a larger --compile-timeout
    evil-huge-function --compile-memory 512M
        error[RW0106]: the artifact needs more than 512MiB of memory to compile; split the artifact, or start the node with a larger --compile-memory
    evil-huge-function --compile-memory 16M
        error[RW0106]: the artifact needs more than 16MiB of memory to compile; split the artifact, or start the node with a larger --compile-memory
    "#);
    let cluster = Cluster::build().args(&["--compile-memory", "400M"]).own_cache().start();
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
        insta::allow_duplicates! { insta::assert_snapshot!(seen, @r#"
        hello gret("x")
            error[RW0201]: the artifact has no export `gret`; did you mean `greet`?
        hello greet()
            error[RW0203]: the function takes 1 argument, but 0 were given; its type is `func(name: string) -> string`
        hello add(1, 2, 3)
            error[RW0203]: the function takes 2 arguments, but 3 were given; its type is `func(a: u32, b: u32) -> u32`
        hello greet(1)
            error[RW0204]: parameter `name` must be `string`, but `1` was given
        hello add("x", 2)
            error[RW0204]: parameter `a` must be `u32`, but `"x"` was given
        hello add(1, -1)
            error[RW0205]: parameter `b` must be `u32` (0 to 4294967295), but `-1` was given
        hello add(1, 4294967296)
            error[RW0205]: parameter `b` must be `u32` (0 to 4294967295), but `4294967296` was given
        hello echo([1, 256])
            error[RW0205]: `args[0][1]` of parameter `bytes` must be `u8` (0 to 255), but `256` was given
        hello spread([1, "x"])
            error[RW0204]: `args[0][1]` of parameter `values` must be `f64`, but `"x"` was given
        hello divide(9223372036854775808, 1)
            error[RW0205]: parameter `dividend` must be `s64` (-9223372036854775808 to 9223372036854775807), but `9223372036854775808` was given
        hello add(1, 2
            error[RW0208]: the text is not WAVE at line 1, column 6: it ends too soon
        hello add
            error[RW0208]: the call has no arguments in parentheses; write it as in `add(1, 2)` or `demo:math/ops/add(1, 2)`
        evil-wasi write-file("x", [1, 2, 3], 4)
            error[RW0203]: the function takes 2 arguments, but 3 were given; its type is `func(path: string, bytes: list<u8>) -> result<_, string>`
        evil-resources make(13)
            error[RW0202]: `make` belongs to an actor and cannot be called as a task; `rwasm actor create` makes an actor, and `rwasm actor call` calls its methods
        evil-resources look(13)
            error[RW0202]: `look` cannot be called: it takes a handle of `thing`, which only an actor holds
        async-example upper(1)
            error[RW0202]: `upper` cannot be called: it takes a stream, which cannot leave the guest
        wordcount count()
            error[RW0201]: the artifact has no export `count`; it exports `wasi:cli/run@0.2.6/run`
        hello
            error[RW0201]: the artifact is no command: it has no `wasi:cli/run`; name an export with --call; `rwasm inspect` lists them
        "#); }
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
    insta::assert_snapshot!(home.tidy(&error_of(&full)), @r#"error[RW0601]: no space is left for the compile cache in HOME/cache/compiled; free some, or choose another directory with RWASM_CACHE_DIR"#);
    // With room it works, in the same directory.
    home.rwasm(["run", &guest("hello"), "--call", "add(1, 2)"]).run().ok().prints("3\n");
}
