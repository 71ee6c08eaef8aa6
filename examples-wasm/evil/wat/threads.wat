;; A core module with a shared memory and an atomic instruction.
(module
  (memory (export "memory") 1 10 shared)
  (func (export "run") (result i32) (i32.atomic.rmw.add (i32.const 0) (i32.const 1))))
