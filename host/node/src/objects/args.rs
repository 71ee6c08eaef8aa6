//! Arguments that are given by ref: values of objects take their places before a task starts.

use bytes::Bytes;
use rwasm_objects::refs::not_found;
use rwasm_types::{Code, Error, Result, Tenant};
use rwasm_values::{
    Limits, Ref, Signature, Type,
    codec::{self, ArgView, ArgsView},
};

use super::Objects;

/// Bytes before the refs of a message that names nothing.
const NO_REFS: &[u8] = &[codec::VERSION, 0];

impl Objects {
    /// Checks that what arguments name is there, and that values given by ref have the types of their parameters, as far as they are ready.
    /// Gives whether all is ready.
    ///
    /// # Errors
    ///
    /// [`Code::NO_SUCH_OBJECT`], [`Code::OBJECT_LOST`], [`Code::OBJECT_TYPE`], or that the message is none.
    pub(crate) fn check_args(&self, tenant: &Tenant, signature: &Signature, args: &[u8]) -> Result<bool> {
        let view = view(signature, args)?;
        let mut ready = true;
        for entry in view.refs().iter() {
            if let Ref::Object(id) = entry {
                ready &= self.descriptor(tenant, id)?.is_some();
            }
        }
        for (param, arg) in signature.params.iter().zip(view.params()) {
            let ArgView::Ref(index) = arg else { continue };
            let Some(Ref::Object(id)) = view.refs().get(*index) else { continue };
            if let Some(descriptor) = self.descriptor(tenant, id)?
                && descriptor != param.ty.encode()
            {
                return Err(mistyped(id, &descriptor, &param.ty).with("parameter", &param.name));
            }
        }
        Ok(ready)
    }
}

/// Whether a message of arguments names anything.
pub(crate) fn names_objects(args: &[u8]) -> bool {
    !args.is_empty() && !args.starts_with(NO_REFS)
}

/// The objects that arguments name.
///
/// # Errors
///
/// If the message is none.
pub(crate) fn named(args: &[u8]) -> Result<Vec<rwasm_types::ObjectId>> {
    let refs = codec::refs_of(args)?;
    Ok(refs.into_iter().filter_map(|entry| if let Ref::Object(id) = entry { Some(id) } else { None }).collect())
}

/// The arguments with the values of objects in the places of their refs.
///
/// # Errors
///
/// [`Code::NO_SUCH_OBJECT`] or [`Code::OBJECT_LOST`] if one is not there, [`Code::VALUE_TOO_LARGE`] if all of them are too much.
pub(crate) fn inlined(objects: &Objects, tenant: &Tenant, signature: &Signature, args: &Bytes) -> Result<Bytes> {
    if !names_objects(args) {
        return Ok(args.clone());
    }
    let view = view(signature, args)?;
    if !view.params().iter().any(|arg| matches!(arg, ArgView::Ref(_))) {
        return Ok(args.clone());
    }
    codec::inline_args(signature, args, &Limits::default(), |entry| {
        let Ref::Object(id) = entry else { return Err(Error::internal("an actor stands for a value")) };
        let value = objects.look(tenant, id)?.ok_or_else(|| not_found(id))?;
        let refs = value.meta.refs.iter().copied().map(Ref::Object).collect();
        Ok((value, refs))
    })
}

impl AsRef<[u8]> for super::Value {
    fn as_ref(&self) -> &[u8] {
        self.bytes()
    }
}

fn view<'a>(signature: &Signature, args: &'a [u8]) -> Result<ArgsView<'a>> {
    ArgsView::parse(signature, args, &Limits { bytes: args.len(), ..Limits::default() })
}

/// The error of an object of another type.
fn mistyped(id: rwasm_types::ObjectId, descriptor: &[u8], wanted: &Type) -> Error {
    let given = Type::decode(descriptor).map_or_else(|_| "a type that is not known".to_owned(), |ty| format!("`{ty}`"));
    Error::new(Code::OBJECT_TYPE, format!("object {id} is of type {given}, and `{wanted}` is wanted")).with("object", id)
}
