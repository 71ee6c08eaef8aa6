//! Parameters of a request, read strictly, and pages of lists.

use std::{collections::BTreeMap, fmt::Display, str::FromStr};

use axum::{
    extract::{FromRequestParts, Query},
    http::request::Parts,
};
use rwasm_types::{Code, Error, Result, api::Listing};
use serde::Serialize;

use crate::reply::Failure;

/// Rows of a page where nothing else is asked for, and the most.
const ROWS: usize = 100;
const ROWS_MAX: usize = 1_000;
/// The most characters of a text to search for.
const TEXT_CHARS_MAX: usize = 200;

/// A part of a list.
#[derive(Debug, Serialize)]
pub(crate) struct Page<T> {
    rows: Vec<T>,
    /// How many there are in all, on all pages.
    total: u64,
    /// What could not be asked, one line each; empty when the answer is whole.
    missing: Vec<String>,
    /// Where the next page begins: the parameter `after` of the request for it. Absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

impl<T> Page<T> {
    /// A page of a list that was asked for one row more than the page shows.
    pub(crate) fn of(listing: Listing<T>, limit: usize, place: impl Fn(&T) -> String) -> Self {
        let Listing { mut rows, total, missing } = listing;
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = rows.last().filter(|_| more).map(place);
        Self { rows, total, missing, next }
    }
}

/// The parameters of a request, taken out one by one.
#[derive(Debug)]
pub(crate) struct Params(BTreeMap<String, String>);

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let pairs = Query::<Vec<(String, String)>>::from_request_parts(parts, state).await;
        let Query(pairs) = pairs.map_err(|rejection| Error::new(Code::INVALID_ARGUMENT, rejection.to_string()))?;
        let mut params = BTreeMap::new();
        for (name, value) in pairs {
            if params.contains_key(&name) {
                return Err(wrong(&name, "it comes twice").into());
            }
            params.insert(name, value);
        }
        Ok(Self(params))
    }
}

impl Params {
    /// A parameter of a type.
    pub(crate) fn take<T: FromStr<Err: Display>>(&mut self, name: &str) -> Result<Option<T>> {
        self.0.remove(name).map(|text| text.parse().map_err(|error: T::Err| wrong(name, error))).transpose()
    }

    /// A text to search for; an empty one is none.
    pub(crate) fn text(&mut self, name: &str) -> Result<Option<String>> {
        match self.0.remove(name).filter(|text| !text.is_empty()) {
            Some(text) if text.chars().count() > TEXT_CHARS_MAX => Err(wrong(name, format!("it may have {TEXT_CHARS_MAX} characters"))),
            text => Ok(text),
        }
    }

    /// How many rows a page shows.
    pub(crate) fn limit(&mut self) -> Result<usize> {
        self.limit_to(ROWS, ROWS_MAX)
    }

    /// The same, with other bounds.
    pub(crate) fn limit_to(&mut self, default: usize, most: usize) -> Result<usize> {
        match self.take::<usize>("limit")? {
            Some(limit) if !(1..=most).contains(&limit) => Err(wrong("limit", format!("it is from 1 to {most}"))),
            limit => Ok(limit.unwrap_or(default)),
        }
    }

    /// Refuses what was not taken: a filter that is spelt wrongly must not show everything.
    pub(crate) fn done(self) -> Result<()> {
        match self.0.keys().next() {
            Some(name) => Err(wrong(name, "there is no such parameter")),
            None => Ok(()),
        }
    }
}

fn wrong(name: &str, why: impl Display) -> Error {
    Error::new(Code::INVALID_ARGUMENT, format!("the parameter `{}`: {why}", name.chars().take(80).collect::<String>()))
        .with("parameter", name)
}

/// The id in a path.
pub(crate) fn id<T: FromStr<Err: Display>>(text: &str) -> Result<T> {
    text.parse().map_err(|error: T::Err| Error::new(Code::INVALID_ARGUMENT, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(pairs: &[(&str, &str)]) -> Params {
        Params(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn a_page_says_where_the_next_begins() {
        let listing = |count: u32| Listing { rows: (0..count).collect(), total: 9, missing: Vec::new() };
        let page = Page::of(listing(3), 2, u32::to_string);
        assert_eq!((page.rows, page.total, page.next), (vec![0, 1], 9, Some("1".to_owned())));
        assert_eq!(Page::of(listing(2), 2, u32::to_string).next, None);
        assert_eq!(Page::of(listing(0), 2, u32::to_string).next, None);
    }

    #[test]
    fn parameters_are_read_strictly() {
        assert_eq!(params(&[("a", "7")]).take::<u32>("a").unwrap(), Some(7));
        assert_eq!(params(&[]).take::<u32>("a").unwrap(), None);
        assert!(params(&[("a", "")]).take::<u32>("a").is_err());
        assert_eq!(params(&[("q", "")]).text("q").unwrap(), None);
        assert!(params(&[("q", &"é".repeat(200))]).text("q").is_ok());
        assert!(params(&[("q", &"é".repeat(201))]).text("q").is_err());
        for bad in ["0", "1001", "-1", "x", ""] {
            assert!(params(&[("limit", bad)]).limit().is_err(), "{bad}");
        }
        assert_eq!(params(&[("stat", "failed")]).done().unwrap_err().field("parameter"), Some("stat"));
    }
}
