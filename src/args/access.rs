//! The grammar of who may do what: `tenant`, `token`, and looking into another tenant.

use std::time::Duration;

use clap::{Args, Subcommand};
use rwasm_types::{Destinations, Name, Role, Tenant, TokenId, VolumeRule, parse_duration};

use super::TargetArgs;

/// Where the cluster is, and whose belongings are meant.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ViewArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// Another tenant than the token's; for operators and admins
    #[arg(long, value_name = "NAME", help_heading = "Global options")]
    pub(crate) tenant: Option<Tenant>,
}

#[derive(Debug, Args)]
pub(crate) struct TenantArgs {
    #[command(subcommand)]
    pub(crate) command: TenantCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TenantCommand {
    /// Create a tenant; its guests may be granted nothing until a policy is set
    Create {
        /// Its name
        tenant: Tenant,
        #[command(flatten)]
        target: TargetArgs,
    },
    /// List tenants
    List {
        #[command(flatten)]
        target: TargetArgs,
    },
    /// Delete a tenant with its tokens, artifacts, jobs and output; its name is not given again
    Delete {
        /// Which
        tenant: Tenant,
        /// Also if it has work that runs or waits, which is stopped
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        target: TargetArgs,
    },
    /// Set or show what a tenant's guests may be granted
    Policy {
        #[command(subcommand)]
        command: PolicyCommand,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Set the whole policy; without options, nothing may be granted
    Set {
        /// Whose
        tenant: Tenant,
        /// A volume of nodes, or `*` for all; with `:ro`, to be read only
        #[arg(long, value_name = "NAME[:ro]")]
        volume: Vec<VolumeRule>,
        /// Network destinations: HOST:PORT, *.DOMAIN:PORT, *:PORT, and `*` for all ports
        #[arg(long, value_name = "HOST:PORT")]
        allow_net: Vec<Destinations>,
        /// Whatever nodes offer
        #[arg(long, conflicts_with_all = ["volume", "allow_net"])]
        open: bool,
        /// How much of the cluster it gets in relation to others where there is not enough for all, from 1 to 1,000; 1 by default
        #[arg(long, value_name = "N")]
        weight: Option<u32>,
        #[command(flatten)]
        target: TargetArgs,
    },
    /// Show the policy
    Show {
        /// Whose; the token's own tenant without it
        tenant: Option<Tenant>,
        #[command(flatten)]
        target: TargetArgs,
    },
}

#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    #[command(subcommand)]
    pub(crate) command: TokenCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Create a token and print it, once
    Create {
        /// For which tenant; our own token's without it
        #[arg(long, value_name = "NAME")]
        tenant: Option<Tenant>,
        /// What it may do: viewer, submitter, operator or admin
        #[arg(long, default_value = "submitter")]
        role: Role,
        /// How long it is good, as 12h or 30d; for ever without it
        #[arg(long, value_name = "TIME", value_parser = parse_duration)]
        expires: Option<Duration>,
        /// A name for people
        #[arg(long)]
        name: Option<Name>,
        #[command(flatten)]
        target: TargetArgs,
    },
    /// Revoke a token; its sessions end at once
    Revoke {
        /// Its id, as `token list` shows it
        token: TokenId,
        #[command(flatten)]
        target: TargetArgs,
    },
    /// List tokens, newest first
    List {
        /// Only those of a tenant
        #[arg(long, value_name = "NAME")]
        tenant: Option<Tenant>,
        #[command(flatten)]
        target: TargetArgs,
    },
    /// Make a token with which one node can join a cluster with TLS, once; or several nodes, as many as --nodes says
    Join {
        /// How long it is good for
        #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "1h")]
        expires: Duration,
        /// How many nodes it is good for, up to 10,000
        #[arg(long, value_name = "N", default_value_t = 1)]
        nodes: u32,
        #[command(flatten)]
        target: TargetArgs,
    },
}
