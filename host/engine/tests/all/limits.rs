//! Every limit ends the task that reached it, with a code of its own, and nothing else.

use std::{fmt::Write, time::Duration};

use rwasm_types::{Code, TaskLimits};

use crate::{
    common::{Lab, Task, Way, lab, lab_with},
    guests::{ONE, PROFILES, hostile, preview1, silent, talking},
};

const MIB: u64 = 1 << 20;

/// A function and its limits, and what it is ended with.
type Case = (&'static str, fn(&mut TaskLimits), Code);

/// Runs calls of one guest in the few slots of the pool; after each they must be free again, and clean.
async fn check(lab: &Lab, name: &str, guest: &str, cases: &[Case]) -> String {
    let prepared = lab.prepare(guest).await;
    let healthy = lab.prepare(&PROFILES[usize::from(!is_fast(&prepared))](&silent(ONE.0, ONE.1))).await;
    let mut seen = String::new();
    for (call, limits, code) in cases {
        for way in Way::of(&prepared) {
            let ran = Task::new(&prepared, call).limits(limits).run(*way).await;
            assert_eq!(ran.code(), Some(*code), "{name}, {call}, {way:?}: {}", ran.text());
            let after = Task::new(&healthy, "one()").run(*way).await;
            assert_eq!(after.wave(), "1", "after {name}, {call}, {way:?}");
            let _ = writeln!(seen, "{call}: {}", ran.text());
        }
    }
    seen
}

fn is_fast(prepared: &rwasm_engine::Prepared) -> bool {
    prepared.info().profile == rwasm_values::Profile::Fast
}

/// Uses up memory, tables, stack, time, output and the size of a result.
fn greedy() -> String {
    talking(
        r#"
    (memory $own 0)
    (table $table 0 funcref)
    (func (export "grow") (loop $again (drop (memory.grow $own (i32.const 1))) (br $again)))
    (func (export "grow-at-once") (drop (memory.grow $own (i32.const 60000))))
    (func (export "grow-table") (loop $again (drop (table.grow $table (ref.null func) (i32.const 100))) (br $again)))
    (func $recurse (export "recurse") (result i64) (i64.add (call $recurse) (i64.const 1)))
    (func (export "spin") (loop $again (br $again)))
    (func (export "log") (loop $again (call $log (i32.const 2) (i32.const 0) (i32.const 60000)) (br $again)))
    (func (export "list") (param $count i32) (result i32)
      (drop (memory.grow 0 (i32.const 64)))
      (i32.store 0 (i32.const 0) (i32.const 65536))
      (i32.store 0 (i32.const 4) (local.get $count))
      (i32.const 0))"#,
        r#"
  (func (export "grow") (canon lift (core func $m "grow")))
  (func (export "grow-at-once") (canon lift (core func $m "grow-at-once")))
  (func (export "grow-table") (canon lift (core func $m "grow-table")))
  (func (export "recurse") (result u64) (canon lift (core func $m "recurse")))
  (func (export "spin") (canon lift (core func $m "spin")))
  (func (export "log") (canon lift (core func $m "log")))
  (func (export "bytes") (param "count" u32) (result (list u8)) (canon lift (core func $m "list") (memory $mem "memory")))
  (func (export "text") (param "count" u32) (result string) (canon lift (core func $m "list") (memory $mem "memory")))
  (func (export "numbers") (param "count" u32) (result (list u64)) (canon lift (core func $m "list") (memory $mem "memory")))
  (func (export "pairs") (param "count" u32) (result (list (tuple u8 u16))) (canon lift (core func $m "list") (memory $mem "memory")))
  (func (export "lists") (param "count" u32) (result (list (list u8))) (canon lift (core func $m "list") (memory $mem "memory")))"#,
    )
}

#[tokio::test]
async fn every_limit_has_its_code() {
    let lab = lab();
    let small = |limits: &mut TaskLimits| limits.result_bytes = 100_000;
    let cases: &[Case] = &[
        ("grow()", |limits| limits.memory_bytes = 4 * MIB, Code::MEMORY_LIMIT),
        ("grow-at-once()", |limits| limits.memory_bytes = 4 * MIB, Code::MEMORY_LIMIT),
        ("grow-table()", |limits| limits.table_elements = 5_000, Code::TABLE_LIMIT),
        ("recurse()", |_| {}, Code::STACK_OVERFLOW),
        ("spin()", |limits| limits.wall = Duration::from_millis(30), Code::TIMEOUT),
        ("spin()", |limits| limits.cpu = Duration::from_millis(20), Code::CPU_TIME),
        ("log()", |limits| limits.stderr_bytes = MIB, Code::OUTPUT_LIMIT),
        ("bytes(1000000)", small, Code::RESULT_TOO_LARGE),
        ("text(1000000)", small, Code::RESULT_TOO_LARGE),
        ("numbers(100000)", small, Code::RESULT_TOO_LARGE),
        ("pairs(100000)", small, Code::RESULT_TOO_LARGE),
        ("lists(100000)", small, Code::RESULT_TOO_LARGE),
        // Below the slack that host calls have, and above the limit.
        ("bytes(110000)", small, Code::RESULT_TOO_LARGE),
        ("bytes(10)", |limits| limits.result_bytes = 5, Code::RESULT_TOO_LARGE),
    ];
    for make in PROFILES {
        print!("{}", check(&lab, "greedy", &make(&greedy()), cases).await);
    }
}

#[tokio::test]
async fn limits_hold_while_a_guest_starts() {
    let lab = lab();
    let starting = |module: &str| silent(&format!("{module} {}", ONE.0), ONE.1);
    for make in PROFILES {
        for (module, case) in [
            ("(memory 65)", ("one()", (|limits| limits.memory_bytes = 4 * MIB) as fn(&mut TaskLimits), Code::MEMORY_LIMIT)),
            ("(memory 1) (memory 64)", ("one()", |limits| limits.memory_bytes = 4 * MIB, Code::MEMORY_LIMIT)),
            ("(table 1001 funcref)", ("one()", |limits| limits.table_elements = 1_000, Code::TABLE_LIMIT)),
            ("(func $f (loop $l (br $l))) (start $f)", ("one()", |limits| limits.cpu = Duration::from_millis(20), Code::CPU_TIME)),
            ("(func $f (loop $l (br $l))) (start $f)", ("one()", |limits| limits.wall = Duration::from_millis(20), Code::TIMEOUT)),
            ("(func $f (call $f)) (start $f)", ("one()", |_| {}, Code::STACK_OVERFLOW)),
            ("(func $f (unreachable)) (start $f)", ("one()", |_| {}, Code::TRAP)),
        ] {
            print!("{}", check(&lab, module, &make(&starting(module)), &[case]).await);
        }
    }
}

/// A stack that is larger than a thread's is a fiber's: whoever recurses without end is ended, and not the process.
#[tokio::test]
async fn a_large_stack_is_used_up_safely() {
    for stack_bytes in [64 << 10, 1 << 20, 4 << 20, 16 << 20] {
        let lab = lab_with(|options| options.pool.stack_bytes = stack_bytes);
        let cases: &[Case] = &[("recurse()", |_| {}, Code::STACK_OVERFLOW)];
        for make in PROFILES {
            print!("{}", check(&lab, "greedy", &make(&greedy()), cases).await);
        }
        assert_eq!(lab.prepare(&greedy()).await.is_sync(), stack_bytes <= 1 << 20);
    }
}

/// What garbage collection keeps counts as memory.
#[tokio::test]
async fn collected_memory_counts() {
    let lab = lab();
    let guest = silent(
        r#"
  (type $bytes (array (mut i8)))
  (type $list (struct (field (ref null $bytes)) (field (ref null $list))))
  (func (export "keep") (local $all (ref null $list))
    (loop $again
      (local.set $all (struct.new $list (array.new_default $bytes (i32.const 100000)) (local.get $all)))
      (br $again)))"#,
        r#"(func (export "keep") (canon lift (core func $m "keep")))"#,
    );
    for make in PROFILES {
        print!(
            "{}",
            check(&lab, "collected", &make(&guest), &[("keep()", |limits| limits.memory_bytes = 8 * MIB, Code::MEMORY_LIMIT)]).await
        );
    }
}

#[tokio::test]
async fn output_and_waiting_are_limited() {
    let lab = lab();
    let guest = preview1(
        r#"
  ;; A clock that is due in 2^62 nanoseconds.
  (data (i32.const 128) "\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\01\00\00\00\00\00\00\00\00\00\00\00\00\00\00\40\00\00\00\00\00\00\00\00\00\00")
  (func (export "flood") (param $fd i32)
    (loop $again (drop (call $fd_write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 64))) (br $again)))
  (func (export "sleep") (drop (call $poll_oneoff (i32.const 128) (i32.const 256) (i32.const 1) (i32.const 64))))
  (func (export "leave") (param $status i32) (call $proc_exit (local.get $status)))"#,
    );
    let cases: &[Case] = &[
        ("flood(1)", |limits| limits.stdout_bytes = MIB, Code::OUTPUT_LIMIT),
        ("flood(2)", |limits| limits.stderr_bytes = MIB, Code::OUTPUT_LIMIT),
        ("flood(1)", |limits| limits.stdout_bytes = 0, Code::OUTPUT_LIMIT),
        // A small result says nothing about how much is written.
        ("flood(1)", |limits| (limits.result_bytes, limits.stdout_bytes) = (0, MIB), Code::OUTPUT_LIMIT),
        ("sleep()", |limits| limits.wall = Duration::from_millis(20), Code::TIMEOUT),
        ("leave(3)", |_| {}, Code::GUEST_EXIT),
    ];
    print!("{}", check(&lab, "preview 1", &guest, cases).await);
    let prepared = lab.prepare(&guest).await;
    for (status, exit) in [(3, "3"), (255, "255"), (0, "0"), (256, "0"), (-1, "255")] {
        let ran = Task::new(&prepared, &format!("leave({status})")).run(Way::Fiber).await;
        assert_eq!(ran.outcome.result.unwrap_err().field("exit"), Some(exit), "status {status}");
    }
}

/// As many instances as there is room for, and one more.
#[tokio::test]
async fn a_full_pool_is_told() {
    let lab = lab_with(|options| options.pool.instances_max = 1);
    let guest = preview1(
        r#"
  (data (i32.const 128) "\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\01\00\00\00\00\00\00\00\00\00\00\00\00\00\00\40\00\00\00\00\00\00\00\00\00\00")
  (func (export "sleep")
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 64)))
    (drop (call $poll_oneoff (i32.const 128) (i32.const 256) (i32.const 1) (i32.const 64))))"#,
    );
    let prepared = lab.prepare(&guest).await;
    let output = std::sync::Arc::default();
    let sleeper = Task::new(&prepared, "sleep()").output(&output);
    let control = sleeper.control();
    let second = async {
        output.anything().await;
        let ran = Task::new(&prepared, "sleep()").run(Way::Fiber).await;
        control.cancel();
        ran
    };
    let (first, second) = tokio::join!(sleeper.run(Way::Fiber), second);
    assert_eq!(first.code(), Some(Code::CANCELLED));
    assert_eq!(second.code(), Some(Code::NO_CAPACITY));
    assert!(second.text().contains("--instances"), "{}", second.text());
}

/// A trap ends the instance it happened in. All traps there are, all ways to break the canonical ABI, one after the other in one slot.
#[tokio::test]
async fn a_trap_harms_its_own_instance_only() {
    let lab = lab();
    for (name, harmless) in [("traps", &[][..]), ("abi", &["seven-is-true", "same-text"]), ("start-trap", &[]), ("post-return", &["spin"])]
    {
        for make in PROFILES {
            let guest = make(&hostile(name));
            let prepared = lab.prepare(&guest).await;
            let functions = prepared.info().exports.iter().map(|export| export.name.func.clone());
            for function in functions.filter(|function| !harmless.contains(&&**function) && function != "take-stream").collect::<Vec<_>>() {
                let expected = if function == "stack-overflow" { Code::STACK_OVERFLOW } else { Code::TRAP };
                print!("{}", check(&lab, name, &guest, &[(Box::leak(format!("{function}()").into_boxed_str()), |_| {}, expected)]).await);
            }
        }
    }
}

/// What passes an argument is the guest's own code, and ends with the task as well.
#[tokio::test]
async fn an_argument_can_end_a_task() {
    let lab = lab();
    let cases: &[Case] = &[
        ("spin(\"x\")", |limits| limits.cpu = Duration::from_millis(20), Code::CPU_TIME),
        ("trap(\"x\")", |_| {}, Code::TRAP),
        ("out-of-bounds(\"xy\")", |_| {}, Code::TRAP),
        ("misaligned([1])", |_| {}, Code::TRAP),
        (r#"grow(["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"])"#, |limits| limits.memory_bytes = 8 << 16, Code::MEMORY_LIMIT),
    ];
    for make in PROFILES {
        print!("{}", check(&lab, "realloc", &make(&hostile("realloc")), cases).await);
    }
    let prepared = lab.prepare(&hostile("post-return")).await;
    let ran = Task::new(&prepared, "spin()").limits(|limits| limits.cpu = Duration::from_millis(20)).run(Way::Thread).await;
    assert_eq!(ran.code(), Some(Code::CPU_TIME), "what runs after a result counts too");
}
