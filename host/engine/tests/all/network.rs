//! What a guest is told when it asks for a network that it was not granted.

use rwasm_types::{Code, Grants, NetGrant, Stream};

use crate::{
    common::{Collected, Task, Way, lab},
    guests::asynchronous,
};

/// Makes a socket of each kind by WASI 0.2, and returns how often it was refused.
const SOCKETS: &str = r#"(component
  (import "wasi:sockets/network@0.2.0" (instance $network
    (type $families (enum "ipv4" "ipv6"))
    (export "ip-address-family" (type $family (eq $families)))
    (type $errors (enum "unknown" "access-denied" "not-supported" "invalid-argument" "out-of-memory" "timeout" "concurrency-conflict"
      "not-in-progress" "would-block" "invalid-state" "new-socket-limit" "address-not-bindable" "address-in-use" "remote-unreachable"
      "connection-refused" "connection-reset" "connection-aborted" "datagram-too-large" "name-unresolvable" "temporary-resolver-failure"
      "permanent-resolver-failure"))
    (export "error-code" (type $error (eq $errors)))))
  (alias export $network "ip-address-family" (type $family'))
  (alias export $network "error-code" (type $error'))
  (import "wasi:sockets/tcp@0.2.0" (instance $tcp (export "tcp-socket" (type (sub resource)))))
  (import "wasi:sockets/udp@0.2.0" (instance $udp (export "udp-socket" (type (sub resource)))))
  (alias export $tcp "tcp-socket" (type $tcp-socket))
  (alias export $udp "udp-socket" (type $udp-socket))
  (import "wasi:sockets/tcp-create-socket@0.2.0" (instance $create-tcp
    (alias outer 1 $family' (type $f')) (export "ip-address-family" (type $f (eq $f')))
    (alias outer 1 $error' (type $e')) (export "error-code" (type $e (eq $e')))
    (alias outer 1 $tcp-socket (type $s')) (export "tcp-socket" (type $s (eq $s')))
    (export "create-tcp-socket" (func (param "address-family" $f) (result (result (own $s) (error $e)))))))
  (import "wasi:sockets/udp-create-socket@0.2.0" (instance $create-udp
    (alias outer 1 $family' (type $f')) (export "ip-address-family" (type $f (eq $f')))
    (alias outer 1 $error' (type $e')) (export "error-code" (type $e (eq $e')))
    (alias outer 1 $udp-socket (type $s')) (export "udp-socket" (type $s (eq $s')))
    (export "create-udp-socket" (func (param "address-family" $f) (result (result (own $s) (error $e)))))))
  (core module $Mem (memory (export "memory") 1))
  (core instance $mem (instantiate $Mem))
  (core func $make-tcp (canon lower (func $create-tcp "create-tcp-socket") (memory $mem "memory")))
  (core func $make-udp (canon lower (func $create-udp "create-udp-socket") (memory $mem "memory")))
  (core module $M
    (import "host" "memory" (memory 1))
    (import "host" "tcp" (func $tcp (param i32 i32)))
    (import "host" "udp" (func $udp (param i32 i32)))
    (func (export "refused") (result i32)
      (call $tcp (i32.const 0) (i32.const 0))
      (call $udp (i32.const 0) (i32.const 8))
      (i32.add (i32.load8_u (i32.const 0)) (i32.load8_u (i32.const 8)))))
  (core instance $m (instantiate $M (with "host"
    (instance (export "memory" (memory $mem "memory")) (export "tcp" (func $make-tcp)) (export "udp" (func $make-udp))))))
  (func (export "refused") (result u32) (canon lift (core func $m "refused"))))"#;

/// The same by WASI 0.3.
const SOCKETS_03: &str = r#"(component
  (import "wasi:sockets/types@0.3.0" (instance $types
    (type $families (enum "ipv4" "ipv6"))
    (export "ip-address-family" (type $family (eq $families)))
    (type $errors (variant (case "access-denied") (case "not-supported") (case "invalid-argument") (case "out-of-memory") (case "timeout")
      (case "invalid-state") (case "address-not-bindable") (case "address-in-use") (case "remote-unreachable") (case "connection-refused")
      (case "connection-broken") (case "connection-reset") (case "connection-aborted") (case "datagram-too-large")
      (case "other" (option string))))
    (export "error-code" (type $error (eq $errors)))
    (export "tcp-socket" (type $tcp (sub resource)))
    (export "udp-socket" (type $udp (sub resource)))
    (export "[static]tcp-socket.create" (func (param "address-family" $family) (result (result (own $tcp) (error $error)))))
    (export "[static]udp-socket.create" (func (param "address-family" $family) (result (result (own $udp) (error $error)))))))
  (core module $Mem (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024)))
  (core instance $mem (instantiate $Mem))
  (core func $make-tcp (canon lower (func $types "[static]tcp-socket.create") (memory $mem "memory") (realloc (func $mem "realloc"))))
  (core func $make-udp (canon lower (func $types "[static]udp-socket.create") (memory $mem "memory") (realloc (func $mem "realloc"))))
  (core module $M
    (import "host" "memory" (memory 1))
    (import "host" "tcp" (func $tcp (param i32 i32)))
    (import "host" "udp" (func $udp (param i32 i32)))
    (func (export "refused") (result i32)
      (call $tcp (i32.const 0) (i32.const 0))
      (call $udp (i32.const 0) (i32.const 32))
      (i32.add (i32.load8_u (i32.const 0)) (i32.load8_u (i32.const 32)))))
  (core instance $m (instantiate $M (with "host"
    (instance (export "memory" (memory $mem "memory")) (export "tcp" (func $make-tcp)) (export "udp" (func $make-udp))))))
  (func (export "refused") (result u32) (canon lift (core func $m "refused"))))"#;

#[tokio::test]
async fn who_was_granted_nothing_is_told_what_to_ask_for() {
    let lab = lab();
    for guest in [SOCKETS.to_owned(), asynchronous(SOCKETS), SOCKETS_03.to_owned()] {
        let prepared = lab.prepare(&guest).await;
        let run = async |net: Vec<NetGrant>| {
            let output = std::sync::Arc::<Collected>::default();
            let ran = Task::new(&prepared, "refused()").grants(Grants { net, ..Grants::default() }).output(&output).run(Way::Fiber).await;
            (ran.wave(), output.text(Stream::Stderr))
        };
        let note = "rwasm: a socket was refused: no network destination was granted; submit with --allow-net HOST:PORT (RW0305)\n";
        assert_eq!(run(Vec::new()).await, ("2".to_owned(), note.repeat(2)));
        assert_eq!(run(vec!["127.0.0.1:1".parse().unwrap()]).await, ("0".to_owned(), String::new()));
    }
}

/// The notes of one task are counted, and count as its output.
#[tokio::test]
async fn a_task_cannot_fill_its_output_with_refusals() {
    let lab = lab();
    let prepared = lab.prepare(SOCKETS).await;
    let ran = Task::new(&prepared, "refused()").limits(|limits| limits.stderr_bytes = 10).run(Way::Fiber).await;
    assert!(matches!(ran.code(), None | Some(Code::OUTPUT_LIMIT)), "{}", ran.text());
}
