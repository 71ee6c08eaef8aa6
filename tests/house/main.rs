//! The rules of the house, as tests: which room may use which, what no file may hold, and that the documents say what is.
//!
//! Every rule is a function from a text to complaints. Each is run over the whole repository, and over a sample that breaks it, for a rule
//! that cannot fail says nothing. A rule that is to change is changed here and in ARCHITECTURE.md in one commit.

#![cfg(test)]

mod code;
mod commands;
mod documents;
mod licences;
mod rooms;
mod sources;
mod tree;

/// Fails with every complaint on a line of its own.
///
/// # Panics
///
/// If there is any.
fn no_complaints(complaints: &[String]) {
    assert!(complaints.is_empty(), "{} complaints:\n  {}", complaints.len(), complaints.join("\n  "));
}
