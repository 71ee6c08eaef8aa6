;; A command of preview 1 for tests of what outlives a process. In its first directory it makes the file `began`, and says whether it was there;
;; then it waits until somebody makes the file `go`, says that it is done, and makes the file `ended`.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "begun\n")
  (data (i32.const 16) "begun again\n")
  (data (i32.const 32) "done\n")
  (data (i32.const 48) "began")
  (data (i32.const 56) "go")
  (data (i32.const 60) "ended")
  ;; Where each text is and how long.
  (data (i32.const 80) "\00\00\00\00\06\00\00\00")
  (data (i32.const 88) "\10\00\00\00\0c\00\00\00")
  (data (i32.const 96) "\20\00\00\00\05\00\00\00")
  ;; A subscription to the monotonic clock, 10 ms from now: 10,000,000 ns.
  (data (i32.const 144) "\01\00\00\00\00\00\00\00")
  (data (i32.const 152) "\80\96\98\00\00\00\00\00")
  (func $say (param $text i32)
    (drop (call $write (i32.const 1) (local.get $text) (i32.const 1) (i32.const 256))))
  ;; Opens a file of the first directory, with the flags of path_open; says whether that went well. To make one, the right to write is needed (64).
  (func $opens (param $name i32) (param $length i32) (param $flags i32) (param $rights i64) (result i32)
    (if (result i32)
      (call $open (i32.const 3) (i32.const 0) (local.get $name) (local.get $length) (local.get $flags) (local.get $rights)
        (i64.const 0) (i32.const 0) (i32.const 260))
      (then (i32.const 0))
      (else (drop (call $close (i32.load (i32.const 260)))) (i32.const 1))))
  (func (export "_start")
    ;; Made, and not there before: 1 | 4.
    (if (call $opens (i32.const 48) (i32.const 5) (i32.const 5) (i64.const 64))
      (then (call $say (i32.const 80)))
      (else (call $say (i32.const 88))))
    (loop $wait
      (if (i32.eqz (call $opens (i32.const 56) (i32.const 2) (i32.const 0) (i64.const 2)))
        (then
          (drop (call $poll (i32.const 128) (i32.const 264) (i32.const 1) (i32.const 256)))
          (br $wait))))
    (call $say (i32.const 96))
    (drop (call $opens (i32.const 60) (i32.const 5) (i32.const 1) (i64.const 64)))))
