//! A guest that computes without end is ended when somebody says so, wherever its code runs.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rwasm_engine::Control;
use rwasm_types::Code;

use crate::{
    common::{Task, Way, block_on, lab},
    guests::{ONE, PROFILES, preview1, talking},
};

/// Says that it runs, and does not end.
const SPIN: &str = "(call $say) (loop $again (br $again))";

/// Does not end, where a guest may not call anybody.
const SPIN_MUTE: &str = "(loop $again (br $again))";

/// Does so in a call, in `post-return` and in a destructor.
fn spinner() -> String {
    talking(
        &format!(
            r#"
    {}
    (func (export "spin") {SPIN})
    (func (export "text") (result i32) (call $say) (i32.const 8))
    (func (export "spin-after") (param i32) {SPIN_MUTE})
    (func (export "spin-drop") (param i32) {SPIN})"#,
            ONE.0
        ),
        &format!(
            r#"
  {}
  (func (export "in-call") (canon lift (core func $m "spin")))
  (func (export "in-post-return") (result string)
    (canon lift (core func $m "text") (memory $mem "memory") (post-return (core func $m "spin-after"))))
  (type $thing (resource (rep i32) (dtor (core func $m "spin-drop"))))
  (core func $new (canon resource.new $thing))
  (core func $drop (canon resource.drop $thing))
  (core module $N
    (import "host" "new" (func $new (param i32) (result i32)))
    (import "host" "drop" (func $drop (param i32)))
    (func (export "make-and-drop") (call $drop (call $new (i32.const 1)))))
  (core instance $n (instantiate $N (with "host" (instance (export "new" (func $new)) (export "drop" (func $drop))))))
  (func (export "in-destructor") (canon lift (core func $n "make-and-drop")))"#,
            ONE.1
        ),
    )
}

/// Does so before anything can be called.
fn starter() -> String {
    talking(&format!("(func $start {SPIN}) (start $start) {}", ONE.0), ONE.1)
}

/// Does so while an argument is passed; says something when it starts.
fn taker() -> String {
    talking(
        &format!(
            r#"
    (start $say)
    (func (export "spin") (param i32 i32 i32 i32) (result i32) {SPIN_MUTE} (unreachable))
    (func (export "length") (param i32 i32) (result i32) (local.get 1))"#
        ),
        r#"
  (func (export "in-realloc") (param "text" string) (result u32)
    (canon lift (core func $m "length") (memory $mem "memory") (realloc (core func $m "spin"))))"#,
    )
}

/// Cancels also where a test fails, so that it ends.
struct Cancel(Arc<Control>);

impl Drop for Cancel {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Runs a task on a thread of its own, cancels it when it has said something, and tells how it ended and how long that took.
fn cancelled(task: Task, way: Way) -> (Option<Code>, Duration) {
    let output = Arc::default();
    let (cancel, task) = (Cancel(task.control()), task.output(&output));
    thread::scope(|scope| {
        let running = scope.spawn(move || (block_on(task.run(way)).code(), Instant::now()));
        block_on(output.anything());
        let asked = Instant::now();
        drop(cancel);
        let (code, ended) = running.join().unwrap();
        (code, ended - asked)
    })
}

#[test]
fn an_endless_loop_is_cancelled_wherever_it_is() {
    let lab = lab();
    for (profile, make) in ["fast", "async"].into_iter().zip(PROFILES) {
        let spinner = block_on(lab.prepare(&make(&spinner())));
        let (starter, taker) = (block_on(lab.prepare(&make(&starter()))), block_on(lab.prepare(&make(&taker()))));
        let calls = ["in-call()", "in-post-return()", "in-destructor()"].map(|call| (&spinner, call));
        for (prepared, call) in calls.into_iter().chain([(&starter, "one()"), (&taker, "in-realloc(\"x\")")]) {
            for way in Way::of(prepared) {
                let (code, took) = cancelled(Task::new(prepared, call), *way);
                assert_eq!(code, Some(Code::CANCELLED), "{profile}, {call}, {way:?}");
                println!("cancelled {profile} {call} {way:?} after {took:?}");
            }
        }
        // Each was ended with its instance; their slots are free again.
        let ran = block_on(Task::new(&spinner, "one()").run(Way::Fiber));
        assert_eq!(ran.wave(), "1", "{profile}");
    }
}

/// A guest that waits is ended as well.
#[test]
fn a_sleeper_is_cancelled() {
    let lab = lab();
    // Says something, and then polls a clock that is due in 2^62 nanoseconds.
    let guest = preview1(
        r#"
  (data (i32.const 128) "\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\01\00\00\00\00\00\00\00\00\00\00\00\00\00\00\40\00\00\00\00\00\00\00\00\00\00")
  (func (export "sleep") (result i32)
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 64)))
    (call $poll_oneoff (i32.const 128) (i32.const 256) (i32.const 1) (i32.const 64)))"#,
    );
    let prepared = block_on(lab.prepare(&guest));
    let (code, _) = cancelled(Task::new(&prepared, "sleep()"), Way::Fiber);
    assert_eq!(code, Some(Code::CANCELLED));
}

/// Asking is for the guest to see; it ends nothing.
#[test]
fn who_was_asked_may_go_on() {
    let lab = lab();
    let prepared = block_on(lab.prepare(&talking(ONE.0, ONE.1)));
    let task = Task::new(&prepared, "one()");
    task.control().ask();
    assert_eq!(block_on(task.run(Way::Thread)).wave(), "1");
    let task = Task::new(&prepared, "one()");
    task.control().cancel();
    assert!(matches!(block_on(task.run(Way::Thread)).code(), None | Some(Code::CANCELLED)), "it may have ended before its first tick");
}
