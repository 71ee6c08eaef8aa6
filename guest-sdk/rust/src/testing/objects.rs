//! The same types and functions as the bindings of `rwasm:core/objects`, with objects in memory of the process. There are no windows.

use std::{
    cell::{Cell, RefCell},
    sync::Arc,
};

use crate::object::{Error, Failure, Info};

thread_local! {
    static PUT: Cell<u32> = const { Cell::new(0) };
}

#[derive(Clone, Debug)]
pub struct Object(Arc<Result<Value, Failure>>);

#[derive(Debug)]
struct Value {
    info: Info,
    bytes: Vec<u8>,
    refs: Vec<Object>,
}

#[derive(Debug)]
pub struct Writer {
    size: usize,
    value_type: String,
    bytes: RefCell<Vec<u8>>,
}

impl Object {
    /// An object that is there.
    pub(crate) fn new(bytes: Vec<u8>, value_type: &str, refs: Vec<Self>) -> Self {
        let index = PUT.replace(PUT.get() + 1);
        let info = Info { id: format!("o1-1-1-{}", index + 1), size: bytes.len() as u64, value_type: value_type.to_owned() };
        Self(Arc::new(Ok(Value { info, bytes, refs })))
    }

    /// The object of a task that failed.
    pub(crate) fn failed(failure: Failure) -> Self {
        Self(Arc::new(Err(failure)))
    }

    fn value(&self) -> Result<&Value, Error> {
        self.0.as_ref().as_ref().map_err(|failure| Error::Failed(failure.clone()))
    }

    pub(crate) fn info(&self) -> Result<Info, Error> {
        Ok(self.value()?.info.clone())
    }

    pub(crate) fn get(&self) -> Result<Vec<u8>, Error> {
        Ok(self.value()?.bytes.clone())
    }

    pub(crate) fn read(&self, offset: u64, length: u64) -> Result<Vec<u8>, Error> {
        let bytes = &self.value()?.bytes;
        let range = || Some(usize::try_from(offset).ok()?..usize::try_from(offset.checked_add(length)?).ok()?);
        range().and_then(|range| bytes.get(range)).map(<[u8]>::to_vec).ok_or(Error::OutOfRange)
    }

    pub(crate) fn refs(&self) -> Result<Vec<Self>, Error> {
        Ok(self.value()?.refs.clone())
    }

    /// For generated code, which nothing calls here: handles come from a host of Wasm.
    #[doc(hidden)]
    pub fn from_handle(_handle: u32) -> Self {
        Self::failed(Failure { code: String::new(), message: "there are no handles outside of Wasm".to_owned() })
    }

    /// The same.
    #[doc(hidden)]
    pub fn take_handle(&self) -> u32 {
        0
    }

    pub(crate) fn duplicate(&self) -> Result<Self, Error> {
        Ok(self.clone())
    }
}

impl Writer {
    pub(crate) fn append(&self, bytes: &[u8]) -> Result<(), Error> {
        let mut all = self.bytes.borrow_mut();
        if all.len() + bytes.len() > self.size {
            return Err(Error::TooLarge);
        }
        all.extend_from_slice(bytes);
        Ok(())
    }

    pub(crate) fn seal(this: Self) -> Result<Object, Error> {
        let bytes = this.bytes.into_inner();
        if bytes.len() < this.size { Err(Error::Unfinished) } else { put(&bytes, &this.value_type) }
    }
}

pub(crate) fn create(size: u64, value_type: &str) -> Result<Writer, Error> {
    let size = usize::try_from(size).map_err(|_| Error::TooLarge)?;
    Ok(Writer { size, value_type: value_type.to_owned(), bytes: RefCell::default() })
}

pub(crate) fn put(bytes: &[u8], value_type: &str) -> Result<Object, Error> {
    if value_type == "string" && std::str::from_utf8(bytes).is_err() {
        return Err(Error::Malformed);
    }
    Ok(Object::new(bytes.to_vec(), value_type, Vec::new()))
}
