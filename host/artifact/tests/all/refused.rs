//! What cannot run: each row of the table in `docs/artifacts.md`, by its code.

use rwasm_artifact::{AnalyseLimits, analyse};
use rwasm_types::{Code, Error};

use crate::common::{self, ADDER, of, wasm};

fn check(bytes: impl AsRef<[u8]>, code: Code, text: &str) -> Error {
    let error = of(bytes).unwrap_err();
    assert_eq!((error.code(), error.to_string().as_str()), (code, text));
    error
}

#[test]
fn empty_files() {
    check("", Code::EMPTY_FILE, "the file is empty");
}

#[test]
fn other_files() {
    let not = |what: &str, hint: &str| format!("the file is {what}, not WebAssembly; {hint}");
    check("hello", Code::NOT_WASM, "the file is not WebAssembly; submit a .wasm or .wat file");
    check([0xff, 0xfe, b'('], Code::NOT_WASM, "the file is not WebAssembly; submit a .wasm or .wat file");
    check("\u{1f}\u{8b}", Code::NOT_WASM, "the file is not WebAssembly; submit a .wasm or .wat file");
    check(b"\x1f\x8b\x08", Code::NOT_WASM, &not("a gzip archive", "unpack it first"));
    check(b"\x7fELF\x02", Code::NOT_WASM, &not("a native program or a precompiled module", "submit the .wasm that it was made of"));
    check("#!/bin/sh", Code::NOT_WASM, &not("a script", "compile it to WebAssembly first"));
    check("<html>", Code::NOT_WASM, &not("a web page", "check the address that it was downloaded from"));
}

#[test]
fn broken_binaries() {
    check(b"\0as", Code::MALFORMED_WASM, "the file ends within the header of WebAssembly");
    check(b"\0asm\x01\0", Code::MALFORMED_WASM, "the file ends within the header of WebAssembly");
    check(b"\0asm\x02\0\0\0", Code::MALFORMED_WASM, "the file has the header of an unknown version of WebAssembly: 2, [0, 0, 0]");
    let error = check(b"\0asm\x01\0\0\0\x01", Code::MALFORMED_WASM, "the WebAssembly is invalid at byte 9: unexpected end-of-file");
    assert_eq!(error.field("offset"), Some("9"));
    let error = of(wasm("(module (func (result i32)))")).unwrap_err();
    assert_eq!(error.code(), Code::MALFORMED_WASM);
    assert!(error.message().contains("type mismatch"), "{error}");
    let mut truncated = wasm(ADDER);
    truncated.pop();
    assert_eq!(of(truncated).unwrap_err().code(), Code::MALFORMED_WASM);
}

#[test]
fn broken_texts() {
    let error =
        check("(module\n  (fun))", Code::MALFORMED_TEXT, "the text does not parse at line 2, column 4: expected valid module field");
    assert_eq!((error.field("line"), error.field("column")), (Some("2"), Some("4")));
    let error = of("(module").unwrap_err();
    assert_eq!((error.code(), error.field("line")), (Code::MALFORMED_TEXT, Some("1")));
    assert_eq!(of("(component (import \"x\" (func))").unwrap_err().code(), Code::MALFORMED_TEXT);
    // What parses and is invalid is malformed as a binary would be.
    assert_eq!(of("(module (func (result i32)))").unwrap_err().code(), Code::MALFORMED_WASM);
}

#[test]
fn large_files() {
    let limits = AnalyseLimits { bytes: 100, ..AnalyseLimits::default() };
    let hint = "strip its debug information, as `wasm-tools strip` does";
    let error = analyse(&[0; 101], &limits).unwrap_err();
    assert_eq!(error.to_string(), format!("the artifact has 101B, but may have 100B; {hint}"));
    // The component that is made of a small module counts as well.
    let error = analyse(common::PREVIEW1_COMMAND.as_bytes(), &AnalyseLimits { bytes: 1000, ..limits }).unwrap_err();
    assert_eq!(error.code(), Code::ARTIFACT_TOO_LARGE);
    assert_eq!(AnalyseLimits::default().bytes, 256 << 20);
}

#[test]
fn threads() {
    let text = "the module needs threads or shared memory, which guests do not have; build it without threads (for Rust, another target than \
                wasm32-wasip1-threads), and run many tasks instead";
    for module in [
        r#"(module (memory 1 1 shared) (func (export "f")))"#,
        r#"(module (import "env" "memory" (memory 1 1 shared)) (func (export "f")))"#,
        r#"(module (memory 1) (func (export "f") (param i32) (result i32) (i32.atomic.load (local.get 0))))"#,
        r#"(module (import "wasi" "thread-spawn" (func (param i32) (result i32))) (func (export "f")))"#,
        r#"(component (core func (canon thread.available_parallelism)))"#,
        r#"(component (core type $start (shared (func (param i32)))) (core func (canon thread.spawn-ref $start)))"#,
    ] {
        check(module, Code::USES_THREADS, text);
    }
}

#[test]
fn preview0() {
    check(
        r#"(module (import "wasi_unstable" "fd_write" (func (param i32 i32 i32 i32) (result i32))) (func (export "_start")))"#,
        Code::USES_PREVIEW0,
        "the module was built for WASI preview 0 (`wasi_unstable`), which is no longer run; build it with a toolchain from 2020 or later",
    );
}

#[test]
fn foreign_imports() {
    fn importing(names: &[(&str, &str)]) -> String {
        let imports: String = names.iter().map(|(from, name)| format!("(import \"{from}\" \"{name}\" (func))")).collect();
        format!("(module {imports} (func (export \"f\")))")
    }
    let wasi = "build it for WASI (for Rust, wasm32-wasip2), or link what it needs into it";
    let what = "the module imports what no host provides:";
    check(importing(&[("env", "foo")]), Code::FOREIGN_IMPORTS, &format!("{what} `env.foo`; {wasi}"));
    let names: Vec<(&str, &str)> = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"].map(|name| ("env", name)).to_vec();
    let error = of(importing(&names)).unwrap_err();
    assert!(error.message().ends_with("`env.g`, `env.h` and 2 more"), "{error}");
    assert_eq!(error.field("count"), Some("10"));
    check(
        importing(&[("wasi_snapshot_preview1", "nope")]),
        Code::FOREIGN_IMPORTS,
        &format!("{what} `wasi_snapshot_preview1.nope`; {wasi}"),
    );
    let memory = r#"(module (import "env" "memory" (memory 1)) (func (export "f")))"#;
    check(memory, Code::FOREIGN_IMPORTS, &format!("{what} `env.memory`; {wasi}"));
    for (from, hint) in [
        (
            "demo:db/store@1.0.0",
            "it was built for the component model, but its `component-type` section is gone: do not strip it before it is a component",
        ),
        ("gojs", "it was built for a browser: build it with GOOS=wasip1"),
        ("wbg", "it was built for a browser by wasm-bindgen: build it for wasm32-wasip2"),
        ("./x_bg.js", "it was built for a browser by wasm-bindgen: build it for wasm32-wasip2"),
    ] {
        assert_eq!(of(importing(&[(from, "f")])).unwrap_err().next_step(), Some(hint), "{from}");
    }
    let object = r#"(module (@custom "linking" "") (import "env" "__linear_memory" (memory 0)))"#;
    assert_eq!(of(object).unwrap_err().next_step(), Some("it is an object file: link it first"));
}

#[test]
fn proposals() {
    for (module, feature) in [
        (r#"(module (memory 1 (pagesize 1)) (func (export "f")))"#, "custom-page-sizes"),
        (
            r#"(module (func (export "f") (result i64 i64) (i64.add128 (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0))))"#,
            "wide-arithmetic",
        ),
        (r#"(component (type (list u8 4)))"#, "cm-fixed-length-lists"),
        (r#"(component (type (map string u8)))"#, "cm-map"),
        (r#"(component (type error-context))"#, "cm-error-context"),
    ] {
        let text = format!("the module uses a WebAssembly feature that is turned off: {feature}; build it without that feature");
        let error = check(module, Code::USES_PROPOSAL, &text);
        assert_eq!(error.field("feature"), Some(feature));
    }
}

#[test]
fn nothing_to_call() {
    let hint = "export a function, or `wasi:cli/run`";
    check("(module)", Code::NOTHING_TO_CALL, &format!("the core module exports nothing that can be called; {hint}"));
    check("(component)", Code::NOTHING_TO_CALL, &format!("the component exports nothing that can be called; {hint}"));
    check(
        r#"(module (func (export "pair") (result i32 i32) (i32.const 1) (i32.const 2)))"#,
        Code::NOTHING_TO_CALL,
        "the core module exports nothing that can be called; `pair`: it has 2 results",
    );
}

#[test]
fn modules_that_no_component_can_be_made_of() {
    check(
        r#"(module (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32))) (func (export "_start")))"#,
        Code::MALFORMED_WASM,
        "no component can be made of the module: it uses WASI, but exports no memory; export its memory by the name `memory`",
    );
    let typed =
        r#"(module (import "wasi_snapshot_preview1" "fd_write" (func (param i64))) (memory (export "memory") 1) (func (export "_start")))"#;
    let error = of(typed).unwrap_err();
    assert_eq!(error.code(), Code::MALFORMED_WASM);
    assert!(error.message().starts_with("no component can be made of the module: "), "{error}");
    assert!(error.message().contains("fd_write"), "{error}");
}
