//! Nodes that nobody can dial: they attend a relay, and get tasks and artifacts, and give results, through it.

use std::fs;

use crate::{
    harness::{Cluster, Home, cluster::Daemon, eventually, guest, network::Network, run::Run},
    nodes::{invite, start},
};

const NO_PORT: [&str; 2] = ["--data-port", "none"];

/// Work that no other node than this one can do is done, where its tasks say so, and with results that fill every buffer on the way.
fn works_on<'a>(home: &Home, run: impl Fn(&[&str]) -> Run<'a>, node: &str, resource: &str) {
    let needs = format!("{{\"{resource}\": 1}}");
    let there = |func: &str, input: &str| {
        let input = home.write("in.jsonl", input);
        // On a machine with much to do, a node may be silent for so long that it counts as lost for a moment.
        eventually("the node does its work", || {
            let output = run(&["submit", &guest("hello"), "--map", &input, "--resources", &needs, "--func", func]).run();
            (output.code() == 0).then_some(output)
        })
    };
    there("whereabouts", "[]\n").says(&format!("on node {node}"));
    let name = "x".repeat(1 << 20);
    there("greet", &format!("[\"{name}\"]\n").repeat(8)).prints(&format!("\"Hello, {name}!\"\n").repeat(8));
}

/// Neither the head's node nor the other listens for nodes, so that everything goes through the gateway.
#[test]
fn nodes_that_only_dial_out_share_work() {
    let mut plain = Cluster::build().args(&NO_PORT).start();
    plain.add_node_with(&["--resources", "{\"far\": 1}"]);
    let mut encrypted = Cluster::build().args(&[&NO_PORT[..], &["--tls"]].concat()).start();
    let node = start(&encrypted, "a").args(NO_PORT).args(["--resources", "{\"far\": 1}"]);
    let node = node.env("RWASM_JOIN_TOKEN", invite(&encrypted, &[])).run().ok().json();
    encrypted.nodes.push(Daemon::read(node));
    for cluster in [&plain, &encrypted] {
        let nodes = cluster.rwasm(["list", "nodes", "--json"]).run().ok().json();
        assert!(nodes["rows"].as_array().unwrap().iter().all(|node| node["data_address"].is_null()), "{nodes}");
        works_on(&cluster.home, |args| cluster.rwasm(args), "n2", "far");
    }
}

/// The owner is a node with a gateway, which attends the head's relay as the other does and is none to it.
#[test]
fn two_nodes_that_only_dial_out_reach_each_other() {
    let mut cluster = Cluster::build().args(&NO_PORT).start();
    let gateway = cluster.add_gateway(None);
    cluster.add_node_with(&["--resources", "{\"far\": 1}"]);
    works_on(&cluster.home, |args| cluster.rwasm(args).args(["--address", &gateway]).env("RWASM_TOKEN", cluster.token()), "n3", "far");
}

#[test]
fn nodes_attend_the_relay_again_after_it_was_away() {
    let mut cluster = Cluster::build().args(&NO_PORT).start();
    cluster.add_node_with(&["--resources", "{\"far\": 1}"]);
    works_on(&cluster.home, |args| cluster.rwasm(args), "n2", "far");
    cluster.head.kill();
    cluster.start_head_again();
    works_on(&cluster.home, |args| cluster.rwasm(args), "n2", "far");
}

/// One node tells an address that leads nowhere from the head's machine, the other none; each is on a network of its own.
#[test]
fn nodes_of_networks_that_do_not_meet_are_reached_through_the_gateway() {
    let Some(network) = Network::make(&["head", "one", "two"]) else { return };
    let home = Home::new();
    let head = network.run(&home, "head", ["start", "--head", "--host", "0.0.0.0", "--json"]);
    head.args(["--advertise", &network.head_address()]).run().ok();
    let homes = [Home::new(), Home::new()];
    let ways = [&["--host", "0.0.0.0", "--advertise", "10.77.2.9"][..], &["--data-port", "none"]];
    for ((own, machine), way) in homes.iter().zip(["one", "two"]).zip(ways) {
        let token = network.run(&home, "head", ["token", "join", "--json"]).run().ok().json();
        let node = network.run(own, machine, ["start", "--json", "--address", &network.head_address()]);
        let node = node.args(way).args(["--resources", &format!("{{\"{machine}\": 1}}")]);
        node.env("RWASM_JOIN_TOKEN", token["token"].as_str().unwrap()).run().ok();
    }
    for (node, machine) in [("n2", "one"), ("n3", "two")] {
        works_on(&home, |args| network.run(&home, "head", args), node, machine);
    }
    let log = fs::read_to_string(home.state().join("head.log")).unwrap();
    assert!(log.contains("a node is reached through a relay"), "{log}");
    for (own, machine) in homes.iter().zip(["one", "two"]) {
        network.run(own, machine, ["stop"]).run().ok();
    }
    network.run(&home, "head", ["stop"]).run().ok();
}
