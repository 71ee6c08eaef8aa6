//! Actors: one instance, one call after the other, and never entered again once a call did not come to its end.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use rwasm_engine::{Actor, MethodCall, Prepared};
use rwasm_types::Code;
use rwasm_values::codec::VERSION;

use crate::common::{Lab, Task, lab};

const NOTHING: &[u8] = &[VERSION, 0];
const LONG: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_millis(50);

/// A class whose instances count, trap and spin. The destructor of number 13 does not return.
const CELL: &str = r#"(component
  (core module $D (func (export "drop") (param i32) (loop $again (br_if $again (i32.eq (local.get 0) (i32.const 13))))))
  (core instance $d (instantiate $D))
  (type $cell' (resource (rep i32) (dtor (core func $d "drop"))))
  (export $cell "cell" (type $cell'))
  (core func $new (canon resource.new $cell'))
  (core module $M
    (import "host" "new" (func $new (param i32) (result i32)))
    (global $calls (mut i32) (i32.const 0))
    (func (export "make") (param $number i32) (result i32) (call $new (local.get $number)))
    (func (export "refuse") (result i32) (i32.const 1))
    (func (export "number") (param $number i32) (result i32) (local.get $number))
    (func (export "count") (param i32) (result i32)
      (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
      (global.get $calls))
    (func (export "trap") (param i32) unreachable)
    (func (export "spin") (param i32) (loop $again (br $again))))
  (core instance $m (instantiate $M (with "host" (instance (export "new" (func $new))))))
  (func (export "[constructor]cell") (param "number" u32) (result (own $cell)) (canon lift (core func $m "make")))
  (func (export "[method]cell.number") (param "self" (borrow $cell)) (result u32) (canon lift (core func $m "number")))
  (func (export "[method]cell.count") (param "self" (borrow $cell)) (result u32) (canon lift (core func $m "count")))
  (func (export "[method]cell.trap") (param "self" (borrow $cell)) (canon lift (core func $m "trap")))
  (func (export "[method]cell.spin") (param "self" (borrow $cell)) (canon lift (core func $m "spin"))))"#;

async fn make(lab: &Lab, number: u32) -> (Arc<Prepared>, Actor) {
    let prepared = lab.prepare(CELL).await;
    let request = Task::new(&prepared, &format!("[constructor]cell({number})")).into_request();
    let created = Arc::clone(&prepared).create(request).await;
    assert_eq!(created.outcome.result, Ok(Bytes::from_static(NOTHING)), "what was made is left out of the result");
    (prepared, created.actor.unwrap())
}

fn method(prepared: &Prepared, name: &str) -> MethodCall {
    let export = prepared.info().exports.iter().position(|export| export.name.plain_func() == format!("cell.{name}")).unwrap();
    MethodCall { export, args: Bytes::from_static(&[VERSION, 0, 0]), wall: LONG, cpu: LONG, result_bytes: u64::MAX }
}

/// The message of a number.
fn number(value: u8) -> Result<Bytes, Code> {
    Ok(Bytes::copy_from_slice(&[VERSION, 0, value, 0, 0, 0]))
}

async fn call(actor: &mut Actor, method: MethodCall) -> Result<Bytes, Code> {
    actor.call(method).await.result.map_err(|error| error.code())
}

#[tokio::test]
async fn calls_share_an_instance_and_actors_share_none() {
    let lab = lab();
    let (prepared, mut first) = make(&lab, 7).await;
    let (_, mut second) = make(&lab, 8).await;
    for expected in 1..=3 {
        assert_eq!(call(&mut first, method(&prepared, "count")).await, number(expected));
    }
    assert_eq!(call(&mut second, method(&prepared, "count")).await, number(1));
    assert_eq!(call(&mut first, method(&prepared, "number")).await, number(7));
    assert_eq!(call(&mut second, method(&prepared, "number")).await, number(8));
    // The pool has room for two: what ends gives its place back.
    assert_eq!(first.end(LONG, LONG).await, Ok(()));
    drop(second);
    for _ in 0..4 {
        assert!(make(&lab, 1).await.1.is_usable());
    }
}

#[tokio::test]
async fn what_does_not_come_to_its_end_is_never_entered_again() {
    let lab = lab();
    let ends = [("trap", LONG, LONG, Code::TRAP), ("spin", SHORT, LONG, Code::TIMEOUT), ("spin", LONG, SHORT, Code::CPU_TIME)];
    for (name, wall, cpu, code) in ends {
        let (prepared, mut actor) = make(&lab, 1).await;
        assert_eq!(call(&mut actor, method(&prepared, "count")).await, number(1));
        assert_eq!(call(&mut actor, MethodCall { wall, cpu, ..method(&prepared, name) }).await, Err(code));
        assert!(!actor.is_usable(), "{name}");
    }
}

#[tokio::test]
async fn each_call_has_time_of_its_own_and_a_result_of_its_own() {
    let lab = lab();
    let (prepared, mut actor) = make(&lab, 1).await;
    for expected in 1..=20 {
        let briefly = MethodCall { wall: SHORT, cpu: SHORT, ..method(&prepared, "count") };
        assert_eq!(call(&mut actor, briefly).await, number(expected));
    }
    let large = MethodCall { result_bytes: 2, ..method(&prepared, "count") };
    assert_eq!(call(&mut actor, large).await, Err(Code::RESULT_TOO_LARGE));
    assert!(actor.is_usable(), "the guest has returned");
    assert_eq!(call(&mut actor, method(&prepared, "count")).await, number(22));
}

#[tokio::test]
async fn a_destructor_has_its_time_and_no_more() {
    let lab = lab();
    let (_, actor) = make(&lab, 13).await;
    assert_eq!(actor.end(SHORT, LONG).await.map_err(|error| error.code()), Err(Code::TIMEOUT));
}

#[tokio::test]
async fn an_actor_is_ended_in_the_middle_of_a_call() {
    let lab = lab();
    let prepared = lab.prepare(CELL).await;
    let task = Task::new(&prepared, "[constructor]cell(1)");
    let control = task.control();
    let mut actor = Arc::clone(&prepared).create(task.into_request()).await.actor.unwrap();
    control.ask();
    control.calm();
    assert!(!control.is_asked());
    let end = std::thread::spawn(move || control.cancel());
    assert_eq!(call(&mut actor, method(&prepared, "spin")).await, Err(Code::CANCELLED));
    end.join().unwrap();
    assert!(!actor.is_usable());
}
