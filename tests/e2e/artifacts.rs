//! Artifacts that a cluster has stored: tags, what holds them, what is removed, and what makes room.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};

use crate::harness::{Cluster, Home, guest};

fn digest(cluster: &Cluster, name: &str) -> String {
    cluster.rwasm(["inspect", &guest(name), "--json"]).run().ok().json()["digest"].as_str().unwrap().to_owned()
}

/// As lists show it.
fn short(digest: &str) -> &str {
    &digest[..15]
}

fn listed(cluster: &Cluster) -> Vec<Value> {
    cluster.rwasm(["artifact", "list", "--json"]).run().ok().json()["rows"].as_array().unwrap().clone()
}

/// The files of a directory with this extension.
fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter(|path| path.extension().is_some_and(|found| found == extension)).collect()
}

/// Has everything in a directory look as if it was last used a day ago.
fn age(dir: &Path) {
    for path in [files(dir, "wasm"), files(dir, "json"), files(dir, "cwasm")].concat() {
        File::options().write(true).open(path).unwrap().set_modified(SystemTime::now() - Duration::from_secs(86_400)).unwrap();
    }
}

#[test]
fn a_tag_is_submitted_moved_and_removed() {
    let mut cluster = Cluster::start(0);
    let hello = digest(&cluster, "hello");
    let shown = format!("hello:1 is {}\n", short(&hello));
    cluster.rwasm(["artifact", "tag", &guest("hello"), "hello:1"]).run().ok().prints(&shown).quiet();
    let add = |cluster: &Cluster, what: &str| cluster.rwasm(["submit", what, "--call", "add(1, 2)"]).run();
    for what in ["hello:1", &hello, short(&hello)] {
        add(&cluster, what).ok().prints("3\n");
        assert_eq!(cluster.rwasm(["inspect", what, "--json"]).run().ok().json()["digest"], hello.as_str());
    }
    assert_eq!(cluster.rwasm(["job", "list", "--json"]).run().ok().json()["rows"][2]["name"], "hello:1");

    let moved = cluster.rwasm(["artifact", "tag", &guest("wordcount"), "hello:1"]).run().ok();
    assert!(moved.stdout().ends_with(&format!(", and no longer {}\n", short(&hello))), "{moved:?}");
    add(&cluster, "hello:1").fails(2, "RW0201");
    cluster.rwasm(["artifact", "tag", short(&hello), "hello:1"]).run().ok();
    cluster.rwasm(["artifact", "tag", "hello:1", "hello:stable"]).run().ok();
    let row = listed(&cluster).into_iter().find(|row| row["digest"] == hello.as_str()).unwrap();
    assert_eq!((&row["tags"], &row["nodes"], &row["jobs"]), (&json!(["hello:1", "hello:stable"]), &json!(["n1"]), &json!([])));
    assert!(row["code_bytes"].as_u64().unwrap() > 0, "{row}");

    cluster.head.kill();
    cluster.start_head_again();
    add(&cluster, "hello:1").ok().prints("3\n");
    cluster.rwasm(["artifact", "rm", "hello:1"]).run().ok().says("the artifact itself stays");
    add(&cluster, "hello:1").fails(2, "RW0116");
    add(&cluster, "hello:stable").ok().prints("3\n");
}

#[test]
fn what_is_no_name_of_an_artifact_is_said_so() {
    let cluster = Cluster::start(0);
    let ask = |args: &[&str]| cluster.rwasm(args).run();
    ask(&["submit", "nobody:1", "--call", "f()"]).fails(2, "RW0116").says("there is no tag nobody:1");
    ask(&["inspect", "b3:0123456789ab"]).fails(2, "RW0116");
    ask(&["artifact", "tag", &guest("hello"), "hello"]).fails(2, "RW0002").says("looks like hello:1");
    ask(&["artifact", "tag", &guest("hello"), "b3:1"]).fails(2, "RW0002");
    ask(&["artifact", "rm", "hello"]).fails(2, "RW0002");
    ask(&["artifact", "rm", "hello:1"]).fails(2, "RW0116");
    ask(&["run", "hello:1", "--call", "add(1, 2)"]).fails(2, "RW0006").says("./hello:1");
    let home = Home::new();
    home.rwasm(["submit", "hello:1", "--call", "add(1, 2)"]).run().fails(2, "RW0006");
    home.rwasm(["artifact", "list"]).run().fails(2, "RW0508");
    // With its directory, it is a file whatever it is called.
    fs::copy(guest("hello"), home.path("hello:1")).unwrap();
    home.rwasm(["submit", "./hello:1", "--call", "add(1, 2)"]).run().ok().prints("3\n");
    home.rwasm(["run", "hello:1", "--call", "add(1, 2)"]).run().ok().prints("3\n");
}

#[test]
fn what_is_in_use_or_has_a_tag_stays() {
    let cluster = Cluster::build().own_cache().start();
    let compiled = cluster.home.cache().join("compiled/tenants/default");
    let job = cluster.rwasm(["submit", &guest("evil-wasi"), "--call", "sleep-for(3600000)", "--no-wait"]).run().ok().stdout();
    cluster.rwasm(["artifact", "tag", &guest("hello"), "hello:1"]).run().ok();
    cluster.rwasm(["submit", "hello:1", "--call", "add(1, 2)"]).run().ok();
    cluster.rwasm(["submit", &guest("wordcount"), "--stdin", "/dev/null"]).run().ok();
    let (used, tagged, unused) = (digest(&cluster, "evil-wasi"), digest(&cluster, "hello"), digest(&cluster, "wordcount"));
    assert_eq!((listed(&cluster).len(), files(&compiled, "cwasm").len()), (3, 3));
    cluster.rwasm(["artifact", "rm", &used]).run().fails(2, "RW0652").says(job.trim());
    cluster.rwasm(["artifact", "rm", &tagged]).run().fails(2, "RW0652").says("has the tag hello:1");

    cluster.rwasm(["artifact", "gc"]).run().ok().prints("").says("was not used for");
    let gc = |args: &[&str]| cluster.rwasm(["artifact", "gc", "--unused-for", "0s"]).args(args).run().ok();
    let would = gc(&["--dry-run"]);
    assert!(would.stdout().starts_with(&format!("would remove {} from node n1: ", short(&unused))), "{would:?}");
    assert_eq!(listed(&cluster).len(), 3);
    let removed = gc(&["--json"]).json();
    assert_eq!((&removed["total"], &removed["rows"][0]["digest"]), (&json!(1), &json!(unused)));
    assert!(removed["rows"][0]["code_bytes"].as_u64().unwrap() > 0, "{removed}");
    let mut left: Vec<String> = listed(&cluster).iter().map(|row| row["digest"].as_str().unwrap().to_owned()).collect();
    left.sort();
    let mut expected = [used.clone(), tagged.clone()];
    expected.sort();
    assert_eq!((left.as_slice(), files(&compiled, "cwasm").len()), (expected.as_slice(), 2));

    cluster.rwasm(["artifact", "rm", &tagged, "--force"]).run().ok().has("and ");
    cluster.rwasm(["submit", "hello:1", "--call", "add(1, 2)"]).run().fails(2, "RW0116");
    cluster.rwasm(["artifact", "rm", short(&used), "--force"]).run().ok();
    assert_eq!((listed(&cluster).len(), files(&compiled, "cwasm").len()), (0, 0));
    let record = cluster.rwasm(["job", "status", job.trim(), "--json"]).run().ok().json();
    assert_eq!(record["state"], "running", "what runs goes on");
    cluster.rwasm(["job", "stop", job.trim()]).run().ok();
}

#[test]
fn an_admin_looks_after_another_tenants_artifacts() {
    let cluster = Cluster::start(0);
    cluster.rwasm(["tenant", "create", "acme"]).run().ok();
    let token = cluster.rwasm(["token", "create", "--tenant", "acme"]).run().ok().stdout();
    cluster.rwasm(["artifact", "tag", &guest("hello"), "hello:1"]).env("RWASM_TOKEN", token.trim()).run().ok();
    let into = |args: &[&str]| cluster.rwasm([&["artifact"][..], args, &["--tenant", "acme"]].concat()).run();
    let listed = into(&["list", "--json"]).ok().json();
    assert_eq!(listed["rows"][0]["tags"], json!(["hello:1"]), "{listed}");
    into(&["tag", "hello:1", "hello:2"]).ok();
    into(&["tag", &guest("hello"), "hello:3"]).fails(2, "RW0002").says("files are sent for the token's own tenant only");
    into(&["rm", "hello:1"]).ok().has("removed the tag hello:1");
    into(&["gc", "--unused-for", "0s"]).ok().prints("");
    into(&["rm", "hello:2"]).ok();
    into(&["gc", "--unused-for", "0s"]).ok().has("removed b3:");
    assert_eq!(into(&["list", "--json"]).ok().json()["total"], 0);
}

#[test]
fn unused_artifacts_make_room_and_used_ones_do_not() {
    let cluster = Cluster::build().args(&["--artifact-storage", "300KiB"]).start();
    let store = cluster.home.state().join("head/artifacts/default");
    // Data that no compiler can leave out, and that differs.
    let large = |name: &str, byte: char| {
        let data = byte.to_string().repeat(100 << 10);
        cluster.home.write(name, format!(r#"(module (memory (export "memory") 4) (data (i32.const 0) "{data}") (func (export "f")))"#))
    };
    let submit = |path: &str| cluster.rwasm(["submit", path, "--call", "f()"]).run();
    let (a, b, c) = (large("a.wat", 'a'), large("b.wat", 'b'), large("c.wat", 'c'));
    cluster.rwasm(["artifact", "tag", &a, "a:1"]).run().ok();
    submit(&b).ok();
    submit(&c).fails(2, "RW0651");
    age(&store);
    submit(&c).ok();
    let stored = listed(&cluster);
    assert_eq!(stored.len(), 2, "b made room: {stored:?}");
    assert!(stored.iter().any(|row| row["tags"] == json!(["a:1"])), "{stored:?}");
    submit("a:1").ok();
    assert_eq!(fs::read_dir(&store).unwrap().filter(|entry| entry.as_ref().unwrap().path().extension().is_none()).count(), 0, "no parts");
}

#[test]
fn compiled_code_that_nothing_uses_makes_room() {
    let cluster = Cluster::build().own_cache().args(&["--compile-cache", "1"]).start();
    let compiled = cluster.home.cache().join("compiled/tenants/default");
    let add = |home: &Home| home.rwasm(["submit", &guest("hello"), "--call", "add(1, 2)"]).run().ok().prints("3\n");
    add(&cluster.home);
    cluster.rwasm(["submit", &guest("wordcount"), "--stdin", "/dev/null"]).run().ok();
    assert_eq!(files(&compiled, "cwasm").len(), 2, "both are in use by the node");
    age(&compiled);
    // A process that has none of it loaded.
    let run =
        cluster.rwasm(["run", &guest("mandelbrot"), "--call", "render(10, 10, 0, 0, 1, 10)", "-o", "/dev/null", "--compile-cache", "1"]);
    run.run().ok();
    assert_eq!(files(&compiled, "cwasm").len(), 1, "only what was just made");
    add(&cluster.home);
}
