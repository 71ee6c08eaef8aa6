;; Wants the whole 32-bit address space from its start.
(component
  (core module $M
    (memory 65536)
    (func (export "one") (result i32) (i32.const 1)))
  (core instance $m (instantiate $M))
  (func (export "one") (result u32) (canon lift (core func $m "one"))))
