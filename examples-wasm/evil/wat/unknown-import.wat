;; Imports an interface that no host has.
(component
  (import "nobody:anywhere/nothing@1.2.3" (instance $nothing
    (export "do-it" (func (param "what" string) (result u32)))))
  (alias export $nothing "do-it" (func $do-it))
  (core module $Memory
    (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 8)))
  (core instance $memory (instantiate $Memory))
  (core func $do-it-core (canon lower (func $do-it) (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
  (core module $M
    (import "host" "do-it" (func $do-it (param i32 i32) (result i32)))
    (func (export "run") (result i32) (call $do-it (i32.const 0) (i32.const 0))))
  (core instance $m (instantiate $M (with "host" (instance (export "do-it" (func $do-it-core))))))
  (func (export "run") (result u32) (canon lift (core func $m "run"))))
