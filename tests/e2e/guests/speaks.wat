;; A command of preview 1 that says a line on each of its outputs and then sleeps for an hour, so that a test has all the time it needs to look
;; at a task that runs.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "to stdout\n")
  (data (i32.const 32) "to stderr\n")
  ;; Where each text is and how long.
  (data (i32.const 64) "\00\00\00\00\0a\00\00\00")
  (data (i32.const 72) "\20\00\00\00\0a\00\00\00")
  ;; A subscription to the monotonic clock, an hour from now: 3,600,000,000,000 ns.
  (data (i32.const 144) "\01\00\00\00\00\00\00\00")
  (data (i32.const 152) "\00\a0\b8\30\46\03\00\00")
  (func (export "_start")
    (drop (call $write (i32.const 1) (i32.const 64) (i32.const 1) (i32.const 256)))
    (drop (call $write (i32.const 2) (i32.const 72) (i32.const 1) (i32.const 256)))
    (drop (call $poll (i32.const 128) (i32.const 264) (i32.const 1) (i32.const 256)))))
