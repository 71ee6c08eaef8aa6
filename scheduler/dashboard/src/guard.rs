//! What holds for every request: the host it names must be ours, it must not come from another site, and the answer tells the browser
//! what the page may do.

use std::{net::IpAddr, sync::Arc, time::Instant};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use rwasm_types::{Code, Error, Result};

use crate::{metrics::Served, reply::Failure};

/// What the pages may do: run our scripts and styles, speak with us, and nothing else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; font-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

const HEADERS: [(HeaderName, &str); 6] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// What the guard knows.
#[derive(Clone, Debug)]
pub(crate) struct Guarded {
    pub(crate) served: Arc<Served>,
    /// The names and addresses under which we may be asked for, beside those of loopback.
    pub(crate) hosts: Arc<[String]>,
}

/// Stands before all routes.
pub(crate) async fn guard(State(guarded): State<Guarded>, request: Request, next: Next) -> Response {
    let Guarded { served, hosts } = guarded;
    let begun = Instant::now();
    let mut response = match check(request.method(), request.headers(), &hosts) {
        Ok(()) => next.run(request).await,
        Err(error) => Failure(error).into_response(),
    };
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    // Answers are for who asked, and for now; the bundle says otherwise of itself.
    response.headers_mut().entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    served.count(response.status(), begun.elapsed());
    response
}

fn check(method: &Method, headers: &HeaderMap, hosts: &[String]) -> Result<()> {
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let host = text(header::HOST).unwrap_or_default();
    if !is_ours(host, hosts) {
        let message = format!("the dashboard does not answer to the host `{}`", host.chars().take(80).collect::<String>());
        return Err(Error::new(Code::HOST_REFUSED, message).hint("open it as localhost, or by a name that `rwasm start --advertise` told"));
    }
    let elsewhere = match text(header::ORIGIN) {
        Some(origin) => !same(origin, host),
        None => {
            let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
            !matches!(*method, Method::GET | Method::HEAD) && !matches!(site, None | Some(b"same-origin" | b"none"))
        }
    };
    if elsewhere {
        return Err(Error::new(Code::ORIGIN_REFUSED, "the request comes from a page of another site"));
    }
    Ok(())
}

/// Whether a host is this machine by a name that no stranger can give another machine: a page of a stranger whose name is made to lead
/// here still sends the stranger's name.
fn is_ours(host: &str, hosts: &[String]) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or(rest, |(name, _)| name),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
        || hosts.iter().any(|ours| ours.eq_ignore_ascii_case(name))
}

/// Whether an origin is the host that was asked.
fn same(origin: &str, host: &str) -> bool {
    let rest = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    rest.is_some_and(|rest| rest.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(method: Method, headers: &[(&str, &str)]) -> Option<Code> {
        let pairs = headers.iter().map(|(name, value)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap()));
        check(&method, &pairs.collect(), &["head.example.org".to_owned()]).err().map(|error| error.code())
    }

    #[test]
    fn only_hosts_of_this_machine_are_ours() {
        for host in ["localhost", "LOCALHOST:1", "127.0.0.1:8265", "head.example.org:8265", "127.8.8.8", "[::1]:8265", "[::1]"] {
            assert_eq!(refused(Method::GET, &[("host", host)]), None, "{host}");
        }
        for host in ["", "example.org", "localhost.example.org:8265", "10.0.0.1", "[::2]:1", "127.0.0.1.example.org", "0.0.0.0:8265"] {
            assert_eq!(refused(Method::GET, &[("host", host)]), Some(Code::HOST_REFUSED), "{host}");
        }
    }

    #[test]
    fn other_sites_change_and_read_nothing() {
        let host = ("host", "localhost:8265");
        for origin in ["http://localhost:8265", "https://localhost:8265"] {
            assert_eq!(refused(Method::POST, &[host, ("origin", origin)]), None);
        }
        for origin in ["null", "http://example.org", "http://localhost:8266", "http://localhost", "http://localhost:8265.example.org"] {
            assert_eq!(refused(Method::POST, &[host, ("origin", origin)]), Some(Code::ORIGIN_REFUSED), "{origin}");
            assert_eq!(refused(Method::GET, &[host, ("origin", origin)]), Some(Code::ORIGIN_REFUSED), "{origin}");
        }
        assert_eq!(refused(Method::POST, &[host]), None, "programs say neither");
        assert_eq!(refused(Method::POST, &[host, ("sec-fetch-site", "cross-site")]), Some(Code::ORIGIN_REFUSED));
        assert_eq!(refused(Method::GET, &[host, ("sec-fetch-site", "cross-site")]), None, "a link from elsewhere opens a page");
    }
}
