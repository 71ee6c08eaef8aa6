//! The tasks of {{name}}: every exported function is one.

use std::collections::BTreeMap;

/// Counts how often each word occurs, in lower case.
#[rwasm::export]
fn count_words(text: &str) -> Vec<(String, u32)> {
    let mut counts = BTreeMap::new();
    let words = text.split(|c: char| !c.is_alphanumeric());
    for word in words.filter(|word| !word.is_empty()) {
        *counts.entry(word.to_lowercase()).or_default() += 1;
    }
    rwasm::log::info!("{} different words", counts.len());
    counts.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_counted_in_any_case() {
        let counts = count_words("To be, or not to BE");
        let expected = [("be", 2), ("not", 1), ("or", 1), ("to", 2)];
        let expected = expected.map(|(word, count)| (word.to_owned(), count));
        assert_eq!(counts, expected);
        assert_eq!(rwasm::testing::take_log().len(), 1);
        assert!(count_words("").is_empty());
    }
}
