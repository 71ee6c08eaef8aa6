//! What comes piece by piece: output, and events.

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt};

use crate::fake::{TOKEN, place};

#[tokio::test]
async fn output_comes_in_lines_and_says_when_it_breaks_off() {
    let place = place().await;
    let answer = place.client.ask("GET /api/v1/jobs/j1-1/logs?follow=true", b"").await;
    assert_eq!(answer.header("content-type"), Some("application/x-ndjson"));
    let lines: Vec<Value> = answer.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0], serde_json::json!({"task": 3, "attempt": 1, "stream": "stderr", "text": "one"}));
    assert_eq!((&lines[1]["text"], &lines[2]["error"]["code"]), (&Value::from("two"), &Value::from("RW0506")));
    let found = place.client.ask("GET /api/v1/jobs/j1-1/logs?search=TWO", b"").await;
    assert_eq!(found.body.lines().next().map(|line| line.contains("two")), Some(true));
    assert_eq!(place.client.ask("GET /api/v1/jobs/j1-9/logs", b"").await.status, 404);
}

#[tokio::test]
async fn events_tell_what_there_is_and_end_with_the_token() {
    let place = place().await;
    let (host, bearer) = (format!("host: {}", place.client.address), format!("authorization: Bearer {TOKEN}"));
    let (head, reader) = place.client.open(&["GET /api/v1/events HTTP/1.1", "connection: close", &host, &bearer], b"").await;
    assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")));
    let mut lines = reader.lines();
    let mut events = Vec::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        if let Some(event) = line.strip_prefix("event: ") {
            events.push(event.to_owned());
            match event {
                "jobs" => place.fake.0.lock().revoked.push(TOKEN.to_owned()),
                "end" => break,
                _ => {}
            }
        }
    }
    assert_eq!(events, ["summary", "nodes", "jobs", "end"]);
    let mut rest = Vec::new();
    lines.into_inner().read_to_end(&mut rest).await.ok();
    assert!(String::from_utf8_lossy(&rest).contains("RW0502"), "the last event says why");
}
