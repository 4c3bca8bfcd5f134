//! Where everything goes, in the units of a format.
//!
//! Each frame is laid out for itself and is then a box like the others, with its lines coming from above.

use super::forest;
use super::metrics::{Metrics, Size};
use super::ring;
use super::tiers::{self, Forest};
use super::tunnels;
use super::{Graph, Kind, Style};

/// A place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Point {
    pub(super) x: i32,
    pub(super) y: i32,
}

/// A box's place: from `x` up to, not including, `x + w`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Rect {
    pub(super) x: i32,
    pub(super) y: i32,
    pub(super) w: i32,
    pub(super) h: i32,
}

impl Rect {
    pub(super) fn right(self) -> i32 {
        self.x + self.w
    }

    pub(super) fn bottom(self) -> i32 {
        self.y + self.h
    }

    /// Whether they have a place in common.
    pub(super) fn meets(self, other: Rect) -> bool {
        self.x < other.right() && other.x < self.right() && self.y < other.bottom() && other.y < self.bottom()
    }

    /// With so much more on each side.
    pub(super) fn grown(self, by: i32) -> Rect {
        Rect { x: self.x - by, y: self.y - by, w: self.w + 2 * by, h: self.h + 2 * by }
    }

    fn moved(self, by: Point) -> Rect {
        Rect { x: self.x + by.x, y: self.y + by.y, ..self }
    }
}

/// Where a wire leaves a box.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Top,
    Bottom,
    Left,
    Right,
}

/// How an edge goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wire {
    /// The place in [`Graph::edges`].
    pub(super) edge: usize,
    /// From box to box, each part level or upright.
    pub(super) points: Vec<Point>,
    /// Where the first and the last point leave their boxes.
    pub(super) sides: [Side; 2],
}

/// Where a label's place is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// A line of text beside a wire. `at` is the top of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Label {
    pub(super) at: Point,
    pub(super) anchor: Anchor,
    pub(super) words: String,
}

impl Label {
    /// The room that it takes.
    pub(super) fn area(&self, metrics: &Metrics) -> Rect {
        let w = (metrics.label)(&self.words);
        let x = match self.anchor {
            Anchor::Start => self.at.x,
            Anchor::Middle => self.at.x - w / 2,
            Anchor::End => self.at.x - w,
        };
        Rect { x, y: self.at.y, w, h: metrics.line }
    }
}

/// Where everything goes.
#[derive(Debug, Clone, Default)]
pub(super) struct Layout {
    pub(super) size: Size,
    /// As [`Graph::frames`].
    pub(super) frames: Vec<Rect>,
    /// As [`Graph::vertices`].
    pub(super) vertices: Vec<Rect>,
    pub(super) wires: Vec<Wire>,
    pub(super) labels: Vec<Label>,
    /// Tunnels for which there is no straight way.
    pub(super) bent: Vec<usize>,
}

/// A box, or a frame with what is in it.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) size: Size,
    pub(super) rank: Kind,
    pub(super) is_frame: bool,
    /// In a frame: the edges that lead out of it, with the room of their labels.
    pub(super) entries: Vec<(usize, i32)>,
}

impl Item {
    pub(super) fn is_entry(&self) -> bool {
        !self.entries.is_empty()
    }

    /// Bridges and switches are above what is connected with them; others stand in a row, if it is one.
    fn is_in_rows(&self) -> bool {
        matches!(self.rank, Kind::Host | Kind::Router)
    }

    pub(super) fn is_uplink(&self) -> bool {
        self.rank == Kind::Uplink
    }
}

/// An edge between two items.
#[derive(Debug, Clone)]
pub(super) struct Tie<'g> {
    pub(super) edge: usize,
    pub(super) items: [usize; 2],
    /// Where it enters a frame.
    pub(super) ports: [Option<i32>; 2],
    pub(super) lines: [&'g [String]; 2],
    pub(super) middle: &'g [String],
    pub(super) is_tunnel: bool,
}

impl Tie<'_> {
    /// Room of its labels beside a wire, the space before and behind included.
    pub(super) fn room(&self, metrics: &Metrics) -> i32 {
        room(self.lines.iter().copied().chain([self.middle]).flatten(), metrics)
    }
}

fn room<'g>(lines: impl Iterator<Item = &'g String>, metrics: &Metrics) -> i32 {
    match lines.map(|line| (metrics.label)(line)).max() {
        Some(widest) => metrics.lead + widest + metrics.lead,
        None => metrics.gap.w,
    }
}

/// Items with their places.
#[derive(Debug, Clone, Default)]
pub(super) struct Arranged {
    pub(super) size: Size,
    pub(super) rects: Vec<Rect>,
    /// Where edges that lead out of the frame leave their boxes.
    pub(super) entries: Vec<(usize, i32)>,
    pub(super) wires: Vec<Wire>,
    pub(super) labels: Vec<Label>,
}

/// Finds a place for everything.
pub(super) fn layout(graph: &Graph, metrics: &Metrics) -> Layout {
    let mut layout = Layout {
        frames: vec![Rect::default(); graph.frames.len()],
        vertices: vec![Rect::default(); graph.vertices.len()],
        ..Layout::default()
    };
    let mut items: Vec<Item> = Vec::new();
    // The item of each vertex, and the vertex or frame of each item.
    let mut item_of = vec![0; graph.vertices.len()];
    let mut blocks: Vec<Option<Block>> = Vec::new();
    let mut frame_item: Vec<Option<usize>> = vec![None; graph.frames.len()];
    for (at, vertex) in graph.vertices.iter().enumerate() {
        let Some(frame) = vertex.frame else {
            item_of[at] = items.len();
            let size = (metrics.vertex)(vertex);
            items.push(Item { size, rank: vertex.kind, is_frame: false, entries: Vec::new() });
            blocks.push(None);
            continue;
        };
        item_of[at] = *frame_item[frame].get_or_insert_with(|| {
            let block = block(graph, frame, metrics);
            items.push(Item { size: block.size, rank: Kind::Host, is_frame: true, entries: Vec::new() });
            blocks.push(Some(block));
            items.len() - 1
        });
    }
    for frame in (0..graph.frames.len()).filter(|frame| frame_item[*frame].is_none()) {
        let block = block(graph, frame, metrics);
        items.push(Item { size: block.size, rank: Kind::Host, is_frame: true, entries: Vec::new() });
        blocks.push(Some(block));
    }
    let ties: Vec<Tie<'_>> = ties(graph, |vertex| Some(item_of[vertex]))
        .into_iter()
        .filter(|tie| tie.items[0] != tie.items[1])
        .map(|mut tie| {
            for (item, port) in tie.items.iter().zip(&mut tie.ports) {
                let block = blocks[*item].as_ref();
                *port = block.and_then(|block| block.port(tie.edge));
            }
            tie
        })
        .collect();
    let outer = scope(&items, &ties, metrics);
    for (at, vertex) in graph.vertices.iter().enumerate().filter(|(_, vertex)| vertex.frame.is_none()) {
        debug_assert!(vertex.frame.is_none());
        layout.vertices[at] = outer.rects[item_of[at]];
    }
    layout.size = outer.size;
    layout.wires = outer.wires;
    layout.labels = outer.labels;
    for (item, block) in blocks.iter().enumerate() {
        let Some(block) = block else { continue };
        let rect = outer.rects[item];
        layout.frames[block.frame] = rect;
        let by = Point { x: rect.x + block.origin.x, y: rect.y + block.origin.y };
        for (own, vertex) in block.vertices.iter().enumerate() {
            layout.vertices[*vertex] = block.inner.rects[own].moved(by);
        }
        let moved = |point: &Point| Point { x: point.x + by.x, y: point.y + by.y };
        layout.wires.extend(
            block
                .inner
                .wires
                .iter()
                .map(|wire| Wire { points: wire.points.iter().map(moved).collect(), ..wire.clone() }),
        );
        let labels = block.inner.labels.iter().map(|label| Label { at: moved(&label.at), ..label.clone() });
        layout.labels.extend(labels);
    }
    into_frames(graph, &mut layout);
    tunnels::add(graph, &mut layout, metrics);
    layout
}

/// A frame, laid out.
struct Block {
    frame: usize,
    vertices: Vec<usize>,
    inner: Arranged,
    /// Where the content begins.
    origin: Point,
    size: Size,
}

impl Block {
    fn port(&self, edge: usize) -> Option<i32> {
        let entry = self.inner.entries.iter().find(|(own, _)| *own == edge);
        entry.map(|(_, x)| x + self.origin.x)
    }
}

fn block(graph: &Graph, frame: usize, metrics: &Metrics) -> Block {
    let is_inside = |at: &usize| graph.vertices[*at].frame == Some(frame);
    let vertices: Vec<usize> = (0..graph.vertices.len()).filter(is_inside).collect();
    let entries = |vertex: usize| {
        let own = graph.edges.iter().enumerate().filter(|(_, edge)| edge.style != Style::Tunnel);
        let leads_out = own.filter(|(_, edge)| edge.touches(vertex) && !is_inside(&edge.other(vertex)));
        let lines = |edge: usize| {
            let edge = &graph.edges[edge];
            room(edge.ends.iter().flat_map(|end| &end.lines).chain(&edge.middle), metrics)
        };
        leads_out.map(|(edge, _)| (edge, lines(edge))).collect()
    };
    let items: Vec<Item> = vertices
        .iter()
        .map(|at| Item {
            size: (metrics.vertex)(&graph.vertices[*at]),
            rank: graph.vertices[*at].kind,
            is_frame: false,
            entries: entries(*at),
        })
        .collect();
    let ties = ties(graph, |vertex| vertices.iter().position(|own| *own == vertex));
    let inner = scope(&items, &ties, metrics);
    let head = (metrics.frame)(&graph.frames[frame]);
    // What comes from above passes to the right of what the frame says.
    let first_entry = inner.entries.iter().map(|(_, x)| *x).min();
    let behind_head =
        first_entry.filter(|_| head.w > 0).map_or(0, |x| head.w + metrics.lead - x - metrics.pad.w);
    let title = (metrics.title)(&graph.frames[frame]).max(head.w);
    let spare = (title - inner.size.w - metrics.pad.w).max(0);
    let origin = Point { x: metrics.pad.w + behind_head.max(0).max(spare / 2), y: head.h };
    let w = (origin.x + inner.size.w + metrics.pad.w).max(title + metrics.pad.w);
    let size = Size { w, h: origin.y + inner.size.h + metrics.pad.h };
    Block { frame, vertices, inner, origin, size }
}

/// The edges between items of a scope.
fn ties<'g>(graph: &'g Graph, item_of: impl Fn(usize) -> Option<usize>) -> Vec<Tie<'g>> {
    let mut ties = Vec::new();
    for (at, edge) in graph.edges.iter().enumerate() {
        let [a, b] = edge.ends.each_ref();
        if let (Some(left), Some(right)) = (item_of(a.vertex), item_of(b.vertex)) {
            ties.push(Tie {
                edge: at,
                items: [left, right],
                ports: [None, None],
                lines: [&a.lines, &b.lines],
                middle: &edge.middle,
                is_tunnel: edge.style == Style::Tunnel,
            });
        }
    }
    ties
}

/// Lays out the items of a frame, or those outside of all. Parts that nothing connects stand beside each other, as far as there is room.
fn scope(items: &[Item], ties: &[Tie<'_>], metrics: &Metrics) -> Arranged {
    let mut near = tiers::neighbours(items.len(), ties);
    for (at, tie) in ties.iter().enumerate().filter(|(_, tie)| tie.is_tunnel) {
        let [a, b] = tie.items;
        near[a].push((b, at));
        near[b].push((a, at));
    }
    let mut parts: Vec<(Vec<usize>, Arranged)> = tiers::parts(&near, |_| true)
        .into_iter()
        .map(|part| {
            let place = |item: usize| part.binary_search(&item).ok();
            let own_items: Vec<Item> = part.iter().map(|item| items[*item].clone()).collect();
            let own_ties: Vec<Tie<'_>> = ties
                .iter()
                .filter_map(|tie| {
                    Some(Tie { items: [place(tie.items[0])?, place(tie.items[1])?], ..tie.clone() })
                })
                .collect();
            let arranged = connected(&own_items, &own_ties, metrics);
            (part, arranged)
        })
        .collect();
    let in_a_row: i32 = parts.iter().map(|(_, part)| part.size.w + metrics.gap.w * 2).sum();
    if in_a_row > metrics.width {
        // Lines come into a frame from above: they would run through whatever stands there.
        parts.sort_by_key(|(_, part)| part.entries.is_empty());
    }
    let mut whole = Arranged { rects: vec![Rect::default(); items.len()], ..Arranged::default() };
    let (mut at, mut row) = (Point::default(), 0);
    for (part, arranged) in parts {
        if arranged.entries.is_empty() && at.x > 0 && at.x + arranged.size.w > metrics.width {
            at = Point { x: 0, y: at.y + row + metrics.gap.h * 2 };
            row = 0;
        }
        let by = at;
        for (own, item) in part.iter().enumerate() {
            whole.rects[*item] = arranged.rects[own].moved(by);
        }
        let moved = |point: Point| Point { x: point.x + by.x, y: point.y + by.y };
        whole.entries.extend(arranged.entries.iter().map(|(edge, x)| (*edge, x + by.x)));
        whole.wires.extend(
            arranged
                .wires
                .into_iter()
                .map(|wire| Wire { points: wire.points.into_iter().map(moved).collect(), ..wire }),
        );
        whole.labels.extend(arranged.labels.into_iter().map(|label| Label { at: moved(label.at), ..label }));
        whole.size.w = whole.size.w.max(at.x + arranged.size.w);
        whole.size.h = whole.size.h.max(at.y + arranged.size.h);
        row = row.max(arranged.size.h);
        at.x += arranged.size.w + metrics.gap.w * 2;
    }
    whole
}

/// Lays out what is connected: a ring as one, a line as a row if there is room, and all else in tiers.
fn connected(items: &[Item], ties: &[Tie<'_>], metrics: &Metrics) -> Arranged {
    let near = tiers::neighbours(items.len(), ties);
    let is_plain = items.iter().all(|item| !item.is_frame && !item.is_entry());
    let solid = ties.iter().filter(|tie| !tie.is_tunnel).count();
    let same_rank = items.iter().all(|item| item.rank == items[0].rank);
    if is_plain
        && near.iter().all(|near| near.len() == 2)
        && items.len() >= 4
        && solid == items.len()
        && same_rank
    {
        return ring::arrange(items, ties, metrics);
    }
    let is_line = near.iter().all(|near| near.len() <= 2) && solid + 1 == items.len();
    if is_plain && is_line && (same_rank || items.len() > 2) && items.iter().all(Item::is_in_rows) {
        let row = Forest::row(tiers::in_order(&near, (0..items.len()).collect()), items.len());
        let arranged = forest::arrange(items, ties, &row, metrics);
        if arranged.size.w <= metrics.width {
            return arranged;
        }
    }
    forest::arrange(items, ties, &tiers::forest(items, ties), metrics)
}

/// Wires that end at a frame go on to the box in it.
fn into_frames(graph: &Graph, layout: &mut Layout) {
    for wire in &mut layout.wires {
        let edge = &graph.edges[wire.edge];
        for last in [false, true] {
            let at = if last { wire.points.len() - 1 } else { 0 };
            let point = wire.points[at];
            let ends = edge.ends.iter().filter(|end| graph.vertices[end.vertex].frame.is_some());
            for end in ends {
                let frame = graph.vertices[end.vertex].frame.map(|frame| layout.frames[frame]);
                let rect = layout.vertices[end.vertex];
                if frame
                    .is_some_and(|frame| frame.y == point.y && (frame.x..frame.right()).contains(&point.x))
                    && (rect.x..rect.right()).contains(&point.x)
                {
                    wire.points[at].y = rect.y;
                }
            }
        }
    }
}
