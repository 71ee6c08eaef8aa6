//! Two tenants on one cluster, door by door: whoever comes with another tenant's id is told what is told of one that is not there.
//!
//! The doors are counted: the questions and orders by their names, the calls and the messages of a session in the protocol's files. A new one
//! fails this test until it has a row. This goes where no command goes, so unlike its neighbours it speaks the protocol itself.

use std::{collections::BTreeSet, fs, path::Path};

use bytes::Bytes;
use rwasm_types::{
    ActorId, ArtifactDigest, ArtifactName, Code, Error, GroupStrategy, Incarnation, JobId, Name, ObjectId, Policy, Priority, ResourceSet,
    Result, Role, TaskOptions, Tenant, TokenHash, TokenId, UserToken,
    api::{NewGroup, NewToken, Order, Query},
    view::{JobPage, TaskPage},
};
use rwasm_wire::{Connector, GatewayClient, Inbound, Outbound, RelayClient, convert, hello, msg};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::harness::{Cluster, eventually, guest, text::protocol};

/// What a caller must see at a door.
type Row = (&'static str, fn(&Two) -> Sees);

/// What a foreign tenant sees.
enum Sees {
    /// An answer in which nothing is the other tenant's.
    Nothing(Value),
    /// What is told of an id that is not there, too.
    NotThere { told: Error, of_none: Error },
    /// That its role does not do this, whoever's it were.
    Forbidden(Error),
    /// Something else, which the row checked itself.
    Checked,
}

/// Every door, by the name under which it is counted.
const ROWS: &[Row] = &[
    ("query status", |two| Sees::Nothing(two.ask(&Query::Status).unwrap())),
    ("query nodes", |two| Sees::Nothing(two.ask(&Query::Nodes).unwrap())),
    ("query jobs", |two| two.none_of(&Query::Jobs { state: None, limit: 10_000, page: JobPage::default() })),
    ("query artifacts", |two| two.none_of(&Query::Artifacts { limit: 10_000, digest: None })),
    ("query artifact", |two| {
        let ask = |artifact: ArtifactDigest| two.ask(&Query::Artifact { artifact: ArtifactName::Digest(artifact.into()) }).unwrap_err();
        Sees::NotThere { told: ask(two.artifact), of_none: ask(ArtifactDigest([7; 32])) }
    }),
    ("query tags", |two| two.none_of(&Query::Tags { limit: 10_000 })),
    ("query tasks", |two| {
        two.none_of(&Query::Tasks { job: None, state: None, limit: 10_000, page: TaskPage::default() });
        two.compare(|job| Query::Tasks { job: Some(job), state: None, limit: 10, page: TaskPage::default() })
    }),
    ("query job", |two| two.compare(|job| Query::Job { job })),
    ("query task", |two| two.compare(|job| Query::Task { task: job.task(0) })),
    ("query why", |two| two.compare(|job| Query::Why { task: job.task(0) })),
    ("query timeline", |two| {
        two.none_of(&Query::Timeline { job: None, from_ms: 0, to_ms: u64::MAX, limit: 10_000 });
        two.compare(|job| Query::Timeline { job: Some(job), from_ms: 0, to_ms: u64::MAX, limit: 10 })
    }),
    ("query summary", |two| {
        let summary = two.ask(&Query::Summary).unwrap();
        assert!(summary["jobs"].as_object().unwrap().is_empty() && summary["tasks"]["succeeded"] == 0, "{summary}");
        Sees::Nothing(summary)
    }),
    ("query policy", |two| Sees::Nothing(two.ask(&Query::Policy).unwrap())),
    ("query groups", |two| two.none_of(&Query::Groups)),
    ("query plan", |two| {
        let plan = |artifact| {
            let query = Query::Plan { artifact, options: Box::default(), needs: Default::default(), tasks: 1 };
            two.ask(&query).unwrap_err()
        };
        Sees::NotThere { told: plan(two.artifact), of_none: plan(ArtifactDigest([7; 32])) }
    }),
    ("query objects", |two| two.none_of(&Query::Objects { limit: 10_000 })),
    ("query object", |two| {
        let ask = |object: ObjectId| two.ask(&Query::Object { object }).unwrap_err();
        Sees::NotThere { told: ask(two.object), of_none: ask(two.no_object()) }
    }),
    ("query actors", |two| two.none_of(&Query::Actors { limit: 10_000 })),
    ("query actor", |two| {
        let ask = |actor: ActorId| two.ask(&Query::Actor { actor }).unwrap_err();
        Sees::NotThere { told: ask(two.actor), of_none: ask(two.no_actor()) }
    }),
    ("query named-actor", |two| {
        let ask = |name: &str| two.ask(&Query::NamedActor { name: name.parse().unwrap() }).unwrap_err();
        Sees::NotThere { told: ask("other"), of_none: ask("nobody") }
    }),
    ("order end-actor", |two| {
        let end = |actor: ActorId| two.order(&Order::EndActor { actor, drain: false }).unwrap_err();
        Sees::NotThere { told: end(two.actor), of_none: end(two.no_actor()) }
    }),
    ("query memory", |two| {
        let memory = two.ask(&Query::Memory).unwrap();
        assert_eq!(memory["rows"][0]["sealed"]["objects"], 0, "{memory}");
        Sees::Nothing(memory)
    }),
    ("order release-object", |two| {
        let release = |object: ObjectId| two.order(&Order::ReleaseObject { object }).unwrap_err();
        Sees::NotThere { told: release(two.object), of_none: release(two.no_object()) }
    }),
    ("query tenants", |two| Sees::Forbidden(two.ask(&Query::Tenants).unwrap_err())),
    ("query tokens", |two| Sees::Forbidden(two.ask(&Query::Tokens { tenant: Some(two.other.clone()) }).unwrap_err())),
    ("query invitations", |two| Sees::Forbidden(two.ask(&Query::Invitations).unwrap_err())),
    ("order revoke-invitation", |two| two.forbidden(&Order::RevokeInvitation { token: TokenId::from_random([1; 8]) })),
    ("order stop-job", |two| {
        let stop = |job| two.order(&Order::StopJob { job }).unwrap_err();
        Sees::NotThere { told: stop(two.job), of_none: stop(two.no_job()) }
    }),
    ("order tag-artifact", |two| {
        let tag = |artifact: ArtifactDigest| {
            two.order(&Order::TagArtifact { tag: "mine:1".parse().unwrap(), artifact: ArtifactName::Digest(artifact.into()) }).unwrap_err()
        };
        Sees::NotThere { told: tag(two.artifact), of_none: tag(ArtifactDigest([7; 32])) }
    }),
    ("order untag", |two| {
        let untag = |tag: &str| two.order(&Order::Untag { tag: tag.parse().unwrap() }).unwrap_err();
        Sees::NotThere { told: untag("other:1"), of_none: untag("nobody:1") }
    }),
    ("order remove-artifact", |two| {
        let remove = |artifact: ArtifactDigest| two.order(&Order::RemoveArtifact { artifact: artifact.into(), force: true }).unwrap_err();
        Sees::NotThere { told: remove(two.artifact), of_none: remove(ArtifactDigest([7; 32])) }
    }),
    ("order collect-artifacts", |two| two.forbidden(&Order::CollectArtifacts { unused_for_ms: 0, dry_run: false, keep: Vec::new() })),
    ("order drain-node", |two| two.forbidden(&Order::DrainNode { node: two.job.owner, within_ms: 0 })),
    ("order undrain-node", |two| two.forbidden(&Order::UndrainNode { node: two.job.owner })),
    // Groups are a tenant's own: another's name is free, as far as that goes.
    ("order create-group", |two| {
        let create = |name: &str| {
            let (name, bundles) = (Name::new(name).unwrap(), vec![ResourceSet::cpus(10_000)]);
            let (strategy, labels, priority) = (GroupStrategy::Pack, Vec::new(), Priority::default());
            two.order(&Order::CreateGroup(NewGroup { name, bundles, strategy, labels, priority, wait: false })).unwrap_err()
        };
        let told = [create("other"), create("nobody")].map(|error| (error.code(), error.to_string()));
        assert!(told[0] == told[1] && told[0].0 == Code::INFEASIBLE, "{told:?}");
        Sees::Checked
    }),
    ("order remove-group", |two| {
        let remove = |name: &str| two.order(&Order::RemoveGroup { name: Name::new(name).unwrap() }).unwrap_err();
        Sees::NotThere { told: remove("other"), of_none: remove("nobody") }
    }),
    ("order create-tenant", |two| two.forbidden(&Order::CreateTenant { tenant: two.other.clone() })),
    ("order delete-tenant", |two| two.forbidden(&Order::DeleteTenant { tenant: two.other.clone(), force: true })),
    ("order create-token", |two| {
        let token = UserToken::from_random([1; 8], [1; 32]);
        let (id, hash, tenant) = (token.id(), token.hash(), Some(two.other.clone()));
        two.forbidden(&Order::CreateToken(NewToken { id, hash, tenant, role: Role::Viewer, name: None, expires_ms: None }))
    }),
    ("order revoke-token", |two| two.forbidden(&Order::RevokeToken { token: UserToken::parse(&two.other_token).unwrap().id() })),
    ("order set-policy", |two| two.forbidden(&Order::SetPolicy { tenant: two.other.clone(), policy: Policy::open() })),
    ("order invite-node", |two| {
        let id = TokenId::from_random([1; 8]);
        two.forbidden(&Order::InviteNode { id, hash: TokenHash::of_join(id, &[1; 32]), life_ms: 1000, nodes: 1 })
    }),
    ("rpc Attach", |two| two.refused_session(&[])),
    ("rpc Query", looking_elsewhere),
    ("rpc Control", |two| Sees::NotThere {
        told: two.call(Some(&two.other), async |mut client| client.control(stop(two.job), key(0)).await).unwrap_err(),
        of_none: two.call(Some(&nobody()), async |mut client| client.control(stop(two.job), key(0)).await).unwrap_err(),
    }),
    ("rpc Describe", |two| {
        let describe = |digest| two.call(None, async move |mut client| client.describe(digest).await).unwrap_err();
        Sees::NotThere { told: describe(two.artifact), of_none: describe(ArtifactDigest([7; 32])) }
    }),
    ("rpc Upload", same_bytes),
    ("rpc Logs", |two| {
        let logs = |job: JobId| {
            let request = msg::LogsRequest { job: Some(job.into()), sequence: None, follow: false };
            two.call(None, async move |mut client| client.logs(request).await.map(drop)).unwrap_err()
        };
        Sees::NotThere { told: logs(two.job), of_none: logs(two.no_job()) }
    }),
    ("rpc Put", |two| {
        // A value that names the other's object, and one that is to be held by the other's job.
        let put = |refs: Vec<ObjectId>, job: Option<JobId>| {
            let refs = refs.into_iter().map(convert::object_bytes).collect();
            let head = msg::PutHead { descriptor: Bytes::from_static(b"\x01s"), size: 1, refs, job: job.map(Into::into), keep_ns: 1 };
            let (sender, outbound) = Outbound::channel(1);
            sender.try_send(msg::PutPart { head: Some(head), data: Bytes::from_static(b"x") }).unwrap();
            drop(sender);
            two.call(None, async move |mut client| client.put(outbound).await).unwrap_err()
        };
        let (told, of_none) = (put(vec![two.object], None), put(vec![two.no_object()], None));
        assert_eq!((told.code(), of_none.code()), (Code::NO_SUCH_OBJECT, Code::NO_SUCH_OBJECT), "{told}");
        Sees::NotThere { told: put(vec![], Some(two.job)), of_none: put(vec![], Some(two.no_job())) }
    }),
    ("rpc Get", |two| {
        let get = |object: ObjectId| {
            let request = msg::GetRequest { object: convert::object_bytes(object), offset: 0, wait_ns: 0 };
            two.call(None, async move |mut client| client.get(request).await.map(drop)).unwrap_err()
        };
        Sees::NotThere { told: get(two.object), of_none: get(two.no_object()) }
    }),
    ("relay Attend", |two| {
        let node = two.job.owner;
        two.no_relay(async move |mut relay| relay.attend(node).await.map(drop))
    }),
    ("relay Tunnel", |two| {
        let node = two.job.owner.get();
        two.no_relay(async move |mut relay| relay.tunnel(msg::tunnel_part::Part::Dial(node)).await.map(drop))
    }),
    ("session hello", |two| two.refused_session(&[])),
    ("session open_job", same_key),
    ("session define_call", |two| {
        foreign_artifact(two);
        foreign_actor(two);
        two.refused_session(&[|session| msg::driver_message::Message::DefineCall(msg::DefineCall { session, ..Default::default() })])
    }),
    ("session submit", |two| {
        two.refused_session(&[|session| msg::driver_message::Message::Submit(msg::Submit { session, ..Default::default() })])
    }),
    ("session finish_job", |two| two.refused_session(&[|session| msg::driver_message::Message::FinishJob(msg::FinishJob { session })])),
    ("session cancel", |two| {
        two.refused_session(&[|session| msg::driver_message::Message::Cancel(msg::CancelTasks { session, sequences: vec![] })])
    }),
    ("session release", |two| two.refused_session(&[|session| msg::driver_message::Message::Release(msg::ReleaseJob { session })])),
    ("disk artifacts", |two| two.apart("artifacts")),
    ("disk jobs", |two| two.apart("jobs")),
    ("disk compiled", |two| two.apart("tenants")),
];

/// Two tenants, and the one that has something: an artifact, a job that runs, output.
struct Two {
    cluster: Cluster,
    runtime: tokio::runtime::Runtime,
    other: Tenant,
    other_token: String,
    /// Of the tenant that has nothing.
    token: String,
    job: JobId,
    artifact: ArtifactDigest,
    object: ObjectId,
    actor: ActorId,
}

fn nobody() -> Tenant {
    Tenant::new("nobody").unwrap()
}

fn key(number: u8) -> Bytes {
    Bytes::from(vec![number; 16])
}

fn stop(job: JobId) -> Bytes {
    serde_json::to_vec(&Order::StopJob { job }).unwrap().into()
}

/// A name that must not be seen.
const SECRET: &str = "the-name-of-a-job";

impl Two {
    fn start() -> Self {
        let cluster = Cluster::build().nodes(1).own_cache().start();
        let token = |name: &str| {
            cluster.rwasm(["tenant", "create", name]).run().ok();
            cluster.rwasm(["token", "create", "--tenant", name]).run().ok().stdout().trim().to_owned()
        };
        let (other_token, token) = (token("other"), token("mine"));
        let submit = |guest: &str, args: &[&str]| {
            let submit = cluster.rwasm(["submit", guest, "--no-wait", "--name", SECRET]).args(args).env("RWASM_TOKEN", &other_token);
            submit.run().ok().stdout().trim().parse::<JobId>().unwrap()
        };
        let speaks = cluster.rwasm(["submit", &guest("evil-command"), "--name", SECRET, "--", "show"]);
        speaks.env("RWASM_TOKEN", &other_token).run().ok().prints("show\n");
        let path = guest("evil-wasi");
        let job = submit(&path, &["--call", "sleep-for(3600000)"]);
        let artifact = ArtifactDigest(*blake3::hash(&fs::read(path).unwrap()).as_bytes());
        let tag = ["artifact", "tag", &artifact.to_string(), "other:1"];
        cluster.rwasm(tag).env("RWASM_TOKEN", &other_token).run().ok();
        let group = ["placement-group", "create", "other", "--bundle", "cpu=0.1"];
        cluster.rwasm(group).env("RWASM_TOKEN", &other_token).run().ok();
        let put = cluster.rwasm(["put", "-"]).stdin(SECRET.repeat(10_000)).env("RWASM_TOKEN", &other_token).run().ok();
        let object = put.stdout().trim().parse().unwrap();
        let create = ["actor", "create", &guest("counter"), "--call", "counter(1)", "--name", "other"];
        let actor = cluster.rwasm(create).env("RWASM_TOKEN", &other_token).run().ok().stdout().trim().parse().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let two = Self { cluster, runtime, other: Tenant::new("other").unwrap(), other_token, token, job, artifact, object, actor };
        eventually("it runs", || two.still_runs().then_some(()));
        two
    }

    fn still_runs(&self) -> bool {
        let status = self.cluster.rwasm(["job", "status", &self.job.to_string(), "--json"]).env("RWASM_TOKEN", &self.other_token);
        status.run().ok().json()["tasks"]["running"] == 1
    }

    /// A job of the same form that nobody ever had.
    fn no_job(&self) -> JobId {
        JobId { session: 777_777, ..self.job }
    }

    /// An actor of the same form that nobody ever made.
    fn no_actor(&self) -> ActorId {
        ActorId(self.no_job().task(7))
    }

    /// An object of the same form that nobody ever put.
    fn no_object(&self) -> ObjectId {
        self.no_job().task(0).object(0)
    }

    fn connect(&self, token: &str, into: Option<&Tenant>) -> GatewayClient {
        self.runtime.block_on(GatewayClient::connect(&Connector::tcp(self.cluster.gateway()), token, into)).unwrap()
    }

    /// Does something at the gateway as the tenant that has nothing.
    fn call<T>(&self, into: Option<&Tenant>, call: impl AsyncFnOnce(GatewayClient) -> Result<T>) -> Result<T> {
        self.runtime.block_on(call(self.connect(&self.token, into)))
    }

    /// The port is the drivers' too, and the relay there is for nodes: a user's token, whosever it is, opens nothing of it.
    fn no_relay(&self, call: impl AsyncFnOnce(RelayClient) -> Result<()> + Copy) -> Sees {
        for token in [&self.token, &self.cluster.token()] {
            let refused = self.runtime.block_on(async {
                let relay = RelayClient::connect(&Connector::tcp(self.cluster.gateway()), token).await.unwrap();
                call(relay).await.unwrap_err()
            });
            assert_eq!(refused.code(), Code::TOKEN_REFUSED, "{refused}");
        }
        Sees::Checked
    }

    fn ask(&self, query: &Query) -> Result<Value> {
        self.ask_into(None, query)
    }

    fn ask_into(&self, into: Option<&Tenant>, query: &Query) -> Result<Value> {
        let query = serde_json::to_vec(query).unwrap();
        self.call(into, async move |mut client| client.query(query.into()).await).map(|answer| serde_json::from_slice(&answer).unwrap())
    }

    fn order(&self, order: &Order) -> Result<Value> {
        let order = serde_json::to_vec(order).unwrap();
        let answer = self.call(None, async move |mut client| client.control(order.into(), key(9)).await);
        answer.map(|answer| serde_json::from_slice(&answer).unwrap())
    }

    fn forbidden(&self, order: &Order) -> Sees {
        Sees::Forbidden(self.order(order).unwrap_err())
    }

    /// A list without rows.
    fn none_of(&self, query: &Query) -> Sees {
        let listing = self.ask(query).unwrap();
        assert_eq!((&listing["rows"], &listing["total"]), (&json!([]), &json!(0)), "{query:?}");
        Sees::Nothing(listing)
    }

    /// A question about the other tenant's job, and about one that is not there.
    fn compare(&self, query: impl Fn(JobId) -> Query) -> Sees {
        let ask = |job| self.ask(&query(job)).unwrap_err();
        Sees::NotThere { told: ask(self.job), of_none: ask(self.no_job()) }
    }

    /// A session of a token, past its welcome.
    fn session(&self, token: &str) -> (rwasm_wire::Sender<msg::DriverMessage>, Inbound<msg::GatewayMessage>) {
        let mut client = self.connect(token, None);
        let (sender, outbound) = Outbound::channel(16);
        let inbound = self.runtime.block_on(async {
            say(&sender, msg::driver_message::Message::Hello(hello("", Incarnation(0)))).await;
            let mut inbound = client.attach(outbound).await.unwrap();
            assert!(matches!(inbound.next().await.unwrap().unwrap().message, Some(msg::gateway_message::Message::Welcome(_))));
            inbound
        });
        (sender, inbound)
    }

    /// What a session hears that names the other tenant's job in a message, and one that names none's. Without messages, what hears one that
    /// wants to be the other tenant's from the start.
    fn refused_session(&self, messages: &[fn(u32) -> msg::driver_message::Message]) -> Sees {
        if messages.is_empty() {
            let attach = |into: &Tenant| {
                let (sender, outbound) = Outbound::channel(1);
                sender.try_send(msg::DriverMessage::default()).unwrap();
                self.call(Some(into), async move |mut client| client.attach(outbound).await.map(drop)).unwrap_err()
            };
            return Sees::NotThere { told: attach(&self.other), of_none: attach(&nobody()) };
        }
        let hears = |job: JobId| {
            let (sender, mut inbound) = self.session(&self.token);
            self.runtime.block_on(async {
                for message in messages {
                    say(&sender, message(job.session)).await;
                }
                loop {
                    match inbound.next().await {
                        Ok(Some(_)) => {}
                        Ok(None) => panic!("the session ended well"),
                        Err(error) => return error,
                    }
                }
            })
        };
        let (told, of_none) = (hears(self.job), hears(self.no_job()));
        assert_eq!((told.code(), told.to_string()), (Code::MALFORMED_MESSAGE, of_none.to_string()));
        Sees::Checked
    }

    /// Directories of tenants of this name exist, and the one that has nothing has none in which something of the other lies.
    fn apart(&self, dir: &str) -> Sees {
        let mut found = Vec::new();
        for root in [&self.cluster.home.state(), self.cluster.home.cache()] {
            directories(root, dir, &mut found);
        }
        let tenants: BTreeSet<String> = found
            .iter()
            .flat_map(|dir| fs::read_dir(dir).unwrap())
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert!(tenants.contains("other"), "{dir}: {tenants:?}");
        assert!(tenants.iter().all(|name| ["other", "mine", "default"].contains(&&**name)), "{dir} has what is no tenant's: {tenants:?}");
        Sees::Checked
    }
}

/// Directories of a name, at any depth.
fn directories(root: &Path, name: &str, found: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if entry.file_name() == name {
                found.push(entry.path());
            }
            directories(&entry.path(), name, found);
        }
    }
}

async fn say(sender: &rwasm_wire::Sender<msg::DriverMessage>, message: msg::driver_message::Message) {
    sender.send(msg::DriverMessage { message: Some(message) }).await.unwrap();
}

/// Every question, asked of the other tenant by its name.
fn looking_elsewhere(two: &Two) -> Sees {
    for name in variants::<Query>("ask") {
        let example = json!({
            "ask": name, "job": two.job, "task": two.job.task(0), "artifact": two.artifact, "object": two.object, "actor": two.actor, "name": "other", "from_ms": 0, "to_ms": 1,
            "options": TaskOptions::default(), "tasks": 1
        });
        let query: Query = serde_json::from_value(example).unwrap_or_else(|error| panic!("{name}: {error}"));
        let of = |tenant: &Tenant| two.ask_into(Some(tenant), &query).unwrap_err();
        let (told, of_none) = (of(&two.other), of(&nobody()));
        assert_eq!(told.to_string().replace("other", "nobody"), of_none.to_string(), "{name}");
        assert!([Code::NOT_FOUND, Code::FORBIDDEN].contains(&told.code()), "{name}: {told}");
    }
    Sees::Checked
}

/// The same bytes are each tenant's own.
fn same_bytes(two: &Two) -> Sees {
    let digest = ArtifactDigest(upload(two, "hello")[..].try_into().unwrap());
    let listing = two.ask(&Query::Artifacts { limit: 10, digest: Some(digest.into()) }).unwrap();
    assert_eq!((&listing["total"], &listing["rows"][0]["tenant"]), (&json!(1), &json!("mine")));
    Sees::Checked
}

/// The same key opens another job for another tenant, and resumes none of its own.
fn same_key(two: &Two) -> Sees {
    let open = |token: &str, resume: Option<msg::Resume>| {
        let (sender, mut inbound) = two.session(token);
        let open = msg::OpenJob { request: 1, key: key(5), name: String::new(), detached: true, follow: false, resume };
        two.runtime.block_on(async {
            say(&sender, msg::driver_message::Message::OpenJob(open)).await;
            match inbound.next().await.unwrap().unwrap().message {
                Some(msg::gateway_message::Message::JobOpened(msg::JobOpened { result: Some(result), .. })) => match result {
                    msg::job_opened::Result::Job(job) => Ok(convert::job(&job).unwrap()),
                    msg::job_opened::Result::Error(error) => Err(convert::any_error(error).code()),
                },
                other => panic!("{other:?}"),
            }
        })
    };
    let job = open(&two.other_token, None).unwrap();
    assert_eq!(Ok(job), open(&two.other_token, None), "a repeated opening opens no second job");
    assert_eq!(Err(Code::JOB_GONE), open(&two.token, Some(msg::Resume::default())));
    assert_ne!(Ok(job), open(&two.token, None));
    Sees::Checked
}

/// The other tenant's artifact cannot be called.
fn foreign_artifact(two: &Two) {
    let call = |artifact: ArtifactDigest| msg::Call {
        artifact: Bytes::copy_from_slice(&artifact.0),
        export: "burn".into(),
        options: Some((&TaskOptions::default()).into()),
        grants: Some(msg::Grants::default()),
        actor: None,
    };
    let told = refused_calls(two, 6, [call(two.artifact), call(ArtifactDigest([7; 32]))]);
    assert_eq!(told[0].code(), Code::NO_SUCH_ARTIFACT);
    assert_eq!(told[0].to_string().replace(&two.artifact.short(), "X"), told[1].to_string().replace(&ArtifactDigest([7; 32]).short(), "X"));
}

/// The other tenant's actor cannot be called, whoever has the artifact.
fn foreign_actor(two: &Two) {
    let artifact = upload(two, "counter");
    let call = |actor: ActorId| msg::Call {
        artifact: artifact.clone(),
        export: "counter.value".into(),
        options: Some((&TaskOptions::default()).into()),
        grants: Some(msg::Grants::default()),
        actor: Some(actor.into()),
    };
    let told = refused_calls(two, 7, [call(two.actor), call(two.no_actor())]);
    assert_eq!(told[0].code(), Code::NOT_FOUND);
    assert_eq!(told[0].to_string().replace(&two.actor.to_string(), "X"), told[1].to_string().replace(&two.no_actor().to_string(), "X"));
}

/// Stores a guest's bytes for the tenant that has nothing; gives their digest.
fn upload(two: &Two, name: &str) -> Bytes {
    let bytes = Bytes::from(fs::read(guest(name)).unwrap());
    let (sender, outbound) = Outbound::channel(1);
    let digest = Bytes::copy_from_slice(blake3::hash(&bytes).as_bytes());
    let chunk = msg::ArtifactChunk { digest: digest.clone(), length: bytes.len() as u64, data: bytes };
    sender.try_send(chunk).unwrap();
    drop(sender);
    two.call(None, async move |mut client| client.upload(outbound).await).unwrap();
    digest
}

/// What is told of calls that are refused, each in the same job.
fn refused_calls(two: &Two, number: u8, calls: [msg::Call; 2]) -> Vec<Error> {
    let (sender, mut inbound) = two.session(&two.token);
    two.runtime.block_on(async {
        let open = msg::OpenJob { request: 1, key: key(number), name: String::new(), detached: false, follow: false, resume: None };
        say(&sender, msg::driver_message::Message::OpenJob(open)).await;
        let Some(msg::gateway_message::Message::JobOpened(opened)) = inbound.next().await.unwrap().unwrap().message else {
            panic!("no job")
        };
        let Some(msg::job_opened::Result::Job(job)) = opened.result else { panic!("{opened:?}") };
        let mut told = Vec::new();
        for call in calls {
            let define = msg::DefineCall { session: job.session, number: 0, call: Some(call) };
            say(&sender, msg::driver_message::Message::DefineCall(define)).await;
            let Some(msg::gateway_message::Message::CallDefined(defined)) = inbound.next().await.unwrap().unwrap().message else {
                panic!("no call")
            };
            told.push(convert::any_error(defined.error.unwrap()));
        }
        told
    })
}

/// The names of an enum's cases, from what its reader says of one that is none.
fn variants<T: DeserializeOwned>(tag: &str) -> Vec<String> {
    let error = serde_json::from_value::<T>(json!({ tag: "-" })).err().expect("`-` is no case").to_string();
    let (_, names) = error.split_once("expected").unwrap_or_else(|| panic!("{error}"));
    let names: Vec<String> = names.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    assert!(names.len() > 1, "{error}");
    names
}

#[test]
fn every_door_has_a_row_and_every_row_a_door() {
    let mut doors: BTreeSet<String> = ["disk artifacts", "disk jobs", "disk compiled"].map(str::to_owned).into();
    doors.extend(variants::<Query>("ask").into_iter().map(|name| format!("query {name}")));
    doors.extend(variants::<Order>("order").into_iter().map(|name| format!("order {name}")));
    let call = |line: &str| line.strip_prefix("rpc ")?.split_once('(').map(|(name, _)| name.to_owned());
    doors.extend(protocol("service Gateway {", call).into_iter().map(|name| format!("rpc {name}")));
    doors.extend(protocol("service Relay {", call).into_iter().map(|name| format!("relay {name}")));
    let field = |line: &str| line.strip_suffix(';')?.split_once(" = ")?.0.split_once(' ').map(|(_, name)| name.to_owned());
    doors.extend(protocol("message DriverMessage {", field).into_iter().map(|name| format!("session {name}")));
    let rows: BTreeSet<String> = ROWS.iter().map(|(door, _)| (*door).to_owned()).collect();
    assert_eq!(rows.len(), ROWS.len());
    assert_eq!(doors, rows);
}

#[test]
fn no_door_leads_from_one_tenant_to_another() {
    let two = Two::start();
    for (door, row) in ROWS {
        eprintln!("now {door}");
        match row(&two) {
            Sees::Nothing(answer) => {
                let answer = answer.to_string();
                for secret in
                    ["other", SECRET, &two.job.to_string(), &two.artifact.to_string(), &two.object.to_string(), &two.actor.to_string()]
                {
                    assert!(!answer.contains(secret), "{door} tells of {secret}: {answer}");
                }
            }
            Sees::NotThere { told, of_none } => {
                assert!([Code::NOT_FOUND, Code::NO_SUCH_ARTIFACT, Code::NO_SUCH_OBJECT].contains(&told.code()), "{door}: {told}");
                let plain = |error: &Error| {
                    // The objects first, for one of them begins like a job.
                    let objects = [two.object, two.no_object()].map(|object| object.to_string()[1..].to_owned());
                    let jobs = [two.job, two.no_job()].map(|job| job.to_string()[1..].to_owned());
                    let actors = [two.actor, two.no_actor()].map(|actor| actor.to_string()[1..].to_owned());
                    let ids: Vec<String> = objects.into_iter().chain(actors).chain(jobs).collect();
                    let digests = [two.artifact, ArtifactDigest([7; 32])];
                    // The long form first, for it begins like the short one.
                    let names = digests.iter().map(ToString::to_string).chain(digests.iter().map(|digest| digest.short()));
                    let names: Vec<String> = names.chain(["other".to_owned(), "nobody".to_owned()]).collect();
                    ids.iter().chain(&names).fold(error.to_string(), |text, id| text.replace(id.as_str(), "X"))
                };
                assert_eq!((told.code(), plain(&told)), (of_none.code(), plain(&of_none)), "{door}");
            }
            Sees::Forbidden(error) => assert_eq!(error.code(), Code::FORBIDDEN, "{door}: {error}"),
            Sees::Checked => {}
        }
    }
    assert!(two.still_runs(), "nothing that was tried has reached the other tenant's job");
}
