//! Monomorphised calls for the shapes that carry bulk.
//!
//! wasmtime copies a `&[u8]` into a guest and a `Vec<u8>` out of it with one memcpy, but only where the types are known to the compiler.
//! So every supported pair of parameter and result is compiled once, and [`select`] finds the pair of a signature at load time.

use std::{future::Future, pin::Pin};

use bytes::Bytes;
use rwasm_types::{Error, Result as OurResult};
use rwasm_values::{
    Element, Scalar, Signature, Type,
    codec::{ArgView, ArgsView, Encoder, FlatWriter, Limits, Payload, VERSION},
};
use wasmtime::{
    Store,
    component::{ComponentNamedList, Func, Lift, Lower},
};

use super::CallError;
use crate::{raw::BytesMessage, store::Host};

type Call = fn(&Func, &mut Store<Host>, &ArgsView<'_>, &Limits) -> Result<Bytes, CallError>;
type CallAsync = for<'a> fn(&'a Func, &'a mut Store<Host>, &'a ArgsView<'a>, &'a Limits) -> Called<'a>;
type Called<'a> = Pin<Box<dyn Future<Output = Result<Bytes, CallError>> + Send + 'a>>;

/// The two compiled calls of a shape.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fast {
    pub(super) call: Call,
    pub(super) call_async: CallAsync,
}

/// A shape of parameters.
trait Params {
    /// What wasmtime lowers.
    type Lowered<'a>: ComponentNamedList + Lower;

    /// Takes it from the message; `None` where an argument was given in another way.
    fn read<'a>(view: &ArgsView<'a>) -> Option<Self::Lowered<'a>>;
}

struct Nothing;
struct Text;
struct List<T>(std::marker::PhantomData<T>);

impl Params for Nothing {
    type Lowered<'a> = ();

    fn read<'a>(_view: &ArgsView<'a>) -> Option<()> {
        Some(())
    }
}

fn payload<'a>(view: &ArgsView<'a>) -> Option<Payload<'a>> {
    match view.params() {
        [ArgView::Inline(payload)] => Some(*payload),
        _ => None,
    }
}

impl Params for Text {
    type Lowered<'a> = (&'a str,);

    fn read<'a>(view: &ArgsView<'a>) -> Option<(&'a str,)> {
        match payload(view)? {
            Payload::Text(text) => Some((text,)),
            _ => None,
        }
    }
}

impl Params for List<u8> {
    type Lowered<'a> = (&'a [u8],);

    fn read<'a>(view: &ArgsView<'a>) -> Option<(&'a [u8],)> {
        match payload(view)? {
            Payload::Flat(Scalar::U8, bytes) => Some((bytes,)),
            _ => None,
        }
    }
}

/// Numeric lists lie unaligned in messages, so they are copied once more than bytes are.
macro_rules! list_params {
    ($($ty:ty),*) => {$(
        impl Params for List<$ty> {
            type Lowered<'a> = (Vec<$ty>,);

            fn read<'a>(view: &ArgsView<'a>) -> Option<(Vec<$ty>,)> {
                match payload(view)? {
                    Payload::Flat(<$ty as Element>::SCALAR, bytes) => {
                        let mut list = vec![<$ty>::default(); bytes.len() / size_of::<$ty>()];
                        bytemuck::cast_slice_mut::<$ty, u8>(&mut list).copy_from_slice(bytes);
                        Some((list,))
                    }
                    _ => None,
                }
            }
        }
    )*};
}

list_params!(i8, i16, u16, i32, u32, i64, u64, f32, f64);

/// A shape of results.
trait Returns {
    /// What wasmtime lifts.
    type Lifted: ComponentNamedList + Lift + Send + 'static;

    /// The result's message.
    fn message(value: Self::Lifted, limits: &Limits) -> OurResult<Bytes>;
}

impl Returns for Nothing {
    type Lifted = ();

    fn message((): (), _limits: &Limits) -> OurResult<Bytes> {
        Ok(Bytes::from_static(&[VERSION, 0]))
    }
}

impl Returns for Text {
    type Lifted = (String,);

    fn message((text,): (String,), limits: &Limits) -> OurResult<Bytes> {
        let mut writer = FlatWriter::string(text.len(), limits)?;
        writer.write(text.as_bytes())?;
        writer.finish()
    }
}

macro_rules! list_returns {
    ($($ty:ty),*) => {$(
        impl Returns for List<$ty> {
            type Lifted = (Vec<$ty>,);

            fn message((list,): (Vec<$ty>,), limits: &Limits) -> OurResult<Bytes> {
                let mut writer = FlatWriter::list(<$ty as Element>::SCALAR, list.len(), limits)?;
                writer.write(bytemuck::cast_slice(&list))?;
                writer.finish()
            }
        }
    )*};
}

impl Returns for List<u8> {
    type Lifted = (BytesMessage,);

    fn message((BytesMessage(writer),): (BytesMessage,), limits: &Limits) -> OurResult<Bytes> {
        writer.finish_within(limits)
    }
}

list_returns!(i8, i16, u16, i32, u32, i64, u64, f32, f64);

/// A single number.
struct Number<T>(std::marker::PhantomData<T>);

impl<T> Returns for Number<T>
where
    T: Element + Send + 'static,
    (T,): ComponentNamedList + Lift,
{
    type Lifted = (T,);

    fn message((value,): (T,), limits: &Limits) -> OurResult<Bytes> {
        let mut out = Encoder::new(limits);
        out.raw(&[VERSION, 0])?;
        out.scalar(value)?;
        Ok(out.into_bytes().into())
    }
}

/// `result<bytes or string, string>`: what functions that can fail return.
struct Fallible<T>(std::marker::PhantomData<T>);

trait Bulk: Send + Sync + 'static {
    fn write(&self, out: &mut Encoder) -> OurResult<()>;
}

impl Bulk for String {
    fn write(&self, out: &mut Encoder) -> OurResult<()> {
        out.string(self)
    }
}

impl Bulk for Vec<u8> {
    fn write(&self, out: &mut Encoder) -> OurResult<()> {
        out.flat(Scalar::U8, self)
    }
}

impl Bulk for () {
    fn write(&self, _out: &mut Encoder) -> OurResult<()> {
        Ok(())
    }
}

impl<T: Bulk> Returns for Fallible<T>
where
    (Result<T, String>,): ComponentNamedList + Lift,
{
    type Lifted = (Result<T, String>,);

    fn message((value,): (Result<T, String>,), limits: &Limits) -> OurResult<Bytes> {
        let mut out = Encoder::new(limits);
        out.raw(&[VERSION, 0])?;
        out.tag(value.is_err())?;
        match value {
            Ok(value) => value.write(&mut out)?,
            Err(text) => out.string(&text)?,
        }
        Ok(out.into_bytes().into())
    }
}

fn fast<P: Params, R: Returns>() -> Fast {
    fn mismatch() -> CallError {
        CallError::Ours(Error::internal("the arguments passed the check, but have another shape"))
    }
    fn call<P: Params, R: Returns>(func: &Func, store: &mut Store<Host>, view: &ArgsView<'_>, limits: &Limits) -> Result<Bytes, CallError> {
        let params = P::read(view).ok_or_else(mismatch)?;
        let result = func.typed::<P::Lowered<'_>, R::Lifted>(&mut *store)?.call(store, params)?;
        R::message(result, limits).map_err(CallError::Ours)
    }
    fn call_async<'a, P: Params, R: Returns>(
        func: &'a Func,
        store: &'a mut Store<Host>,
        view: &'a ArgsView<'a>,
        limits: &'a Limits,
    ) -> Called<'a> {
        Box::pin(async move {
            let params = P::read(view).ok_or_else(mismatch)?;
            let result = func.typed::<P::Lowered<'_>, R::Lifted>(&mut *store)?.call_async(store, params).await?;
            R::message(result, limits).map_err(CallError::Ours)
        })
    }
    Fast { call: call::<P, R>, call_async: call_async::<P, R> }
}

/// The compiled calls of a signature's shape, if it is one of those that carry bulk.
pub(super) fn select(signature: &Signature) -> Option<Fast> {
    let result = signature.result.as_ref();
    match signature.params.as_slice() {
        [] if result.is_some_and(is_bulk) => returns::<Nothing>(result),
        [] if result.is_none() => Some(fast::<Nothing, Nothing>()),
        [param] => match &param.ty {
            Type::String => returns::<Text>(result),
            ty => match list_scalar(ty)? {
                Scalar::U8 => returns::<List<u8>>(result),
                Scalar::S8 => numeric::<i8>(result),
                Scalar::S16 => numeric::<i16>(result),
                Scalar::U16 => numeric::<u16>(result),
                Scalar::S32 => numeric::<i32>(result),
                Scalar::U32 => numeric::<u32>(result),
                Scalar::S64 => numeric::<i64>(result),
                Scalar::U64 => numeric::<u64>(result),
                Scalar::F32 => numeric::<f32>(result),
                Scalar::F64 => numeric::<f64>(result),
                Scalar::Bool | Scalar::Char => None,
            },
        },
        _ => None,
    }
}

/// The element of a `list` of scalars; a fixed-length list crosses in another way.
fn list_scalar(ty: &Type) -> Option<Scalar> {
    match ty {
        Type::List(element) => element.scalar(),
        _ => None,
    }
}

/// Whether a result is worth a compiled call where the parameters are not.
fn is_bulk(ty: &Type) -> bool {
    matches!(ty, Type::String) || list_scalar(ty).is_some() || matches!(ty, Type::Result(_))
}

/// Results of functions that take nothing, bytes or text.
fn returns<P: Params>(result: Option<&Type>) -> Option<Fast> {
    let Some(result) = result else { return Some(fast::<P, Nothing>()) };
    match result {
        Type::String => Some(fast::<P, Text>()),
        Type::Bool => Some(fast::<P, Number<bool>>()),
        Type::U32 => Some(fast::<P, Number<u32>>()),
        Type::U64 => Some(fast::<P, Number<u64>>()),
        Type::S64 => Some(fast::<P, Number<i64>>()),
        Type::F64 => Some(fast::<P, Number<f64>>()),
        Type::Result(types) if matches!(types.err.as_ref(), Some(Type::String)) => match types.ok.as_ref() {
            None => Some(fast::<P, Fallible<()>>()),
            Some(Type::String) => Some(fast::<P, Fallible<String>>()),
            Some(ok) if list_scalar(ok) == Some(Scalar::U8) => Some(fast::<P, Fallible<Vec<u8>>>()),
            Some(_) => None,
        },
        ty => match list_scalar(ty)? {
            Scalar::U8 => Some(fast::<P, List<u8>>()),
            Scalar::S8 => Some(fast::<P, List<i8>>()),
            Scalar::S16 => Some(fast::<P, List<i16>>()),
            Scalar::U16 => Some(fast::<P, List<u16>>()),
            Scalar::S32 => Some(fast::<P, List<i32>>()),
            Scalar::U32 => Some(fast::<P, List<u32>>()),
            Scalar::S64 => Some(fast::<P, List<i64>>()),
            Scalar::U64 => Some(fast::<P, List<u64>>()),
            Scalar::F32 => Some(fast::<P, List<f32>>()),
            Scalar::F64 => Some(fast::<P, List<f64>>()),
            Scalar::Bool | Scalar::Char => None,
        },
    }
}

/// Results of functions that take a list of numbers: a list of the same, one of them, a float, bytes, or nothing.
fn numeric<T>(result: Option<&Type>) -> Option<Fast>
where
    T: Element + Send + 'static,
    List<T>: Params + Returns,
    (T,): ComponentNamedList + Lift,
{
    let Some(result) = result else { return Some(fast::<List<T>, Nothing>()) };
    match result {
        ty if list_scalar(ty) == Some(T::SCALAR) => Some(fast::<List<T>, List<T>>()),
        ty if list_scalar(ty) == Some(Scalar::U8) => Some(fast::<List<T>, List<u8>>()),
        ty if ty.scalar() == Some(T::SCALAR) => Some(fast::<List<T>, Number<T>>()),
        Type::F64 => Some(fast::<List<T>, Number<f64>>()),
        Type::U64 => Some(fast::<List<T>, Number<u64>>()),
        _ => None,
    }
}
