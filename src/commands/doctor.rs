//! `doctor`: what this machine lacks, and what to do about it.

use std::process::ExitCode;

use rwasm_types::Result;

use crate::{
    args::DoctorArgs,
    doctor::{Finding, Level, facts, judge},
    ui,
};

/// `rwasm doctor`.
pub(crate) async fn doctor(args: &DoctorArgs, json: bool) -> Result<ExitCode> {
    let spinner = ui::spinner("looking at this machine");
    let facts = facts::collect(&args.target).await;
    spinner.finish_and_clear();
    let findings = judge(&facts);
    let well = findings.iter().all(|finding| finding.level != Level::Bad);
    if json {
        ui::json(&serde_json::json!({ "ok": well, "findings": findings }))?;
    } else {
        ui::out(render(&findings).as_bytes())?;
    }
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn render(findings: &[Finding]) -> String {
    let mut lines = Vec::new();
    for finding in findings {
        let level = match finding.level {
            Level::Ok => "ok",
            Level::Note => "note",
            Level::Bad => "BAD",
        };
        lines.push(format!("{level:<5} {:<18} {}", finding.check, finding.found));
        if let Some(remedy) = &finding.remedy {
            lines.push(format!("{:<24} {remedy}", ""));
        }
    }
    let bad = findings.iter().filter(|finding| finding.level == Level::Bad).count();
    lines.push(String::new());
    lines.push(match bad {
        0 => "Nothing has to be done.".to_owned(),
        1 => "1 thing has to be done.".to_owned(),
        bad => format!("{bad} things have to be done."),
    });
    lines.push(String::new());
    ui::printable_lines(&lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_to_be_done_stands_below_what_was_found() {
        let finding = |check, level, found: &str, remedy: Option<&str>| Finding {
            check,
            level,
            found: found.to_owned(),
            remedy: remedy.map(str::to_owned),
        };
        let findings = [
            finding("kernel", Level::Ok, "Linux 6.12.3", None),
            finding("time-service", Level::Note, "none is known to set the clock", Some("let one do so")),
            finding(
                "state-directory",
                Level::Bad,
                "/home/ada/state has 12MiB left",
                Some("free some, or choose another with RWASM_STATE_DIR"),
            ),
        ];
        insta::assert_snapshot!(render(&findings), @r"
        ok    kernel             Linux 6.12.3
        note  time-service       none is known to set the clock
                                 let one do so
        BAD   state-directory    /home/ada/state has 12MiB left
                                 free some, or choose another with RWASM_STATE_DIR

        1 thing has to be done.
        ");
        assert!(render(&findings[..2]).ends_with("\nNothing has to be done.\n"));
    }
}
