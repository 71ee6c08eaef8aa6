//! The dashboard: pages for a browser, REST and metrics for machines.
//!
//! ```text
//! browser, curl ─▶ server ─▶ guard ─▶ api ─▶ Cluster::enter(token) ─▶ Access: ask, describe, upload, run, logs
//!                    │       host,     │
//! Prometheus ────────┘       origin    └─ ui: the committed bundle
//! ```
//!
//! It decides nothing and has no rights of its own: every request acts with the token that its visitor showed, through [`Access`], which
//! whoever starts the dashboard provides. So the room knows no gateway, no wire and no engine, and its tests run on a cluster of their own
//! making.

#![forbid(unsafe_code)]

mod api;
mod app;
mod cluster;
mod guard;
mod live;
mod metrics;
mod page;
mod reply;
mod results;
mod routes;
mod server;
mod session;
mod ui;

use std::sync::Arc;

use rwasm_runtime::Scope;
use rwasm_types::metrics::Family;
use tokio::net::TcpListener;

use self::app::App;
pub use self::cluster::{Access, Cluster, LogLines, LogRequest, Output, Running, TaskResult, Uploaded, Visitor, Work};

/// Families of one part of the process, put together at each scrape.
pub type Source = Box<dyn Fn() -> Vec<Family> + Send + Sync>;

/// How a dashboard is set up.
pub struct DashboardOptions {
    /// The cluster's id; cookies are named after it, so that two clusters on one machine do not sign each other out.
    pub cluster_id: String,
    /// What is shown.
    pub cluster: Arc<dyn Cluster>,
    /// The largest artifact that is taken, in bytes.
    pub artifact_bytes_max: u64,
    /// What `/metrics` tells beside the dashboard's own.
    pub metrics: Vec<Source>,
}

impl std::fmt::Debug for DashboardOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DashboardOptions").field("cluster_id", &self.cluster_id).finish_non_exhaustive()
    }
}

/// Serves the dashboard on a bound listener until `scope` is shut down.
pub fn serve(options: DashboardOptions, listener: TcpListener, scope: &Scope) {
    let inner = scope.child();
    let app = Arc::new(App::new(options, inner.clone()));
    server::spawn("dashboard", listener, routes::dashboard(app), scope, inner);
}

/// Serves `/metrics` and `/healthz` alone: what a node without a dashboard has.
pub fn serve_metrics(metrics: Vec<Source>, listener: TcpListener, scope: &Scope) {
    server::spawn("metrics", listener, routes::metrics_only(metrics), scope, scope.child());
}
