//! Types: their text, their descriptor, their hash, and what is refused.

use crate::common::{self, hex, unhex};
use proptest::prelude::*;
use rwasm_types::{Code, Error};
use rwasm_values::{Label, Signature, Type, TypeHash};

fn refused<T: std::fmt::Debug>(result: Result<T, Error>, code: Code, message: &str) {
    let error = result.unwrap_err();
    assert_eq!((error.code(), error.message()), (code, message));
}

#[test]
fn texts_that_are_types() {
    fn check(text: &str, canonical: &str, storable: bool) {
        let ty: Type = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!((ty.to_string().as_str(), ty.is_storable()), (canonical, storable), "{text}");
        ty.check().unwrap();
    }
    for text in ["bool", "s8", "u8", "s16", "u16", "s32", "u32", "s64", "u64", "f32", "f64", "char", "string"] {
        check(text, text, true);
    }
    check("  list < u8 >\n", "list<u8>", true);
    check("list<u8,4>", "list<u8, 4>", true);
    check("map<string,list<f64>>", "map<string, list<f64>>", true);
    check("record{x:u32,%list:string,}", "record { x: u32, %list: string }", true);
    check("variant { a, b(u8), c(variant { d }) }", "variant { a, b(u8), c(variant { d }) }", true);
    check("enum { a, B-c, d-1 }", "enum { a, B-c, d-1 }", true);
    check("tuple<u8>", "tuple<u8>", true);
    check("result<_, string>", "result<_, string>", true);
    check("result<u8>", "result<u8>", true);
    check("result", "result", true);
    check("option<option<bool>>", "option<option<bool>>", true);
    check("own<rwasm:core/objects@0.1.7.object>", "own<rwasm:core/objects.object>", true);
    check("borrow<demo:bank/accounts@1.2.0-rc.1.account>", "borrow<demo:bank/accounts@1.2.0-rc.1.account>", true);
    check("own<object>", "own<object>", true);
    check("stream<u8>", "stream<u8>", false);
    check("list<stream>", "list<stream>", false);
    check("future<option<u8>>", "future<option<u8>>", false);
    check("option<error-context>", "option<error-context>", false);
    check("record { rest: ... }", "record { rest: ... }", false);
}

#[test]
fn texts_that_are_none() {
    fn check(text: &str, message: &str) {
        refused(text.parse::<Type>(), Code::INVALID_ARGUMENT, message);
    }
    check("", "the type does not parse: a type was expected at byte 0, but it ends");
    check("u7", "the type does not parse: a type was expected at byte 0, but `u7` was found");
    check("list", "the type does not parse: `<` was expected at byte 4, but it ends");
    check("list<u8", "the type does not parse: `>` was expected at byte 7, but it ends");
    check("u8 u8", "the type does not parse: the end was expected at byte 3, but `u8` was found");
    check(
        "list<u8, 0>",
        "the type does not parse: another type (a fixed-length list has no elements) was expected at byte 0, but `list<u8, 0>` was found",
    );
    check("tuple<>", "the type does not parse: a type was expected at byte 6, but `>` was found");
    check("record { x: u8 y: u8 }", "the type does not parse: `,` or `}` was expected at byte 15, but `y: u8 }` was found");
    check("enum { a-, b }", "the type does not parse: a name was expected at byte 7, but `a-, b }` was found");
    check(
        "own<a:b>",
        "the type does not parse: a resource, such as `demo:bank/accounts@1.2.0.account` was expected at byte 4, but `a:b>` was found",
    );
    for (text, why) in [
        ("enum { a, A }", "two names of a type are the same, or differ by case alone"),
        ("record { x: u8, x: u8 }", "two names of a type are the same, or differ by case alone"),
        ("map<f32, u8>", "a map has a key that is neither a bool, an integer, a char nor a string"),
    ] {
        let error = text.parse::<Type>().unwrap_err();
        assert!(error.message().contains(why), "{error}");
    }
}

#[test]
fn descriptors() {
    fn check(text: &str, descriptor: &str) {
        let ty: Type = text.parse().unwrap();
        assert_eq!(hex(&ty.encode()), descriptor.replace(' ', ""), "{text}");
        assert_eq!(Type::decode(&ty.encode()).unwrap(), ty);
    }
    check("bool", "01 7f");
    check("list<u8>", "01 70 7d");
    check("list<u8, 300>", "01 67 7d ac02");
    check("map<string, u32>", "01 63 73 79");
    check("record { x: u32 }", "01 72 01 01 78 79");
    check("tuple<s8, s16>", "01 6f 02 7e 7c");
    check("variant { a, b(f32) }", "01 71 02 01 61 00 01 62 01 76");
    check("enum { a }", "01 6d 01 01 61");
    check("flags { a, b }", "01 6e 02 01 61 01 62");
    check("option<f64>", "01 6b 75");
    check("result<_, string>", "01 6a 00 01 73");
    check("own<rwasm:core/objects@0.1.3.object>", "01 69 00");
    check("borrow<a:b/c@1.0.0.r>", "01 68 01 0b 613a622f6340312e302e30 01 72");
    check("own<r>", "01 69 01 00 01 72");
    check("stream<u8>", "01 66 01 7d");
    check("future", "01 65 00");
    check("error-context", "01 64");
    check("...", "01 00");
}

#[test]
fn hostile_descriptors() {
    fn check(descriptor: &str, message: &str) {
        refused(Type::decode(&unhex(descriptor)), Code::MALFORMED_VALUE, message);
    }
    check("", "byte 0: the input ends 1 byte too soon");
    check("02 7f", "byte 0: version 2 of a type's descriptor is not known");
    check("01 6c", "byte 1: 0x6c begins no type");
    check("01 7f 7f", "byte 2: the value ends here, but the input has 1 byte more");
    check("01 72 00", "byte 1: a record has no fields");
    check("01 6f 00", "byte 1: a tuple has no elements");
    check("01 6d 02 01 61 01 41", "byte 1: two names of a type are the same, or differ by case alone");
    check("01 6d 01 01 2d", "byte 3: `-` is not a name of the component model, such as `add-two`");
    check("01 6d 01 01 ff", "byte 4: this is not UTF-8");
    check("01 6d 81 00", "byte 2: a number is not in its shortest form");
    check("01 6d ff ff ff ff 0f", "byte 7: the input ends 1 byte too soon");
    check("01 6d ff ff ff ff 1f", "byte 2: a number is larger than 4294967295");
    check("01 6b 7f 02", "byte 3: the value ends here, but the input has 1 byte more");
    check("01 6a 02", "byte 2: this is no bool");
    check("01 67 7f 00", "byte 1: a fixed-length list has no elements");
    check("01 63 75 7f", "byte 1: a map has a key that is neither a bool, an integer, a char nor a string");
    let object = "01 69 01 18 7277617367 ";
    assert!(Type::decode(&unhex(object)).is_err());
    let object = [&unhex("01 69 01 17")[..], b"rwasm:core/objects@0.1.", &unhex("06"), b"object"].concat();
    assert!(Type::decode(&object).is_err());
    let object = [&unhex("01 69 01 18")[..], b"rwasm:core/objects@0.1.0", &unhex("06"), b"object"].concat();
    refused(Type::decode(&object), Code::MALFORMED_VALUE, "byte 3: the object handle is written by name");
}

#[test]
fn limits() {
    let nested = |depth: usize| (1..depth).fold(Type::U8, |ty, _| Type::list(ty));
    assert_eq!(Type::decode(&nested(64).encode()).unwrap(), nested(64));
    let message = "a type is nested more than 64 deep";
    refused(Type::decode(&nested(65).encode()), Code::VALUE_TOO_LARGE, message);
    refused(nested(65).check(), Code::VALUE_TOO_LARGE, message);
    refused(nested(65).to_string().parse::<Type>(), Code::VALUE_TOO_LARGE, message);
    let maps = |depth: usize| (0..depth).fold(Type::U8, |ty, _| Type::Map((Type::U8, ty).into()));
    maps(31).check().unwrap();
    refused(maps(32).check(), Code::VALUE_TOO_LARGE, message);

    let message = "a type has more than 10000 parts";
    let wide = |count: usize| Type::tuple(vec![Type::U8; count]);
    assert_eq!(Type::decode(&wide(9_999).encode()).unwrap(), wide(9_999));
    refused(Type::decode(&wide(10_000).encode()), Code::VALUE_TOO_LARGE, message);
    refused(wide(10_000).to_string().parse::<Type>(), Code::VALUE_TOO_LARGE, message);
    let names = Type::Enum((0..10_000).map(|i| Label::new(&format!("a{i}")).unwrap()).collect());
    refused(Type::decode(&names.encode()), Code::VALUE_TOO_LARGE, message);
    // A small type that shares its parts stands for 2^60 of them.
    let bomb = (0..60).fold(Type::U8, |ty, _| Type::tuple([ty.clone(), ty]));
    refused(bomb.check(), Code::VALUE_TOO_LARGE, message);

    let message = "the names in a type have more than 262144 bytes";
    let long = |count: usize| Type::record((0..count).map(|i| (Label::new(&format!("{}-{i}", "a".repeat(1000))).unwrap(), Type::U8)));
    assert_eq!(Type::decode(&long(250).encode()).unwrap(), long(250));
    assert_eq!(long(250).to_string().parse::<Type>().unwrap(), long(250));
    refused(long(270).check(), Code::VALUE_TOO_LARGE, message);
    refused(Type::decode(&long(270).encode()), Code::VALUE_TOO_LARGE, message);
    refused(long(270).to_string().parse::<Type>(), Code::VALUE_TOO_LARGE, message);
    let handles = format!("tuple<{}>", vec![format!("own<{}>", "r".repeat(1000)); 270].join(", "));
    refused(handles.parse::<Type>(), Code::VALUE_TOO_LARGE, message);

    let huge = vec![0; Type::DESCRIPTOR_BYTES_MAX + 1];
    refused(Type::decode(&huge), Code::VALUE_TOO_LARGE, "a type's descriptor has 1048577 bytes, but may have 1048576");
}

#[test]
fn what_can_be_built_but_is_no_type() {
    for (ty, message) in [
        (Type::tuple([]), "a tuple has no elements"),
        (Type::record([]), "a record has no fields"),
        (Type::Flags((0..33).map(|i| Label::new(&format!("a{i}")).unwrap()).collect()), "a flags type has more than 32 names"),
        (Type::list(Type::FixedList(Type::U8.into(), 0)), "a fixed-length list has no elements"),
    ] {
        refused(ty.check(), Code::INVALID_ARGUMENT, message);
    }
}

#[test]
fn hashes_have_a_text() {
    let hash = Type::U8.hash();
    assert_eq!(hash.to_string().parse::<TypeHash>().unwrap(), hash);
    assert_eq!(serde_json::from_str::<TypeHash>(&serde_json::to_string(&hash).unwrap()).unwrap(), hash);
    for text in ["", "00", &"A".repeat(64), &"g".repeat(64)] {
        assert!(text.parse::<TypeHash>().is_err(), "{text}");
    }
}

#[test]
fn versions_of_the_object_handle_are_one_type() {
    let of = |text: &str| text.parse::<Type>().unwrap();
    assert_eq!(of("own<rwasm:core/objects@0.1.0.object>"), of("own<rwasm:core/objects@0.1.9.object>"));
    assert_ne!(of("own<rwasm:core/objects@0.1.0.object>").hash(), of("own<rwasm:core/objects@0.2.0.object>").hash());
    assert_ne!(of("own<a:b/c@1.0.0.r>").hash(), of("own<a:b/c@1.0.1.r>").hash());
}

#[test]
fn signatures() {
    for text in ["func()", "func(x: u32)", "func() -> string", "func(a: list<u8>, %type: own<r>) -> result<_, string>"] {
        let signature: Signature = text.parse().unwrap();
        assert_eq!(signature.to_string(), text);
        assert_eq!(serde_json::from_str::<Signature>(&serde_json::to_string(&signature).unwrap()).unwrap(), signature);
    }
    for text in ["", "func", "func(", "func(u32)", "func(x u32)", "func() ->", "func(x: u32,,)", "fun()"] {
        assert!(text.parse::<Signature>().is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn types_survive_every_form(ty in common::ty()) {
        ty.check().unwrap();
        prop_assert!(ty.is_storable());
        prop_assert_eq!(&ty.to_string().parse::<Type>().unwrap(), &ty);
        let decoded = Type::decode(&ty.encode()).unwrap();
        prop_assert_eq!(decoded.hash(), ty.hash());
        prop_assert_eq!(&serde_json::from_str::<Type>(&serde_json::to_string(&ty).unwrap()).unwrap(), &ty);
        prop_assert_eq!(decoded, ty);
    }

    #[test]
    fn different_types_differ_in_every_form(a in common::ty(), b in common::ty()) {
        prop_assert_eq!(a == b, a.hash() == b.hash());
        prop_assert_eq!(a == b, a.to_string() == b.to_string());
    }

    #[test]
    fn random_descriptors_are_types_or_errors(mut bytes in proptest::collection::vec(prop_oneof![0x60u8..0x80, 0u8..4, any::<u8>()], 0..60)) {
        bytes.insert(0, 1);
        if let Ok(ty) = Type::decode(&bytes) {
            prop_assert_eq!(ty.encode(), bytes);
            ty.check().unwrap();
        }
    }

    #[test]
    fn damaged_descriptors_are_types_or_errors(ty in common::ty(), at: proptest::sample::Index, with: u8) {
        let mut bytes = ty.encode();
        let at = at.index(bytes.len());
        bytes[at] = with;
        if let Ok(ty) = Type::decode(&bytes) {
            prop_assert_eq!(ty.encode(), bytes);
        }
    }

    #[test]
    fn random_texts_are_types_or_errors(words in proptest::collection::vec(proptest::sample::select(WORDS), 0..20)) {
        if let Ok(ty) = words.concat().parse::<Type>() {
            ty.check().unwrap();
        }
    }
}

const WORDS: &[&str] = &[
    "list", "<", ">", "u8", ",", "record", "{", "}", "x", ":", "(", ")", "variant", "option", "_", " ", "%", "result", "map", "string",
    "1", "é",
];
