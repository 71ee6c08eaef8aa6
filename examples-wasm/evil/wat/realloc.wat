;; Attacks from `realloc`, which the host calls while it passes an argument: the function itself never begins.
(component
  (core module $M
    (memory (export "memory") 1)
    (func (export "spin") (param i32 i32 i32 i32) (result i32) (loop $again (br $again)) (unreachable))
    (func (export "trap") (param i32 i32 i32 i32) (result i32) (unreachable))
    ;; The last byte of the memory, so that nothing but one byte fits there.
    (func (export "last-byte") (param i32 i32 i32 i32) (result i32) (i32.const 65535))
    ;; Not aligned as asked for.
    (func (export "odd") (param i32 i32 i32 i32) (result i32) (i32.const 1))
    ;; Grows the memory by a page each time and returns the new page, so the memory moves under the host while it writes.
    (func (export "grow") (param i32 i32 i32 i32) (result i32)
      (i32.mul (memory.grow (i32.const 1)) (i32.const 65536)))
    (func (export "length") (param i32 i32) (result i32) (local.get 1)))
  (core instance $m (instantiate $M))
  (alias core export $m "memory" (core memory $memory))

  ;; `realloc` loops for ever.
  (func (export "spin") (param "text" string) (result u32)
    (canon lift (core func $m "length") (memory $memory) (realloc (core func $m "spin"))))
  ;; `realloc` traps.
  (func (export "trap") (param "text" string) (result u32)
    (canon lift (core func $m "length") (memory $memory) (realloc (core func $m "trap"))))
  ;; `realloc` returns memory that is too short for any text but one of a single byte.
  (func (export "out-of-bounds") (param "text" string) (result u32)
    (canon lift (core func $m "length") (memory $memory) (realloc (core func $m "last-byte"))))
  ;; `realloc` returns memory that is not aligned for the elements.
  (func (export "misaligned") (param "numbers" (list u32)) (result u32)
    (canon lift (core func $m "length") (memory $memory) (realloc (core func $m "odd"))))
  ;; `realloc` takes new memory for every element.
  (func (export "grow") (param "texts" (list string)) (result u32)
    (canon lift (core func $m "length") (memory $memory) (realloc (core func $m "grow")))))
