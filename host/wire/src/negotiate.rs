//! The first messages of every stream: which protocol both sides speak, and whether they mean the same cluster.

use rwasm_types::{Code, Error, Incarnation, NodeId, Result};

use crate::generated as proto;

/// The oldest protocol this version speaks.
pub const PROTOCOL_MIN: u32 = 1;
/// The newest protocol this version speaks.
pub const PROTOCOL_MAX: u32 = 1;
/// A driver that has this comes back to its jobs after its connection broke, and says when it has all of one.
pub const RESUME: &str = "resume";
/// Abilities that are not part of every version of the protocol.
pub const FEATURES: &[&str] = &[RESUME];

/// What this side says first.
pub fn hello(cluster: &str, incarnation: Incarnation) -> proto::Hello {
    proto::Hello {
        protocol_min: PROTOCOL_MIN,
        protocol_max: PROTOCOL_MAX,
        features: FEATURES.iter().map(|&name| name.to_owned()).collect(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        cluster: cluster.to_owned(),
        incarnation: incarnation.0,
    }
}

/// Answers a hello: the newest protocol and the features that both sides know.
///
/// # Errors
///
/// [`Code::PROTOCOL_MISMATCH`] if there is no common protocol, [`Code::FOREIGN_CLUSTER`] if the other side belongs to another cluster.
pub fn accept_hello(hello: &proto::Hello, cluster: &str, incarnation: Incarnation, node: Option<NodeId>) -> Result<proto::Welcome> {
    let protocol = hello.protocol_max.min(PROTOCOL_MAX);
    if protocol < hello.protocol_min.max(PROTOCOL_MIN) {
        let message = format!(
            "version {} speaks protocol {} to {}, this side {PROTOCOL_MIN} to {PROTOCOL_MAX}",
            hello.version, hello.protocol_min, hello.protocol_max
        );
        return Err(Error::new(Code::PROTOCOL_MISMATCH, message).hint("upgrade the older side"));
    }
    same_cluster(&hello.cluster, cluster)?;
    Ok(proto::Welcome {
        protocol,
        features: hello.features.iter().filter(|name| FEATURES.contains(&name.as_str())).cloned().collect(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        cluster: cluster.to_owned(),
        incarnation: incarnation.0,
        node: node.map_or(0, NodeId::get),
    })
}

/// Makes sure that whoever dials belongs to the cluster that it reached; one that belongs to none yet may join any.
///
/// # Errors
///
/// [`Code::FOREIGN_CLUSTER`] if it belongs to another.
pub fn same_cluster(dialler: &str, reached: &str) -> Result<()> {
    if dialler.is_empty() || dialler == reached {
        return Ok(());
    }
    let message = format!("a member of cluster {dialler} reached cluster {reached}");
    Err(Error::new(Code::FOREIGN_CLUSTER, message)
        .hint(
            "check the address; if the head lost its state directory, put it back from a backup; to leave the old cluster for this one, \
             start the node with an empty --state-dir",
        )
        .with("ours", dialler)
        .with("theirs", reached))
}

/// Reads the answer to our hello.
///
/// # Errors
///
/// [`Code::PROTOCOL_MISMATCH`] if the other side chose what we did not offer.
pub fn read_welcome(welcome: &proto::Welcome) -> Result<()> {
    if (PROTOCOL_MIN..=PROTOCOL_MAX).contains(&welcome.protocol) {
        return Ok(());
    }
    let message = format!("version {} chose protocol {}, which was not offered", welcome.version, welcome.protocol);
    Err(Error::new(Code::PROTOCOL_MISMATCH, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_common_protocol_is_spoken() {
        let mine = hello("c", Incarnation(1));
        let accept = |hello: &proto::Hello| accept_hello(hello, "c", Incarnation(2), None);
        assert_eq!(accept(&mine).unwrap().protocol, PROTOCOL_MAX);
        let newer = proto::Hello { protocol_max: PROTOCOL_MAX + 5, features: vec!["unknown".into()], ..mine.clone() };
        let welcome = accept(&newer).unwrap();
        assert_eq!((welcome.protocol, welcome.features.len()), (PROTOCOL_MAX, 0));
        let too_new = proto::Hello { protocol_min: PROTOCOL_MAX + 1, protocol_max: PROTOCOL_MAX + 5, ..mine.clone() };
        assert_eq!(accept(&too_new).unwrap_err().code(), Code::PROTOCOL_MISMATCH);
        let foreign = proto::Hello { cluster: "other".into(), ..mine.clone() };
        assert_eq!(accept(&foreign).unwrap_err().code(), Code::FOREIGN_CLUSTER);
        assert!(accept(&proto::Hello { cluster: String::new(), ..mine }).is_ok());
        assert!(read_welcome(&proto::Welcome { protocol: PROTOCOL_MAX + 1, ..Default::default() }).is_err());
    }
}
