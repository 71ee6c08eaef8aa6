//! What users read when a call does not fit: one line that names the parameter, the type and what was given.

use rwasm_types::{Code, Error};
use rwasm_values::{Arg, Args, Limits, Returned, Signature, Value, json, wave};

use crate::common;

fn check(error: Error, code: Code, text: &str, fields: &str) {
    let found: Vec<String> = error.fields().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!((error.code(), error.to_string().as_str(), found.join(" ").as_str()), (code, text, fields));
}

#[test]
fn wave_arguments() {
    fn refused(signature: &str, text: &str, code: Code, message: &str, fields: &str) {
        let signature: Signature = signature.parse().unwrap();
        check(wave::parse_args(text, &signature).unwrap_err(), code, message, fields);
    }
    let unfit = Code::WRONG_TYPE;
    refused(
        "func(n: u32)",
        "(\"a\")",
        unfit,
        "parameter `n` must be `u32`, but `\"a\"` was given",
        "expected=u32 given=`\"a\"` parameter=n path=args[0]",
    );
    refused(
        "func(n: u8)",
        "(256)",
        Code::OUT_OF_RANGE,
        "parameter `n` must be `u8` (0 to 255), but `256` was given",
        "expected=u8 given=`256` parameter=n path=args[0]",
    );
    refused(
        "func(n: u8)",
        "(-1)",
        Code::OUT_OF_RANGE,
        "parameter `n` must be `u8` (0 to 255), but `-1` was given",
        "expected=u8 given=`-1` parameter=n path=args[0]",
    );
    refused(
        "func(n: u8)",
        "(1.5)",
        unfit,
        "parameter `n` must be `u8`, but `1.5` was given",
        "expected=u8 given=`1.5` parameter=n path=args[0]",
    );
    refused(
        "func(n: f32)",
        "(1e39)",
        Code::OUT_OF_RANGE,
        "parameter `n` must be `f32`, but `1e39` was given",
        "expected=f32 given=`1e39` parameter=n path=args[0]",
    );
    refused(
        "func(a: u8, list: record { items: list<record { x: u8 }> })",
        "(1, {items: [{x: 1}, {x: true}]})",
        unfit,
        "`args[1].items[1].x` of parameter `list` must be `u8`, but `true` was given",
        "expected=u8 given=`true` parameter=list path=args[1].items[1].x",
    );
    refused(
        "func(r: record { x: u8 })",
        "({:})",
        unfit,
        "parameter `r` lacks the field `x` of `record { x: u8 }`",
        "expected=record { x: u8 } given=a record without it parameter=r path=args[0]",
    );
    refused(
        "func(r: record { x: u8 })",
        "({x: 1, y: 2})",
        unfit,
        "parameter `r` has the field `y`, which is not in `record { x: u8 }`",
        "expected=record { x: u8 } given=y parameter=r path=args[0]",
    );
    refused(
        "func(e: enum { a })",
        "(b)",
        unfit,
        "parameter `e` must be `enum { a }`, but `b` was given",
        "expected=enum { a } given=`b` parameter=e path=args[0]",
    );
    refused(
        "func(v: variant { a, b(u8) })",
        "(b)",
        unfit,
        "`args[0].b` of parameter `v` must be `u8`, but nothing was given",
        "expected=u8 given=nothing parameter=v path=args[0].b",
    );
    refused(
        "func(v: variant { a, b(u8) })",
        "(a(1))",
        unfit,
        "`args[0].a` of parameter `v` takes no payload, but `a(1)` was given",
        "expected=variant { a, b(u8) } given=`a(1)` parameter=v path=args[0].a",
    );
    refused(
        "func(t: tuple<u8, u8>)",
        "((1))",
        unfit,
        "parameter `t` must have 2 parts, but has 1",
        "expected=tuple<u8, u8> given=1 parameter=t path=args[0]",
    );
    refused(
        "func(m: map<u8, u8>)",
        "([(1)])",
        unfit,
        "`args[0][0]` of parameter `m` must be a pair of a key and a value",
        "expected=map<u8, u8> given=`(1)` parameter=m path=args[0][0]",
    );
    refused(
        "func(o: own<rwasm:core/objects.object>)",
        "(1)",
        unfit,
        "parameter `o` is a handle of `own<rwasm:core/objects.object>`, which is written as `@ref(ID)`",
        "expected=own<rwasm:core/objects.object> given=`1` parameter=o path=args[0]",
    );
    refused(
        "func(o: own<rwasm:core/objects.object>)",
        "(@ref(a1-2-3))",
        unfit,
        "parameter `o` must be `own<rwasm:core/objects.object>`, but a1-2-3 was given",
        "expected=own<rwasm:core/objects.object> given=a1-2-3 parameter=o path=args[0]",
    );
    refused(
        "func(n: u8)",
        "(@ref(a1-2-3))",
        unfit,
        "parameter `n` must be `u8`, but a1-2-3 was given",
        "expected=u8 given=a1-2-3 parameter=n path=args[0]",
    );
    refused(
        "func(n: list<u8>)",
        "([@ref(o1-2-3-4)])",
        unfit,
        "`args[0][0]` of parameter `n` must be `u8`, but `@ref(o1-2-3-4)` was given",
        "expected=u8 given=`@ref(o1-2-3-4)` parameter=n path=args[0][0]",
    );
    refused(
        "func(n: u8)",
        "(@ref(x))",
        unfit,
        "parameter `n` has a ref that is none: `x` is not an object ref, which looks like `o3-17-42-0`",
        "expected=u8 given=`@ref(x)` parameter=n path=args[0]",
    );
    refused(
        "func(s: stream<u8>)",
        "(1)",
        unfit,
        "parameter `s` is `stream<u8>`, whose values cannot be passed",
        "expected=stream<u8> given=`1` parameter=s path=args[0]",
    );
    refused(
        "func(s: stream<u8>)",
        "(@ref(o1-2-3-4))",
        unfit,
        "parameter `s` is `stream<u8>`, whose values cannot be passed",
        "expected=stream<u8> given=o1-2-3-4 parameter=s path=args[0]",
    );
    refused(
        "func(s: string)",
        &format!("([{}])", "1, ".repeat(200)),
        unfit,
        &format!("parameter `s` must be `string`, but `[{}… was given", &"1, ".repeat(200)[..78]),
        &format!("expected=string given=`[{}… parameter=s path=args[0]", &"1, ".repeat(200)[..78]),
    );
}

#[test]
fn numbers_of_arguments() {
    fn refused(signature: &str, text: &str, message: &str, fields: &str) {
        let signature: Signature = signature.parse().unwrap();
        check(wave::parse_args(text, &signature).unwrap_err(), Code::WRONG_ARITY, message, fields);
    }
    refused("func()", "(1)", "the function takes no arguments, but 1 was given; its type is `func()`", "expected=0 given=1");
    refused(
        "func(x: u8)",
        "()",
        "the function takes 1 argument, but 0 were given; its type is `func(x: u8)`",
        "expected=1 given=0 parameter=x",
    );
    refused(
        "func(x: u8, y: u8)",
        "(1)",
        "the function takes 2 arguments, but 1 was given; its type is `func(x: u8, y: u8)`",
        "expected=2 given=1 parameter=y",
    );
    refused(
        "func(x: u8, y: option<u8>)",
        "()",
        "the function takes 1 to 2 arguments, but 0 were given; its type is `func(x: u8, y: option<u8>)`",
        "expected=2 given=0 parameter=x",
    );
    refused(
        "func(x: option<u8>, y: u8)",
        "(1)",
        "the function takes 2 arguments, but 1 was given; its type is `func(x: option<u8>, y: u8)`",
        "expected=2 given=1 parameter=y",
    );
}

#[test]
fn wave_syntax() {
    fn refused(text: &str, why: &str) {
        let error = wave::parse_args(text, &"func(x: u8)".parse().unwrap()).unwrap_err();
        assert_eq!((error.code(), error.to_string().as_str()), (Code::CALL_SYNTAX, why));
    }
    refused("(1", "the text is not WAVE at line 1, column 3: it ends too soon");
    refused("(1,\n  ])", "the text is not WAVE at line 2, column 3: `])` does not belong there");
    refused("(1) 2", "the text is not WAVE at line 1, column 5: `2` follows its end");
    refused("(())", "the text is not WAVE at line 1, column 2: `()` is no value");
    refused("1", "the arguments are not in parentheses; write them as in `(1, 2)`");
    refused("({x: 1, x: 2})", "the text is not WAVE at line 1, column 9: a field comes twice at `x: 2})`");
    refused("(\"é\", @)", "the text is not WAVE at line 1, column 7: `@)` does not belong there");
    refused("(\"a\nb\")", "the text is not WAVE at line 1, column 2: `\"a b\")` does not belong there");
    refused(&format!("({})", "[".repeat(1000)), "the text is not WAVE at line 1, column 100: it is nested too deep");
    let error = wave::parse_value(&" ".repeat(wave::TEXT_BYTES_MAX + 1).replace(' ', "1"), &rwasm_values::Type::U8).unwrap_err();
    assert_eq!(error.code(), Code::VALUE_TOO_LARGE);
}

#[test]
fn json_arguments() {
    fn refused(signature: &str, text: &str, code: Code, message: &str) {
        let signature: Signature = signature.parse().unwrap();
        let error = json::parse_args(text.as_bytes(), &signature, &Limits::default()).unwrap_err();
        assert_eq!((error.code(), error.to_string().as_str()), (code, message), "{text}");
    }
    let unfit = Code::WRONG_TYPE;
    refused("func(n: u32)", r#"["a"]"#, unfit, "parameter `n` must be `u32`, but \"a\" was given");
    refused("func(n: u32)", "[null]", unfit, "parameter `n` must be `u32`, but `null` was given");
    refused("func(n: u32)", "[1.5]", unfit, "parameter `n` must be `u32`, but `1.5` was given");
    refused("func(n: u32)", "[[]]", unfit, "parameter `n` must be `u32`, but an array was given");
    refused("func(n: u32)", r#"{"n": {"a": 1}}"#, unfit, "parameter `n` must be `u32`, but an object was given");
    refused("func(n: u8)", "[256]", Code::OUT_OF_RANGE, "parameter `n` must be `u8` (0 to 255), but `256` was given");
    refused("func(n: u8)", r#"["-1"]"#, Code::OUT_OF_RANGE, "parameter `n` must be `u8` (0 to 255), but \"-1\" was given");
    refused("func(n: u64)", "[1e30]", Code::OUT_OF_RANGE, "parameter `n` must be `u64` (0 to 18446744073709551615), but `1e30` was given");
    refused("func(n: f32)", "[1e39]", Code::OUT_OF_RANGE, "parameter `n` must be `f32`, but `1e39` was given");
    refused("func(n: f32)", r#"["inf"]"#, unfit, "parameter `n` must be `f32`, but \"inf\" was given");
    refused(
        "func(a: u8, b: record { items: list<record { x: u8 }> })",
        r#"[1, {"items": [{"x": 1}, {"x": true}]}]"#,
        unfit,
        "`args[1].items[1].x` of parameter `b` must be `u8`, but `true` was given",
    );
    refused("func(b: list<u8>)", r#"["AQ"]"#, unfit, "parameter `b` is no base64: Invalid padding");
    refused("func(b: list<u8, 3>)", r#"["AQI="]"#, unfit, "parameter `b` must have 3 parts, but has 2");
    refused("func(r: record { x: u8 })", "[{}]", unfit, "parameter `r` lacks the field `x` of `record { x: u8 }`");
    refused("func(r: record { x: u8 })", r#"[{"x": 1, "x": 2}]"#, unfit, "parameter `r` has the field `x` twice");
    refused(
        "func(r: record { x: u8 })",
        r#"[{"x": 1, "y": 2}]"#,
        unfit,
        "parameter `r` has the field `y`, which is not in `record { x: u8 }`",
    );
    refused("func(m: map<string, u8>)", r#"[{"x": 1, "x": 2}]"#, unfit, "parameter `m` has the key \"x\" twice, or where it means a ref");
    refused(
        "func(m: map<string, u8>)",
        r#"[{"x": 1, "$ref": 2}]"#,
        unfit,
        "parameter `m` has the key \"$ref\" twice, or where it means a ref",
    );
    refused("func(m: map<string, u8>)", r#"[{"x": "y"}]"#, unfit, "`args[0][0].value` of parameter `m` must be `u8`, but \"y\" was given");
    refused("func(m: map<u8, u8>)", "[[[1]]]", unfit, "`args[0][0]` of parameter `m` must have 2 parts, but has 1");
    refused("func(m: map<u8, u8>)", r#"[[["x", 1]]]"#, unfit, "`args[0][0][0]` of parameter `m` must be `u8`, but \"x\" was given");
    refused("func(t: tuple<u8>)", "[[1, 2, 3]]", unfit, "parameter `t` must have 1 parts, but has 3");
    refused("func(v: variant { a, b(u8) })", r#"["b"]"#, unfit, "parameter `v` is the case `b`, which has a payload: write `{\"b\": …}`");
    refused("func(v: variant { a, b(u8) })", r#"[{"a": 1}]"#, unfit, "`args[0].a` of parameter `v` takes no payload: write `null`");
    refused(
        "func(v: variant { a, b(u8) })",
        r#"[{"c": 1}]"#,
        unfit,
        "parameter `v` must be `variant { a, b(u8) }`, but an object with the key \"c\" was given",
    );
    refused(
        "func(v: variant { a, b(u8) })",
        r#"[{"b": 1, "a": null}]"#,
        unfit,
        "parameter `v` must be `variant { a, b(u8) }`, but an object with the further key \"a\" was given",
    );
    refused("func(f: flags { a })", r#"[["a", "a"]]"#, unfit, "parameter `f` has the flag `a` twice");
    refused("func(f: flags { a })", r#"[["b"]]"#, unfit, "parameter `f` must be `flags { a }`, but \"b\" was given");
    refused("func(o: option<option<u8>>)", "[1]", unfit, "parameter `o` must be `option<option<u8>>`, but `1` was given");
    refused("func(r: result<u8>)", r#"[{"err": 1}]"#, unfit, "`args[0].err` of parameter `r` takes no payload: write `null`");
    refused("func(c: char)", r#"["ab"]"#, unfit, "parameter `c` must be `char`, but \"ab\" was given");
    refused(
        "func(n: list<u8>)",
        r#"[[{"$ref": "o1-1-1-1"}]]"#,
        unfit,
        "`args[0][0]` of parameter `n` must be `u8`, but the ref o1-1-1-1 was given",
    );
    refused("func(n: u8)", r#"[{"$ref": 1}]"#, unfit, "parameter `n` must be `string`, but `1` was given");
    refused(
        "func(n: u8)",
        r#"[{"$ref": "o1"}]"#,
        unfit,
        "parameter `n` has a ref that is none: `o1` is not an object ref, which looks like `o3-17-42-0`",
    );
    let sign = "parameter `n` has a ref that is none: `\u{fffd}[1m` is not an object ref, which looks like `o3-17-42-0`";
    refused("func(n: u8)", r#"[{"$ref": "\u001b[1m"}]"#, unfit, sign);
    refused("func(n: u8)", "[1, 2, 3]", Code::WRONG_ARITY, "the function takes 1 argument, but 3 were given; its type is `func(n: u8)`");
    refused("func(n: u8)", "{}", Code::WRONG_ARITY, "parameter `n` is missing, which is `u8`; the function's type is `func(n: u8)`");
    refused("func(n: u8)", r#"{"m": 1}"#, Code::WRONG_ARITY, "the function has no parameter \"m\"; its type is `func(n: u8)`");
    refused("func(n: u8)", r#"{"n": 1, "n": 1}"#, Code::MALFORMED_JSON, "the argument `n` comes twice");
    refused("func(n: u8)", "1", unfit, "the arguments are neither an array, nor an object by the names of the parameters");
    refused("func(n: u8)", "[1", Code::MALFORMED_JSON, "the JSON does not parse: EOF while parsing a list at line 1 column 2");
    refused("func(n: u8)", "[1] 2", Code::MALFORMED_JSON, "the JSON does not parse: trailing characters at line 1 column 5");
    refused("func(n: u8)", "", Code::MALFORMED_JSON, "the JSON does not parse: EOF while parsing a value at line 1 column 0");
    refused("func(f: flags { a })", "[[1]]", unfit, "`args[0][0]` of parameter `f` must be `string`, but `1` was given");
    refused(
        "func(m: map<u8, u8>)",
        "[[1]]",
        unfit,
        "the JSON does not fit: invalid type: integer `1`, expected a key and a value, in an array at line 1 column 3",
    );
}

#[test]
fn values_by_themselves() {
    let error = json::parse_value(b"[1, 300]", &"list<u8>".parse().unwrap(), &Limits::default()).unwrap_err();
    check(error, Code::OUT_OF_RANGE, "`value[1]` must be `u8` (0 to 255), but `300` was given", "expected=u8 given=`300` path=value[1]");
    let error = wave::parse_value("x", &"u8".parse().unwrap()).unwrap_err();
    check(error, Code::WRONG_TYPE, "the value must be `u8`, but `x` was given", "expected=u8 given=`x` path=value");
}

#[test]
fn arguments_in_memory() {
    fn refused(signature: &str, arg: impl Into<Arg>, message: &str) {
        let signature: Signature = signature.parse().unwrap();
        let args = Args { refs: common::refs(), params: vec![arg.into()] };
        assert_eq!(signature.check_args(&args).unwrap_err().to_string(), message);
    }
    refused("func(n: u8)", Value::U32(1), "parameter `n` must be `u8`, but a u32 was given");
    refused("func(n: list<u8>)", Value::flat(&[1u16]), "parameter `n` must be `list<u8>`, but list<u16> was given");
    refused("func(n: list<u8>)", Value::List(vec![]), "parameter `n` must be `list<u8>`, but a list that is not flat was given");
    refused(
        "func(n: list<string>)",
        Value::List(vec!["".into(), 1u8.into()]),
        "`args[0][1]` of parameter `n` must be `string`, but a u8 was given",
    );
    refused(
        "func(n: map<u8, u8>)",
        Value::Map(vec![(1u8.into(), "".into())]),
        "`args[0][0].value` of parameter `n` must be `u8`, but a string was given",
    );
    refused("func(n: enum { a })", Value::Enum(1), "parameter `n` must be `enum { a }`, but case 1 was given");
    refused("func(n: flags { a })", Value::Flags(6), "parameter `n` must be `flags { a }`, but flag 1 was given");
    refused("func(n: own<r>)", Value::Handle(0), "parameter `n` must be `own<r>`, but o1-1-1-0 was given");
    refused("func(n: own<r>)", Value::Handle(9), "parameter `n` must be `own<r>`, but a handle that is not in the table was given");
    refused("func(n: result<u8>)", Value::err(1u8), "`args[0].err` of parameter `n` takes no payload, but a u8 was given");
    refused("func(n: future)", Value::U8(1), "parameter `n` is `future`, whose values cannot be passed");
    refused("func(n: u8)", Arg::Ref(1), "parameter `n` must be `u8`, but a1-1-2 was given");
    refused("func(n: u8)", Arg::Ref(9), "parameter `n` must be `u8`, but a ref that is not in the table was given");
    let object = "func(n: own<rwasm:core/objects.object>)";
    let takes = "is `own<rwasm:core/objects.object>`, which takes the handle of an object and not the object's value";
    refused(object, Arg::Ref(0), &format!("parameter `n` {takes}"));
    let signature: Signature = "func() -> u8".parse().unwrap();
    let none = signature.check_result(&Returned::default()).unwrap_err();
    assert_eq!(none.to_string(), "the result must be `u8`, but there is none");
    signature.check_result(&Returned { refs: vec![], value: Some(1u8.into()) }).unwrap();
}
