//! The pages: a bundle that is built from `ui/` and committed, so that building this program needs no other tools.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

use crate::{app::Headers, reply::with_type};

/// A file of the bundle.
struct Asset {
    kind: &'static str,
    bytes: &'static [u8],
}

const INDEX: Asset = Asset { kind: "text/html; charset=utf-8", bytes: include_bytes!("../ui/dist/index.html") };
const SCRIPT: Asset = Asset { kind: "text/javascript; charset=utf-8", bytes: include_bytes!("../ui/dist/app.js") };
const STYLE: Asset = Asset { kind: "text/css; charset=utf-8", bytes: include_bytes!("../ui/dist/app.css") };
const ICON: Asset = Asset { kind: "image/svg+xml", bytes: include_bytes!("../ui/dist/icon.svg") };

impl Asset {
    /// The file, or that it has not changed since the browser fetched it.
    fn answer(&self, Headers(headers): Headers) -> Response {
        let tag = format!("\"{}\"", &blake3::hash(self.bytes).to_hex()[..32]);
        let known = headers.get(header::IF_NONE_MATCH).is_some_and(|value| value.as_bytes() == tag.as_bytes());
        let mut response = if known { StatusCode::NOT_MODIFIED.into_response() } else { with_type(self.kind, self.bytes) };
        let fixed = [(header::ETAG, HeaderValue::from_str(&tag)), (header::CACHE_CONTROL, HeaderValue::from_str("no-cache"))];
        for (name, value) in fixed {
            if let Ok(value) = value {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
}

pub(crate) async fn index(headers: Headers) -> Response {
    INDEX.answer(headers)
}

pub(crate) async fn script(headers: Headers) -> Response {
    SCRIPT.answer(headers)
}

pub(crate) async fn style(headers: Headers) -> Response {
    STYLE.answer(headers)
}

pub(crate) async fn icon(headers: Headers) -> Response {
    ICON.answer(headers)
}
