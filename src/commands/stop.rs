//! `stop`: ends the daemons that this user started on this machine.

use std::{
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use rwasm_runtime::Dirs;
use rwasm_types::{Code, Error, Result};

use crate::{
    args::StopArgs,
    daemon::{Here, Ready, Registered, registered},
    ui,
};

/// `rwasm stop`.
pub(crate) fn stop(args: &StopArgs, json: bool) -> Result<ExitCode> {
    let dirs = Dirs::from_env();
    let Here { running: mut daemons, gone } = registered(&dirs);
    if daemons.is_empty() && gone.is_empty() {
        return Err(Error::new(Code::NOT_RUNNING, "nothing of this user runs here").hint("`rwasm start --head` starts a cluster"));
    }
    // Nodes first: they can still tell the head that they go.
    daemons.sort_by_key(|daemon| daemon.ready.role == "head");
    for daemon in &daemons {
        signal(daemon, if args.force { Signal::KILL } else { Signal::TERM })?;
    }
    let mut left: Vec<&Registered> = daemons.iter().collect();
    let deadline = Instant::now() + args.grace;
    while !left.is_empty() && Instant::now() < deadline {
        left.retain(|daemon| daemon.runs());
        thread::sleep(Duration::from_millis(10));
    }
    let killed = left.len();
    for daemon in left {
        signal(daemon, Signal::KILL)?;
    }
    // Removes the files of daemons that could not do so themselves.
    registered(&dirs);
    if json {
        let ready = |daemons: &[Registered]| daemons.iter().map(|daemon| daemon.ready.clone()).collect::<Vec<_>>();
        ui::json(&serde_json::json!({ "stopped": ready(&daemons), "killed": killed, "gone": ready(&gone) }))?;
    } else {
        for daemon in &daemons {
            ui::line(&format!("stopped {} {} (process {})", daemon.ready.role, daemon.ready.node, daemon.ready.pid))?;
        }
        for daemon in &gone {
            let Ready { role, node, pid, .. } = &daemon.ready;
            ui::line(&format!("{role} {node} (process {pid}) was gone already; what it left is removed"))?;
        }
        if killed > 0 {
            ui::note(&format!("{killed} of them had to be killed"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn signal(daemon: &Registered, signal: Signal) -> Result<()> {
    // A file lists no process 0 or of a negative number.
    let Some(pid) = i32::try_from(daemon.ready.pid).ok().and_then(Pid::from_raw) else { return Ok(()) };
    if !daemon.runs() {
        return Ok(());
    }
    match kill_process(pid, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(Error::new(Code::IO, format!("cannot stop process {}: {error}", daemon.ready.pid))),
    }
}
