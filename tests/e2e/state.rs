//! What survives: heads that are killed, nodes that come back, state directories that are backed up, put back and checked.

use std::{fs, io::Write, path::Path};

use serde_json::Value;

use crate::harness::{Cluster, Home, cluster::Daemon, eventually, guest, run::Run};

/// `rwasm start --head` on free ports, in a directory of its own.
fn start_head<'a>(home: &'a Home, dir: &str) -> Run<'a> {
    home.rwasm(["start", "--head", "--port", "0", "--client-port", "0", "--num-cpus", "1", "--state-dir", dir])
}

fn port(address: &str) -> String {
    address.rsplit_once(':').unwrap().1.to_owned()
}

/// The same cluster's head again, where its nodes look for it.
fn restart(cluster: &Cluster) -> Daemon {
    let (head, gateway) = (port(&cluster.head_address()), port(&cluster.gateway()));
    let start = cluster.rwasm(["start", "--head", "--port", &head, "--client-port", &gateway, "--num-cpus", "1", "--json"]);
    Daemon::read(start.run().ok().json())
}

fn nodes(cluster: &Cluster) -> Vec<Value> {
    cluster.rwasm(["list", "nodes", "--json"]).run().ok().json()["rows"].as_array().unwrap().clone()
}

/// Names of the nodes that are alive, once there are so many.
fn alive(cluster: &Cluster, count: usize) -> Vec<String> {
    eventually("nodes are there", || {
        let alive: Vec<String> =
            nodes(cluster).iter().filter(|node| node["alive"] == true).map(|node| node["id"].as_str().unwrap().to_owned()).collect();
        (alive.len() == count).then_some(alive)
    })
}

fn state_dir(daemon: &Daemon) -> String {
    daemon.ready["state_dir"].as_str().unwrap().to_owned()
}

#[test]
fn a_killed_head_goes_on_where_it_was_and_nodes_keep_their_numbers() {
    let mut cluster = Cluster::start(2);
    let id = cluster.head.ready["cluster"].clone();
    assert_eq!(alive(&cluster, 3), ["n1", "n2", "n3"]);
    // A node that is away while the head starts anew must not lose its number to another.
    cluster.nodes[0].kill();
    for _ in 0..3 {
        cluster.head.kill();
        cluster.head = restart(&cluster);
        assert_eq!(cluster.head.ready["cluster"], id);
        assert_eq!(cluster.head.ready["node"], "n1");
        assert_eq!(alive(&cluster, 2), ["n1", "n3"]);
    }
    // It comes back with its directory, which is the first that is free.
    let back = cluster.add_node().ready.clone();
    assert_eq!(back["node"], "n2");
    let new = cluster.add_node().ready.clone();
    assert_eq!(new["node"], "n4");
}

#[test]
fn a_node_joins_no_cluster_but_its_own() {
    let mut cluster = Cluster::start(0);
    let dir = cluster.home.path("node");
    cluster.add_node_with(&["--state-dir", &dir]);
    cluster.add_node();
    let log = |dir: &str| fs::read_to_string(Path::new(dir).join("daemon.log")).unwrap_or_default();
    // The head comes back without its state.
    cluster.head.kill();
    let lost = cluster.home.path("lost");
    fs::rename(state_dir(&cluster.head), &lost).unwrap();
    fs::create_dir_all(state_dir(&cluster.head)).unwrap();
    for token in ["token", "node-token"] {
        fs::copy(Path::new(&lost).join(token), Path::new(&state_dir(&cluster.head)).join(token)).unwrap();
    }
    cluster.head = restart(&cluster);
    eventually("the node says why it does not join", || log(&dir).contains("put it back from a backup").then_some(()));
    assert_eq!(alive(&cluster, 1), ["n1"]);
    // Nor does it when it is started anew, if its directory was named.
    cluster.nodes[0].kill();
    let address = cluster.head_address();
    cluster.rwasm(["start", "--address", &address, "--state-dir", &dir]).run().fails(2, "RW0615");
    // One that may choose takes a directory of no other cluster.
    cluster.nodes[1].kill();
    let new = cluster.add_node().ready.clone();
    assert_eq!(new["node"], "n2");
    assert!(new["state_dir"].as_str().unwrap().ends_with("node-2"), "{new}");
    // The head's state is found again.
    cluster.head.kill();
    fs::remove_dir_all(state_dir(&cluster.head)).unwrap();
    fs::rename(&lost, state_dir(&cluster.head)).unwrap();
    cluster.head = restart(&cluster);
    let again = cluster.add_node().ready.clone();
    assert_eq!(again["node"], "n3", "the first directory is of this cluster: {again}");
    assert_eq!(alive(&cluster, 2), ["n1", "n3"]);
}

#[test]
fn a_copy_of_a_node_is_fenced() {
    let mut cluster = Cluster::start(0);
    let (dir, copy) = (cluster.home.path("node"), cluster.home.path("copy"));
    cluster.add_node_with(&["--state-dir", &dir]);
    cluster.nodes[0].kill();
    fs::create_dir(&copy).unwrap();
    fs::copy(Path::new(&dir).join("node.json"), Path::new(&copy).join("node.json")).unwrap();
    // Two lives later, so that the copy is the older one whatever is drawn.
    for _ in 0..2 {
        cluster.add_node_with(&["--state-dir", &dir]).kill();
    }
    assert_eq!(cluster.add_node_with(&["--state-dir", &dir]).ready["node"], "n2");
    let address = cluster.head_address();
    cluster.rwasm(["start", "--address", &address, "--state-dir", &copy]).run().fails(2, "RW0616");
}

#[test]
fn what_is_wrong_with_a_heads_state_is_told_and_nothing_starts() {
    let home = Home::new();
    let dir = home.path("state");
    let head = Daemon::read(start_head(&home, &dir).args(["--json"]).run().ok().json());
    start_head(&home, &dir).run().fails(2, "RW0603");
    head.kill();
    let journal = Path::new(&dir).join("journal.redb");
    let whole = fs::read(&journal).unwrap();
    let format = Path::new(&dir).join("format.json");
    for (path, bytes, code) in [
        (&journal, &b"something else"[..], "RW0611"),
        (&journal, &whole[..whole.len() / 2], "RW0612"),
        (&format, b"{\"format\":99}", "RW0613"),
        (&format, b"{", "RW0618"),
        (&format, b"{\"format\":1,\"restoring\":true}", "RW0618"),
        (&Path::new(&dir).join("node.json"), b"{", "RW0618"),
    ] {
        let before = fs::read(path).unwrap();
        fs::write(path, bytes).unwrap();
        start_head(&home, &dir).run().fails(2, code);
        let check = home.rwasm(["state", "check", "--state-dir", &dir, "--json"]).run();
        assert!(check.code() != 0 && check.stderr().contains("RW06"), "{code}: {check:?}");
        fs::write(path, before).unwrap();
    }
    fs::remove_file(&journal).unwrap();
    start_head(&home, &dir).run().fails(2, "RW0618");
    assert!(!journal.exists(), "no new cluster is begun in its place");
    fs::write(&journal, whole).unwrap();
    home.rwasm(["state", "check", "--state-dir", &dir]).run().ok();
    Daemon::read(start_head(&home, &dir).args(["--json"]).run().ok().json());
    home.rwasm(["stop"]).run().ok();
}

#[test]
fn a_backup_is_made_while_the_head_runs_and_put_back_elsewhere() {
    let mut cluster = Cluster::start(1);
    cluster.rwasm(["submit", &guest("hello"), "--call", "greet(\"you\")"]).run().ok();
    let file = cluster.home.path("head.tar");
    let made = cluster.rwasm(["state", "backup", &file, "--json"]).run().ok().json();
    assert_eq!((&made["cluster"], &made["running"]), (&cluster.head.ready["cluster"], &Value::Bool(true)));
    cluster.rwasm(["state", "backup", &file]).run().fails(2, "RW0002").says("is there already");
    let head_dir = state_dir(&cluster.head);
    cluster.rwasm(["state", "backup", &head_dir]).run().fails(2, "RW0002");
    // Since then another node has joined, which the backup does not know of.
    assert_eq!(cluster.add_node().ready["node"], "n3");
    let new = cluster.home.path("new");
    cluster.rwasm(["state", "restore", &file, "--state-dir", &head_dir]).run().fails(2, "RW0603");
    cluster.head.kill();
    cluster.rwasm(["state", "restore", &file, "--state-dir", &head_dir]).run().fails(2, "RW0621");
    let restored = cluster.rwasm(["state", "restore", &file, "--state-dir", &new, "--json"]).run().ok().json();
    assert_eq!((&restored["cluster"], &restored["files"]), (&made["cluster"], &made["files"]));
    cluster.rwasm(["state", "restore", &file, "--state-dir", &new]).run().fails(2, "RW0621");
    cluster.rwasm(["state", "check", "--state-dir", &new]).run().ok().has("1 artifacts");
    let (head, gateway) = (port(&cluster.head_address()), port(&cluster.gateway()));
    let start = cluster.rwasm(["start", "--head", "--port", &head, "--client-port", &gateway, "--state-dir", &new, "--json"]);
    cluster.head = Daemon::read(start.run().ok().json());
    assert_eq!(cluster.head.ready["cluster"], made["cluster"]);
    // Both nodes come back by themselves, and the next number is none that was given.
    assert_eq!(alive(&cluster, 3), ["n1", "n2", "n3"]);
    let next = cluster.add_node().ready["node"].as_str().unwrap().to_owned();
    assert!(next[1..].parse::<u32>().unwrap() > 10_000, "{next}");
    assert_eq!(cluster.rwasm(["list", "artifacts", "--json"]).run().ok().json()["rows"].as_array().unwrap().len(), 1);
}

#[test]
fn what_is_no_backup_is_not_put_back() {
    let home = Home::new();
    let dir = home.path("state");
    Daemon::read(start_head(&home, &dir).args(["--json"]).run().ok().json());
    home.rwasm(["stop"]).run().ok();
    let backups = home.path("backups");
    fs::create_dir(&backups).unwrap();
    let made = home.rwasm(["state", "backup", &backups, "--state-dir", &dir, "--json"]).run().ok().json();
    assert_eq!(made["running"], false);
    let whole = fs::read(made["file"].as_str().unwrap()).unwrap();
    let cut = home.write("cut.tar", &whole[..whole.len() / 2]);
    let foreign = home.write("foreign.tar", "no archive");
    let empty = home.path("empty");
    for (file, code) in [(&cut, "RW0620"), (&foreign, "RW0619"), (&home.path("none"), "RW0004")] {
        home.rwasm(["state", "restore", file, "--state-dir", &empty]).run().fails(2, code);
    }
    // What was unpacked before the cut was found is gone again, so that the next one finds it empty.
    home.rwasm(["state", "restore", made["file"].as_str().unwrap(), "--state-dir", &empty]).run().ok();
    home.rwasm(["state", "check", "--state-dir", &home.path("backups")]).run().fails(2, "RW0003");
}

#[test]
fn a_check_names_what_is_damaged_and_what_was_left_behind() {
    let cluster = Cluster::start(0);
    cluster.rwasm(["submit", &guest("hello"), "--call", "greet(\"you\")"]).run().ok();
    let running = cluster.rwasm(["state", "check", "--json"]).run().ok().json();
    assert_eq!(
        (&running["running"], &running["artifacts"], &running["cluster"]),
        (&Value::Bool(true), &Value::from(1), &cluster.head.ready["cluster"])
    );
    let dir = state_dir(&cluster.head);
    cluster.rwasm(["stop"]).run().ok();
    let artifacts = Path::new(&dir).join("artifacts/default");
    let artifact = fs::read_dir(&artifacts).unwrap().map(|entry| entry.unwrap().path()).find(|path| path.extension().unwrap() == "wasm");
    fs::write(artifacts.join(".tmpX"), "half").unwrap();
    cluster.rwasm(["state", "check"]).run().ok().has("leftover: ");
    fs::write(artifact.unwrap(), "changed").unwrap();
    let checked = cluster.rwasm(["state", "check"]).run().fails(1, "RW0618");
    assert!(checked.stdout().contains("problem: ") && checked.stdout().contains("not what its name says"), "{checked:?}");
}

/// The disk below a head and its node fills up: what must be written is refused with a code of its own, what can be read is answered, and with
/// room again all goes on without a word.
#[test]
fn a_full_disk_refuses_new_work_and_serves_reads_until_there_is_room() {
    let home = Home::new();
    let dir = home.path("small");
    fs::create_dir(&dir).unwrap();
    // The namespace ends with the head, and with it the mount.
    let script = r#"mount -t tmpfs -o size=32m,mode=700 small "$1" || exit 77
        exec "$2" start --head --block --json --port 0 --client-port 0 --num-cpus 1 --state-dir "$1""#;
    let shell = ["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh", &dir, env!("CARGO_BIN_EXE_rwasm")];
    let mut head = home.command("unshare", shell).spawn();
    eventually("the head runs", || (head.stdout().contains('\n') || !head.runs()).then_some(()));
    if !head.runs() {
        let ended = head.wait();
        assert_eq!(ended.code(), 77, "the head did not start: {ended:?}");
        println!("skipped: this user may not mount in a namespace of its own");
        return;
    }
    let inside = Path::new("/proc").join(head.pid().to_string()).join("root").join(dir.trim_start_matches('/'));
    let token = || home.rwasm(["token", "create"]).run();
    let work = || home.rwasm(["submit", &guest("hello"), "--call", "add(1, 2)"]).run();
    token().ok();
    work().ok().prints("3\n");
    let filler = inside.join("filler");
    let mut file = fs::File::create(&filler).unwrap();
    let mut fill = |bytes: usize| while file.write_all(&vec![0; bytes]).is_ok() {};
    fill(1 << 16);
    // What is left within the files that are there is used up first.
    eventually("no more tokens", || {
        fill(1);
        (token().code() != 0).then_some(())
    });
    token().fails(2, "RW0614");
    eventually("no more work", || {
        fill(1);
        (work().code() != 0).then_some(())
    });
    let refused = work();
    assert!(refused.stderr().contains("no space"), "{}", refused.stderr());
    home.rwasm(["status"]).run().ok().has("Cluster status");
    home.rwasm(["token", "list"]).run().ok();
    home.rwasm(["job", "list"]).run().ok().has("j1-1");
    drop(file);
    fs::remove_file(&filler).unwrap();
    token().ok();
    work().ok().prints("3\n");
    home.rwasm(["stop"]).run().ok();
}

/// Whoever looks at a cluster with a wrong clock is told, with what to do.
#[test]
fn a_wrong_clock_is_told() {
    let mut cluster = Cluster::start(0);
    for (name, ahead_ms) in [("ahead", "3600000"), ("behind", "-7200000")] {
        let start = cluster.rwasm(["start", "--address", &cluster.head_address(), "--name", name, "--num-cpus", "1", "--json"]);
        let start = start.args(["--state-dir", &cluster.home.path(name)]).env("RWASM_FAULT_CLOCK_MS", ahead_ms);
        cluster.nodes.push(Daemon::read(start.run().ok().json()));
    }
    eventually("both are told of", || {
        let status = cluster.rwasm(["status"]).run().ok().stdout();
        let said = |text: &str| status.lines().any(|line| line.contains("its clock is") && line.contains(text));
        (said("ahead of the head's") && said("behind the head's")).then_some(())
    });
    let listed = cluster.rwasm(["list", "nodes"]).run().ok();
    listed.says("n2: its clock is").says("n3: its clock is");
    let apart: Vec<i64> = nodes(&cluster).iter().map(|node| node["clock_ahead_ms"].as_i64().unwrap()).collect();
    assert!(apart[0].abs() < 60_000 && (apart[1] - 3_600_000).abs() < 60_000 && (apart[2] + 7_200_000).abs() < 60_000, "{apart:?}");
    cluster.rwasm(["run", &guest("hello"), "--call", "add(1, 2)"]).run().ok().prints("3\n");
}
