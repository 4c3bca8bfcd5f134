//! A picture for a slide: an SVG that needs nothing but itself, light or dark as its viewer is.

use std::fmt::Write;

use super::dot::{colours, outline};
use super::layout::{Anchor, Label, Layout, Point, Rect, Wire, layout};
use super::metrics::{Metrics, Size};
use super::text::tunnel_words;
use super::{Edge, Frame, Graph, Kind, Style, Vertex, plain};

const SANS: &str = "Inter, system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif";
const MONO: &str = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace";

/// Around everything.
const MARGIN: i32 = 28;
const TITLE: i32 = 18;
const NAME: i32 = 14;
const SMALL: i32 = 11;
/// From one small line to the next.
const LINE: i32 = 15;
/// How much later cards of a stack stick out.
const STACK: i32 = 4;
/// Where the words of the legend begin.
const LEGEND: i32 = 44;

/// The graph as an SVG.
pub fn svg(graph: &Graph) -> String {
    let layout = layout(graph, &METRICS);
    let title = plain(&graph.title);
    let head = if title.is_empty() { 0 } else { TITLE + 22 };
    let arcs: Vec<(usize, Arc)> =
        layout.bent.iter().map(|at| (*at, arc(&graph.edges[*at], &layout))).collect();
    let above = arcs.iter().map(|(_, arc)| -arc.top).max().unwrap_or(0).max(0);
    let legend = legend(graph, &layout);
    let right = arcs.iter().map(|(_, arc)| arc.right).max().unwrap_or(0).max(layout.size.w + STACK);
    let right = right.max(legend.iter().map(|line| LEGEND + mono(line)).max().unwrap_or(0));
    let below = i32::try_from(legend.len()).unwrap_or(0) * LINE + if legend.is_empty() { 0 } else { LINE };
    let drawn = layout.size.h + STACK;
    let (w, h) = (right.max(sans(&title, TITLE)) + 2 * MARGIN, above + drawn + below + head + 2 * MARGIN);
    let mut out = String::new();
    let _ = writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{w}\" height=\"{h}\" viewBox=\"0 0 {w} {h}\" role=\"img\" \
         font-family=\"{SANS}\">"
    );
    let _ = writeln!(out, "<title>{}</title>", escape(if title.is_empty() { "network" } else { &title }));
    out.push_str(DARK);
    let _ = writeln!(out, "<rect class=\"ground\" width=\"{w}\" height=\"{h}\" rx=\"12\" fill=\"#ffffff\"/>");
    if !title.is_empty() {
        let _ = writeln!(
            out,
            "<text class=\"title\" x=\"{MARGIN}\" y=\"{}\" font-size=\"{TITLE}\" font-weight=\"600\" fill=\"#0f172a\">{}</text>",
            MARGIN + TITLE - 2,
            escape(&title)
        );
    }
    let _ = writeln!(out, "<g transform=\"translate({MARGIN} {})\">", MARGIN + head + above);
    for (frame, rect) in graph.frames.iter().zip(&layout.frames) {
        write_frame(&mut out, frame, *rect);
    }
    for (at, arc) in &arcs {
        write_arc(&mut out, &graph.edges[*at], arc);
    }
    for wire in &layout.wires {
        write_wire(&mut out, wire, graph.edges[wire.edge].style);
    }
    for (vertex, rect) in graph.vertices.iter().zip(&layout.vertices) {
        write_vertex(&mut out, vertex, *rect);
    }
    for label in &layout.labels {
        write_label(&mut out, label);
    }
    for (row, line) in (1..).zip(&legend) {
        write_legend(&mut out, drawn + LINE * row, line);
    }
    out.push_str("</g>\n</svg>\n");
    out
}

/// What changes where the viewer is dark. Programs that know no style sheets show it light.
const DARK: &str = "<style>
@media (prefers-color-scheme: dark) {
  .ground { fill: #0f172a }
  .title, .name { fill: #f1f5f9 }
  .detail, .label { fill: #cbd5e1 }
  .frame { fill: #172033; stroke: #475569 }
  .uplink, .interface { fill: #1e293b }
  .tunnel { fill: #083344 }
  .router { fill: #431407 }
  .switch, .bridge, .plugins { fill: #052e16 }
  .host { fill: #172554 }
  .pod { fill: #3b0764 }
  .wire { stroke: #94a3b8 }
  .inside { stroke: #64748b }
  .dashed { stroke: #22d3ee }
}
</style>
";

pub(super) const METRICS: Metrics = Metrics {
    vertex: |vertex| {
        let widest = vertex.lines.iter().map(|line| mono(line)).max().unwrap_or(0);
        let w = (sans(&plain(&vertex.title), NAME).max(widest) + 32).max(84);
        // Even: the middle is a whole number.
        Size { w: w + w % 2, h: 36 + LINE * i32::try_from(vertex.lines.len()).unwrap_or(0) }
    },
    frame: |frame| {
        let widest = frame.lines.iter().map(|line| mono(line)).max().unwrap_or(0);
        let w = sans(&plain(&frame.title), NAME).max(widest) + 20;
        Size { w, h: 38 + LINE * i32::try_from(frame.lines.len()).unwrap_or(0) }
    },
    title: |frame| sans(&plain(&frame.title), NAME) + 20,
    is_title_below: false,
    label: mono,
    line: LINE,
    lead: 8,
    stroke: 4,
    ease: 5,
    gap: Size { w: 26, h: 22 },
    pad: Size { w: 18, h: 18 },
    corner: 20,
    track: 14,
    width: 1500,
    aspect: 10,
};

/// Width of a text in a typeface that nobody knows beforehand, with room to spare: the widths of DejaVu Sans Bold, which is wide.
fn sans(text: &str, size: i32) -> i32 {
    let thousandths: i32 = text
        .chars()
        .map(|c| match c {
            'i' | 'j' | 'l' | '.' | ',' | ':' | ';' | '\'' | '|' | ' ' => 380,
            'f' | 'r' | 't' | '(' | ')' | '[' | ']' | '/' | '-' | '"' => 480,
            'm' | 'w' | 'M' | 'W' | '@' | '%' | '…' => 1_050,
            'A'..='Z' => 780,
            '\u{2e80}'..='\u{a4cf}'
            | '\u{ac00}'..='\u{d7a3}'
            | '\u{f900}'..='\u{faff}'
            | '\u{ff00}'..='\u{ff60}' => 1_050,
            '\u{1f300}'..='\u{1faff}' | '\u{20000}'..='\u{3fffd}' => 1_300,
            _ => 690,
        })
        .sum();
    (thousandths * size + 999) / 1_000
}

/// Width of a text in small letters of one width, which is 0.6 of their size.
fn mono(text: &str) -> i32 {
    (super::canvas::cells(&plain(text)) * SMALL * 61 + 99) / 100
}

fn class(kind: Kind) -> &'static str {
    match kind {
        Kind::Uplink => "uplink",
        Kind::Interface => "interface",
        Kind::Tunnel => "tunnel",
        Kind::Router => "router",
        Kind::Switch => "switch",
        Kind::Bridge => "bridge",
        Kind::Plugins => "plugins",
        Kind::Host => "host",
        Kind::Pod => "pod",
    }
}

fn write_frame(out: &mut String, frame: &Frame, rect: Rect) {
    let Rect { x, y, w, h } = rect;
    let line = outline(frame.mark).unwrap_or("#cbd5e1");
    let _ = writeln!(
        out,
        "<rect class=\"frame\" x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\" rx=\"14\" fill=\"#f8fafc\" stroke=\"{line}\" \
         stroke-width=\"1.5\"/>"
    );
    let _ = writeln!(
        out,
        "<text class=\"name\" x=\"{}\" y=\"{}\" font-size=\"{NAME}\" font-weight=\"600\" fill=\"#0f172a\">{}</text>",
        x + 16,
        y + 24,
        escape(&frame.title)
    );
    for (row, line) in (0..).zip(&frame.lines) {
        detail(out, "start", Point { x: x + 16, y: y + 41 + LINE * row }, line);
    }
}

fn write_vertex(out: &mut String, vertex: &Vertex, rect: Rect) {
    let Rect { x, y, w, h } = rect;
    let (fill, line) = colours(vertex.kind);
    let (line, width) = outline(vertex.mark).map_or((line, "1.5"), |line| (line, "3"));
    let class = class(vertex.kind);
    let name = escape(&vertex.title);
    let _ = writeln!(out, "<g class=\"vertex\"><title>{name}</title>");
    let mut card = |by: i32, extra: &str| {
        let _ = writeln!(
            out,
            "<rect class=\"{class}{extra}\" x=\"{}\" y=\"{}\" width=\"{w}\" height=\"{h}\" rx=\"9\" fill=\"{fill}\" \
             stroke=\"{line}\" stroke-width=\"{width}\"/>",
            x + by,
            y + by
        );
    };
    if vertex.count > 1 {
        card(STACK, " behind");
        card(STACK / 2, " behind");
    }
    card(0, " box");
    let middle = x + w / 2;
    let _ = writeln!(
        out,
        "<text class=\"name\" x=\"{middle}\" y=\"{}\" font-size=\"{NAME}\" font-weight=\"600\" text-anchor=\"middle\" \
         fill=\"#0f172a\">{name}</text>",
        y + 23
    );
    for (row, line) in (0..).zip(&vertex.lines) {
        detail(out, "middle", Point { x: middle, y: y + 39 + LINE * row }, line);
    }
    out.push_str("</g>\n");
}

fn detail(out: &mut String, anchor: &str, at: Point, words: &str) {
    let _ = writeln!(
        out,
        "<text class=\"detail\" x=\"{}\" y=\"{}\" font-family=\"{MONO}\" font-size=\"{SMALL}\" text-anchor=\"{anchor}\" \
         fill=\"#475569\">{}</text>",
        at.x,
        at.y,
        escape(words)
    );
}

fn write_label(out: &mut String, label: &Label) {
    let anchor = match label.anchor {
        Anchor::Start => "start",
        Anchor::Middle => "middle",
        Anchor::End => "end",
    };
    let _ = writeln!(
        out,
        "<text class=\"label\" x=\"{}\" y=\"{}\" font-family=\"{MONO}\" font-size=\"{SMALL}\" text-anchor=\"{anchor}\" \
         fill=\"#475569\">{}</text>",
        label.at.x,
        label.at.y + LINE - 4,
        escape(&label.words)
    );
}

/// Class, colour and width of a line, and its dashes.
fn pen(style: Style) -> &'static str {
    match style {
        Style::Link => "class=\"wire\" stroke=\"#64748b\" stroke-width=\"1.6\"",
        Style::Inside => {
            "class=\"inside\" stroke=\"#94a3b8\" stroke-width=\"1.4\" stroke-dasharray=\"1 4\" stroke-linecap=\"round\""
        }
        Style::Tunnel => "class=\"dashed\" stroke=\"#0891b2\" stroke-width=\"1.8\" stroke-dasharray=\"7 5\"",
    }
}

fn write_wire(out: &mut String, wire: &Wire, style: Style) {
    let points = &wire.points;
    let mut path = format!("M{} {}", points[0].x, points[0].y);
    for three in points.windows(3) {
        let [before, corner, after] = [three[0], three[1], three[2]];
        // Half of a short part: its other corner needs the rest.
        let radius = 7.min(length(before, corner) / 2).min(length(corner, after) / 2);
        let (from, to) = (towards(corner, before, radius), towards(corner, after, radius));
        let _ = write!(path, " L{} {} Q{} {} {} {}", from.x, from.y, corner.x, corner.y, to.x, to.y);
    }
    let last = points[points.len() - 1];
    let _ = write!(path, " L{} {}", last.x, last.y);
    let _ = writeln!(out, "<path d=\"{path}\" fill=\"none\" {}/>", pen(style));
}

fn length(a: Point, b: Point) -> i32 {
    (a.x - b.x).abs() + (a.y - b.y).abs()
}

fn towards(from: Point, to: Point, by: i32) -> Point {
    Point { x: from.x + (to.x - from.x).signum() * by, y: from.y + (to.y - from.y).signum() * by }
}

/// A tunnel that something is in the way of.
struct Arc {
    from: Point,
    to: Point,
    /// The control points of the curve.
    by: [Point; 2],
    /// How far it goes up and to the right.
    top: i32,
    right: i32,
}

fn arc(edge: &Edge, layout: &Layout) -> Arc {
    let mut rects = edge.ends.each_ref().map(|end| layout.vertices[end.vertex]);
    rects.sort_by_key(|rect| (rect.x, rect.y));
    let [a, b] = rects;
    if a.right() < b.x {
        // Above what is between.
        let between = layout
            .vertices
            .iter()
            .filter(|rect| rect.x < b.x && rect.right() > a.right() && rect.y <= a.bottom());
        let same_tier = between.clone().filter(|rect| rect.bottom() > a.y.min(b.y)).map(|rect| rect.y).min();
        let rise = a.y.min(b.y) - same_tier.unwrap_or(a.y).min(a.y.min(b.y)) + 13;
        let (from, to) = (Point { x: a.right() - 14, y: a.y }, Point { x: b.x + 14, y: b.y });
        // A curve reaches three quarters of the way to its control points.
        let y = a.y.min(b.y) - rise * 4 / 3;
        let by = [Point { x: from.x + 30, y }, Point { x: to.x - 30, y }];
        return Arc { from, to, by, top: y, right: 0 };
    }
    // One below the other: around the right.
    let x = a.right().max(b.right());
    let (from, to) = (Point { x: a.right(), y: a.y + a.h / 2 }, Point { x: b.right(), y: b.y + b.h / 2 });
    let by = [Point { x: x + 60, y: from.y }, Point { x: x + 60, y: to.y }];
    Arc { from, to, by, top: 0, right: x + 60 }
}

fn write_arc(out: &mut String, edge: &Edge, arc: &Arc) {
    let Arc { from, to, by: [a, b], .. } = arc;
    let _ = writeln!(
        out,
        "<path d=\"M{} {} C{} {} {} {} {} {}\" fill=\"none\" {}/>",
        from.x,
        from.y,
        a.x,
        a.y,
        b.x,
        b.y,
        to.x,
        to.y,
        pen(edge.style)
    );
}

/// What no wire has room for: tunnels that are bent, unless a straight one says the same.
fn legend(graph: &Graph, layout: &Layout) -> Vec<String> {
    let straight = |edge: &Edge| {
        let mut others = layout.wires.iter().map(|wire| &graph.edges[wire.edge]);
        others.any(|other| other.style == Style::Tunnel && other.middle == edge.middle)
    };
    let bent = layout.bent.iter().map(|at| &graph.edges[*at]).filter(|edge| !edge.middle.is_empty());
    bent.filter(|edge| !straight(edge)).map(|edge| tunnel_words(graph, edge)).collect()
}

fn write_legend(out: &mut String, y: i32, words: &str) {
    let middle = y + LINE / 2;
    let _ = writeln!(
        out,
        "<path d=\"M0 {middle} L{} {middle}\" fill=\"none\" {}/>",
        LEGEND - 10,
        pen(Style::Tunnel)
    );
    detail(out, "start", Point { x: LEGEND, y: y + LINE - 4 }, words);
}

/// What XML reads as itself.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in plain(text).chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            // The two characters that are no control characters and not allowed (XML 1.0, 2.2).
            '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}
