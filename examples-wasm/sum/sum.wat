;; A core module written by hand: the smallest artifact there is. Its exports take and return numbers, and it imports nothing.
;;
;;   rwasm run sum.wat --call 'sum(40, 2)'
(module
  ;; The sum of two numbers; it wraps around, as i32.add does.
  (func (export "sum") (param $a i32) (param $b i32) (result i32)
    (i32.add (local.get $a) (local.get $b)))

  ;; The sum of 1 to $n, by a loop, so that there is something to measure. It is exact up to $n = 4294967295.
  (func (export "sum-to") (param $n i64) (result i64)
    (local $total i64)
    (block $done
      (loop $next
        (br_if $done (i64.eqz (local.get $n)))
        (local.set $total (i64.add (local.get $total) (local.get $n)))
        (local.set $n (i64.sub (local.get $n) (i64.const 1)))
        (br $next)))
    (local.get $total)))
