//! Hostile guests, all of them: each attack ends its own task, in the way that is written here, and harms nothing else.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    thread,
};

use parking_lot::Mutex;

use crate::harness::{Cluster, Home, guest, place::Place};

/// One attack: the guest without `evil-`, the call or the command's arguments, options, the exit status, and the error's code if there is one.
type Attack = (&'static str, &'static str, &'static [&'static str], i32, &'static str);

const CPU: &[&str] = &["--cpu-time", "50ms"];
const WALL: &[&str] = &["--timeout", "200ms"];
const MEMORY: &[&str] = &["--memory", "64M"];
const STDOUT: &[&str] = &["--max-stdout", "64K"];
const STDERR: &[&str] = &["--max-stderr", "64K"];
const RESULT: &[&str] = &["--max-result", "1000"];

const ATTACKS: &[Attack] = &[
    // What needs no grant.
    ("compute", "spin()", CPU, 1, "RW0403"),
    ("compute", "spin()", WALL, 1, "RW0402"),
    ("compute", "recurse()", &[], 1, "RW0405"),
    ("compute", "allocate()", MEMORY, 1, "RW0404"),
    ("compute", "grow-memory()", MEMORY, 1, "RW0404"),
    ("compute", "grow-memory-at-once()", &[], 1, "RW0404"),
    ("compute", "fill-memory(64, 2)", &[], 0, ""),
    ("compute", "fill-memory(600, 1)", &[], 1, "RW0404"),
    ("compute", "fill-memory(100, 1000000)", CPU, 1, "RW0403"),
    ("compute", "canary(7)", &[], 0, ""),
    ("compute", "flood-log()", STDERR, 1, "RW0406"),
    ("compute", "log-bytes(100)", &[], 0, ""),
    ("compute", "log-bytes(100000)", STDERR, 1, "RW0406"),
    ("compute", "log-controls()", &[], 0, ""),
    ("compute", "panic(\"no\")", &[], 1, "RW0401"),
    ("compute", "fail(\"no\")", &[], 1, "RW0411"),
    ("compute", "return-bytes(2000)", RESULT, 1, "RW0407"),
    ("compute", "return-bytes(200000)", RESULT, 1, "RW0407"),
    ("compute", "return-text(2000)", RESULT, 1, "RW0407"),
    ("compute", "return-text(200000)", RESULT, 1, "RW0407"),
    ("compute", "return-numbers(2000)", RESULT, 1, "RW0407"),
    ("compute", "return-lists(2000)", RESULT, 1, "RW0407"),
    ("compute", "return-lists(20000000)", &[], 1, "RW0407"),
    // Tasks that start tasks.
    ("tasks", "chain(100)", &[], 0, ""),
    ("tasks", "fork-bomb(10)", &[], 0, ""),
    ("tasks", "hoard-arguments(300, 1000000)", &[], 1, "RW0411"),
    ("tasks", "fail-and-leave()", &[], 1, "RW0401"),
    ("tasks", "wait-for-ever()", WALL, 1, "RW0402"),
    ("tasks", "ask-for-more(8589934592, 0, 1.0)", &[], 1, "RW0411"),
    // What reaches outside, and finds nothing there.
    ("wasi", "sleep-for(3600000)", WALL, 1, "RW0402"),
    ("wasi", "poll-forever()", WALL, 1, "RW0402"),
    ("wasi", "poll-busily()", CPU, 1, "RW0403"),
    ("wasi", "hoard-handles(1000)", &[], 0, ""),
    ("wasi", "hoard-handles(20000)", &[], 1, "RW0401"),
    ("wasi", "flood-stdout()", STDOUT, 1, "RW0406"),
    ("wasi", "flood-stderr()", STDERR, 1, "RW0406"),
    ("wasi", "exit-with(3)", &[], 1, "RW0408"),
    ("wasi", "exit-with(0)", &[], 1, "RW0408"),
    ("wasi", "exit-with-code(3)", &[], 3, "RW0408"),
    ("wasi", "exit-with-code(0)", &[], 1, "RW0408"),
    ("wasi", "random-bytes(1000000)", &[], 0, ""),
    ("wasi", "random-bytes(2000000)", &[], 1, "RW0401"),
    ("wasi", "hoard-files(10)", &[], 1, "RW0411"),
    ("wasi", "listen-on(0)", &[], 1, "RW0411"),
    // Commands, as a component and as a module of preview 1, which tells its status.
    ("command", "ok", &[], 0, ""),
    ("command", "exit 3", &[], 1, "RW0408"),
    ("command", "exit-code 3", &[], 3, "RW0408"),
    ("command", "exit 0", &[], 0, ""),
    ("command", "exit-mid-line 3", &[], 1, "RW0408"),
    ("command", "panic no", &[], 1, "RW0401"),
    ("command", "abort", &[], 1, "RW0401"),
    ("command", "spin", CPU, 1, "RW0403"),
    ("command", "sleep 3600000", WALL, 1, "RW0402"),
    ("command", "flood-stdout", STDOUT, 1, "RW0406"),
    ("command", "flood-stderr", STDERR, 1, "RW0406"),
    ("command-p1", "ok", &[], 0, ""),
    ("command-p1", "exit 3", &[], 3, "RW0408"),
    ("command-p1", "exit 255", &[], 255, "RW0408"),
    ("command-p1", "exit 0", &[], 0, ""),
    ("command-p1", "exit-mid-line 3", &[], 3, "RW0408"),
    ("command-p1", "panic no", &[], 1, "RW0401"),
    ("command-p1", "abort", &[], 1, "RW0401"),
    ("command-p1", "spin", CPU, 1, "RW0403"),
    ("command-p1", "sleep 3600000", WALL, 1, "RW0402"),
    ("command-p1", "flood-stdout", STDOUT, 1, "RW0406"),
    // What goes on beside its call.
    ("async", "spin()", CPU, 1, "RW0403"),
    ("async", "spin-after-waiting(5)", CPU, 1, "RW0403"),
    ("async", "wait-forever()", WALL, 1, "RW0402"),
    ("async", "wait-for-nothing()", &[], 1, "RW0401"),
    ("async", "yield-forever()", CPU, 1, "RW0403"),
    ("async", "yield-forever()", WALL, 1, "RW0402"),
    ("async", "spin-after-returning()", CPU, 1, "RW0403"),
    ("async", "wait-after-returning()", &[], 0, ""),
    ("async", "trap-after-returning()", &[], 1, "RW0401"),
    ("async", "hoard-subtasks(100)", WALL, 1, "RW0402"),
    ("async", "hoard-subtasks(1000000)", &["--timeout", "1m"], 1, "RW0401"),
    // What happens before a call, around it and after it.
    ("start-spin", "one()", CPU, 1, "RW0403"),
    ("start-trap", "one()", &[], 1, "RW0401"),
    ("start-grow", "one()", MEMORY, 1, "RW0404"),
    ("realloc", "spin(\"x\")", CPU, 1, "RW0403"),
    ("realloc", "trap(\"x\")", &[], 1, "RW0401"),
    ("realloc", "out-of-bounds(\"xy\")", &[], 1, "RW0401"),
    ("realloc", "misaligned([1])", &[], 1, "RW0401"),
    ("realloc", "grow([\"a\", \"b\"])", &[], 0, ""),
    ("post-return", "spin()", CPU, 1, "RW0403"),
    ("post-return", "trap()", &[], 1, "RW0401"),
    // Results that break the rules, and results that are bombs.
    ("abi", "not-utf8()", &[], 1, "RW0401"),
    ("abi", "past-the-end()", &[], 1, "RW0401"),
    ("abi", "too-many-bytes()", &[], 1, "RW0401"),
    ("abi", "too-many-texts()", &[], 1, "RW0401"),
    ("abi", "wrap-around()", &[], 1, "RW0401"),
    ("abi", "misaligned()", &[], 1, "RW0401"),
    ("abi", "misaligned-result()", &[], 1, "RW0401"),
    ("abi", "far-result()", &[], 1, "RW0401"),
    ("abi", "no-such-colour()", &[], 1, "RW0401"),
    ("abi", "no-such-case()", &[], 1, "RW0401"),
    ("abi", "no-character()", &[], 1, "RW0401"),
    ("abi", "seven-is-true()", &[], 0, ""),
    ("abi", "same-text(3)", &[], 0, ""),
    ("abi", "same-text(262144)", &[], 1, "RW0407"),
    // Traps.
    ("traps", "unreachable()", &[], 1, "RW0401"),
    ("traps", "divide-by-zero()", &[], 1, "RW0401"),
    ("traps", "divide-overflow()", &[], 1, "RW0401"),
    ("traps", "no-integer()", &[], 1, "RW0401"),
    ("traps", "load()", &[], 1, "RW0401"),
    ("traps", "load-far()", &[], 1, "RW0401"),
    ("traps", "store()", &[], 1, "RW0401"),
    ("traps", "copy()", &[], 1, "RW0401"),
    ("traps", "call-null()", &[], 1, "RW0401"),
    ("traps", "call-wrong-type()", &[], 1, "RW0401"),
    ("traps", "call-outside()", &[], 1, "RW0401"),
    ("traps", "table-get()", &[], 1, "RW0401"),
    ("traps", "stack-overflow()", &[], 1, "RW0405"),
    // Tables and memories.
    ("table", "grow()", &[], 1, "RW0410"),
    ("table", "grow-at-once(100)", &[], 0, ""),
    ("table", "grow-at-once(200000)", &[], 1, "RW0410"),
    ("table", "fill(100000)", CPU, 1, "RW0403"),
    ("big-memory", "one()", &[], 1, "RW0404"),
    ("memory64", "grow(1)", &[], 0, ""),
    ("memory64", "grow(100000)", &[], 1, "RW0404"),
    // What is no task, or nothing.
    ("async", "endless-stream()", &[], 2, "RW0202"),
    ("resources", "make(13)", &[], 2, "RW0202"),
    ("resources", "look(13)", &[], 2, "RW0202"),
    ("type-bomb", "give()", &[], 2, "RW0112"),
    ("deep-type", "give()", &[], 2, "RW0112"),
    ("nothing", "one()", &[], 2, "RW0112"),
    ("unknown-import", "run()", &[], 2, "RW0301"),
    ("unknown-version", "run()", &[], 2, "RW0301"),
    ("wrong-import", "run()", &[], 2, "RW0301"),
    ("foreign-import", "run()", &[], 2, "RW0110"),
    ("preview0", "run()", &[], 2, "RW0109"),
    ("threads", "run()", &[], 2, "RW0108"),
    ("page-size", "run()", &[], 2, "RW0114"),
    ("many-instances", "one()", &[], 2, "RW0007"),
    ("many-exports", "export-n9999()", &[], 0, ""),
];

/// Carries out an attack; what it does not end in is a failure of the test.
fn attack(place: &Place, (name, what, options, exit, code): Attack) {
    let name = format!("evil-{name}");
    let run = if what.ends_with(')') {
        place.work(&name, ["--call", what]).args(options)
    } else {
        place.work(&name, options).args(["--"]).args(what.split(' '))
    };
    let output = run.run().exits(exit);
    // A guest may have left its last line without an end.
    assert!(code.is_empty() || output.stderr().contains(&format!("error[{code}]: ")), "no error[{code}]\n{output:?}");
}

/// Carries out all attacks, several at a time.
fn attack_all(place: &Place) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while let Some(one) = ATTACKS.get(next.fetch_add(1, Relaxed)) {
                    attack(place, *one);
                }
            });
        }
    });
}

#[test]
fn every_attack_ends_as_it_should() {
    attack_all(&Place::Embedded(Home::new()));
}

/// Every attack that there is stands above: each file, and of those that only compute, each function.
#[test]
fn no_attack_is_forgotten() {
    let home = Home::new();
    let directory = std::path::PathBuf::from(guest("hello")).parent().unwrap().to_owned();
    // What is hard to compile, what is shown with its grants, and what attacks objects, is tested with the limits of compiling, with grants,
    // and in the engine's room.
    let elsewhere_files = ["windows", "compile-bomb", "huge-function", "huge-functions", "huge-branches", "huge-data"];
    let elsewhere_functions = [
        ("compute", &["work", "take-bytes", "take-lists"][..]),
        (
            "wasi",
            &[
                "burn",
                "print",
                "arguments",
                "environment",
                "read-file",
                "write-file",
                "fill-disk",
                "list-directory",
                "granted-directories",
                "escape",
                "escape-by-link",
                "connect-to",
                "resolve-name",
                "send-datagram",
            ],
        ),
    ];
    for entry in std::fs::read_dir(directory).unwrap() {
        let file = entry.unwrap().file_name().into_string().unwrap();
        let Some(name) = file.strip_prefix("evil-").and_then(|name| name.strip_suffix(".wasm")) else { continue };
        let of_file = || ATTACKS.iter().filter(|attack| attack.0 == name);
        assert!(of_file().next().is_some() || elsewhere_files.contains(&name), "nothing attacks with {file}");
        if !["compute", "wasi", "async", "realloc", "post-return", "abi", "traps", "table"].contains(&name) {
            continue;
        }
        let elsewhere = elsewhere_functions.iter().find(|(file, _)| *file == name).map_or(&[][..], |(_, functions)| functions);
        let info = home.rwasm(["inspect", "--json", &guest(&format!("evil-{name}"))]).run().ok().json();
        for export in info["artifact"]["exports"].as_array().unwrap() {
            let function = export["name"]["func"].as_str().unwrap();
            let called = of_file().any(|attack| attack.1.starts_with(&format!("{function}(")));
            assert!(called || elsewhere.contains(&function), "nobody calls {function} of {file}");
        }
    }
}

/// All attacks go through the same daemons, first one process and then three, while a healthy job of three tasks is run again and again.
/// Its results stay right, and the daemons are the same ones afterwards.
#[test]
fn healthy_tasks_beside_them_are_unharmed() {
    for nodes in [0, 2] {
        let place = Place::Cluster(Box::new(Cluster::build().nodes(nodes).cpus(4).start()));
        let Place::Cluster(cluster) = &place else { unreachable!() };
        let (over, rounds) = (AtomicBool::new(false), AtomicUsize::new(0));
        let failure = Mutex::new(None);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Relaxed) {
                    let work = cluster.rwasm(["submit", &guest("evil-compute"), "--map", "-", "--func", "work"]);
                    let output = work.stdin("[1000000]\n[2000000]\n[3000000]\n").run();
                    if output.code() != 0 || output.stdout() != HEALTHY {
                        *failure.lock() = Some(output);
                        return;
                    }
                    rounds.fetch_add(1, Relaxed);
                }
            });
            let attacks = scope.spawn(|| attack_all(&place));
            let attacked = attacks.join();
            over.store(true, Relaxed);
            if let Err(panic) = attacked {
                std::panic::resume_unwind(panic);
            }
        });
        if let Some(output) = failure.into_inner() {
            panic!("a healthy task was harmed, with {nodes} other nodes\n{output:?}");
        }
        assert!(rounds.into_inner() > 0);
        for daemon in cluster.daemons() {
            assert!(daemon.process.runs(), "a daemon is gone: {daemon:?}");
        }
        let status = cluster.rwasm(["status", "--json"]).run().ok().json();
        assert_eq!(status["nodes"].as_array().map(Vec::len), Some(nodes + 1), "{status}");
        // Every slot is free again: as many tasks as there are cores run side by side.
        let lines = "[200]\n".repeat(4 * (nodes + 1));
        cluster.rwasm(["submit", &guest("evil-wasi"), "--map", "-", "--func", "sleep-for"]).stdin(lines).run().ok();
    }
}

/// What `work` of these rounds returns.
const HEALTHY: &str = "\"11763794893112268350\"\n\"6917719703232435169\"\n\"4610930580746570584\"\n";

/// Control codes of a guest's log lines do not reach a terminal, nor do characters that turn the direction of text.
#[test]
fn log_lines_do_not_steer_a_terminal() {
    let home = Home::new();
    let logged = home.rwasm(["run", &guest("evil-compute"), "--call", "log-controls()"]).run().ok();
    insta::assert_snapshot!(logged.stderr(), @r#"WARN \u{1b}[2J\u{1b}[H\u{1b}]0;owned\u{7}\r\nforged: all is well\u{202e}\u{0}\u{9b}31m"#);
}

/// What is read from a program that floods is cut at the limit, to the byte.
#[test]
fn output_is_cut_at_its_limit() {
    let home = Home::new();
    let flood =
        |what: &str, option: &str| home.rwasm(["run", &guest("evil-command"), option, "10000", "--", what]).run().fails(1, "RW0406");
    assert_eq!(flood("flood-stdout", "--max-stdout").stdout.len(), 10_000);
    let stderr = flood("flood-stderr", "--max-stderr").stderr();
    assert_eq!(stderr.split_once("\nerror[").unwrap().0.len(), 10_000);
}
