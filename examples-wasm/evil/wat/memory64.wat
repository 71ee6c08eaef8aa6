;; A core module with a memory of 64 bits, which could be larger than any machine.
(module
  (memory (export "memory") i64 1)
  (func (export "grow") (param $pages i64) (result i64) (memory.grow (local.get $pages))))
