//! WAVE: what is read, how it is written, and that everything comes back.

use proptest::{collection::vec, prelude::*, sample::select};
use rwasm_types::Code;
use rwasm_values::{Arg, Returned, Signature, Type, Value, wave};

use crate::common;

#[test]
fn values_are_read_and_written() {
    /// Reads a text and writes it again, as `written`.
    fn check(ty: &str, text: &str, written: &str) {
        let of: Type = ty.parse().unwrap();
        let value = wave::parse_value(text, &of).unwrap_or_else(|error| panic!("{ty} of {text}: {error}"));
        assert_eq!(wave::to_string(Some(&of), &value).unwrap(), written, "{ty} of {text}");
    }
    fn same(ty: &str, text: &str) {
        check(ty, text, text);
    }
    same("bool", "true");
    same("s64", "-9223372036854775808");
    same("u64", "18446744073709551615");
    same("f64", "1.5");
    same("f64", "nan");
    same("f64", "-inf");
    same("f64", "-0");
    same("f64", "1e300");
    same("f64", "5e-324");
    same("f32", "0.1");
    same("f32", "3.4028235e38");
    check("f64", "1E3", "1000");
    same("char", r"'\''");
    check("char", r"'\u{1F44B}'", "'👋'");
    same("string", r#""a\n\t\"\\é\u{0}""#);
    check("string", "\"\"\"\n  one\n  two\n  \"\"\"", r#""one\ntwo""#);
    same("list<u8>", "[1, 2, 3]");
    same("list<u8>", "[]");
    check("list<string>", r#"["a", "b",]"#, r#"["a", "b"]"#);
    same("list<bool, 2>", "[true, false]");
    same("map<string, u8>", r#"[("a", 1), ("b", 2)]"#);
    same("tuple<u8, string>", r#"(1, "x")"#);
    same("record { x: u8, y: option<u8> }", "{x: 1, y: some(2)}");
    check("record { x: u8, y: option<u8> }", "{y: none, x: 1}", "{x: 1}");
    check("record { x: u8, y: option<u8> }", "{y: 2, x: 1}", "{x: 1, y: some(2)}");
    same("record { x: option<u8> }", "{:}");
    check("record { list: u8 }", "{%list: 1}", "{list: 1}");
    same("variant { a, b(u8), err(u8) }", "a");
    same("variant { a, b(u8), err(u8) }", "b(1)");
    same("variant { a, b(u8), err(u8) }", "%err(1)");
    same("enum { ok, not-found }", "%ok");
    same("enum { ok, not-found }", "not-found");
    same("option<u8>", "none");
    check("option<u8>", "1", "some(1)");
    same("option<option<u8>>", "some(none)");
    same("result<u8, string>", "ok(1)");
    check("result<u8, string>", "1", "ok(1)");
    same("result<u8, string>", r#"err("no")"#);
    same("result", "ok");
    same("result<_, u8>", "ok");
    same("flags { a, b, c }", "{a, c}");
    same("flags { a, b, c }", "{}");
    check("flags { a, true }", "{%true, a}", "{a, true}");
    same("own<rwasm:core/objects.object>", "@ref(o3-17-42-0)");
    same("list<borrow<r>>", "[@ref(a1-2-3), @ref(a1-2-3)]");
    check("option<own<r>>", "@ref(a1-2-3)", "some(@ref(a1-2-3))");
    same("result<own<r>>", "ok(@ref(a1-2-3))");
    check("variant { ref(u8) }", "%ref(1)", "ref(1)");
    same("tuple<string, own<r>, char>", r#"("@ref(o1-1-1-1)", @ref(a1-2-3), '@')"#);
    check("tuple<u8, own<r>>", "(1, // @ref(x) \"\n @ref( a1-2-3 ))", "(1, @ref(a1-2-3))");
}

#[test]
fn equal_refs_share_an_entry() {
    let ty: Type = "list<own<rwasm:core/objects.object>>".parse().unwrap();
    let value = wave::parse_value("[@ref(o1-1-1-1), @ref(o1-1-1-2), @ref(o1-1-1-1)]", &ty).unwrap();
    assert_eq!(value.refs.len(), 2);
    assert_eq!(value.value, Some(Value::List(vec![Value::Handle(0), Value::Handle(1), Value::Handle(0)])));
}

#[test]
fn calls_are_split() {
    for (text, name, args) in [
        ("f()", "f", "()"),
        (" add-two ( 1, 2 ) ", "add-two", "( 1, 2 )"),
        ("demo:math/ops@1.0.0-rc.1+b/add(1)", "demo:math/ops@1.0.0-rc.1+b/add", "(1)"),
        ("i/[method]r.f((1, 2), \"(\")", "i/[method]r.f", "((1, 2), \"(\")"),
    ] {
        assert_eq!(wave::parse_call(text).unwrap(), (name, args));
    }
    for (text, message) in [
        ("f", "the call has no arguments in parentheses"),
        ("", "the call has no arguments in parentheses"),
        ("(1)", "the call has no name before its arguments"),
        ("f g(1)", "the call has a name that cannot hold ` `"),
        ("f\u{7}(1)", "the call has a name that cannot hold `\\u{7}`"),
    ] {
        let error = wave::parse_call(text).unwrap_err();
        assert_eq!((error.code(), error.message()), (Code::CALL_SYNTAX, message));
    }
}

#[test]
fn arguments_are_read_and_written() {
    fn check(signature: &str, text: &str, written: &str) {
        let signature: Signature = signature.parse().unwrap();
        let args = wave::parse_args(text, &signature).unwrap_or_else(|error| panic!("{text}: {error}"));
        signature.check_args(&args).unwrap();
        assert_eq!(wave::args_to_string(&signature, &args).unwrap(), written);
    }
    check("func()", "()", "()");
    check("func()", " ( // nothing\n ) // here", "()");
    check("func(x: u8)", "(1)", "(1)");
    check("func(x: u8, y: string)", "(1, \"x\",)", "(1, \"x\")");
    check("func(x: tuple<u8>)", "((1))", "((1))");
    check("func(x: u8, y: option<u8>, z: option<u8>)", "(1)", "(1, none, none)");
    check("func(x: u8, y: option<u8>, z: option<u8>)", "(1, 2)", "(1, some(2), none)");
    check("func(y: option<u8>)", "()", "(none)");
    check("func(x: list<u8>)", "(@ref(o3-17-42-0))", "(@ref(o3-17-42-0))");
    check("func(x: own<rwasm:core/objects.object>)", "(@ref(o3-17-42-0))", "(@ref(o3-17-42-0))");
    check("func(x: borrow<r>)", "(@ref(a3-17-42))", "(@ref(a3-17-42))");
    check("func(x: string)", "(\"@ref(o3-17-42-0)\")", "(\"@ref(o3-17-42-0)\")");
}

#[test]
fn a_ref_is_a_handle_or_a_whole_argument() {
    let arg = |signature: &str, text: &str| wave::parse_args(text, &signature.parse().unwrap()).unwrap().params.remove(0);
    assert_eq!(arg("func(x: list<u8>)", "(@ref(o1-1-1-0))"), Arg::Ref(0));
    assert_eq!(arg("func(x: own<r>)", "(@ref(o1-1-1-0))"), Arg::Ref(0));
    assert_eq!(arg("func(x: own<r>)", "(@ref(a1-1-1))"), Arg::Value(Value::Handle(0)));
    assert_eq!(arg("func(x: own<rwasm:core/objects.object>)", "(@ref(o1-1-1-0))"), Arg::Value(Value::Handle(0)));
    let optional = "func(x: option<borrow<rwasm:core/objects.object>>)";
    assert_eq!(arg(optional, "(@ref(o1-1-1-0))"), Arg::Value(Value::some(Value::Handle(0))));
}

proptest! {
    #[test]
    fn values_survive((ty, returned) in common::typed()) {
        let text = wave::to_string(Some(&ty), &returned).unwrap();
        prop_assert!(!text.contains('\n'));
        let read = wave::parse_value(&text, &ty).unwrap();
        prop_assert_eq!(&wave::to_string(Some(&ty), &read).unwrap(), &text);
        if !ty.has_handles() {
            prop_assert_eq!(read, Returned { refs: vec![], ..returned });
        }
    }

    #[test]
    fn random_texts_are_values_or_errors(ty in common::ty(), words in vec(select(WORDS), 0..12)) {
        let text = words.concat();
        if let Ok(value) = wave::parse_value(&text, &ty) {
            prop_assert!(wave::to_string(Some(&ty), &value).is_ok());
        }
        let signature = Signature { params: vec![rwasm_values::Param { name: "x".parse().unwrap(), ty }], result: None };
        if let Ok(args) = wave::parse_args(&format!("({text})"), &signature) {
            signature.check_args(&args).unwrap();
        }
    }

    #[test]
    fn any_text_is_split_or_refused(text: String) {
        let _ = wave::parse_call(&text);
        let _ = wave::parse_args(&text, &"func(x: string)".parse().unwrap());
    }
}

const WORDS: &[&str] = &[
    "[",
    "]",
    "(",
    ")",
    "{",
    "}",
    ",",
    ":",
    "1",
    "-2.5e3",
    "\"x\"",
    "\"",
    "'",
    "'a'",
    "some",
    "ok",
    "err",
    "none",
    "nan",
    "true",
    "a",
    "%",
    "@ref(o1-1-1-0)",
    "@ref(a1-1-1)",
    "@",
    "ref(",
    "//",
    "\n",
    "\"\"\"",
    "\\u{",
    " ",
    "é",
];
