//! The stored form: how an object holds its value. A string or a flat list is its bare bytes, so that an object of type `list<u8>` is
//! exactly the bytes of the file it came from; anything else is as in a message. The refs of handles are kept beside the object.

use bytes::Bytes;
use rwasm_types::Error;

use super::{Decoder, Encoder, Limits, Payload, measure};
use crate::{Ref, Type, Value, check, fault::Root};

/// Encodes the value of an object.
///
/// # Errors
///
/// [`Code::WRONG_TYPE`](rwasm_types::Code::WRONG_TYPE) if the value is of another type, or
/// [`Code::VALUE_TOO_LARGE`](rwasm_types::Code::VALUE_TOO_LARGE) beyond a limit.
pub fn encode_stored(ty: &Type, value: &Value, refs: &[Ref], limits: &Limits) -> Result<Bytes, Error> {
    check::ref_count(refs.len())?;
    let length = measure(ty, value, refs, limits).map_err(|fault| fault.into_error(Root::Value))?;
    match (ty, value) {
        (Type::String, Value::String(text)) => Ok(Bytes::copy_from_slice(text.as_bytes())),
        (_, Value::Flat(flat)) => Ok(flat.bytes().clone()),
        _ => {
            let mut out = Encoder::with_capacity(length, limits);
            out.value(ty, value, refs)?;
            Ok(out.into_bytes().into())
        }
    }
}

/// Decodes the value of an object. Its buffers share the memory of the input.
///
/// # Errors
///
/// As [`check_stored`], or [`Code::VALUE_TOO_LARGE`](rwasm_types::Code::VALUE_TOO_LARGE) beyond the parts that may be decoded.
pub fn decode_stored(ty: &Type, bytes: &Bytes, refs: &[Ref], limits: &Limits) -> Result<Value, Error> {
    limits.check_bytes(bytes.len(), "the value")?;
    check::ref_count(refs.len())?;
    let mut input = Decoder::shared(bytes, refs.into(), limits);
    let value = match ty {
        Type::String => Value::String(input.text(bytes.len())?.to_owned()),
        Type::List(element) if let Some(scalar) = element.scalar() => {
            let bytes = input.elements(scalar, bytes.len() / scalar.width())?;
            input.buffer(scalar, bytes)
        }
        _ => input.value(ty)?,
    };
    input.finish()?;
    Ok(value)
}

/// Checks the value of an object without decoding it.
///
/// # Errors
///
/// [`Code::MALFORMED_VALUE`](rwasm_types::Code::MALFORMED_VALUE) with the field `offset`, or
/// [`Code::VALUE_TOO_LARGE`](rwasm_types::Code::VALUE_TOO_LARGE) beyond the bytes or refs that are allowed.
pub fn check_stored<'a>(ty: &Type, bytes: &'a [u8], refs: &'a [Ref], limits: &Limits) -> Result<Payload<'a>, Error> {
    limits.check_bytes(bytes.len(), "the value")?;
    check::ref_count(refs.len())?;
    Payload::read_stored(&mut Decoder::new(bytes, refs.into(), limits), ty)
}

/// Whether a value in its stored form is the error case of a `result`: the function ran, and says that it failed.
pub fn is_application_error(ty: &Type, stored: &[u8]) -> bool {
    matches!(ty, Type::Result(_)) && stored.first() == Some(&1)
}
