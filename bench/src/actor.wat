;; An actor whose method does nothing.
(component
  (type $cell' (resource (rep i32)))
  (export $cell "cell" (type $cell'))
  (core func $new (canon resource.new $cell'))
  (core module $M
    (import "host" "new" (func $new (param i32) (result i32)))
    (func (export "make") (result i32) (call $new (i32.const 1)))
    (func (export "value") (param i32) (result i32) (i32.const 7)))
  (core instance $m (instantiate $M (with "host" (instance (export "new" (func $new))))))
  (func (export "[constructor]cell") (result (own $cell)) (canon lift (core func $m "make")))
  (func (export "[method]cell.value") (param "self" (borrow $cell)) (result u32) (canon lift (core func $m "value"))))
