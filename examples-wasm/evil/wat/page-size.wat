;; A core module that uses a proposal which is not part of the standard: memory in pages of one byte.
(module
  (memory (export "memory") 1 (pagesize 1))
  (func (export "size") (result i32) (memory.size)))
