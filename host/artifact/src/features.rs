//! Which features of WebAssembly an engine has turned on, and what a binary that needs others is refused with.

use rwasm_types::{Code, Error};
use rwasm_values::Profile;
use wasmparser::{Parser, Validator, WasmFeatures, types::Types};

use crate::source;

/// The features of a profile: what wasmtime 48 turns on by itself, without threads. An engine's configuration must turn on exactly these.
///
/// [`Profile::Async`] has the asynchronous part of the component model beyond [`Profile::Fast`].
pub fn features(profile: Profile) -> WasmFeatures {
    let fast = (WasmFeatures::WASM3 | WasmFeatures::COMPONENT_MODEL) - WasmFeatures::THREADS;
    match profile {
        Profile::Fast => fast,
        Profile::Async => fast | WasmFeatures::CM_ASYNC,
    }
}

/// What a guest with threads uses, in core modules or components.
const THREADS: WasmFeatures = WasmFeatures::THREADS.union(WasmFeatures::SHARED_EVERYTHING_THREADS).union(WasmFeatures::CM_THREADING);

/// Validates a whole binary with the features of [`Profile::Async`], the widest.
pub(crate) fn validate(wasm: &[u8]) -> Result<Types, Error> {
    let ours = features(Profile::Async);
    let error = match Validator::new_with_features(ours).validate_all(wasm) {
        Ok(types) => return Ok(types),
        Err(error) => error,
    };
    match needed(wasm, ours, &error) {
        Some(needed) if needed.intersects(THREADS) => Err(uses_threads()),
        Some(needed) => {
            let names: Vec<String> = needed.iter_names().map(|(name, _)| name.to_ascii_lowercase().replace('_', "-")).collect();
            let names = names.join(", ");
            let message = format!("the module uses a WebAssembly feature that is turned off: {names}");
            Err(Error::new(Code::USES_PROPOSAL, message).hint("build it without that feature").with("feature", names))
        }
        None => Err(malformed(error)),
    }
}

/// The error of a guest with threads.
pub(crate) fn uses_threads() -> Error {
    Error::new(Code::USES_THREADS, "the module needs threads or shared memory, which guests do not have")
        .hint("build it without threads (for Rust, another target than wasm32-wasip1-threads), and run many tasks instead")
}

/// The features beyond `have` with which a binary is valid; `None` if it is with none.
fn needed(wasm: &[u8], have: WasmFeatures, error: &wasmparser::Error) -> Option<WasmFeatures> {
    // The validator names the feature that it missed, one after the other.
    let mut tried = have;
    let mut missing = error.missing_wasm_feature();
    while let Some(feature) = missing.filter(|feature| !tried.contains(*feature)) {
        tried |= feature;
        match Validator::new_with_features(tried).validate_all(wasm) {
            Ok(_) => return Some(tried - have),
            Err(error) => missing = error.missing_wasm_feature(),
        }
    }
    // For some it does not. Then all are turned on, and each is needed without which the binary is no longer valid.
    let valid = |features| Validator::new_with_features(features).validate_all(wasm).is_ok();
    if !valid(WasmFeatures::all()) {
        return None;
    }
    let needed = (WasmFeatures::all() - have).iter().filter(|feature| !valid(WasmFeatures::all() - *feature));
    Some(needed.collect())
}

/// The error of bytes that are no WebAssembly.
pub(crate) fn malformed(error: wasmparser::Error) -> Error {
    let message = source::one_line(&error.message().replace('\n', ": "));
    Error::new(Code::MALFORMED_WASM, format!("the WebAssembly is invalid at byte {}: {message}", error.offset()))
        .with("offset", error.offset())
}

/// Whether a valid component does without the asynchronous part of the component model. Function bodies have no say in it.
pub(crate) fn is_fast(component: &[u8]) -> bool {
    let mut validator = Validator::new_with_features(features(Profile::Fast));
    let mut payloads = Parser::new(0).parse_all(component);
    payloads.all(|payload| payload.and_then(|payload| validator.payload(&payload)).is_ok())
}
