//! Finds the fields, cases and flags of types by name while texts are read, in constant time however many a type has, so that a type
//! of many names and a text of many values cannot keep a reader busy for long.

use std::collections::HashMap;

use crate::{Case, Field, Label};

/// The most names that are searched one by one.
const SEARCHED_MAX: usize = 16;

/// A part of a type with a name.
pub(crate) trait Named {
    fn name(&self) -> &Label;
}

impl Named for Label {
    fn name(&self) -> &Label {
        self
    }
}

impl Named for Field {
    fn name(&self) -> &Label {
        &self.name
    }
}

impl Named for Case {
    fn name(&self) -> &Label {
        &self.name
    }
}

/// The names of all large types that were met in one text.
#[derive(Debug, Default)]
pub(crate) struct NameIndex<'t> {
    /// By the address of the type's names, which outlive the index.
    tables: HashMap<*const (), HashMap<&'t str, u32>>,
}

impl<'t> NameIndex<'t> {
    /// The number of a name.
    pub(crate) fn find<T: Named>(&mut self, parts: &'t [T], name: &str) -> Option<u32> {
        if parts.len() <= SEARCHED_MAX {
            return (0..).zip(parts).find(|(_, part)| *part.name() == *name).map(|(number, _)| number);
        }
        let table = || (0..).zip(parts).map(|(number, part)| (part.name().as_str(), number)).collect();
        self.tables.entry(parts.as_ptr().cast()).or_insert_with(table).get(name).copied()
    }
}
