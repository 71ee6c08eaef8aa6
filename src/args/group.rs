//! The grammar of `placement-group`.

use clap::{Args, Subcommand};
use rwasm_types::{Code, Error, GroupStrategy, LabelSelector, Name, Priority, Quantity, ResourceSet, Result, parse_bytes};

use super::{TargetArgs, ViewArgs, priority};

#[derive(Debug, Args)]
pub(crate) struct GroupArgs {
    #[command(subcommand)]
    pub(crate) command: GroupCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum GroupCommand {
    /// Reserve bundles of resources together, or none of them
    Create(CreateGroupArgs),
    /// Show placement groups and where their bundles are
    List {
        #[command(flatten)]
        view: ViewArgs,
    },
    /// Remove a placement group, and end what runs in it
    Remove {
        /// Its name
        name: Name,
        #[command(flatten)]
        target: TargetArgs,
    },
}

#[derive(Debug, Args)]
pub(crate) struct CreateGroupArgs {
    /// A name for it
    pub(crate) name: Name,
    /// What a bundle reserves, as 'cpu=2,gpu=0.5,memory=1GiB,license=1'; once for each bundle
    #[arg(long, value_name = "RESOURCES", required = true, value_parser = bundle)]
    pub(crate) bundle: Vec<ResourceSet>,
    /// How bundles are laid over nodes: pack, spread, strict-pack (all on one), strict-spread (each on another)
    #[arg(long, default_value_t = GroupStrategy::Pack)]
    pub(crate) strategy: GroupStrategy,
    /// A condition on labels of every bundle's node, as of `submit`
    #[arg(long, value_name = "CONDITION")]
    pub(crate) label: Vec<LabelSelector>,
    /// Who goes first, -100 to 100
    #[arg(long, value_name = "N", default_value = "0", allow_negative_numbers = true, value_parser = priority)]
    pub(crate) priority: Priority,
    /// Wait until all bundles have a node, and for nodes that can hold them where none can
    #[arg(long)]
    pub(crate) wait: bool,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

/// Reads what a bundle reserves.
fn bundle(text: &str) -> Result<ResourceSet> {
    let wrong = |why: &str| {
        Error::new(Code::INVALID_ARGUMENT, format!("`{text}` is no bundle: {why}")).hint("write 'cpu=2,gpu=0.5,memory=1GiB,license=1'")
    };
    let mut bundle = ResourceSet::default();
    for part in text.split(',') {
        let (name, amount) = part.split_once('=').ok_or_else(|| wrong("each part is NAME=AMOUNT"))?;
        let (name, amount) = (name.trim(), amount.trim());
        let quantity = || amount.parse::<Quantity>().map_err(|error| wrong(&error.to_string()));
        match name {
            "cpu" => bundle.cpu = quantity()?,
            "gpu" => bundle.gpu = quantity()?,
            "memory" => bundle.memory = parse_bytes(amount).map_err(|error| wrong(&error.to_string()))?,
            custom => {
                let custom = Name::new(custom).map_err(|error| wrong(&error.to_string()))?;
                bundle.custom.insert(custom, quantity()?);
            }
        }
    }
    bundle.checked()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_names_what_it_reserves() {
        assert_eq!(bundle("cpu=2, gpu=0.5,memory=1GiB,license=1").unwrap().to_string(), "cpu 2, gpu 0.5, memory 1GiB, license 1");
        for text in ["", "cpu", "cpu=x", "cpu=-1", "cpu=NaN", "cpu=1e99", "memory=lots", "a b=1"] {
            assert_eq!(bundle(text).unwrap_err().code(), Code::INVALID_ARGUMENT, "{text:?}");
        }
    }
}
