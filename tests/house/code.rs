//! Just enough of Rust's grammar to tell code from what is written in it: comments and literals are blanked, and what is left has words.

/// A Rust text with its comments and literals as blanks; lines stay where they are.
pub(crate) fn without_comments_and_literals(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = skip(&chars, at);
        if end == at {
            out.push(chars[at]);
            at += 1;
        } else {
            out.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    out
}

/// The words of a text, identifiers and keywords, each with the number of its line.
pub(crate) fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..)
        .zip(text.lines())
        .flat_map(|(number, line)| line.split(|c: char| !is_word(c)).filter(|word| !word.is_empty()).map(move |word| (number, word)))
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Where the comment or literal that begins here ends; here itself, if none does.
fn skip(chars: &[char], at: usize) -> usize {
    let starts = |text: &str| text.chars().enumerate().all(|(offset, c)| chars.get(at + offset) == Some(&c));
    let begins_word = at == 0 || !is_word(chars[at - 1]);
    match chars[at] {
        '/' if starts("//") => line_end(chars, at),
        '/' if starts("/*") => comment_end(chars, at),
        '"' => string_end(chars, at),
        '\'' => char_end(chars, at),
        'r' | 'b' | 'c' if begins_word => raw_string_end(chars, at),
        _ => at,
    }
}

fn line_end(chars: &[char], at: usize) -> usize {
    chars[at..].iter().position(|c| *c == '\n').map_or(chars.len(), |offset| at + offset)
}

/// Block comments nest.
fn comment_end(chars: &[char], mut at: usize) -> usize {
    let mut depth = 0;
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at.min(chars.len())
}

fn string_end(chars: &[char], quote: usize) -> usize {
    let mut at = quote + 1;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

/// A lifetime has no second quote after its first character.
fn char_end(chars: &[char], quote: usize) -> usize {
    if chars.get(quote + 1) == Some(&'\\') {
        let closing = chars.iter().skip(quote + 3).position(|c| *c == '\'');
        return closing.map_or(quote, |offset| quote + 3 + offset + 1);
    }
    if chars.get(quote + 2) == Some(&'\'') { quote + 3 } else { quote }
}

/// `r"…"`, `br#"…"#` and the like. The plain forms `b"…"` and `c"…"` are found by their quote, and leave their letter.
fn raw_string_end(chars: &[char], at: usize) -> usize {
    let r = if chars[at] == 'r' { at } else { at + 1 };
    if chars.get(r) != Some(&'r') {
        return at;
    }
    let hashes = chars[r + 1..].iter().take_while(|c| **c == '#').count();
    let quote = r + 1 + hashes;
    if chars.get(quote) != Some(&'"') {
        return at;
    }
    let closes = |end: usize| chars[end] == '"' && chars[end + 1..].iter().take_while(|c| **c == '#').count() >= hashes;
    (quote + 1..chars.len()).find(|end| closes(*end)).map_or(chars.len(), |end| end + 1 + hashes)
}

#[test]
fn only_code_has_words() {
    let of = |text: &str| words(&without_comments_and_literals(text)).map(|(_, word)| word.to_owned()).collect::<Vec<_>>().join(" ");
    for (text, code) in [
        ("a // b\nc /* d /* e */ f */ g", "a c g"),
        (r#"a("b \" c", 'd', '\'', '\u{e9}') f"#, "a f"),
        (r##"a(r"b", br#"c " d"#, b"e", b'f', cr"g") h"##, "a b b h"),
        ("fn a<'b>(c: &'b str) -> r#type", "fn a b c b str r type"),
        ("bar(\"x\"), attr\"y\" z", "bar attr z"),
        ("unterminated \" a b", "unterminated"),
        ("/* unterminated", ""),
    ] {
        assert_eq!(of(text), code, "{text}");
    }
    let blanked = without_comments_and_literals("a\n\"b\nc\"\nd");
    assert_eq!(words(&blanked).collect::<Vec<_>>(), [(1, "a"), (4, "d")]);
}
