//! The bytes of values and calls are those of the test vectors that all implementations of the codec share.

#![expect(clippy::panic, clippy::unwrap_used, reason = "this is a test")]

use std::{collections::BTreeSet, fmt::Debug};

use rwasm::{
    Object,
    object::Error,
    task::Arguments,
    value::{Decoder, Encoder, Value, type_text},
};
use serde_json::Value as Json;

mod named {
    rwasm::import!({
        inline: "
            package test:vectors;
            interface types {
                record point { x: u32, y: option<string> }
                variant choice { a, b(f32), err(string) }
                enum letters { a, b }
                flags switches { a, b, c, d, e, f, g, h, i }
                flags few { a, b }
                variant payload { a, b(u8) }
                all: func(a: point, b: choice, c: letters, d: switches, e: few, f: payload);
            }
            world all { export types; }
        ",
    });
}

use named::types::{Choice, Few, Letters, Payload, Point, Switches};

/// What this SDK has no type for: maps.
const NOT_IN_RUST: [&str; 3] = ["map<string, u8>", "map<u8, bool>", "map<string, string>"];

fn vectors() -> Json {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../host/values/tests/vectors.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn rows(key: &str) -> Vec<Json> {
    vectors()[key].as_array().unwrap().clone()
}

fn text<'a>(row: &'a Json, key: &str) -> &'a str {
    row[key].as_str().unwrap()
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
}

fn stored<T: Value>(value: &T) -> Vec<u8> {
    let mut encoder = Encoder::default();
    value.store(&mut encoder);
    encoder.into_bytes()
}

fn encoded<T: Value>(value: &T) -> Vec<u8> {
    let mut encoder = Encoder::default();
    value.encode(&mut encoder);
    encoder.into_bytes()
}

fn load<T: Value>(bytes: Vec<u8>) -> Result<T, Error> {
    T::load(bytes, &|| Ok(Vec::new()))
}

fn decode<T: Value>(bytes: &[u8]) -> Result<T, Error> {
    let refs = || Ok(Vec::new());
    let mut from = Decoder::new(bytes, &refs);
    let value = T::decode(&mut from)?;
    from.end()?;
    Ok(value)
}

/// One value of the vectors, both ways and in both forms.
fn check<T: Value + Debug>(wit: &str, wave: &str, value: &T, seen: &mut BTreeSet<String>) {
    let rows = rows("values");
    let row = rows.iter().find(|row| text(row, "wit") == wit && text(row, "wave") == wave).unwrap_or_else(|| panic!("{wit} {wave}"));
    assert_eq!(type_text::<T>(), wit);
    let (object, result) = (bytes(text(row, "stored")), bytes(text(row, "result")));
    assert_eq!(stored(value), object, "{wit} {wave}");
    // Behind the version, and a ref table without entries.
    assert_eq!(result[..2], [1, 0]);
    assert_eq!(encoded(value), result[2..], "{wit} {wave}");
    assert_eq!(format!("{:?}", load::<T>(object).unwrap()), format!("{value:?}"));
    assert_eq!(format!("{:?}", decode::<T>(&result[2..]).unwrap()), format!("{value:?}"));
    seen.insert(format!("{wit} {wave}"));
}

macro_rules! check {
    ($($wit:literal $wave:literal = $value:expr;)*) => {{
        let mut seen = BTreeSet::new();
        $(check($wit, $wave, &$value, &mut seen);)*
        seen
    }};
}

#[test]
fn values_are_as_the_vectors_have_them() {
    let some = |text: &str| Some(text.to_owned());
    let seen = check! {
        "bool" "true" = true;
        "s8" "-128" = i8::MIN;
        "u8" "255" = u8::MAX;
        "s16" "-2" = -2_i16;
        "u16" "65535" = u16::MAX;
        "s32" "-3" = -3_i32;
        "u32" "4294967295" = u32::MAX;
        "s64" "-9223372036854775808" = i64::MIN;
        "u64" "9007199254740991" = 9_007_199_254_740_991_u64;
        "u64" "9007199254740992" = 9_007_199_254_740_992_u64;
        "f32" "0.1" = 0.1_f32;
        "f32" "nan" = f32::NAN;
        "f32" "3.4028235e38" = f32::MAX;
        "f64" "-0" = -0.0_f64;
        "f64" "1e300" = 1e300;
        "f64" "inf" = f64::INFINITY;
        "f64" "-inf" = f64::NEG_INFINITY;
        "char" "'é'" = 'é';
        "char" "'👋'" = '👋';
        "string" "\"\"" = String::new();
        "string" "\"héllo\\n\\\"@ref(o1-1-1-0)\\\"\"" = "héllo\n\"@ref(o1-1-1-0)\"".to_owned();
        "list<u8>" "[]" = Vec::<u8>::new();
        "list<u8>" "[0, 1, 254, 255]" = vec![0_u8, 1, 254, 255];
        "list<u16>" "[1, 258]" = vec![1_u16, 258];
        "list<f32>" "[1.5, -2]" = vec![1.5_f32, -2.0];
        "list<f64>" "[0.1]" = vec![0.1];
        "list<bool>" "[true, false, true]" = vec![true, false, true];
        "list<char>" "['a', '€']" = vec!['a', '€'];
        "list<u8, 3>" "[1, 2, 3]" = [1_u8, 2, 3];
        "list<s64>" "[-1]" = vec![-1_i64];
        "list<string>" "[\"a\", \"\"]" = vec!["a".to_owned(), String::new()];
        "list<string, 2>" "[\"a\", \"bc\"]" = ["a".to_owned(), "bc".to_owned()];
        "list<list<u32>>" "[[1], [], [2, 3]]" = vec![vec![1_u32], vec![], vec![2, 3]];
        "tuple<u8, u32, string>" "(1, 2, \"x\")" = (1_u8, 2_u32, "x".to_owned());
        "record { x: u32, y: option<string> }" "{x: 7}" = Point { x: 7, y: None };
        "record { x: u32, y: option<string> }" "{x: 7, y: some(\"z\")}" = Point { x: 7, y: some("z") };
        "variant { a, b(f32), err(string) }" "a" = Choice::A;
        "variant { a, b(f32), err(string) }" "b(0.5)" = Choice::B(0.5);
        "variant { a, b(f32), err(string) }" "%err(\"no\")" = Choice::Err("no".to_owned());
        "option<u8>" "none" = None::<u8>;
        "option<u8>" "some(7)" = Some(7_u8);
        "option<option<u8>>" "some(none)" = Some(None::<u8>);
        "option<option<u8>>" "some(some(7))" = Some(Some(7_u8));
        "result" "ok" = Ok::<(), ()>(());
        "result" "err" = Err::<(), ()>(());
        "result<u8, string>" "ok(7)" = Ok::<u8, String>(7);
        "result<u8, string>" "err(\"no\")" = Err::<u8, String>("no".to_owned());
        "result<_, string>" "ok" = Ok::<(), String>(());
        "flags { a, b, c, d, e, f, g, h, i }" "{}" = Switches::empty();
        "flags { a, b, c, d, e, f, g, h, i }" "{a, h, i}" = Switches::A | Switches::H | Switches::I;
    };
    for row in rows("values") {
        let (wit, wave) = (text(&row, "wit"), text(&row, "wave"));
        // Two are long for the sake of numbers of two bytes; those with handles are in tests of tasks.
        let elsewhere = NOT_IN_RUST.contains(&wit) || wit.len() > 200 || wave.len() > 200 || row["refs"].is_array();
        assert!(elsewhere || seen.contains(&format!("{wit} {wave}")), "nobody checks {wit} {wave}");
    }
    assert_eq!(stored(&Ok::<(), ()>(())), stored(&()), "what returns nothing is an `ok`");
}

#[test]
fn numbers_of_several_bytes_are_as_the_vectors_have_them() {
    let rows = rows("values");
    let list = rows.iter().find(|row| text(row, "wit") == "list<string>" && text(row, "wave").len() > 200).unwrap();
    let value = vec![String::new(); list["json"].as_array().unwrap().len()];
    assert_eq!(stored(&value), bytes(text(list, "stored")));
    assert_eq!(load::<Vec<String>>(stored(&value)), Ok(value));
}

#[test]
fn what_the_vectors_refuse_is_refused() {
    fn refused<T: Value>(bytes: Vec<u8>) -> bool {
        load::<T>(bytes).err() == Some(Error::Malformed)
    }
    let mut count = 0;
    for row in rows("malformed_values") {
        let object = bytes(text(&row, "stored"));
        assert!(
            match text(&row, "wit") {
                "bool" => refused::<bool>(object),
                "u16" => refused::<u16>(object),
                "u32" => refused::<u32>(object),
                "char" => refused::<char>(object),
                "string" => refused::<String>(object),
                "tuple<string>" => refused::<(String,)>(object),
                "list<u32>" => refused::<Vec<u32>>(object),
                "list<bool>" => refused::<Vec<bool>>(object),
                "list<char>" => refused::<Vec<char>>(object),
                "list<string>" => refused::<Vec<String>>(object),
                "option<u8>" => refused::<Option<u8>>(object),
                "result<u8>" => refused::<Result<u8, ()>>(object),
                "enum { a, b }" => refused::<Letters>(object),
                "variant { a, b(u8) }" => refused::<Payload>(object),
                "flags { a, b }" => refused::<Few>(object),
                "own<rwasm:core/objects.object>" => refused::<Object<u8>>(object),
                other => panic!("nobody checks {other}"),
            },
            "{row}"
        );
        count += 1;
    }
    assert!(count > 0);
}

#[test]
fn calls_are_as_the_vectors_have_them() {
    let numbers = &Object::put(&vec![1.5_f32]).unwrap();
    let some_bytes = &Object::put(&vec![1_u8]).unwrap();
    let mut checked = 0;
    for row in rows("calls") {
        let mut arguments = Arguments::default();
        match text(&row, "signature") {
            "func()" => {}
            "func(x: u8)" => arguments.add::<u8>(&7),
            "func(x: u8, y: string)" => {
                arguments.add::<u8>(&7);
                arguments.add::<String>(&"héllo");
            }
            "func(x: list<u8>, y: option<u8>)" => {
                arguments.add::<Vec<u8>>(&&[1, 2]);
                arguments.add::<Option<u8>>(&None);
            }
            "func(x: list<u8>)" => arguments.add::<Vec<u8>>(&some_bytes),
            "func(x: u32, y: list<f32>, z: u8)" => {
                arguments.add::<u32>(&1);
                arguments.add::<Vec<f32>>(&numbers);
                arguments.add::<u8>(&2);
            }
            "func(x: borrow<rwasm:core/objects.object>)" => arguments.add::<Object<Vec<f32>>>(&numbers),
            // It passes an actor, which guests have no handle of here.
            _ => continue,
        }
        let message = bytes(text(&row, "message"));
        let refs = row["refs"].as_array().map_or(0, Vec::len);
        let (sent, objects) = arguments.finish();
        // Behind the version and the ref table, which the host writes.
        assert_eq!(sent, message[2 + 21 * refs..], "{row}");
        assert_eq!(objects.len(), refs, "{row}");
        checked += 1;
    }
    assert_eq!(checked, 7);
}
