//! Documents say what is: links lead somewhere, error codes exist and have pages, limits are those of the code.

use std::collections::BTreeSet;

use rwasm_types::{Code, TaskLimits, format_bytes};

use crate::{
    no_complaints,
    tree::{self, Source},
};

/// Where the pages of error codes are.
const PAGES: &str = "docs/errors";

/// Every document, in the order of their paths.
fn documents() -> Vec<Source> {
    tree::sources().into_iter().filter(|source| source.has_extension("md")).collect()
}

/// The places that a document's links name, without their fragments; addresses elsewhere are left out.
fn links(document: &str) -> impl Iterator<Item = &str> {
    let targets = document.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
    targets.filter(|target| !target.contains("://")).map(|target| target.split('#').next().unwrap_or_default())
}

/// Complaints about links that lead nowhere.
fn dead_links(document: &Source, exists: impl Fn(&str) -> bool) -> Vec<String> {
    let dir = document.path.rsplit_once('/').map_or("", |(dir, _)| dir);
    let dead = links(&document.text).filter(|target| !target.is_empty() && !exists(&format!("{dir}/{target}")));
    dead.map(|target| format!("{} links to {target}, which is not there", document.path)).collect()
}

/// The error codes that a text names.
fn codes(text: &str) -> BTreeSet<Code> {
    let digits = |rest: &str| rest.chars().take_while(char::is_ascii_digit).count();
    text.match_indices("RW")
        .filter(|(at, _)| digits(&text[at + 2..]) == 4 && !text[..*at].ends_with(|c: char| c.is_alphanumeric()))
        .filter_map(|(at, _)| text[at..at + 6].parse().ok())
        .collect()
}

/// Complaints about codes that nothing has.
fn unknown_codes(document: &Source) -> Vec<String> {
    let unknown = codes(&document.text).into_iter().filter(|code| code.info().is_none());
    unknown.map(|code| format!("{} names {code}, which is no code", document.path)).collect()
}

/// Complaints about codes without a page and pages without a code. A page begins with its code and what it means.
fn pages(documents: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for info in Code::ALL {
        let path = format!("{PAGES}/{}.md", info.code);
        let heading = format!("# {}: {}\n", info.code, info.title);
        match documents.iter().find(|document| document.path == path) {
            None => complaints.push(format!("{path} is missing")),
            Some(page) if !page.text.starts_with(&heading) => complaints.push(format!("{path} does not begin with `{}`", heading.trim())),
            Some(_) => {}
        }
    }
    let known: BTreeSet<String> = Code::ALL.iter().map(|info| format!("{PAGES}/{}.md", info.code)).collect();
    let strays = documents.iter().filter(|document| document.is_in(&[PAGES]) && !known.contains(&document.path));
    complaints.extend(strays.map(|stray| format!("{} is the page of no code", stray.path)));
    complaints
}

/// Complaints about the rows of task limits: flag, default and most, as the code has them.
fn limits(document: &str) -> Vec<String> {
    let default = TaskLimits::default();
    let days = |duration: std::time::Duration| format!("{}d", duration.as_secs() / 86_400);
    let rows = [
        ("--memory", format_bytes(default.memory_bytes), format_bytes(TaskLimits::MEMORY_BYTES_MAX)),
        ("--timeout", days(default.wall), days(TaskLimits::TIME_MAX)),
        ("--cpu-time", days(default.cpu), days(TaskLimits::TIME_MAX)),
        ("--max-stdout", format_bytes(default.stdout_bytes), format_bytes(TaskLimits::BYTES_MAX)),
        ("--max-stderr", format_bytes(default.stderr_bytes), format_bytes(TaskLimits::BYTES_MAX)),
        ("--max-result", format_bytes(default.result_bytes), format_bytes(TaskLimits::RESULT_BYTES_MAX)),
        ("--max-table-elements", default.table_elements.to_string(), TaskLimits::TABLE_ELEMENTS_MAX.to_string()),
    ];
    let cells = |line: &str| line.split('|').map(|cell| cell.replace([' ', ',', '`'], "")).collect::<Vec<_>>();
    let told: Vec<Vec<String>> = document.lines().filter(|line| line.starts_with('|')).map(cells).collect();
    let has = |flag: &str, default: &str, most: &str| {
        told.iter().any(|row| row.iter().any(|cell| cell == flag) && row.windows(2).any(|pair| pair == [default, most]))
    };
    let wrong = rows.iter().filter(|(flag, default, most)| !has(flag, default, most));
    wrong.map(|(flag, default, most)| format!("no row says that {flag} is {default} by default and at most {most}")).collect()
}

#[test]
fn links_lead_somewhere() {
    let exists = |path: &str| tree::root().join(path.trim_start_matches('/')).exists();
    no_complaints(&documents().iter().flat_map(|document| dead_links(document, exists)).collect::<Vec<_>>());
}

#[test]
fn documents_name_codes_that_are() {
    no_complaints(&documents().iter().flat_map(unknown_codes).collect::<Vec<_>>());
}

#[test]
fn codes_have_pages_and_pages_codes() {
    no_complaints(&pages(&documents()));
}

#[test]
fn limits_are_told_as_they_are() {
    let document = documents().into_iter().find(|document| document.path == "docs/limits.md").expect("docs/limits.md is there");
    no_complaints(&limits(&document.text));
}

#[test]
fn a_dead_link_is_found() {
    let document = Source::new("docs/a.md", "[b](b.md) [c](../c.md#part) [d](https://example.org/d) [e](#e) [f](gone.md)");
    let exists = |path: &str| ["docs/b.md", "docs/../c.md"].contains(&path);
    assert_eq!(dead_links(&document, exists), ["docs/a.md links to gone.md, which is not there"]);
}

#[test]
fn codes_and_pages_that_do_not_fit_are_found() {
    let document = Source::new("docs/a.md", "RW0101, `RW9876`, RW01, RW01011, XRW9999 and RW0xxx");
    assert_eq!(unknown_codes(&document), ["docs/a.md names RW9876, which is no code"]);

    let page = |code: &str, title: &str| Source::new(&format!("{PAGES}/{code}.md"), &format!("# {code}: {title}\n"));
    let mut all: Vec<Source> = Code::ALL.iter().map(|info| page(&info.code.to_string(), info.title)).collect();
    assert_eq!(pages(&all), [""; 0]);
    all.push(page("RW9876", "Nothing."));
    all.remove(0);
    all[0].text = "# Something else\n".to_owned();
    assert_eq!(pages(&all).len(), 3);
}

#[test]
fn wrong_limits_are_found() {
    assert_eq!(limits("").len(), 7);
    assert_eq!(limits("| memory | `--memory` | 512 MiB | 4 GiB |\n").len(), 6);
    assert_eq!(limits("| memory | `--memory` | 511 MiB | 4 GiB |\n").len(), 7);
}
