//! Tests of the room through its one door, as one program.

#![cfg(test)]

mod common;
mod golden;
mod hostile;
mod kinds;
mod refused;
mod roles;
