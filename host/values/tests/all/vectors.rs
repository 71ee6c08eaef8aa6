//! The examples that every SDK runs, whatever its language: `tests/vectors.json`, described in `docs/values.md`.
//!
//! Set `RWASM_BLESS` to write the file anew from its inputs: the types and signatures, the WAVE texts, and the malformed bytes.

use std::{fs, path::Path};

use bytes::Bytes;
use rwasm_types::Code;
use rwasm_values::{
    Args, Limits, Returned, Signature, Type,
    codec::{self, ArgsView, ResultView},
    json, wave,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::common::{hex, unhex};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Vectors {
    about: String,
    version: u8,
    types: Vec<TypeVector>,
    values: Vec<ValueVector>,
    calls: Vec<CallVector>,
    malformed_types: Vec<Malformed>,
    malformed_values: Vec<MalformedValue>,
    malformed_calls: Vec<MalformedCall>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TypeVector {
    wit: String,
    descriptor: String,
    hash: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ValueVector {
    wit: String,
    wave: String,
    json: Box<RawValue>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    refs: Vec<String>,
    stored: String,
    result: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CallVector {
    signature: String,
    wave: String,
    json: Box<RawValue>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    refs: Vec<String>,
    message: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Malformed {
    why: String,
    bytes: String,
    offset: usize,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MalformedValue {
    wit: String,
    why: String,
    stored: String,
    offset: usize,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MalformedCall {
    signature: String,
    why: String,
    message: String,
    offset: usize,
}

fn limits() -> Limits {
    Limits::default()
}

fn texts(refs: &[rwasm_values::Ref]) -> Vec<String> {
    refs.iter().map(ToString::to_string).collect()
}

impl TypeVector {
    fn of(wit: &str) -> Self {
        let ty: Type = wit.parse().unwrap();
        Self { wit: ty.to_string(), descriptor: hex(&ty.encode()), hash: ty.hash().to_string() }
    }
}

impl ValueVector {
    fn of(wit: &str, text: &str) -> Self {
        let ty: Type = wit.parse().unwrap();
        let value = wave::parse_value(text, &ty).unwrap();
        Self {
            wit: wit.to_owned(),
            wave: wave::to_string(Some(&ty), &value).unwrap(),
            json: RawValue::from_string(json::to_string(Some(&ty), &value).unwrap()).unwrap(),
            refs: texts(&value.refs),
            stored: hex(&codec::encode_stored(&ty, value.value.as_ref().unwrap(), &value.refs, &limits()).unwrap()),
            result: hex(&codec::encode_result(Some(&ty), &value, &limits()).unwrap()),
        }
    }

    /// From bytes to everything.
    fn check_back(&self) {
        let ty: Type = self.wit.parse().unwrap();
        let bytes = Bytes::from(unhex(&self.result));
        let value = codec::decode_result(Some(&ty), &bytes, &limits()).unwrap();
        assert_eq!(texts(&value.refs), self.refs);
        assert_eq!(wave::to_string(Some(&ty), &value).unwrap(), self.wave);
        assert_eq!(json::to_string(Some(&ty), &value).unwrap(), self.json.get());
        let view = ResultView::parse(Some(&ty), &bytes, &limits()).unwrap();
        assert_eq!(hex(view.payload().unwrap().stored()), self.stored);
        let stored = codec::decode_stored(&ty, &unhex(&self.stored).into(), &value.refs, &limits()).unwrap();
        assert_eq!(Some(stored), value.value);
        let read: Returned = json::parse_value(self.json.get().as_bytes(), &ty, &limits()).unwrap();
        assert_eq!(read, value);
    }
}

impl CallVector {
    fn of(signature: &str, text: &str) -> Self {
        let func: Signature = signature.parse().unwrap();
        let args = wave::parse_args(text, &func).unwrap();
        Self {
            signature: signature.to_owned(),
            wave: wave::args_to_string(&func, &args).unwrap(),
            json: RawValue::from_string(json::args_to_string(&func, &args).unwrap()).unwrap(),
            refs: texts(&args.refs),
            message: hex(&codec::encode_args(&func, &args, &limits()).unwrap()),
        }
    }

    fn check_back(&self) {
        let func: Signature = self.signature.parse().unwrap();
        let bytes = Bytes::from(unhex(&self.message));
        let args: Args = codec::decode_args(&func, &bytes, &limits()).unwrap();
        assert_eq!(texts(&args.refs), self.refs);
        assert_eq!(wave::args_to_string(&func, &args).unwrap(), self.wave);
        assert_eq!(json::args_to_string(&func, &args).unwrap(), self.json.get());
        assert_eq!(json::parse_args(self.json.get().as_bytes(), &func, &limits()).unwrap(), args);
        assert_eq!(ArgsView::parse(&func, &bytes, &limits()).unwrap().params().len(), args.params.len());
    }
}

fn offset(error: &rwasm_types::Error) -> usize {
    assert_eq!(error.code(), Code::MALFORMED_VALUE);
    error.field("offset").unwrap().parse().unwrap()
}

fn value_offset(wit: &str, stored: &str) -> usize {
    offset(&codec::check_stored(&wit.parse().unwrap(), &unhex(stored), &[], &limits()).unwrap_err())
}

fn call_offset(signature: &str, message: &str) -> usize {
    offset(&ArgsView::parse(&signature.parse().unwrap(), &unhex(message), &limits()).unwrap_err())
}

/// The same file, with everything made anew that follows from the rest.
fn blessed(old: &Vectors) -> Vectors {
    let Vectors { about, version, types, values, calls, malformed_types, malformed_values, malformed_calls } = old;
    Vectors {
        about: about.clone(),
        version: *version,
        types: types.iter().map(|vector| TypeVector::of(&vector.wit)).collect(),
        values: values.iter().map(|vector| ValueVector::of(&vector.wit, &vector.wave)).collect(),
        calls: calls.iter().map(|vector| CallVector::of(&vector.signature, &vector.wave)).collect(),
        malformed_types: malformed_types
            .iter()
            .map(|Malformed { why, bytes, .. }| {
                let offset = offset(&Type::decode(&unhex(bytes)).unwrap_err());
                Malformed { why: why.clone(), bytes: bytes.clone(), offset }
            })
            .collect(),
        malformed_values: malformed_values
            .iter()
            .map(|MalformedValue { wit, why, stored, .. }| {
                let offset = value_offset(wit, stored);
                MalformedValue { wit: wit.clone(), why: why.clone(), stored: stored.clone(), offset }
            })
            .collect(),
        malformed_calls: malformed_calls
            .iter()
            .map(|MalformedCall { signature, why, message, .. }| {
                let offset = call_offset(signature, message);
                MalformedCall { signature: signature.clone(), why: why.clone(), message: message.clone(), offset }
            })
            .collect(),
    }
}

/// The file: one vector on a line.
fn text(vectors: &Vectors) -> String {
    fn section(name: &str, vectors: &[impl Serialize]) -> String {
        let lines: Vec<String> = vectors.iter().map(|vector| format!("    {}", serde_json::to_string(vector).unwrap())).collect();
        format!("  \"{name}\": [\n{}\n  ]", lines.join(",\n"))
    }
    let sections = [
        format!("  \"about\": {}", serde_json::to_string(&vectors.about).unwrap()),
        format!("  \"version\": {}", vectors.version),
        section("types", &vectors.types),
        section("values", &vectors.values),
        section("calls", &vectors.calls),
        section("malformed_types", &vectors.malformed_types),
        section("malformed_values", &vectors.malformed_values),
        section("malformed_calls", &vectors.malformed_calls),
    ];
    format!("{{\n{}\n}}\n", sections.join(",\n"))
}

#[test]
fn vectors_hold_both_ways() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors.json");
    let found = fs::read_to_string(&path).unwrap();
    let vectors: Vectors = serde_json::from_str(&found).unwrap();
    assert_eq!(vectors.version, codec::VERSION);
    let made = text(&blessed(&vectors));
    if std::env::var_os("RWASM_BLESS").is_some() {
        fs::write(&path, &made).unwrap();
        return;
    }
    for (found, made) in found.lines().zip(made.lines()) {
        assert_eq!(found, made);
    }
    assert_eq!(found.len(), made.len());
    for vector in &vectors.types {
        assert_eq!(Type::decode(&unhex(&vector.descriptor)).unwrap().to_string(), vector.wit);
    }
    vectors.values.iter().for_each(ValueVector::check_back);
    vectors.calls.iter().for_each(CallVector::check_back);
}
