//! Which cluster a command speaks with.

use std::path::PathBuf;

use rwasm_client::{Client, Endpoint};
use rwasm_runtime::Dirs;
use rwasm_types::{Code, Error, Result, Tenant};

use crate::args::{TargetArgs, access::ViewArgs};

/// A cluster that a command was led to.
#[derive(Debug)]
pub(crate) struct Found {
    endpoint: Endpoint,
    /// The file that led there, where no address was named.
    file: Option<PathBuf>,
}

impl Found {
    /// Where it is.
    pub(crate) fn address(&self) -> &str {
        &self.endpoint.address
    }

    /// Connects to it.
    ///
    /// # Errors
    ///
    /// [`Code::UNREACHABLE`] if it does not answer.
    pub(crate) async fn connect(&self) -> Result<Client> {
        self.connect_into(None).await
    }

    async fn connect_into(&self, tenant: Option<&Tenant>) -> Result<Client> {
        let connected = match tenant {
            None => Client::connect(&self.endpoint).await,
            Some(tenant) => Client::connect_into(&self.endpoint, tenant).await,
        };
        connected.map_err(|error| match &self.file {
            Some(file) if error.code() == Code::UNREACHABLE => error.hint(format!(
                "the cluster that left {} is gone: start one with `rwasm start --head`, or clear up after it with `rwasm stop`",
                file.display()
            )),
            _ => error,
        })
    }
}

/// Connects to the cluster that is named or was started here, to look into a tenant.
///
/// # Errors
///
/// As [`connect`].
pub(crate) async fn connect_into(view: &ViewArgs) -> Result<Client> {
    match find(&view.target)? {
        Some(found) => found.connect_into(view.tenant.as_ref()).await,
        None => Err(no_cluster()),
    }
}

/// Connects to the cluster that is named or was started here.
///
/// # Errors
///
/// [`Code::NOT_RUNNING`] if there is none, [`Code::UNREACHABLE`] if it does not answer.
pub(crate) async fn connect(target: &TargetArgs) -> Result<Client> {
    match find(target)? {
        Some(found) => found.connect().await,
        None => Err(no_cluster()),
    }
}

fn no_cluster() -> Error {
    Error::new(Code::NOT_RUNNING, "no cluster is named, and none was started here")
        .hint("start one with `rwasm start --head`, or name one with --address")
}

/// The cluster that is named or was started here, if any.
pub(crate) fn find(target: &TargetArgs) -> Result<Option<Found>> {
    let dirs = Dirs::from_env();
    let is_named = target.address.is_some() || std::env::var_os("RWASM_ADDRESS").is_some_and(|address| !address.is_empty());
    let file = (!is_named).then(|| Endpoint::file(&dirs));
    Ok(Endpoint::find(target.address.as_deref(), target.ca.as_deref(), &dirs)?.map(|endpoint| Found { endpoint, file }))
}
