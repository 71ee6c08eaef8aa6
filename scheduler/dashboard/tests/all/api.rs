//! What the API answers, and what it refuses.

use std::collections::HashSet;

use crate::fake::{ARTIFACT, TASKS, place};

#[tokio::test]
async fn pages_follow_each_other_to_the_end_without_a_gap() {
    let place = place().await;
    let mut seen = HashSet::new();
    let mut line = "GET /api/v1/tasks?limit=99".to_owned();
    for expected in [99, 99, 52] {
        let page = place.client.ask(&line, b"").await.json();
        let rows = page["rows"].as_array().unwrap();
        assert_eq!((rows.len(), page["total"].as_u64()), (expected, Some(TASKS)));
        assert_eq!(page["missing"][0], "node n9 did not answer in time", "what is missing is said");
        assert!(rows.iter().all(|row| seen.insert(row["id"].as_str().unwrap().to_owned())));
        line = format!("GET /api/v1/tasks?limit=99&after={}", page["next"].as_str().unwrap_or("none"));
    }
    assert_eq!((seen.len() as u64, line.ends_with("=none")), (TASKS, true));
}

#[tokio::test]
async fn filters_are_the_clusters_own() {
    let place = place().await;
    let page = place.client.ask("GET /api/v1/tasks?state=failed", b"").await.json();
    assert_eq!(page["total"], 25);
    assert!(page["rows"].as_array().unwrap().iter().all(|row| row["state"] == "failed"));
}

#[tokio::test]
async fn what_is_not_understood_is_refused_with_its_name() {
    let place = place().await;
    for (line, status, code) in [
        ("GET /api/v1/tasks?stat=failed", 400, "RW0002"),
        ("GET /api/v1/tasks?state=lost", 400, "RW0002"),
        ("GET /api/v1/tasks?state=failed&state=failed", 400, "RW0002"),
        ("GET /api/v1/tasks?limit=0", 400, "RW0002"),
        ("GET /api/v1/tasks?limit=1001", 400, "RW0002"),
        ("GET /api/v1/tasks?after=yesterday", 400, "RW0002"),
        ("GET /api/v1/tasks/7", 400, "RW0002"),
        ("GET /api/v1/tasks/t1-1-250", 404, "RW0003"),
        ("GET /api/v1/jobs/j1-9", 404, "RW0003"),
        ("GET /api/v1/jobs/j1-1/results", 404, "RW0003"),
        ("GET /api/v1/nodes/n2", 404, "RW0003"),
        ("GET /api/v1/timeline?from=1", 400, "RW0002"),
        ("GET /api/v2/jobs", 404, "RW0003"),
        ("PATCH /api/v1/jobs", 405, "RW0703"),
    ] {
        assert_eq!(place.client.ask(line, b"").await.refusal(), (status, code.to_owned()), "{line}");
    }
}

#[tokio::test]
async fn what_there_is_is_told() {
    let place = place().await;
    for (line, path, value) in [
        ("GET /api/v1/session", "/cluster", "\"c1\""),
        ("GET /api/v1/jobs/j1-1", "/name", "\"a name\""),
        ("GET /api/v1/jobs?state=running&name=name", "/rows/0/id", "\"j1-1\""),
        ("GET /api/v1/tasks/t1-1-20", "/state", "\"failed\""),
        ("GET /api/v1/why/t1-1-0", "/why", "\"because\""),
        ("GET /api/v1/nodes?alive=true", "/total", "1"),
        ("GET /api/v1/nodes?alive=false", "/total", "0"),
        ("GET /api/v1/nodes?name=HER", "/total", "1"),
        ("GET /api/v1/nodes/n1", "/head", "true"),
        ("GET /api/v1/artifacts", "/rows/0/size_bytes", "9"),
        ("GET /api/v1/summary", "/nodes/alive", "1"),
        ("GET /healthz", "/status", "\"ok\""),
    ] {
        let answer = place.client.ask(line, b"").await;
        assert_eq!(answer.json().pointer(path).map(ToString::to_string).as_deref(), Some(value), "{line}: {answer:?}");
    }
    let artifact = place.client.ask(&format!("GET /api/v1/artifacts/{ARTIFACT}"), b"").await.json();
    assert_eq!(artifact["info"]["kind"], "component");
}

#[tokio::test]
async fn a_job_is_submitted_and_its_results_are_kept() {
    let place = place().await;
    let stored = place.client.ask("POST /api/v1/artifacts", b"\0asm").await;
    assert_eq!((stored.status, stored.json()["digest"].as_str()), (201, Some(ARTIFACT.to_string().as_str())));
    let submit = format!(
        r#"{{"artifact": "{ARTIFACT}", "export": "f", "calls": [[1], {{"a": "x"}}], "name": "n",
            "options": {{"cpus": 0.5, "memory_bytes": 1048576, "timeout_ms": 1500, "priority": -3}}}}"#
    );
    let submitted = place.client.ask("POST /api/v1/jobs", submit.as_bytes()).await;
    assert_eq!((submitted.status, submitted.header("location")), (201, Some("/api/v1/jobs/j1-2")));
    assert_eq!(submitted.json(), serde_json::json!({"job": "j1-2", "tasks": 2}));
    let work = place.fake.0.lock().ran.pop().unwrap();
    assert_eq!(
        (work.export.as_deref(), work.name.as_str(), work.calls),
        (Some("f"), "n", vec!["[1]".to_owned(), r#"{"a": "x"}"#.to_owned()])
    );
    assert_eq!(work.options.limits.wall, std::time::Duration::from_millis(1_500));
    assert_eq!(
        (work.options.resources.cpu.to_string(), work.options.resources.memory, work.options.priority.get()),
        ("0.5".into(), 1 << 20, -3)
    );
    // They are read by a task of the dashboard's own.
    let results = loop {
        let results = place.client.ask("GET /api/v1/jobs/j1-2/results", b"").await.json();
        if results["ended"] == true {
            break results;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!((results["total"].as_u64(), &results["rows"][1]["value"]), (Some(2), &serde_json::json!({"a": "x"})));
}

#[tokio::test]
async fn a_submit_that_makes_no_sense_is_refused_and_nothing_runs() {
    let place = place().await;
    let with = |rest: &str| format!(r#"{{"artifact": "{ARTIFACT}"{rest}}}"#);
    for (body, code) in [
        ("{".to_owned(), "RW0212"),
        ("{}".to_owned(), "RW0002"),
        (r#"{"artifact": "b3:7"}"#.to_owned(), "RW0002"),
        (with(r#", "export": "f""#), "RW0002"),
        (with(r#", "calls": [[]]"#), "RW0002"),
        (with(r#", "exports": "f", "calls": [[]]"#), "RW0002"),
        (with(r#", "options": {"priority": 101}"#), "RW0002"),
        (with(r#", "options": {"memory_bytes": 9999999999}"#), "RW0007"),
        (with(r#", "options": {"cpu": 1}"#), "RW0002"),
        (with(r#", "env": {"a=b": "c"}"#), "RW0002"),
        (with(&format!(r#", "export": "f", "calls": [{}[]]"#, "[],".repeat(10_000))), "RW0007"),
    ] {
        let answer = place.client.ask("POST /api/v1/jobs", body.as_bytes()).await;
        assert_eq!(answer.refusal(), (400, code.to_owned()), "{}", &body[..body.len().min(200)]);
    }
    assert!(place.fake.0.lock().ran.is_empty());
}

#[tokio::test]
async fn metrics_are_text_with_the_dashboards_own_among_them() {
    let place = place().await;
    place.client.ask("GET /api/v1/jobs", b"").await;
    let metrics = place.client.send("GET /metrics", &[], b"").await;
    assert_eq!(metrics.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    for line in [
        "rwasm_fake 7\n",
        "# TYPE rwasm_http_requests_total counter\n",
        "rwasm_http_requests_total{status=\"2xx\"} 1\n",
        "rwasm_build_info{version=\"",
    ] {
        assert!(metrics.body.contains(line), "{line}: {}", metrics.body);
    }
}
