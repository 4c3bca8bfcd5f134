//! What is connected with what, as a list: where a drawing would be too wide.

use super::canvas::cells;
use super::{Edge, Graph, Style, Vertex};
use crate::render::Paint;

/// Each box once, with those of its connections that were not listed before.
pub(super) fn list(graph: &Graph, columns: usize, paint: Paint) -> String {
    let mut order: Vec<usize> = (0..graph.vertices.len()).collect();
    let degree = |at: usize| graph.edges.iter().filter(|edge| edge.touches(at)).count();
    let degrees: Vec<usize> = order.iter().map(|at| degree(*at)).collect();
    // A switch before its hosts: who has more connections says more.
    order.sort_by_key(|at| (graph.vertices[*at].kind, std::cmp::Reverse(degrees[*at].min(3))));
    let mut listed = vec![false; graph.edges.len()];
    let mut mentioned = vec![false; graph.vertices.len()];
    let mut out = String::new();
    for at in order {
        let vertex = &graph.vertices[at];
        let own: Vec<usize> =
            (0..graph.edges.len()).filter(|edge| !listed[*edge] && graph.edges[*edge].touches(at)).collect();
        if own.is_empty() && mentioned[at] && vertex.lines.is_empty() {
            continue;
        }
        let name = paint.bold(&full_name(graph, vertex));
        let head = format!("{name}  {}", vertex.lines.join(", "));
        wrapped(&mut out, "", head.trim_end(), columns);
        for (number, edge) in own.iter().enumerate() {
            listed[*edge] = true;
            let edge = &graph.edges[*edge];
            let other = edge.other(at);
            mentioned[other] = true;
            let branch = if number + 1 == own.len() { "└─ " } else { "├─ " };
            wrapped(&mut out, branch, &connection(graph, edge, at, other), columns);
        }
    }
    out
}

fn connection(graph: &Graph, edge: &Edge, own: usize, other: usize) -> String {
    let mut parts = Vec::new();
    let [near, far] = if edge.ends[0].vertex == own { [0, 1] } else { [1, 0] };
    let line = if edge.style == Style::Tunnel { "╌╌" } else { "──" };
    let near = edge.ends[near].lines.join(" ");
    let far = edge.ends[far].lines.join(" ");
    parts.extend(Some(near).filter(|near| !near.is_empty()));
    // Within a namespace there is no line.
    parts.extend(Some(line.to_owned()).filter(|_| edge.style != Style::Inside));
    parts.extend(Some(far).filter(|far| !far.is_empty()));
    let mut text =
        format!("{}  {}", parts.join(" "), full_name(graph, &graph.vertices[other])).trim_start().to_owned();
    if !edge.middle.is_empty() {
        text.push_str(&format!("  ({})", edge.middle.join(", ")));
    }
    text
}

fn full_name(graph: &Graph, vertex: &Vertex) -> String {
    match vertex.frame {
        Some(frame) => format!("{}/{}", graph.frames[frame].title, vertex.title),
        None => vertex.title.clone(),
    }
}

/// Wraps at blanks, with what follows below the text.
pub(super) fn wrapped(out: &mut String, head: &str, text: &str, columns: usize) {
    let columns = i32::try_from(columns).unwrap_or(i32::MAX);
    let indent = if head.is_empty() { 4 } else { cells(head) + 2 };
    let stem = if head.starts_with('├') { "│" } else { " " };
    let follow = format!("{stem}{}", " ".repeat(usize::try_from(indent - 1).unwrap_or(0)));
    out.push_str(head);
    let mut column = cells(head);
    for (number, word) in text.split(' ').enumerate() {
        let width = cells(word);
        if number > 0 && column + 1 + width > columns {
            out.truncate(out.trim_end_matches(' ').len());
            out.push('\n');
            out.push_str(&follow);
            column = indent;
        } else if number > 0 {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += width;
    }
    out.push('\n');
}
