//! Says why a guest without WASI trapped: the message of a panic goes to the log, at error level.
//!
//! A constructor installs the hook. wit-bindgen's bindings run constructors before the first export, so no author has to remember it.

use std::panic::{self, PanicHookInfo};

use crate::log;

#[used]
#[expect(unsafe_code, reason = "naming a link section is unsafe; this one holds pointers to functions, which is what stands here")]
// SAFETY: the linker's `__wasm_call_ctors` calls every pointer in `.init_array` once, without arguments.
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: extern "C" fn() = install;

extern "C" fn install() {
    panic::set_hook(Box::new(report));
}

fn report(info: &PanicHookInfo<'_>) {
    let message = info.payload_as_str().unwrap_or("(its value is no text)");
    match info.location() {
        Some(place) => log::error!("panicked at {place}: {message}"),
        None => log::error!("panicked: {message}"),
    }
}
