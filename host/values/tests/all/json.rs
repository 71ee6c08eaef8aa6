//! JSON: what is read, how it is written, and that everything comes back.

use proptest::{collection::vec, prelude::*, sample::select};
use rwasm_types::Code;
use rwasm_values::{Arg, Limits, Returned, Signature, Type, Value, json};

use crate::common;

fn limits() -> Limits {
    Limits::default()
}

#[test]
fn values_are_read_and_written() {
    /// Reads a text and writes it again, as `written`.
    fn check(ty: &str, text: &str, written: &str) {
        let of: Type = ty.parse().unwrap();
        let value = json::parse_value(text.as_bytes(), &of, &limits()).unwrap_or_else(|error| panic!("{ty} of {text}: {error}"));
        assert_eq!(json::to_string(Some(&of), &value).unwrap(), written, "{ty} of {text}");
    }
    fn same(ty: &str, text: &str) {
        check(ty, text, text);
    }
    same("bool", "true");
    same("u8", "255");
    check("u8", "\"255\"", "255");
    check("u8", "3.0", "3");
    check("s32", "-3e2", "-300");
    same("s64", "-9007199254740991");
    same("s64", "\"-9007199254740992\"");
    check("s64", "-9223372036854775808", "\"-9223372036854775808\"");
    same("u64", "9007199254740991");
    same("u64", "\"9007199254740992\"");
    check("u64", "18446744073709551615", "\"18446744073709551615\"");
    check("f64", "1", "1.0");
    same("f64", "0.1");
    same("f64", "-0.0");
    same("f64", "1e300");
    same("f64", "5e-324");
    same("f64", "\"NaN\"");
    same("f64", "\"-Infinity\"");
    same("f32", "0.1");
    same("f32", "3.4028235e38");
    same("f32", "1e-45");
    same("f32", "7.038530691851209e-26");
    same("f32", "-7.038530691851209e-26");
    same("list<f32>", "[7.038530691851209e-26,0.5]");
    same("f32", "\"Infinity\"");
    same("char", "\"é\"");
    check("char", r#""\u00e9""#, "\"é\"");
    same("string", r#""a\n\"\\é\u0000""#);
    same("list<u8>", "\"AQID\"");
    same("list<u8>", "\"\"");
    check("list<u8>", "[1, \"2\", 3]", "\"AQID\"");
    same("list<u8, 2>", "\"AQI=\"");
    check("list<u8, 2>", "[1,2]", "\"AQI=\"");
    same("list<u16>", "[1,2,3]");
    same("list<string>", r#"["a","b"]"#);
    same("map<string, u8>", r#"{"a":1,"b":2}"#);
    check("map<string, u8>", r#"[["a",1],["b",2]]"#, r#"{"a":1,"b":2}"#);
    same("map<string, u8>", r#"[["a",1],["a",2]]"#);
    same("map<string, string>", r#"[["$ref","o1-1-1-0"]]"#);
    same("map<string, u8>", "{}");
    same("map<u8, bool>", "[[1,true]]");
    same("tuple<u8, string>", r#"[1,"x"]"#);
    same("record { x: u8, y: option<u8> }", r#"{"x":1,"y":2}"#);
    check("record { x: u8, y: option<u8> }", r#"{"x":1}"#, r#"{"x":1,"y":null}"#);
    check("record { x: u8, y: option<u8> }", r#"{"y":null,"x":1}"#, r#"{"x":1,"y":null}"#);
    same("variant { a, b(u8) }", "\"a\"");
    same("variant { a, b(u8) }", r#"{"b":1}"#);
    check("variant { a, b(u8) }", r#"{"a":null}"#, "\"a\"");
    same("variant { b(option<u8>) }", r#"{"b":null}"#);
    same("enum { a, b }", "\"b\"");
    same("option<u8>", "null");
    same("option<u8>", "1");
    same("option<option<u8>>", "null");
    same("option<option<u8>>", r#"{"some":null}"#);
    same("option<option<u8>>", r#"{"some":1}"#);
    same("option<option<option<u8>>>", r#"{"some":{"some":1}}"#);
    same("option<result>", r#"{"ok":null}"#);
    same("result<u8, string>", r#"{"ok":1}"#);
    same("result<u8, string>", r#"{"err":"no"}"#);
    same("result", r#"{"err":null}"#);
    same("flags { a, b, c }", r#"["a","c"]"#);
    check("flags { a, b, c }", r#"["c","a"]"#, r#"["a","c"]"#);
    same("own<rwasm:core/objects.object>", r#"{"$ref":"o3-17-42-0"}"#);
    same("list<option<own<r>>>", r#"[{"$ref":"a1-2-3"},null]"#);
}

#[test]
fn arguments_are_read_and_written() {
    fn check(signature: &str, text: &str, written: &str) {
        let signature: Signature = signature.parse().unwrap();
        let args = json::parse_args(text.as_bytes(), &signature, &limits()).unwrap_or_else(|error| panic!("{text}: {error}"));
        signature.check_args(&args).unwrap();
        assert_eq!(json::args_to_string(&signature, &args).unwrap(), written);
    }
    check("func()", "[]", "[]");
    check("func()", "{}", "[]");
    check("func(x: u8, y: string)", r#" [1, "x"] "#, r#"[1,"x"]"#);
    check("func(x: u8, y: string)", r#"{"y": "x", "x": 1}"#, r#"[1,"x"]"#);
    check("func(x: option<u8>, y: string)", r#"{"y": "x"}"#, r#"[null,"x"]"#);
    check("func(x: u8, y: option<u8>)", "[1]", "[1,null]");
    check("func(x: u8)", r#"[{"$ref": "o3-17-42-0"}]"#, r#"[{"$ref":"o3-17-42-0"}]"#);
    check("func(x: map<string, string>)", r#"[{"$ref": "o3-17-42-0"}]"#, r#"[{"$ref":"o3-17-42-0"}]"#);
    check("func(x: record { y: u8 })", r#"{"x": {"$ref": "o3-17-42-0"}}"#, r#"[{"$ref":"o3-17-42-0"}]"#);
    check("func(x: option<string>)", r#"[{"$ref": "o3-17-42-0"}]"#, r#"[{"$ref":"o3-17-42-0"}]"#);
    check("func(x: borrow<r>)", r#"[{"$ref": "a3-17-42"}]"#, r#"[{"$ref":"a3-17-42"}]"#);
}

#[test]
fn a_ref_is_a_handle_or_a_whole_argument() {
    let arg = |signature: &str, id: &str| {
        let text = format!(r#"[{{"$ref": "{id}"}}]"#);
        json::parse_args(text.as_bytes(), &signature.parse().unwrap(), &limits()).unwrap().params.remove(0)
    };
    assert_eq!(arg("func(x: list<u8>)", "o1-1-1-0"), Arg::Ref(0));
    assert_eq!(arg("func(x: own<r>)", "o1-1-1-0"), Arg::Ref(0));
    assert_eq!(arg("func(x: own<r>)", "a1-1-1"), Arg::Value(Value::Handle(0)));
    assert_eq!(arg("func(x: own<rwasm:core/objects.object>)", "o1-1-1-0"), Arg::Value(Value::Handle(0)));
    assert_eq!(arg("func(x: option<own<rwasm:core/objects.object>>)", "o1-1-1-0"), Arg::Value(Value::some(Value::Handle(0))));
}

#[test]
fn limits_hold() {
    let small = Limits { bytes: 40, parts: 5 };
    for (ty, text) in [
        ("string", format!("\"{}\"", "x".repeat(40))),
        ("list<string>", r#"["","","","",""]"#.to_owned()),
        ("list<option<u8>>", "[1,1,1,1,1,1]".to_owned()),
    ] {
        let error = json::parse_value(text.as_bytes(), &ty.parse().unwrap(), &small).unwrap_err();
        assert_eq!(error.code(), Code::VALUE_TOO_LARGE, "{ty}");
    }
    json::parse_value(b"[1,1,1,1,1,1,1,1]", &"list<u32>".parse().unwrap(), &small).unwrap();
    // The deepest type, in the deepest JSON that a value of it can have.
    let deep = (0..31).fold(Type::U8, |ty, _| Type::Map((Type::U8, ty).into()));
    let value = (0..31).fold(Value::U8(1), |value, _| Value::Map(vec![(Value::U8(0), value)]));
    let text = json::to_string(Some(&deep), &Returned { refs: vec![], value: Some(value) }).unwrap();
    let signature = Signature { params: vec![rwasm_values::Param { name: "x".parse().unwrap(), ty: deep }], result: None };
    json::parse_args(format!("[{text}]").as_bytes(), &signature, &limits()).unwrap();
    let error = json::parse_value("[".repeat(10_000).as_bytes(), &Type::U8, &limits()).unwrap_err();
    assert_eq!(error.code(), Code::WRONG_TYPE);
}

#[test]
fn names_of_large_types_are_found() {
    let cases: Vec<String> = (0..1000).map(|i| format!("a{i}")).collect();
    let ty: Type = format!("list<enum {{ {} }}>", cases.join(", ")).parse().unwrap();
    let text = format!("[\"{}\"]", cases.join("\",\""));
    let value = json::parse_value(text.as_bytes(), &ty, &limits()).unwrap();
    assert_eq!(value.value, Some(Value::List((0..1000).map(Value::Enum).collect())));
}

#[test]
fn broken_writers_are_reported() {
    struct Broken;
    impl std::io::Write for Broken {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let error = json::write_value(&mut Broken, None, &Returned::default()).unwrap_err();
    assert_eq!(error.code(), Code::IO);
}

proptest! {
    #[test]
    fn values_survive((ty, returned) in common::typed()) {
        let text = json::to_string(Some(&ty), &returned).unwrap();
        serde_json::from_str::<serde::de::IgnoredAny>(&text).unwrap();
        let read = json::parse_value(text.as_bytes(), &ty, &limits()).unwrap();
        prop_assert_eq!(&json::to_string(Some(&ty), &read).unwrap(), &text);
        if !ty.has_handles() {
            prop_assert_eq!(read, Returned { refs: vec![], ..returned });
        }
    }

    #[test]
    fn floats_survive(single: f32, double: f64) {
        for (ty, value) in [(Type::F32, Value::F32(single)), (Type::F64, Value::F64(double))] {
            let returned = Returned { refs: vec![], value: Some(value) };
            let text = json::to_string(Some(&ty), &returned).unwrap();
            prop_assert_eq!(json::parse_value(text.as_bytes(), &ty, &limits()).unwrap(), returned);
        }
    }

    #[test]
    fn random_texts_are_values_or_errors(ty in common::ty(), words in vec(select(WORDS), 0..12)) {
        let text = words.concat();
        if let Ok(value) = json::parse_value(text.as_bytes(), &ty, &limits()) {
            prop_assert!(json::to_string(Some(&ty), &value).is_ok());
        }
        let signature = Signature { params: vec![rwasm_values::Param { name: "x".parse().unwrap(), ty }], result: None };
        for text in [format!("[{text}]"), format!("{{\"x\":{text}}}"), text] {
            if let Ok(args) = json::parse_args(text.as_bytes(), &signature, &limits()) {
                signature.check_args(&args).unwrap();
            }
        }
    }

    #[test]
    fn values_of_other_types_are_values_or_errors((_, returned) in common::typed(), ty in common::ty()) {
        // What fits one type is tried on another: nothing but a fit or a clean error comes of it.
        if let Ok(text) = json::to_string(Some(&ty), &returned) {
            json::parse_value(text.as_bytes(), &ty, &limits()).unwrap();
        }
    }
}

const WORDS: &[&str] = &[
    "[",
    "]",
    "{",
    "}",
    ",",
    ":",
    "1",
    "-2.5e3",
    "\"x\"",
    "\"",
    "null",
    "true",
    "\"some\"",
    "\"ok\"",
    "\"err\"",
    "\"AQID\"",
    "\"a\"",
    "{\"$ref\":\"o1-1-1-0\"}",
    "{\"$ref\":\"a1-1-1\"}",
    "\"$ref\"",
    " ",
    "1e400",
    "\"NaN\"",
    "\\ud800",
    "é",
];
