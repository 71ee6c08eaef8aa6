//! The binary codec: round trips of everything, strictness, limits and views. Its examples byte for byte are in `vectors.rs`.

use bytes::Bytes;
use proptest::{collection::vec, prelude::*};
use rwasm_types::{Code, Error};
use rwasm_values::{
    Arg, Args, Flat, Label, Limits, Param, Ref, Returned, Scalar, Signature, Type, Value,
    codec::{self, ArgView, ArgsView, Decoder, Encoder, FlatWriter, Payload, ResultView},
};

use crate::common::{self, hex, unhex};

fn ty(text: &str) -> Type {
    text.parse().unwrap()
}

fn func(text: &str) -> Signature {
    text.parse().unwrap()
}

fn limits() -> Limits {
    Limits::default()
}

/// The error of a stored value, and the offset that it names.
fn malformed(of: &str, bytes: &[u8], refs: &[Ref]) -> (String, usize) {
    let of = ty(of);
    let error = codec::check_stored(&of, bytes, refs, &limits()).unwrap_err();
    let decoded = codec::decode_stored(&of, &Bytes::copy_from_slice(bytes), refs, &limits()).unwrap_err();
    assert_eq!(error, decoded, "checking and decoding differ on {of}");
    assert_eq!(error.code(), Code::MALFORMED_VALUE);
    (error.message().to_owned(), error.field("offset").unwrap().parse().unwrap())
}

#[test]
fn reading_is_strict() {
    fn check(of: &str, bytes: &str, offset: usize, why: &str) {
        let (message, at) = malformed(of, &unhex(bytes), &common::refs());
        assert_eq!((message.as_str(), at), (format!("byte {offset}: {why}").as_str(), offset), "{of} of {bytes}");
    }
    check("bool", "02", 0, "this is no bool");
    check("bool", "", 0, "the input ends 1 byte too soon");
    check("u32", "000000", 3, "the input ends 1 byte too soon");
    check("u16", "000000", 2, "the value ends here, but the input has 1 byte more");
    check("char", "00d80000", 0, "this is no char");
    check("char", "00001100", 0, "this is no char");
    check("string", "61ff", 1, "this is not UTF-8");
    check("tuple<string>", "02c3", 0, "2 elements cannot follow in 1 byte");
    check("tuple<string>", "01c3", 1, "this is not UTF-8");
    check("tuple<string>", "8000", 0, "a number is not in its shortest form");
    check("tuple<string>", "8080808010", 0, "a number is larger than 4294967295");
    check("tuple<string>", "808080808000", 0, "a number is larger than 4294967295");
    check("list<u32>", "0000000000", 4, "the value ends here, but the input has 1 byte more");
    check("list<bool>", "000102", 2, "this is no bool");
    check("list<char>", "61000000ffffffff", 4, "this is no char");
    check("list<bool, 2>", "0002", 1, "this is no bool");
    check("list<u16, 2>", "000000", 3, "the input ends 1 byte too soon");
    check("list<string>", "ffffffff0f", 0, "4294967295 elements cannot follow in 0 bytes");
    check("tuple<list<u64>>", "02 0000000000000000", 0, "2 elements cannot follow in 8 bytes");
    check("map<u8, bool>", "02 00000102", 4, "this is no bool");
    check("map<u8, bool>", "03 00000102", 0, "3 elements cannot follow in 4 bytes");
    check("option<u8>", "02 00", 0, "a tag is 0 or 1");
    check("option<u8>", "01", 1, "the input ends 1 byte too soon");
    check("option<u8>", "00 00", 1, "the value ends here, but the input has 1 byte more");
    check("result<u8>", "ff", 0, "a tag is 0 or 1");
    check("enum { a, b }", "02", 0, "there is no case 2");
    check("variant { a, b(u8) }", "01", 1, "the input ends 1 byte too soon");
    check("variant { a, b(u8) }", "8100", 0, "a number is not in its shortest form");
    check("flags { a, b }", "04", 0, "a bit is set that stands for no flag");
    check("flags { a, b, c, d, e, f, g, h, i }", "0002", 0, "a bit is set that stands for no flag");
    check("own<rwasm:core/objects.object>", "04", 0, "there is no ref 4");
    check("own<rwasm:core/objects.object>", "01", 0, "the handle of rwasm:core/objects.object points at a1-1-2");
    check("borrow<r>", "00", 0, "the handle of r points at o1-1-1-0");
}

#[test]
fn messages_are_strict() {
    fn check(signature: &str, bytes: &str, offset: usize, why: &str) {
        let (signature, bytes) = (func(signature), unhex(bytes));
        let error = ArgsView::parse(&signature, &bytes, &limits()).unwrap_err();
        assert_eq!(error, codec::decode_args(&signature, &bytes.into(), &limits()).unwrap_err());
        assert_eq!((error.code(), error.message()), (Code::MALFORMED_VALUE, format!("byte {offset}: {why}").as_str()));
        assert_eq!(error.field("offset"), Some(offset.to_string().as_str()));
    }
    let object = format!("01 01 01 {}", "01000000".repeat(5));
    check("func()", "", 0, "the input ends 1 byte too soon");
    check("func()", "00 00 00", 0, "version 0 of the codec is not known");
    check("func()", "01 00", 2, "the input ends 1 byte too soon");
    check("func()", "01 00 02", 2, "2 is no mode of arguments");
    check("func()", "01 00 01", 2, "the mode is 1, but no parameter is given by ref");
    check("func(x: u8)", "01 00 01 00 07", 2, "the mode is 1, but no parameter is given by ref");
    check("func(x: u8)", "01 00 01 01 00", 4, "there is no ref 0");
    check("func(x: u8)", "01 00 01 02 00", 3, "a tag is 0 or 1");
    check("func(x: u8)", "01 00 00 07 07", 4, "the value ends here, but the input has 1 byte more");
    check("func()", "01 01 01 00", 4, "the input ends 19 bytes too soon");
    check("func()", &format!("01 01 03 {} 00", "01000000".repeat(5)), 2, "this is no ref");
    check("func()", &format!("01 01 02 {} 00", "01000000".repeat(5)), 2, "this is no ref");
    check("func()", &format!("01 01 01 {} 00", "00000000".repeat(5)), 2, "this is no ref");
    check(
        "func(x: own<rwasm:core/objects.object>)",
        &format!("{object} 01 01 00"),
        25,
        "o1-1-4294967297-1 cannot be the value of a `own<rwasm:core/objects.object>`",
    );
    check("func(x: stream)", &format!("{object} 01 01 00"), 25, "o1-1-4294967297-1 cannot be the value of a `stream`");
    let error = ArgsView::parse(&func("func(x: u8, y: string)"), &unhex("01 00 00 07 01 ff"), &limits()).unwrap_err();
    assert_eq!(error.field("parameter"), Some("y"));
    let error = ResultView::parse(None, &unhex("01 00 00"), &limits()).unwrap_err();
    assert_eq!(error.message(), "byte 2: the value ends here, but the input has 1 byte more");
}

#[test]
fn large_counts_and_small_inputs() {
    // 100,001 refs announced: refused by number, not by length.
    let error = ArgsView::parse(&func("func()"), &unhex("01 a18d06"), &limits()).unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::VALUE_TOO_LARGE, "a message has 100001 refs, but may have 100000"));
    let refs = vec![common::refs()[0]; 100_001];
    let error = codec::encode_args(&func("func()"), &Args { refs, params: vec![] }, &limits()).unwrap_err();
    assert_eq!(error.code(), Code::VALUE_TOO_LARGE);

    let small = Limits { bytes: 10, parts: 10 };
    let check = |error: Error, message: &str| assert_eq!((error.code(), error.message()), (Code::VALUE_TOO_LARGE, message));
    let many = Bytes::from([&[20][..], &[0; 20]].concat());
    check(codec::decode_stored(&ty("list<option<u8>>"), &many, &[], &small).unwrap_err(), "the value has 21 bytes, but may have 10");
    let small = Limits { bytes: 100, ..small };
    check(codec::decode_stored(&ty("list<option<u8>>"), &many, &[], &small).unwrap_err(), "the value has more parts than may be decoded");
    // A view decodes nothing, and so has no parts.
    codec::check_stored(&ty("list<option<u8>>"), &many, &[], &small).unwrap();
    // A flat list is one part, however long.
    codec::decode_stored(&ty("list<bool>"), &many.slice(1..), &[], &small).unwrap();

    let text = Value::String("x".repeat(101));
    check(codec::encode_stored(&Type::String, &text, &[], &small).unwrap_err(), "the encoded value has more than 100 bytes");
    check(FlatWriter::string(usize::MAX, &small).unwrap_err(), "18446744073709551615 elements are more than the codec can count");
    check(FlatWriter::list(Scalar::U64, 13, &small).unwrap_err(), "the message has 107 bytes, but may have 100");
}

#[test]
fn nan_is_canonical() {
    for bits in [0x7f80_0001u32, 0xffff_ffff, 0x7fc0_0000] {
        let value = Value::F32(f32::from_bits(bits));
        let bytes = codec::encode_stored(&Type::F32, &value, &[], &limits()).unwrap();
        assert_eq!(hex(&bytes), "0000c07f");
        let Value::F32(read) = codec::decode_stored(&Type::F32, &Bytes::copy_from_slice(&bits.to_le_bytes()), &[], &limits()).unwrap()
        else {
            panic!("no f32")
        };
        assert_eq!(read.to_bits(), 0x7fc0_0000);
    }
    // In a flat list, bits are kept: it is one copy.
    let list = Flat::new(Scalar::F32, unhex("ffffffff")).unwrap();
    let bytes = codec::encode_stored(&ty("list<f32>"), &list.into(), &[], &limits()).unwrap();
    assert_eq!(hex(&bytes), "ffffffff");
}

#[test]
fn views_borrow_what_they_can() {
    let signature = func("func(a: string, b: list<u32>, c: list<u8, 2>, d: tuple<u8, string>, e: list<char>)");
    let args = Args {
        refs: vec![],
        params: vec![
            Arg::Value("é".into()),
            Arg::Value(Value::flat(&[1u32, 2])),
            Arg::Value(Value::bytes(vec![8, 9])),
            Arg::Value(Value::Tuple(vec![7u8.into(), "x".into()])),
            Arg::Value(Value::flat(&['z'])),
        ],
    };
    let bytes = codec::encode_args(&signature, &args, &limits()).unwrap();
    let view = ArgsView::parse(&signature, &bytes, &limits()).unwrap();
    let [a, b, c, d, e] = view.params() else { panic!("five parameters") };
    assert_eq!(*a, ArgView::Inline(Payload::Text("é")));
    assert_eq!(*b, ArgView::Inline(Payload::Flat(Scalar::U32, &[1, 0, 0, 0, 2, 0, 0, 0])));
    assert_eq!(*c, ArgView::Inline(Payload::Encoded(&[8, 9])));
    assert_eq!(*d, ArgView::Inline(Payload::Encoded(&[7, 1, b'x'])));
    assert_eq!(*e, ArgView::Inline(Payload::Flat(Scalar::Char, b"z\0\0\0")));
    let ArgView::Inline(payload) = b else { panic!("by ref") };
    assert!(bytes.as_ptr_range().contains(&payload.stored().as_ptr()), "the payload is a copy");

    let signature = func("func(x: u32, y: list<u8>)");
    let args = Args { refs: common::refs(), params: vec![Arg::Value(5u32.into()), Arg::Ref(2)] };
    let bytes = codec::encode_args(&signature, &args, &limits()).unwrap();
    let view = ArgsView::parse(&signature, &bytes, &limits()).unwrap();
    assert_eq!(view.params(), [ArgView::Inline(Payload::Encoded(&[5, 0, 0, 0])), ArgView::Ref(2)]);
    assert_eq!(view.refs().to_vec(), common::refs());
    assert_eq!((view.refs().get(1), view.refs().get(4), view.refs().len()), (Some(common::refs()[1]), None, 4));
}

#[test]
fn decoded_buffers_share_the_message() {
    let value = Returned { refs: vec![], value: Some(Value::Tuple(vec![Value::bytes(vec![7; 100]), 1u8.into()])) };
    let of = ty("tuple<list<u8>, u8>");
    let bytes = codec::encode_result(Some(&of), &value, &limits()).unwrap();
    let Some(Value::Tuple(parts)) = codec::decode_result(Some(&of), &bytes, &limits()).unwrap().value else { panic!("no tuple") };
    let Value::Flat(flat) = &parts[0] else { panic!("no list") };
    assert!(bytes.as_ptr_range().contains(&flat.bytes().as_ptr()), "the buffer is a copy");
}

#[test]
fn flat_writers_check_what_they_are_given() {
    let mut writer = FlatWriter::list(Scalar::Bool, 2, &limits()).unwrap();
    writer.write(&[1]).unwrap();
    assert_eq!(writer.write(&[1, 1]).unwrap_err().message(), "2 bytes were announced, but 3 were given");
    assert_eq!(writer.finish().unwrap_err().message(), "2 bytes were announced, but 1 were given");
    for (mut writer, bytes) in
        [(FlatWriter::list(Scalar::Bool, 1, &limits()).unwrap(), &[2][..]), (FlatWriter::string(2, &limits()).unwrap(), &[b'a', 0xff])]
    {
        writer.write(bytes).unwrap();
        assert_eq!(writer.finish().unwrap_err().code(), Code::MALFORMED_VALUE);
    }
}

#[test]
fn an_application_error_is_seen_without_decoding() {
    let of = ty("result<u8, string>");
    for (value, failed) in [(Value::ok(1u8), false), (Value::err("no"), true)] {
        let returned = Returned { refs: vec![], value: Some(value.clone()) };
        assert_eq!(returned.is_application_error(), failed);
        let bytes = codec::encode_result(Some(&of), &returned, &limits()).unwrap();
        assert_eq!(ResultView::parse(Some(&of), &bytes, &limits()).unwrap().is_application_error(), failed);
        let stored = codec::encode_stored(&of, &value, &[], &limits()).unwrap();
        assert_eq!(codec::is_application_error(&of, &stored), failed);
    }
    assert!(!codec::is_application_error(&ty("list<u8>"), &[1]));
    assert!(!Returned::default().is_application_error());
}

fn signature_of(types: Vec<Type>) -> Signature {
    let param = |(index, ty)| Param { name: Label::new(&format!("p{index}")).unwrap(), ty };
    Signature { params: types.into_iter().enumerate().map(param).collect(), result: None }
}

fn takes_ref(ty: &Type) -> bool {
    !matches!(ty, Type::Own(rwasm_values::Resource::Object) | Type::Borrow(rwasm_values::Resource::Object))
}

/// Any signature and arguments that fit it, some of them by ref.
fn calls() -> impl Strategy<Value = (Signature, Args)> {
    vec((common::ty(), any::<bool>()), 0..4).prop_flat_map(|params| {
        let (types, by_ref): (Vec<_>, Vec<_>) = params.into_iter().unzip();
        let values: Vec<_> = types.iter().map(common::value).collect();
        (Just(signature_of(types)), values, Just(by_ref)).prop_map(|(signature, values, by_ref)| {
            let choose = |((value, by_ref), param): ((Value, bool), &Param)| {
                if by_ref && takes_ref(&param.ty) { Arg::Ref(2) } else { Arg::Value(value) }
            };
            let params = values.into_iter().zip(by_ref).zip(&signature.params).map(choose).collect();
            (signature, Args { refs: common::refs(), params })
        })
    })
}

proptest! {
    #[test]
    fn values_survive_the_stored_form((ty, returned) in common::typed()) {
        let value = returned.value.unwrap();
        let bytes = codec::encode_stored(&ty, &value, &returned.refs, &limits()).unwrap();
        prop_assert_eq!(&codec::decode_stored(&ty, &bytes, &returned.refs, &limits()).unwrap(), &value);
        prop_assert_eq!(codec::check_stored(&ty, &bytes, &returned.refs, &limits()).unwrap().stored(), &bytes[..]);
    }

    #[test]
    fn results_survive_their_message((ty, returned) in common::typed()) {
        let bytes = codec::encode_result(Some(&ty), &returned, &limits()).unwrap();
        prop_assert_eq!(&codec::decode_result(Some(&ty), &bytes, &limits()).unwrap(), &returned);
        let view = ResultView::parse(Some(&ty), &bytes, &limits()).unwrap();
        let stored = codec::encode_stored(&ty, returned.value.as_ref().unwrap(), &returned.refs, &limits()).unwrap();
        prop_assert_eq!(view.payload().unwrap().stored(), &stored[..]);
        prop_assert_eq!(view.is_application_error(), returned.is_application_error());
    }

    #[test]
    fn calls_survive_their_message((signature, args) in calls()) {
        signature.check_args(&args).unwrap();
        let bytes = codec::encode_args(&signature, &args, &limits()).unwrap();
        prop_assert_eq!(&codec::decode_args(&signature, &bytes, &limits()).unwrap(), &args);
        let view = ArgsView::parse(&signature, &bytes, &limits()).unwrap();
        for ((view, arg), param) in view.params().iter().zip(&args.params).zip(&signature.params) {
            match (view, arg) {
                (ArgView::Ref(a), Arg::Ref(b)) => prop_assert_eq!(a, b),
                (ArgView::Inline(payload), Arg::Value(value)) => {
                    let stored = codec::encode_stored(&param.ty, value, &args.refs, &limits()).unwrap();
                    prop_assert_eq!(payload.stored(), &stored[..]);
                }
                _ => prop_assert!(false, "a by-ref parameter became another"),
            }
        }
    }

    /// What a value's handles point at goes with it.
    #[test]
    fn values_take_the_places_of_their_refs((first, here) in common::typed(), (second, elsewhere) in common::typed()) {
        prop_assume!(takes_ref(&second));
        let signature = signature_of(vec![first, second]);
        let types = [&signature.params[0].ty, &signature.params[1].ty];
        let params = vec![Arg::Value(here.value.clone().unwrap()), Arg::Ref(2)];
        let message = codec::encode_args(&signature, &Args { refs: here.refs.clone(), params }, &limits()).unwrap();
        prop_assert_eq!(codec::refs_of(&message).unwrap(), &here.refs[..]);
        let stored = codec::encode_stored(types[1], elsewhere.value.as_ref().unwrap(), &elsewhere.refs, &limits()).unwrap();
        let inlined = codec::inline_args(&signature, &message, &limits(), |entry| {
            assert_eq!(entry, here.refs[2]);
            Ok((&stored, elsewhere.refs.clone()))
        });
        let Args { refs, params } = codec::decode_args(&signature, &inlined.unwrap(), &limits()).unwrap();
        for ((ty, arg), original) in types.into_iter().zip(params).zip([&here, &elsewhere]) {
            let Arg::Value(value) = arg else { panic!("a ref is left") };
            let decoded = Returned { refs: refs.clone(), value: Some(value) };
            prop_assert_eq!(rwasm_values::json::to_string(Some(ty), &decoded), rwasm_values::json::to_string(Some(ty), original));
        }
        let swapped = codec::map_refs(&message, |entry| if entry == here.refs[0] { here.refs[1] } else { here.refs[0] }).unwrap();
        prop_assert_eq!(swapped.len(), message.len());
        prop_assert_eq!(codec::refs_of(&swapped).unwrap()[0], here.refs[1]);
    }

    #[test]
    fn flat_results_are_written_in_place((ty, returned) in common::typed(), cut: proptest::sample::Index) {
        let returned = Returned { refs: vec![], ..returned };
        let mut writer = match (&ty, returned.value.as_ref().unwrap()) {
            (Type::String, Value::String(text)) => FlatWriter::string(text.len(), &limits()).unwrap(),
            (Type::List(_), Value::Flat(flat)) => FlatWriter::list(flat.scalar(), flat.len(), &limits()).unwrap(),
            _ => return Ok(()),
        };
        let stored = codec::encode_stored(&ty, returned.value.as_ref().unwrap(), &[], &limits()).unwrap();
        let (head, tail) = stored.split_at(cut.index(stored.len() + 1));
        writer.write(head).unwrap();
        writer.write(tail).unwrap();
        prop_assert_eq!(writer.finish().unwrap(), codec::encode_result(Some(&ty), &returned, &limits()).unwrap());
    }

    #[test]
    fn random_bytes_are_values_or_errors(ty in common::ty(), bytes in vec(prop_oneof![0u8..4, any::<u8>()], 0..80)) {
        let (bytes, refs) = (Bytes::from(bytes), common::refs());
        let checked = codec::check_stored(&ty, &bytes, &refs, &limits()).map(drop);
        let decoded = codec::decode_stored(&ty, &bytes, &refs, &limits());
        prop_assert_eq!(checked, decoded.as_ref().map(drop).map_err(Clone::clone));
        if let Ok(value) = decoded {
            let again = codec::encode_stored(&ty, &value, &refs, &limits()).unwrap();
            let floats = ty.any(&mut |ty| matches!(ty, Type::F32 | Type::F64));
            prop_assert!(floats && again.len() == bytes.len() || again == bytes);
        }
    }

    #[test]
    fn damaged_messages_are_calls_or_errors((signature, args) in calls(), at: proptest::sample::Index, with: u8, cut: proptest::sample::Index) {
        let mut bytes = codec::encode_args(&signature, &args, &limits()).unwrap().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = with;
        for bytes in [Bytes::from(bytes.clone()), Bytes::from(bytes).slice(..cut.index(at + 1))] {
            let decoded = codec::decode_args(&signature, &bytes, &limits());
            let view = ArgsView::parse(&signature, &bytes, &limits()).map(drop);
            prop_assert_eq!(view, decoded.as_ref().map(drop).map_err(Clone::clone));
            if let Ok(args) = decoded {
                signature.check_args(&args).unwrap();
            }
        }
    }

    #[test]
    fn parts_written_one_by_one_are_the_value(number: u64, text: String, bits in 0u32..8) {
        let of = ty("record { n: u64, t: string, f: flags { a, b, c }, o: option<f32> }");
        let mut encoder = Encoder::new(&limits());
        encoder.scalar(number).unwrap();
        encoder.string(&text).unwrap();
        encoder.flags(3, bits).unwrap();
        encoder.tag(false).unwrap();
        let bytes = Bytes::from(encoder.into_bytes());
        let value = Value::Record(vec![number.into(), text.as_str().into(), Value::Flags(bits), Value::none()]);
        prop_assert_eq!(codec::encode_stored(&of, &value, &[], &limits()).unwrap(), &bytes);
        let mut decoder = Decoder::new(&bytes, Default::default(), &limits());
        prop_assert_eq!(decoder.scalar::<u64>().unwrap(), number);
        prop_assert_eq!(decoder.string().unwrap(), text);
        prop_assert_eq!(decoder.flags(3).unwrap(), bits);
        prop_assert!(!decoder.tag().unwrap());
        decoder.finish().unwrap();
    }
}
