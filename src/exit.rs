//! Exit statuses: 0 ok, 1 the work failed, 2 usage or refused, a guest's own where a guest exits, 130 after Ctrl-C.

use std::process::ExitCode;

use rwasm_types::{Class, Code, Error};

use crate::ui;

/// The status after Ctrl-C, as shells have it: 128 and the number of SIGINT.
pub(crate) const INTERRUPTED: u8 = 130;

/// The exit status of an error.
pub(crate) fn status(error: &Error) -> ExitCode {
    let of_guest = || error.field("exit").and_then(|status| status.parse::<u8>().ok()).filter(|status| *status != 0);
    match error.code() {
        Code::INTERRUPTED => INTERRUPTED.into(),
        Code::GUEST_EXIT => of_guest().unwrap_or(1).into(),
        code => match code.class() {
            Class::Refused => 2.into(),
            Class::Failed => 1.into(),
        },
    }
}

/// Prints an error and gives its status.
pub(crate) fn report(error: &Error, json: bool) -> ExitCode {
    if error.code() == ui::broken_pipe().code() && error.message() == ui::broken_pipe().message() {
        // Whoever read our output has seen enough.
        return ExitCode::SUCCESS;
    }
    ui::error(error, json);
    status(error)
}
