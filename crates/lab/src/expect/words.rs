//! A sentence's words, and where they are.

use super::ExpectError;
use crate::topology::{nearest, printable};

/// A word and its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Word<'a> {
    pub(super) text: &'a str,
    /// In characters, from 1.
    pub(super) column: usize,
}

impl Word<'_> {
    /// An error about this word.
    pub(super) fn wrong(&self, what: impl Into<String>, hint: impl Into<String>) -> ExpectError {
        ExpectError { column: self.column, what: what.into(), hint: Some(hint.into()) }
    }

    /// The word as it may be printed, between backquotes.
    pub(super) fn shown(&self) -> String {
        format!("`{}`", printable(self.text))
    }

    /// "did you mean …?", or else what there is.
    pub(super) fn suggest<'n>(&self, names: impl Iterator<Item = &'n str> + Clone) -> String {
        const LISTED: usize = 8;
        match nearest(self.text, names.clone()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => {
                let mut listed: Vec<&str> = names.clone().take(LISTED).collect();
                if names.count() > LISTED {
                    listed.push("…");
                }
                if listed.is_empty() {
                    "there are none".to_owned()
                } else {
                    format!("there are {}", listed.join(", "))
                }
            }
        }
    }
}

/// The words that are still to be read.
#[derive(Debug)]
pub(super) struct Words<'a> {
    words: std::vec::IntoIter<Word<'a>>,
    /// The place behind the last one.
    end: usize,
}

impl<'a> Words<'a> {
    /// Splits at blanks, and around arrows that are not a URL's.
    pub(super) fn of(sentence: &'a str) -> Self {
        let mut words = Vec::new();
        let mut begin = None;
        let mut rest = 0;
        for (place, c) in sentence.char_indices() {
            if place < rest {
                continue;
            }
            let in_url = begin.is_some_and(|begin: usize| sentence[begin..place].contains("://"));
            let is_arrow = !in_url && sentence[place..].starts_with("->");
            if c.is_whitespace() || is_arrow {
                words.extend(begin.take().map(|begin| (begin, place)));
            } else {
                begin.get_or_insert(place);
            }
            if is_arrow {
                words.push((place, place + 2));
                rest = place + 2;
            }
        }
        words.extend(begin.map(|begin| (begin, sentence.len())));
        let word = |(begin, end): (usize, usize)| Word {
            text: &sentence[begin..end],
            column: sentence[..begin].chars().count() + 1,
        };
        let words: Vec<Word<'a>> = words.into_iter().map(word).collect();
        Self { words: words.into_iter(), end: sentence.trim_end().chars().count() + 1 }
    }

    pub(super) fn next(&mut self) -> Option<Word<'a>> {
        self.words.next()
    }

    /// The next word; it is missing: says so, with the form as a hint.
    pub(super) fn need(&mut self, what: &str, form: &str) -> Result<Word<'a>, ExpectError> {
        let end = Word { text: "", column: self.end };
        self.next().ok_or_else(|| end.wrong(format!("{what} is missing"), format!("write `{form}`")))
    }

    pub(super) fn peek(&self) -> Option<Word<'a>> {
        self.words.as_slice().first().copied()
    }

    /// Reads the next word if it is this one.
    pub(super) fn take(&mut self, text: &str) -> Option<Word<'a>> {
        self.peek().filter(|word| word.text == text)?;
        self.next()
    }

    /// Reads a word that has to be this one.
    pub(super) fn expect(&mut self, text: &str, form: &str) -> Result<Word<'a>, ExpectError> {
        let word = self.need(&format!("`{text}`"), form)?;
        match word.text == text {
            true => Ok(word),
            false => Err(word
                .wrong(format!("{} where `{text}` was expected", word.shown()), format!("write `{form}`"))),
        }
    }
}
