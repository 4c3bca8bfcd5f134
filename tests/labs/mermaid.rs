//! The drawings for mermaid, drawn by mermaid itself, in a browser without a window.

use std::path::{Path, PathBuf};
use std::process::Command;

use podplumb_tests::{Podplumb, output, require};

use crate::examples::{examples, root};

const NEEDS: [&str; 4] = ["chromium", "npm", "tar", "timeout"];
/// The version that code forges have.
const MERMAID: &str = "mermaid@11";

/// Mermaid as one file, as its package has it; fetched once.
fn mermaid() -> Option<PathBuf> {
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mermaid-11.min.js");
    if kept.is_file() {
        return Some(kept);
    }
    let directory = tempfile::tempdir().expect("a directory");
    let fetch = "timeout 120 npm pack --silent \"$1\" && tar -xzf mermaid-*.tgz package/dist/mermaid.min.js";
    let fetched = Command::new("sh")
        .args(["-ec", fetch, "sh", MERMAID])
        .current_dir(directory.path())
        .output()
        .expect("a shell");
    if !fetched.status.success() {
        let why = String::from_utf8_lossy(&fetched.stderr).into_owned();
        assert!(std::env::var_os("CI").is_none(), "{MERMAID} cannot be fetched: {why}");
        eprintln!("SKIPPED: {MERMAID} cannot be fetched: {why}");
        return None;
    }
    // Whole or not at all, whoever else does the same.
    let whole = kept.with_extension(std::process::id().to_string());
    std::fs::copy(directory.path().join("package/dist/mermaid.min.js"), &whole).expect("a copy");
    std::fs::rename(&whole, &kept).expect("the copy gets its name");
    Some(kept)
}

/// A page that draws them all, and then says `ok NAME` or what was wrong with each.
fn page(mermaid: &Path, drawings: &[(String, String)]) -> String {
    let data = serde_json::to_string(drawings).expect("JSON").replace('<', "\\u003c");
    let script = "
const said = [];
mermaid.initialize({startOnLoad: false});
(async () => {
  for (const [name, text] of drawings) {
    try {
      const {svg} = await mermaid.render('drawing' + said.length, text);
      const shown = new DOMParser().parseFromString(svg, 'text/html').body.textContent;
      said.push({name, shown, boxes: svg.split('class=\"node ').length - 1});
    } catch (error) {
      said.push({name, error: error.message});
    }
  }
  // As HTML and as JSON the same.
  const plain = c => '\\\\u' + c.charCodeAt(0).toString(16).padStart(4, '0');
  document.getElementById('said').textContent =
    'BEGIN' + JSON.stringify(said).replace(/[^ -~]|[<>&]/g, plain) + 'END';
})();";
    format!(
        "<!doctype html><meta charset=\"utf-8\"><pre id=\"said\"></pre>\n\
         <script src=\"file://{}\"></script>\n<script>const drawings = {data};{script}</script>\n",
        mermaid.display()
    )
}

/// What mermaid made of each: its words and how many boxes, or its error.
fn drawn(mermaid: &Path, drawings: &[(String, String)]) -> Vec<serde_json::Value> {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("page.html");
    std::fs::write(&file, page(mermaid, drawings)).expect("the page");
    let profile = format!("--user-data-dir={}", directory.path().join("profile").display());
    let url = format!("file://{}", file.display());
    // In a namespace without a network: what it draws, it draws of what is there.
    let netns = sys::NetNs::create().expect("a namespace");
    let browse = || {
        let options = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--virtual-time-budget=120000",
            "--dump-dom",
        ];
        let command = ["-k", "5", "120", "chromium"];
        output("timeout", &[&command[..], &options, &[profile.as_str(), url.as_str()]].concat())
    };
    let browsed = netns.run(browse).expect("a thread");
    let page = String::from_utf8_lossy(&browsed.stdout);
    let said = page.split_once("BEGIN[").and_then(|(_, rest)| rest.split_once("]END<"));
    let Some((said, _)) = said else {
        panic!("the page came to no end: {}", String::from_utf8_lossy(&browsed.stderr))
    };
    serde_json::from_str(&format!("[{said}]")).expect("JSON")
}

/// Names as only somebody else's node has them; each has to come out as it is.
const HOSTILE: [&str; 6] =
    ["\"]; click n0 href", "%%{init: {}}%%", "`**bold**`", "<b>x</b>", "end", "#quot;&amp;"];

#[test]
fn mermaid_draws_every_lab_and_map_and_shows_names_as_they_are() {
    if !require(&NEEDS) {
        return;
    }
    let Some(mermaid) = mermaid() else { return };
    let podplumb = Podplumb::default();
    let mut drawings: Vec<(String, String)> = Vec::new();
    for file in examples() {
        let path = file.display().to_string();
        drawings.push((path.clone(), podplumb.expect(0, &["lab", "graph", "-o", "mermaid", &path])));
    }
    let map = |snapshot: &str| podplumb.expect(0, &["map", "-o", "mermaid", "--from", snapshot]);
    let corpus = root().join("fuzz/corpus/snapshot");
    for entry in std::fs::read_dir(&corpus).expect("snapshots") {
        let path = entry.expect("an entry").path().display().to_string();
        drawings.push((path.clone(), map(&path)));
    }
    let demo = std::fs::read_to_string(corpus.join("demo")).expect("a snapshot");
    let evil = tempfile::NamedTempFile::new().expect("a file");
    for name in HOSTILE {
        let quoted = serde_json::to_string(name).expect("JSON");
        assert!(demo.contains("\"web\""));
        std::fs::write(evil.path(), demo.replace("\"web\"", &quoted)).expect("a snapshot");
        drawings.push((name.to_owned(), map(&evil.path().display().to_string())));
    }

    let all = drawn(&mermaid, &drawings);
    assert_eq!(all.len(), drawings.len());
    for ((name, text), drawn) in drawings.iter().zip(&all) {
        assert!(drawn["error"].is_null(), "{name}: {}\n{text}", drawn["error"]);
        let boxes = text.lines().filter(|line| line.contains("]:::")).count();
        assert!(boxes > 0 && drawn["boxes"] == boxes, "{name}: {} boxes of {boxes}", drawn["boxes"]);
        if HOSTILE.contains(&name.as_str()) {
            let shown = drawn["shown"].as_str().unwrap_or_default();
            assert!(shown.contains(name.as_str()), "{name}: {shown}");
        }
    }
}

#[test]
fn a_drawing_that_is_none_is_an_error() {
    if !require(&NEEDS) {
        return;
    }
    let Some(mermaid) = mermaid() else { return };
    let broken = [("broken".to_owned(), "flowchart TB\n  a[\"x\"]:::y\n  b[no \"end\n".to_owned())];
    let drawn = drawn(&mermaid, &broken);
    assert!(drawn[0]["error"].is_string(), "{drawn:?}");
}
