//! Words and signs.

use std::ops::Range;

use super::Misread;

/// The longest filter that is read.
const LONGEST_BYTES: usize = 16 * 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token<'t> {
    pub(super) kind: Kind<'t>,
    pub(super) at: Range<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind<'t> {
    And,
    Or,
    Not,
    Open,
    Close,
    /// A keyword, name, number or address.
    Word(&'t str),
}

pub(super) fn tokens(text: &str) -> Result<Vec<Token<'_>>, Misread> {
    if text.len() > LONGEST_BYTES {
        let what = format!("a filter has at most {LONGEST_BYTES} bytes");
        return Err(Misread::new(0..1, what, None));
    }
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let start = text.len() - rest.len();
        let word = rest.len() - rest.trim_start_matches(is_of_word).len();
        let (kind, length) = match c {
            c if c.is_whitespace() => {
                rest = &rest[c.len_utf8()..];
                continue;
            }
            '(' => (Kind::Open, 1),
            ')' => (Kind::Close, 1),
            '&' if rest.starts_with("&&") => (Kind::And, 2),
            '|' if rest.starts_with("||") => (Kind::Or, 2),
            '!' if !rest.starts_with("!=") => (Kind::Not, 1),
            _ if word > 0 => match &rest[..word] {
                "and" => (Kind::And, word),
                "or" => (Kind::Or, word),
                "not" => (Kind::Not, word),
                other => (Kind::Word(other), word),
            },
            c => {
                let at = start..start + c.len_utf8();
                return Err(Misread::new(at, format!("`{c}` is not a sign of filters"), hint(c)));
            }
        };
        tokens.push(Token { kind, at: start..start + length });
        rest = &rest[length..];
    }
    Ok(tokens)
}

fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '.' | ':' | '/' | '-' | '_' | '%' | '\\')
}

fn hint(c: char) -> Option<String> {
    let hint = match c {
        '[' | ']' | '=' | '<' | '>' | '!' | '+' | '*' => {
            "bytes of packets are not compared here: capture more, and choose with `tshark -r FILE -Y …`"
        }
        '&' | '|' => "write `and`, `or`, `&&` or `||`",
        _ => return None,
    };
    Some(hint.to_owned())
}
