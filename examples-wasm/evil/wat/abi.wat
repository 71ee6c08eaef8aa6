;; Results that break the canonical ABI. Each function returns the address of its result, which is data below.
(component
  (type $e (enum "red" "green" "blue"))
  (type $v (variant (case "number" u32) (case "text" string)))
  (export $colour "colour" (type $e))
  (export $choice "choice" (type $v))

  (core module $M
    (memory (export "memory") 2)
    (data (i32.const 0x100) "\c3\28\ff\fe")                          ;; no UTF-8
    (data (i32.const 0x10) "\00\01\00\00\04\00\00\00")               ;; 4 bytes at 0x100
    (data (i32.const 0x18) "\fc\ff\01\00\08\00\00\00")               ;; 8 bytes, the last 4 of them past the end
    (data (i32.const 0x20) "\00\00\00\00\ff\ff\ff\ff")               ;; 2^32 - 1 elements
    (data (i32.const 0x28) "\01\00\00\00\01\00\00\00")               ;; 1 element at an odd address
    (data (i32.const 0x30) "\07\00\00\00\00\00\00\00")               ;; case 7
    (data (i32.const 0x40) "\00\00\00\80\00\00\00\80")               ;; 2^31 elements at 2^31: the end wraps around
    (func (export "not-utf8") (result i32) (i32.const 0x10))
    (func (export "past-the-end") (result i32) (i32.const 0x18))
    (func (export "too-many") (result i32) (i32.const 0x20))
    (func (export "misaligned") (result i32) (i32.const 0x28))
    (func (export "no-such-case") (result i32) (i32.const 0x30))
    (func (export "wrap-around") (result i32) (i32.const 0x40))
    (func (export "seven") (result i32) (i32.const 7))
    (func (export "surrogate") (result i32) (i32.const 0xd800))
    (func (export "odd-address") (result i32) (i32.const 0x11))
    (func (export "far-address") (result i32) (i32.const 0x7ffffff0))
    ;; A list of $count texts that are all the same mebibyte: few bytes here, $count MiB for a host that copies them.
    (func (export "same-text") (param $count i32) (result i32)
      (local $i i32)
      ;; 16 pages for the text, from page 2 on, and 32 for the list.
      (drop (memory.grow (i32.const 48)))
      (memory.fill (i32.const 0x20000) (i32.const 0x78) (i32.const 0x100000))
      (loop $next
        (if (i32.lt_u (local.get $i) (local.get $count))
          (then
            (i32.store (i32.add (i32.const 0x120000) (i32.mul (local.get $i) (i32.const 8))) (i32.const 0x20000))
            (i32.store offset=4 (i32.add (i32.const 0x120000) (i32.mul (local.get $i) (i32.const 8))) (i32.const 0x100000))
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br $next))))
      (i32.store (i32.const 0x38) (i32.const 0x120000))
      (i32.store (i32.const 0x3c) (local.get $count))
      (i32.const 0x38)))
  (core instance $m (instantiate $M))
  (alias core export $m "memory" (core memory $memory))

  ;; A text that is not UTF-8.
  (func (export "not-utf8") (result string) (canon lift (core func $m "not-utf8") (memory $memory)))
  ;; A text whose end is past the end of the memory.
  (func (export "past-the-end") (result string) (canon lift (core func $m "past-the-end") (memory $memory)))
  ;; A list of 4,294,967,295 bytes.
  (func (export "too-many-bytes") (result (list u8)) (canon lift (core func $m "too-many") (memory $memory)))
  ;; A list of 4,294,967,295 texts; its size in bytes is beyond 32 bits.
  (func (export "too-many-texts") (result (list string)) (canon lift (core func $m "too-many") (memory $memory)))
  ;; A list whose address and size are each within 32 bits, but not their sum.
  (func (export "wrap-around") (result (list u8)) (canon lift (core func $m "wrap-around") (memory $memory)))
  ;; A list of numbers at an odd address.
  (func (export "misaligned") (result (list u32)) (canon lift (core func $m "misaligned") (memory $memory)))
  ;; The result itself is at an odd address.
  (func (export "misaligned-result") (result string) (canon lift (core func $m "odd-address") (memory $memory)))
  ;; The result itself is past the end of the memory.
  (func (export "far-result") (result string) (canon lift (core func $m "far-address") (memory $memory)))
  ;; The seventh case of an enum of three.
  (func (export "no-such-colour") (result $colour) (canon lift (core func $m "seven")))
  ;; The seventh case of a variant of two.
  (func (export "no-such-case") (result $choice) (canon lift (core func $m "no-such-case") (memory $memory)))
  ;; Half of a surrogate pair as a character.
  (func (export "no-character") (result char) (canon lift (core func $m "surrogate")))
  ;; 7 as a boolean: not a violation, any number but 0 is true.
  (func (export "seven-is-true") (result bool) (canon lift (core func $m "seven")))
  ;; A list of so many texts, at most 262,144, that are all the same mebibyte: not a violation either, but a bomb.
  (func (export "same-text") (param "count" u32) (result (list string)) (canon lift (core func $m "same-text") (memory $memory))))
