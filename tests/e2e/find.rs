//! Which cluster a command speaks with, and what it says where there is none, another program, or one that does not know it.

use std::{
    io::{Read, Write},
    net::TcpListener,
    os::unix::fs::MetadataExt,
    thread,
};

use crate::harness::{Cluster, Home, guest, run::Run};

const EMBEDDED: &str = "rwasm: no cluster is named and none was started here; running on an embedded one\n";

/// An address that nobody listens at: one that was free a moment ago.
fn nobody() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

fn whereabouts(home: &Home) -> Run<'_> {
    home.rwasm(["submit", &guest("hello"), "--call", "whereabouts()"])
}

#[test]
fn without_a_cluster_work_runs_here_and_a_line_says_so() {
    let home = Home::new();
    let output = home.rwasm(["submit", &guest("hello"), "--call", "add(1, 2)"]).run().ok().prints("3\n");
    assert_eq!(output.stderr(), EMBEDDED);
    let refused = home.rwasm(["submit", &guest("hello"), "--call", "add(1, 2)", "--no-wait"]).run().fails(2, "RW0006");
    insta::assert_snapshot!(refused.stderr(), @"error[RW0006]: no cluster is named, and an embedded one ends with the command; start one with `rwasm start --head`, or leave out --no-wait");
    for command in [&["status"][..], &["job", "list"], &["list", "nodes"], &["why", "t1-1-0"]] {
        home.rwasm(command).run().fails(2, "RW0508").prints("");
    }
}

/// `--address` before RWASM_ADDRESS before the endpoint file; each cluster has one node, whose job numbers tell them apart.
#[test]
fn the_address_given_wins_over_the_variable_over_the_file() {
    let (file, variable, flag) = (Cluster::start(0), Cluster::start(0), Cluster::start(0));
    let submit = || file.rwasm(["submit", &guest("hello"), "--call", "add(1, 2)"]);
    let jobs = |cluster: &Cluster| cluster.rwasm(["job", "list", "--json"]).run().ok().json()["total"].as_u64().unwrap();
    let counts = || [jobs(&file), jobs(&variable), jobs(&flag)];
    submit().run().ok().quiet();
    assert_eq!(counts(), [1, 0, 0]);
    let with_variable = || submit().env("RWASM_ADDRESS", variable.gateway());
    with_variable().env("RWASM_TOKEN", variable.token()).run().ok().quiet();
    assert_eq!(counts(), [1, 1, 0]);
    with_variable().env("RWASM_TOKEN", flag.token()).args(["--address", &flag.gateway()]).run().ok().quiet();
    assert_eq!(counts(), [1, 1, 1]);
    // An empty variable is none.
    submit().env("RWASM_ADDRESS", "").env("RWASM_TOKEN", "").run().ok().quiet();
    assert_eq!(counts(), [2, 1, 1]);
}

/// Whoever names a cluster does not want another one, nor the embedded one.
#[test]
fn a_cluster_that_is_named_and_fails_is_not_replaced() {
    let home = Home::new();
    let address = nobody();
    let flag = || whereabouts(&home).args(["--address", &address]);
    let variable = || whereabouts(&home).env("RWASM_ADDRESS", &address);
    let refused = flag().env("RWASM_TOKEN", "x").run().fails(2, "RW0501").prints("");
    insta::assert_snapshot!(home.tidy(&refused.stderr()), @"error[RW0501]: nobody answers at 127.0.0.1:PORT: Connection refused (os error 111); check the address, and that `rwasm start` ran there");
    variable().env("RWASM_TOKEN", "x").run().fails(2, "RW0501").prints("");
    let without_token = flag().run().fails(2, "RW0502").prints("");
    insta::assert_snapshot!(home.tidy(&without_token.stderr()), @"error[RW0502]: there is no token for 127.0.0.1:PORT; set RWASM_TOKEN to a token of that cluster; an admin creates one with `rwasm token create`");
    variable().run().fails(2, "RW0502");
    flag().env("RWASM_TOKEN", "x").args(["--json"]).run().exits(2).json_error()["code"].as_str().expect("a code");
    home.rwasm(["status", "--address", "no-such-host.invalid"]).env("RWASM_TOKEN", "x").run().fails(2, "RW0501");
}

/// The head was killed and could not remove its file; that names a cluster, so work does not silently run elsewhere.
#[test]
fn a_stale_endpoint_file_is_told_and_stop_clears_it() {
    let cluster = Cluster::start(0);
    cluster.head.kill();
    for command in [&["status"][..], &["submit", &guest("hello"), "--call", "add(1, 2)"]] {
        let refused = cluster.rwasm(command).run().fails(2, "RW0501").prints("");
        let stderr = cluster.home.tidy(&refused.stderr());
        insta::allow_duplicates! {
            insta::assert_snapshot!(stderr, @"error[RW0501]: nobody answers at 127.0.0.1:PORT: Connection refused (os error 111); the cluster that left HOME/runtime/endpoint.json is gone: start one with `rwasm start --head`, or clear up after it with `rwasm stop`");
        }
    }
    let stopped = cluster.rwasm(["stop"]).run().ok();
    let said = stopped.stdout().replace(&cluster.head.process.pid.to_string(), "PID");
    insta::assert_snapshot!(said, @"head n1 (process PID) was gone already; what it left is removed");
    assert_eq!(cluster.rwasm(["submit", &guest("hello"), "--call", "add(1, 2)"]).run().ok().stderr(), EMBEDDED);
    cluster.rwasm(["stop"]).run().fails(2, "RW0508");
}

#[test]
fn a_new_head_replaces_what_a_killed_one_left() {
    let cluster = Cluster::start(0);
    cluster.head.kill();
    let again = cluster.rwasm(["start", "--head", "--port", "0", "--client-port", "0", "--json"]).run().ok().json();
    assert_eq!(again["cluster"], cluster.head.ready["cluster"], "the state directory is the same");
    cluster.rwasm(["submit", &guest("hello"), "--call", "add(1, 2)"]).run().ok().prints("3\n").quiet();
    cluster.rwasm(["stop"]).run().ok();
}

#[test]
fn a_damaged_endpoint_file_is_named() {
    let home = Home::new();
    std::fs::create_dir(home.runtime()).unwrap();
    std::fs::write(home.runtime().join("endpoint.json"), "{").unwrap();
    home.rwasm(["status"]).run().fails(2, "RW0004").says("endpoint.json");
}

#[test]
fn a_wrong_token_gets_one_line_and_nothing_else() {
    let cluster = Cluster::start(0);
    let hello = guest("hello");
    for command in
        [&["status"][..], &["job", "list"], &["list", "tasks"], &["job", "logs", "j1-1"], &["submit", &hello, "--call", "add(1, 2)"]]
    {
        for (token, code) in [("wrong", "RW0521"), ("rwu_", "RW0521"), ("ü \t", "RW0502")] {
            let refused = cluster.rwasm(command).env("RWASM_TOKEN", token).run().fails(2, code).prints("");
            assert_eq!(refused.stderr().lines().count(), 1, "{refused:?}");
        }
    }
    let node = ["start", "--address", &cluster.head_address(), "--json"];
    assert_eq!(cluster.rwasm(node).env("RWASM_NODE_TOKEN", "wrong").run().exits(2).prints("").json_error()["code"], "RW0502");
    // Another user of this machine, who knows the address and nothing else.
    let stranger = Home::new();
    stranger.rwasm(["status", "--address", &cluster.gateway()]).run().fails(2, "RW0502");
    stranger.rwasm(["start", "--address", &cluster.head_address()]).run().fails(2, "RW0502");
    stranger.rwasm(["status", "--address", &cluster.gateway()]).env("RWASM_TOKEN", cluster.token()).run().ok();
}

#[test]
fn the_token_is_this_users_and_stands_in_no_log() {
    let cluster = Cluster::start(1);
    cluster.rwasm(["submit", &guest("hello"), "--call", "add(1, 2)"]).run().ok();
    cluster.rwasm(["status"]).env("RWASM_TOKEN", "a-wrong-one").run().exits(2);
    let token = cluster.home.state().join("head/token");
    for private in [&token, &cluster.home.runtime().join("endpoint.json")] {
        assert_eq!(std::fs::metadata(private).unwrap().mode() & 0o777, 0o600, "{}", private.display());
    }
    for private in [cluster.home.runtime(), cluster.home.state().join("head")] {
        assert_eq!(std::fs::metadata(&private).unwrap().mode() & 0o777, 0o700, "{}", private.display());
    }
    let logs = cluster.logs();
    assert!(!logs.contains(&cluster.token()) && !logs.contains("a-wrong-one"), "{logs}");
    for daemon in cluster.daemons() {
        assert!(!daemon.process.command().contains(&cluster.token()), "other users see the arguments of processes");
    }
    assert!(cluster.token().len() > 60, "256 bits");
}

#[test]
fn a_port_in_use_is_named_and_nothing_is_left() {
    let home = Home::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let tidy = |text: String| text.replace(&port, "PORT");
    let refused = home.rwasm(["start", "--head", "--port", &port, "--client-port", "0"]).run().fails(2, "RW0505").prints("");
    insta::assert_snapshot!(tidy(refused.stderr()), @"error[RW0505]: port PORT of 127.0.0.1 is already in use; choose another with --port, take free ones with --port 0 --client-port 0, or run `rwasm stop` if it is ours");
    let refused = home.rwasm(["start", "--head", "--port", "0", "--client-port", &port]).run().fails(2, "RW0505");
    assert!(refused.stderr().contains("choose another with --client-port"), "{refused:?}");
    let refused = home.rwasm(["start", "--head", "--port", "0", "--client-port", "0", "--data-port", &port, "--json"]).run().exits(2);
    assert_eq!(refused.json_error()["fields"]["port"], port.as_str());
    // In the foreground the same.
    home.rwasm(["start", "--head", "--block", "--port", &port, "--client-port", "0"]).run().fails(2, "RW0505");
    assert_eq!(home.processes(), []);
    home.rwasm(["status"]).run().fails(2, "RW0508");
}

#[test]
fn one_user_has_one_head_unless_it_is_asked_for_another() {
    let cluster = Cluster::start(0);
    let start = || cluster.rwasm(["start", "--head", "--port", "0", "--client-port", "0"]);
    let refused = start().run().fails(2, "RW0507");
    let said = cluster.home.tidy(&refused.stderr()).replace(&cluster.head.process.pid.to_string(), "PID");
    insta::assert_snapshot!(said, @"error[RW0507]: a head runs here already, as process PID, with nodes at 127.0.0.1:PORT; `rwasm stop` stops it; --state-dir DIR --port 0 --client-port 0 starts another");
    let state = cluster.home.path("other");
    start().args(["--state-dir", &state]).run().ok();
    start().args(["--state-dir", &state]).run().fails(2, "RW0603");
    cluster.rwasm(["stop"]).run().ok();
}

/// Both look before either is there; the lock of the state directory decides.
#[test]
fn of_two_heads_that_start_at_once_one_runs() {
    let home = Home::new();
    let start = || home.rwasm(["start", "--head", "--port", "0", "--client-port", "0"]).spawn();
    let both = [start(), start()].map(|start| start.wait());
    let (ran, refused): (Vec<_>, Vec<_>) = both.into_iter().partition(|output| output.code() == 0);
    assert_eq!((ran.len(), refused.len()), (1, 1), "{ran:?} {refused:?}");
    let refused = refused.into_iter().next().unwrap().exits(2);
    assert!(["error[RW0507]", "error[RW0603]"].iter().any(|code| refused.stderr().starts_with(code)), "{refused:?}");
    home.rwasm(["submit", &guest("hello"), "--call", "add(1, 2)"]).run().ok().prints("3\n").quiet();
    home.rwasm(["stop"]).run().ok();
}

#[test]
fn nodes_find_directories_of_their_own() {
    let cluster = Cluster::start(2);
    let dirs: Vec<_> = cluster.nodes.iter().map(|node| node.ready["state_dir"].as_str().unwrap().rsplit_once('/').unwrap().1).collect();
    assert_eq!(dirs, ["node-1", "node-2"]);
    // As many as the message says are tried, and each is locked by the kernel, not by the file.
    let mut locks: Vec<_> = (1..=64)
        .map(|number| {
            let dir = cluster.home.state().join(format!("node-{number}"));
            std::fs::create_dir_all(&dir).unwrap();
            let lock = std::fs::File::create(dir.join("lock")).unwrap();
            // Two of them are the nodes' already.
            let _ = rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive);
            lock
        })
        .collect();
    let start = || cluster.rwasm(["start", "--address", &cluster.head_address(), "--json"]);
    let refused = start().run().exits(2).json_error();
    assert_eq!((refused["code"].as_str(), refused["message"].as_str()), (Some("RW0603"), Some("64 nodes run here already")));
    drop(locks.pop());
    let taken = start().run().ok().json();
    assert!(taken["state_dir"].as_str().unwrap().ends_with("node-64"), "{taken}");
    cluster.rwasm(["stop"]).run().ok();
}

#[test]
fn a_node_without_a_head_says_so() {
    let home = Home::new();
    let refused = home.rwasm(["start", "--address", &nobody()]).env("RWASM_NODE_TOKEN", "x").run().fails(2, "RW0501");
    assert!(refused.stderr().contains("nobody answers at"), "{refused:?}");
    home.rwasm(["start", "--address", &nobody()]).run().fails(2, "RW0502").says("set RWASM_NODE_TOKEN");
}

/// A web server, a program that hangs up, one that never says a word, and the cluster's other doors.
#[test]
fn another_program_at_the_address_is_told_from_a_cluster() {
    let home = Home::new();
    // Whether what the other says or that it hangs up is seen first, nobody knows.
    let ask = |address: &str| {
        let refused = home.rwasm(["status", "--address", address]).env("RWASM_TOKEN", "x").run().prints("");
        let told = [
            "error[RW0506]: the connection ended: ",
            "error[RW0510]: the transport refused a message: ",
            &format!("error[RW0511]: {address} takes connections and says nothing; "),
        ];
        assert!(refused.code() != 0 && told.iter().any(|told| refused.stderr().starts_with(told)), "{refused:?}");
        assert!(refused.stderr().lines().count() == 1 && !refused.stderr().contains("transport error"), "{refused:?}");
    };
    let web = serve(|mut stream| {
        let _ = stream.read(&mut [0; 1024]);
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    });
    ask(&web);
    let hangs_up = serve(drop);
    ask(&hangs_up);
    let mute = serve(std::mem::forget);
    ask(&mute);
    let cluster = Cluster::start(0);
    let head = cluster.rwasm(["status", "--address", &cluster.head_address()]).run().exits(2);
    assert!(head.stderr().starts_with("error[RW0503]: "), "{head:?}");
    cluster.rwasm(["start", "--address", &cluster.gateway()]).run().exits(2);
}

/// Serves on a thread of its own until the tests end.
fn serve(answer: impl Fn(std::net::TcpStream) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || listener.incoming().flatten().for_each(answer));
    address
}
