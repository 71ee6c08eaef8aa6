//! Whether arguments fit their parameters; whether a value fits its type is said in [`codec`](crate::codec).

use rwasm_types::{Code, Error};

use crate::{
    Arg, Ref, Resource, Returned, Type,
    codec::{Limits, leb128_len, measure},
    fault::{Fault, Fit, Root},
};

/// Checks the size of a ref table.
pub(crate) fn ref_count(count: usize) -> Result<(), Error> {
    if count <= Limits::REFS_MAX as usize {
        return Ok(());
    }
    Err(Error::new(Code::VALUE_TOO_LARGE, format!("a message has {count} refs, but may have {}", Limits::REFS_MAX)))
}

/// Checks an argument, and says how many bytes it takes without its tag.
pub(crate) fn arg(ty: &Type, arg: &Arg, refs: &[Ref], limits: &Limits) -> Fit<usize> {
    match arg {
        Arg::Value(value) => measure(ty, value, refs, limits),
        Arg::Ref(index) => match refs.get(*index as usize) {
            Some(entry) => by_ref(ty, *entry).map(|()| leb128_len(*index)),
            None => Err(Fault::ty(ty, "a ref that is not in the table")),
        },
    }
}

/// Checks a result, and says how many bytes it takes.
pub(crate) fn result(ty: Option<&Type>, returned: &Returned, limits: &Limits) -> Result<usize, Error> {
    ref_count(returned.refs.len())?;
    match (ty, &returned.value) {
        (None, None) => Ok(0),
        (Some(ty), Some(value)) => measure(ty, value, &returned.refs, limits).map_err(|fault| fault.into_error(Root::Value)),
        (Some(ty), None) => Err(Error::new(Code::WRONG_TYPE, format!("the result must be `{ty}`, but there is none"))),
        (None, Some(_)) => Err(Error::new(Code::WRONG_TYPE, "there is a result, but the function has none")),
    }
}

/// Checks that a parameter can be given by ref: the ref is an object's, and the parameter does not take the handle itself.
pub(crate) fn by_ref(ty: &Type, entry: Ref) -> Fit<()> {
    match entry {
        Ref::Object(_) if !ty.is_storable() => Err(Fault::says(ty, entry, format!("is `{ty}`, whose values cannot be passed"))),
        Ref::Object(_) if ty.may_be_by_ref() => Ok(()),
        Ref::Object(_) => Err(Fault::says(ty, entry, format!("is `{ty}`, which takes the handle of an object and not the object's value"))),
        Ref::Actor(_) => Err(Fault::ty(ty, entry)),
    }
}

impl Type {
    /// Whether a parameter of this type can be given the ref of an object, and receives its value: all but the object handle itself.
    pub(crate) fn may_be_by_ref(&self) -> bool {
        !matches!(self, Self::Own(Resource::Object) | Self::Borrow(Resource::Object))
    }
}

impl Resource {
    /// Whether a handle of this resource can stand for the ref.
    pub(crate) fn takes(&self, entry: Ref) -> bool {
        matches!((self, entry), (Self::Object, Ref::Object(_)) | (Self::Named(_), Ref::Actor(_)))
    }
}
