//! How the names of core functions become names of the component model.

use rwasm_values::Label;

/// The name of a core function as a name of the component model: `add_two`, `addTwo` and `add.two` become `add-two`.
///
/// Words are divided by anything that is no ASCII letter or digit, and before an upper-case letter that follows a lower-case letter or a
/// digit; all become lower case. `None` if nothing is left that begins with a letter, or if the name is not ASCII.
pub(crate) fn kebab(name: &str) -> Option<Label> {
    if !name.is_ascii() {
        return None;
    }
    let mut text = String::with_capacity(name.len());
    let mut before = '-';
    for c in name.chars() {
        let boundary = c.is_ascii_uppercase() && (before.is_ascii_lowercase() || before.is_ascii_digit());
        if !text.is_empty() && !text.ends_with('-') && (boundary || !c.is_ascii_alphanumeric()) {
            text.push('-');
        }
        if c.is_ascii_alphanumeric() {
            text.push(c.to_ascii_lowercase());
        }
        before = c;
    }
    Label::new(text.trim_end_matches('-')).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (name, expected) in [
            ("add", Some("add")),
            ("add_two", Some("add-two")),
            ("add-two", Some("add-two")),
            ("addTwo", Some("add-two")),
            ("AddTwo", Some("add-two")),
            ("add.two", Some("add-two")),
            ("_add__two_", Some("add-two")),
            ("math/add#1", Some("math-add-1")),
            ("HTTPGet", Some("httpget")),
            ("fib2Iter", Some("fib2-iter")),
            ("a1", Some("a1")),
            ("add_2", Some("add-2")),
            ("1st", None),
            ("", None),
            ("___", None),
            ("äpfel", None),
            ("add two", Some("add-two")),
        ] {
            assert_eq!(kebab(name).as_deref(), expected, "{name:?}");
        }
    }
}
