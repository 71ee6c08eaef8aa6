//! Texts as snapshots keep them: what differs from run to run has a name instead.

/// Replaces times, durations, sizes of processes, ports, digests and paths to guests.
pub(crate) fn tidy(text: &str) -> String {
    let guests = super::guest("hello");
    let text = text.replace(guests.trim_end_matches("/hello.wasm"), "GUESTS").replace(env!("CARGO_BIN_EXE_rwasm"), "rwasm");
    text.split_inclusive(['\n', ' ']).map(tidy_word).collect()
}

fn tidy_word(word: &str) -> String {
    let core = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    if core.is_empty() {
        return word.to_owned();
    }
    let name = if let Some((host, port)) = core.rsplit_once(':')
        && host.ends_with("127.0.0.1")
        && is_number(port)
    {
        format!("{host}:PORT")
    } else if is_time(core) {
        "TIME".to_owned()
    } else if core.len() >= 12 && core.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        "DIGEST".to_owned()
    } else {
        return word.to_owned();
    };
    word.replace(core, &name)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// `2025-01-31T12:00:00Z`.
fn is_time(text: &str) -> bool {
    text.len() == 20 && text.ends_with('Z') && text.as_bytes()[10] == b'T' && text.starts_with("20")
}

/// Names that follow a word in the protocol of the gateway's port, within a part of it.
pub(crate) fn protocol(from: &str, name: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let read =
        |file: &str| std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("host/wire/proto").join(file)).unwrap();
    let text = ["gateway.proto", "peer.proto"].map(read).concat();
    let (_, part) = text.split_once(from).unwrap_or_else(|| panic!("no {from}"));
    let names: Vec<String> = part.lines().take_while(|line| *line != "}").filter_map(|line| name(line.trim())).collect();
    assert!(!names.is_empty(), "{from} has none");
    names
}
