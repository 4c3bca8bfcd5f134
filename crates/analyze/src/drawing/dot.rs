//! Graphviz's language, for those who lay out themselves.

use std::fmt::Write;

use super::{Graph, Kind, Mark, Style, plain};

/// The graph for `dot -Tsvg`, `dot -Tpng`, ….
pub fn dot(graph: &Graph) -> String {
    let mut out = String::from("graph {\n");
    let _ = writeln!(out, "  label={}", quoted(&[&graph.title]));
    out.push_str("  labelloc=t\n  rankdir=TB\n  nodesep=0.9\n  ranksep=0.9\n  fontname=\"Helvetica\"\n");
    out.push_str(
        "  node [shape=box style=\"rounded,filled\" fontname=\"Helvetica\" fontsize=12 margin=\"0.2,0.1\"]\n",
    );
    out.push_str("  edge [fontname=\"Courier\" fontsize=9 labeldistance=2 labelangle=40 color=\"#64748b\" fontcolor=\"#475569\"]\n");
    for (number, frame) in graph.frames.iter().enumerate() {
        let _ = writeln!(out, "  subgraph cluster_{number} {{");
        let lines: Vec<&String> = std::iter::once(&frame.title).chain(&frame.lines).collect();
        let color = outline(frame.mark).unwrap_or("#94a3b8");
        let _ = writeln!(out, "    label={} labeljust=l style=rounded color=\"{color}\"", quoted(&lines));
        vertices(&mut out, graph, Some(number), "    ");
        out.push_str("  }\n");
    }
    vertices(&mut out, graph, None, "  ");
    for edge in &graph.edges {
        let [a, b] = edge.ends.each_ref().map(|end| id(&graph.vertices[end.vertex].id));
        let mut attributes = Vec::new();
        for (name, end) in [("taillabel", &edge.ends[0]), ("headlabel", &edge.ends[1])] {
            if !end.lines.is_empty() {
                attributes.push(format!("{name}={}", quoted(&end.lines.iter().collect::<Vec<_>>())));
            }
        }
        if !edge.middle.is_empty() {
            attributes.push(format!("label={}", quoted(&edge.middle.iter().collect::<Vec<_>>())));
        }
        match edge.style {
            Style::Link => attributes.push("minlen=2".into()),
            Style::Inside => attributes.push("style=dotted color=\"#94a3b8\"".into()),
            Style::Tunnel => attributes.push("style=dashed color=\"#0891b2\" constraint=false".into()),
        }
        let _ = writeln!(out, "  {a} -- {b} [{}]", attributes.join(" "));
    }
    out.push_str("}\n");
    out
}

fn vertices(out: &mut String, graph: &Graph, frame: Option<usize>, indent: &str) {
    for vertex in graph.vertices.iter().filter(|vertex| vertex.frame == frame) {
        let lines: Vec<&String> = std::iter::once(&vertex.title).chain(&vertex.lines).collect();
        let (fill, line) = colours(vertex.kind);
        let line = outline(vertex.mark).unwrap_or(line);
        let _ = writeln!(
            out,
            "{indent}{} [label={} fillcolor=\"{fill}\" color=\"{line}\"]",
            id(&vertex.id),
            quoted(&lines)
        );
    }
}

/// Fill and line of each kind, on light ground; the SVG has the same.
pub(super) fn colours(kind: Kind) -> (&'static str, &'static str) {
    match kind {
        Kind::Uplink => ("#f1f5f9", "#475569"),
        Kind::Interface => ("#ffffff", "#94a3b8"),
        Kind::Tunnel => ("#ecfeff", "#0891b2"),
        Kind::Router => ("#fff7ed", "#ea580c"),
        Kind::Switch | Kind::Bridge | Kind::Plugins => ("#f0fdf4", "#16a34a"),
        Kind::Host => ("#eff6ff", "#2563eb"),
        Kind::Pod => ("#faf5ff", "#9333ea"),
    }
}

/// The line of what is not fine.
pub(super) fn outline(mark: Mark) -> Option<&'static str> {
    match mark {
        Mark::Fine => None,
        Mark::Warning => Some("#d97706"),
        Mark::Bad => Some("#dc2626"),
    }
}

fn id(text: &str) -> String {
    quoted(&[&text.to_owned()])
}

/// Graphviz's strings end at a quote, and `\N` in them means the node's name.
fn quoted(lines: &[&String]) -> String {
    let escaped: Vec<String> =
        lines.iter().map(|line| plain(line).replace('\\', "\\\\").replace('"', "\\\"")).collect();
    // It reads `&…;` as XML has it.
    format!("\"{}\"", escaped.join("\\n").replace('&', "&amp;"))
}
