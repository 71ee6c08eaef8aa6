// Types and values of the form.

import assert from "node:assert/strict";
import { test } from "node:test";
import { canAsk, first, parse, readNumber } from "../src/wit.ts";

test("types are read as the API writes them", () => {
  assert.deepEqual(parse("u32"), { kind: "scalar", name: "u32" });
  assert.deepEqual(parse("list<list<u8>, 4>"), { kind: "list", of: { kind: "list", of: { kind: "scalar", name: "u8" } }, length: 4 });
  assert.deepEqual(parse("result<_, string>"), { kind: "result", ok: null, err: { kind: "scalar", name: "string" } });
  assert.deepEqual(parse("result"), { kind: "result", ok: null, err: null });
  assert.deepEqual(parse("variant { a, b(tuple<s8, bool>) }"), {
    kind: "variant",
    cases: [
      { name: "a", ty: null },
      { name: "b", ty: { kind: "tuple", of: [{ kind: "scalar", name: "s8" }, { kind: "scalar", name: "bool" }] } },
    ],
  });
  assert.deepEqual(parse("flags { read-it, write }"), { kind: "flags", names: ["read-it", "write"] });
  assert.deepEqual(parse("map<string, option<f64>>"), {
    kind: "map",
    key: { kind: "scalar", name: "string" },
    value: { kind: "option", of: { kind: "scalar", name: "f64" } },
  });
});

test("what no form can ask for is told apart, wherever it stands", () => {
  for (const text of ["own<demo:bank/accounts@1.2.0.account>", "stream<u8>", "...", "error-context", "u33", "list<", "u8 u8", ""]) {
    assert.equal(canAsk(parse(text)), false, text);
    assert.equal(canAsk(parse(`record { a: u8, b: list<${text}> }`)), false, text);
  }
  assert.equal(canAsk(parse("record { a: result<list<u8>, enum { x }>, b: option<char> }")), true);
});

test("a form begins with a value of its type", () => {
  const of = (text: string) => JSON.stringify(first(parse(text)));
  assert.equal(of("record { a: u8, b: option<u8>, c: list<u8>, d: list<u16, 2> }"), '{"a":0,"b":null,"c":"","d":[0,0]}');
  assert.equal(of("variant { a(string), b }"), '{"a":""}');
  assert.equal(of("variant { b, a(string) }"), '"b"');
  assert.equal(of("result<_, string>"), '{"ok":null}');
  assert.equal(of("tuple<bool, char, f32>"), '[false,"a",0]');
  assert.equal(of("flags { x }"), "[]");
});

test("numbers are checked as their type has them", () => {
  const value = (name: "u8" | "s8" | "u64" | "s64" | "f64", text: string) => {
    const read = readNumber(name, text);
    return "value" in read ? read.value : "wrong";
  };
  assert.deepEqual(["0", "255", "256", "-1", "1.5", "", "x"].map((text) => value("u8", text)), [0, 255, "wrong", "wrong", "wrong", "wrong", "wrong"]);
  assert.deepEqual(["-128", "-129", "+5"].map((text) => value("s8", text)), [-128, "wrong", 5]);
  assert.equal(value("u64", "18446744073709551615"), "18446744073709551615");
  assert.equal(value("s64", "9007199254740991"), 9007199254740991);
  assert.deepEqual(["1e3", "NaN", "-inf", ".5", "one"].map((text) => value("f64", text)), [1000, "NaN", "-Infinity", 0.5, "wrong"]);
});
