//! The message of a call's arguments.
//!
//! ```text
//! 1 | refs: count, entries | mode 0 | parameter, parameter, …
//! 1 | refs: count, entries | mode 1 | tag, parameter or ref, tag, parameter or ref, …
//! ```

use bytes::Bytes;
use rwasm_types::Error;

use super::{Decoder, Encoder, Limits, Payload, RefsView, VERSION};
use crate::{
    Arg, Args, Param, Ref, Signature, check,
    fault::{Root, brief},
};

/// All parameters are inline, without tags.
const MODE_INLINE: u8 = 0;
/// Each parameter has a tag; at least one is given by ref.
const MODE_TAGGED: u8 = 1;

/// Encodes the arguments of a call.
///
/// # Errors
///
/// As [`Signature::check_args`], or [`Code::VALUE_TOO_LARGE`](rwasm_types::Code::VALUE_TOO_LARGE) beyond a limit.
pub fn encode_args(signature: &Signature, args: &Args, limits: &Limits) -> Result<Bytes, Error> {
    check::ref_count(args.refs.len())?;
    signature.check_arity(args.params.len())?;
    let mut length = HEADER_BYTES_MAX + args.refs.len() * Ref::BYTES;
    for (index, (param, arg)) in signature.params.iter().zip(&args.params).enumerate() {
        let size = check::arg(&param.ty, arg, &args.refs, limits);
        length = length.saturating_add(1 + size.map_err(|fault| fault.into_error(Root::Param(index, &param.name)))?);
    }
    let mut out = Encoder::with_capacity(length, limits);
    out.header(&args.refs)?;
    let tagged = args.params.iter().any(|arg| matches!(arg, Arg::Ref(_)));
    out.scalar(if tagged { MODE_TAGGED } else { MODE_INLINE })?;
    for (param, arg) in signature.params.iter().zip(&args.params) {
        match arg {
            Arg::Ref(index) => {
                out.tag(true)?;
                out.leb128(*index as usize)?;
            }
            Arg::Value(value) => {
                if tagged {
                    out.tag(false)?;
                }
                out.value(&param.ty, value, &args.refs)?;
            }
        }
    }
    Ok(out.into_bytes().into())
}

/// The most bytes before the entries of the ref table, and of the mode after it.
const HEADER_BYTES_MAX: usize = 1 + 5 + 1;

/// Decodes the arguments of a call. Buffers in the values share the memory of the input.
///
/// # Errors
///
/// As [`ArgsView::parse`], or [`Code::VALUE_TOO_LARGE`](rwasm_types::Code::VALUE_TOO_LARGE) beyond the parts that may be decoded.
pub fn decode_args(signature: &Signature, bytes: &Bytes, limits: &Limits) -> Result<Args, Error> {
    limits.check_bytes(bytes.len(), "the message")?;
    let mut input = Decoder::shared(bytes, RefsView::default(), limits);
    let refs = input.header()?;
    let params = read(&mut input, refs, signature, Arg::Ref, |input, param| input.value(&param.ty).map(Arg::Value))?;
    Ok(Args { refs: refs.to_vec(), params })
}

/// Puts the values of objects into the places of the arguments that are given by ref. What handles in those values point at comes into the
/// ref table, behind what is there.
///
/// # Errors
///
/// As [`ArgsView::parse`], what `value` says, [`Code::MALFORMED_VALUE`](rwasm_types::Code::MALFORMED_VALUE) if what it gives is no value of
/// the parameter, or [`Code::VALUE_TOO_LARGE`](rwasm_types::Code::VALUE_TOO_LARGE) beyond a limit.
pub fn inline_args<V: AsRef<[u8]>>(
    signature: &Signature,
    message: &[u8],
    limits: &Limits,
    mut value: impl FnMut(Ref) -> Result<(V, Vec<Ref>), Error>,
) -> Result<Bytes, Error> {
    let view = ArgsView::parse(signature, message, &Limits { bytes: message.len(), ..*limits })?;
    let mut refs = view.refs.to_vec();
    let mut given = Vec::with_capacity(view.params.len());
    let mut length = HEADER_BYTES_MAX + message.len();
    for arg in &view.params {
        given.push(match arg {
            ArgView::Inline(_) => None,
            ArgView::Ref(index) => {
                let entry = view.refs.get(*index).ok_or_else(|| Error::internal("a checked ref is not there"))?;
                let (stored, named) = value(entry)?;
                // A length in front of it.
                length = length.saturating_add(stored.as_ref().len() + 5 + named.len() * Ref::BYTES);
                let first = refs.len();
                refs.extend(&named);
                Some((stored, named, first))
            }
        });
    }
    limits.check_bytes(length, "the message with the values of its refs")?;
    check::ref_count(refs.len())?;
    let mut out = Encoder::with_capacity(length, limits);
    out.header(&refs)?;
    out.scalar(MODE_INLINE)?;
    for ((param, arg), given) in signature.params.iter().zip(&view.params).zip(&given) {
        match (arg, given) {
            (ArgView::Inline(payload), _) => out.payload_part(*payload)?,
            (ArgView::Ref(_), Some((stored, named, first))) if param.ty.has_handles() && !named.is_empty() => {
                let mut value = super::decode_stored(&param.ty, &Bytes::copy_from_slice(stored.as_ref()), named, limits)?;
                let first = u32::try_from(*first).map_err(|_| Error::internal("a ref table has more entries than its limit"))?;
                value.shift_handles(first);
                out.value(&param.ty, &value, &refs)?;
            }
            (ArgView::Ref(_), Some((stored, named, _))) => {
                out.payload_part(super::check_stored(&param.ty, stored.as_ref(), named, limits)?)?;
            }
            (ArgView::Ref(_), None) => return Err(Error::internal("an argument by ref has no value")),
        }
    }
    Ok(out.into_bytes().into())
}

/// What a message names, without a look at the rest of it.
///
/// # Errors
///
/// [`Code::MALFORMED_VALUE`](rwasm_types::Code::MALFORMED_VALUE) if it does not begin as a message does.
pub fn refs_of(message: &[u8]) -> Result<Vec<Ref>, Error> {
    let limits = Limits { bytes: message.len(), ..Limits::default() };
    Decoder::new(message, RefsView::default(), &limits).header().map(RefsView::to_vec)
}

/// Has a message of arguments or of a result name other things than it does; everything else in it stays.
///
/// # Errors
///
/// [`Code::MALFORMED_VALUE`](rwasm_types::Code::MALFORMED_VALUE) if it does not begin as a message does.
pub fn map_refs(message: &Bytes, mut to: impl FnMut(Ref) -> Ref) -> Result<Bytes, Error> {
    let limits = Limits { bytes: message.len(), ..Limits::default() };
    let mut input = Decoder::new(message, RefsView::default(), &limits);
    let refs = input.header()?;
    let mapped: Vec<Ref> = refs.iter().map(&mut to).collect();
    let mut out = Encoder::with_capacity(message.len(), &limits);
    out.header(&mapped)?;
    out.raw(input.rest())?;
    Ok(out.into_bytes().into())
}

/// The arguments of a call, checked and borrowed from their message.
#[derive(Clone, Debug)]
pub struct ArgsView<'a> {
    refs: RefsView<'a>,
    params: Vec<ArgView<'a>>,
}

/// What one parameter is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArgView<'a> {
    /// A value.
    Inline(Payload<'a>),
    /// The value of the object at this index of the refs.
    Ref(u32),
}

impl<'a> ArgsView<'a> {
    /// Checks a whole message against a signature.
    ///
    /// # Errors
    ///
    /// [`Code::MALFORMED_VALUE`](rwasm_types::Code::MALFORMED_VALUE) with the field `offset`, and `parameter` where it is one, or
    /// [`Code::VALUE_TOO_LARGE`](rwasm_types::Code::VALUE_TOO_LARGE) beyond the bytes or refs that are allowed.
    pub fn parse(signature: &Signature, bytes: &'a [u8], limits: &Limits) -> Result<Self, Error> {
        limits.check_bytes(bytes.len(), "the message")?;
        let mut input = Decoder::new(bytes, RefsView::default(), limits);
        let refs = input.header()?;
        let params = read(&mut input, refs, signature, ArgView::Ref, |input, param| Payload::read(input, &param.ty).map(ArgView::Inline))?;
        Ok(Self { refs, params })
    }

    /// What handles and by-ref parameters point at.
    pub fn refs(&self) -> RefsView<'a> {
        self.refs
    }

    /// One for each parameter, in order.
    pub fn params(&self) -> &[ArgView<'a>] {
        &self.params
    }
}

/// Reads what follows the ref table, to the end.
fn read<'a, A>(
    input: &mut Decoder<'a>,
    refs: RefsView<'a>,
    signature: &Signature,
    by_ref: impl Fn(u32) -> A,
    mut inline: impl FnMut(&mut Decoder<'a>, &Param) -> Result<A, Error>,
) -> Result<Vec<A>, Error> {
    let start = input.offset();
    let tagged = match input.scalar::<u8>()? {
        MODE_INLINE => false,
        MODE_TAGGED => true,
        other => return Err(input.malformed(start, format_args!("{other} is no mode of arguments"))),
    };
    let mut any_by_ref = false;
    let mut params = Vec::with_capacity(signature.params.len());
    for param in &signature.params {
        let arg = if tagged && input.tag()? {
            any_by_ref = true;
            read_ref(input, refs, param).map(&by_ref)
        } else {
            inline(input, param)
        };
        params.push(arg.map_err(|error| error.with("parameter", &param.name))?);
    }
    input.finish()?;
    if tagged && !any_by_ref {
        return Err(input.malformed(start, "the mode is 1, but no parameter is given by ref"));
    }
    Ok(params)
}

fn read_ref(input: &mut Decoder<'_>, refs: RefsView<'_>, param: &Param) -> Result<u32, Error> {
    let start = input.offset();
    let index = input.leb128()?;
    let Some(entry) = refs.get(index) else { return Err(input.malformed(start, format_args!("there is no ref {index}"))) };
    if check::by_ref(&param.ty, entry).is_err() {
        return Err(input.malformed(start, format_args!("{entry} cannot be the value of a `{}`", brief(&param.ty))));
    }
    Ok(index)
}

impl Encoder {
    /// Writes what every message begins with.
    pub fn header(&mut self, refs: &[Ref]) -> Result<(), Error> {
        self.scalar(VERSION)?;
        self.leb128(refs.len())?;
        refs.iter().try_for_each(|entry| self.raw(&entry.to_bytes()))
    }
}

impl Encoder {
    /// Writes a checked value as a part of a message.
    fn payload_part(&mut self, payload: Payload<'_>) -> Result<(), Error> {
        match payload {
            Payload::Text(text) => self.string(text),
            Payload::Flat(scalar, bytes) => self.flat(scalar, bytes),
            Payload::Encoded(bytes) => self.raw(bytes),
        }
    }
}

impl<'a> Decoder<'a> {
    /// Reads what every message begins with. From here on, handles point into the table that was read.
    pub(super) fn header(&mut self) -> Result<RefsView<'a>, Error> {
        let start = self.offset();
        match self.scalar::<u8>()? {
            VERSION => {}
            other => return Err(self.malformed(start, format_args!("version {other} of the codec is not known"))),
        }
        let refs = self.ref_table()?;
        self.set_refs(refs);
        Ok(refs)
    }
}
