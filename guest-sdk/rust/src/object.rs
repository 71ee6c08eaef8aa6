//! Objects: values in the cluster's shared memory, which tasks pass to each other without carrying them.
//!
//! ```
//! use rwasm::Object;
//!
//! /// Counts the lines of a file that somebody uploaded.
//! #[rwasm::export]
//! fn count_lines(file: &Object<Vec<u8>>) -> Result<u64, rwasm::object::Error> {
//!     Ok(file.bytes()?.iter().filter(|byte| **byte == b'\n').count() as u64)
//! }
//!
//! # fn main() {
//! let file = Object::put(&b"one\ntwo\n".to_vec()).unwrap();
//! assert_eq!(count_lines(&file), Ok(2));
//! # }
//! ```
//!
//! An [`Object<T>`] is a handle of a value of type `T`, which is any [`Value`] without handles. A task has the handles that it was passed, and those of what it [puts](Object::put);
//! returned, they go to the caller. [`Object::get`] decodes the value, [`Object::bytes`] and [`Object::range`] give its bytes as a view, and
//! [`Object::reader`] reads it from start to end, however large it is. Values that do not fit into the guest's memory are written piece by
//! piece with [`Object::writer`].
//!
//! # Views
//!
//! [`Bytes`] are a copy where they are few, and a window where they are many: pages of shared memory that appear in the guest's own. A window
//! costs the same whatever its size, and then a little for each page that is looked at. [`WINDOW_BYTES_MIN`] tells where one becomes the other.
//!
//! On the host, in tests, objects are in memory of the test's own.

use std::{
    fmt,
    io::{self, BufRead, Read, Write},
    marker::PhantomData,
    ops::Deref,
};

#[cfg(target_family = "wasm")]
use crate::region::Region;
use crate::{
    bindings::objects as source,
    value::{Encoder, Value, type_text},
};

/// From this size on, a view is a window instead of a copy.
///
/// Opening a window costs the same whatever its size, so copies of less are as quick. Where the two meet differs by machine; `rwasm bench`
/// measures both, and on the one that this was chosen on a look at 256 KiB takes a third of the time through a window.
pub const WINDOW_BYTES_MIN: u64 = 256 << 10;

/// The most bytes that are copied with one call; the host takes no more.
const COPY_BYTES_MAX: usize = 64 << 20;

/// How much of an object a [`Reader`] has in view.
const READER_BYTES: u64 = 16 << 20;

/// A value that others can read, and nobody can change.
pub struct Object<T> {
    handle: source::Object,
    value: PhantomData<fn() -> T>,
}

/// The type of the value behind a handle whose contract does not tell: `object` in the WIT of somebody else.
///
/// [`Object::cast`] names the type that it has.
#[derive(Clone, Copy, Debug)]
pub enum Any {}

/// What is known of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// Its id, as `rwasm list objects` names it.
    pub id: String,
    /// Bytes of its value.
    pub size: u64,
    /// The type of its value, as WIT text.
    pub value_type: String,
}

/// How something failed, for programs and for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The stable code of the error, which `rwasm explain` tells about: `RW0411`.
    pub code: String,
    /// What happened, in one line.
    pub message: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Failure {}

/// Why something was not done with an object.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// No copy of the object is left.
    Lost,
    /// There is no room, and waiting did not help.
    Quota,
    /// More bytes than the writer was made for, or than can ever fit.
    TooLarge,
    /// Fewer bytes were written than the writer was made for.
    Unfinished,
    /// A range that reaches beyond the object.
    OutOfRange,
    /// The task has as many handles open as it may.
    TooMany,
    /// The bytes are no value of the type, or the object is one of another type.
    Malformed,
    /// The object was not there in time.
    Deadline,
    /// The node keeps no objects.
    Unavailable,
    /// The task that was to make it failed, or was cancelled.
    Failed(Failure),
    /// Anything else, told for people.
    Other(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lost => "no copy of the object is left",
            Self::Quota => "there is no room for the object",
            Self::TooLarge => "more bytes than fit into the object",
            Self::Unfinished => "fewer bytes were written than were announced",
            Self::OutOfRange => "the range reaches beyond the object",
            Self::TooMany => "the task has as many handles open as it may",
            Self::Malformed => "the object is not of this type",
            Self::Deadline => "the object was not there in time",
            Self::Unavailable => "the node keeps no objects",
            Self::Failed(failure) => return failure.fmt(f),
            Self::Other(why) => why,
        })
    }
}

impl std::error::Error for Error {}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match error {
            Error::OutOfRange | Error::Unfinished => io::ErrorKind::UnexpectedEof,
            Error::TooLarge | Error::Quota => io::ErrorKind::StorageFull,
            Error::Malformed => io::ErrorKind::InvalidData,
            Error::Deadline => io::ErrorKind::TimedOut,
            Error::Unavailable => io::ErrorKind::Unsupported,
            _ => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

impl<T> Object<T> {
    /// What is known of it; waits until that is known here.
    ///
    /// # Errors
    ///
    /// Why it is not known.
    #[cfg_attr(
        not(target_family = "wasm"),
        expect(clippy::useless_conversion, reason = "the stand-in of tests has this very type, and the bindings have one of their own")
    )]
    pub fn info(&self) -> Result<Info, Error> {
        Ok(self.handle.info()?.into())
    }

    /// All of its bytes, as an object holds them.
    ///
    /// # Errors
    ///
    /// Why they are not here.
    pub fn bytes(&self) -> Result<Bytes, Error> {
        self.range(0, self.info()?.size)
    }

    /// A part of its bytes.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfRange`] if it has not so many, or why they are not here.
    pub fn range(&self, offset: u64, length: u64) -> Result<Bytes, Error> {
        let len = usize::try_from(length).map_err(|_| Error::OutOfRange)?;
        #[cfg(target_family = "wasm")]
        if length >= WINDOW_BYTES_MIN
            && let Some(bytes) = self.show(offset, len)?
        {
            return Ok(bytes);
        }
        if len <= COPY_BYTES_MAX {
            return Ok(Bytes(View::Copy(self.handle.read(offset, length)?)));
        }
        let mut all = Vec::with_capacity(len);
        while all.len() < len {
            let part = COPY_BYTES_MAX.min(len - all.len());
            all.extend(self.handle.read(offset + all.len() as u64, part as u64)?);
        }
        Ok(Bytes(View::Copy(all)))
    }

    /// A window, where there is one to be had.
    #[cfg(target_family = "wasm")]
    fn show(&self, offset: u64, len: usize) -> Result<Option<Bytes>, Error> {
        use crate::imports::objects::Error as Refused;

        let before = (offset % Region::ALIGNMENT as u64) as usize;
        let Some(region) = len.checked_add(before).and_then(Region::new) else { return Ok(None) };
        match self.handle.show(&region, offset - before as u64) {
            Ok(window) => Ok(Some(Bytes(View::Window { _window: window, region, before }))),
            // Whoever has no window can do with a copy.
            Err(Refused::TooMany | Refused::NotGrown) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads its bytes from start to end, with a part of them in memory at a time.
    ///
    /// # Errors
    ///
    /// Why its size is not known.
    pub fn reader(&self) -> Result<Reader<'_, T>, Error> {
        Ok(Reader { object: self, left: self.info()?.size, next: 0, part: Bytes(View::Copy(Vec::new())), read: 0 })
    }

    /// Another handle of the same object.
    ///
    /// # Errors
    ///
    /// [`Error::TooMany`]
    pub fn duplicate(&self) -> Result<Self, Error> {
        Ok(Self::from_handle(self.handle.duplicate()?))
    }

    /// The same object, as one of another type. Whether it is that, [`get`](Self::get) looks.
    pub fn cast<U>(self) -> Object<U> {
        Object::from_handle(self.handle)
    }

    /// The objects that its value names.
    pub(crate) fn refs(&self) -> Result<Vec<source::Object>, Error> {
        let refs = self.handle.refs()?;
        Ok(refs)
    }

    pub(crate) fn handle(&self) -> &source::Object {
        &self.handle
    }

    /// The object of a handle that code has which was generated from a WIT file; see [`bindings`](crate::bindings).
    pub fn from_handle(handle: source::Object) -> Self {
        Self { handle, value: PhantomData }
    }

    /// Its handle, for code that was generated from a WIT file; see [`bindings`](crate::bindings).
    pub fn into_handle(self) -> source::Object {
        self.handle
    }
}

impl<T: Value> Object<T> {
    /// Makes an object of a value; waits for room.
    ///
    /// # Errors
    ///
    /// [`Error::Quota`] or [`Error::TooLarge`] where there is none, [`Error::Malformed`] if the value has handles in it: those can be returned
    /// and passed, but not be put.
    pub fn put(value: &T) -> Result<Self, Error> {
        if let Some(bytes) = value.stored() {
            return Self::put_bytes(bytes);
        }
        let mut encoder = Encoder::default();
        value.store(&mut encoder);
        if encoder.refs.is_empty() { Self::put_bytes(&encoder.bytes) } else { Err(Error::Malformed) }
    }

    fn put_bytes(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() <= COPY_BYTES_MAX {
            return Ok(Self::from_handle(source::put(bytes, &type_text::<T>())?));
        }
        let mut writer = Self::writer(bytes.len() as u64)?;
        writer.append(bytes)?;
        writer.seal()
    }

    /// The value; waits until it is here.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] if the object is of another type, [`Error::Failed`] if the task that was to make it did, or why it is not here.
    pub fn get(&self) -> Result<T, Error> {
        let info = self.info()?;
        // The host writes `%` before names that are words of WIT.
        if info.value_type.replace('%', "") != type_text::<T>() {
            return Err(Error::Malformed);
        }
        let bytes = if info.size <= COPY_BYTES_MAX as u64 { self.handle.get()? } else { self.range(0, info.size)?.into_vec() };
        T::load(bytes, &|| self.refs())
    }

    /// Begins a value that is written piece by piece, and will have exactly so many bytes; waits for room.
    ///
    /// # Errors
    ///
    /// [`Error::Quota`] or [`Error::TooLarge`] where there is none.
    pub fn writer(size: u64) -> Result<Writer<T>, Error> {
        Ok(Writer { handle: source::create(size, &type_text::<T>())?, value: PhantomData })
    }
}

impl<T> fmt::Debug for Object<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Object").field(&self.info().map_or_else(|error| error.to_string(), |info| info.id)).finish()
    }
}

/// A value in the making. Dropped before it is sealed, it leaves nothing.
pub struct Writer<T> {
    handle: source::Writer,
    value: PhantomData<fn() -> T>,
}

impl<T> Writer<T> {
    /// Adds bytes at the end.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`] beyond what was announced.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), Error> {
        for part in bytes.chunks(COPY_BYTES_MAX) {
            self.handle.append(part)?;
        }
        Ok(())
    }

    /// Makes an object of all that was added.
    ///
    /// # Errors
    ///
    /// [`Error::Unfinished`], or [`Error::Malformed`] if the bytes are no value of the type.
    pub fn seal(self) -> Result<Object<T>, Error> {
        Ok(Object::from_handle(source::Writer::seal(self.handle)?))
    }
}

impl<T> fmt::Debug for Writer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

impl<T> Write for Writer<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.append(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Bytes of an object, which stay as long as this does, whatever becomes of the handle. Slices borrow from it.
pub struct Bytes(View);

enum View {
    Copy(Vec<u8>),
    /// The order matters: the window ends before its region is used for another.
    #[cfg(target_family = "wasm")]
    Window {
        _window: source::Window,
        region: Region,
        /// Bytes of the region before those that were asked for.
        before: usize,
    },
}

impl Bytes {
    /// The bytes, copied unless they are a copy already.
    pub fn into_vec(self) -> Vec<u8> {
        match self.0 {
            View::Copy(bytes) => bytes,
            #[cfg(target_family = "wasm")]
            View::Window { .. } => self.to_vec(),
        }
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            View::Copy(bytes) => bytes,
            #[cfg(target_family = "wasm")]
            View::Window { region, before, .. } => region.get(*before..).unwrap_or_default(),
        }
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bytes").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// Reads an object from start to end.
#[derive(Debug)]
pub struct Reader<'a, T> {
    object: &'a Object<T>,
    left: u64,
    next: u64,
    part: Bytes,
    read: usize,
}

impl<T> BufRead for Reader<'_, T> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.read == self.part.len() && self.left > 0 {
            let length = self.left.min(READER_BYTES);
            // The last part goes before the next one comes.
            self.part = Bytes(View::Copy(Vec::new()));
            self.read = 0;
            self.part = self.object.range(self.next, length)?;
            (self.next, self.left) = (self.next + length, self.left - length);
        }
        Ok(&self.part[self.read..])
    }

    fn consume(&mut self, amount: usize) {
        self.read = self.part.len().min(self.read + amount);
    }
}

impl<T> Read for Reader<'_, T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let count = available.len().min(buffer.len());
        buffer[..count].copy_from_slice(&available[..count]);
        self.consume(count);
        Ok(count)
    }
}
