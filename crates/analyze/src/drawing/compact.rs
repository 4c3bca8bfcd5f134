//! Narrower drawings: addresses inside of the boxes at the edge, and what they share said once.

use ipnet::IpNet;

use super::{Graph, Kind, Style};

/// Boxes with one link get its addresses; the length of their network stands at the bridge or switch.
pub(super) fn compact(graph: &Graph) -> Graph {
    let mut compact = graph.clone();
    let leaves = leaves(graph);
    for (_, hub, edge, end) in &leaves {
        let nets = graph.edges[*edge].ends[*end].lines.iter().filter_map(|line| line.parse::<IpNet>().ok());
        for net in nets {
            let vertex = &mut compact.vertices[*hub];
            let alike = leaves.iter().filter(|(_, other, ..)| other == hub).count() > 1;
            if alike && matches!(vertex.kind, Kind::Switch | Kind::Bridge) && !says(&vertex.lines, net) {
                vertex.lines.push(net.trunc().to_string());
            }
        }
    }
    for (leaf, hub, edge, end) in leaves {
        let lines = std::mem::take(&mut compact.edges[edge].ends[end].lines);
        let (addresses, names) =
            lines.into_iter().partition(|line| line.contains('/') || line.contains(" … "));
        compact.edges[edge].ends[end].lines = names;
        let shared = &compact.vertices[hub].lines;
        let lines: Vec<String> = Vec::<String>::into_iter(addresses)
            .map(|line| match line.parse::<IpNet>() {
                Ok(net) if says(shared, net) => net.addr().to_string(),
                _ => shorter_range(&line),
            })
            .collect();
        compact.vertices[leaf].lines.extend(lines);
    }
    for vertex in &mut compact.vertices {
        vertex.lines.iter_mut().for_each(|line| *line = shorter_range(line));
    }
    compact
}

/// `10.244.0.2 … 10.244.0.11/24` as `10.244.0.2 … .11/24`.
fn shorter_range(line: &str) -> String {
    let Some((first, last)) = line.split_once(" … ") else { return line.to_owned() };
    if first.parse::<std::net::Ipv4Addr>().is_err() {
        return line.to_owned();
    }
    let same = first.split('.').zip(last.split('.')).take_while(|(first, last)| first == last);
    let length: usize = same.map(|(part, _)| part.len() + 1).sum();
    match length {
        0 => line.to_owned(),
        length => format!("{first} … {}", &last[length - 1..]),
    }
}

/// Whether one of the lines names the address's network.
fn says(lines: &[String], net: IpNet) -> bool {
    let nets = lines.iter().filter_map(|line| line.parse::<IpNet>().ok());
    nets.map(|line| line.trunc()).any(|known| known == net.trunc())
}

/// Boxes with one link and nothing else: the box, the other one, the edge, and which of its ends the box is.
fn leaves(graph: &Graph) -> Vec<(usize, usize, usize, usize)> {
    let mut edges: Vec<Vec<(usize, usize)>> = vec![Vec::new(); graph.vertices.len()];
    for (at, edge) in graph.edges.iter().enumerate().filter(|(_, edge)| edge.style != Style::Tunnel) {
        for (end, own) in edge.ends.iter().enumerate() {
            edges[own.vertex].push((at, end));
        }
    }
    let mut leaves = Vec::new();
    for (leaf, own) in edges.iter().enumerate() {
        if let [(edge, end)] = own[..] {
            let hub = graph.edges[edge].ends[1 - end].vertex;
            if graph.edges[edge].style == Style::Link && edges[hub].len() > 1 {
                leaves.push((leaf, hub, edge, end));
            }
        }
    }
    leaves
}
