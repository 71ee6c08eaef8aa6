;; Attacks from `post-return`, which the host calls when it already has the result.
(component
  (core module $M
    (memory (export "memory") 1)
    ;; At 8 the result: a pointer to 16, and a length of 5.
    (data (i32.const 8) "\10\00\00\00\05\00\00\00Hello")
    (func (export "hello") (result i32) (i32.const 8))
    (func (export "spin") (param i32) (loop $again (br $again)))
    (func (export "trap") (param i32) (unreachable)))
  (core instance $m (instantiate $M))
  (alias core export $m "memory" (core memory $memory))

  ;; `post-return` loops for ever.
  (func (export "spin") (result string)
    (canon lift (core func $m "hello") (memory $memory) (post-return (core func $m "spin"))))
  ;; `post-return` traps.
  (func (export "trap") (result string)
    (canon lift (core func $m "hello") (memory $memory) (post-return (core func $m "trap")))))
