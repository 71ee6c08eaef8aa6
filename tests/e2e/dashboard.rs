//! The dashboard of a real cluster: REST from upload to a result, live events, and metrics that are those of the document.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
};

use serde_json::{Value, json};

use crate::harness::{Cluster, eventually, guest};

/// The address that `start` said.
fn address(ready: &Value, field: &str) -> String {
    ready[field].as_str().unwrap_or_else(|| panic!("no {field}: {ready}")).to_owned()
}

/// Sends a request; gives the status and a reader of what follows the head.
fn open(address: &str, line: &str, token: Option<&str>, body: &[u8]) -> (u16, BufReader<TcpStream>) {
    let mut stream = TcpStream::connect(address).unwrap();
    let token = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
    let length = body.len();
    // An answer to HTTP/1.0 comes without chunks.
    let head = format!("{line} HTTP/1.0\r\nhost: {address}\r\n{token}content-length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    let mut reader = BufReader::new(stream);
    let mut status = String::new();
    reader.read_line(&mut status).unwrap();
    let mut header = String::new();
    while reader.read_line(&mut header).unwrap() > 2 {
        header.clear();
    }
    (status.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{line}: {status}")), reader)
}

fn text(address: &str, path: &str) -> String {
    text_for(None, address, path)
}

fn text_for(token: Option<&str>, address: &str, path: &str) -> String {
    let (status, mut reader) = open(address, &format!("GET {path}"), token, b"");
    let mut body = String::new();
    reader.read_to_string(&mut body).unwrap();
    assert_eq!(status, 200, "{path}: {body}");
    body
}

/// A driver that speaks REST.
struct Rest {
    address: String,
    token: String,
}

impl Rest {
    fn of(cluster: &Cluster) -> Self {
        Self { address: address(&cluster.head.ready, "dashboard_address"), token: cluster.token() }
    }

    fn send(&self, line: &str, body: &[u8]) -> (u16, String) {
        let (status, mut reader) = open(&self.address, line, Some(&self.token), body);
        let mut answer = String::new();
        reader.read_to_string(&mut answer).unwrap();
        (status, answer)
    }

    fn ask(&self, line: &str, body: &[u8]) -> Value {
        let (status, answer) = self.send(line, body);
        assert!((200..300).contains(&status), "{line}: {status} {answer}");
        serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{line}: {error}: {answer}"))
    }

    fn store(&self, name: &str) -> String {
        let stored = self.ask("POST /api/v1/artifacts", &fs::read(guest(name)).unwrap());
        stored["digest"].as_str().unwrap().to_owned()
    }

    fn submit(&self, work: &Value) -> String {
        self.ask("POST /api/v1/jobs", work.to_string().as_bytes())["job"].as_str().unwrap().to_owned()
    }

    fn ended(&self, job: &str) -> Value {
        eventually("a job has ended", || {
            let record = self.ask(&format!("GET /api/v1/jobs/{job}"), b"");
            (record["state"] != "running").then_some(record)
        })
    }

    fn results(&self, job: &str) -> Vec<Value> {
        let results = eventually("results are there", || {
            let results = self.ask(&format!("GET /api/v1/jobs/{job}/results"), b"");
            (results["ended"] == true).then_some(results)
        });
        let mut rows = results["rows"].as_array().unwrap().clone();
        rows.sort_by_key(|row| row["task"].as_str().map(str::to_owned));
        rows
    }
}

#[test]
fn a_job_goes_from_upload_to_results_by_rest_alone() {
    let cluster = Cluster::start(1);
    let rest = Rest::of(&cluster);
    let hello = rest.store("hello");
    let job =
        rest.submit(&json!({"artifact": hello, "export": "divide", "calls": [[7, 2], {"dividend": 1, "divisor": 0}], "name": "by rest"}));
    let record = rest.ended(&job);
    assert_eq!((&record["name"], &record["state"], &record["tasks"]["failed"]), (&json!("by rest"), &json!("failed"), &json!(1)));
    let rows = rest.results(&job);
    assert_eq!((&rows[0]["value"], &rows[0]["failed"]), (&json!({"ok": 3}), &json!(false)));
    assert_eq!((&rows[1]["value"], &rows[1]["failed"]), (&json!({"err": "1 cannot be divided by 0"}), &json!(true)));

    let words = rest.store("wordcount");
    let job = rest.submit(&json!({"artifact": words, "stdin": "to be or not to be"}));
    assert_eq!(rest.ended(&job)["state"], "succeeded");
    let (status, lines) = rest.send(&format!("GET /api/v1/jobs/{job}/logs?follow=true"), b"");
    assert_eq!(status, 200);
    assert!(
        lines.lines().count() >= 4 && lines.lines().all(|line| serde_json::from_str::<Value>(line).unwrap()["stream"] == "stdout"),
        "{lines}"
    );

    // What the command line sees is the same.
    let listed = cluster.rwasm(["job", "list", "--json"]).run().ok().json();
    assert_eq!(listed["rows"].as_array().unwrap().len(), 2);
    let summary = rest.ask("GET /api/v1/summary", b"");
    assert_eq!(
        (&summary["nodes"]["alive"], &summary["tasks"]["succeeded"], &summary["artifacts"]["count"]),
        (&json!(2), &json!(2), &json!(2))
    );
    let spans = rest.ask("GET /api/v1/timeline?from=0&to=99999999999999", b"");
    assert_eq!(spans["total"], 3);
}

#[test]
fn a_submit_that_does_not_fit_leaves_no_job() {
    let cluster = Cluster::start(0);
    let rest = Rest::of(&cluster);
    let hello = rest.store("hello");
    let submit = |work: &Value| {
        let (status, answer) = rest.send("POST /api/v1/jobs", work.to_string().as_bytes());
        let error: Value = serde_json::from_str(&answer).unwrap();
        (status, error["error"]["code"].as_str().unwrap_or_default().to_owned(), error["error"]["fields"]["call"].clone())
    };
    let call = |export: &str, call: Value| json!({"artifact": hello, "export": export, "calls": [[1, 1], call]});
    assert_eq!(submit(&call("divide", json!([1]))), (400, "RW0203".into(), json!("1")));
    assert_eq!(submit(&call("divide", json!(["x", 1]))), (400, "RW0204".into(), json!("1")));
    assert_eq!(submit(&call("divine", json!([1, 1]))).1, "RW0201");
    let absent = format!("b3:{}", "0".repeat(64));
    assert_eq!(submit(&json!({"artifact": absent, "export": "f", "calls": [[]]})).0, 404);
    assert_eq!(submit(&json!({"artifact": hello})).1, "RW0201", "it is no command");
    assert_eq!(rest.ask("GET /api/v1/jobs", b"")["total"], 0);
    let (status, answer) = rest.send("POST /api/v1/artifacts", b"nothing of the kind");
    assert_eq!((status, answer.contains("RW0101")), (400, true), "{answer}");
}

#[test]
fn pages_of_tasks_are_whole_whatever_comes_in_meanwhile() {
    let cluster = Cluster::start(0);
    let rest = Rest::of(&cluster);
    let hello = rest.store("hello");
    let submit = |count: usize| rest.submit(&json!({"artifact": hello, "export": "add", "calls": vec![json!([1, 2]); count]}));
    for count in [700, 300, 5] {
        rest.ended(&submit(count));
    }
    let (mut seen, mut after, mut pages) = (BTreeSet::new(), String::new(), 0);
    loop {
        let page = rest.ask(&format!("GET /api/v1/tasks?limit=100{after}"), b"");
        let rows = page["rows"].as_array().unwrap();
        assert!(rows.iter().all(|row| seen.insert(row["id"].as_str().unwrap().to_owned())), "a task comes once");
        pages += 1;
        if pages == 3 {
            rest.ended(&submit(50));
        }
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!((seen.len(), pages), (1_005, 11), "those that came meanwhile stand before the first page");
    assert_eq!(rest.ask("GET /api/v1/tasks?export=AD&limit=1", b"")["total"], 1_055);
    assert_eq!(rest.ask("GET /api/v1/tasks?export=divide", b"")["total"], 0);
    assert_eq!(rest.ask("GET /api/v1/tasks?node=n1&state=succeeded", b"")["total"], 1_055);
}

#[test]
fn events_tell_of_a_job_from_its_begin_to_its_end() {
    let cluster = Cluster::start(0);
    let rest = Rest::of(&cluster);
    let hello = rest.store("hello");
    let (status, reader) = open(&rest.address, "GET /api/v1/events", Some(&rest.token), b"");
    assert_eq!(status, 200);
    let mut lines = reader.lines().map(Result::unwrap);
    let mut next = |event: &str| {
        let wanted = format!("event: {event}");
        lines.find(|line| *line == wanted).unwrap();
        let data = lines.next().unwrap();
        serde_json::from_str::<Value>(data.strip_prefix("data: ").unwrap()).unwrap()
    };
    assert_eq!(next("nodes")[0]["id"], "n1");
    let job = rest.submit(&json!({"artifact": hello, "export": "greet", "calls": [["you"]]}));
    loop {
        let jobs = next("jobs");
        let told = jobs.as_array().unwrap().iter().find(|told| told["id"] == job.as_str());
        if told.is_some_and(|told| told["state"] == "succeeded") {
            break;
        }
    }
    let ended = |summary: Value| summary["ended_per_second"].as_array().unwrap().iter().filter_map(Value::as_u64).sum::<u64>();
    while ended(next("summary")) != 1 {}
}

/// Families by name, each with its type and the names of its labels.
type Families = BTreeMap<String, (String, BTreeSet<String>)>;

fn scraped(text: &str) -> Families {
    let mut families = Families::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        assert!(families.insert(name.to_owned(), (kind.to_owned(), BTreeSet::new())).is_none(), "{name} comes twice");
    }
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap();
        let family = ["", "_bucket", "_sum", "_count"]
            .iter()
            .find_map(|suffix| name.strip_suffix(suffix).filter(|name| families.contains_key(*name)));
        let labels = line.split_once('{').and_then(|(_, rest)| rest.rsplit_once('}')).map(|(labels, _)| labels).unwrap_or_default();
        let names = labels.split("\",").filter_map(|label| label.split_once('=')).map(|(name, _)| name.to_owned());
        families.get_mut(family.unwrap_or_else(|| panic!("{line} has no type"))).unwrap().1.extend(names);
        assert!(line.rsplit(' ').next().unwrap().parse::<f64>().is_ok(), "{line}");
    }
    families
}

/// The table of docs/metrics.md: the families, and those that only heads have.
fn documented() -> (Families, BTreeSet<String>) {
    let document = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md")).unwrap();
    let (mut families, mut of_heads) = (Families::new(), BTreeSet::new());
    for row in document.lines().filter(|line| line.starts_with("| `rwasm_")) {
        let cells: Vec<String> = row.trim_matches('|').split('|').map(|cell| cell.replace('`', "").trim().to_owned()).collect();
        let labels = cells[2].split(", ").filter(|label| !label.is_empty()).map(str::to_owned).collect();
        if cells[3] == "head" {
            of_heads.insert(cells[0].clone());
        }
        families.insert(cells[0].clone(), (cells[1].clone(), labels));
    }
    (families, of_heads)
}

#[test]
fn metrics_are_those_of_the_document_on_every_process() {
    let mut cluster = Cluster::start(0);
    let node = address(&cluster.add_node_with(&["--metrics-port", "0"]).ready, "metrics_address");
    let with_gateway = ["--metrics-port", "0", "--gateway", "--client-port", "0"];
    let gateway = address(&cluster.add_node_with(&with_gateway).ready, "metrics_address");
    let rest = Rest::of(&cluster);
    let (all, of_heads) = documented();
    // A machine without a network has no traffic to tell of, and a node that owned nothing no tenant.
    let without = |mut families: Families, left_out: &dyn Fn(&str) -> bool| {
        families.retain(|name, _| name != "rwasm_machine_network_bytes_total" && !left_out(name));
        families
    };
    let open = |name: &str| name.starts_with("rwasm_tenant_");
    let scrape = |token, address: &str| {
        let mut families = scraped(&text_for(token, address, "/metrics"));
        families
            .iter_mut()
            .filter(|(name, (_, labels))| open(name) && labels.is_empty())
            .for_each(|(name, told)| *told = all[name].clone());
        without(families, &|_| false)
    };
    rest.ended(&rest.submit(&json!({"artifact": rest.store("hello"), "export": "divide", "calls": [[1, 1]]})));
    let token = Some(rest.token.as_str());
    assert_eq!(scrape(token, &rest.address), without(all.clone(), &|_| false));
    assert_eq!(scrape(None, &rest.address), without(all.clone(), &open));
    assert_eq!(scrape(token, &gateway), without(all.clone(), &|name| of_heads.contains(name)));
    // Tokens are known where there is a gateway, and so is whose work it is.
    for (token, node) in [(None, &gateway), (None, &node), (token, &node)] {
        assert_eq!(scrape(token, node), without(all.clone(), &|name| of_heads.contains(name) || open(name)));
    }
    assert_eq!(text(&node, "/healthz"), r#"{"status":"ok"}"#);
}

#[test]
fn metrics_count_what_happened_and_name_nobody() {
    let cluster = Cluster::start(0);
    let rest = Rest::of(&cluster);
    let hello = rest.store("hello");
    let job = rest.submit(&json!({"artifact": hello, "export": "divide", "calls": [[1, 1], [1, 0]], "name": "a-name-of-a-user"}));
    rest.ended(&job);
    let metrics = text(&rest.address, "/metrics");
    for line in [
        "rwasm_jobs_opened_total 1",
        "rwasm_tasks_submitted_total 2",
        "rwasm_tasks_ended_total{state=\"succeeded\"} 1",
        "rwasm_tasks_ended_total{state=\"failed\"} 1",
        "rwasm_tasks{state=\"failed\"} 1",
        "rwasm_jobs{state=\"failed\"} 1",
        "rwasm_task_duration_seconds_count 2",
        "rwasm_cluster_nodes{state=\"alive\"} 1",
        "rwasm_resources{resource=\"cpu\",state=\"capacity\"} 2",
    ] {
        assert!(metrics.lines().any(|known| known == line), "{line}: {metrics}");
    }
    assert!(!metrics.contains("a-name-of-a-user") && !metrics.contains("default") && !metrics.contains(&job), "{metrics}");
}

/// A tenant of its own and a submitter's token for it.
fn tenant(cluster: &Cluster, name: &str) -> Rest {
    cluster.rwasm(["tenant", "create", name]).run().ok();
    let token = cluster.rwasm(["token", "create", "--tenant", name, "--role", "submitter"]).run().ok().stdout().trim().to_owned();
    Rest { token, ..Rest::of(cluster) }
}

#[test]
fn tenants_see_their_own_by_rest_and_in_metrics_and_nothing_of_each_other() {
    let mut cluster = Cluster::start(0);
    let node = address(&cluster.add_node_with(&["--metrics-port", "0", "--gateway", "--client-port", "0"]).ready, "metrics_address");
    let (acme, other) = (tenant(&cluster, "acme"), tenant(&cluster, "zebra"));
    let hello = acme.store("hello");
    let job = acme.submit(&json!({"artifact": hello, "export": "divide", "calls": [[6, 3], [1, 0]], "name": "ours"}));
    assert_eq!(acme.ended(&job)["tenant"], "acme");
    assert_eq!(
        (acme.ask("GET /api/v1/session", b"")["tenant"].clone(), other.ask("GET /api/v1/session", b"")["role"].clone()),
        (json!("acme"), json!("submitter"))
    );
    for list in ["jobs", "tasks", "artifacts", "timeline?from=0&to=9000000000000"] {
        let path = format!("GET /api/v1/{list}");
        assert!(acme.ask(&path, b"")["total"].as_u64().unwrap() > 0, "{list}");
        assert_eq!((other.ask(&path, b"")["total"].clone(), other.ask(&path, b"")["rows"].clone()), (json!(0), json!([])), "{list}");
    }
    assert_eq!(other.ask("GET /api/v1/summary", b"")["jobs"], json!({}));
    let task = job.replacen('j', "t", 1) + "-0";
    for door in [
        format!("GET /api/v1/jobs/{job}"),
        format!("POST /api/v1/jobs/{job}/stop"),
        format!("GET /api/v1/jobs/{job}/logs"),
        format!("GET /api/v1/jobs/{job}/results"),
        format!("GET /api/v1/tasks/{task}"),
        format!("GET /api/v1/tasks?job={job}"),
        format!("GET /api/v1/timeline?from=0&to=9000000000000&job={job}"),
        format!("GET /api/v1/why/{task}"),
        format!("GET /api/v1/artifacts/{hello}"),
    ] {
        assert_ne!(acme.send(&door, b"").0, 404, "{door}");
        let (status, answer) = other.send(&door, b"");
        assert_eq!(status, 404, "{door}: {answer}");
    }
    let metrics = |rest: &Rest| text_for(Some(&rest.token), &rest.address, "/metrics");
    let (ours, theirs, anybodys) = (metrics(&acme), metrics(&other), text(&acme.address, "/metrics"));
    let line = r#"rwasm_tenant_tasks_ended_total{tenant="acme",state="failed"} 1"#;
    assert!(ours.lines().any(|known| known == line), "{ours}");
    assert!(!ours.contains("zebra") && !theirs.contains("acme") && !anybodys.contains("acme"), "{theirs}");
    let admin = Rest::of(&cluster);
    assert!(metrics(&admin).lines().any(|known| known == line));
    assert_eq!(open_status(&node, "rwu_nobody"), 401);
    // What opened a door opens it no more.
    let id = cluster.rwasm(["token", "list", "--tenant", "acme", "--json"]).run().ok().json()["rows"][0]["id"].as_str().unwrap().to_owned();
    cluster.rwasm(["token", "revoke", &id]).run().ok();
    eventually("the token is revoked", || (acme.send("GET /api/v1/jobs", b"").0 == 401).then_some(()));
    assert_eq!(open_status(&acme.address, &acme.token), 401);
}

fn open_status(address: &str, token: &str) -> u16 {
    open(address, "GET /metrics", Some(token), b"").0
}

#[test]
fn a_taken_port_is_another_free_one_unless_it_was_asked_for() {
    let cluster = Cluster::start(0);
    let taken = address(&cluster.head.ready, "dashboard_address");
    let port = taken.rsplit(':').next().unwrap();
    let start =
        ["start", "--head", "--port", "0", "--client-port", "0", "--dashboard-port", port, "--state-dir", &cluster.home.path("other")];
    cluster.rwasm(start).run().fails(2, "RW0505");
}
