;; A core module that imports a function of its own making, as Emscripten and game engines do.
(module
  (import "env" "foo" (func $foo (param i32) (result i32)))
  (func (export "run") (result i32) (call $foo (i32.const 1))))
