//! `state`: backs up, restores and checks what a daemon keeps on disk. It works on the directory itself and asks no daemon.

use std::{path::PathBuf, process::ExitCode};

use rwasm_runtime::Dirs;
use rwasm_types::{Result, format_bytes};

use crate::{
    args::{StateCommand, StateDirArgs},
    state::{self, Backup, Finding, Report, Restored},
    ui,
};

/// `rwasm state`.
pub(crate) async fn state(command: StateCommand, json: bool) -> Result<ExitCode> {
    match command {
        StateCommand::Backup { to, dir } => backed_up(&state::back_up(&place(dir), &to)?, json),
        StateCommand::Restore { file, dir } => restored(&state::restore(&file, &place(dir)).await?, json),
        StateCommand::Check { dir } => checked(&state::check(&place(dir))?, json),
    }
}

fn place(args: StateDirArgs) -> PathBuf {
    args.state_dir.unwrap_or_else(|| Dirs::from_env().state.join("head"))
}

fn of(cluster: Option<&str>) -> String {
    cluster.map_or_else(|| "a node".to_owned(), |cluster| format!("cluster {cluster}"))
}

fn backed_up(made: &Backup, json: bool) -> Result<ExitCode> {
    if json {
        ui::json(made)?;
    } else {
        let Backup { file, cluster, files, bytes, running } = made;
        let meanwhile = if *running { ", while it runs" } else { "" };
        ui::line(&format!("{}: {} files, {} of {}{meanwhile}", file.display(), files, format_bytes(*bytes), of(cluster.as_deref())))?;
        ui::note("it holds tokens: keep it where only you can read it");
    }
    Ok(ExitCode::SUCCESS)
}

fn restored(restored: &Restored, json: bool) -> Result<ExitCode> {
    if json {
        ui::json(restored)?;
    } else {
        let Restored { dir, cluster, made_ms, files, bytes } = restored;
        let made = ui::time(*made_ms);
        ui::line(&format!("{}: {files} files, {} of {} as of {made}", dir.display(), format_bytes(*bytes), of(cluster.as_deref())))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn checked(report: &Report, json: bool) -> Result<ExitCode> {
    if json {
        ui::json(report)?;
    } else {
        let Report { dir, running, cluster, records, artifacts, artifact_bytes, findings, more } = report;
        let records: usize = records.values().sum();
        let used = if *running { ", in use" } else { "" };
        ui::line(&format!("{}: {}{used}", dir.display(), of(cluster.as_deref())))?;
        ui::line(&format!("  {records} records, {artifacts} artifacts of {}", format_bytes(*artifact_bytes)))?;
        for Finding { problem, path, message, remedy } in findings {
            let kind = if *problem { "problem" } else { "leftover" };
            ui::line(&format!("{kind}: {}: {}; {}", path.display(), ui::printable(message), remedy))?;
        }
        if *more > 0 {
            ui::line(&format!("and {more} more"))?;
        }
    }
    match state::verdict(report) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => {
            ui::error(&error, json);
            Ok(ExitCode::FAILURE)
        }
    }
}
