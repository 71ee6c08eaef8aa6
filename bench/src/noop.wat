;; The smallest guest: what a benchmark measures beside it is not the guest's. It imports nothing.
(component
  (core module $m
    (memory (export "memory") 1)
    (func (export "noop"))
    (func (export "same") (param i64) (result i64) local.get 0))
  (core instance $i (instantiate $m))
  (func (export "noop") (canon lift (core func $i "noop")))
  (func (export "same") (param "x" u64) (result u64) (canon lift (core func $i "same"))))
