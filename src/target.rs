//! Which cluster a command speaks with.

use rwasm_client::{Client, Endpoint};
use rwasm_runtime::Dirs;
use rwasm_types::{Code, Error, Result};

use crate::args::TargetArgs;

/// Connects to the cluster that is named or was started here.
///
/// # Errors
///
/// [`Code::NOT_RUNNING`] if there is none, [`Code::UNREACHABLE`] if it does not answer.
pub(crate) async fn connect(target: &TargetArgs) -> Result<Client> {
    match find(target)? {
        Some(endpoint) => Client::connect(&endpoint).await,
        None => Err(Error::new(Code::NOT_RUNNING, "no cluster is named, and none was started here")
            .hint("start one with `rwasm start --head`, or name one with --address")),
    }
}

/// The cluster that is named or was started here, if any.
pub(crate) fn find(target: &TargetArgs) -> Result<Option<Endpoint>> {
    Endpoint::find(target.address.as_deref(), &Dirs::from_env())
}
