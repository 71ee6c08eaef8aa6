//! The message of a call's result: the version, the ref table, and the value, or nothing if the function has no result.

use bytes::Bytes;
use rwasm_types::Error;

use super::{Decoder, Encoder, Limits, Payload, RefsView, is_application_error};
use crate::{Ref, Returned, Type, check};

/// Encodes the result of a call.
///
/// # Errors
///
/// As [`Signature::check_result`](crate::Signature::check_result), or
/// [`Code::VALUE_TOO_LARGE`](rwasm_types::Code::VALUE_TOO_LARGE) beyond a limit.
pub fn encode_result(ty: Option<&Type>, returned: &Returned, limits: &Limits) -> Result<Bytes, Error> {
    let Returned { refs, value } = returned;
    let length = check::result(ty, returned, limits)?;
    let mut out = Encoder::with_capacity(6 + refs.len() * Ref::BYTES + length, limits);
    out.header(refs)?;
    if let (Some(ty), Some(value)) = (ty, value) {
        out.value(ty, value, refs)?;
    }
    Ok(out.into_bytes().into())
}

/// Decodes the result of a call. Buffers in the value share the memory of the input.
///
/// # Errors
///
/// As [`ResultView::parse`], or [`Code::VALUE_TOO_LARGE`](rwasm_types::Code::VALUE_TOO_LARGE) beyond the parts that may be decoded.
pub fn decode_result(ty: Option<&Type>, bytes: &Bytes, limits: &Limits) -> Result<Returned, Error> {
    limits.check_bytes(bytes.len(), "the message")?;
    let mut input = Decoder::shared(bytes, RefsView::default(), limits);
    let refs = input.header()?;
    let value = ty.map(|ty| input.value(ty)).transpose()?;
    input.finish()?;
    Ok(Returned { refs: refs.to_vec(), value })
}

/// The result of a call, checked and borrowed from its message.
#[derive(Clone, Copy, Debug)]
pub struct ResultView<'a> {
    refs: RefsView<'a>,
    payload: Option<Payload<'a>>,
    failed: bool,
}

impl<'a> ResultView<'a> {
    /// Checks a whole message against the type of a result.
    ///
    /// # Errors
    ///
    /// [`Code::MALFORMED_VALUE`](rwasm_types::Code::MALFORMED_VALUE) with the field `offset`, or
    /// [`Code::VALUE_TOO_LARGE`](rwasm_types::Code::VALUE_TOO_LARGE) beyond the bytes or refs that are allowed.
    pub fn parse(ty: Option<&Type>, bytes: &'a [u8], limits: &Limits) -> Result<Self, Error> {
        limits.check_bytes(bytes.len(), "the message")?;
        let mut input = Decoder::new(bytes, RefsView::default(), limits);
        let refs = input.header()?;
        let payload = ty.map(|ty| Payload::read(&mut input, ty)).transpose()?;
        input.finish()?;
        let failed = ty.zip(payload).is_some_and(|(ty, payload)| is_application_error(ty, payload.stored()));
        Ok(Self { refs, payload, failed })
    }

    /// What handles in the value point at.
    pub fn refs(&self) -> RefsView<'a> {
        self.refs
    }

    /// The value; `None` if the function has no result. Its stored form is what an object of it holds.
    pub fn payload(&self) -> Option<Payload<'a>> {
        self.payload
    }

    /// Whether this is the error case of a `result`: the function ran, and says that it failed.
    pub fn is_application_error(&self) -> bool {
        self.failed
    }
}
