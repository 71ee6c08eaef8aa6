//! Guests as text. Most exist for both profiles: [`asynchronous`] makes of one for `fast` the same one for `async`.

/// A component with a module that can say something and has a page of memory. `module` goes into the module, `exports` after it.
///
/// `$say` writes an empty line to the log, by which a test knows that the guest has come so far.
pub(crate) fn talking(module: &str, exports: &str) -> String {
    format!(
        r#"(component
  (import "rwasm:core/log@0.1.0" (instance $log
    (type $names (enum "trace" "debug" "info" "warn" "error"))
    (export "level" (type $level (eq $names)))
    (export "log" (func (param "level" $level) (param "message" string)))))
  (core module $Mem (memory (export "memory") 1))
  (core instance $mem (instantiate $Mem))
  (core func $log (canon lower (func $log "log") (memory $mem "memory")))
  (core module $M
    (import "host" "memory" (memory 1))
    (import "host" "log" (func $log (param i32 i32 i32)))
    (func $say (call $log (i32.const 2) (i32.const 0) (i32.const 0)))
    {module})
  (core instance $m (instantiate $M (with "host" (instance (export "memory" (memory $mem "memory")) (export "log" (func $log))))))
  {exports})"#
    )
}

/// A component without imports.
pub(crate) fn silent(module: &str, exports: &str) -> String {
    format!("(component (core module $M {module}) (core instance $m (instantiate $M)) {exports})")
}

/// The same guest with a function more, for the type of which it runs in the `async` profile.
pub(crate) fn asynchronous(guest: &str) -> String {
    let body = guest.strip_suffix(')').unwrap();
    format!(
        r#"{body}
  (core module $Async (func (export "take") (param i32)))
  (core instance $async (instantiate $Async))
  (func (export "take-stream") (param "bytes" (stream u8)) (canon lift (core func $async "take"))))"#
    )
}

/// A core module of WASI preview 1. Typed functions are made of its exports.
pub(crate) fn preview1(module: &str) -> String {
    format!(
        r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "random_get" (func $random_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 4)
  ;; At 0 a list of one buffer: 64 KiB from 65536 on.
  (data (i32.const 0) "\00\00\01\00\00\00\01\00")
  {module})"#
    )
}

/// A file of the hostile guests.
pub(crate) fn hostile(name: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples-wasm/evil/wat").join(name).with_extension("wat");
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).trim_end().to_owned()
}

/// Which profiles there are, and what makes a guest one of theirs.
pub(crate) const PROFILES: [fn(&str) -> String; 2] = [str::to_owned, asynchronous];

/// A function that says that the instance works, and nothing else.
pub(crate) const ONE: (&str, &str) =
    ("(func (export \"one\") (result i32) (i32.const 1))", "(func (export \"one\") (result u32) (canon lift (core func $m \"one\")))");
