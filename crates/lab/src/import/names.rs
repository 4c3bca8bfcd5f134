//! Names that labs allow, each given once.

use std::collections::HashSet;

use model::IfName;

/// A name and a number behind it still fit into the 40 characters that a machine's name may have.
const LONGEST: usize = 36;

/// The names that are given away.
#[derive(Debug, Default)]
pub(super) struct Names {
    machines: HashSet<String>,
}

impl Names {
    /// A machine's name, as near to what the thing is called as a name may be.
    pub(super) fn machine(&mut self, called: &str, otherwise: &str) -> String {
        let name = clean(called, LONGEST);
        let name = if name.is_empty() { otherwise.to_owned() } else { name };
        let others = (2..).map(|number| format!("{name}-{number}"));
        let mut candidates = std::iter::once(name.clone()).chain(others);
        candidates.find(|name| self.machines.insert(name.clone())).unwrap_or_default()
    }
}

/// An interface's name as a link's words can have it: the kernel allows what separates those.
pub(super) fn interface(name: &str, index: u32) -> IfName {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '@');
    let plain = name.parse().ok().filter(|name: &IfName| {
        let text = name.as_str();
        text.chars().all(is_plain) && !text.contains("--") && !text.ends_with('-')
    });
    plain.unwrap_or_else(|| IfName::new(format!("if{index}")).expect("twelve letters and digits at most"))
}

/// Letters, digits and single dashes, dots and underscores between them.
fn clean(text: &str, longest: usize) -> String {
    let mut name = String::new();
    for c in text.chars() {
        let c = if c.is_ascii_alphanumeric() || matches!(c, '_' | '.') { c } else { '-' };
        let is_inner = !name.is_empty() && !name.ends_with(['-', '_', '.']);
        if name.len() < longest && (c.is_ascii_alphanumeric() || is_inner) {
            name.push(c);
        }
    }
    name.truncate(name.trim_end_matches(['-', '_', '.']).len());
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_valid_and_given_once() {
        let mut names = Names::default();
        let mut name = |called: &str| names.machine(called, "pod");
        let given = [name("web-0"), name("web-0"), name("../a--b\u{202e}!"), name("\x1b[31m"), name("日本")];
        assert_eq!(given, ["web-0", "web-0-2", "a-b", "31m", "pod"]);
        let long = name(&"x".repeat(100));
        assert!(crate::name::check(&long).is_ok() && crate::name::check(&name(&"x".repeat(100))).is_ok());
    }

    #[test]
    fn interfaces_that_would_end_a_links_words_get_other_names() {
        for bad in ["a--b", "veth-", "ä", "", "sixteen_bytes_xx", "a\u{a0}b"] {
            assert_eq!(interface(bad, 7).as_str(), "if7", "{bad}");
        }
        assert_eq!(interface("eth0.100", 7).as_str(), "eth0.100");
    }
}
