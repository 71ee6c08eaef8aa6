;; Takes memory without end in its start function, and goes on when it gets no more.
(component
  (core module $M
    (memory 1)
    (func $grow (loop $again (drop (memory.grow (i32.const 16))) (br $again)))
    (start $grow)
    (func (export "one") (result i32) (i32.const 1)))
  (core instance $m (instantiate $M))
  (func (export "one") (result u32) (canon lift (core func $m "one"))))
