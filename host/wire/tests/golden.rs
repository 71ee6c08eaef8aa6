//! Keeps the wire compatible: messages of every protocol version, as they were once written, are read and written again byte for byte.
//!
//! `golden/protocol-N.txt` has a line for each message that a service takes or gives, and for each variant inside of it, with every field
//! set. Files of older protocols are never touched. `UPDATE_GOLDEN=1 cargo test -p rwasm-wire --test golden` writes the newest one anew,
//! which is right while that protocol was in no release.

#![cfg(test)]

use std::{collections::BTreeMap, fs, path::PathBuf};

use prost::Message;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};
use rwasm_types::Code;
use rwasm_wire::{PROTOCOL_MAX, PROTOCOL_MIN, convert, msg};

/// Reads a message of a type and writes it again.
type Again = fn(&[u8]) -> Result<Vec<u8>, prost::DecodeError>;

fn again<M: Message + Default>(bytes: &[u8]) -> Result<Vec<u8>, prost::DecodeError> {
    M::decode(bytes).map(|message| message.encode_to_vec())
}

/// What services take and give.
const ROOTS: &[(&str, Again)] = &[
    ("ArtifactChunk", again::<msg::ArtifactChunk>),
    ("ControlReply", again::<msg::ControlReply>),
    ("ControlRequest", again::<msg::ControlRequest>),
    ("DescribeRequest", again::<msg::DescribeRequest>),
    ("Described", again::<msg::Described>),
    ("DriverMessage", again::<msg::DriverMessage>),
    ("FetchRequest", again::<msg::FetchRequest>),
    ("GetRequest", again::<msg::GetRequest>),
    ("ObjectPart", again::<msg::ObjectPart>),
    ("PullRequest", again::<msg::PullRequest>),
    ("PullPart", again::<msg::PullPart>),
    ("Telling", again::<msg::Telling>),
    ("Told", again::<msg::Told>),
    ("PutPart", again::<msg::PutPart>),
    ("PutReply", again::<msg::PutReply>),
    ("GatewayMessage", again::<msg::GatewayMessage>),
    ("HeadMessage", again::<msg::HeadMessage>),
    ("LogsChunk", again::<msg::LogsChunk>),
    ("LogsRequest", again::<msg::LogsRequest>),
    ("NodeMessage", again::<msg::NodeMessage>),
    ("OwnerMessage", again::<msg::OwnerMessage>),
    ("AttendRequest", again::<msg::AttendRequest>),
    ("Payload", again::<msg::Payload>),
    ("QueryReply", again::<msg::QueryReply>),
    ("QueryRequest", again::<msg::QueryRequest>),
    ("Ring", again::<msg::Ring>),
    ("RunnerMessage", again::<msg::RunnerMessage>),
    ("TunnelPart", again::<msg::TunnelPart>),
];

/// The messages as they are now.
struct Descriptors {
    messages: BTreeMap<String, DescriptorProto>,
    enums: BTreeMap<String, EnumDescriptorProto>,
    roots: Vec<String>,
}

/// A sample of a message: which variants it shows, and its bytes.
type Sample = (String, Vec<u8>);

impl Descriptors {
    fn read() -> Self {
        let protos = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("proto");
        let mut names: Vec<_> = fs::read_dir(&protos).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        let FileDescriptorSet { file } = protox::compile(names, [protos]).unwrap();
        let mut all = Self { messages: BTreeMap::new(), enums: BTreeMap::new(), roots: Vec::new() };
        for file in file {
            for message in file.message_type {
                all.messages.insert(format!(".{}.{}", file.package.clone().unwrap(), message.name()), message);
            }
            for kind in file.enum_type {
                all.enums.insert(format!(".{}.{}", file.package.clone().unwrap(), kind.name()), kind);
            }
            for method in file.service.iter().flat_map(|service| &service.method) {
                all.roots.extend([method.input_type().to_owned(), method.output_type().to_owned()]);
            }
        }
        all.roots.sort();
        all.roots.dedup();
        all
    }

    /// Samples that together show every variant of a message, with every other field set.
    fn samples(&self, message: &str) -> Vec<Sample> {
        let descriptor = &self.messages[message];
        let map_entry = |field: &FieldDescriptorProto| {
            let nested = descriptor.nested_type.iter().find(|nested| field.type_name().ends_with(&format!(".{}", nested.name())));
            nested.filter(|nested| nested.options.as_ref().is_some_and(|options| options.map_entry())).cloned()
        };
        // For each part of the message, in the order of the numbers: the samples that it has.
        let mut parts: Vec<(i32, Vec<Sample>)> = Vec::new();
        let mut choices: BTreeMap<i32, (i32, Vec<Sample>)> = BTreeMap::new();
        for field in &descriptor.field {
            let values = match map_entry(field) {
                Some(entry) => vec![(String::new(), tagged(field.number(), 2, &delimited(&self.fields(&entry.field))))],
                None => self.values(field),
            };
            match field.oneof_index.filter(|_| !field.proto3_optional()) {
                Some(oneof) => {
                    let named = values.into_iter().map(|(name, bytes)| (format!("/{}{name}", field.name()), bytes));
                    choices.entry(oneof).or_insert_with(|| (field.number(), Vec::new())).1.extend(named);
                }
                None => parts.push((field.number(), values)),
            }
        }
        parts.extend(choices.into_values());
        parts.sort_by_key(|(number, _)| *number);
        let most = parts.iter().map(|(_, samples)| samples.len()).max().unwrap_or(1);
        let sample = |index: usize| {
            let chosen = parts.iter().map(|(_, samples)| &samples[index.min(samples.len() - 1)]);
            chosen.fold((String::new(), Vec::new()), |(name, bytes), part| (name + &part.0, [bytes, part.1.clone()].concat()))
        };
        (0..most).map(sample).collect()
    }

    fn fields(&self, fields: &[FieldDescriptorProto]) -> Vec<u8> {
        fields.iter().flat_map(|field| self.values(field).remove(0).1).collect()
    }

    /// A field with its tag, once for each way in which it can look. A list has two elements.
    fn values(&self, field: &FieldDescriptorProto) -> Vec<Sample> {
        let number = field.number();
        let plain = |wire: u8, value: Vec<u8>| vec![(String::new(), tagged(number, wire, &value))];
        let unsigned = u64::from(number.unsigned_abs()) * 1_000 + 7;
        let values = match field.r#type() {
            Type::Uint32 | Type::Uint64 => plain(0, varint(unsigned)),
            // Zigzag: 3 stands for -2.
            Type::Sint32 => plain(0, varint(3)),
            Type::Bool => plain(0, varint(1)),
            Type::Enum => {
                let last = self.enums[field.type_name()].value.last().unwrap().number();
                plain(0, varint(last.unsigned_abs().into()))
            }
            Type::String | Type::Bytes => plain(2, delimited(format!("{}-{number}", field.name()).as_bytes())),
            Type::Message => {
                let samples = self.samples(field.type_name());
                samples.into_iter().map(|(name, bytes)| (name, tagged(number, 2, &delimited(&bytes)))).collect()
            }
            other => panic!("no message has had a field of type {other:?}; teach this test to write one"),
        };
        if field.label() == Label::Repeated {
            let packed = matches!(field.r#type(), Type::Uint32 | Type::Uint64);
            let value = |value: Vec<u8>| {
                if packed { tagged(number, 2, &delimited(&[varint(unsigned), varint(1)].concat())) } else { value.repeat(2) }
            };
            return values.into_iter().map(|(name, bytes)| (name, value(bytes))).collect();
        }
        values
    }

    /// All samples of what services take and give, by name.
    fn golden(&self) -> BTreeMap<String, Vec<u8>> {
        let mut golden = BTreeMap::new();
        for root in &self.roots {
            golden.extend(self.samples(root).into_iter().map(|(name, bytes)| (format!("{}{name}", short(root)), bytes)));
        }
        golden
    }
}

fn short(name: &str) -> &str {
    name.rsplit('.').next().unwrap()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn delimited(bytes: &[u8]) -> Vec<u8> {
    [varint(bytes.len() as u64), bytes.to_vec()].concat()
}

fn tagged(number: i32, wire: u8, value: &[u8]) -> Vec<u8> {
    [varint(u64::from(number.unsigned_abs()) << 3 | u64::from(wire)), value.to_vec()].concat()
}

fn path(protocol: u32) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/protocol-{protocol}.txt"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read(protocol: u32) -> BTreeMap<String, Vec<u8>> {
    let text = fs::read_to_string(path(protocol)).unwrap_or_default();
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
    let line = |line: &str| {
        let (name, hex) = line.split_once(' ').unwrap();
        (name.to_owned(), hex.as_bytes().chunks(2).map(byte).collect())
    };
    text.lines().filter(|line| !line.is_empty()).map(line).collect()
}

fn root(name: &str) -> Again {
    let name = name.split('/').next().unwrap();
    ROOTS.iter().find(|(root, _)| *root == name).unwrap_or_else(|| panic!("ROOTS has no {name}")).1
}

#[test]
fn messages_of_every_protocol_are_read_as_they_were_written() {
    for protocol in PROTOCOL_MIN..=PROTOCOL_MAX {
        let golden = read(protocol);
        assert!(!golden.is_empty(), "there is no {}", path(protocol).display());
        for (name, bytes) in golden {
            let again = root(&name)(&bytes).unwrap_or_else(|error| panic!("{name} of protocol {protocol} is not read: {error}"));
            assert_eq!(hex(&again), hex(&bytes), "{name} of protocol {protocol} is not what it was");
        }
    }
}

#[test]
fn the_newest_protocols_messages_are_all_kept() {
    let now = Descriptors::read().golden();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let text: String = now.iter().map(|(name, bytes)| format!("{name} {}\n", hex(bytes))).collect();
        fs::write(path(PROTOCOL_MAX), text).unwrap();
    }
    let kept = read(PROTOCOL_MAX);
    for (name, bytes) in &now {
        assert!(kept.get(name) == Some(bytes), "{name} changed; see the head of this file");
    }
    assert_eq!(kept.len(), now.len(), "a message is gone; see the head of this file");
}

#[test]
fn what_a_newer_version_adds_is_ignored_and_what_it_changes_is_told() {
    for (name, bytes) in read(PROTOCOL_MAX) {
        let with_more = [bytes.clone(), tagged(15_000, 2, &delimited(b"of a newer version"))].concat();
        assert_eq!(root(&name)(&with_more).unwrap(), bytes, "{name}");
    }
    // A message of a kind that this version does not know is empty to it.
    let unknown = msg::DriverMessage::decode(&tagged(15_000, 2, &delimited(b""))[..]).unwrap();
    assert_eq!(convert::required(unknown.message, "a message").unwrap_err().code(), Code::MALFORMED_MESSAGE);
    let unknown = msg::Output { stream: 99, ..msg::Output::default() };
    assert_eq!(convert::stream(unknown.stream).unwrap_err().code(), Code::MALFORMED_MESSAGE);
}

#[test]
fn damaged_messages_are_errors() {
    for (name, bytes) in read(PROTOCOL_MAX) {
        for end in 0..bytes.len() {
            // Some prefixes are messages of their own; none may do more than fail.
            let _ = root(&name)(&bytes[..end]);
        }
        for position in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[position] ^= 0xff;
            let _ = root(&name)(&damaged);
        }
    }
}
