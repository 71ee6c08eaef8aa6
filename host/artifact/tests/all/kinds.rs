//! What runs, and how it is told apart.

use rwasm_artifact::{AnalyseLimits, analyse, features};
use rwasm_types::Code;
use rwasm_values::{ArtifactKind, GrantKind, Need, Profile, Role};
use wasmparser::Validator;
use wit_parser::LiftLowerAbi;

use crate::common::{self, ADDER, PREVIEW1_COMMAND, PREVIEW1_REACTOR, exports, of, wasm};

/// The artifact of a text, as text and as binary, which differ only in how they were submitted.
fn both(text: &str) -> rwasm_artifact::Artifact {
    let from_text = of(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let binary = wasm(text);
    let mut from_binary = of(&binary).unwrap();
    assert!(from_text.info.text && !from_binary.info.text);
    assert_eq!(from_binary.info.size_bytes, binary.len() as u64);
    assert_eq!(from_text.info.size_bytes, text.len() as u64);
    from_binary.info.text = true;
    from_binary.info.size_bytes = from_text.info.size_bytes;
    assert_eq!(from_text, from_binary);
    Validator::new_with_features(features(from_text.info.profile)).validate_all(&from_text.component).unwrap();
    from_text
}

#[test]
fn a_component_is_taken_as_it_is() {
    let artifact = both(ADDER);
    assert_eq!((artifact.info.kind, artifact.info.profile), (ArtifactKind::Component, Profile::Fast));
    assert_eq!(artifact.component, wasm(ADDER));
    assert_eq!(artifact.info.memory_initial_bytes, 2 << 16);
    assert_eq!(
        exports(&artifact),
        ["add: func(a: u32, b: u32) -> u32 [task]", "demo:math/ops@1.0.0/add: func(a: u32, b: u32) -> u32 [task]"]
    );
    assert!(artifact.info.imports.is_empty() && !artifact.info.may_block());
}

#[test]
fn commands_may_have_typed_exports() {
    for version in ["0.2.0", "0.2.6", "0.2.99", "0.3.0"] {
        let artifact = both(&common::command(version));
        assert_eq!(artifact.info.kind, ArtifactKind::Command, "{version}");
        assert_eq!(
            exports(&artifact),
            [format!("wasi:cli/run@{version}/run: func() -> result [command]"), "check: func() -> result [task]".to_owned()]
        );
    }
    // A version that the host cannot call, and another type, make a function like any other.
    let another = common::command("0.2.6").replace("(result (result))", "(result u32)");
    for text in [common::command("0.2.0-rc-2023-11-10"), another] {
        let artifact = both(&text);
        assert_eq!((artifact.info.kind, &artifact.info.exports[0].role), (ArtifactKind::Component, &Role::Task));
    }
}

#[test]
fn preview1_commands_are_adapted() {
    let artifact = both(PREVIEW1_COMMAND);
    assert_eq!((artifact.info.kind, artifact.info.profile), (ArtifactKind::Preview1Command, Profile::Fast));
    let [run] = &exports(&artifact)[..] else { panic!("{:?}", artifact.info.exports) };
    assert!(run.starts_with("wasi:cli/run@0.2.") && run.ends_with("/run: func() -> result [command]"), "{run}");
    assert!(artifact.info.command().is_some() && artifact.info.may_block());
    assert_eq!(artifact.info.memory_initial_bytes, 3 << 16);
    artifact.info.check_imports().unwrap();
    let mut names = artifact.info.imports.iter().map(|import| import.name.split('@').next().unwrap());
    assert!(names.any(|name| name == "wasi:cli/stdout"), "{:?}", artifact.info.imports);
}

/// What the adapter makes of `proc_exit` knows only success and failure, so it is put past the adapter.
#[test]
fn preview1_keeps_its_exit_status() {
    let with = |imports: &str, exports: &str| {
        both(&format!(
            r#"(module {imports}
                (import "wasi_snapshot_preview1" "random_get" (func (param i32 i32) (result i32)))
                (memory (export "memory") 1) {exports})"#
        ))
    };
    let functions_of_exit = |artifact: &rwasm_artifact::Artifact| {
        let bytes = &artifact.component;
        let found = |name: &str| bytes.windows(name.len()).any(|window| window == name.as_bytes());
        (found("proc_exit"), found("exit-with-code"))
    };
    let exit = r#"(import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))"#;
    let command = with(exit, r#"(func (export "_start") (call $exit (i32.const 3)))"#);
    assert_eq!(functions_of_exit(&command), (false, true));
    let reactor = with(exit, r#"(func (export "leave") (call $exit (i32.const 3)))"#);
    assert_eq!(functions_of_exit(&reactor), (false, true));
    for artifact in [command, reactor] {
        artifact.info.check_imports().unwrap();
        let exits: Vec<&str> =
            artifact.info.imports.iter().map(|import| &*import.name).filter(|name| name.starts_with("wasi:cli/exit")).collect();
        assert_eq!(exits, ["wasi:cli/exit@0.2.12"]);
    }
}

#[test]
fn a_program_without_imports_is_a_command() {
    let artifact =
        both(r#"(module (memory (export "memory") 1) (func (export "_start")) (func (export "add") (result i32) (i32.const 1)))"#);
    assert_eq!(artifact.info.kind, ArtifactKind::Preview1Command);
    assert_eq!(artifact.info.exports.len(), 1);
}

#[test]
fn preview1_reactors_keep_their_functions() {
    let artifact = both(PREVIEW1_REACTOR);
    assert_eq!(artifact.info.kind, ArtifactKind::Preview1Reactor);
    assert_eq!(
        exports(&artifact),
        ["roll-dice: func(p0: s32) -> s32 [task]", "pair: func() -> tuple<s32, s32> [not callable: it has 2 results]"]
    );
    artifact.info.check_imports().unwrap();
}

#[test]
fn core_modules_are_wrapped() {
    let artifact = both(
        r#"(module
            (memory (export "memory") 1)
            (memory (export "other") 2)
            (global (export "g") i32 (i32.const 1))
            (table (export "t") 1 funcref)
            (func (export "_initialize"))
            (func (export "__hidden"))
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 0))
            (func (export "cabi_post_add") (param i32))
            (func (export "add_two") (param i32 i64 f32 f64) (result f64) (local.get 3))
            (func (export "addTwo") (result i32) (i32.const 1))
            (func (export "list") (result i64) (i64.const 1))
            (func (export "memory#2"))
            (func (export "1st"))
            (func (export "\1b[1m"))
            (func (export "ünder"))
            (func (export "vec") (param v128))
            (func (export "ref") (result externref) (ref.null extern))
            (func (export "many") (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32))
            (func (export "full") (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))"#,
    );
    assert_eq!((artifact.info.kind, artifact.info.profile), (ArtifactKind::CoreModule, Profile::Fast));
    assert_eq!(artifact.info.memory_initial_bytes, 3 << 16);
    let params = |count: usize| (0..count).map(|i| format!("p{i}: s32")).collect::<Vec<_>>().join(", ");
    assert_eq!(
        exports(&artifact),
        [
            "cabi-post-add: func(p0: s32) [task]".to_owned(),
            "add-two: func(p0: s32, p1: s64, p2: f32, p3: f64) -> f64 [task]".to_owned(),
            "list: func() -> s64 [task]".to_owned(),
            "memory-2: func() [task]".to_owned(),
            format!("full: func({}) [task]", params(16)),
            "addTwo: func() -> s32 [not callable: its name in WIT, `add-two`, is taken by another export]".to_owned(),
            "1st: func() [not callable: its name cannot be written in WIT]".to_owned(),
            "\u{fffd}[1m: func() [not callable: its name cannot be written in WIT]".to_owned(),
            "ünder: func() [not callable: its name cannot be written in WIT]".to_owned(),
            "vec: func(p0: ...) [not callable: it takes or returns a vector or a reference, which has no type in WIT]".to_owned(),
            "ref: func() -> ... [not callable: it takes or returns a vector or a reference, which has no type in WIT]".to_owned(),
            format!("many: func({}) [not callable: it has 17 parameters, and 16 are the most that can be passed]", params(17)),
        ]
    );
}

#[test]
fn modules_that_were_not_made_components_yet_are_completed() {
    let module = common::module_of_world(
        "package demo:x; world w { import rwasm:core/log@0.1.0; export shout: func(text: string) -> string; }
         package rwasm:core@0.1.0 { interface log { log: func(message: string); } }",
        LiftLowerAbi::Sync,
    );
    let artifact = of(module).unwrap();
    assert_eq!(artifact.info.kind, ArtifactKind::CoreModule);
    assert_eq!(exports(&artifact), ["shout: func(text: string) -> string [task]"]);
    assert_eq!(artifact.info.imports[0].name, "rwasm:core/log@0.1.0");
    assert!(!artifact.info.may_block());
}

#[test]
fn imports_are_looked_up() {
    let of_imports = |wit: &str| of(common::component_of_world(wit)).unwrap().info;
    let info = of_imports(
        "package demo:x;
         world w {
             import wasi:io/poll@0.2.77;
             import wasi:filesystem/preopens@0.2.6;
             import wasi:sockets/tcp@0.2.6;
             import demo:db/store@1.0.0;
             import plain: func();
             import inline: interface { f: func(); }
             export go: func();
         }
         package wasi:io@0.2.77 { interface poll { f: func(); } }
         package wasi:filesystem@0.2.6 { interface preopens { f: func(); } }
         package wasi:sockets@0.2.6 { interface tcp { f: func(); } }
         package demo:db@1.0.0 { interface store { f: func(); } }",
    );
    let mut found: Vec<(&str, Need)> = info.imports.iter().map(|import| (&*import.name, import.need)).collect();
    found.sort_by_key(|(name, _)| *name);
    assert_eq!(
        found,
        [
            ("demo:db/store@1.0.0", Need::Missing),
            ("inline", Need::Missing),
            ("plain", Need::Missing),
            ("wasi:filesystem/preopens@0.2.6", Need::Grant(GrantKind::Directory)),
            ("wasi:io/poll@0.2.77", Need::Provided),
            ("wasi:sockets/tcp@0.2.6", Need::Grant(GrantKind::Network)),
        ]
    );
    assert!(info.may_block());
    assert_eq!(info.check_imports().unwrap_err().field("missing"), Some("3"));
    assert!(info.exports[0].role == Role::Task, "missing imports are reported, not refused");
}

#[test]
fn the_profile_follows_from_what_is_used() {
    let profile_of = |wit: &str, abi| of(common::module_of_world(wit, abi)).unwrap().info.profile;
    let plain = "package a:b; world w { export f: func() -> string; }";
    assert_eq!(profile_of(plain, LiftLowerAbi::Sync), Profile::Fast);
    assert_eq!(profile_of("package a:b; world w { export f: async func() -> string; }", LiftLowerAbi::AsyncCallback), Profile::Async);
    assert_eq!(
        profile_of("package a:b; world w { export f: func(); export g: func() -> stream<u8>; }", LiftLowerAbi::Sync),
        Profile::Async
    );
    let p3 = "package a:b; world w { import wasi:cli/environment@0.3.0; export f: func(); }
              package wasi:cli@0.3.0 { interface environment { g: func() -> string; } }";
    assert_eq!(profile_of(p3, LiftLowerAbi::Sync), Profile::Async);
    let p2 = p3.replace("0.3.0", "0.2.0");
    assert_eq!(profile_of(&p2, LiftLowerAbi::Sync), Profile::Fast);
}

#[test]
fn features_are_those_of_the_engine() {
    use wasmparser::WasmFeatures as F;
    let (fast, asynchronous) = (features(Profile::Fast), features(Profile::Async));
    assert_eq!(asynchronous - fast, F::CM_ASYNC);
    assert!(fast.contains(F::GC | F::EXCEPTIONS | F::TAIL_CALL | F::RELAXED_SIMD | F::MULTI_MEMORY | F::COMPONENT_MODEL | F::GC_TYPES));
    assert!(
        !asynchronous.intersects(F::THREADS | F::SHARED_EVERYTHING_THREADS | F::CUSTOM_PAGE_SIZES | F::CM_THREADING | F::STACK_SWITCHING)
    );
}

#[test]
fn exports_and_imports_are_bounded() {
    let check = |text: &str, limits: AnalyseLimits, message: &str| {
        let error = analyse(text.as_bytes(), &limits).unwrap_err();
        assert_eq!((error.code(), error.message()), (Code::LIMIT, message));
    };
    let one = AnalyseLimits { exports: 1, ..AnalyseLimits::default() };
    check(ADDER, one, "the artifact exports more than 1 functions");
    check(PREVIEW1_REACTOR, one, "the artifact exports more than 1 functions");
    let none = AnalyseLimits { imports: 0, ..AnalyseLimits::default() };
    check(PREVIEW1_COMMAND, none, "the artifact has more than 0 imports");
}
