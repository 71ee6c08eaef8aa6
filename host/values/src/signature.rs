//! A function's signature, and the arguments and result of one call of it.

use rwasm_types::{Code, Error};
use serde::{Deserialize, Serialize};

use crate::{
    Label, Ref, Type, Value, check,
    codec::Limits,
    fault::{Root, brief},
};

/// A parameter of a function.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Param {
    /// Its name, unique in the function.
    pub name: Label,
    /// Its type.
    pub ty: Type,
}

/// The parameters and the result of a function.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Signature {
    /// The parameters, in order.
    pub params: Vec<Param>,
    /// The result's type, if the function has a result.
    pub result: Option<Type>,
}

/// The arguments of one call, with the refs that they mention.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Args {
    /// What handles and by-ref parameters point at, by index.
    pub refs: Vec<Ref>,
    /// One for each parameter, in order.
    pub params: Vec<Arg>,
}

/// What one parameter is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arg {
    /// A value.
    Value(Value),
    /// The value of the object at this index of the refs, which the function receives as if it had been given.
    Ref(u32),
}

impl From<Value> for Arg {
    fn from(value: Value) -> Self {
        Self::Value(value)
    }
}

/// The result of one call, or the value of an object, with the refs that it mentions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Returned {
    /// What handles in the value point at, by index.
    pub refs: Vec<Ref>,
    /// The value; `None` if the function has no result.
    pub value: Option<Value>,
}

impl Signature {
    /// Checks that arguments fit: their number, their types, and that each index points at a ref of the right kind.
    ///
    /// # Errors
    ///
    /// [`Code::WRONG_ARITY`]; or [`Code::WRONG_TYPE`] with the fields `parameter`, `path`, `expected` and `given`;
    /// or [`Code::VALUE_TOO_LARGE`] if there are too many refs.
    pub fn check_args(&self, args: &Args) -> Result<(), Error> {
        check::ref_count(args.refs.len())?;
        self.check_arity(args.params.len())?;
        for (index, (param, arg)) in self.params.iter().zip(&args.params).enumerate() {
            check::arg(&param.ty, arg, &args.refs, &Limits::NONE).map_err(|fault| fault.into_error(Root::Param(index, &param.name)))?;
        }
        Ok(())
    }

    /// Checks that a result fits, as [`Signature::check_args`] does.
    ///
    /// # Errors
    ///
    /// [`Code::WRONG_TYPE`] with the fields `path`, `expected` and `given`, or [`Code::VALUE_TOO_LARGE`] if there are too many refs.
    pub fn check_result(&self, returned: &Returned) -> Result<(), Error> {
        check::result(self.result.as_ref(), returned, &Limits::NONE).map(drop)
    }

    /// Checks the number of arguments alone.
    pub(crate) fn check_arity(&self, given: usize) -> Result<(), Error> {
        if given == self.params.len() { Ok(()) } else { Err(self.wrong_arity(given)) }
    }

    /// How many arguments must be there: trailing parameters of an `option` type may be left out of texts.
    pub(crate) fn required(&self) -> usize {
        self.params.iter().rposition(|param| !matches!(param.ty, Type::Option(_))).map_or(0, |last| last + 1)
    }

    /// The error of a wrong number of arguments.
    pub(crate) fn wrong_arity(&self, given: usize) -> Error {
        let (least, most) = (self.required(), self.params.len());
        let takes = match (least, most) {
            (_, 0) => "no arguments".to_owned(),
            (1, 1) => "1 argument".to_owned(),
            _ if least == most => format!("{most} arguments"),
            _ => format!("{least} to {most} arguments"),
        };
        let error = Error::new(Code::WRONG_ARITY, format!("the function takes {takes}, but {given} {} given", were(given)))
            .hint(format!("its type is `{}`", brief(self)))
            .with("expected", most)
            .with("given", given);
        match self.params.get(given) {
            Some(param) if given < least => error.with("parameter", &param.name),
            _ => error,
        }
    }
}

fn were(count: usize) -> &'static str {
    if count == 1 { "was" } else { "were" }
}

impl Returned {
    /// Whether this is the error case of a `result`: the function ran, and says that it failed.
    pub fn is_application_error(&self) -> bool {
        matches!(self.value, Some(Value::Result(Err(_))))
    }
}
