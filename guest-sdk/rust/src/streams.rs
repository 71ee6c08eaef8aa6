//! Streams and futures of WIT, and work beside an export. These are `wit-bindgen`'s own types; the modules `wit_stream` and `wit_future`,
//! which [`generate!`](crate::generate) makes beside the bindings, create them.

pub use wit_bindgen::{FutureReader, FutureWriter, StreamReader, StreamResult, StreamWriter, spawn_local, yield_async};
