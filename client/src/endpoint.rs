//! How a driver finds its cluster: an address, the token that opens it, and the authority that its certificate is believed for.

use std::{
    fs,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use rwasm_runtime::{Dirs, write_private};
use rwasm_tls::Trust;
use rwasm_types::{Code, Error, Result};
use rwasm_wire::Connector;
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
    /// Whom to believe: the authority's certificate as PEM, or its fingerprint. Without, an address of loopback has no TLS, and nobody is
    /// believed at another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
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
    /// The token is `RWASM_TOKEN`, else what the file `RWASM_TOKEN_FILE` holds, else the one of the endpoint file. The authority is the one given, a fingerprint or a file's path, else
    /// `RWASM_CA`, else the one of the endpoint file.
    ///
    /// # Errors
    ///
    /// [`Code::TOKEN_REFUSED`] if an address is named and no token is to be found, [`Code::IO`] if the endpoint file or that of the authority
    /// cannot be read.
    pub fn find(address: Option<&str>, ca: Option<&str>, dirs: &Dirs) -> Result<Option<Self>> {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let address = address.map(str::to_owned).or_else(|| variable("RWASM_ADDRESS"));
        let ca = ca.map(str::to_owned).or_else(|| variable("RWASM_CA")).map(|ca| authority(&ca)).transpose()?;
        let token = match (variable("RWASM_TOKEN"), variable("RWASM_TOKEN_FILE")) {
            (None, Some(file)) => Some(token_in(Path::new(&file))?),
            (token, _) => token,
        };
        Self::pick(address, token, ca, &Self::file(dirs))
    }

    fn pick(address: Option<String>, token: Option<String>, ca: Option<String>, file: &Path) -> Result<Option<Self>> {
        let left = Self::read(file)?;
        let token = token.or_else(|| left.as_ref().map(|left| left.token.clone()));
        match (address, token) {
            (Some(address), Some(token)) => {
                let address = with_port(&address, Self::PORT_DEFAULT);
                // What another cluster of this user's has left says nothing of a loopback address, which may have no TLS.
                let left = left.filter(|left| left.address == address || !is_loopback(&address));
                Ok(Some(Self { ca: ca.or_else(|| left.and_then(|left| left.ca)), address, token, node_token: None }))
            }
            (Some(address), None) => Err(Error::new(Code::TOKEN_REFUSED, format!("there is no token for {address}"))
                .hint("set RWASM_TOKEN to a token of that cluster; an admin creates one with `rwasm token create`")),
            (None, token) => {
                Ok(left.map(|left| Self { token: token.unwrap_or_else(|| left.token.clone()), ca: ca.or_else(|| left.ca.clone()), ..left }))
            }
        }
    }

    /// How the gateway is reached: without TLS on loopback, unless there is an authority to believe; with it everywhere else.
    ///
    /// # Errors
    ///
    /// If the authority is neither a certificate nor a fingerprint, or the address has no host.
    pub fn connector(&self) -> Result<Connector> {
        let connector = Connector::tcp(&self.address);
        let trust = match &self.ca {
            Some(ca) => Trust::read(ca)?,
            None if is_loopback(&self.address) => return Ok(connector),
            None => Trust::Nobody,
        };
        Ok(connector.with_tls(rwasm_tls::Connector::new(host(&self.address), &trust, None)?))
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

/// An authority as it is named: a fingerprint, or the path of a file with certificates.
fn authority(named: &str) -> Result<String> {
    if rwasm_tls::Fingerprint::is_meant_by(named) {
        return Ok(named.to_owned());
    }
    fs::read_to_string(named).map_err(|error| {
        Error::new(Code::IO, format!("cannot read the certificate authority {named}: {error}"))
            .hint("name a file with its certificate, or its fingerprint, `sha256:…`")
    })
}

/// The token in a file, as Docker and others hand secrets to a program.
///
/// # Errors
///
/// [`Code::IO`] if the file cannot be read or is empty.
pub fn token_in(file: &Path) -> Result<String> {
    let bad = |why: &dyn std::fmt::Display| Error::new(Code::IO, format!("cannot take a token from {}: {why}", file.display()));
    let token = fs::read_to_string(file).map_err(|error| bad(&error))?;
    if token.trim().is_empty() {
        return Err(bad(&"it is empty"));
    }
    Ok(token.trim().to_owned())
}

/// The host of an address with a port, without the brackets of IPv6.
pub fn host(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// Whether an address leads nowhere but to this machine.
pub fn is_loopback(address: &str) -> bool {
    let host = host(address);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// An address with its port, which is `port` if it has none.
pub fn with_port(address: &str, port: u16) -> String {
    let has_port =
        address.rsplit_once(':').is_some_and(|(host, port)| port.parse::<u16>().is_ok() && (!host.contains(':') || host.ends_with(']')));
    if has_port { address.to_owned() } else { format!("{address}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_another_user_is_not_trusted() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("endpoint.json");
        Endpoint { address: "127.0.0.1:1".into(), token: "t".into(), node_token: None, ca: None }.write(&file).unwrap();
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
        let pick = |address: Option<&str>, token: Option<&str>| Endpoint::pick(address.map(Into::into), token.map(Into::into), None, &file);
        let made = |address: &str, token: &str| Some(Endpoint { address: address.into(), token: token.into(), node_token: None, ca: None });
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
    fn an_authority_is_the_one_named_or_that_of_the_address() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("endpoint.json");
        let left = Endpoint { address: "127.0.0.1:5".into(), token: "t".into(), node_token: None, ca: Some("left".into()) };
        left.write(&file).unwrap();
        let ca = |address: Option<&str>, ca: Option<&str>| {
            Endpoint::pick(address.map(Into::into), None, ca.map(Into::into), &file).unwrap().unwrap().ca
        };
        assert_eq!(ca(None, None).as_deref(), Some("left"));
        assert_eq!(ca(None, Some("named")).as_deref(), Some("named"));
        assert_eq!(ca(Some("127.0.0.1:5"), None).as_deref(), Some("left"));
        assert_eq!(ca(Some("127.0.0.1:6"), None), None, "another cluster on loopback");
        assert_eq!(ca(Some("10.0.0.1:6"), None).as_deref(), Some("left"));
        assert_eq!(ca(Some("10.0.0.1:6"), Some("named")).as_deref(), Some("named"));
        assert!(authority("/nowhere").is_err() && authority("sha256:xyz").is_ok());
    }

    #[test]
    fn a_token_in_a_file_is_read_without_the_space_around_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        assert_eq!(token_in(&file).unwrap_err().code(), Code::IO);
        fs::write(&file, " \n").unwrap();
        assert_eq!(token_in(&file).unwrap_err().code(), Code::IO);
        fs::write(&file, "rwu_x\n").unwrap();
        assert_eq!(token_in(&file).unwrap(), "rwu_x");
    }

    #[test]
    fn hosts_are_found_in_addresses() {
        for (address, name, loopback) in [
            ("127.0.0.1:5", "127.0.0.1", true),
            ("127.9.9.9:5", "127.9.9.9", true),
            ("[::1]:7", "::1", true),
            ("localhost:7", "localhost", true),
            ("10.0.0.1:7", "10.0.0.1", false),
            ("head.example:7", "head.example", false),
            ("localhost.example:7", "localhost.example", false),
        ] {
            assert_eq!((host(address), is_loopback(address)), (name, loopback));
        }
    }

    #[test]
    fn ports_are_added_where_there_is_none() {
        for (given, full) in [("h", "h:10001"), ("h:7", "h:7"), ("[::1]", "[::1]:10001"), ("[::1]:7", "[::1]:7")] {
            assert_eq!(with_port(given, Endpoint::PORT_DEFAULT), full);
        }
    }

    #[test]
    fn tokens_are_not_printed() {
        let endpoint = Endpoint { address: "a".into(), token: "secret".into(), node_token: Some("secret".into()), ca: None };
        assert!(!format!("{endpoint:?}").contains("secret"));
    }
}
