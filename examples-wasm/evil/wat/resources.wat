;; A component whose functions hand out a resource: some of its exports are no tasks.
(component
  (core module $D
    (func (export "drop") (param i32) (loop $again (br_if $again (i32.eq (local.get 0) (i32.const 13))))))
  (core instance $d (instantiate $D))
  ;; The resource holds a number; dropping number 13 loops for ever, so a host has to bound destructors as well.
  (type $thing' (resource (rep i32) (dtor (core func $d "drop"))))
  (export $thing "thing" (type $thing'))
  (core func $new (canon resource.new $thing'))
  (core module $M
    (import "host" "new" (func $new (param i32) (result i32)))
    (func (export "make") (param $number i32) (result i32) (call $new (local.get $number)))
    (func (export "look") (param $number i32) (result i32) (local.get $number)))
  (core instance $m (instantiate $M (with "host" (instance (export "new" (func $new))))))
  ;; Makes a thing.
  (func (export "make") (param "number" u32) (result (own $thing)) (canon lift (core func $m "make")))
  ;; Tells a thing's number.
  (func (export "look") (param "thing" (borrow $thing)) (result u32) (canon lift (core func $m "look"))))
