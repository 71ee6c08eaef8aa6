//! What a node keeps for an owner, link by link: it is dialled by an owner that is none of the cluster's processes, so that links break where the
//! test wants it. Like `isolation`, this speaks the protocol itself.

use bytes::Bytes;
use rwasm_types::{
    Access, ArtifactDigest, Code, Grants, Incarnation, Name, Quantity, ResourceSet, Result, TaskOptions, VolumeGrant, VolumeSource,
};
use rwasm_wire::{
    Connector, Inbound, Outbound, PeerClient, Sender, hello,
    msg::{self, owner_message::Message as Say, runner_message::Message as Hear},
};

use crate::harness::{Cluster, eventually, text_guest};

/// The number that the test has as an owner.
const OWNER: u32 = 77;
/// The one task of the one job, and the lease that it came on.
const SESSION: u32 = 5;
const SEQUENCE: u64 = 3;
const LEASE: u64 = 9;

struct Owner {
    runtime: tokio::runtime::Runtime,
    node: String,
    token: String,
    data_address: String,
}

/// An open link, past its first messages.
struct Link {
    sender: Sender<msg::OwnerMessage>,
    inbound: Inbound<msg::RunnerMessage>,
    held: msg::HeldAttempts,
}

impl Owner {
    /// Opens a link in a life of the owner.
    fn link(&self, life: u64, resume: Option<msg::LinkResume>) -> Result<Link> {
        let greeting =
            msg::LinkHello { hello: Some(hello("", Incarnation(life))), node: OWNER, data_address: self.data_address.clone(), resume };
        self.runtime.block_on(async {
            let mut client = PeerClient::connect(&Connector::tcp(self.node.clone()), &self.token).await?;
            let (sender, outbound) = Outbound::channel(16);
            sender.send(msg::OwnerMessage { message: Some(Say::Hello(greeting)) }).await.unwrap();
            let mut inbound = client.link(outbound).await?;
            let Some(Hear::Welcome(_)) = inbound.next().await?.unwrap().message else { panic!("no welcome") };
            let Some(Hear::Held(held)) = inbound.next().await?.unwrap().message else { panic!("nothing of what is held") };
            Ok(Link { sender, inbound, held })
        })
    }

    fn say(&self, link: &Link, message: Say) {
        self.runtime.block_on(link.sender.send(msg::OwnerMessage { message: Some(message) })).unwrap();
    }

    /// The next message.
    fn hear(&self, link: &mut Link) -> Result<Hear> {
        self.runtime.block_on(link.inbound.next()).map(|message| message.expect("the link goes on").message.unwrap())
    }

    /// What comes up to the end of the task: its output, with offsets, and the attempt that ended.
    fn hear_all(&self, link: &mut Link) -> (Vec<(u64, String)>, u32) {
        let mut written = Vec::new();
        loop {
            match self.hear(link).unwrap() {
                Hear::Outputs(outputs) => {
                    let text = |output: msg::Output| (output.offset, String::from_utf8(output.bytes.to_vec()).unwrap());
                    written.extend(outputs.outputs.into_iter().map(text));
                }
                Hear::Outcomes(outcomes) => {
                    assert_eq!((outcomes.session, outcomes.lease, outcomes.outcomes.len()), (SESSION, LEASE, 1));
                    let outcome = &outcomes.outcomes[0];
                    assert!(matches!(outcome.result, Some(msg::outcome::Result::Value(_))), "{outcome:?}");
                    assert_eq!(outcome.sequence, SEQUENCE);
                    return (written, outcome.attempt);
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

/// The attempts that a node says it holds.
fn attempts(held: &msg::HeldAttempts) -> Vec<(u32, u64, u64, u32)> {
    let of = |group: &msg::HeldGroup| {
        let (session, lease) = (group.session, group.lease);
        let both = group.sequences.clone().into_iter().zip(group.attempts.clone());
        both.map(move |(sequence, attempt)| (session, lease, sequence, attempt)).collect::<Vec<_>>()
    };
    held.groups.iter().flat_map(of).collect()
}

#[test]
fn what_a_node_has_of_an_owner_outlives_links_and_lives() {
    let mut cluster = Cluster::build().cpus(1).start();
    let dir = cluster.home.work().join("data");
    std::fs::create_dir(&dir).unwrap();
    cluster.add_node_with(&["--volume", &format!("data={}", dir.display())]);
    // The head has the artifact: its own attempt of it ends before the node is dialled.
    std::fs::write(dir.join("go"), "").unwrap();
    cluster.rwasm(["submit", &text_guest("waits"), "--dir", "data::/data"]).run().ok();
    std::fs::remove_file(dir.join("go")).unwrap();
    std::fs::remove_file(dir.join("began")).unwrap();
    let nodes = cluster.rwasm(["list", "nodes", "--json"]).run().ok().json();
    let address = |id: &str| {
        let node = nodes["rows"].as_array().unwrap().iter().find(|node| node["id"] == id).unwrap();
        node["data_address"].as_str().unwrap().to_owned()
    };
    let state = cluster.head.ready["state_dir"].as_str().unwrap();
    let owner = Owner {
        runtime: tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap(),
        node: address("n2"),
        token: std::fs::read_to_string(format!("{state}/node-token")).unwrap().trim().to_owned(),
        data_address: address("n1"),
    };
    let listed = cluster.rwasm(["artifact", "list", "--json"]).run().ok().json();
    let artifact: ArtifactDigest = listed["rows"][0]["digest"].as_str().unwrap().parse().unwrap();
    let volume =
        VolumeGrant { source: VolumeSource::Named(Name::new("data").unwrap()), guest_path: "/data".to_owned(), access: Access::ReadWrite };
    let shape = ResourceSet { cpu: Quantity::ONE, memory: 64 << 20, ..ResourceSet::default() };
    let define = msg::DefineRemote {
        session: SESSION,
        number: 0,
        tenant: "default".to_owned(),
        shape: Some((&shape).into()),
        call: Some(msg::Call {
            artifact: Bytes::copy_from_slice(&artifact.0),
            export: String::new(),
            options: Some((&TaskOptions::default()).into()),
            grants: Some((&Grants { volumes: vec![volume], ..Grants::default() }).into()),
            actor: None,
        }),
        root: None,
    };

    // A first link. The task begins, and a second one waits behind it.
    let mut first = owner.link(5, None).unwrap();
    assert_eq!(attempts(&first.held), []);
    owner.say(&first, Say::Define(define));
    let task = |sequence| msg::AssignedTask { sequence, attempt: 2, args: Bytes::new(), depth: 0 };
    let tasks = vec![task(SEQUENCE), task(SEQUENCE + 1)];
    owner.say(&first, Say::Assign(msg::Assign { lease: LEASE, session: SESSION, call: 0, tasks }));
    let Hear::Outputs(begun) = owner.hear(&mut first).unwrap() else { panic!("no output") };
    assert_eq!((&begun.outputs[0].bytes[..], begun.number), (&b"begun\n"[..], 1));
    let keeping = first.held.keeping;
    drop(first);

    // The same life comes back, and has the output. What waited is given back, and costs nothing.
    let resume = |outcomes| Some(msg::LinkResume { keeping, outputs: 1, outcomes });
    let mut second = owner.link(5, resume(0)).unwrap();
    let both = [(SESSION, LEASE, SEQUENCE, 2), (SESSION, LEASE, SEQUENCE + 1, 2)];
    assert_eq!((second.held.keeping, attempts(&second.held)), (keeping, both.to_vec()));
    let Hear::Outcomes(back) = owner.hear(&mut second).unwrap() else { panic!("no outcome") };
    let Some(msg::outcome::Result::Error(error)) = &back.outcomes[0].result else { panic!("{back:?}") };
    assert_eq!((back.outcomes[0].sequence, error.code), (SEQUENCE + 1, u32::from(Code::OWNER_AWAY.number())));
    drop(second);

    // The task ends while the owner is away.
    std::fs::write(dir.join("go"), "").unwrap();
    eventually("the guest is done", || dir.join("ended").exists().then_some(()));

    // Its end comes, and is not acknowledged; so it comes again to a later life, with all output that nobody acknowledged.
    let mut third = owner.link(5, resume(1)).unwrap();
    let (written, attempt) = owner.hear_all(&mut third);
    assert_eq!((written, attempt), (vec![(6, "done\n".to_owned())], 2));
    let mut later = owner.link(6, None).unwrap();
    assert_eq!(attempts(&later.held), both[..1]);
    assert_eq!(owner.hear_all(&mut later), (vec![(6, "done\n".to_owned())], 2));

    // The link of the earlier life is closed, and it gets no other.
    assert_eq!(owner.hear(&mut third).unwrap_err().code(), Code::STALE_INCARNATION);
    assert_eq!(owner.link(5, resume(1)).map(drop).unwrap_err().code(), Code::STALE_INCARNATION);

    // What is acknowledged is gone.
    owner.say(&later, Say::Acknowledge(msg::AcknowledgeRemote { outputs: 2, outcomes: 2 }));
    eventually("nothing is held", || {
        owner.say(&later, Say::Acknowledge(msg::AcknowledgeRemote { outputs: 2, outcomes: 2 }));
        later = owner.link(6, None).unwrap();
        attempts(&later.held).is_empty().then_some(())
    });
}
