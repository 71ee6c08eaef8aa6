//! End to end: the program as people run it, in real processes on loopback. Nothing here calls a library of ours, but for `isolation` and `owners`.

#![cfg(test)]

mod access;
mod actors;
mod artifacts;
mod bad_input;
mod bench;
mod call;
mod containers;
mod dashboard;
mod doctor;
mod drain;
mod evil;
mod faults;
mod find;
mod flights;
mod grants;
mod harness;
mod history;
mod isolation;
mod jobs;
mod left;
mod limits;
mod map;
mod nodes;
mod objects;
mod output;
mod owners;
mod placement;
mod reclaim;
mod refs;
mod relay;
mod shell;
mod shipping;
mod state;
mod tasks;
mod tls;
