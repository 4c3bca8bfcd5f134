//! Boxes and lines, for a terminal.

use super::canvas::{Canvas, Ink, Stroke, cells};
use super::collapse::{self, Limits};
use super::compact;
use super::layout::{Layout, Point, Rect, Side, Wire, layout};
use super::list::list;
use super::metrics::{Metrics, Size};
use super::{Edge, Graph, Mark, Style, plain};
use crate::render::Paint;

/// What is collapsed, one after the other, until a drawing fits.
const TIGHTER: [Limits; 5] = [
    Limits { alike: 6, row: 16, frames: 2 },
    Limits { alike: 4, row: 8, frames: 2 },
    Limits { alike: 3, row: 6, frames: 2 },
    Limits { alike: 2, row: 4, frames: 2 },
    Limits { alike: 1, row: 2, frames: 2 },
];

/// The drawing, at most `columns` wide; a list where it would be wider. Unless each is to be seen, boxes that are alike become one
/// before that.
pub fn text(graph: &Graph, columns: usize, paint: Paint) -> String {
    let graph = printable(graph);
    let width = i32::try_from(columns).unwrap_or(i32::MAX);
    let roomy = metrics(width);
    let tight = Metrics { gap: Size { w: 1, h: 1 }, ..roomy };
    // A title above would push what comes from there to the side.
    let tightest = Metrics { is_title_below: true, frame: |frame| frame_size(&frame.lines), ..tight };
    let tighter = TIGHTER.iter().filter(|_| !graph.whole).map(|limits| collapse::collapse(&graph, *limits));
    for graph in std::iter::once(graph.clone()).chain(tighter) {
        let compact = compact::compact(&graph);
        for (graph, metrics) in [(&graph, roomy), (&compact, tight), (&compact, tightest)] {
            let layout = layout(graph, &metrics);
            if layout.size.w <= width {
                return draw(graph, &layout, &metrics, columns, paint);
            }
        }
    }
    list(&graph, columns, paint)
}

fn metrics(width: i32) -> Metrics {
    Metrics {
        vertex: |vertex| {
            let widest = vertex.lines.iter().chain([&vertex.title]).map(|line| cells(line)).max();
            Size { w: widest.unwrap_or(0) + 4, h: 3 + count(vertex.lines.len()) }
        },
        frame: |frame| {
            let head = frame_size(&frame.lines);
            Size { w: head.w.max(cells(&frame.title) + 4), ..head }
        },
        title: |frame| cells(&frame.title) + 4,
        is_title_below: false,
        label: cells,
        line: 1,
        lead: 2,
        stroke: 1,
        ease: 0,
        gap: Size { w: 2, h: 1 },
        pad: Size { w: 2, h: 1 },
        corner: 2,
        track: 1,
        width,
        aspect: 20,
    }
}

fn frame_size(lines: &[String]) -> Size {
    let widest = lines.iter().map(|line| cells(line) + 4).max();
    Size { w: widest.unwrap_or(0), h: 1 + count(lines.len()) }
}

fn count(lines: usize) -> i32 {
    i32::try_from(lines).unwrap_or(i32::MAX)
}

/// With everything that others chose fit for a terminal.
fn printable(graph: &Graph) -> Graph {
    let mut graph = graph.clone();
    let vertices = graph.vertices.iter_mut().map(|vertex| (&mut vertex.title, &mut vertex.lines));
    let frames = graph.frames.iter_mut().map(|frame| (&mut frame.title, &mut frame.lines));
    for (title, lines) in vertices.chain(frames) {
        *title = plain(title);
        lines.iter_mut().for_each(|line| *line = plain(line));
    }
    for edge in &mut graph.edges {
        let ends = edge.ends.iter_mut().flat_map(|end| &mut end.lines);
        ends.chain(&mut edge.middle).for_each(|line| *line = plain(line));
    }
    graph
}

fn draw(graph: &Graph, layout: &Layout, metrics: &Metrics, columns: usize, paint: Paint) -> String {
    let mut canvas = Canvas::new(layout.size.w, layout.size.h);
    for (frame, rect) in graph.frames.iter().zip(&layout.frames) {
        let ink = border(frame.mark, Ink::Faint);
        canvas.rectangle((rect.x, rect.y), (rect.w, rect.h), true, ink);
        let y = if metrics.is_title_below { rect.bottom() - 1 } else { rect.y };
        canvas.write(rect.x + 2, y, &format!(" {} ", frame.title), Ink::Title);
        for (row, line) in (1..).zip(&frame.lines) {
            canvas.write(rect.x + 3, rect.y + row, line, Ink::Plain);
        }
    }
    for rect in &layout.vertices {
        canvas.rectangle((rect.x, rect.y), (rect.w, rect.h), false, Ink::Plain);
    }
    for wire in &layout.wires {
        draw_wire(&mut canvas, wire, graph.edges[wire.edge].style);
    }
    for (vertex, rect) in graph.vertices.iter().zip(&layout.vertices) {
        centred(&mut canvas, *rect, 1, &vertex.title, border(vertex.mark, Ink::Title));
        for (row, line) in (2..).zip(&vertex.lines) {
            centred(&mut canvas, *rect, row, line, border(vertex.mark, Ink::Plain));
        }
    }
    for label in &layout.labels {
        let area = label.area(metrics);
        canvas.write(area.x, area.y, &label.words, Ink::Plain);
    }
    let mut out = canvas.text(paint);
    if !layout.bent.is_empty() {
        out.push('\n');
        for edge in &layout.bent {
            let line = tunnel_words(graph, &graph.edges[*edge]);
            super::list::wrapped(&mut out, "╌╌ ", &line, columns);
        }
    }
    out
}

fn border(mark: Mark, fine: Ink) -> Ink {
    match mark {
        Mark::Fine => fine,
        Mark::Warning => Ink::Warning,
        Mark::Bad => Ink::Bad,
    }
}

fn centred(canvas: &mut Canvas, rect: Rect, row: i32, words: &str, ink: Ink) {
    canvas.write(rect.x + (rect.w - cells(words)) / 2, rect.y + row, words, ink);
}

/// A tunnel that no line is drawn for.
pub(super) fn tunnel_words(graph: &Graph, edge: &Edge) -> String {
    let name = |end: usize| {
        let vertex = &graph.vertices[edge.ends[end].vertex];
        match vertex.frame {
            Some(frame) => format!("{} in {}", vertex.title, graph.frames[frame].title),
            None => vertex.title.clone(),
        }
    };
    format!("{} – {}: {}", name(0), name(1), edge.middle.join(", ")).trim_end_matches(": ").to_owned()
}

fn draw_wire(canvas: &mut Canvas, wire: &Wire, style: Style) {
    let (stroke, ink) = match style {
        Style::Link => (Stroke::Solid, Ink::Plain),
        Style::Inside => (Stroke::Dotted, Ink::Faint),
        Style::Tunnel => (Stroke::Dashed, Ink::Faint),
    };
    // Boxes end before their lower right corner's point: a wire begins on the border itself.
    let mut points: Vec<(i32, i32)> = wire.points.iter().map(|point| (point.x, point.y)).collect();
    let last = points.len() - 1;
    for (at, side) in [(0, wire.sides[0]), (last, wire.sides[1])] {
        let Point { x, y } = wire.points[at];
        points[at] = match side {
            Side::Bottom => (x, y - 1),
            Side::Right => (x - 1, y),
            Side::Top | Side::Left => (x, y),
        };
    }
    for pair in points.windows(2) {
        canvas.line(pair[0], pair[1], stroke, ink);
    }
}
