//! What containers and other supervisors need of the program: tokens in files, tokens for several nodes, whether a daemon does its work, and
//! guests that together stay within the memory of their node.

use std::{fs, os::unix::fs::MetadataExt};

use crate::harness::{Cluster, Home, cluster::Daemon, eventually, guest};

fn start_head(home: &Home, args: &[&str]) -> Daemon {
    let start = ["start", "--head", "--port", "0", "--client-port", "0", "--num-cpus", "2", "--json"];
    Daemon::read(home.rwasm(start).args(args).run().ok().json())
}

/// What was started by hand is stopped by hand.
fn stop<'a>(homes: impl IntoIterator<Item = &'a Home>) {
    homes.into_iter().for_each(|home| drop(home.rwasm(["stop", "--force"]).run().ok()));
}

fn address(head: &Daemon) -> &str {
    head.ready["head_address"].as_str().unwrap()
}

/// Nodes of other users, who share nothing with the head but a file.
#[test]
fn nodes_join_by_a_file_that_the_head_keeps() {
    let home = Home::new();
    let file = home.path("join-token");
    let ca = home.path("ca.pem");
    let head = start_head(&home, &["--tls", "--join-token-out", &file, "--ca-out", &ca]);
    let of = |file: &str| fs::metadata(file).unwrap().mode() & 0o777;
    assert_eq!((of(&file), of(&ca)), (0o600, 0o644));
    assert_eq!(fs::read(&ca).unwrap(), fs::read(format!("{}/ca.pem", head.ready["state_dir"].as_str().unwrap())).unwrap());
    home.rwasm(["start", "--head", "--state-dir", &home.path("no-tls"), "--port", "0", "--client-port", "0", "--ca-out", &ca])
        .run()
        .fails(2, "RW0545");
    let first = fs::read_to_string(&file).unwrap();
    let nodes = [Home::new(), Home::new()];
    for node in &nodes {
        node.rwasm(["start", "--address", address(&head), "--join-token-file", &file]).run().ok();
    }
    let listed = home.rwasm(["list", "nodes", "--json"]).run().ok().json();
    assert_eq!(listed["rows"].as_array().unwrap().len(), 3);
    // What was there before the head began anew is good for nothing; a node that has joined does not need it.
    home.rwasm(["stop"]).run().ok();
    let port = address(&head).rsplit_once(':').unwrap().1.to_owned();
    let again = home.rwasm(["start", "--head", "--port", &port, "--client-port", "0", "--tls", "--join-token-out", &file]);
    again.run().ok();
    assert_ne!(fs::read_to_string(&file).unwrap(), first);
    let late = Home::new();
    late.rwasm(["start", "--address", address(&head)]).env("RWASM_JOIN_TOKEN", &first).run().fails(2, "RW0552");
    nodes[0].rwasm(["stop"]).run().ok();
    nodes[0].rwasm(["start", "--address", address(&head), "--join-token-file", "/nowhere"]).run().ok();
    stop(nodes.iter().chain([&home]));
}

#[test]
fn a_node_waits_for_the_file_with_its_token() {
    let cluster = Cluster::build().args(&["--tls"]).start();
    let node = Home::new();
    let file = node.path("join-token");
    let start = node.rwasm(["start", "--address", &cluster.head_address(), "--join-token-file", &file]).spawn();
    eventually("the daemon is there", || node.state().join("node-1").exists().then_some(()));
    let token = cluster.rwasm(["token", "join"]).run().ok().stdout();
    // Whole, or not at all.
    fs::write(node.path("new"), token).unwrap();
    fs::rename(node.path("new"), &file).unwrap();
    start.wait().ok();
    stop([&node]);
}

#[test]
fn a_token_lets_as_many_nodes_join_as_it_says() {
    let cluster = Cluster::build().args(&["--tls"]).start();
    cluster.rwasm(["token", "join", "--nodes", "0"]).run().fails(2, "RW0007");
    let token = cluster.rwasm(["token", "join", "--nodes", "2"]).run().ok().says("up to 2 nodes join with it until").stdout();
    let nodes = [Home::new(), Home::new(), Home::new()];
    let join = |node: &Home| node.rwasm(["start", "--address", &cluster.head_address()]).env("RWASM_JOIN_TOKEN", token.trim()).run();
    join(&nodes[0]).ok();
    join(&nodes[1]).ok();
    join(&nodes[2]).fails(2, "RW0550");
    // One that is called back lets nobody in, and those that joined by it stay.
    let listed = || cluster.rwasm(["token", "list", "--json"]).run().ok().json()["join_tokens"].clone();
    assert_eq!(listed(), serde_json::json!([]), "it is used up");
    let open = cluster.rwasm(["token", "join", "--nodes", "5"]).run().ok().stdout();
    let (id, left) = (listed()[0]["id"].as_str().unwrap().to_owned(), listed()[0]["nodes"].clone());
    assert_eq!(left, 5);
    cluster.rwasm(["token", "list"]).run().ok().has(&id);
    cluster.rwasm(["token", "revoke", &id]).run().ok().has("revoked join token");
    cluster.rwasm(["token", "revoke", &id]).run().fails(2, "RW0003");
    nodes[2].rwasm(["start", "--address", &cluster.head_address()]).env("RWASM_JOIN_TOKEN", open.trim()).run().fails(2, "RW0552");
    stop(&nodes[..2]);
}

#[test]
fn tokens_of_users_come_in_files() {
    let home = Home::new();
    home.rwasm(["start", "--head", "--admin-token-file", "/nowhere"]).run().fails(2, "RW0004");
    let file = home.write("admin-token", "short");
    home.rwasm(["start", "--head", "--admin-token-file", &file]).run().fails(2, "RW0521");
    let token = format!("rwu_{}_{}", "0123456789abcdef", "5".repeat(64));
    fs::write(&file, format!("{token}\n")).unwrap();
    let head = start_head(&home, &["--admin-token-file", &file]);
    let gateway = head.ready["gateway_address"].as_str().unwrap();
    let user = Home::new();
    user.rwasm(["token", "list", "--address", gateway]).env("RWASM_TOKEN_FILE", &file).run().ok().has("0123456789abcdef");
    user.rwasm(["status", "--address", gateway]).env("RWASM_TOKEN_FILE", user.write("empty", "")).run().fails(2, "RW0004");
    stop([&home]);
}

#[test]
fn health_is_of_each_daemon_that_runs_here() {
    Home::new().rwasm(["health"]).run().fails(2, "RW0508");
    let cluster = Cluster::start(1);
    let well = cluster.rwasm(["health"]).run().ok().stdout();
    assert!(well.contains("head n1 (process ") && well.contains("node n2 (process "), "{well}");
    assert_eq!(well.matches(" is well").count(), 2, "{well}");
    cluster.head.kill();
    // Its node dials it again meanwhile.
    eventually("the node misses its head", || (cluster.rwasm(["health"]).run().code() == 1).then_some(()));
    let unwell = cluster.rwasm(["health", "--json"]).run().exits(1).json();
    assert_eq!((unwell["node"].as_str(), unwell["error"]["code"].as_str()), (Some("n2"), Some("RW0721")), "{unwell}");
}

/// Each is within its own limit, and all of them are not within the node's memory.
#[test]
fn guests_that_take_up_the_memory_of_the_node_end_alone() {
    let cluster = Cluster::build().args(&["--memory", "100MiB"]).start();
    let fill = |mebibytes: &str, args: &[&str]| {
        cluster.rwasm(["submit", &guest("evil-compute"), "--call", &format!("fill-memory({mebibytes}, 1)")]).args(args).run()
    };
    fill("80", &[]).ok();
    let refused = fill("120", &[]).fails(1, "RW0722").stderr();
    assert!(refused.contains("the guests of this node have taken up the 100MiB that it gives"), "{refused}");
    fill("80", &["--memory", "90MiB"]).ok();
    // A reservation that no node has is refused before anything runs.
    fill("120", &["--memory", "130MiB"]).fails(2, "RW0801");
    fill("95", &[]).ok();
}

/// Where every address is listened on, others are told one that leads somewhere.
#[test]
fn a_daemon_that_listens_everywhere_tells_an_address_of_its_machine() {
    let home = Home::new();
    let start = home.rwasm(["start", "--head", "--port", "0", "--client-port", "0", "--json"]).env("RWASM_HOST", "0.0.0.0").run();
    if start.code() != 0 {
        // A machine without a network has none.
        start.fails(2, "RW0002").says("is every address of this machine");
        return;
    }
    let ready = start.json();
    let told: std::net::SocketAddr = ready["gateway_address"].as_str().unwrap().parse().unwrap();
    assert!(!told.ip().is_unspecified() && ready["tls"] == true, "{ready}");
    home.rwasm(["status"]).run().ok();
    home.rwasm(["status", "--address", &format!("localhost:{}", told.port())])
        .args(["--ca", &format!("{}/ca.pem", ready["state_dir"].as_str().unwrap())])
        .run()
        .ok();
    stop([&home]);
}
