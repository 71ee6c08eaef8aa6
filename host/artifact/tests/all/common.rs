//! How the tests make artifacts: from text by hand, and from WIT with bodies that do nothing.

use rwasm_artifact::{AnalyseLimits, Artifact, analyse};
use rwasm_types::Error;
use rwasm_values::Export;
use wit_component::{ComponentEncoder, StringEncoding, dummy_module, embed_component_metadata};
use wit_parser::{LiftLowerAbi, ManglingAndAbi, Resolve};

/// Analyses a file with the limits that come by default.
pub(crate) fn of(bytes: impl AsRef<[u8]>) -> Result<Artifact, Error> {
    analyse(bytes.as_ref(), &AnalyseLimits::default())
}

pub(crate) fn wasm(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}

/// A core module with the types of a world, whose functions do nothing.
pub(crate) fn module_of_world(wit: &str, abi: LiftLowerAbi) -> Vec<u8> {
    let mut resolve = Resolve::default();
    let package = resolve.push_str("test.wit", wit).unwrap();
    let world = resolve.select_world(&[package], None).unwrap();
    let mut module = dummy_module(&resolve, world, ManglingAndAbi::Legacy(abi));
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    module
}

/// A component of a world, whose functions do nothing.
pub(crate) fn component_of_world(wit: &str) -> Vec<u8> {
    ComponentEncoder::default().module(&module_of_world(wit, LiftLowerAbi::Sync)).unwrap().encode().unwrap()
}

/// The exports of an artifact: name, type and role, one on a line.
pub(crate) fn exports(artifact: &Artifact) -> Vec<String> {
    let line = |Export { name, signature, role }: &Export| format!("{name}: {signature} [{role}]");
    artifact.info.exports.iter().map(line).collect()
}

/// A component with a typed function at the top level and one in an interface.
pub(crate) const ADDER: &str = r#"(component
    (core module $m
        (memory 2)
        (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1))))
    (core instance $i (instantiate $m))
    (func $add (param "a" u32) (param "b" u32) (result u32) (canon lift (core func $i "add")))
    (instance $ops (export "add" (func $add)))
    (export "add" (func $add))
    (export "demo:math/ops@1.0.0" (instance $ops)))"#;

/// A component that exports `wasi:cli/run` of a version, and a typed function.
pub(crate) fn command(version: &str) -> String {
    format!(
        r#"(component
            (core module $m (func (export "run") (result i32) (i32.const 0)))
            (core instance $i (instantiate $m))
            (func $run (result (result)) (canon lift (core func $i "run")))
            (instance $cli (export "run" (func $run)))
            (export "wasi:cli/run@{version}" (instance $cli))
            (export "check" (func $run)))"#
    )
}

/// What C and Rust make for WASI preview 1: a program that writes one line.
pub(crate) const PREVIEW1_COMMAND: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 3)
    (data (i32.const 0) "\08\00\00\00\06\00\00\00hello\n")
    (func (export "_start") (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 20)))))"#;

/// A library for WASI preview 1.
pub(crate) const PREVIEW1_REACTOR: &str = r#"(module
    (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
    (memory (export "memory") 1)
    (func (export "_initialize"))
    (func (export "__wasm_call_ctors"))
    (func (export "roll_dice") (param i32) (result i32) (call $random (local.get 0) (i32.const 4)))
    (func (export "pair") (result i32 i32) (i32.const 1) (i32.const 2)))"#;
