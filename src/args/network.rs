//! The grammar of `start`'s network: addresses and certificates.

use std::{path::PathBuf, str::FromStr, time::Duration};

use clap::{Args, ValueHint};
use rwasm_types::parse_duration;

/// Where other nodes reach a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DataPort {
    /// Nowhere: the node only dials.
    None,
    /// At a port; 0 for a free one.
    Port(u16),
}

impl FromStr for DataPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::None),
            port => port.parse().map(Self::Port).map_err(|_error| format!("`{port}` is neither a port nor `none`")),
        }
    }
}

/// How others reach a daemon, and by what they know it.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct NetworkArgs {
    /// A name or address that others reach this daemon by; the first is the one that they are told. May be given several times. With a --host
    /// that is every address, the one that leads to the head, or out, without it
    #[arg(long, value_name = "HOST", value_parser = host, help_heading = "Network")]
    pub(crate) advertise: Vec<String>,
    /// Keep a join token in this file, for nodes that are started beside the head: good for up to 1,000 of them, and made anew every half hour
    #[arg(long, value_name = "FILE", requires = "head", value_hint = ValueHint::FilePath, help_heading = "Network")]
    pub(crate) join_token_out: Option<PathBuf>,
    /// Keep the certificate of the cluster's authority in this file, which anybody may read: for whoever is to believe this cluster
    #[arg(long, value_name = "FILE", requires = "head", value_hint = ValueHint::FilePath, help_heading = "Network")]
    pub(crate) ca_out: Option<PathBuf>,
    /// Join with the token in this file, which is waited for; a node that has joined needs none
    #[arg(long, value_name = "FILE", env = "RWASM_JOIN_TOKEN_FILE", value_hint = ValueHint::FilePath, help_heading = "Network")]
    pub(crate) join_token_file: Option<PathBuf>,
    /// Join an encrypted cluster with what `rwasm token join` printed; a node that has joined needs none
    #[arg(long, value_name = "TOKEN", env = "RWASM_JOIN_TOKEN", hide_env_values = true, help_heading = "Network")]
    pub(crate) join_token: Option<String>,
    /// Use TLS on loopback too
    #[arg(long, requires = "head", help_heading = "Network")]
    pub(crate) tls: bool,
    /// A certificate of your own for drivers, PEM, with those between it and its authority
    #[arg(long, value_name = "FILE", requires_all = ["tls_key", "tls_ca", "head"], value_hint = ValueHint::FilePath, help_heading = "Network")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The key of --tls-cert, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert", value_hint = ValueHint::FilePath, help_heading = "Network")]
    pub(crate) tls_key: Option<PathBuf>,
    /// The authority that drivers believe --tls-cert for, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert", value_hint = ValueHint::FilePath, help_heading = "Network")]
    pub(crate) tls_ca: Option<PathBuf>,
    /// How long certificates that the head makes are valid; they renew themselves after two thirds of it
    #[arg(long, value_name = "TIME", value_parser = life, default_value = "7d", requires = "head", help_heading = "Network")]
    pub(crate) certificate_life: Duration,
}

fn host(text: &str) -> Result<String, String> {
    let no_host = || format!("`{text}` is not a host: write an IP address or a name, without a port");
    let is_ip = text.parse::<std::net::IpAddr>().is_ok_and(|ip| !ip.is_unspecified());
    let is_name = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.');
    (is_ip || is_name && text.parse::<std::net::IpAddr>().is_err()).then(|| text.to_owned()).ok_or_else(no_host)
}

fn life(text: &str) -> Result<Duration, String> {
    const RANGE: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(10 * 365 * 86_400);
    let life = parse_duration(text).map_err(|error| error.to_string())?;
    RANGE.contains(&life).then_some(life).ok_or_else(|| format!("`{text}` is not a time from 1s to 3650d"))
}
