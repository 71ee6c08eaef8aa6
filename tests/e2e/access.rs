//! Tenants and tokens: who gets in, who may do what, and what ends when a token or a tenant does.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::harness::{Cluster, Home, cluster::Daemon, eventually, guest, run::Run};

/// Creates a tenant.
fn tenant(cluster: &Cluster, name: &str) {
    cluster.rwasm(["tenant", "create", name]).run().ok().prints(&format!("created tenant {name}\n"));
}

/// Creates a token; gives its text and its id.
fn token(cluster: &Cluster, args: &[&str]) -> (String, String) {
    let created = cluster.rwasm(["token", "create", "--json"]).args(args).run().ok().json();
    let text = |field: &str| created[field].as_str().unwrap_or_else(|| panic!("{created}")).to_owned();
    (text("token"), text("id"))
}

/// `rwasm ARGS…` with a token.
fn with<'a>(cluster: &'a Cluster, token: &str, args: &[&str]) -> Run<'a> {
    cluster.rwasm(args).env("RWASM_TOKEN", token)
}

/// A call that goes on until it is stopped.
const ENDLESS: [&str; 2] = ["--call", "sleep-for(3600000)"];

/// Jobs of a tenant, as an admin sees them.
fn jobs(cluster: &Cluster, tenant: &str) -> Vec<Value> {
    let listing = cluster.rwasm(["job", "list", "--json", "--tenant", tenant]).run().ok().json();
    listing["rows"].as_array().unwrap().clone()
}

fn until_running(cluster: &Cluster, tenant: &str) {
    eventually("a task runs", || jobs(cluster, tenant).iter().any(|job| job["tasks"]["running"] == 1).then_some(()));
}

#[test]
fn a_token_that_is_not_good_gets_one_line_of_its_own() {
    let (cluster, other) = (Cluster::start(0), Cluster::start(0));
    let (good, _) = token(&cluster, &[]);
    with(&cluster, &good, &["status"]).run().ok();
    let (revoked, id) = token(&cluster, &[]);
    cluster.rwasm(["token", "revoke", &id]).run().ok().prints(&format!("revoked token {id} of tenant default\n"));
    let (expired, _) = token(&cluster, &["--expires", "2s"]);
    eventually("it has expired", || (with(&cluster, &expired, &["status"]).run().code() == 2).then_some(()));
    let node = fs::read_to_string(Path::new(cluster.head.ready["state_dir"].as_str().unwrap()).join("node-token")).unwrap();
    let wrong = format!("{}{}", &good[..84], if good.ends_with('0') { '1' } else { '0' });
    for (shown, code) in [
        ("wrong", "RW0521"),
        (&good[..50], "RW0521"),
        (&*node, "RW0524"),
        (&*wrong, "RW0502"),
        (&*other.token(), "RW0502"),
        (&*revoked, "RW0523"),
        (&*expired, "RW0522"),
    ] {
        for command in [&["status"][..], &["job", "list"], &["submit", &guest("hello"), "--call", "add(1, 2)"], &["job", "logs", "j1-1"]] {
            let refused = with(&cluster, shown, command).run().fails(2, code).prints("");
            assert_eq!(refused.stderr().lines().count(), 1, "{refused:?}");
            assert!(!refused.stderr().contains(&good[21..40]), "{refused:?}");
        }
    }
    // Nor is a user's token one of a node.
    let join = ["start", "--address", &cluster.head_address(), "--json"];
    assert_eq!(cluster.rwasm(join).env("RWASM_NODE_TOKEN", &good).run().exits(2).json_error()["code"], "RW0524");
    assert_eq!(cluster.rwasm(join).env("RWASM_NODE_TOKEN", "rwn_00").run().exits(2).json_error()["code"], "RW0502");
}

#[test]
fn a_role_opens_what_is_its_own_and_no_more() {
    let cluster = Cluster::start(0);
    tenant(&cluster, "acme");
    let hello = guest("hello");
    let commands: [(&str, &[&str]); 9] = [
        ("viewer", &["list", "jobs"]),
        ("viewer", &["tenant", "policy", "show"]),
        ("submitter", &["submit", &hello, "--call", "add(1, 2)"]),
        ("operator", &["list", "jobs", "--tenant", "acme"]),
        ("operator", &["artifact", "list", "--tenant", "acme"]),
        ("operator", &["tenant", "list"]),
        ("admin", &["token", "list"]),
        ("admin", &["tenant", "policy", "set", "acme"]),
        ("admin", &["token", "create", "--tenant", "acme"]),
    ];
    let roles = ["viewer", "submitter", "operator", "admin"];
    for (at, role) in roles.iter().enumerate() {
        let (token, _) = token(&cluster, &["--role", role]);
        for (takes, command) in commands {
            let ran = with(&cluster, &token, command).run();
            if roles.iter().position(|role| *role == takes) <= Some(at) {
                ran.ok();
            } else if command.contains(&"--tenant") && takes == "operator" {
                // Not `forbidden`: whether there is such a tenant is none of its business.
                ran.fails(2, "RW0003").says("there is no tenant `acme`");
            } else {
                ran.fails(2, "RW0525").says(&format!("this takes the role {takes}, and the token has {role}"));
            }
        }
    }
    cluster.rwasm(["list", "jobs", "--tenant", "nobody"]).run().fails(2, "RW0003");
    cluster.rwasm(["token", "create", "--expires", "0s"]).run().fails(2, "RW0002").says("a token that expires at once opens nothing");
    cluster.rwasm(["token", "create", "--role", "root"]).run().fails(2, "RW0002").says("roles are viewer");
}

#[test]
fn a_token_is_printed_once_and_kept_as_a_hash() {
    let cluster = Cluster::start(0);
    let created = cluster.rwasm(["token", "create", "--name", "laptop", "--role", "viewer", "--expires", "30d"]).run().ok();
    let text = created.stdout().trim().to_owned();
    assert!(text.starts_with("rwu_") && text.len() == 85, "{created:?}");
    created.says("opens tenant default as viewer, until ");
    let id = &text[4..20];
    let listed = cluster.rwasm(["token", "list"]).run().ok();
    listed.has(id).has("laptop");
    let secret = &text[21..];
    let shown = cluster.rwasm(["token", "list", "--json"]).run().ok().stdout() + &cluster.logs();
    assert!(!shown.contains(secret) && !shown.contains("hash"), "{shown}");
    let journal = fs::read(Path::new(cluster.head.ready["state_dir"].as_str().unwrap()).join("journal.redb")).unwrap();
    let holds = |text: &str| journal.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(holds(id) && !holds(secret));
}

#[test]
fn a_revoked_token_ends_its_sessions_at_once() {
    let cluster = Cluster::start(0);
    tenant(&cluster, "acme");
    let (text, id) = token(&cluster, &["--tenant", "acme"]);
    let driver = with(&cluster, &text, &["submit", &guest("evil-wasi"), ENDLESS[0], ENDLESS[1]]).spawn();
    until_running(&cluster, "acme");
    let job = jobs(&cluster, "acme")[0]["id"].as_str().unwrap().to_owned();
    let follower = with(&cluster, &text, &["job", "logs", "-f", &job]).spawn();
    let left = with(&cluster, &text, &["submit", &guest("evil-wasi"), ENDLESS[0], ENDLESS[1], "--no-wait"]).run().ok().stdout();
    cluster.rwasm(["token", "revoke", &id]).run().ok();
    driver.wait().fails(2, "RW0523").says(&format!("token {id} was revoked"));
    follower.wait().fails(2, "RW0523");
    // Its job has ended with it, and what was left with the cluster goes on.
    let of = |job: &str| cluster.rwasm(["job", "status", job, "--tenant", "acme", "--json"]).run().ok().json();
    eventually("the job has ended", || (of(&job)["state"] == "failed").then_some(()));
    assert_eq!(of(&job)["error"]["code"], "RW0523");
    assert_eq!(of(left.trim())["state"], "running");
    cluster.rwasm(["job", "stop", left.trim(), "--tenant", "acme"]).run().ok();
}

#[test]
fn a_token_that_expires_ends_its_sessions() {
    let cluster = Cluster::start(0);
    let (text, id) = token(&cluster, &["--expires", "3s"]);
    let driver = with(&cluster, &text, &["submit", &guest("evil-wasi"), ENDLESS[0], ENDLESS[1]]).spawn();
    driver.wait().fails(2, "RW0522").says(&format!("token {id} has expired"));
}

#[test]
fn tenants_and_tokens_outlive_a_killed_head() {
    let cluster = Cluster::start(0);
    tenant(&cluster, "acme");
    let (good, _) = token(&cluster, &["--tenant", "acme"]);
    let (revoked, id) = token(&cluster, &["--tenant", "acme"]);
    cluster.rwasm(["token", "revoke", &id]).run().ok();
    cluster.rwasm(["tenant", "policy", "set", "acme", "--volume", "data:ro", "--allow-net", "*.example.org:443"]).run().ok();
    tenant(&cluster, "gone");
    cluster.rwasm(["tenant", "delete", "gone"]).run().ok().prints("deleted tenant gone\n");
    let admin = cluster.token();
    cluster.head.kill();
    cluster.rwasm(["start", "--head", "--port", "0", "--client-port", "0", "--json"]).run().ok();
    with(&cluster, &good, &["submit", &guest("hello"), "--call", "add(1, 2)"]).run().ok().prints("3\n");
    with(&cluster, &revoked, &["status"]).run().fails(2, "RW0523");
    with(&cluster, &admin, &["tenant", "list"]).run().ok().has("acme");
    let policy = with(&cluster, &good, &["tenant", "policy", "show"]).run().ok();
    policy.prints("guests of acme may be granted\n  volume data:ro\n  connections to *.example.org:443\n");
    cluster.rwasm(["tenant", "create", "gone"]).run().fails(2, "RW0528");
    cluster.rwasm(["stop"]).run().ok();
}

#[test]
fn somebody_can_always_manage_the_cluster() {
    let cluster = Cluster::start(0);
    let id = cluster.token()[4..20].to_owned();
    cluster.rwasm(["token", "revoke", &id]).run().fails(2, "RW0529");
    cluster.rwasm(["tenant", "delete", "default", "--force"]).run().fails(2, "RW0002");
    cluster.rwasm(["token", "revoke", "0000000000000000"]).run().fails(2, "RW0003");
    cluster.rwasm(["token", "revoke", &cluster.token()]).run().fails(2, "RW0002");
    let (other, _) = token(&cluster, &["--role", "admin"]);
    with(&cluster, &other, &["token", "revoke", &id]).run().ok();
    cluster.rwasm(["status"]).run().fails(2, "RW0523");
    // Whoever may read the head's state directory is an admin, and gets back in.
    cluster.head.kill();
    fs::remove_file(Path::new(cluster.head.ready["state_dir"].as_str().unwrap()).join("token")).unwrap();
    cluster.rwasm(["start", "--head", "--port", "0", "--client-port", "0", "--json"]).run().ok();
    cluster.rwasm(["token", "list"]).run().ok();
    cluster.rwasm(["stop"]).run().ok();
}

#[test]
fn the_log_tells_who_changed_who_may_do_what() {
    let cluster = Cluster::start(0);
    let by = cluster.token()[4..20].to_owned();
    tenant(&cluster, "acme");
    let (_, id) = token(&cluster, &["--tenant", "acme", "--role", "viewer"]);
    cluster.rwasm(["tenant", "policy", "set", "acme", "--volume", "data:ro"]).run().ok();
    cluster.rwasm(["token", "revoke", &id]).run().ok();
    cluster.rwasm(["tenant", "delete", "acme"]).run().ok();
    let log = cluster.logs();
    for told in [
        format!("a tenant was created tenant=acme by={by}"),
        format!("a token was created tenant=acme token={id} role=viewer by={by}"),
        format!("a policy was set tenant=acme by={by}"),
        format!("a token was revoked tenant=acme token={id} by={by}"),
        format!("a tenant was deleted tenant=acme force=false by={by}"),
    ] {
        assert!(log.contains(&told), "{told}: {log}");
    }
}

/// Directories and files whose path has a part of this name.
fn traces(dir: &Path, name: &str) -> Vec<String> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(dir) else { return found };
    for entry in entries.flatten() {
        if entry.file_name() == name {
            found.push(entry.path().display().to_string());
        }
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(traces(&entry.path(), name));
        }
    }
    found
}

#[test]
fn a_tenant_is_deleted_with_all_it_has() {
    let cluster = Cluster::build().nodes(1).cpus(1).own_cache().start();
    tenant(&cluster, "acme");
    let (text, _) = token(&cluster, &["--tenant", "acme"]);
    // Two tasks on nodes of one core: one of them runs on the other node.
    let map = with(&cluster, &text, &["submit", &guest("evil-wasi"), "--map", "-", "--func", "sleep-for"]);
    let driver = map.stdin("[3600000]\n[3600000]\n").spawn();
    eventually("both tasks run", || jobs(&cluster, "acme").iter().any(|job| job["tasks"]["running"] == 2).then_some(()));
    with(&cluster, &text, &["submit", &guest("hello"), "--call", "greet(\"Ada\")", "--num-cpus", "0"]).run().ok();
    let found = |home: &Home| [traces(&home.state(), "acme"), traces(home.cache(), "acme")].concat();
    assert!(found(&cluster.home).len() >= 3, "{:?}", found(&cluster.home));
    let busy = cluster.rwasm(["tenant", "delete", "acme"]).run().fails(2, "RW0527");
    busy.says("tenant `acme` has 1 jobs that have not ended, with 2 tasks");
    let deleted = cluster.rwasm(["tenant", "delete", "acme", "--force"]).run().ok();
    deleted.prints("deleted tenant acme; jobs stopped: 1\n").quiet();
    driver.wait().fails(1, "RW0526").says("tenant `acme` was deleted");
    with(&cluster, &text, &["status"]).run().fails(2, "RW0502");
    cluster.rwasm(["job", "list", "--tenant", "acme"]).run().fails(2, "RW0003");
    cluster.rwasm(["tenant", "create", "acme"]).run().fails(2, "RW0528");
    cluster.rwasm(["tenant", "delete", "acme"]).run().fails(2, "RW0003");
    eventually("nothing runs any more", || {
        let nodes = cluster.rwasm(["list", "nodes", "--json"]).run().ok().json();
        nodes["rows"].as_array().unwrap().iter().all(|node| node["tasks_running"] == 0).then_some(())
    });
    eventually("nothing is left of it on disk", || found(&cluster.home).is_empty().then_some(()));
}

/// A task that waits for its artifact's machine code ends as one that runs: with the reason, and not as if somebody had cancelled it.
#[test]
fn a_tenant_is_deleted_while_its_work_is_compiled() {
    let cluster = Cluster::build().own_cache().start();
    tenant(&cluster, "acme");
    let (text, _) = token(&cluster, &["--tenant", "acme"]);
    let driver = with(&cluster, &text, &["submit", &guest("evil-wasi"), ENDLESS[0], ENDLESS[1]]).spawn();
    eventually("its task is there", || jobs(&cluster, "acme").iter().any(|job| job["artifacts"] != json!([])).then_some(()));
    cluster.rwasm(["tenant", "delete", "acme", "--force"]).run().ok();
    driver.wait().fails(1, "RW0526");
}

/// A node that was away when a tenant was deleted removes what it has when it is back.
#[test]
fn a_tenant_is_deleted_where_nobody_was_asked() {
    let mut cluster = Cluster::build().cpus(1).start();
    tenant(&cluster, "acme");
    let (text, _) = token(&cluster, &["--tenant", "acme"]);
    let state = cluster.home.path("node-state");
    cluster.add_node_with(&["--state-dir", &state]);
    let map = with(&cluster, &text, &["submit", &guest("evil-wasi"), "--map", "-", "--func", "sleep-for"]);
    map.stdin("[300]\n[300]\n[300]\n[300]\n").run().ok();
    eventually("the other node has the artifact", || (!traces(Path::new(&state), "acme").is_empty()).then_some(()));
    cluster.nodes[0].kill();
    cluster.rwasm(["tenant", "delete", "acme", "--force"]).run().ok();
    assert!(!traces(Path::new(&state), "acme").is_empty());
    cluster.add_node_with(&["--state-dir", &state]);
    eventually("it is gone there, too", || traces(Path::new(&state), "acme").is_empty().then_some(()));
}

/// A node whose clock is an hour off takes and refuses tokens by the head's.
#[test]
fn a_wrong_clock_lets_nobody_in_and_nobody_out() {
    let mut cluster = Cluster::start(0);
    let ahead = gateway_with_clock(&mut cluster, "ahead", "3600000");
    let behind = gateway_with_clock(&mut cluster, "behind", "-7200000");
    let (good, _) = token(&cluster, &["--expires", "30m"]);
    with(&cluster, &good, &["status", "--address", &ahead]).run().ok();
    let (short, _) = token(&cluster, &["--expires", "2s"]);
    eventually("it expires", || (with(&cluster, &short, &["status", "--address", &behind]).run().code() == 2).then_some(()));
    with(&cluster, &short, &["status", "--address", &behind]).run().fails(2, "RW0522");
}

/// A node with a gateway, whose clock is so many milliseconds ahead; gives the gateway's address.
fn gateway_with_clock(cluster: &mut Cluster, name: &str, ahead_ms: &str) -> String {
    let address = cluster.head_address();
    let start = cluster.rwasm(["start", "--address", &address, "--name", name, "--gateway", "--client-port", "0", "--json"]);
    let start = start.args(["--state-dir", &cluster.home.path(name), "--num-cpus", "1"]).env("RWASM_FAULT_CLOCK_MS", ahead_ms);
    let ready = start.run().ok().json();
    let gateway = ready["gateway_address"].as_str().unwrap().to_owned();
    cluster.nodes.push(Daemon::read(ready));
    gateway
}
