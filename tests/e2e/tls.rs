//! TLS end to end: who is believed, what is said where somebody is not, and that nothing falls back to a connection without.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    os::unix::fs::MetadataExt,
    path::Path,
};

use crate::harness::{Cluster, Home, guest, run::Run, work::until_running};

/// A cluster on loopback with TLS.
fn encrypted() -> Cluster {
    Cluster::build().args(&["--tls"]).start()
}

fn authority(cluster: &Cluster) -> String {
    format!("{}/ca.pem", cluster.head.ready["state_dir"].as_str().unwrap())
}

/// A command of a user who has the token, and nothing else of the cluster's.
fn stranger<'a>(home: &'a Home, cluster: &Cluster) -> Run<'a> {
    home.rwasm(["status", "--address", &cluster.gateway()]).env("RWASM_TOKEN", cluster.token())
}

#[test]
fn drivers_believe_a_file_or_a_fingerprint_and_nobody_else() {
    let cluster = encrypted();
    // Whoever started it finds everything in the endpoint file.
    cluster.rwasm(["submit", &guest("hello"), "--call", "add(1, 2)"]).run().ok().prints("3\n");
    cluster.rwasm(["status", "--address", &cluster.gateway()]).run().ok();

    let home = Home::new();
    let refused = stranger(&home, &cluster).run().fails(2, "RW0545");
    insta::assert_snapshot!(home.tidy(&refused.stderr()).lines().next().unwrap(), @"error[RW0545]: 127.0.0.1:PORT speaks TLS only; name the cluster's certificate authority with --ca or RWASM_CA, a file or a fingerprint");
    stranger(&home, &cluster).args(["--ca", &authority(&cluster)]).run().ok();
    stranger(&home, &cluster).env("RWASM_CA", authority(&cluster)).run().ok();
    let none = format!("sha256:{}", "0".repeat(64));
    let refused = stranger(&home, &cluster).args(["--ca", &none, "--json"]).run().exits(2).json_error();
    assert_eq!(refused["code"], "RW0542", "{refused}");
    let met = refused["fields"]["fingerprint"].as_str().unwrap();
    stranger(&home, &cluster).env("RWASM_CA", met).run().ok();

    let other = encrypted();
    stranger(&home, &cluster).args(["--ca", &authority(&other)]).run().fails(2, "RW0542");
    let file = home.write("no-certificate", "x");
    stranger(&home, &cluster).args(["--ca", &file]).run().fails(2, "RW0548");
    stranger(&home, &cluster).args(["--ca", "/nowhere"]).run().fails(2, "RW0004");
    stranger(&home, &cluster).args(["--ca", "sha256:12"]).run().fails(2, "RW0002");
}

#[test]
fn tls_is_not_spoken_with_whoever_has_none() {
    let (cluster, home) = (Cluster::start(0), Home::new());
    let refused = stranger(&home, &cluster).args(["--ca", &format!("sha256:{}", "0".repeat(64))]).run().fails(2, "RW0546");
    insta::assert_snapshot!(home.tidy(&refused.stderr()).lines().next().unwrap(), @"error[RW0546]: 127.0.0.1:PORT does not speak TLS; check the address; clusters on loopback have no TLS unless they were started with --tls");
}

#[test]
fn the_authority_is_made_once_and_its_key_is_private() {
    let home = Home::new();
    let start = || home.rwasm(["start", "--head", "--tls", "--port", "0", "--client-port", "0", "--json"]).run().ok().json();
    let dir = start()["state_dir"].as_str().unwrap().to_owned();
    let made = fs::read_to_string(format!("{dir}/ca.pem")).unwrap();
    for (file, mode) in [("ca-key.pem", 0o600), ("ca.pem", 0o600)] {
        assert_eq!(fs::metadata(format!("{dir}/{file}")).unwrap().mode() & 0o777, mode, "{file}");
    }
    home.rwasm(["stop"]).run().ok();
    start();
    assert_eq!(fs::read_to_string(format!("{dir}/ca.pem")).unwrap(), made);
    home.rwasm(["status"]).run().ok();
    home.rwasm(["stop"]).run().ok();
    // A key that is not the certificate's is found out before anything is served.
    fs::write(format!("{dir}/ca.pem"), "x").unwrap();
    home.rwasm(["start", "--head", "--tls", "--port", "0", "--client-port", "0"]).run().fails(2, "RW0548");
}

#[test]
fn a_head_renews_its_certificate_while_it_runs() {
    let cluster = Cluster::build().args(&["--tls", "--certificate-life", "6s"]).start();
    let log = || fs::read_to_string(cluster.home.state().join("head.log")).unwrap_or_default();
    crate::harness::eventually("two renewals", || (log().matches("the head's certificate was renewed").count() >= 2).then_some(()));
    // By now the first has expired.
    cluster.rwasm(["status"]).run().ok();
}

#[test]
fn own_certificates_are_shown_to_drivers() {
    let home = Home::new();
    let openssl = |args: &[&str]| home.command("openssl", args).run();
    if !Path::new("/usr/bin/openssl").exists() {
        eprintln!("skipped: there is no openssl here");
        return;
    }
    let new = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
    let ca = ["-subj", "/CN=company", "-keyout", "company-key.pem", "-out", "company.pem"];
    openssl(&[&new[..], &ca].concat()).ok();
    let leaf = ["-subj", "/CN=gateway", "-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"];
    let signed = ["-CA", "company.pem", "-CAkey", "company-key.pem", "-keyout", "key.pem", "-out", "cert.pem"];
    openssl(&[&new[..], &leaf, &signed].concat()).ok();
    let start = |key: &str| {
        home.rwasm(["start", "--head", "--port", "0", "--client-port", "0", "--json", "--tls-cert", "cert.pem", "--tls-ca", "company.pem"])
            .args(["--tls-key", key])
    };
    assert_eq!(start("company-key.pem").run().exits(2).json_error()["code"], "RW0548");
    let ready = start("key.pem").run().ok().json();
    home.rwasm(["status"]).run().ok();
    let (other, gateway) = (Home::new(), ready["gateway_address"].as_str().unwrap());
    let token = fs::read_to_string(format!("{}/token", ready["state_dir"].as_str().unwrap())).unwrap();
    let by = |ca: &str| other.rwasm(["status", "--address", gateway, "--ca", ca]).env("RWASM_TOKEN", &token).run();
    by(&home.path("company.pem")).ok();
    by(&format!("{}/ca.pem", ready["state_dir"].as_str().unwrap())).fails(2, "RW0542");
    home.rwasm(["stop"]).run().ok();
}

/// Browsers and Prometheus are shown the same certificates as drivers, and nothing is said to them without TLS.
#[test]
fn the_dashboard_and_metrics_have_tls_where_the_cluster_has() {
    let mut cluster = Cluster::build().args(&["--host", "0.0.0.0", "--advertise", "127.0.0.1"]).start();
    let token = cluster.rwasm(["token", "join"]).run().ok().stdout();
    let joins = ["--metrics-port", "0", "--join-token", token.trim()];
    let node = cluster.add_node_with(&joins).ready.clone();
    let at = |ready: &serde_json::Value, field: &str| ready[field].as_str().unwrap_or_else(|| panic!("no {field}: {ready}")).to_owned();
    let (pages, metrics) = (at(&cluster.head.ready, "dashboard_address"), at(&node, "metrics_address"));
    let plain = |address: &str| {
        let mut stream = TcpStream::connect(address).unwrap();
        Write::write_all(&mut stream, format!("GET /healthz HTTP/1.0\r\nhost: {address}\r\n\r\n").as_bytes()).unwrap();
        let mut answer = Vec::new();
        // It may be reset.
        let _ = Read::read_to_end(&mut stream, &mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    };
    assert!(!plain(&pages).contains("HTTP/") && !plain(&metrics).contains("HTTP/"));
    let unsafe_port = ["start", "--head", "--port", "0", "--client-port", "0", "--dashboard-host", "0.0.0.0", "--state-dir", "other"];
    cluster.rwasm(unsafe_port).run().fails(2, "RW0545");
    if !Path::new("/usr/bin/openssl").exists() {
        eprintln!("skipped: there is no openssl here");
        return;
    }
    let ca = format!("{}/ca.pem", at(&cluster.head.ready, "state_dir"));
    let get = |address: &str, verify: [&str; 2], path: &str| {
        let args = ["s_client", "-connect", address, "-CAfile", &ca, "-verify_return_error", "-quiet", verify[0], verify[1]];
        let asks = format!("GET {path} HTTP/1.0\r\nhost: {address}\r\n\r\n");
        cluster.home.command("openssl", args).stdin(asks).run().stdout()
    };
    let healthy = get(&pages, ["-verify_ip", "127.0.0.1"], "/healthz");
    assert!(healthy.contains("200 OK") && healthy.ends_with(r#"{"status":"ok"}"#), "{healthy}");
    let name = format!("{}.rwasm.internal", at(&node, "node"));
    let told = get(&metrics, ["-verify_hostname", &name], "/metrics");
    assert!(told.contains("rwasm_build_info"), "{told}");
}

/// Whoever goes without a word of TLS is gone, and no more: drivers do so after each submit, and processes that are killed.
#[test]
fn an_end_without_a_farewell_is_told_plainly() {
    for cluster in [Cluster::start(0), encrypted()] {
        cluster.rwasm(["submit", &guest("hello"), "--call", "add(1, 2)"]).run().ok().prints("3\n");
        let mut driver = cluster.rwasm(["submit", &guest("evil-wasi"), "--call", "sleep-for(3600000)", "--reconnect", "1s"]).spawn();
        until_running(&cluster, 1);
        assert!(!cluster.logs().contains("a driver's session ended"), "{}", cluster.logs());
        cluster.head.kill();
        driver.until_stderr("; trying to come back");
        let told = driver.stderr();
        let plain = ["the connection ended: the other side is gone", "the gateway closed the connection"];
        assert!(plain.iter().any(|plain| told.contains(&format!("rwasm: {plain}; trying to come back"))), "{told}");
        driver.wait().fails(1, "RW0506");
    }
}

/// All ports of a head's daemon: for drivers, for nodes that join, for other nodes.
fn ports(cluster: &Cluster) -> [String; 3] {
    let nodes = cluster.rwasm(["list", "nodes", "--json"]).run().ok().json();
    [cluster.gateway(), cluster.head_address(), nodes["rows"][0]["data_address"].as_str().unwrap().to_owned()]
}

/// Whoever says nothing, half of something, or nonsense is shown the door at every port, and takes nothing from those who work.
#[test]
fn silent_and_senseless_connections_harm_nobody() {
    const SAID: [&[u8]; 6] = [
        b"",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        // A frame that says that it is as long as can be, and ends.
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\x00\x00\x00\x00\x00\x01half",
        // The beginning of a handshake.
        b"\x16\x03\x01\x02\x00\x01",
        // A record longer than any.
        b"\x16\x03\x03\xff\xff\x01\x02\x03\x04",
        &[0x41; 4096],
    ];
    for cluster in [Cluster::start(0), encrypted()] {
        let mut open = Vec::new();
        for address in ports(&cluster) {
            for bytes in SAID {
                let mut stream = TcpStream::connect(&address).unwrap();
                // It may have been shown the door already.
                let _ = stream.write_all(bytes);
                open.push((address.clone(), stream));
            }
        }
        cluster.rwasm(["submit", &guest("hello"), "--call", "add(1, 2)"]).run().ok().prints("3\n");
        for (address, stream) in &mut open {
            stream.set_read_timeout(Some(crate::harness::DEADLINE)).unwrap();
            match stream.read_to_end(&mut Vec::new()) {
                Ok(_) => {}
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{address}: it stays open"),
            }
        }
        cluster.rwasm(["status"]).run().ok();
    }
}

/// A good token is no reason to believe what comes with it: a message that is too long, that ends in its middle, or that is none ends its call
/// and nothing else.
#[test]
fn senseless_messages_of_those_who_have_a_token_harm_nobody() {
    // HTTP/2: a frame's length, kind, flags and stream, then what it carries.
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
    };
    // HPACK: a literal with a new name, not indexed.
    let header = |name: &str, value: &str| {
        let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
        [&[0][..], &text(name), &text(value)].concat()
    };
    let too_long = u32::try_from(rwasm_wire::MESSAGE_BYTES_MAX + 1).unwrap().to_be_bytes();
    // Each with whether it is the stream's last.
    let messages: [(&[u8], u8); 3] = [
        // The call ends while more is to come: that it is too long is seen before any of it is read.
        (&[&[0], &too_long[..]].concat(), 0),
        (&[0, 0, 0, 0, 100, 0x0a], 1),
        (&[0, 0, 0, 0, 4, 0xff, 0xff, 0xff, 0xff], 0),
    ];
    let cluster = Cluster::start(0);
    let path = |state: &str| fs::read_to_string(format!("{}/{state}", cluster.head.ready["state_dir"].as_str().unwrap())).unwrap();
    let (user, node) = (cluster.token(), path("node-token"));
    let [gateway, head, data] = ports(&cluster);
    let doors = [
        (&gateway, &user, "/rwasm.v1.Gateway/Attach"),
        (&gateway, &node, "/rwasm.v1.Relay/Tunnel"),
        (&head, &node, "/rwasm.v1.Head/Join"),
        (&data, &node, "/rwasm.v1.Peer/Link"),
    ];
    for (address, token, path) in doors {
        for (message, last) in messages {
            let headers = [
                (":method", "POST"),
                (":scheme", "http"),
                (":path", path),
                (":authority", "rwasm"),
                ("te", "trailers"),
                ("content-type", "application/grpc"),
                ("authorization", &format!("Bearer {}", token.trim())),
            ];
            let headers = headers.map(|(name, value)| header(name, value)).concat();
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(crate::harness::DEADLINE)).unwrap();
            let settings = frame(4, 0, 0, &[]);
            let said =
                [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &settings[..], &frame(1, 4, 1, &headers), &frame(0, last, 1, message)].concat();
            stream.write_all(&said).unwrap();
            let mut heard = Vec::new();
            // The call ends, with whatever it is told; the connection may stay.
            while !ended(&heard, 1) {
                let mut more = [0; 4096];
                match stream.read(&mut more) {
                    Ok(0) => break,
                    Ok(read) => heard.extend_from_slice(&more[..read]),
                    Err(error) => panic!("{path}: {message:?}: {error}"),
                }
            }
        }
        cluster.rwasm(["submit", &guest("hello"), "--call", "add(1, 2)"]).run().ok().prints("3\n");
    }
}

/// Whether a stream of HTTP/2 has ended: by its last frame, or because it was reset.
fn ended(mut heard: &[u8], stream: u32) -> bool {
    while let Some((head, rest)) = heard.split_at_checked(9) {
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let (kind, flags, of) = (head[3], head[4], u32::from_be_bytes(head[5..9].try_into().unwrap()));
        if of == stream && (kind == 3 || kind <= 1 && flags & 1 == 1) {
            return true;
        }
        heard = rest.get(length..).unwrap_or_default();
    }
    false
}

/// Talking for ever without asking for anything is no way to stay, however politely it is done.
#[test]
fn connections_that_only_chat_are_ended() {
    let cluster = Cluster::start(0);
    let chats = ports(&cluster).map(|address| {
        std::thread::spawn(move || {
            let mut stream = TcpStream::connect(&address).unwrap();
            stream.set_read_timeout(Some(crate::harness::DEADLINE)).unwrap();
            stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
            let mut heard = [0; 256];
            // A ping, until there is no answer any more.
            while stream.write_all(b"\0\0\x08\x06\0\0\0\0\0rwasm...").is_ok() {
                match stream.read(&mut heard) {
                    Ok(0) => return,
                    Ok(_) => {}
                    Err(error) => return assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "{address}: it stays open"),
                }
            }
        })
    });
    cluster.rwasm(["submit", &guest("hello"), "--call", "add(1, 2)"]).run().ok().prints("3\n");
    chats.into_iter().for_each(|chat| chat.join().unwrap());
}

/// Ten thousand connections to the gateway, or as many as this process may open, and a thousand to each other port: more than the gateway has
/// places for. A driver that works goes on, and another may come.
#[test]
fn thousands_of_connections_keep_nobody_out() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, raised);
    let cluster = encrypted();
    let map = cluster.rwasm(["submit", &guest("evil-wasi"), "--map", "-", "--func", "sleep-for"]);
    let driver = map.stdin("[1000]\n".repeat(4)).spawn();
    let [gateway, head, data] = ports(&cluster);
    let mut open = Vec::new();
    let wanted = [(&gateway, 10_000), (&head, 1_000), (&data, 1_000)];
    for address in wanted.iter().flat_map(|(address, count)| std::iter::repeat_n(address, *count)) {
        match TcpStream::connect(address) {
            Ok(stream) => open.push(stream),
            Err(error) => {
                eprintln!("{} connections are as many as there can be here: {error}", open.len());
                break;
            }
        }
    }
    cluster.rwasm(["submit", &guest("hello"), "--call", "add(1, 2)"]).run().ok().prints("3\n");
    driver.wait().ok().prints(&"null\n".repeat(4));
    drop(open);
    cluster.rwasm(["status"]).run().ok();
}
