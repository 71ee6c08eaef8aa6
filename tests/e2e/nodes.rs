//! Nodes of an encrypted cluster: they join once with a token, then by their certificates, over networks that the tests make.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::Value;

use crate::harness::{Cluster, Home, cluster::Daemon, eventually, guest, network::Network};

/// A join token.
pub(crate) fn invite(cluster: &Cluster, args: &[&str]) -> String {
    let made = cluster.rwasm(["token", "join", "--json"]).args(args).run().ok().json();
    made["token"].as_str().unwrap().to_owned()
}

fn encrypted(args: &[&str]) -> Cluster {
    Cluster::build().cpus(1).args(&["--tls"]).args(args).start()
}

/// A node with a state directory of its own; it ends with its home's cluster.
pub(crate) fn start<'a>(cluster: &'a Cluster, dir: &str) -> crate::harness::run::Run<'a> {
    cluster.rwasm(["start", "--address", &cluster.head_address(), "--num-cpus", "1", "--json", "--state-dir", &cluster.home.path(dir)])
}

fn code(refused: &Value) -> &str {
    refused["code"].as_str().unwrap_or_default()
}

#[test]
fn a_node_joins_with_a_token_once_and_then_by_its_certificate() {
    let mut cluster = encrypted(&[]);
    assert_eq!(code(&start(&cluster, "a").run().exits(2).json_error()), "RW0553");
    let plain = start(&cluster, "a").env("RWASM_NODE_TOKEN", "rwn_0").run().exits(2).json_error();
    assert_eq!(code(&plain), "RW0545", "without TLS nobody is heard");
    let token = invite(&cluster, &[]);
    let node = Daemon::read(start(&cluster, "a").env("RWASM_JOIN_TOKEN", &token).run().ok().json());
    assert_eq!(node.ready["node"], "n2", "{node:?}");
    cluster.nodes.push(node);
    shares_work(&cluster);
    assert_eq!(code(&start(&cluster, "b").args(["--join-token", &token]).run().exits(2).json_error()), "RW0550");
    // The same node again, without a token, and with the one that it used.
    for variable in ["", &token] {
        cluster.nodes.pop().unwrap().kill();
        let node = Daemon::read(start(&cluster, "a").env("RWASM_JOIN_TOKEN", variable).run().ok().json());
        assert_eq!(node.ready["node"], "n2", "{node:?}");
        cluster.nodes.push(node);
        shares_work(&cluster);
    }
    // What is damaged is no reason to join as another node.
    let kept = cluster.home.path("a/certificate.json");
    assert_eq!(fs::metadata(&kept).unwrap().mode() & 0o777, 0o600);
    cluster.nodes.pop().unwrap().kill();
    fs::write(&kept, "{").unwrap();
    assert_eq!(code(&start(&cluster, "a").run().exits(2).json_error()), "RW0548");
}

/// A node that was away for longer than its certificate was valid needs a token again, and is the same node with the same jobs.
#[test]
fn a_node_whose_certificate_expired_comes_back_with_a_token() {
    let mut cluster = encrypted(&["--certificate-life", "6s"]);
    let node = Daemon::read(start(&cluster, "a").env("RWASM_JOIN_TOKEN", invite(&cluster, &[])).run().ok().json());
    node.kill();
    let kept = cluster.home.path("a/certificate.json");
    eventually("the certificate has expired", || {
        let kept: Value = serde_json::from_slice(&fs::read(&kept).unwrap()).unwrap();
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        // Certificates count seconds.
        let until_ms = kept["received_ms"].as_u64().unwrap() + kept["life_ms"].as_u64().unwrap() + 1_000;
        (now_ms > u128::from(until_ms)).then_some(())
    });
    let expired = start(&cluster, "a").run().exits(2).json_error();
    assert_eq!(code(&expired), "RW0544", "{expired}");
    assert!(expired["hint"].as_str().unwrap().contains("rwasm token join"), "{expired}");
    let token = invite(&cluster, &[]);
    let node = Daemon::read(start(&cluster, "a").env("RWASM_JOIN_TOKEN", &token).run().ok().json());
    assert_eq!(node.ready["node"], "n2", "{node:?}");
    cluster.nodes.push(node);
    shares_work(&cluster);
    assert_eq!(code(&start(&cluster, "b").env("RWASM_JOIN_TOKEN", &token).run().exits(2).json_error()), "RW0550");

    // Without what it had, it cannot be the same node. What it had written down stays, and does not stand in its way.
    cluster.nodes.pop().unwrap().kill();
    fs::remove_file(&kept).unwrap();
    let node = Daemon::read(start(&cluster, "a").env("RWASM_JOIN_TOKEN", invite(&cluster, &[])).run().ok().json());
    assert_eq!(node.ready["node"], "n3", "{node:?}");
    cluster.nodes.push(node);
    assert!(fs::exists(cluster.home.path("a/former-n2/work/0000000001.seg")).unwrap());
    eventually("the new node is there, and the old one is lost", || {
        let nodes = cluster.rwasm(["list", "nodes", "--json"]).run().ok().json();
        let alive: Vec<bool> = nodes["rows"].as_array().unwrap().iter().map(|node| node["alive"] == true).collect();
        (alive == [true, false, true]).then_some(())
    });
}

/// Certificates are valid by each side's own clock, and whoever is refused for it is told to look at the clocks.
#[test]
fn a_node_whose_clock_is_wrong_by_more_than_a_certificate_is_valid_is_told() {
    let cluster = encrypted(&[]);
    let token = invite(&cluster, &[]);
    let start = |ahead: &str| start(&cluster, "a").env("RWASM_JOIN_TOKEN", &token).env("RWASM_FAULT_CLOCK_MS", ahead);
    for (ahead, says) in [("864000000", "expired at"), ("-864000000", "is valid from")] {
        let refused = start(ahead).run().exits(2).json_error();
        assert_eq!(code(&refused), "RW0544", "{refused}");
        assert!(refused["message"].as_str().unwrap().contains(says), "{refused}");
        assert!(refused["hint"].as_str().unwrap().contains("clocks"), "{refused}");
    }
    // Nothing was sent, so the token is good still.
    let started = start("0").run().ok().json();
    assert_eq!(started["node"], "n2");
    Daemon::read(started).kill();
}

/// Four tasks at once on two nodes of one core each.
fn shares_work(cluster: &Cluster) {
    let map = cluster.rwasm(["submit", &guest("evil-wasi"), "--map", "-", "--func", "sleep-for"]).stdin("[500]\n".repeat(4));
    map.run().ok().prints(&"null\n".repeat(4));
    let jobs = cluster.rwasm(["list", "jobs", "--json", "--limit", "1"]).run().ok().json();
    let job = jobs["rows"][0]["id"].as_str().unwrap();
    let tasks = cluster.rwasm(["list", "tasks", "--json", "--job", job]).run().ok().json();
    assert!(tasks["rows"].as_array().unwrap().iter().any(|task| task["node"] == "n2"), "{tasks}");
}

#[test]
fn tokens_that_are_not_good_have_codes_of_their_own() {
    let (cluster, other) = (encrypted(&[]), encrypted(&[]));
    let refused = |token: &str| start(&cluster, "a").args(["--join-token", token]).run().exits(2).json_error();
    let token = invite(&cluster, &[]);
    assert_eq!(code(&refused(&token[..100])), "RW0549");
    assert_eq!(code(&refused(&invite(&other, &[]))), "RW0542", "another cluster's authority");
    let secret = token.split('_').nth(2).unwrap();
    assert_eq!(code(&refused(&token.replace(secret, &"0".repeat(64)))), "RW0552");
    let short = invite(&cluster, &["--expires", "1ms"]);
    assert_eq!(code(&refused(&short)), "RW0551");
    let plain = Cluster::start(0);
    assert_eq!(code(&plain.rwasm(["token", "join", "--json"]).run().exits(2).json_error()), "RW0545");
}

#[test]
fn a_node_renews_its_certificate_and_keeps_its_links() {
    let mut cluster = encrypted(&["--certificate-life", "6s"]);
    let node = Daemon::read(start(&cluster, "a").env("RWASM_JOIN_TOKEN", invite(&cluster, &[])).run().ok().json());
    cluster.nodes.push(node);
    let kept = || fs::read_to_string(cluster.home.path("a/certificate.json")).unwrap();
    for renewal in ["the first renewal", "the second renewal"] {
        let before = kept();
        eventually(renewal, || (kept() != before).then_some(()));
    }
    shares_work(&cluster);
}

/// A head that starts anew has its nodes back. One with another state directory is another cluster's, and they wait for their own.
#[test]
fn nodes_come_back_to_their_head_and_to_no_other() {
    let mut cluster = encrypted(&[]);
    let node = Daemon::read(start(&cluster, "a").env("RWASM_JOIN_TOKEN", invite(&cluster, &[])).run().ok().json());
    cluster.nodes.push(node);
    let port = |address: String| address.rsplit_once(':').unwrap().1.to_owned();
    let (head, gateway) = (port(cluster.head_address()), port(cluster.gateway()));
    let again = |cluster: &Cluster, args: &[&str]| {
        cluster.head.kill();
        let start = ["start", "--head", "--tls", "--num-cpus", "1", "--json", "--port", &head, "--client-port", &gateway];
        Daemon::read(cluster.rwasm(start).args(args).run().ok().json())
    };
    let alive = |cluster: &Cluster| {
        let nodes = cluster.rwasm(["list", "nodes", "--json"]).run().ok().json();
        let alive = nodes["rows"].as_array().unwrap().iter().filter(|node| node["alive"] == true);
        alive.map(|node| node["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    cluster.head = again(&cluster, &[]);
    eventually("both nodes are back", || (alive(&cluster) == ["n1", "n2"]).then_some(()));
    shares_work(&cluster);
    let other = cluster.home.path("other");
    cluster.head = again(&cluster, &["--state-dir", &other]);
    let log = cluster.home.path("a/daemon.log");
    let told = || fs::read_to_string(&log).unwrap().contains("is expected");
    eventually("the node says why it stays away", || told().then_some(()));
    assert_eq!(alive(&cluster), ["n1"]);
}

/// The head's machine and two others, which reach it and not each other; the driver is on a fourth.
#[test]
fn machines_share_work_over_networks_of_their_own() {
    let Some(network) = Network::make(&["head", "one", "driver"]) else { return };
    let home = Home::new();
    let head = network.run(&home, "head", ["start", "--head", "--host", "0.0.0.0", "--num-cpus", "1", "--json"]);
    let head = head.args(["--advertise", &network.head_address()]).run().ok().json();
    let token = network.run(&home, "head", ["token", "join", "--json"]).run().ok().json();
    let node_home = Home::new();
    let node = network.run(&node_home, "one", ["start", "--num-cpus", "1", "--json", "--host", &network.address("one")]);
    let node = node.args(["--address", &network.head_address()]).env("RWASM_JOIN_TOKEN", token["token"].as_str().unwrap());
    let node = node.run().ok().json();
    assert_eq!(node["node"], "n2", "{node}");
    // A driver with nothing but the address, the user's token and the fingerprint.
    let driver_home = Home::new();
    let user = fs::read_to_string(format!("{}/token", head["state_dir"].as_str().unwrap())).unwrap();
    let driver = |ca: &str| {
        network
            .run(
                &driver_home,
                "driver",
                ["submit", &guest("evil-wasi"), "--map", "-", "--func", "sleep-for", "--address", &network.head_address()],
            )
            .env("RWASM_TOKEN", &user)
            .env("RWASM_CA", ca)
            .stdin("[500]\n".repeat(4))
    };
    driver("").run().fails(2, "RW0541");
    driver(token["authority"].as_str().unwrap()).run().ok().prints(&"null\n".repeat(4));
    let tasks = network.run(&home, "head", ["list", "tasks", "--json"]).run().ok().json();
    assert!(tasks["rows"].as_array().unwrap().iter().any(|task| task["node"] == "n2"), "{tasks}");
    network.run(&node_home, "one", ["stop"]).run().ok();
    network.run(&home, "head", ["stop"]).run().ok();
}
