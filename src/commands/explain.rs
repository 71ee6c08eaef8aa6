//! `explain`: the page of an error code.

use std::process::ExitCode;

use include_dir::{Dir, include_dir};
use rwasm_types::{Code, Error, Result};

use crate::ui;

static PAGES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/docs/errors");

/// `rwasm explain`.
pub(crate) fn explain(code: Option<Code>, json: bool) -> Result<ExitCode> {
    match code {
        None => all(json)?,
        Some(code) => {
            let page = page(code).ok_or_else(|| {
                Error::new(Code::NOT_FOUND, format!("this version knows no {code}")).hint("`rwasm explain` lists what it knows")
            })?;
            if json {
                let title = code.info().map(|info| info.title);
                ui::json(&serde_json::json!({ "code": code.to_string(), "title": title, "page": page }))?;
            } else {
                ui::out(page.as_bytes())?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn page(code: Code) -> Option<&'static str> {
    PAGES.get_file(format!("{code}.md"))?.contents_utf8()
}

fn all(json: bool) -> Result<()> {
    if json {
        let all: Vec<_> = Code::ALL.iter().map(|info| serde_json::json!({ "code": info.code.to_string(), "title": info.title })).collect();
        return ui::json(&all);
    }
    ui::table(&["CODE", "MEANS"], Code::ALL.iter().map(|info| vec![info.code.to_string(), info.title.to_owned()]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_page_and_every_page_its_code() {
        for info in Code::ALL {
            let page = page(info.code).unwrap_or_else(|| panic!("docs/errors/{}.md is missing", info.code));
            assert!(page.starts_with(&format!("# {}: ", info.code)), "{} begins in another way", info.code);
            for part in ["## What happened", "## What to do"] {
                assert!(page.contains(part), "{} has no part {part:?}", info.code);
            }
        }
        for file in PAGES.files() {
            let code: Code = file.path().file_stem().unwrap().to_str().unwrap().parse().unwrap();
            assert!(code.info().is_some(), "{} is the page of no code", file.path().display());
        }
    }
}
