//! One box for many that are alike: 500 hosts on a switch, the routers of a long ring, the nodes of a cluster.

use std::collections::{BTreeMap, HashMap};

use super::{Edge, End, Frame, Graph, Kind, Mark, Style, Vertex};

/// How many are still shown one by one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Of boxes with the same neighbours.
    pub(super) alike: usize,
    /// Of boxes in a row, each connected with the next.
    pub(super) row: usize,
    /// Of frames with the same content.
    pub(super) frames: usize,
}

/// What anybody can read.
pub(super) const READABLE: Limits = Limits { alike: 6, row: 16, frames: 3 };

pub(super) fn collapse(graph: &Graph, limits: Limits) -> Graph {
    let graph = merge(graph, &alike(graph, limits.alike));
    let graph = collapse_frames(&graph, limits.frames);
    merge(&graph, &rows(&graph, limits.row))
}

/// Text without its numbers, by which `pod1` is like `pod2`.
fn pattern(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for c in text.chars() {
        let c = if c.is_ascii_digit() { '0' } else { c };
        if c != '0' || !pattern.ends_with('0') {
            pattern.push(c);
        }
    }
    pattern
}

fn patterns(lines: &[String]) -> Vec<String> {
    // Addresses differ in more than numbers, and their length says nothing.
    lines.iter().map(|line| if is_address(line) { "address".into() } else { pattern(line) }).collect()
}

fn is_address(line: &str) -> bool {
    line.parse::<ipnet::IpNet>().is_ok()
}

/// What alike boxes have in common: themselves, and each connection with where it leads.
type Likeness = (Kind, Option<usize>, Mark, Vec<String>, Vec<(usize, Style, Vec<String>, Vec<String>)>);

fn alike(graph: &Graph, limit: usize) -> Vec<Vec<usize>> {
    let mut connections = vec![Vec::new(); graph.vertices.len()];
    for edge in &graph.edges {
        for (own, other) in [(0, 1), (1, 0)] {
            let [own, other] = [&edge.ends[own], &edge.ends[other]];
            connections[own.vertex].push((
                other.vertex,
                edge.style,
                patterns(&own.lines),
                edge.middle.clone(),
            ));
        }
    }
    let mut sets: BTreeMap<Likeness, Vec<usize>> = BTreeMap::new();
    for (at, (vertex, mut connections)) in graph.vertices.iter().zip(connections).enumerate() {
        connections.sort();
        if !connections.is_empty() || vertex.frame.is_some() {
            let lines = patterns(&vertex.lines);
            sets.entry((vertex.kind, vertex.frame, vertex.mark, lines, connections)).or_default().push(at);
        }
    }
    sets.into_values().filter(|set| set.len() > limit.max(1)).collect()
}

/// Boxes between two others, of a row or ring whose middle is always the same; its first and last stay.
fn rows(graph: &Graph, limit: usize) -> Vec<Vec<usize>> {
    let mut neighbours = vec![Vec::new(); graph.vertices.len()];
    for edge in &graph.edges {
        for end in &edge.ends {
            neighbours[end.vertex].push(edge.other(end.vertex));
        }
    }
    let plain = |at: usize| {
        let vertex = &graph.vertices[at];
        let [a, b] = neighbours[at][..] else { return false };
        a != b && vertex.frame.is_none() && vertex.mark == Mark::Fine
    };
    let same = |a: usize, b: usize| graph.vertices[a].kind == graph.vertices[b].kind;
    let mut seen = vec![false; graph.vertices.len()];
    let mut groups = Vec::new();
    for start in 0..graph.vertices.len() {
        if seen[start] || !plain(start) {
            continue;
        }
        seen[start] = true;
        // Both ways from here; around a ring the first way takes all.
        let mut walk = |first: usize| {
            let (mut way, mut before, mut at) = (Vec::new(), start, first);
            while plain(at) && same(at, start) && !seen[at] {
                seen[at] = true;
                way.push(at);
                (before, at) = (at, *neighbours[at].iter().find(|next| **next != before).unwrap_or(&start));
            }
            way
        };
        let ahead = walk(neighbours[start][0]);
        let mut row = walk(neighbours[start][1]);
        row.reverse();
        row.push(start);
        row.extend(ahead);
        // In the order of their names, as far as that is theirs.
        if row.first() > row.last() {
            row.reverse();
        }
        // The first and the last stay, as long as there is room; of a ring of nothing else always.
        let is_closed = neighbours[row[0]].contains(&row[row.len() - 1]);
        if row.len() > limit.max(3) {
            groups.push(row[1..row.len() - 1].to_vec());
        } else if limit < 3 && row.len() > 1 && !is_closed {
            groups.push(row);
        }
    }
    groups
}

/// Frames with the same content beside the first: that one stays, for what connects it with the others.
fn collapse_frames(graph: &Graph, limit: usize) -> Graph {
    let mut contents: Vec<Vec<usize>> = vec![Vec::new(); graph.frames.len()];
    for (at, vertex) in graph.vertices.iter().enumerate() {
        if let Some(frame) = vertex.frame {
            contents[frame].push(at);
        }
    }
    // Where in its frame each is.
    let place: HashMap<usize, usize> = contents
        .iter()
        .flat_map(|content| content.iter().enumerate().map(|(place, at)| (*at, place)))
        .collect();
    let likeness = |frame: usize| {
        let boxes: Vec<_> = contents[frame]
            .iter()
            .map(|at| {
                let vertex = &graph.vertices[*at];
                (vertex.kind, vertex.mark, patterns(&vertex.lines), vertex.count)
            })
            .collect();
        let mut edges: Vec<_> = Vec::new();
        for edge in &graph.edges {
            for (own, other) in [(0, 1), (1, 0)] {
                let (own, other) = (edge.ends[own].vertex, edge.ends[other].vertex);
                if graph.vertices[own].frame == Some(frame) && edge.style != Style::Tunnel {
                    let inside = graph.vertices[other].frame == Some(frame);
                    let leads = if inside { Err(place[&other]) } else { Ok(other) };
                    edges.push((place[&own], leads, edge.style, edge.middle.clone()));
                }
            }
        }
        edges.sort();
        (patterns(&graph.frames[frame].lines), graph.frames[frame].mark, boxes, edges)
    };
    let mut sets: Vec<(_, Vec<usize>)> = Vec::new();
    for frame in 0..graph.frames.len() {
        let own = likeness(frame);
        match sets.iter_mut().find(|(other, _)| *other == own) {
            Some((_, set)) => set.push(frame),
            None => sets.push((own, vec![frame])),
        }
    }
    let mut result = graph.clone();
    let mut groups = Vec::new();
    let mut goes_into: Vec<usize> = (0..graph.frames.len()).collect();
    for set in sets.into_iter().map(|(_, set)| set).filter(|set| set.len() > limit.max(2)) {
        let merged = &set[1..];
        let of_each = |place: usize| merged.iter().map(|frame| contents[*frame][place]).collect::<Vec<_>>();
        groups.extend((0..contents[merged[0]].len()).map(of_each));
        for frame in merged {
            goes_into[*frame] = merged[0];
        }
        let titles = merged.iter().map(|frame| graph.frames[*frame].title.as_str());
        let title = match join(titles) {
            title if title.contains('…') => format!("{title} ({})", merged.len()),
            title => title,
        };
        let count = graph.frames[merged[0]].lines.len();
        let lines =
            (0..count).map(|line| join(merged.iter().map(|frame| graph.frames[*frame].lines[line].as_str())));
        result.frames[merged[0]] = Frame { title, lines: lines.collect(), ..graph.frames[merged[0]].clone() };
    }
    if groups.is_empty() {
        return result;
    }
    result = merge(&result, &groups);
    // Frames that are empty now go.
    let kept: Vec<usize> = (0..graph.frames.len()).filter(|frame| goes_into[*frame] == *frame).collect();
    for vertex in &mut result.vertices {
        vertex.frame = vertex.frame.and_then(|frame| kept.iter().position(|kept| *kept == goes_into[frame]));
    }
    result.frames = kept.iter().map(|frame| result.frames[*frame].clone()).collect();
    result
}

/// Each group becomes its first member.
fn merge(graph: &Graph, groups: &[Vec<usize>]) -> Graph {
    let mut leads: Vec<usize> = (0..graph.vertices.len()).collect();
    for group in groups {
        for member in group {
            leads[*member] = group[0];
        }
    }
    let mut place = vec![0; graph.vertices.len()];
    let mut vertices = Vec::new();
    for (at, vertex) in graph.vertices.iter().enumerate() {
        if leads[at] == at {
            place[at] = vertices.len();
            vertices.push(match groups.iter().find(|group| group[0] == at) {
                Some(group) => merged(&group.iter().map(|at| &graph.vertices[*at]).collect::<Vec<_>>()),
                None => vertex.clone(),
            });
        }
    }
    let place: Vec<usize> = leads.iter().map(|lead| place[*lead]).collect();
    // Edges that fall together, apart from those that were two between the same boxes before.
    let mut before: HashMap<([usize; 2], Style), usize> = HashMap::new();
    let mut together: Vec<Vec<Edge>> = Vec::new();
    let mut by_key: HashMap<([usize; 2], Style, usize), usize> = HashMap::new();
    for edge in &graph.edges {
        let mut own = edge.clone();
        own.ends.sort_by_key(|end| place[end.vertex]);
        let old = own.ends.each_ref().map(|end| end.vertex);
        let new = old.map(|vertex| place[vertex]);
        if new[0] == new[1] {
            continue;
        }
        let number = before.entry((old, edge.style)).or_default();
        let at = *by_key.entry((new, edge.style, *number)).or_insert_with(|| {
            together.push(Vec::new());
            together.len() - 1
        });
        *number += 1;
        let flipped = own.ends[0].vertex != edge.ends[0].vertex;
        for (end, vertex) in own.ends.iter_mut().zip(new) {
            end.vertex = vertex;
        }
        // As it was written, where nothing fell together.
        if flipped && together[at].is_empty() && groups.is_empty() {
            own.ends.reverse();
        }
        together[at].push(own);
    }
    let edges = together.iter().map(|edges| merged_edge(edges)).collect();
    Graph { vertices, edges, ..graph.clone() }
}

fn merged(members: &[&Vertex]) -> Vertex {
    let count: usize = members.iter().map(|member| member.count).sum();
    let titles = members.iter().map(|member| member.title.as_str());
    let title = match join(titles) {
        // The same device in each of several frames.
        title if title == members[0].title => title,
        title if !title.contains('…') => title,
        title => format!("{title} ({count})"),
    };
    let lines = members.iter().map(|member| member.lines.as_slice()).collect::<Vec<_>>();
    Vertex { title, lines: joined_lines(&lines), count, ..members[0].clone() }
}

fn merged_edge(edges: &[Edge]) -> Edge {
    let end = |number: usize| {
        let lines: Vec<&[String]> = edges.iter().map(|edge| edge.ends[number].lines.as_slice()).collect();
        End { vertex: edges[0].ends[number].vertex, lines: joined_lines(&lines) }
    };
    Edge { ends: [end(0), end(1)], ..edges[0].clone() }
}

fn joined_lines(all: &[&[String]]) -> Vec<String> {
    let count = all.iter().map(|lines| lines.len()).min().unwrap_or(0);
    (0..count).map(|line| join(all.iter().map(|lines| lines[line].as_str()))).collect()
}

/// `10.0.0.1 … 10.0.1.244/23`, or what all of them say.
fn join<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    let texts: Vec<&str> = texts.collect();
    let [first, .., last] = texts[..] else { return texts.concat() };
    if texts.iter().all(|text| *text == first) {
        return first.to_owned();
    }
    if texts.len() == 2 && !is_address(first) && !first.contains(" … ") && !last.contains(" … ") {
        return format!("{first}, {last}");
    }
    let first = first.split([',', '…']).next().unwrap_or(first).trim();
    let last = last.rsplit([',', '…']).next().unwrap_or(last).trim();
    let last = last.rsplit_once(" (").map_or(last, |(name, _)| name);
    match (first.rsplit_once('/'), last.rsplit_once('/')) {
        (Some((address, length)), Some((_, last_length))) if length == last_length && is_address(last) => {
            format!("{address} … {last}")
        }
        _ => format!("{first} … {last}"),
    }
}
