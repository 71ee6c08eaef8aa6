;; Imports an interface of rwasm in a version that is not there yet.
(component
  (import "rwasm:core/context@9.0.0" (instance $context (export "attempt" (func (result u32)))))
  (alias export $context "attempt" (func $attempt))
  (core func $attempt-core (canon lower (func $attempt)))
  (core module $M
    (import "host" "attempt" (func $attempt (result i32)))
    (func (export "run") (result i32) (call $attempt)))
  (core instance $m (instantiate $M (with "host" (instance (export "attempt" (func $attempt-core))))))
  (func (export "run") (result u32) (canon lift (core func $m "run"))))
