//! `health`: whether the daemons that this user started here do their work, for whoever supervises them.

use std::process::ExitCode;

use rwasm_runtime::Dirs;
use rwasm_types::{Code, Error, Result};

use crate::{
    daemon::{ask_health, registered},
    ui,
};

/// `rwasm health`.
pub(crate) async fn health(json: bool) -> Result<ExitCode> {
    let dirs = Dirs::from_env();
    let here = registered(&dirs).running;
    if here.is_empty() {
        return Err(Error::new(Code::NOT_RUNNING, "no daemon of this user runs here").hint("start one with `rwasm start`"));
    }
    let mut unwell = None;
    for daemon in here {
        let ready = &daemon.ready;
        let found = ask_health(&dirs, ready.pid).await.and_then(|health| {
            if health.joined { Ok(()) } else { Err(Error::new(Code::UNWELL, "its node has no connection to the head, and dials it again")) }
        });
        let who = format!("{} {} (process {})", ready.role, ready.node, ready.pid);
        if json {
            ui::json(&serde_json::json!({ "role": ready.role, "node": ready.node, "pid": ready.pid, "error": found.as_ref().err() }))?;
        } else if found.is_ok() {
            ui::line(&format!("{who} is well"))?;
        }
        if let Err(error) = found {
            unwell.get_or_insert_with(|| error.context(who));
        }
    }
    unwell.map_or(Ok(ExitCode::SUCCESS), Err)
}
