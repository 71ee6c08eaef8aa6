//! End to end: the program as people run it, in real processes on loopback. Nothing here calls a library of ours.

#![cfg(test)]

mod artifacts;
mod bad_input;
mod bench;
mod call;
mod doctor;
mod drain;
mod evil;
mod faults;
mod find;
mod flights;
mod grants;
mod harness;
mod jobs;
mod left;
mod limits;
mod map;
mod output;
mod placement;
mod shell;
mod state;
