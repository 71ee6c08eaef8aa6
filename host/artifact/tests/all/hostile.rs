//! Bytes from nobody's friend: whatever comes, the answer is an artifact or a clean error.

use std::sync::LazyLock;

use proptest::{collection::vec, prelude::*, sample::Index};
use rwasm_artifact::{Artifact, features};
use rwasm_types::{Code, Error};
use wasmparser::{Validator, WasmFeatures};

use crate::common::{self, ADDER, PREVIEW1_COMMAND, PREVIEW1_REACTOR, of, wasm};

/// A few valid artifacts to damage.
static SEEDS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let world = "package a:b; interface i { resource r { constructor(x: u8); f: func(y: list<option<string>>) -> result<u8>; } }
                 world w { import rwasm:core/log@0.1.0; export i; }
                 package rwasm:core@0.1.0 { interface log { log: func(message: string); } }";
    vec![
        wasm(ADDER),
        wasm(&common::command("0.2.6")),
        wasm(PREVIEW1_COMMAND),
        wasm(PREVIEW1_REACTOR),
        common::component_of_world(world),
        common::module_of_world(world, wit_parser::LiftLowerAbi::Sync),
    ]
});

/// An answer is sound if its component is valid, or its error names a cause of the file.
fn check(bytes: &[u8]) -> Result<Artifact, Error> {
    let result = of(bytes);
    match &result {
        Ok(artifact) => {
            Validator::new_with_features(features(artifact.info.profile)).validate_all(&artifact.component).unwrap();
            assert!(artifact.info.is_callable());
        }
        Err(error) => assert_ne!(error.code(), Code::INTERNAL, "{error}"),
    }
    result
}

#[test]
fn every_prefix_is_refused() {
    for seed in &*SEEDS {
        for length in 0..seed.len() {
            let prefix = &seed[..length];
            // What is cut between two sections at the end, before debug names, say, is whole enough to be valid.
            let valid = Validator::new_with_features(WasmFeatures::all()).validate_all(prefix).is_ok();
            match check(prefix) {
                Ok(_) => assert!(valid),
                Err(error) if valid => {
                    let lacking = [Code::NOTHING_TO_CALL, Code::FOREIGN_IMPORTS].contains(&error.code());
                    let lacking = lacking || error.message().starts_with("no component can be made");
                    assert!(lacking, "{length} of {}: {error}", seed.len());
                }
                Err(error) if length == 0 => assert_eq!(error.code(), Code::EMPTY_FILE),
                Err(error) => assert_eq!(error.code(), Code::MALFORMED_WASM, "{length} of {}: {error}", seed.len()),
            }
        }
        check(seed).unwrap();
    }
}

proptest! {
    #[test]
    fn damaged_binaries(seed: Index, damage in vec((any::<Index>(), any::<u8>()), 1..4)) {
        let mut bytes = seed.get(&SEEDS).clone();
        for (at, with) in damage {
            let at = at.index(bytes.len());
            bytes[at] = with;
        }
        let _ = check(&bytes);
    }

    #[test]
    fn spliced_binaries(a: Index, b: Index, from: Index, to: Index, length in 0usize..40) {
        let (mut bytes, other) = (a.get(&SEEDS).clone(), b.get(&SEEDS));
        let from = from.index(other.len());
        let piece = &other[from..other.len().min(from + length)];
        let to = to.index(bytes.len());
        bytes.splice(to..to, piece.iter().copied());
        let _ = check(&bytes);
    }

    #[test]
    fn random_bytes(mut bytes in vec(any::<u8>(), 0..60), magic: bool) {
        if magic {
            bytes.splice(..0, *b"\0asm\x01\0\0\0");
        }
        let _ = check(&bytes);
    }

    #[test]
    fn damaged_texts(at: Index, with in "[ -~]{0,3}", cut in 0usize..6) {
        let text = [ADDER, PREVIEW1_REACTOR][cut % 2];
        let at = at.index(text.len());
        let end = (at + cut).min(text.len());
        let text = format!("{}{with}{}", &text[..at], &text[end..]);
        let _ = check(text.as_bytes());
    }
}
