//! Drawings of labs, compared with golden files: `PODPLUMB_WRITE_GOLDEN=1 cargo test -p podplumb-lab --test drawing` writes them anew,
//! to be looked at before they are kept.

mod labs;
mod picture;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use analyze::drawing::{Graph, dot, mermaid, svg, text};
use analyze::render::Paint;
use podplumb_lab::topology::from_yaml;
use podplumb_lab::{Wiring, drawing, resolve, show};

use labs::{CONFLIST, LABS};

fn wiring(name: &str, yaml: &str) -> Wiring {
    let file = PathBuf::from(format!("{name}.yaml"));
    let topology = from_yaml(yaml, &file).unwrap_or_else(|error| panic!("{error}"));
    let resolved = resolve(&topology, name, &|_| Ok(CONFLIST.to_owned()));
    resolved.unwrap_or_else(|fault| panic!("{}", fault.located(yaml, &file))).wiring
}

fn graphs() -> impl Iterator<Item = (&'static str, Graph)> {
    LABS.iter().map(|(name, yaml)| (*name, drawing::graph(&wiring(name, yaml), false)))
}

/// Compares with the golden file, or writes it.
fn golden(file: &str, text: &str) -> Result<(), String> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/drawing/golden").join(file);
    if std::env::var_os("PODPLUMB_WRITE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        return Ok(());
    }
    match std::fs::read_to_string(&path) {
        Ok(wanted) if wanted == text => Ok(()),
        Ok(wanted) => Err(format!("{file} was\n{wanted}\nand is\n{text}")),
        Err(error) => Err(format!("{file}: {error}")),
    }
}

fn all_golden(kind: &str, of: impl Fn(&str, &str) -> String) {
    let texts = LABS.iter().map(|(name, yaml)| golden(&format!("{name}.{kind}"), &of(name, yaml)));
    let wrong: Vec<String> = texts.filter_map(Result::err).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn shown_labs_are_what_they_were() {
    all_golden("txt", |name, yaml| show::text(&wiring(name, yaml), false, 80, Paint::PLAIN));
}

#[test]
fn svgs_are_what_they_were() {
    all_golden("svg", |name, yaml| svg(&drawing::graph(&wiring(name, yaml), false)));
}

#[test]
fn dot_and_mermaid_are_what_they_were() {
    all_golden("dot", |name, yaml| dot(&drawing::graph(&wiring(name, yaml), false)));
    all_golden("mmd", |name, yaml| mermaid(&drawing::graph(&wiring(name, yaml), false)));
}

#[test]
fn terminal_drawings_and_tables_keep_to_the_columns() {
    for (name, yaml) in LABS {
        let wiring = wiring(name, yaml);
        for (columns, all) in [(80, false), (80, true), (60, false), (200, true)] {
            let shown = show::text(&wiring, all, columns, Paint::PLAIN);
            for line in shown.lines() {
                assert!(line.chars().count() <= columns, "{name}, {columns} columns: {line}");
                assert_eq!(line.trim_end(), line, "{name}: blanks at the end");
            }
        }
    }
}

#[test]
fn nothing_covers_anything_in_pictures() {
    for (name, yaml) in LABS {
        for all in [false, true] {
            let picture = svg(&drawing::graph(&wiring(name, yaml), all));
            picture::check(&picture).unwrap_or_else(|error| panic!("{name}, all {all}: {error}"));
        }
    }
}

#[test]
fn everybody_is_in_every_format_if_all_are_wanted() {
    for (name, yaml) in LABS {
        let wiring = wiring(name, yaml);
        let graph = drawing::graph(&wiring, true);
        let texts = [text(&graph, 80, Paint::PLAIN), svg(&graph), dot(&graph), mermaid(&graph)];
        for machine in &wiring.machines {
            let own = machine.name.rsplit('-').next().unwrap();
            for text in &texts {
                assert!(text.contains(own), "{name}: {own} is missing in\n{text}");
            }
        }
    }
}

#[test]
fn five_hundred_hosts_are_one_box() {
    let (name, yaml) = LABS.iter().find(|(name, _)| *name == "many").unwrap();
    let graph = drawing::graph(&wiring(name, yaml), false);
    assert_eq!(graph.vertices.len(), 2);
    for text in [text(&graph, 80, Paint::PLAIN), svg(&graph), dot(&graph), mermaid(&graph)] {
        assert!(text.contains("h1 … h500 (500)"), "{text}");
        assert!(!text.contains("h250"), "{text}");
    }
}

#[test]
fn tunnels_are_dashed_in_every_format() {
    let (name, yaml) = LABS.iter().find(|(name, _)| *name == "vxlan").unwrap();
    let graph = drawing::graph(&wiring(name, yaml), false);
    let shown = text(&graph, 80, Paint::PLAIN);
    assert!(shown.lines().any(|line| line.contains("├╌╌") && line.contains("╌╌┤")), "{shown}");
    assert!(svg(&graph).contains("class=\"dashed\""));
    assert!(dot(&graph).contains("style=dashed"));
    assert!(mermaid(&graph).contains("-.-"));
}

/// Graphviz itself reads it; `xtask/install test` installs it.
#[test]
fn graphviz_draws_it() {
    for (name, graph) in graphs() {
        #[expect(clippy::disallowed_methods, reason = "a test asks the program that the format is for")]
        let child = Command::new("dot").arg("-Tsvg").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.expect("dot, of the package graphviz: xtask/install test");
        // It reads all before it writes.
        let mut stdin = child.stdin.take().unwrap();
        std::io::Write::write_all(&mut stdin, dot(&graph).as_bytes()).unwrap();
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{name}");
        let drawn = String::from_utf8(output.stdout).unwrap();
        // Every box is drawn once: none came to be by a misread name.
        assert_eq!(drawn.matches("class=\"node\"").count(), graph.vertices.len(), "{name}");
        assert_eq!(drawn.matches("class=\"edge\"").count(), graph.edges.len(), "{name}");
        assert_eq!(drawn.matches("class=\"cluster\"").count(), graph.frames.len(), "{name}");
    }
}

#[test]
fn mermaid_declares_what_it_connects() {
    for (name, graph) in graphs() {
        let text = mermaid(&graph);
        assert_eq!(
            text.matches("subgraph ").count(),
            text.lines().filter(|line| line.trim() == "end").count()
        );
        let mut declared = BTreeSet::new();
        let mut edges = 0;
        for line in text.lines().map(str::trim) {
            if let Some((id, _)) = line.split_once("[\"").filter(|(id, _)| id.starts_with('n')) {
                assert!(declared.insert(id.to_owned()), "{name}: {id} twice");
            }
            if line.contains("---") || line.contains("-.-") {
                edges += 1;
                let words: Vec<&str> = line.split(' ').collect();
                for end in [words[0], words[words.len() - 1]] {
                    assert!(declared.contains(end), "{name}: {end} in {line}");
                }
            }
        }
        assert_eq!((declared.len(), edges), (graph.vertices.len(), graph.edges.len()), "{name}");
    }
}
