//! Links of the documentation lead somewhere: to a file, and to a heading in it.

use std::path::{Path, PathBuf};

use anyhow::Context;

/// Where pages are.
const FOLDERS: [&str; 4] = [".", "docs", "docs/commands", "deploy"];

pub(crate) fn check(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut complaints = Vec::new();
    for page in pages(root)? {
        let text = std::fs::read_to_string(&page).with_context(|| page.display().to_string())?;
        let name = page.strip_prefix(root).unwrap_or(&page).display().to_string();
        for link in links(&text) {
            if let Some(complaint) = complain(&page, link) {
                complaints.push(format!("{name}: {link}: {complaint}"));
            }
        }
    }
    Ok(complaints)
}

fn pages(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut pages = Vec::new();
    for folder in FOLDERS {
        let folder = root.join(folder);
        for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            pages.extend(Some(path).filter(|path| path.extension().is_some_and(|end| end == "md")));
        }
    }
    pages.sort();
    Ok(pages)
}

/// Where links go that are in the text, not in code, and not on the web.
fn links(text: &str) -> Vec<&str> {
    let mut links = Vec::new();
    let mut is_code = false;
    for line in text.lines() {
        if line.starts_with("```") {
            is_code = !is_code;
        }
        if is_code || line.starts_with("    ") {
            continue;
        }
        let ends = line.match_indices("](").map(|(at, _)| &line[at + 2..]);
        links.extend(ends.filter_map(|rest| Some(rest.split_once(')')?.0)));
    }
    links.retain(|link| !link.starts_with("http"));
    links
}

/// What is wrong with a link of this page.
fn complain(page: &Path, link: &str) -> Option<String> {
    let (file, heading) = link.split_once('#').map_or((link, None), |(file, heading)| (file, Some(heading)));
    let target = match file {
        "" => page.to_owned(),
        file => page.parent()?.join(file),
    };
    if !target.exists() {
        return Some("there is no such file".to_owned());
    }
    let heading = heading?;
    let text = std::fs::read_to_string(&target).unwrap_or_default();
    let is_there = text.lines().filter(|line| line.starts_with('#')).any(|line| anchor(line) == heading);
    (!is_there).then(|| "there is no such heading".to_owned())
}

/// What GitHub and its like call a heading: small letters, hyphens for spaces, and no other signs.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_in_code_and_on_the_web_are_left_alone() {
        let text = "see [a](b.md#c) and [d](https://e)\n    [code](x.md)\n```\n[code](y.md)\n```\n[f](g)\n";
        assert_eq!(links(text), ["b.md#c", "g"]);
    }

    #[test]
    fn headings_are_found_by_what_they_are_called() {
        assert_eq!(anchor("## Names for `ip netns`"), "names-for-ip-netns");
        assert_eq!(anchor("### The kernel's own list"), "the-kernels-own-list");
    }

    #[test]
    fn a_link_to_nowhere_is_told() {
        let page = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/commands.md");
        assert_eq!(complain(&page, "trace.md#live-packets"), None);
        assert_eq!(complain(&page, "trace.md#dead-packets").as_deref(), Some("there is no such heading"));
        assert_eq!(complain(&page, "traces.md").as_deref(), Some("there is no such file"));
    }
}
