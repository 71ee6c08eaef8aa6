//! How a driver finds its cluster: an address, and the token that opens it.

use std::{
    fs,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use rwasm_runtime::{Dirs, write_private};
use rwasm_types::{Code, Error, Result};
use serde::{Deserialize, Serialize};

/// A cluster's gateway, and what a driver shows there.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// `host:port` of a gateway.
    pub address: String,
    /// The user's token.
    pub token: String,
    /// What nodes of this user join with, where the file's reader may start some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_token: Option<String>,
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Tokens do not belong in logs.
        f.debug_struct("Endpoint").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Endpoint {
    /// The port that a gateway has unless told otherwise.
    pub const PORT_DEFAULT: u16 = 10001;

    /// The file in which `start --head` leaves its endpoint for this user.
    pub fn file(dirs: &Dirs) -> PathBuf {
        dirs.runtime.join("endpoint.json")
    }

    /// Finds the cluster: the address given, else `RWASM_ADDRESS`, else the endpoint file. `None` if none of them names one.
    ///
    /// The token is `RWASM_TOKEN`, else the one of the endpoint file.
    ///
    /// # Errors
    ///
    /// [`Code::TOKEN_REFUSED`] if an address is named and no token is to be found, [`Code::IO`] if the endpoint file cannot be read.
    pub fn find(address: Option<&str>, dirs: &Dirs) -> Result<Option<Self>> {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self::pick(address.map(str::to_owned).or_else(|| variable("RWASM_ADDRESS")), variable("RWASM_TOKEN"), &Self::file(dirs))
    }

    fn pick(address: Option<String>, token: Option<String>, file: &Path) -> Result<Option<Self>> {
        let left = Self::read(file)?;
        let token = token.or_else(|| left.as_ref().map(|left| left.token.clone()));
        match (address, token) {
            (Some(address), Some(token)) => Ok(Some(Self { address: with_port(&address), token, node_token: None })),
            (Some(address), None) => Err(Error::new(Code::TOKEN_REFUSED, format!("there is no token for {address}"))
                .hint("set RWASM_TOKEN to a token of that cluster; an admin creates one with `rwasm token create`")),
            (None, token) => Ok(left.map(|left| Self { token: token.unwrap_or_else(|| left.token.clone()), ..left })),
        }
    }

    /// Reads an endpoint file; `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`Code::IO`] if it cannot be read or is damaged.
    pub fn read(file: &Path) -> Result<Option<Self>> {
        let bad = |why: &dyn std::fmt::Display| Error::new(Code::IO, format!("cannot use the endpoint file {}: {why}", file.display()));
        match read_own(file) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| bad(&error)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(bad(&error)),
        }
    }

    /// Writes the endpoint file, for this user only.
    ///
    /// # Errors
    ///
    /// [`Code::IO`] if it cannot be written.
    pub fn write(&self, file: &Path) -> Result<()> {
        let json = serde_json::to_vec_pretty(self).map_err(|error| Error::internal(format!("an endpoint has no JSON: {error}")))?;
        write_private(file, &json).map_err(|error| Error::new(Code::IO, format!("cannot write {}: {error}", file.display())))
    }
}

/// Reads a file of this user. Somebody else's could lead a driver, and the token that it shows, anywhere.
fn read_own(file: &Path) -> io::Result<Vec<u8>> {
    let mut opened = fs::File::open(file)?;
    // The owner of this directory is the user that this process acts for.
    if opened.metadata()?.uid() != fs::metadata("/proc/self")?.uid() {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it belongs to another user"));
    }
    let mut bytes = Vec::new();
    opened.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// An address with its port.
fn with_port(address: &str) -> String {
    let has_port =
        address.rsplit_once(':').is_some_and(|(host, port)| port.parse::<u16>().is_ok() && (!host.contains(':') || host.ends_with(']')));
    if has_port { address.to_owned() } else { format!("{address}:{}", Endpoint::PORT_DEFAULT) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_another_user_is_not_trusted() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("endpoint.json");
        Endpoint { address: "127.0.0.1:1".into(), token: "t".into(), node_token: None }.write(&file).unwrap();
        assert!(Endpoint::read(&file).unwrap().is_some());
        // Root can give the file away; anybody else finds one of root's.
        let foreign = match std::os::unix::fs::chown(&file, Some(1), None) {
            Ok(()) => file,
            Err(_) => PathBuf::from("/etc/passwd"),
        };
        assert!(Endpoint::read(&foreign).unwrap_err().message().ends_with("it belongs to another user"));
    }

    #[test]
    fn what_is_named_first_wins() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("endpoint.json");
        let pick = |address: Option<&str>, token: Option<&str>| Endpoint::pick(address.map(Into::into), token.map(Into::into), &file);
        let made = |address: &str, token: &str| Some(Endpoint { address: address.into(), token: token.into(), node_token: None });
        assert_eq!(pick(None, None).unwrap(), None);
        assert_eq!(pick(Some("h:1"), None).unwrap_err().code(), Code::TOKEN_REFUSED);
        assert_eq!(pick(Some("h"), Some("t")).unwrap(), made("h:10001", "t"));
        made("127.0.0.1:5", "left").unwrap().write(&file).unwrap();
        assert_eq!(pick(None, None).unwrap(), made("127.0.0.1:5", "left"));
        assert_eq!(pick(None, Some("t")).unwrap(), made("127.0.0.1:5", "t"));
        assert_eq!(pick(Some("h:1"), None).unwrap(), made("h:1", "left"));
        fs::write(&file, "{").unwrap();
        assert_eq!(pick(None, None).unwrap_err().code(), Code::IO);
    }

    #[test]
    fn ports_are_added_where_there_is_none() {
        for (given, full) in [("h", "h:10001"), ("h:7", "h:7"), ("[::1]", "[::1]:10001"), ("[::1]:7", "[::1]:7")] {
            assert_eq!(with_port(given), full);
        }
    }

    #[test]
    fn tokens_are_not_printed() {
        let endpoint = Endpoint { address: "a".into(), token: "secret".into(), node_token: Some("secret".into()) };
        assert!(!format!("{endpoint:?}").contains("secret"));
    }
}
