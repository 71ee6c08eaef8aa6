//! Lossless conversions between messages and the words of `rwasm_types`. Whatever a peer can get wrong is a typed error here.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use bytes::Bytes;
use rwasm_types::{
    Access, ActorId, ActorOptions, ArtifactDigest, Code, Error, Grants, JobId, LabelSelector, Name, NetGrant, NodeId, ObjectId, Placement,
    Priority, Quantity, ResourceSet, Result, Strategy, Stream, TaskId, TaskLimits, TaskOptions, VolumeGrant, VolumeSource,
};

use crate::generated as proto;

/// The error of a message that does not follow the protocol.
pub fn malformed(what: impl std::fmt::Display) -> Error {
    Error::new(Code::MALFORMED_MESSAGE, format!("a message does not follow the protocol: {what}"))
}

/// A part of a message that must be there.
///
/// # Errors
///
/// [`Code::MALFORMED_MESSAGE`] if it is not.
pub fn required<T>(part: Option<T>, name: &str) -> Result<T> {
    part.ok_or_else(|| malformed(format_args!("{name} is missing")))
}

impl From<&Error> for proto::Error {
    fn from(error: &Error) -> Self {
        Self {
            code: error.code().number().into(),
            message: error.message().to_owned(),
            hint: error.next_step().unwrap_or_default().to_owned(),
            fields: error.fields().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
        }
    }
}

/// Reads an error.
///
/// # Errors
///
/// If the code is no code.
pub fn error(message: proto::Error) -> Result<Error> {
    let code = u16::try_from(message.code).map_err(|_| malformed("an error code is too large"))?;
    let error = Error::new(Code::from_number(code), message.message);
    let error = if message.hint.is_empty() { error } else { error.hint(message.hint) };
    Ok(message.fields.into_iter().fold(error, |error, (key, value)| error.with(&key, value)))
}

/// Reads an error of a peer; one that is malformed is reported as such.
pub fn any_error(message: proto::Error) -> Error {
    error(message).unwrap_or_else(|error| error)
}

/// Reads a node's number.
///
/// # Errors
///
/// If it is zero.
pub fn node(number: u32) -> Result<NodeId> {
    NodeId::new(number).ok_or_else(|| malformed("a node's number is 0"))
}

impl From<JobId> for proto::JobId {
    fn from(job: JobId) -> Self {
        Self { owner: job.owner.get(), session: job.session }
    }
}

/// Reads a job id.
///
/// # Errors
///
/// If the owner is zero.
pub fn job(message: &proto::JobId) -> Result<JobId> {
    Ok(JobId { owner: node(message.owner)?, session: message.session })
}

impl From<TaskId> for proto::TaskId {
    fn from(task: TaskId) -> Self {
        Self { owner: task.owner.get(), session: task.session, sequence: task.sequence }
    }
}

/// Reads a task id.
///
/// # Errors
///
/// If the owner is zero.
pub fn task(message: &proto::TaskId) -> Result<TaskId> {
    Ok(TaskId { owner: node(message.owner)?, session: message.session, sequence: message.sequence })
}

/// An object's id as it travels.
pub fn object_bytes(object: ObjectId) -> Bytes {
    Bytes::copy_from_slice(&object.to_bytes())
}

/// Reads an object's id.
///
/// # Errors
///
/// If it has not 20 bytes, or the owner is zero.
pub fn object(bytes: &[u8]) -> Result<ObjectId> {
    bytes.try_into().ok().and_then(ObjectId::from_bytes).ok_or_else(|| malformed("an object's id is none"))
}

/// Reads an artifact's digest.
///
/// # Errors
///
/// If it has not 32 bytes.
pub fn digest(bytes: &[u8]) -> Result<ArtifactDigest> {
    bytes.try_into().map(ArtifactDigest).map_err(|_| malformed("a digest has not 32 bytes"))
}

impl From<&ResourceSet> for proto::Resources {
    fn from(set: &ResourceSet) -> Self {
        Self {
            cpu: set.cpu.parts(),
            gpu: set.gpu.parts(),
            memory: set.memory,
            custom: set.custom.iter().map(|(name, amount)| (name.to_string(), amount.parts())).collect(),
        }
    }
}

/// Reads resources.
///
/// # Errors
///
/// If an amount is absurd, a name is none, or there are too many.
pub fn resources(message: &proto::Resources) -> Result<ResourceSet> {
    let amount = |parts| Quantity::from_parts(parts).ok_or_else(|| malformed("an amount of a resource is too large"));
    let mut custom = BTreeMap::new();
    for (name, parts) in &message.custom {
        custom.insert(Name::new(name).map_err(malformed)?, amount(*parts)?);
    }
    ResourceSet { cpu: amount(message.cpu)?, gpu: amount(message.gpu)?, memory: message.memory, custom }.checked()
}

/// Nanoseconds as they travel; longer than 584 years is cut.
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl From<&TaskLimits> for proto::Limits {
    fn from(limits: &TaskLimits) -> Self {
        Self {
            memory_bytes: limits.memory_bytes,
            wall_ns: nanos(limits.wall),
            cpu_ns: nanos(limits.cpu),
            table_elements: limits.table_elements,
            stdout_bytes: limits.stdout_bytes,
            stderr_bytes: limits.stderr_bytes,
            result_bytes: limits.result_bytes,
        }
    }
}

/// Reads limits, each cut to what may be asked for.
pub fn limits(message: &proto::Limits) -> TaskLimits {
    TaskLimits {
        memory_bytes: message.memory_bytes,
        wall: Duration::from_nanos(message.wall_ns),
        cpu: Duration::from_nanos(message.cpu_ns),
        table_elements: message.table_elements,
        stdout_bytes: message.stdout_bytes,
        stderr_bytes: message.stderr_bytes,
        result_bytes: message.result_bytes,
    }
    .clamped()
}

impl From<&TaskOptions> for proto::Options {
    fn from(options: &TaskOptions) -> Self {
        Self {
            resources: Some((&options.resources).into()),
            limits: Some((&options.limits).into()),
            retries_max: options.retries_max,
            priority: options.priority.get().into(),
            reuse: options.reuse,
            name: options.name.as_ref().map(ToString::to_string).unwrap_or_default(),
            placement: Some((&options.placement).into()),
            actor_name: options.actor.name.as_ref().map(ToString::to_string).unwrap_or_default(),
            actor_calls_max: match options.actor.calls_max {
                // Said by older versions, too.
                ActorOptions::CALLS_DEFAULT => 0,
                calls_max => calls_max,
            },
        }
    }
}

/// Reads options.
///
/// # Errors
///
/// If a part is missing or out of its range.
pub fn options(message: &proto::Options) -> Result<TaskOptions> {
    let name = (!message.name.is_empty()).then(|| Name::new(&message.name).map_err(malformed)).transpose()?;
    Ok(TaskOptions {
        resources: resources(required(message.resources.as_ref(), "resources")?)?,
        limits: limits(required(message.limits.as_ref(), "limits")?),
        retries_max: message.retries_max,
        priority: priority(message.priority)?,
        reuse: message.reuse,
        placement: placement(message.placement.as_ref())?,
        name,
        actor: ActorOptions {
            name: (!message.actor_name.is_empty()).then(|| message.actor_name.parse().map_err(malformed)).transpose()?,
            calls_max: if message.actor_calls_max == 0 { ActorOptions::CALLS_DEFAULT } else { message.actor_calls_max },
        },
    })
}

impl From<ActorId> for proto::TaskId {
    fn from(ActorId(task): ActorId) -> Self {
        Self { owner: task.owner.get(), session: task.session, sequence: task.sequence }
    }
}

/// Reads the actor that a method is called on.
///
/// # Errors
///
/// If its owner is no node.
pub fn actor(message: &proto::TaskId) -> Result<ActorId> {
    Ok(ActorId(TaskId { owner: node(message.owner)?, session: message.session, sequence: message.sequence }))
}

/// Reads a priority.
///
/// # Errors
///
/// If it is out of range.
pub fn priority(number: i32) -> Result<Priority> {
    i8::try_from(number).ok().and_then(Priority::new).ok_or_else(|| malformed("a priority is out of range"))
}

impl From<&Placement> for proto::Placement {
    fn from(placement: &Placement) -> Self {
        let text = |labels: &[LabelSelector]| labels.iter().map(ToString::to_string).collect();
        Self {
            spread: placement.strategy == Strategy::Spread,
            node: placement.node.map_or(0, NodeId::get),
            labels: text(&placement.labels),
            prefer_node: placement.prefer_node.map_or(0, NodeId::get),
            prefer_labels: text(&placement.prefer_labels),
            group: placement.group.as_ref().map(ToString::to_string).unwrap_or_default(),
        }
    }
}

/// Reads where a task may run; anywhere, if nothing is said.
///
/// # Errors
///
/// If a condition cannot be read, or there are too many.
pub fn placement(message: Option<&proto::Placement>) -> Result<Placement> {
    let Some(message) = message else { return Ok(Placement::default()) };
    let read = |labels: &[String]| labels.iter().map(|text| text.parse()).collect::<Result<Vec<LabelSelector>>>();
    let placement = Placement {
        strategy: if message.spread { Strategy::Spread } else { Strategy::Pack },
        node: NodeId::new(message.node),
        labels: read(&message.labels)?,
        prefer_node: NodeId::new(message.prefer_node),
        prefer_labels: read(&message.prefer_labels)?,
        group: (!message.group.is_empty()).then(|| message.group.parse()).transpose()?,
    };
    placement.checked()
}

impl From<&Grants> for proto::Grants {
    fn from(grants: &Grants) -> Self {
        let volume = |volume: &VolumeGrant| proto::Volume {
            guest_path: volume.guest_path.clone(),
            access: match volume.access {
                Access::ReadOnly => proto::Access::ReadOnly.into(),
                Access::ReadWrite => proto::Access::ReadWrite.into(),
            },
            source: Some(match &volume.source {
                VolumeSource::Host(path) => proto::volume::Source::HostPath(path.to_string_lossy().into_owned()),
                VolumeSource::Named(name) => proto::volume::Source::Named(name.to_string()),
            }),
        };
        Self {
            args: grants.args.clone(),
            env: grants.env.iter().map(|(key, value)| proto::Variable { key: key.clone(), value: value.clone() }).collect(),
            stdin: grants.stdin.clone(),
            volumes: grants.volumes.iter().map(volume).collect(),
            net: grants.net.iter().map(|net| proto::Destination { host: net.host.clone(), port: net.port.into() }).collect(),
        }
    }
}

/// Reads grants and checks their counts and sizes.
///
/// # Errors
///
/// If a part is missing, out of its range, or there is too much.
pub fn grants(message: proto::Grants) -> Result<Grants> {
    let volume = |volume: proto::Volume| {
        let access = match proto::Access::try_from(volume.access) {
            Ok(proto::Access::ReadOnly) => Access::ReadOnly,
            Ok(proto::Access::ReadWrite) => Access::ReadWrite,
            Ok(proto::Access::Unspecified) | Err(_) => return Err(malformed("a volume's access is unknown")),
        };
        let source = match required(volume.source, "a volume's source")? {
            proto::volume::Source::HostPath(path) => VolumeSource::Host(PathBuf::from(path)),
            proto::volume::Source::Named(name) => VolumeSource::Named(Name::new(&name).map_err(malformed)?),
        };
        Ok(VolumeGrant { source, guest_path: volume.guest_path, access })
    };
    let net = |net: proto::Destination| {
        let port = u16::try_from(net.port).map_err(|_| malformed("a port is too large"))?;
        // Through the text form, so that a peer's host is held to the rule of the command line.
        let grant = NetGrant { host: net.host, port };
        grant.to_string().parse()
    };
    let grants = Grants {
        args: message.args,
        env: message.env.into_iter().map(|variable| (variable.key, variable.value)).collect(),
        stdin: message.stdin,
        volumes: message.volumes.into_iter().map(volume).collect::<Result<_>>()?,
        net: message.net.into_iter().map(net).collect::<Result<_>>()?,
    };
    grants.check()?;
    Ok(grants)
}

impl From<Stream> for proto::Stream {
    fn from(stream: Stream) -> Self {
        match stream {
            Stream::Stdout => Self::Stdout,
            Stream::Stderr => Self::Stderr,
        }
    }
}

/// Reads which output.
///
/// # Errors
///
/// If it is neither.
pub fn stream(number: i32) -> Result<Stream> {
    match proto::Stream::try_from(number) {
        Ok(proto::Stream::Stdout) => Ok(Stream::Stdout),
        Ok(proto::Stream::Stderr) => Ok(Stream::Stderr),
        Ok(proto::Stream::Unspecified) | Err(_) => Err(malformed("an output is neither stdout nor stderr")),
    }
}

/// Builds an outcome's result.
pub fn outcome_result(result: Result<Bytes>) -> proto::outcome::Result {
    match result {
        Ok(value) => proto::outcome::Result::Value(value),
        Err(error) => proto::outcome::Result::Error((&error).into()),
    }
}

/// Reads an outcome's result.
///
/// # Errors
///
/// The error it carries, or that it carries none and no value.
pub fn read_outcome_result(result: Option<proto::outcome::Result>) -> Result<Bytes> {
    match required(result, "an outcome's result")? {
        proto::outcome::Result::Value(value) => Ok(value),
        proto::outcome::Result::Error(error) => Err(any_error(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_and_grants_cross_whole() {
        let sent = TaskOptions {
            resources: ResourceSet {
                cpu: "0.25".parse().unwrap(),
                gpu: Quantity::ONE,
                memory: 7,
                custom: [(Name::new("license").unwrap(), Quantity::whole(2))].into(),
            },
            retries_max: Some(0),
            priority: Priority::new(-5).unwrap(),
            reuse: true,
            name: Some(Name::new("x").unwrap()),
            placement: Placement {
                strategy: Strategy::Spread,
                node: NodeId::new(3),
                labels: vec!["zone in (a, b)".parse().unwrap(), "!old".parse().unwrap()],
                prefer_node: NodeId::new(4),
                prefer_labels: vec!["disk!=hdd".parse().unwrap()],
                group: Some("trainer:1".parse().unwrap()),
            },
            ..TaskOptions::default()
        };
        assert_eq!(options(&(&sent).into()).unwrap(), sent);
        let sent = Grants {
            args: vec!["a".into(), String::new()],
            env: vec![("K".into(), "v=w".into())],
            stdin: Bytes::from_static(b"in\0put"),
            volumes: vec![
                VolumeGrant { source: VolumeSource::Host("/srv".into()), guest_path: "/data".into(), access: Access::ReadOnly },
                VolumeGrant { source: VolumeSource::Named(Name::new("v").unwrap()), guest_path: "/v".into(), access: Access::ReadWrite },
            ],
            net: vec!["example.org:443".parse().unwrap(), "[::1]:80".parse().unwrap()],
        };
        assert_eq!(grants((&sent).into()).unwrap(), sent);
    }

    #[test]
    fn what_a_peer_gets_wrong_is_a_typed_error() {
        let code = |result: Result<()>| result.unwrap_err().code();
        assert_eq!(code(node(0).map(drop)), Code::MALFORMED_MESSAGE);
        assert_eq!(code(digest(&[0; 31]).map(drop)), Code::MALFORMED_MESSAGE);
        assert_eq!(code(stream(9).map(drop)), Code::MALFORMED_MESSAGE);
        assert_eq!(code(options(&proto::Options::default()).map(drop)), Code::MALFORMED_MESSAGE);
        assert_eq!(code(resources(&proto::Resources { cpu: u64::MAX, ..Default::default() }).map(drop)), Code::MALFORMED_MESSAGE);
        let labels = proto::Placement { labels: vec!["a b".into()], ..Default::default() };
        assert_eq!(code(placement(Some(&labels)).map(drop)), Code::INVALID_ARGUMENT);
        let volume = proto::Volume { access: 77, ..Default::default() };
        assert_eq!(code(grants(proto::Grants { volumes: vec![volume], ..Default::default() }).map(drop)), Code::MALFORMED_MESSAGE);
        let net = proto::Destination { host: "a b".into(), port: 1 };
        assert_eq!(code(grants(proto::Grants { net: vec![net], ..Default::default() }).map(drop)), Code::BAD_DESTINATION);
    }
}
