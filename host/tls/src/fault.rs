//! What goes wrong in a handshake, as errors with codes.

use std::{io, time::Duration};

use rustls::{
    AlertDescription, CertificateError,
    pki_types::{ServerName, UnixTime},
};
use rwasm_types::{Code, Error};

use crate::{Fingerprint, clock};

/// A certificate could not be made.
pub(crate) fn unissued(error: &rcgen::Error) -> Error {
    Error::internal(format!("a certificate could not be made: {error}"))
}

/// Nothing is known that could be believed.
pub(crate) fn unknown(met: Option<Fingerprint>) -> Error {
    const UNKNOWN: &str = "the cluster's certificate authority is not known here";
    let Some(met) = met else { return Error::new(Code::CA_UNKNOWN, UNKNOWN) };
    Error::new(Code::CA_UNKNOWN, format!("{UNKNOWN}: {met}"))
        .hint(format!("compare it with what `rwasm token join` prints for the cluster, then pass --ca {met} or set RWASM_CA to it"))
        .with("fingerprint", met)
}

/// Another authority than the one that is pinned.
pub(crate) fn not_pinned(pinned: Fingerprint, met: Option<Fingerprint>) -> Error {
    let met = met.map_or_else(|| "none".to_owned(), |met| met.to_string());
    Error::new(Code::CERTIFICATE_FOREIGN, format!("the other side belongs to authority {met}, and {pinned} is expected"))
        .hint("check the address; if the cluster was made anew, pin its new fingerprint")
        .with("fingerprint", met)
}

/// What the check of a certificate says.
pub(crate) fn certificate(error: &CertificateError, name: &ServerName<'_>, met: Option<Fingerprint>) -> Error {
    let name = name.to_str();
    let clocks = "check the clocks of both machines";
    match error {
        CertificateError::ExpiredContext { time, not_after } => {
            let message = format!("the certificate of {name} expired at {}, and the clock here says {}", at(*not_after), at(*time));
            Error::new(Code::CERTIFICATE_TIME, message).hint(clocks)
        }
        CertificateError::NotValidYetContext { time, not_before } => {
            let message = format!("the certificate of {name} is valid from {}, and the clock here says {}", at(*not_before), at(*time));
            Error::new(Code::CERTIFICATE_TIME, message).hint(clocks)
        }
        CertificateError::NotValidForNameContext { presented, .. } => {
            let names: Vec<&str> = presented.iter().map(|name| plain(name)).collect();
            Error::new(Code::CERTIFICATE_NAME, format!("the certificate is not for {name}, but for {}", names.join(", ")))
                .hint("use one of these names, or start the head with --advertise and the name")
        }
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            let met = met.map_or_else(|| "unknown".to_owned(), |met| met.to_string());
            Error::new(
                Code::CERTIFICATE_FOREIGN,
                format!("the certificate of {name} is not of the cluster that is expected: its authority is {met}"),
            )
            .hint("check the address, and that the authority's certificate is that of the cluster")
            .with("fingerprint", met)
        }
        other => Error::new(Code::TLS_FAILED, format!("the certificate of {name} cannot be believed: {other:?}")),
    }
}

/// A name as it stands in a certificate, without the words that the library puts around it.
fn plain(name: &str) -> &str {
    name.split_once("(\"").and_then(|(_, rest)| rest.split_once('"')).map_or(name, |(name, _)| name)
}

fn at(time: UnixTime) -> String {
    let time = std::time::UNIX_EPOCH + Duration::from_secs(time.as_secs());
    humantime::format_rfc3339_seconds(time).to_string()
}

/// What a client's handshake, or the first read after it, ended with; `None` if it was not TLS that failed.
pub(crate) fn of_client(error: &io::Error, what: &str) -> Option<Error> {
    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    Some(match error {
        rustls::Error::InvalidCertificate(CertificateError::Other(other)) => match other.0.downcast_ref::<Error>() {
            Some(ours) => ours.clone(),
            None => failed(what, error),
        },
        rustls::Error::InvalidMessage(_) => Error::new(Code::TLS_ABSENT, format!("{what} does not speak TLS"))
            .hint("check the address; clusters on loopback have no TLS unless they were started with --tls"),
        rustls::Error::AlertReceived(alert) => alerted(*alert, what),
        other => failed(what, other),
    })
}

/// What the other side's alert says of the certificate that was shown to it.
fn alerted(alert: AlertDescription, what: &str) -> Error {
    match alert {
        AlertDescription::CertificateExpired => Error::new(
            Code::CERTIFICATE_TIME,
            format!(
                "{what} says that this side's certificate has expired or is not valid yet; the clock here says {}",
                at(clock::now())
            ),
        )
        .hint("check the clocks of both machines; a node that was away for longer than its certificate is valid joins with a token of `rwasm token join`"),
        AlertDescription::UnknownCA | AlertDescription::DecryptError => {
            Error::new(Code::CERTIFICATE_FOREIGN, format!("{what} says that this side's certificate is of another cluster"))
                .hint("check the address, or join again with a token of that cluster")
        }
        AlertDescription::CertificateRequired => Error::new(Code::TLS_FAILED, format!("{what} wants a node's certificate"))
            .hint("check the address: drivers attach at a gateway"),
        other => Error::new(Code::TLS_FAILED, format!("{what} ended the handshake: {other:?}")),
    }
}

fn failed(what: &str, error: &rustls::Error) -> Error {
    Error::new(Code::TLS_FAILED, format!("no TLS connection with {what}: {error}")).hint("check that the address is rwasm's")
}
