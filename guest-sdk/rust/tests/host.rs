//! What an author's tests rely on: exported functions are called as they are, and the cluster's stand-ins tell and keep what they should.

#![expect(missing_docs, reason = "bindings are generated here, and nobody reads a test's documentation")]

use std::{
    io::{Read, Write},
    num::ParseIntError,
};

use rwasm::{
    Object,
    log::Level,
    object::Error,
    testing::{self, Context},
};

#[rwasm::export]
fn greet(name: &str) -> String {
    format!("Hello, {name}!")
}

#[rwasm::export]
fn sum(values: &[i64], r#type: Option<(u8, char)>) -> Result<i64, ()> {
    if r#type.is_some() { Err(()) } else { Ok(values.iter().sum()) }
}

#[rwasm::export]
fn parse(text: String) -> Result<u32, ParseIntError> {
    text.parse()
}

#[rwasm::export]
fn getppid() -> u32 {
    u32::MAX
}

#[rwasm::export]
fn sizes(texts: Vec<Object<String>>, first: &Object<Vec<u8>>) -> Result<Object<Vec<u64>>, Error> {
    let mut sizes = vec![first.info()?.size];
    for text in &texts {
        sizes.push(text.info()?.size);
    }
    Object::put(&sizes)
}

mod inner {
    /// An export may stand anywhere.
    #[rwasm::export]
    pub(super) fn nothing() {}
}

rwasm::generate!({
    inline: "
        package test:records;
        world records {
            record point { x: s32, y: s32 }
            flags axes { x, y }
            export getpid: func() -> u32;
            export mirror: func(point: point, axes: axes) -> result<point, string>;
        }
    ",
    path: [],
    additional_derives: [PartialEq],
});

struct Records;

impl Guest for Records {
    fn getpid() -> u32 {
        u32::MAX
    }

    fn mirror(point: Point, axes: Axes) -> Result<Point, String> {
        let x = if axes.contains(Axes::X) { point.x.checked_neg().ok_or("x is too small")? } else { point.x };
        let y = if axes.contains(Axes::Y) { point.y.checked_neg().ok_or("y is too small")? } else { point.y };
        Ok(Point { x, y })
    }
}

export!(Records);

#[test]
fn exported_functions_are_ordinary_functions() {
    assert_eq!(greet("Ada"), "Hello, Ada!");
    assert_eq!(sum(&[1, 2, -4], None), Ok(-1));
    assert_eq!(sum(&[], Some((1, 'x'))), Err(()));
    assert!(parse("x".to_owned()).is_err());
    inner::nothing();
}

#[test]
fn bindings_from_wit_are_ordinary_traits() {
    assert_eq!(Records::mirror(Point { x: 1, y: 2 }, Axes::X).unwrap(), Point { x: -1, y: 2 });
    assert!(Records::mirror(Point { x: 0, y: i32::MIN }, Axes::all()).unwrap_err().contains('y'));
}

#[test]
fn an_export_does_not_take_the_place_of_a_function_of_the_c_library() {
    assert_eq!((Records::getpid(), getppid()), (u32::MAX, u32::MAX));
    assert_ne!(std::process::id(), u32::MAX);
    assert_ne!(std::os::unix::process::parent_id(), u32::MAX);
}

#[test]
fn the_log_is_kept_in_order() {
    let name = "a";
    rwasm::log::trace!("one");
    rwasm::log::error!("{name} {:?}", "two\n");
    assert_eq!(testing::take_log(), [(Level::Trace, "one".to_owned()), (Level::Error, "a \"two\\n\"".to_owned())]);
    assert!(testing::take_log().is_empty());
}

#[test]
fn every_thread_has_a_context_of_its_own() {
    testing::set_context(Context { task_id: "t9-9-9".to_owned(), cancelled: true, ..Context::default() });
    assert_eq!((rwasm::context::task_id().as_str(), rwasm::context::cancelled()), ("t9-9-9", true));
    let other = std::thread::spawn(|| (rwasm::context::task_id(), rwasm::context::attempt())).join().unwrap();
    assert_eq!(other, ("t1-1-1".to_owned(), 1));
    assert_eq!(rwasm::context::time_left().as_secs(), 24 * 3600);
}

#[test]
fn objects_are_put_read_and_passed_on() {
    let text = || Object::put(&"größe".to_owned()).unwrap();
    assert_eq!(text().get().unwrap(), "größe");
    assert_eq!(&*text().range(1, 1).unwrap(), b"r");
    assert_eq!(text().range(7, 1).unwrap_err(), Error::OutOfRange);
    assert_eq!(text().range(u64::MAX, 2).unwrap_err(), Error::OutOfRange);
    let bytes = Object::put(&vec![1, 2, 3]).unwrap();
    assert_eq!(sizes(vec![text(), text()], &bytes).unwrap().get().unwrap(), [3, 7, 7]);
    let numbers = Object::put(&vec![1.5, f64::MIN]).unwrap();
    assert_eq!((numbers.get().unwrap(), numbers.info().unwrap().value_type.as_str()), (vec![1.5, f64::MIN], "list<f64>"));
}

#[test]
fn a_written_object_is_exactly_what_was_announced() {
    let mut writer = Object::<Vec<u8>>::writer(6).unwrap();
    write!(writer, "abc").unwrap();
    assert_eq!(writer.append(b"defg"), Err(Error::TooLarge));
    writer.append(b"def").unwrap();
    let mut read = String::new();
    writer.seal().unwrap().reader().unwrap().read_to_string(&mut read).unwrap();
    assert_eq!(read, "abcdef");
    assert_eq!(Object::<Vec<u8>>::writer(1).unwrap().seal().unwrap_err(), Error::Unfinished);
    let mut writer = Object::<String>::writer(1).unwrap();
    writer.append(b"\xff").unwrap();
    assert_eq!(writer.seal().unwrap_err(), Error::Malformed);
}
