//! What the tests of this room share: random types, random values of them, and hexadecimal text.

use proptest::{collection::vec, prelude::*, sample::select};
use rwasm_values::{
    Case, Field, Flat, InterfaceName, Label, PackageName, Ref, Resource, ResourceName, ResultType, Returned, Scalar, Type, Value,
};

/// The ref table that random values point into: two objects and two actors.
pub(crate) fn refs() -> Vec<Ref> {
    ["o1-1-1-0", "a1-1-2", "o7-3-18446744073709551615-2", "a4294967295-0-0"].map(|text| text.parse().unwrap()).to_vec()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    digits.chunks_exact(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

pub(crate) fn label() -> impl Strategy<Value = Label> {
    let words = ["some", "none", "ok", "err", "true", "nan", "inf", "list", "u8", "record", "ref", "A", "HTTP-get"];
    prop_oneof![
        3 => "[a-z][a-z0-9]{0,4}(-[a-z0-9]{1,3}){0,2}",
        1 => select(words.to_vec()).prop_map(str::to_owned),
    ]
    .prop_map(|text| Label::new(&text).unwrap())
}

/// Names that are unique whatever their case.
fn labels(count: impl Into<proptest::collection::SizeRange>) -> impl Strategy<Value = Vec<Label>> {
    vec(label(), count).prop_map(|mut labels| {
        let mut seen = std::collections::HashSet::new();
        labels.retain(|label| seen.insert(label.to_ascii_lowercase()));
        labels
    })
}

fn scalar() -> impl Strategy<Value = Scalar> {
    use Scalar::*;
    select(&[Bool, S8, U8, S16, U16, S32, U32, S64, U64, F32, F64, Char][..])
}

fn resource() -> impl Strategy<Value = Resource> {
    let version = || proptest::option::of((0..3u64, 0..3u64, 0..3u64).prop_map(|(a, b, c)| format!("{a}.{b}.{c}").parse().unwrap()));
    let package = (label(), label(), version()).prop_map(|(namespace, name, version)| PackageName { namespace, name, version });
    let interface = (proptest::option::of(package), label()).prop_map(|(package, name)| InterfaceName { package, name });
    let named = (proptest::option::of(interface), label()).prop_map(|(interface, name)| ResourceName { interface, name }.into());
    prop_oneof![Just(Resource::Object), named]
}

/// Any storable type.
pub(crate) fn ty() -> impl Strategy<Value = Type> {
    let leaf = prop_oneof![
        5 => scalar().prop_map(Type::from),
        2 => Just(Type::String),
        1 => labels(1..20).prop_map(|names| Type::Enum(names.into())),
        1 => labels(1..=32).prop_map(|names| Type::Flags(names.into())),
        1 => resource().prop_map(Type::Own),
        1 => resource().prop_map(Type::Borrow),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        let maybe = proptest::option::of(inner.clone());
        let key = prop_oneof![
            scalar().prop_filter_map("no floats", |s| (!matches!(s, Scalar::F32 | Scalar::F64)).then(|| Type::from(s))),
            Just(Type::String)
        ];
        let fields = (labels(1..20), inner.clone()).prop_flat_map({
            let inner = inner.clone();
            move |(names, _)| (vec(inner.clone(), names.len()), Just(names))
        });
        let cases = labels(1..20).prop_flat_map({
            let maybe = maybe.clone();
            move |names| (vec(maybe.clone(), names.len()), Just(names))
        });
        prop_oneof![
            inner.clone().prop_map(Type::list),
            (inner.clone(), 1..5u32).prop_map(|(ty, length)| Type::FixedList(ty.into(), length)),
            (key, inner.clone()).prop_map(|(key, value)| Type::Map((key, value).into())),
            fields.prop_map(|(types, names)| Type::record(names.into_iter().zip(types))),
            vec(inner.clone(), 1..5).prop_map(Type::tuple),
            cases.prop_map(|(types, names)| Type::Variant(names.into_iter().zip(types).map(|(name, ty)| Case { name, ty }).collect())),
            inner.prop_map(Type::option),
            (maybe.clone(), maybe).prop_map(|(ok, err)| Type::Result(ResultType { ok, err }.into())),
        ]
    })
}

/// Any value of a type; its handles point into [`refs`].
pub(crate) fn value(ty: &Type) -> BoxedStrategy<Value> {
    if let Some(scalar) = ty.scalar() {
        return scalar_value(scalar);
    }
    match ty {
        Type::String => any::<String>().prop_map(Value::String).boxed(),
        Type::List(element) => match element.scalar() {
            Some(scalar) => flat(scalar, 0..6),
            None => vec(value(element), 0..4).prop_map(Value::List).boxed(),
        },
        Type::FixedList(element, length) => match element.scalar() {
            Some(scalar) => flat(scalar, *length as usize),
            None => vec(value(element), *length as usize).prop_map(Value::List).boxed(),
        },
        Type::Map(pair) => vec((value(&pair.0), value(&pair.1)), 0..4).prop_map(Value::Map).boxed(),
        Type::Record(fields) => all(fields.iter().map(|Field { ty, .. }| ty)).prop_map(Value::Record).boxed(),
        Type::Tuple(types) => all(types.iter()).prop_map(Value::Tuple).boxed(),
        Type::Variant(cases) => {
            let cases = cases.to_vec();
            (0..cases.len()).prop_flat_map(move |at| payload(cases[at].ty.as_ref()).prop_map(move |p| Value::Variant(at as u32, p))).boxed()
        }
        Type::Enum(names) => (0..names.len() as u32).prop_map(Value::Enum).boxed(),
        Type::Option(some) => proptest::option::of(value(some).prop_map(Box::new)).prop_map(Value::Option).boxed(),
        Type::Result(result) => {
            let (ok, err) = (payload(result.ok.as_ref()), payload(result.err.as_ref()));
            prop_oneof![ok.prop_map(|p| Value::Result(Ok(p))), err.prop_map(|p| Value::Result(Err(p)))].boxed()
        }
        Type::Flags(names) => {
            let unused = 32 - names.len() as u32;
            any::<u32>().prop_map(move |bits| Value::Flags(bits >> unused)).boxed()
        }
        Type::Own(Resource::Object) | Type::Borrow(Resource::Object) => select(&[0, 2][..]).prop_map(Value::Handle).boxed(),
        Type::Own(_) | Type::Borrow(_) => select(&[1, 3][..]).prop_map(Value::Handle).boxed(),
        _ => unreachable!("{ty} is no storable type"),
    }
}

fn all<'a>(types: impl Iterator<Item = &'a Type>) -> Vec<BoxedStrategy<Value>> {
    types.map(value).collect()
}

fn payload(ty: Option<&Type>) -> BoxedStrategy<Option<Box<Value>>> {
    match ty {
        Some(ty) => value(ty).prop_map(|value| Some(Box::new(value))).boxed(),
        None => Just(None).boxed(),
    }
}

fn f32s() -> impl Strategy<Value = f32> {
    proptest::num::f32::ANY.prop_map(|v| if v.is_nan() { f32::from_bits(0x7fc0_0000) } else { v })
}

fn f64s() -> impl Strategy<Value = f64> {
    proptest::num::f64::ANY.prop_map(|v| if v.is_nan() { f64::from_bits(0x7ff8_0000_0000_0000) } else { v })
}

fn scalar_value(scalar: Scalar) -> BoxedStrategy<Value> {
    match scalar {
        Scalar::Bool => any::<bool>().prop_map(Value::Bool).boxed(),
        Scalar::S8 => any::<i8>().prop_map(Value::S8).boxed(),
        Scalar::U8 => any::<u8>().prop_map(Value::U8).boxed(),
        Scalar::S16 => any::<i16>().prop_map(Value::S16).boxed(),
        Scalar::U16 => any::<u16>().prop_map(Value::U16).boxed(),
        Scalar::S32 => any::<i32>().prop_map(Value::S32).boxed(),
        Scalar::U32 => any::<u32>().prop_map(Value::U32).boxed(),
        Scalar::S64 => any::<i64>().prop_map(Value::S64).boxed(),
        Scalar::U64 => any::<u64>().prop_map(Value::U64).boxed(),
        Scalar::F32 => f32s().prop_map(Value::F32).boxed(),
        Scalar::F64 => f64s().prop_map(Value::F64).boxed(),
        Scalar::Char => any::<char>().prop_map(Value::Char).boxed(),
    }
}

fn flat(scalar: Scalar, count: impl Into<proptest::collection::SizeRange>) -> BoxedStrategy<Value> {
    let count = count.into();
    macro_rules! of {
        ($strategy:expr) => {
            vec($strategy, count).prop_map(|elements| Value::Flat(Flat::from_slice(&elements))).boxed()
        };
    }
    match scalar {
        Scalar::Bool => of!(any::<bool>()),
        Scalar::S8 => of!(any::<i8>()),
        Scalar::U8 => of!(any::<u8>()),
        Scalar::S16 => of!(any::<i16>()),
        Scalar::U16 => of!(any::<u16>()),
        Scalar::S32 => of!(any::<i32>()),
        Scalar::U32 => of!(any::<u32>()),
        Scalar::S64 => of!(any::<i64>()),
        Scalar::U64 => of!(any::<u64>()),
        Scalar::F32 => of!(f32s()),
        Scalar::F64 => of!(f64s()),
        Scalar::Char => of!(any::<char>()),
    }
}

/// Any type and a value of it.
pub(crate) fn typed() -> impl Strategy<Value = (Type, Returned)> {
    ty().prop_flat_map(|ty| {
        let value = value(&ty);
        (Just(ty), value.prop_map(|value| Returned { refs: refs(), value: Some(value) }))
    })
}
