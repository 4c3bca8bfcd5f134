//! Words, widths and colours.

use model::Gap;

use super::COLUMNS;

/// Whether to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paint {
    /// ANSI escapes are welcome.
    pub color: bool,
}

impl Paint {
    /// No escapes at all.
    pub const PLAIN: Paint = Paint { color: false };

    /// What is wrong.
    pub fn red(self, text: &str) -> String {
        self.escape("1;31", text)
    }

    /// What may be wrong.
    pub fn yellow(self, text: &str) -> String {
        self.escape("33", text)
    }

    /// What is fine.
    pub fn green(self, text: &str) -> String {
        self.escape("32", text)
    }

    /// What a text is about.
    pub fn bold(self, text: &str) -> String {
        self.escape("1", text)
    }

    /// What matters less.
    pub fn dim(self, text: &str) -> String {
        self.escape("2", text)
    }

    fn escape(self, code: &str, text: &str) -> String {
        if self.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Cuts every hexadecimal id of 20 or more digits in the text to its first 12.
pub(super) fn shorten(text: &str) -> String {
    let mut short = String::with_capacity(text.len());
    let mut run = String::new();
    let flush = |run: &mut String, short: &mut String| {
        if run.len() >= 20 {
            short.push_str(&run[..12]);
            short.push('…');
        } else {
            short.push_str(run);
        }
        run.clear();
    };
    for c in text.chars() {
        if c.is_ascii_hexdigit() {
            run.push(c);
        } else {
            flush(&mut run, &mut short);
            short.push(c);
        }
    }
    flush(&mut run, &mut short);
    printable(&short)
}

/// Names on disk and command lines are other people's: control characters in them must not reach a terminal, nor those that turn
/// the direction of what follows (UAX #9) and so could show one name as another.
pub fn printable(text: &str) -> String {
    let turns = |c| matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|c| if c.is_control() || turns(c) { '\u{fffd}' } else { c }).collect()
}

/// Appends `text` after `head` (already written, `indent` wide), wrapped at spaces with a hanging indent.
pub(super) fn hang(out: &mut String, head: &str, indent: usize, text: &str) {
    out.push_str(head);
    let mut column = indent;
    let mut first = true;
    for word in text.split(' ') {
        let width = word.chars().count();
        if !first && column + 1 + width > COLUMNS {
            out.push('\n');
            out.push_str(&" ".repeat(indent));
            column = indent;
        } else if !first {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += width;
        first = false;
    }
    out.push('\n');
}

/// Columns as wide as their widest cell, two spaces apart; the last one is not padded.
pub fn columns(out: &mut String, indent: usize, rows: &[Vec<String>]) {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |at: usize| rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..count).map(|at| width(at).unwrap_or(0)).collect();
    for row in rows {
        let mut line = " ".repeat(indent);
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.push_str(&" ".repeat(width + 2 - cell.chars().count()));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
}

/// What could not be read; empty when there is nothing to say.
pub fn coverage(gaps: &[Gap]) -> String {
    let mut out = String::new();
    if gaps.is_empty() {
        return out;
    }
    out.push_str("not seen:\n");
    const SHOWN: usize = 12;
    for gap in gaps.iter().take(SHOWN) {
        let head = format!("  {:<12}", gap.source);
        hang(&mut out, &head, head.chars().count(), &shorten(&format!("{}: {}", gap.object, gap.why)));
    }
    if gaps.len() > SHOWN {
        out.push_str(&format!("  and {} more (podplumb snapshot lists them)\n", gaps.len() - SHOWN));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_cut_and_other_words_are_not() {
        let id = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
        assert_eq!(shorten(&format!("/results/pods-{id}-eth0")), "/results/pods-0123456789ab…-eth0");
        assert_eq!(
            shorten("/run/netns/cni-8d1c0000-1111-2222-3333-444455556666"),
            "/run/netns/cni-8d1c0000-1111-2222-3333-444455556666"
        );
    }

    #[test]
    fn control_characters_do_not_reach_a_terminal() {
        assert_eq!(shorten("a\x1b[31mb"), "a\u{fffd}[31mb");
        assert_eq!(printable("cart\u{202e}bew"), "cart\u{fffd}bew");
    }

    #[test]
    fn long_lines_hang() {
        let mut out = String::new();
        hang(&mut out, "  for   ", 8, "word ".repeat(20).trim_end());
        assert!(out.lines().all(|line| line.chars().count() <= COLUMNS), "{out}");
        assert!(out.lines().nth(1).unwrap().starts_with("        word"), "{out}");
    }
}
