//! The same types and functions as the bindings of `rwasm:core/tasks`, but for `submit`: it runs the call at once. And the other side of a call,
//! which on a cluster is the host's: arguments are read, and the result is stored.

use std::{
    any::Any,
    cell::{Cell, RefCell},
    collections::HashMap,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
};

use super::{CONTEXT, objects::Object};
use crate::{
    object::{self, Failure},
    value::{Decoder, Encoder, Value, type_text},
};

thread_local! {
    static STARTED: Cell<u32> = const { Cell::new(0) };
    static ANSWERS: RefCell<HashMap<Target, Rc<Answer>>> = RefCell::default();
}

/// An artifact, where it is not the running one, and an export of it.
type Target = (Option<&'static str>, &'static str);

/// What stands in for an export of another artifact.
type Answer = dyn Fn(&Received) -> Result<Stored, Failure>;

/// The code of a trap, which is what a panic of a guest is.
const TRAP: &str = "RW0401";
/// The code of a call of what is not there.
const NO_SUCH_EXPORT: &str = "RW0201";
/// The code of an argument that does not fit.
const WRONG_TYPE: &str = "RW0204";

/// A task that has ended.
#[derive(Debug)]
pub struct Task {
    id: String,
    output: Object,
}

impl Task {
    pub(crate) fn id(&self) -> String {
        self.id.clone()
    }

    pub(crate) fn output(&self) -> Object {
        self.output.clone()
    }

    /// It has ended already.
    pub(crate) fn cancel(&self) {}
}

/// Runs a call as a task of its own.
pub(crate) fn submit(bytes: Vec<u8>, refs: &[&Object], run: impl FnOnce(&Received) -> Result<Stored, Failure>) -> Result<Task, Failure> {
    let id = format!("t1-2-{}", STARTED.replace(STARTED.get() + 1));
    let received = Received { bytes, refs: refs.iter().copied().cloned().collect() };
    let starting = CONTEXT.with_borrow_mut(|context| mem::replace(&mut context.task_id, id.clone()));
    let ended = catch_unwind(AssertUnwindSafe(|| run(&received)));
    CONTEXT.with_borrow_mut(|context| context.task_id = starting);
    let output = match ended {
        Ok(Ok(Stored { bytes, value_type, refs })) => Object::new(bytes, &value_type, refs),
        // What the cluster refuses before it starts anything is no task.
        Ok(Err(failure)) if failure.code == NO_SUCH_EXPORT => return Err(failure),
        Ok(Err(failure)) => Object::failed(failure),
        Err(panic) => Object::failed(Failure { code: TRAP.to_owned(), message: format!("the guest trapped: {}", told(&*panic)) }),
    };
    Ok(Task { id, output })
}

fn told(panic: &(dyn Any + Send)) -> &str {
    panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic")
}

/// All tasks have ended.
pub(crate) fn wait(objects: &[&Object], count: u32, _timeout_ms: Option<u64>) -> Result<Vec<u32>, Failure> {
    Ok((0..count).take(objects.len()).collect())
}

/// Sets what an export of another artifact answers on this thread.
pub fn set_answer(artifact: Option<&'static str>, export: &'static str, answer: impl Fn(&Received) -> Result<Stored, Failure> + 'static) {
    ANSWERS.with_borrow_mut(|answers| answers.insert((artifact, export), Rc::new(answer)));
}

/// What an export of another artifact answers.
///
/// # Errors
///
/// If nobody said so, or what the answer fails with.
pub fn answer(artifact: Option<&'static str>, export: &'static str, received: &Received) -> Result<Stored, Failure> {
    // Answers may start tasks, too.
    match ANSWERS.with_borrow(|answers| answers.get(&(artifact, export)).cloned()) {
        Some(answer) => answer(received),
        None => {
            let message = format!("`{export}` is an export of another artifact, and this test has not said what it answers");
            Err(Failure { code: NO_SUCH_EXPORT.to_owned(), message })
        }
    }
}

/// The arguments of a call where it is run.
#[derive(Debug)]
pub struct Received {
    bytes: Vec<u8>,
    refs: Vec<Object>,
}

impl Received {
    /// Reads the arguments by `read`, which takes each of them.
    ///
    /// # Errors
    ///
    /// What is wrong with them, or with the objects that were given for them.
    pub fn read<A>(&self, read: impl FnOnce(&mut Taken<'_>) -> Result<A, object::Error>) -> Result<A, Failure> {
        self.take(read).map_err(|error| match error {
            object::Error::Failed(failure) => failure,
            error => Failure { code: WRONG_TYPE.to_owned(), message: format!("an argument: {error}") },
        })
    }

    fn take<A>(&self, read: impl FnOnce(&mut Taken<'_>) -> Result<A, object::Error>) -> Result<A, object::Error> {
        let refs = || Ok(self.refs.clone());
        let mut from = Decoder::new(&self.bytes, &refs);
        let tagged = from.tag(2)? == 1;
        let mut taken = Taken { from, tagged, given: false, refs: &self.refs };
        let arguments = read(&mut taken)?;
        if taken.given != tagged {
            return Err(object::Error::Malformed);
        }
        taken.from.end()?;
        Ok(arguments)
    }
}

/// The arguments that are left.
#[derive(Debug)]
pub struct Taken<'a> {
    from: Decoder<'a>,
    /// Whether each argument says if it is given by ref, and whether one was.
    tagged: bool,
    given: bool,
    refs: &'a [Object],
}

impl Taken<'_> {
    /// The next argument.
    ///
    /// # Errors
    ///
    /// What is wrong with it, or with the object that was given for it.
    pub fn argument<T: Value>(&mut self) -> Result<T, object::Error> {
        if !self.tagged || self.from.tag(2)? == 0 {
            return T::decode(&mut self.from);
        }
        if T::HANDLE {
            return Err(object::Error::Malformed);
        }
        self.given = true;
        let index = self.from.number()? as usize;
        let object = self.refs.get(index).ok_or(object::Error::Malformed)?;
        crate::Object::<T>::from_handle(object.clone()).get()
    }
}

/// A result as an object holds it.
#[derive(Debug)]
pub struct Stored {
    bytes: Vec<u8>,
    value_type: String,
    refs: Vec<Object>,
}

impl Stored {
    /// What a task that returned this leaves.
    pub fn new<T: Value>(value: &T) -> Self {
        let mut encoder = Encoder::default();
        value.store(&mut encoder);
        let refs = encoder.refs.iter().copied().cloned().collect();
        Self { bytes: encoder.bytes, value_type: type_text::<T>(), refs }
    }
}
