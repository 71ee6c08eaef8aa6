//! Write tasks for rwasm in Rust: plain functions become typed exports of a WebAssembly component.
//!
//! ```
//! /// Says hello.
//! #[rwasm::export]
//! fn greet(name: &str) -> String {
//!     rwasm::log::info!("greeting {name} in task {}", rwasm::context::task_id());
//!     format!("Hello, {name}!")
//! }
//!
//! # fn main() {
//! assert_eq!(greet("Ada"), "Hello, Ada!");
//! # }
//! ```
//!
//! That is a whole component: `cargo build --release --target wasm32-unknown-unknown` makes it, `rwasm run NAME.wasm --call
//! 'greet("Ada")'` calls it, and `cargo test` tests it on your machine, for an exported function stays an ordinary function.
//!
//! # Two ways to export
//!
//! **[`#[rwasm::export]`](macro@export)** on functions of built-in types: numbers, text, lists, options, results, tuples.
//!
//! **[`rwasm::generate!()`](macro@generate)** for everything else. The contract is then a WIT file, which other people and languages read
//! too, and which is versioned: records, variants, interfaces, resources, imports of other packages.
//!
//! ```
//! rwasm::generate!({
//!     inline: "
//!         package example:weather@1.0.0;
//!
//!         interface stations {
//!             record reading { station: string, celsius: f64 }
//!
//!             /// The warmest of all readings.
//!             warmest: func(readings: list<reading>) -> option<reading>;
//!         }
//!
//!         world weather {
//!             export stations;
//!         }
//!     "
//! });
//!
//! use exports::example::weather::stations::{Guest, Reading};
//!
//! struct Weather;
//!
//! impl Guest for Weather {
//!     fn warmest(readings: Vec<Reading>) -> Option<Reading> {
//!         readings.into_iter().max_by(|a, b| a.celsius.total_cmp(&b.celsius))
//!     }
//! }
//!
//! export!(Weather);
//!
//! # fn main() {
//! # let reading = |celsius| Reading { station: String::new(), celsius };
//! # assert_eq!(Weather::warmest(vec![reading(1.5), reading(2.5)]).unwrap().celsius, 2.5);
//! # }
//! ```
//!
//! Write the WIT to `wit/world.wit` and the macro is just `rwasm::generate!();`.
//!
//! # Which target
//!
//! **`wasm32-unknown-unknown`** for functions that only compute: the smallest and fastest guests, with no WASI import at all. The target
//! makes core modules by default; the linker that makes components comes with Rust, and one setting in `.cargo/config.toml` selects it:
//!
//! ```toml
//! [target.wasm32-unknown-unknown]
//! linker = "wasm-component-ld"
//! ```
//!
//! **`wasm32-wasip2`** for guests that need clocks, random numbers, files or standard streams; it makes components without a setting.
//! There, `#[rwasm::export]` and `fn main` work alike.
//!
//! # Tasks that start tasks
//!
//! [`task`] starts calls of functions that the cluster runs side by side: each exported function has a type of its name with `submit`, and
//! [`import!`] makes the same from other people's WIT.
//!
//! ```
//! /// The weather service that is tagged `weather:1`.
//! mod weather {
//!     rwasm::import!({
//!         artifact: "weather:1",
//!         inline: "
//!             package example:weather@1.0.0;
//!
//!             interface stations {
//!                 record reading { station: string, celsius: f64 }
//!
//!                 warmest: func(readings: list<reading>) -> option<reading>;
//!             }
//!
//!             world weather {
//!                 export stations;
//!             }
//!         "
//!     });
//! }
//!
//! use weather::stations::{self, Reading};
//!
//! #[rwasm::export]
//! fn warmest_of(names: Vec<String>) -> Result<String, rwasm::task::Error> {
//!     let readings: Vec<Reading> = names.into_iter().map(|station| Reading { station, celsius: 20.0 }).collect();
//!     let warmest = stations::warmest::submit(&readings)?.get()?;
//!     Ok(warmest.map_or_else(String::new, |reading| reading.station))
//! }
//!
//! # fn main() {
//! // In a test, the artifact is not there; somebody else answers.
//! stations::warmest::answer(|readings| readings.into_iter().next());
//! assert_eq!(warmest_of(vec!["Oslo".to_owned()]).unwrap(), "Oslo");
//! # }
//! ```
//!
//! # Async
//!
//! The feature `async` brings `async func` of WIT, its streams and futures: `rwasm::streams`. Such a guest needs the async ABI of WASI 0.3
//! from its host. The functions of a trait `Guest` are then `async fn` where WIT says so; `wasm32-unknown-unknown` is the target for it.
//! A task that only computes, or waits for one thing after the other, gains nothing: the cluster runs other tasks meanwhile anyway.
//!
//! # Panics
//!
//! A panic ends the task as a trap. Its message arrives with the task's standard error, on either target.
//!
//! # Tests
//!
//! On any other target than Wasm, [`context`], [`log`], [`object`] and [`task`] are stand-ins: see `rwasm::testing`.

pub mod context;
pub mod log;
pub mod object;
#[cfg(feature = "async")]
pub mod streams;
pub mod task;
#[cfg(not(target_family = "wasm"))]
pub mod testing;
pub mod value;

#[cfg(target_family = "wasm")]
mod imports;
#[cfg(target_family = "wasm")]
mod region;
// With WASI, the standard library writes panics to standard error itself.
#[cfg(all(target_family = "wasm", not(target_os = "wasi")))]
mod panic;

pub use object::Object;
pub use rwasm_sdk_macros::{export, import};
pub use task::Task;

/// Generates bindings from WIT: for each interface that is exported a trait `Guest` to implement, and the macro `export!` that takes the
/// type that implements them.
///
/// This is [`wit_bindgen::generate!`](https://docs.rs/wit-bindgen/0.61/wit_bindgen/macro.generate.html), set up so that a guest needs no
/// dependency but this SDK.
///
/// A function that the world exports itself, rather than an interface, should not be named like one of the C library, as `read` is: its
/// symbol would take the place of that function's.
///
/// ```ignore
/// rwasm::generate!(); // the only world of the directory wit/
/// rwasm::generate!("my-world"); // a world of the directory wit/
/// rwasm::generate!({ world: "my-world", additional_derives: [PartialEq] }); // any option of wit-bindgen
/// ```
#[macro_export]
macro_rules! generate {
    () => {
        $crate::generate!({});
    };
    ($world:literal) => {
        $crate::generate!({ world: $world });
    };
    ({ $($options:tt)* }) => {
        #[cfg(target_family = "wasm")]
        $crate::__private::wit_bindgen::generate!({
            runtime_path: "::rwasm::__private::wit_bindgen::rt",
            generate_all,
            $($options)*
        });
        // Without a prefix, an export named like a function of the C library would take its place in the tests.
        #[cfg(not(target_family = "wasm"))]
        $crate::__private::wit_bindgen::generate!({
            runtime_path: "::rwasm::__private::wit_bindgen::rt",
            generate_all,
            export_prefix: "rwasm-export-",
            $($options)*
        });
    };
}

/// Handles of `rwasm:core`, for worlds of your own that name them. With
/// `with: { "rwasm:core/objects@0.1.0": ::rwasm::bindings::objects }` among the options of [`generate!`], a handle of the generated code becomes
/// an [`Object`] by [`Object::from_handle`], and an object a handle by [`Object::into_handle`].
pub mod bindings {
    #[cfg(target_family = "wasm")]
    pub use crate::imports::objects;
    #[cfg(not(target_family = "wasm"))]
    pub use crate::testing::objects;
}

/// For the code that the macros generate; not part of the interface.
#[doc(hidden)]
pub mod __private {
    pub use crate::bindings::objects;
    pub use crate::task::{Arguments, start};
    #[cfg(not(target_family = "wasm"))]
    pub use crate::testing::tasks;
    pub use wit_bindgen;

    /// The text of an error that WIT has no type for; some error types tell their causes in this form only.
    pub fn text(error: &impl std::fmt::Display) -> String {
        format!("{error:#}")
    }
}
