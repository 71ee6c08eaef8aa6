//! Compiling hostile artifacts: each limit ends in a code of its own, and whoever had it compiled is as before.

use std::{env, fmt::Write, fs, process::Command, time::Duration};

use rwasm_engine::CompileLimits;
use rwasm_types::Code;

use crate::{
    common::{Lab, Task, Way, lab, lab_with},
    guests::{ONE, hostile, silent},
    worker,
};

const MIB: u64 = 1 << 20;

/// Set in the process that a test started to have one for itself.
const ALONE: &str = "RWASM_TEST_ALONE";

/// Many variables, each of which has to be followed through many loops: takes minutes.
fn bomb() -> String {
    const LOOPS: usize = 6_000;
    const VARIABLES: usize = 6_000;
    let mut body = "(local".to_owned() + &" i32".repeat(VARIABLES + 1) + ")\n" + &"loop ".repeat(LOOPS);
    for variable in 1..=VARIABLES {
        let _ = writeln!(body, "local.get {variable} local.get {} i32.add local.set {variable}", variable - 1);
    }
    body += &format!("local.get {VARIABLES} br_if 0 end ").repeat(LOOPS);
    format!(r#"(module (func (export "run") {body}))"#)
}

/// So many values that are alive at once: takes memory.
fn crowd() -> String {
    const VALUES: usize = 150_000;
    let body = "local.get 0 i32.const 7 i32.mul local.tee 0 ".repeat(VALUES) + &"i32.xor ".repeat(VALUES - 1);
    format!(r#"(module (func (export "run") (param i32) (result i32) {body}))"#)
}

fn one() -> String {
    silent(ONE.0, ONE.1)
}

fn limited(change: impl FnOnce(&mut CompileLimits)) -> Lab {
    lab_with(|options| change(&mut options.compile.limits))
}

async fn refused(lab: &Lab, guest: &str) -> (Code, String) {
    let error = lab.try_prepare(guest).await.unwrap_err();
    (error.code(), error.to_string())
}

/// The compile cache after all: what children leave is gone, only what was compiled stays.
fn scratch(lab: &Lab) -> usize {
    let entries = fs::read_dir(lab.cache.path()).unwrap();
    entries.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("scratch-")).count()
}

#[tokio::test]
async fn every_limit_has_its_code() {
    let time = limited(|limits| limits.time = Duration::from_secs(1));
    assert_eq!(
        refused(&time, &bomb()).await,
        (
            Code::COMPILE_TIME,
            "compiling took longer than 1.0s; split the artifact, or start the node with a larger --compile-timeout".to_owned()
        )
    );
    let memory = limited(|limits| limits.memory_bytes = 400 * MIB);
    assert_eq!(
        refused(&memory, &crowd()).await,
        (
            Code::COMPILE_MEMORY,
            "the artifact needs more than 400MiB of memory to compile; split the artifact, or start the node with a larger --compile-memory"
                .to_owned()
        )
    );
    let output = limited(|limits| limits.output_bytes = MIB);
    let data = format!(r#"(memory 64) (data (i32.const 0) "{}") {}"#, "x".repeat(2 << 20), ONE.0);
    assert_eq!(
        refused(&output, &silent(&data, ONE.1)).await,
        (Code::ARTIFACT_TOO_LARGE, "the artifact compiles to more than 1MiB of machine code; split it, or take data out of it".to_owned())
    );
    for lab in [&time, &memory, &output] {
        assert_eq!(scratch(lab), 0);
        // What was refused is in nobody's way.
        let prepared = lab.prepare(&one()).await;
        assert_eq!(Task::new(&prepared, "one()").run(Way::Thread).await.wave(), "1");
    }
}

/// However little memory there is, and whatever asks for it in vain, the code says that it is memory.
#[tokio::test]
async fn too_little_memory_is_always_told() {
    let mut enough = 0;
    for mebibytes in [8, 16, 32, 48, 64, 80, 96, 112, 128, 144, 160, 192, 224, 256, 320, 400] {
        let lab = limited(|limits| limits.memory_bytes = mebibytes * MIB);
        match lab.try_prepare(&one()).await {
            Ok(_) => enough += 1,
            Err(error) => assert_eq!(error.code(), Code::COMPILE_MEMORY, "with {mebibytes} MiB: {error}"),
        }
    }
    assert!(enough > 0);
}

/// One whose parent was killed before it could say that it ends with it has nobody to work for.
#[test]
fn a_worker_of_nobody_does_not_begin() {
    let scratch = tempfile::tempdir().unwrap();
    fs::write(scratch.path().join("in.wasm"), bomb()).unwrap();
    let command = worker::command();
    let mut worker = Command::new(&command[0]);
    worker.args(&command[1..]).args(["--memory=4294967296", "--cpu-seconds=60", "--output-bytes=1000000", "--code", "--parent=1"]);
    assert_eq!(worker.current_dir(scratch.path()).status().unwrap().code(), Some(3));
    assert!(fs::read_to_string(scratch.path().join("error.json")).unwrap().contains("is gone"));
}

/// A worker whose parent is gone ends by itself, and in a way that tells why.
#[test]
fn processor_time_is_limited_without_a_parent() {
    const SIGXCPU: i32 = 24;
    let scratch = tempfile::tempdir().unwrap();
    fs::write(scratch.path().join("in.wasm"), bomb()).unwrap();
    let command = worker::command();
    let status = Command::new(&command[0])
        .args(&command[1..])
        .args(["--memory=4294967296", "--cpu-seconds=1", "--output-bytes=1000000", "--code"])
        .arg(format!("--parent={}", std::process::id()))
        .current_dir(scratch.path())
        .status()
        .unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(SIGXCPU));
}

#[tokio::test]
async fn what_is_too_large_for_an_instance_is_told() {
    let lab = lab();
    let mut instances = r#"(component (core module $M (memory 1) (func (export "one") (result i32) (i32.const 1)))"#.to_owned();
    (0..300).for_each(|number| instances += &format!("(core instance $m{number} (instantiate $M))"));
    instances += r#"(func (export "one") (result u32) (canon lift (core func $m0 "one"))))"#;
    let (code, text) = refused(&lab, &instances).await;
    assert_eq!(code, Code::LIMIT, "{text}");
    assert_eq!(
        text,
        "the artifact is too large for an instance: The component transitively contains 300 core module instances, which exceeds the \
         configured maximum of 256; split it"
    );
    for module in ["(memory i64 65537)", "(table 1000001 funcref)"] {
        let (code, text) = refused(&lab, &silent(&format!("{module} {}", ONE.0), ONE.1)).await;
        assert_eq!(code, Code::LIMIT, "{module}: {text}");
        assert!(!text.contains('\n') && !text.contains("pool"), "{text}");
    }
}

/// What cannot be an artifact is found out by the child, and told as if there were none.
#[tokio::test]
async fn the_childs_own_errors_come_through() {
    let lab = lab();
    for (guest, code) in [
        ("", Code::EMPTY_FILE),
        ("hello", Code::NOT_WASM),
        ("(module", Code::MALFORMED_TEXT),
        (&*hostile("threads"), Code::USES_THREADS),
        (&*hostile("unknown-import"), Code::MISSING_IMPORTS),
        (&*hostile("nothing"), Code::NOTHING_TO_CALL),
    ] {
        assert_eq!(refused(&lab, guest).await.0, code, "{guest}");
        if code != Code::MISSING_IMPORTS {
            assert_eq!(lab.engine.inspect(guest.as_bytes()).await.unwrap_err().code(), code, "{guest}");
        }
    }
    assert_eq!(scratch(&lab), 0);
}

#[tokio::test]
async fn without_a_worker_nothing_compiles() {
    let lab = lab_with(|options| options.compile.worker = vec!["/nonexistent/worker".into()]);
    let (code, text) = refused(&lab, &one()).await;
    assert_eq!(code, Code::COMPILE_FAILED);
    assert!(text.starts_with("cannot start /nonexistent/worker: "), "{text}");
    // A worker that crashes.
    let lab = lab_with(|options| options.compile.worker = vec!["/bin/sh".into(), "-c".into(), "echo so sorry >&2; kill -SEGV $$".into()]);
    let (code, text) = refused(&lab, &one()).await;
    assert_eq!(code, Code::COMPILE_FAILED);
    assert!(text.contains("signal 11; so sorry"), "{text}");
}

/// Many ask for one artifact at once, and some of them give up.
#[tokio::test]
async fn who_waits_for_the_same_artifact_waits_for_one_worker() {
    let marks = tempfile::tempdir().unwrap();
    let lab = lab_with(|options| {
        // Leaves a mark for each start, and then is the worker.
        let script = format!("mktemp {}/mark-XXXXXX >/dev/null; exec \"$0\" \"$@\"", marks.path().display());
        let shell = ["/bin/sh".into(), "-c".into(), script.into()];
        options.compile.worker = shell.into_iter().chain(worker::command()).collect();
        options.compile.workers_max = 10;
    });
    let guest = one();
    {
        let mut given_up = std::pin::pin!(lab.prepare(&guest));
        // As far as it goes without waiting: it has joined.
        assert!(futures_pending(given_up.as_mut()).await);
    }
    let all = tokio::join!(lab.prepare(&guest), lab.prepare(&guest), lab.prepare(&guest), lab.prepare(&guest));
    assert_eq!(all.3.info().exports.len(), 1);
    // The one that was given up may have started a worker too.
    let started = fs::read_dir(marks.path()).unwrap().count();
    assert!((1..=2).contains(&started), "{started} workers were started");
    assert_eq!(scratch(&lab), 0);
}

/// Polls once.
async fn futures_pending(future: std::pin::Pin<&mut impl Future>) -> bool {
    let mut future = Some(future);
    std::future::poll_fn(|cx| {
        let pending = future.take().is_some_and(|future| future.poll(cx).is_pending());
        std::task::Poll::Ready(pending)
    })
    .await
}

/// The parent's memory and threads, when children were killed at each limit and a compilation was given up.
#[test]
fn the_parent_is_as_before() {
    let status = Command::new(env::current_exe().unwrap())
        .args(["--exact", "compile::in_a_process_of_its_own", "--nocapture"])
        .env(ALONE, "1")
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
fn in_a_process_of_its_own() {
    if env::var_os(ALONE).is_none() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let time = limited(|limits| limits.time = Duration::from_secs(1));
        let memory = limited(|limits| limits.memory_bytes = 400 * MIB);
        // Whatever is set up once is set up now.
        time.prepare(&one()).await;
        memory.prepare(&one()).await;
        let (bomb, crowd) = (bomb(), crowd());
        let before = (resident_bytes(), threads());
        for _ in 0..2 {
            assert_eq!(refused(&time, &bomb).await.0, Code::COMPILE_TIME);
            assert_eq!(refused(&memory, &crowd).await.0, Code::COMPILE_MEMORY);
        }
        {
            let mut given_up = std::pin::pin!(memory.try_prepare(&bomb));
            while children().is_empty() {
                assert!(futures_pending(given_up.as_mut()).await);
                tokio::task::yield_now().await;
            }
        }
        while !children().is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!((scratch(&time), scratch(&memory)), (0, 0));
        let after = (resident_bytes(), threads());
        println!("resident memory and threads: {before:?} before, {after:?} after");
        assert!(after.0 < before.0 + 64 * MIB, "resident memory grew from {} to {}", before.0, after.0);
        assert!(after.1 <= before.1, "there were {} threads, and now there are {}", before.1, after.1);
    });
}

fn resident_bytes() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

fn threads() -> usize {
    fs::read_dir("/proc/self/task").unwrap().count()
}

fn children() -> String {
    let of_thread = |entry: std::io::Result<fs::DirEntry>| fs::read_to_string(entry.unwrap().path().join("children")).unwrap_or_default();
    fs::read_dir("/proc/self/task").unwrap().map(of_thread).collect()
}
