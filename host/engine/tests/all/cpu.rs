//! Processor time: all of it that a task costs, and none that others cost.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::Duration,
};

use rwasm_types::Code;

use crate::{
    common::{Task, Way, block_on, lab},
    guests::{PROFILES, preview1, silent},
};

/// Keeps all cores busy, with so many threads on each, until it is dropped.
struct Busy<'a>(&'a AtomicBool);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

fn busy<'scope>(scope: &'scope thread::Scope<'scope, '_>, stop: &'scope AtomicBool, on_each_core: usize) -> Busy<'scope> {
    for _ in 0..on_each_core * thread::available_parallelism().unwrap().get() {
        scope.spawn(|| {
            while !stop.load(Relaxed) {
                std::hint::spin_loop();
            }
        });
    }
    Busy(stop)
}

/// Computes for so many rounds.
fn worker() -> String {
    silent(
        r#"
  (func (export "work") (param $rounds i64) (result i64) (local $state i64)
    (loop $again
      (local.set $state (i64.mul (i64.xor (local.get $state) (local.get $rounds)) (i64.const 0x5851f42d4c957f2d)))
      (br_if $again (i64.ne (local.tee $rounds (i64.sub (local.get $rounds) (i64.const 1))) (i64.const 0))))
    (local.get $state))"#,
        r#"(func (export "work") (param "rounds" u64) (result u64) (canon lift (core func $m "work")))"#,
    )
}

/// Others make a task slow, and cost it nothing: on busy cores it runs for longer than its budget of processor time, and is not ended.
#[tokio::test]
async fn nobody_is_charged_for_others() {
    let lab = lab();
    for make in PROFILES {
        let prepared = lab.prepare(&make(&worker())).await;
        let call = "work(30000000)";
        for way in Way::of(&prepared) {
            let alone = Task::new(&prepared, call).run(*way).await.outcome.cpu;
            // Shared caches and cores make the same work cost more, but not by as much as it waits.
            let budget = alone * 3;
            for on_each_core in [8, 16, 32, 64] {
                let stop = AtomicBool::new(false);
                let task = Task::new(&prepared, call).limits(|limits| limits.cpu = budget);
                let ran = thread::scope(|scope| {
                    let _busy = busy(scope, &stop, on_each_core);
                    scope.spawn(move || block_on(task.run(*way))).join().unwrap()
                });
                let (cpu, wall) = (ran.outcome.cpu, ran.outcome.wall);
                println!("{way:?}: alone {alone:?}; with {on_each_core} others on each core {cpu:?} of processor time in {wall:?}");
                assert_eq!(ran.code(), None, "{}", ran.text());
                assert!(cpu <= budget);
                if wall > budget {
                    break;
                }
                assert!(on_each_core < 64, "nothing kept the task waiting, so nothing was tested");
            }
        }
    }
}

/// A guest that has the host work for it pays for that: it computes next to nothing itself.
#[tokio::test]
async fn work_of_the_host_is_charged() {
    let lab = lab();
    let prepared = lab
        .prepare(&preview1(
            r#"(func (export "dice") (loop $again (drop (call $random_get (i32.const 65536) (i32.const 65536))) (br $again)))"#,
        ))
        .await;
    let ran = Task::new(&prepared, "dice()").limits(|limits| limits.cpu = Duration::from_millis(50)).run(Way::Fiber).await;
    assert_eq!(ran.code(), Some(Code::CPU_TIME), "{}", ran.text());
    assert!(ran.outcome.cpu >= Duration::from_millis(50));
}

/// Nothing is charged for waiting.
#[tokio::test]
async fn waiting_is_free() {
    let lab = lab();
    // A clock that is due in 100 milliseconds.
    let prepared = lab
        .prepare(&preview1(
            r#"
  (data (i32.const 128) "\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\01\00\00\00\00\00\00\00\00\e1\f5\05\00\00\00\00\00\00\00\00\00\00\00\00\00\00")
  (func (export "sleep") (result i32) (call $poll_oneoff (i32.const 128) (i32.const 256) (i32.const 1) (i32.const 64)))"#,
        ))
        .await;
    let ran = Task::new(&prepared, "sleep()").limits(|limits| limits.cpu = Duration::from_millis(90)).run(Way::Fiber).await;
    assert_eq!(ran.wave(), "0");
    assert!(ran.outcome.cpu < ran.outcome.wall, "{:?}", ran.outcome);
}
