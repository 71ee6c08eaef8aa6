;; Takes table elements, of which each is a pointer of the host.
(component
  (core module $M
    (table $table 0 funcref)
    ;; Grows the table without end, and goes on when it gets no more.
    (func (export "grow") (loop $again (drop (table.grow $table (ref.null func) (i32.const 1000))) (br $again)))
    ;; Asks for so many elements at once, and returns 1 if it got them.
    (func (export "grow-at-once") (param $count i32) (result i32)
      (i32.ne (table.grow $table (ref.null func) (local.get $count)) (i32.const -1)))
    ;; Fills so many elements without end; each time is one instruction.
    (func (export "fill") (param $count i32)
      (drop (table.grow $table (ref.null func) (local.get $count)))
      (loop $again (table.fill $table (i32.const 0) (ref.null func) (table.size $table)) (br $again))))
  (core instance $m (instantiate $M))
  (func (export "grow") (canon lift (core func $m "grow")))
  (func (export "grow-at-once") (param "count" u32) (result bool) (canon lift (core func $m "grow-at-once")))
  (func (export "fill") (param "count" u32) (canon lift (core func $m "fill"))))
