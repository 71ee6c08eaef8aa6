//! Every route there is, in one table: the router is made of it, and a test holds it against the OpenAPI document.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    middleware,
    response::{IntoResponse, Response},
    routing::{delete, get, post},
};
use rwasm_types::{Code, Error};

use crate::{
    Scrapers, Source, Told,
    api::{artifacts, jobs, session, state},
    app::{App, Headers, bearer},
    cluster::Visitor,
    guard::{Guarded, guard},
    metrics::scrape,
    reply::{Failure, Json, with_type},
    ui,
};

/// The description of the routes, as it is served.
const OPENAPI: &str = include_str!("../openapi.json");

macro_rules! routes {
    ($($method:ident $path:literal => $handler:expr;)*) => {
        /// Methods and paths.
        #[cfg(test)]
        const ROUTES: &[(&str, &str)] = &[$((stringify!($method), $path)),*];

        fn described() -> Router<Arc<App>> {
            Router::new()$(.route($path, $method($handler)))*
        }
    };
}

routes! {
    get "/healthz" => healthz;
    get "/metrics" => metrics;
    get "/api/v1/openapi.json" => openapi;
    get "/api/v1/session" => session::who;
    post "/api/v1/session" => session::sign_in;
    delete "/api/v1/session" => session::sign_out;
    get "/api/v1/status" => state::status;
    get "/api/v1/summary" => state::summary;
    get "/api/v1/events" => state::events;
    get "/api/v1/timeline" => state::timeline;
    get "/api/v1/nodes" => state::nodes;
    get "/api/v1/nodes/{node}" => state::node;
    get "/api/v1/tasks" => state::tasks;
    get "/api/v1/tasks/{task}" => state::task;
    get "/api/v1/why/{task}" => state::why;
    get "/api/v1/jobs" => jobs::list;
    post "/api/v1/jobs" => jobs::submit;
    get "/api/v1/jobs/{job}" => jobs::one;
    post "/api/v1/jobs/{job}/stop" => jobs::stop;
    get "/api/v1/jobs/{job}/logs" => jobs::logs;
    get "/api/v1/jobs/{job}/results" => jobs::results;
    get "/api/v1/artifacts" => artifacts::list;
    post "/api/v1/artifacts" => artifacts::upload;
    get "/api/v1/artifacts/{artifact}" => artifacts::one;
}

/// The whole dashboard.
pub(crate) fn dashboard(app: Arc<App>, hosts: Vec<String>) -> Router {
    let guarded = Guarded { served: Arc::clone(&app.served), hosts: hosts.into() };
    described()
        .route("/", get(ui::index))
        .route("/app.js", get(ui::script))
        .route("/app.css", get(ui::style))
        .route("/icon.svg", get(ui::icon))
        .fallback(nothing_here)
        .method_not_allowed_fallback(no_such_method)
        .with_state(app)
        .layer(middleware::from_fn_with_state(guarded, guard))
}

/// Metrics and health alone.
pub(crate) fn metrics_only(sources: Vec<Source>, scrapers: Scrapers, hosts: Vec<String>) -> Router {
    let guarded = Guarded { served: Arc::default(), hosts: hosts.into() };
    let (sources, served) = (Arc::new((sources, scrapers)), Arc::clone(&guarded.served));
    let scrape_for = async move |Headers(headers): Headers| {
        let (sources, scrapers) = &*sources;
        let told = match bearer(&headers)? {
            Some(token) => scrapers(&token)?,
            None => Told::Together,
        };
        Ok::<_, Failure>(scrape(sources, &served, &told))
    };
    Router::new()
        .route("/healthz", get(healthz))
        .route("/metrics", get(scrape_for))
        .fallback(nothing_here)
        .method_not_allowed_fallback(no_such_method)
        .layer(middleware::from_fn_with_state(guarded, guard))
}

async fn healthz() -> Json {
    Json(r#"{"status":"ok"}"#.into())
}

/// What everybody may see; with a token, also what its tenant did.
async fn metrics(State(app): State<Arc<App>>, Headers(headers): Headers) -> Result<Response, Failure> {
    let told = match app.credentials(&headers) {
        Ok(credentials) => {
            let Visitor { tenant, role, .. } = app.admit(&credentials)?;
            Told::to(role, tenant)
        }
        Err(_) if bearer(&headers)?.is_none() => Told::Together,
        Err(error) => return Err(error.into()),
    };
    Ok(scrape(&app.sources, &app.served, &told))
}

async fn openapi() -> Response {
    with_type("application/json", OPENAPI)
}

async fn nothing_here() -> Response {
    Failure(Error::new(Code::NOT_FOUND, "there is nothing at this path").hint("/api/v1/openapi.json lists what there is")).into_response()
}

async fn no_such_method() -> Response {
    Failure(Error::new(Code::METHOD_REFUSED, "the path does not take this method")).into_response()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_document_describes_every_route_and_no_other() {
        let document: serde_json::Value = serde_json::from_str(OPENAPI).unwrap();
        let paths = document["paths"].as_object().unwrap().iter();
        let methods = |(path, item): (&String, &serde_json::Value)| {
            let methods = item.as_object().unwrap().keys().filter(|key| *key != "parameters");
            methods.map(|method| (method.clone(), path.clone())).collect::<Vec<_>>()
        };
        let described: BTreeSet<(String, String)> = paths.flat_map(methods).collect();
        let served: BTreeSet<_> = ROUTES.iter().map(|(method, path)| ((*method).to_owned(), (*path).to_owned())).collect();
        assert_eq!(described, served);
    }
}
