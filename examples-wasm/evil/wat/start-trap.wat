;; Traps in its start function, so cannot be instantiated.
(component
  (core module $M
    (func $trap (unreachable))
    (start $trap)
    (func (export "one") (result i32) (i32.const 1)))
  (core instance $m (instantiate $M))
  (func (export "one") (result u32) (canon lift (core func $m "one"))))
