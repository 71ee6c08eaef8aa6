//! The journal on real files: killed processes, files that are not whole or not ours, the file of the first version.

#![cfg(test)]

mod files;
mod full;
mod golden;
mod kill;
mod snapshot;
