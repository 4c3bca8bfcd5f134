//! Mermaid's flowcharts, which code forges draw in their pages.

use std::fmt::Write;

use super::dot::{colours, outline};
use super::layout::layout;
use super::{Edge, Graph, Kind, Mark, Style, Vertex, plain};

const KINDS: [(Kind, &str); 9] = [
    (Kind::Uplink, "uplink"),
    (Kind::Interface, "interface"),
    (Kind::Tunnel, "tunnel"),
    (Kind::Router, "router"),
    (Kind::Switch, "switch"),
    (Kind::Bridge, "bridge"),
    (Kind::Plugins, "plugins"),
    (Kind::Host, "host"),
    (Kind::Pod, "pod"),
];

/// The graph as a flowchart. Labels of both ends stand in the middle of an edge, since mermaid knows no others.
pub fn mermaid(graph: &Graph) -> String {
    let mut out = String::from("flowchart TB\n");
    for (number, frame) in graph.frames.iter().enumerate() {
        let lines: Vec<&String> = std::iter::once(&frame.title).chain(&frame.lines).collect();
        let _ = writeln!(out, "  subgraph f{number}[{}]", quoted(&lines));
        for (at, vertex) in members(graph, Some(number)) {
            write_vertex(&mut out, "    ", at, vertex);
        }
        out.push_str("  end\n");
    }
    for (at, vertex) in members(graph, None) {
        write_vertex(&mut out, "  ", at, vertex);
    }
    let is_upward = upward(graph);
    for edge in &graph.edges {
        // Mermaid puts the first of two above the second.
        let [mut a, mut b] = edge.ends.each_ref();
        if is_upward(edge) {
            std::mem::swap(&mut a, &mut b);
        }
        let mut lines = Vec::new();
        let ends = [a.lines.join(" "), edge.middle.join(", "), b.lines.join(" ")];
        lines.extend(ends.iter().filter(|line| !line.is_empty()));
        let line = if edge.style == Style::Link { "---" } else { "-.-" };
        let label = if lines.is_empty() { String::new() } else { format!("|{}|", quoted(&lines)) };
        let _ = writeln!(out, "  n{} {line}{label} n{}", a.vertex, b.vertex);
    }
    // Dots are for what is within a namespace; tunnels have their own colour, as in the SVG.
    for (at, _) in graph.edges.iter().enumerate().filter(|(_, edge)| edge.style == Style::Tunnel) {
        let _ = writeln!(out, "  linkStyle {at} stroke:#0891b2,stroke-width:2px,stroke-dasharray:6 4");
    }
    for (number, frame) in graph.frames.iter().enumerate() {
        let line = outline(frame.mark).unwrap_or("#cbd5e1");
        let _ = writeln!(out, "  style f{number} fill:#f8fafc,stroke:{line},color:#0f172a");
    }
    for (kind, name) in KINDS {
        if graph.vertices.iter().any(|vertex| vertex.kind == kind) {
            let (fill, line) = colours(kind);
            let _ = writeln!(out, "  classDef {name} fill:{fill},stroke:{line},color:#0f172a");
        }
    }
    for (mark, name) in [(Mark::Warning, "warning"), (Mark::Bad, "bad")] {
        if graph.vertices.iter().any(|vertex| vertex.mark == mark)
            && let Some(line) = outline(mark)
        {
            let _ = writeln!(out, "  classDef {name} stroke:{line},stroke-width:3px");
        }
    }
    for (at, vertex) in graph.vertices.iter().enumerate() {
        match vertex.mark {
            Mark::Fine => {}
            Mark::Warning => out.push_str(&format!("  class n{at} warning\n")),
            Mark::Bad => out.push_str(&format!("  class n{at} bad\n")),
        }
    }
    out
}

/// Whether an edge's second end is above its first in our own layout, in whose order mermaid's comes out alike.
fn upward(graph: &Graph) -> impl Fn(&Edge) -> bool {
    let places = layout(graph, &super::svg::METRICS).vertices;
    move |edge| {
        let [from, to] = edge.ends.each_ref().map(|end| places.get(end.vertex).map(|rect| rect.y));
        to < from
    }
}

fn members(graph: &Graph, frame: Option<usize>) -> impl Iterator<Item = (usize, &Vertex)> {
    graph.vertices.iter().enumerate().filter(move |(_, vertex)| vertex.frame == frame)
}

fn write_vertex(out: &mut String, indent: &str, at: usize, vertex: &Vertex) {
    let lines: Vec<&String> = std::iter::once(&vertex.title).chain(&vertex.lines).collect();
    let class = KINDS.iter().find(|(kind, _)| *kind == vertex.kind).map_or("host", |(_, name)| name);
    let _ = writeln!(out, "{indent}n{at}[{}]:::{class}", quoted(&lines));
}

/// Mermaid reads HTML and Markdown in its strings; as numbers its characters mean nothing but themselves.
fn quoted(lines: &[&String]) -> String {
    let escape = |line: &String| {
        let mut escaped = String::new();
        for c in plain(line).chars() {
            if c.is_alphanumeric()
                || matches!(c, ' ' | '.' | '/' | ':' | '-' | '_' | ',' | '(' | ')' | '…' | '→' | '↔')
            {
                escaped.push(c);
            } else {
                let _ = write!(escaped, "#{};", u32::from(c));
            }
        }
        // A list in Markdown.
        match escaped.strip_prefix("- ") {
            Some(rest) => format!("#45; {rest}"),
            None => escaped,
        }
    };
    format!("\"{}\"", lines.iter().map(|line| escape(line)).collect::<Vec<_>>().join("<br/>"))
}
