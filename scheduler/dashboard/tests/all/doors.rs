//! Who gets in, from where, and what the answers let a browser do.

use crate::fake::{JOB, TOKEN, place};

/// Everything that shows or changes something of a cluster.
const CLOSED: &[&str] = &[
    "GET /api/v1/session",
    "DELETE /api/v1/session",
    "GET /api/v1/status",
    "GET /api/v1/summary",
    "GET /api/v1/events",
    "GET /api/v1/timeline?from=1&to=2",
    "GET /api/v1/nodes",
    "GET /api/v1/nodes/n1",
    "GET /api/v1/tasks",
    "GET /api/v1/tasks/t1-1-0",
    "GET /api/v1/why/t1-1-0",
    "GET /api/v1/jobs",
    "POST /api/v1/jobs",
    "GET /api/v1/jobs/j1-1",
    "POST /api/v1/jobs/j1-1/stop",
    "GET /api/v1/jobs/j1-1/logs",
    "GET /api/v1/jobs/j1-1/results",
    "GET /api/v1/artifacts",
    "POST /api/v1/artifacts",
    "GET /api/v1/artifacts/b3:0707070707070707070707070707070707070707070707070707070707070707",
];

#[tokio::test]
async fn without_a_token_nothing_is_told_or_done() {
    let place = place().await;
    for line in CLOSED {
        for header in ["x: y", "authorization: Bearer wrong", "authorization: Basic cndhc21fZ29vZA==", "cookie: rwasm-session-c1=wrong"] {
            let answer = place.client.send(line, &[header, &format!("origin: http://{}", place.client.address)], b"{}").await;
            assert_eq!(answer.refusal(), (401, "RW0502".to_owned()), "{line} with {header}");
            assert!(answer.header("www-authenticate").is_some());
        }
    }
    assert!(place.fake.0.lock().stopped.is_empty());
}

#[tokio::test]
async fn a_token_in_an_address_opens_nothing() {
    let place = place().await;
    for line in [format!("GET /api/v1/jobs?token={TOKEN}"), format!("GET /api/v1/jobs?access_token={TOKEN}")] {
        assert_eq!(place.client.send(&line, &[], b"").await.status, 401);
    }
}

#[tokio::test]
async fn a_session_is_a_cookie_that_scripts_cannot_read_and_that_ends() {
    let place = place().await;
    let origin = format!("origin: http://{}", place.client.address);
    let wrong = place.client.send("POST /api/v1/session", &[&origin], br#"{"token": "rwasm_wrong"}"#).await;
    assert_eq!((wrong.refusal().0, wrong.header("set-cookie")), (401, None));
    let body = format!(r#"{{"token": "{TOKEN}"}}"#);
    let opened = place.client.send("POST /api/v1/session", &[&origin], body.as_bytes()).await;
    assert_eq!((opened.status, opened.json()["tenant"].as_str()), (200, Some("default")));
    let cookie = opened.header("set-cookie").unwrap().to_owned();
    for part in ["rwasm-session-c1=", "HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=43200"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert!(!cookie.contains(TOKEN));
    let cookie = format!("cookie: theme=dark; {}", cookie.split(';').next().unwrap());

    assert_eq!(place.client.send("GET /api/v1/jobs", &[&cookie], b"").await.status, 200);
    let stop = format!("POST /api/v1/jobs/{JOB}/stop");
    assert_eq!(
        place.client.send(&stop, &[&cookie], b"").await.refusal(),
        (403, "RW0702".to_owned()),
        "it does not say where it comes from"
    );
    assert_eq!(place.client.send(&stop, &[&cookie, &origin], b"").await.status, 200);
    assert_eq!(place.fake.0.lock().stopped, [JOB]);

    let closed = place.client.send("DELETE /api/v1/session", &[&cookie, &origin], b"").await;
    assert_eq!((closed.status, closed.header("set-cookie").unwrap().contains("Max-Age=0")), (204, true));
    assert_eq!(place.client.send("GET /api/v1/jobs", &[&cookie], b"").await.status, 401);
}

#[tokio::test]
async fn a_session_ends_with_its_token() {
    let place = place().await;
    let body = format!(r#"{{"token": "{TOKEN}"}}"#);
    let opened = place.client.send("POST /api/v1/session", &[], body.as_bytes()).await;
    let cookie = format!("cookie: {}", opened.header("set-cookie").unwrap().split(';').next().unwrap());
    assert_eq!(place.client.send("GET /api/v1/jobs", &[&cookie], b"").await.status, 200);
    place.fake.0.lock().revoked.push(TOKEN.to_owned());
    assert_eq!(place.client.send("GET /api/v1/jobs", &[&cookie], b"").await.status, 401);
}

#[tokio::test]
async fn other_hosts_and_other_sites_are_refused_everywhere() {
    let place = place().await;
    let bearer = format!("authorization: Bearer {TOKEN}");
    for line in CLOSED.iter().chain(&["GET /", "GET /app.js", "GET /metrics", "GET /healthz", "POST /api/v1/session"]) {
        let other = place.client.send(line, &[&bearer, "host: example.org"], b"").await;
        assert_eq!(other.refusal(), (421, "RW0701".to_owned()), "{line}");
        let other = place.client.send(line, &[&bearer, "origin: http://example.org"], b"").await;
        assert_eq!(other.refusal(), (403, "RW0702".to_owned()), "{line}");
    }
    assert!(place.fake.0.lock().stopped.is_empty());
}

#[tokio::test]
async fn every_answer_tells_the_browser_what_it_may_do() {
    let place = place().await;
    for line in ["GET /", "GET /app.js", "GET /healthz", "GET /api/v1/jobs", "GET /nothing", "DELETE /api/v1/jobs"] {
        let answer = place.client.send(line, &[], b"").await;
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        assert_eq!((answer.header("x-content-type-options"), answer.header("x-frame-options")), (Some("nosniff"), Some("DENY")));
        let expected = if matches!(line, "GET /" | "GET /app.js") { "no-cache" } else { "no-store" };
        assert_eq!(answer.header("cache-control"), Some(expected), "{line}");
    }
}

#[tokio::test]
async fn nothing_is_changed_by_get() {
    let place = place().await;
    let answer = place.client.ask("GET /api/v1/jobs/j1-1/stop", b"").await;
    assert_eq!(answer.refusal(), (405, "RW0703".to_owned()));
    assert_eq!(answer.header("allow"), Some("POST"));
    assert!(place.fake.0.lock().stopped.is_empty());
}

#[tokio::test]
async fn the_pages_need_nothing_from_elsewhere_and_are_fetched_once() {
    let place = place().await;
    let page = place.client.send("GET /", &[], b"").await;
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(!page.body.contains("http:") && !page.body.contains("https:") && !page.body.contains("<style"), "{}", page.body);
    let tag = format!("if-none-match: {}", page.header("etag").unwrap());
    assert_eq!(place.client.send("GET /", &[&tag], b"").await.status, 304);
}

#[tokio::test]
async fn bodies_are_bounded() {
    let place = place().await;
    let large = vec![b' '; 20 << 10];
    assert_eq!(place.client.ask("POST /api/v1/artifacts", &large).await.refusal(), (413, "RW0704".to_owned()));
    assert_eq!(place.client.send("POST /api/v1/session", &[], &large).await.refusal(), (413, "RW0704".to_owned()));
}
