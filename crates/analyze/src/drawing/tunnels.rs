//! Tunnels go level where nothing is in between; the others are bent, and each format has its own way with those.

use super::layout::{Anchor, Label, Layout, Point, Rect, Side, Wire};
use super::metrics::Metrics;
use super::{Edge, Graph, Style};

/// Draws those tunnels that are not drawn yet, once everything else has its place.
pub(super) fn add(graph: &Graph, layout: &mut Layout, metrics: &Metrics) {
    let mut is_drawn = vec![false; graph.edges.len()];
    for wire in &layout.wires {
        is_drawn[wire.edge] = true;
    }
    let tunnels = graph.edges.iter().enumerate().filter(|(_, edge)| edge.style == Style::Tunnel);
    for (at, edge) in tunnels.filter(|(at, _)| !is_drawn[*at]) {
        match level(graph, layout, metrics, edge) {
            Some((points, labels)) => {
                layout.wires.push(Wire { edge: at, points, sides: [Side::Right, Side::Left] });
                layout.labels.extend(labels);
            }
            None => layout.bent.push(at),
        }
    }
}

fn level(graph: &Graph, layout: &Layout, metrics: &Metrics, edge: &Edge) -> Option<(Vec<Point>, Vec<Label>)> {
    let mut ends = edge.ends.each_ref().map(|end| end.vertex);
    ends.sort_by_key(|vertex| layout.vertices[*vertex].x);
    let [left, right] = ends.map(|vertex| layout.vertices[vertex]);
    let top = left.y.max(right.y) + metrics.stroke;
    let bottom = left.bottom().min(right.bottom()) - metrics.stroke;
    if left.right() >= right.x || top >= bottom {
        return None;
    }
    let y = (top + bottom) / 2;
    let way = Rect { x: left.right(), y, w: right.x - left.right(), h: metrics.stroke };
    // It keeps a distance from boxes that it passes, and its words from all.
    let kept_clear: Vec<Rect> = layout.vertices.iter().map(|rect| rect.grown(metrics.ease)).collect();
    if kept_clear.iter().enumerate().any(|(at, rect)| !ends.contains(&at) && rect.meets(way)) {
        return None;
    }
    // Frames have borders: the words stand between those.
    let frames = ends.map(|vertex| graph.vertices[vertex].frame);
    let border = |vertex: usize| match graph.vertices[vertex].frame {
        Some(frame) if frames[0] != frames[1] => layout.frames[frame],
        _ => layout.vertices[vertex],
    };
    let [left_border, right_border] = ends.map(border);
    let x = (left_border.right() + right_border.x) / 2;
    let label = |number: usize, words: &String| {
        let y = match i32::try_from(number).unwrap_or(0) {
            0 => y - metrics.line,
            below => y + metrics.stroke + (below - 1) * metrics.line,
        };
        Label { at: Point { x, y }, anchor: Anchor::Middle, words: words.clone() }
    };
    let labels: Vec<Label> =
        edge.middle.iter().enumerate().map(|(number, words)| label(number, words)).collect();
    let areas: Vec<Rect> = labels.iter().map(|label| label.area(metrics)).collect();
    let is_free = |area: &Rect| !kept_clear.iter().any(|rect| rect.meets(*area));
    let crosses_frame = layout.frames.iter().enumerate().any(|(at, frame)| {
        let is_own = frames.contains(&Some(at));
        (!is_own && frame.meets(way))
            || (frames[0] != frames[1] && areas.iter().any(|area| area.meets(*frame)))
    });
    let said = |label: &Label| {
        let own = label.area(metrics);
        own.meets(way) || areas.iter().any(|area| area.meets(own))
    };
    // A wire may cross the tunnel, but neither run along it nor cross its words.
    let hinders = |pair: &[Point]| {
        let (from, to) = (pair[0], pair[1]);
        let part = Rect {
            x: from.x.min(to.x),
            y: from.y.min(to.y),
            w: (from.x - to.x).abs() + 1,
            h: (from.y - to.y).abs() + 1,
        };
        let along = Rect { y: way.y - metrics.track / 2, h: metrics.track, ..way };
        areas.iter().any(|area| area.meets(part)) || (from.y == to.y && part.meets(along))
    };
    let wires = layout.wires.iter().flat_map(|wire| wire.points.windows(2));
    let free = !crosses_frame
        && areas.iter().all(is_free)
        && !layout.labels.iter().any(said)
        && !wires.into_iter().any(hinders);
    free.then(|| (vec![Point { x: left.right(), y }, Point { x: right.x, y }], labels))
}
