;; Loops for ever in its start function, so before any export can be called.
(component
  (core module $M
    (func $spin (loop $again (br $again)))
    (start $spin)
    (func (export "one") (result i32) (i32.const 1)))
  (core instance $m (instantiate $M))
  (func (export "one") (result u32) (canon lift (core func $m "one"))))
