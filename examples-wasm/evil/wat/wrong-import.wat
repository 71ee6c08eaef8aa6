;; Imports a function of rwasm with a type that it does not have.
(component
  (import "rwasm:core/context@0.1.0" (instance $context (export "attempt" (func (param "of" u64) (result u64)))))
  (alias export $context "attempt" (func $attempt))
  (core func $attempt-core (canon lower (func $attempt)))
  (core module $M
    (import "host" "attempt" (func $attempt (param i64) (result i64)))
    (func (export "run") (result i64) (call $attempt (i64.const 1))))
  (core instance $m (instantiate $M (with "host" (instance (export "attempt" (func $attempt-core))))))
  (func (export "run") (result u64) (canon lift (core func $m "run"))))
