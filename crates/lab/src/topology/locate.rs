//! Where in a file something stands.

use serde_saphyr::granit_parser::{Event, Parser};

/// A step on the way to a value: into a map, or into a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The value of this key.
    Key(String),
    /// The element with this number.
    Index(usize),
}

impl From<&str> for Step {
    fn from(key: &str) -> Self {
        Step::Key(key.to_owned())
    }
}

impl From<usize> for Step {
    fn from(index: usize) -> Self {
        Step::Index(index)
    }
}

/// Where the walk is inside a collection.
enum Level {
    /// In a map, before a key or before its value.
    Map { value_next: bool },
    /// In a list, before this element.
    List { next: usize },
}

/// Line and column, from 1, of the key or the list's element that the steps lead to, or of the last of them that is there. Of a list
/// of names the names count as keys.
pub(super) fn locate(yaml: &str, steps: &[Step]) -> (usize, usize) {
    let mut best = (0, (1, 1));
    let mut levels: Vec<Level> = Vec::new();
    let mut way: Vec<Step> = Vec::new();
    for event in Parser::new_from_str(yaml) {
        let Ok((event, span)) = event else { break };
        let text = match &event {
            Event::Scalar(text, ..) => Some(text.to_string()),
            Event::MappingStart(..) | Event::SequenceStart(..) | Event::Alias(..) => None,
            Event::MappingEnd | Event::SequenceEnd => {
                levels.pop();
                way.pop();
                continue;
            }
            _ => continue,
        };
        let mut is_value = false;
        match levels.last_mut() {
            Some(Level::Map { value_next: true }) => is_value = true,
            Some(Level::Map { .. }) => way.push(Step::Key(text.clone().unwrap_or_default())),
            Some(Level::List { next }) => {
                way.push(Step::Index(*next));
                *next += 1;
            }
            None => {}
        }
        let is_named = || match (way.split_last(), text) {
            (Some((Step::Index(_), list)), Some(text)) => steps
                .split_at_checked(list.len())
                .is_some_and(|(before, rest)| before == list && rest.first() == Some(&Step::Key(text))),
            _ => false,
        };
        if !is_value && way.len() > best.0 && (steps.starts_with(&way) || is_named()) {
            best = (way.len(), (span.start.line(), span.start.col() + 1));
        }
        let is_key = match levels.last_mut() {
            Some(Level::Map { value_next }) => {
                *value_next = !*value_next;
                *value_next
            }
            _ => false,
        };
        match event {
            Event::MappingStart(..) => levels.push(Level::Map { value_next: false }),
            Event::SequenceStart(..) => levels.push(Level::List { next: 0 }),
            _ if is_key => {}
            _ => drop(way.pop()),
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\
name: x
hosts:
  a:
    routes:
      - default via 10.0.0.1
      - nonsense
  b:
routers: [r, s]
links:
  - a -- b
  - link: a -- c
    mtu: 12
";

    #[test]
    fn values_are_found_by_the_way_to_them() {
        let at = |steps: &[Step]| locate(FILE, steps);
        assert_eq!(at(&["hosts".into(), "a".into(), "routes".into(), 1.into()]), (6, 9));
        assert_eq!(at(&["links".into(), 1.into(), "mtu".into()]), (12, 5));
        assert_eq!(at(&["links".into(), 0.into()]), (10, 5));
        assert_eq!(at(&["name".into()]), (1, 1));
        assert_eq!(at(&["hosts".into(), "b".into()]), (7, 3), "a name with nothing behind it");
        assert_eq!(at(&["routers".into(), "s".into()]), (8, 14));
        assert_eq!(at(&["links".into(), 0.into(), "mtu".into()]), (10, 5), "as far as it goes");
        assert_eq!(at(&["nodes".into()]), (1, 1));
    }
}
