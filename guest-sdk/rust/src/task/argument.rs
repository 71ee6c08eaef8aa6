//! Arguments of calls, on their way to a task.

use std::fmt;

use super::Task;
use crate::{
    Object,
    bindings::objects as source,
    value::{Encoder, Value},
};

/// What can be passed where a parameter is a `T`: a value of it, or a reference to one; and in the place of a value `&Object<T>` or
/// `&Task<T>`.
///
/// Handles have no value that could be given in their place: where a parameter is an `Object<T>`, what is passed is that.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be passed as a parameter of type `{T}`",
    note = "a value, a reference to one, `&Object<T>` and `&Task<T>` can"
)]
pub trait Argument<T: Value> {
    #[doc(hidden)]
    fn pass<'a>(&'a self, into: &mut Arguments<'a>);
}

impl<T: Value> Argument<T> for T {
    fn pass<'a>(&'a self, into: &mut Arguments<'a>) {
        into.value(|encoder| self.encode(encoder));
    }
}

impl<T: Value> Argument<T> for &T {
    fn pass<'a>(&'a self, into: &mut Arguments<'a>) {
        into.value(|encoder| self.encode(encoder));
    }
}

impl<T: Value> Argument<Vec<T>> for &[T] {
    fn pass<'a>(&'a self, into: &mut Arguments<'a>) {
        into.value(|encoder| {
            encoder.number(self.len());
            T::encode_all(self, encoder);
        });
    }
}

impl<T: Value, const N: usize> Argument<Vec<T>> for &[T; N] {
    fn pass<'a>(&'a self, into: &mut Arguments<'a>) {
        into.value(|encoder| {
            encoder.number(N);
            T::encode_all(*self, encoder);
        });
    }
}

impl Argument<String> for &str {
    fn pass<'a>(&'a self, into: &mut Arguments<'a>) {
        into.value(|encoder| {
            encoder.number(self.len());
            encoder.bytes(self.as_bytes());
        });
    }
}

impl<T: Value> Argument<T> for &Object<T> {
    fn pass<'a>(&'a self, into: &mut Arguments<'a>) {
        const { assert!(!T::HANDLE, "a handle cannot be given by an object that holds one: get it, and pass what that gives") };
        into.by_ref(self.handle());
    }
}

impl<T: Value> Argument<T> for &Task<T> {
    fn pass<'a>(&'a self, into: &mut Arguments<'a>) {
        const { assert!(!T::HANDLE, "a handle cannot be given by a task that returns one: get it, and pass what that gives") };
        into.by_ref(self.output().handle());
    }
}

/// Where a parameter is a handle, the task's result is what it is a handle of.
impl<T> Argument<Object<T>> for &Task<T> {
    fn pass<'a>(&'a self, into: &mut Arguments<'a>) {
        into.value(|encoder| self.output().encode(encoder));
    }
}

/// The arguments of a call in the making. For the code that macros generate.
#[doc(hidden)]
#[derive(Default)]
pub struct Arguments<'a> {
    encoder: Encoder<'a>,
    /// Where each begins, and whether it is given by ref.
    begins: Vec<(usize, bool)>,
}

impl<'a> Arguments<'a> {
    /// Adds an argument for a parameter of type `T`.
    pub fn add<T: Value>(&mut self, argument: &'a impl Argument<T>) {
        argument.pass(self);
    }

    fn value(&mut self, encode: impl FnOnce(&mut Encoder<'a>)) {
        self.begins.push((self.encoder.bytes.len(), false));
        encode(&mut self.encoder);
    }

    fn by_ref(&mut self, object: &'a source::Object) {
        self.begins.push((self.encoder.bytes.len(), true));
        self.encoder.handle(object);
    }

    /// The mode and the parameters, and the ref table.
    pub fn finish(self) -> (Vec<u8>, Vec<&'a source::Object>) {
        let Self { encoder: Encoder { bytes, refs }, begins } = self;
        let tagged = begins.iter().any(|(_, by_ref)| *by_ref);
        let mut message = Vec::with_capacity(1 + begins.len() + bytes.len());
        message.push(tagged.into());
        let ends = begins.iter().skip(1).map(|(begin, _)| *begin).chain([bytes.len()]);
        for ((begin, by_ref), end) in begins.iter().zip(ends) {
            if tagged {
                message.push((*by_ref).into());
            }
            message.extend_from_slice(&bytes[*begin..end]);
        }
        (message, refs)
    }
}

impl fmt::Debug for Arguments<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arguments").field("count", &self.begins.len()).finish_non_exhaustive()
    }
}
