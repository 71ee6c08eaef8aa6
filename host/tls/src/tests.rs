//! Handshakes in memory: who is believed, and what is said where somebody is not.

use std::time::{Duration, SystemTime};

use rwasm_types::{Code, Error, NodeId, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{ANY_NODE_NAME, Acceptor, Authority, Clients, Connector, HEAD_NAME, Identity, Key, LIFE_DEFAULT, Trust, Validity, node_name};

fn authority() -> Authority {
    Authority::create("c1", SystemTime::now()).unwrap().0
}

fn now() -> Validity {
    Validity::starting(SystemTime::now(), LIFE_DEFAULT)
}

fn node(number: u32) -> NodeId {
    NodeId::new(number).unwrap()
}

fn identity_of(authority: &Authority, number: u32, validity: Validity) -> Identity {
    let key = Key::generate().unwrap();
    Identity::new(&authority.node(node(number), &[], &key.public().unwrap(), validity).unwrap(), &key).unwrap()
}

fn server(authority: &Authority, clients: Clients) -> Acceptor {
    let head = authority.head(&["10.0.0.1".into(), "head.example".into()], now()).unwrap();
    Acceptor::new(&head, &head, authority.pem(), clients).unwrap()
}

/// One handshake and a byte each way; gives whom the server saw, or what the client was told.
async fn meet(acceptor: &Acceptor, connector: &Connector) -> Result<Option<NodeId>> {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let serve = async {
        let (mut stream, node) = acceptor.accept(theirs).await?;
        stream.write_all(b"x").await.map_err(|error| Error::internal(error.to_string()))?;
        let _ = stream.read(&mut [0]).await;
        Ok::<_, Error>(node)
    };
    let dial = async {
        let mut stream = connector.connect(ours, "the other side").await?;
        stream.read_exact(&mut [0]).await.map_err(|error| Connector::explain(&error, "the other side"))?;
        Ok::<_, Error>(())
    };
    let (served, dialled) = tokio::join!(serve, dial);
    dialled.and(served)
}

fn dialler(name: &str, trust: &Trust, identity: Option<&Identity>) -> Connector {
    Connector::new(name, trust, identity).unwrap()
}

#[tokio::test]
async fn names_of_the_head_are_believed_by_authority_and_by_fingerprint() {
    let authority = authority();
    let acceptor = server(&authority, Clients::Anybody);
    for trust in [Trust::Authorities(authority.pem().to_owned()), Trust::Pinned(authority.fingerprint())] {
        for name in ["10.0.0.1", "head.example", HEAD_NAME] {
            assert_eq!(meet(&acceptor, &dialler(name, &trust, None)).await.unwrap(), None);
        }
        let error = meet(&acceptor, &dialler("10.0.0.2", &trust, None)).await.unwrap_err();
        assert_eq!(error.code(), Code::CERTIFICATE_NAME);
        assert!(error.message().contains("10.0.0.1") && error.message().contains("head.example"), "{error}");
    }
}

#[tokio::test]
async fn an_unknown_authority_is_refused_with_its_fingerprint() {
    let authority = authority();
    let acceptor = server(&authority, Clients::Anybody);
    let met = authority.fingerprint().to_string();
    let error = meet(&acceptor, &dialler("10.0.0.1", &Trust::Nobody, None)).await.unwrap_err();
    assert_eq!((error.code(), error.field("fingerprint")), (Code::CA_UNKNOWN, Some(&*met)));
    assert!(error.next_step().unwrap().contains(&met));
    let other = self::authority();
    for trust in [Trust::Pinned(other.fingerprint()), Trust::Authorities(other.pem().to_owned())] {
        let error = meet(&acceptor, &dialler("10.0.0.1", &trust, None)).await.unwrap_err();
        assert_eq!((error.code(), error.field("fingerprint")), (Code::CERTIFICATE_FOREIGN, Some(&*met)), "{error}");
    }
}

#[tokio::test]
async fn a_node_proves_its_number_to_a_server_and_to_a_client() {
    let authority = authority();
    let trust = Trust::Authorities(authority.pem().to_owned());
    let (third, seventh) = (identity_of(&authority, 3, now()), identity_of(&authority, 7, now()));
    let acceptor = Acceptor::new(&third, &third, authority.pem(), Clients::Nodes).unwrap();
    assert_eq!(meet(&acceptor, &dialler(&node_name(node(3)), &trust, Some(&seventh))).await.unwrap(), Some(node(7)));
    // Who wants to know no more than that it is a node.
    assert_eq!(meet(&acceptor, &dialler(ANY_NODE_NAME, &trust, Some(&seventh))).await.unwrap(), Some(node(7)));
    // Another node than the one that was dialled.
    let error = meet(&acceptor, &dialler(&node_name(node(4)), &trust, Some(&seventh))).await.unwrap_err();
    assert_eq!(error.code(), Code::CERTIFICATE_NAME);
    // A node's certificate is not the head's.
    let error = meet(&acceptor, &dialler(HEAD_NAME, &trust, Some(&seventh))).await.unwrap_err();
    assert_eq!(error.code(), Code::CERTIFICATE_NAME);
    let error = meet(&acceptor, &dialler(&node_name(node(3)), &trust, None)).await.unwrap_err();
    assert_eq!(error.code(), Code::TLS_FAILED, "{error}");
}

#[tokio::test]
async fn a_certificate_of_another_cluster_is_refused_by_the_server() {
    let (authority, other) = (authority(), authority());
    let trust = Trust::Authorities(authority.pem().to_owned());
    for clients in [Clients::Nodes, Clients::Anybody] {
        let foreign = identity_of(&other, 3, now());
        let error = meet(&server(&authority, clients), &dialler(HEAD_NAME, &trust, Some(&foreign))).await.unwrap_err();
        assert_eq!(error.code(), Code::CERTIFICATE_FOREIGN, "{error}");
    }
}

#[tokio::test]
async fn wrong_times_name_the_clocks() {
    let authority = authority();
    let trust = Trust::Authorities(authority.pem().to_owned());
    let day = Duration::from_secs(24 * 3600);
    let (past, future) = (SystemTime::now() - 3 * day, SystemTime::now() + 3 * day);
    for (from, says) in [(past, "expired at"), (future, "is valid from")] {
        let validity = Validity::starting(from, day);
        let head = authority.head(&[], validity).unwrap();
        let acceptor = Acceptor::new(&head, &head, authority.pem(), Clients::Anybody).unwrap();
        let error = meet(&acceptor, &dialler(HEAD_NAME, &trust, None)).await.unwrap_err();
        assert_eq!(error.code(), Code::CERTIFICATE_TIME);
        assert!(error.message().contains(says) && error.message().contains("the clock here says 20"), "{error}");
        // The other way round: the server refuses what a node shows.
        let node = identity_of(&authority, 2, validity);
        let error = meet(&server(&authority, Clients::Anybody), &dialler(HEAD_NAME, &trust, Some(&node))).await.unwrap_err();
        assert_eq!(error.code(), Code::CERTIFICATE_TIME, "{error}");
    }
}

#[tokio::test]
async fn a_replaced_identity_is_shown_from_the_next_handshake_on() {
    let authority = authority();
    let trust = Trust::Authorities(authority.pem().to_owned());
    let shown = identity_of(&authority, 3, now());
    let acceptor = Acceptor::new(&shown, &shown, authority.pem(), Clients::Anybody).unwrap();
    let before = shown.fingerprint();
    shown.replace(&identity_of(&authority, 4, now()));
    assert_ne!(shown.fingerprint(), before);
    assert!(meet(&acceptor, &dialler(&node_name(node(3)), &trust, None)).await.is_err());
    assert!(meet(&acceptor, &dialler(&node_name(node(4)), &trust, None)).await.is_ok());
}

#[tokio::test]
async fn what_is_no_tls_is_said() {
    let (ours, mut theirs) = tokio::io::duplex(1 << 16);
    theirs.write_all(&[0, 0, 18, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 128]).await.unwrap();
    let error = dialler("head.example", &Trust::Nobody, None).connect(ours, "head.example:1").await.unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::TLS_ABSENT, "head.example:1 does not speak TLS"));

    let (mut ours, theirs) = tokio::io::duplex(1 << 16);
    ours.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    assert_eq!(server(&authority(), Clients::Anybody).accept(theirs).await.unwrap_err().code(), Code::TLS_FAILED);
    let mut said = Vec::new();
    ours.read_to_end(&mut said).await.unwrap();
    assert_eq!(said.first(), Some(&crate::ALERT_BYTE), "{said:?}");
}

#[test]
fn an_authority_is_opened_again_with_its_own_key_only() {
    let (authority, key) = Authority::create("c1", SystemTime::now()).unwrap();
    let again = Authority::open("c1", authority.pem(), &Key::from_pem(key.to_pem()).unwrap()).unwrap();
    assert_eq!(again.fingerprint(), authority.fingerprint());
    assert_eq!(Authority::open("c1", authority.pem(), &Key::generate().unwrap()).unwrap_err().code(), Code::CERTIFICATE_UNUSABLE);
    for bad in ["", "x", &authority.pem()[..100]] {
        assert_eq!(Authority::open("c1", bad, &key).unwrap_err().code(), Code::CERTIFICATE_UNUSABLE);
        assert!(Trust::read(bad).is_err() && Key::from_pem(bad).is_err());
    }
    for bad in ["", "a b", "-a", "n3.rwasm.internal", "a.RWASM.internal", "*", "a/b"] {
        assert_eq!(authority.head(&[bad.to_owned()], now()).unwrap_err().code(), Code::INVALID_ARGUMENT, "{bad}");
    }
    for bad in [&[][..], &[4; 64], &[2; 65]] {
        assert_eq!(authority.node(node(1), &[], bad, now()).unwrap_err().code(), Code::MALFORMED_MESSAGE);
    }
}

#[tokio::test]
async fn own_certificates_are_shown_outside_and_the_clusters_inside() {
    let (cluster, company) = (authority(), authority());
    // What a company's authority would issue for its gateway.
    let key = Key::generate().unwrap();
    let chain = company.node(node(9), &["gateway.example".into()], &key.public().unwrap(), now()).unwrap();
    let outside = Identity::new(&chain, &key).unwrap();
    let inside = identity_of(&cluster, 1, now());
    let acceptor = Acceptor::new(&inside, &outside, cluster.pem(), Clients::Anybody).unwrap();
    let ours = Trust::Authorities(cluster.pem().to_owned());
    let theirs = Trust::Pinned(company.fingerprint());
    assert!(meet(&acceptor, &dialler("gateway.example", &theirs, None)).await.is_ok());
    assert!(meet(&acceptor, &dialler(&node_name(node(1)), &ours, None)).await.is_ok());
    assert!(meet(&acceptor, &dialler("gateway.example", &ours, None)).await.is_err());
}

#[test]
fn a_certificate_that_expired_still_tells_whose_it_was() {
    let (authority, other) = (authority(), authority());
    let (key, another) = (Key::generate().unwrap(), Key::generate().unwrap());
    let (public, day) = (key.public().unwrap(), Duration::from_secs(24 * 3600));
    let issued = |authority: &Authority, from| authority.node(node(3), &[], &public, Validity::starting(from, day)).unwrap().swap_remove(0);
    let expired = SystemTime::now() - 3 * day;
    for from in [expired, SystemTime::now()] {
        assert_eq!(authority.former_node(&issued(&authority, from), &public).unwrap(), node(3));
    }
    let foreign = issued(&other, expired);
    let mut changed = issued(&authority, expired);
    *changed.last_mut().unwrap() ^= 1;
    let refused = |certificate: &[u8], public: &[u8]| authority.former_node(certificate, public).unwrap_err().code();
    for certificate in [&foreign, &changed, &b"x".to_vec()] {
        assert_eq!(refused(certificate, &public), Code::NODE_IDENTITY);
    }
    assert_eq!(refused(&issued(&authority, expired), &another.public().unwrap()), Code::NODE_IDENTITY);
    assert_eq!(refused(&issued(&authority, expired), b"x"), Code::MALFORMED_MESSAGE);
}
