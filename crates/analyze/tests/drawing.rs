//! Drawings of graphs that no lab has: names with all that formats give a meaning to, marks, and whatever comes by chance.

use podplumb_analyze::drawing::{
    Edge, End, Frame, Graph, Kind, Mark, Style, Vertex, dot, mermaid, svg, text,
};
use podplumb_analyze::render::Paint;
use proptest::prelude::*;

const COLUMNS: usize = 80;

fn vertex(title: &str, kind: Kind, frame: Option<usize>) -> Vertex {
    Vertex {
        id: title.to_owned(),
        title: title.to_owned(),
        kind,
        lines: Vec::new(),
        frame,
        mark: Mark::Fine,
        count: 1,
    }
}

fn edge(a: usize, b: usize, style: Style) -> Edge {
    let end =
        |vertex: usize| End { vertex, lines: vec![format!("eth{vertex}"), format!("10.0.0.{vertex}/24")] };
    Edge { ends: [end(a), end(b)], middle: Vec::new(), style }
}

fn frame(title: &str) -> Frame {
    Frame { id: title.to_owned(), title: title.to_owned(), lines: Vec::new(), mark: Mark::Fine }
}

const NASTY: &str = "<b>&amp;\"'\\N{x}|\"];--> %% `- \n\u{1b}[2J\u{202e}-->\u{fffe}end";

fn nasty() -> Graph {
    let mut left = vertex(NASTY, Kind::Host, None);
    left.lines = vec![NASTY.to_owned(), "- list".to_owned()];
    let inside = vertex("pod\"1", Kind::Pod, Some(0));
    let mut link = edge(0, 1, Style::Link);
    link.middle = vec![NASTY.to_owned()];
    link.ends[0].lines[0] = NASTY.to_owned();
    Graph {
        title: NASTY.to_owned(),
        frames: vec![Frame { lines: vec![NASTY.to_owned()], ..frame(NASTY) }],
        vertices: vec![left, inside],
        edges: vec![link],
        whole: false,
    }
}

#[test]
fn names_mean_nothing_but_themselves_in_any_format() {
    let graph = nasty();
    for text in [text(&graph, 200, Paint::PLAIN), svg(&graph), dot(&graph), mermaid(&graph)] {
        let bad = |c: char| (c.is_control() && c != '\n') || matches!(c, '\u{202e}');
        assert!(!text.contains(bad), "{text:?}");
    }
    let svg = svg(&graph);
    let document = roxmltree::Document::parse(&svg).unwrap();
    let shown = "<b>&amp;\"'\\N{x}|\"];--> %% `- \u{fffd}\u{fffd}[2J\u{fffd}-->\u{fffd}end";
    let texts = document.descendants().filter(|node| node.has_tag_name("text"));
    let texts: Vec<&str> = texts.filter_map(|node| node.text()).collect();
    // Title, frame and its line, box and its line, the link's end and middle.
    assert_eq!(texts.iter().filter(|text| **text == shown).count(), 7, "{texts:?}");
    assert!(document.descendants().all(|node| !node.has_tag_name("b")));
    // In mermaid only a name's own letters are left; nothing ends its quotes.
    for line in mermaid(&graph).lines() {
        assert!(line.matches('"').count() % 2 == 0, "{line}");
        assert!(!line.replace("<br/>", "").contains(['<', '>', '`', '%', '\\']), "{line}");
    }
    // In dot a quote or backslash of a name is escaped.
    for line in dot(&graph).lines() {
        let quotes = line.replace("\\\\", "").replace("\\\"", "").matches('"').count();
        assert!(quotes % 2 == 0, "{line}");
    }
}

#[test]
fn marks_are_seen_in_every_format_that_has_colours() {
    let mut graph = Graph {
        vertices: vec![vertex("well", Kind::Host, None), vertex("ill", Kind::Host, None)],
        edges: vec![edge(0, 1, Style::Link)],
        ..Graph::default()
    };
    graph.vertices[1].mark = Mark::Bad;
    assert!(svg(&graph).contains("stroke=\"#dc2626\" stroke-width=\"3\""));
    assert!(dot(&graph).contains("color=\"#dc2626\""));
    assert!(mermaid(&graph).contains("class n1 bad"));
    assert!(text(&graph, COLUMNS, Paint { color: true }).contains("\u{1b}[1;31mill"));
    assert!(!text(&graph, COLUMNS, Paint::PLAIN).contains('\u{1b}'));
}

#[test]
fn wide_letters_stay_in_their_boxes_on_a_terminal() {
    let graph = Graph { vertices: vec![vertex("節点", Kind::Host, None)], ..Graph::default() };
    assert_eq!(text(&graph, COLUMNS, Paint::PLAIN), "┌──────┐\n│ 節点 │\n└──────┘\n");
}

#[test]
fn lines_into_a_frame_run_through_nothing_however_wide_it_is() {
    let mut vertices = vec![vertex("sw", Kind::Switch, None)];
    vertices.extend((0..12).map(|n| vertex(&format!("a name of some length {n}"), Kind::Uplink, Some(0))));
    let edges = (1..=12).map(|port| edge(0, port, Style::Link)).collect();
    let graph = Graph { frames: vec![frame("node")], vertices, edges, whole: true, ..Graph::default() };
    picture::check(&svg(&graph)).unwrap();
}

#[test]
fn who_differs_is_not_taken_for_one_of_many() {
    let mut vertices = vec![vertex("sw", Kind::Switch, None)];
    vertices.extend((1..=20).map(|number| vertex(&format!("h{number}"), Kind::Host, None)));
    let edges: Vec<Edge> = (1..=20).map(|host| edge(0, host, Style::Link)).collect();
    let mut graph = Graph { vertices, edges, ..Graph::default() };
    graph.vertices[7].mark = Mark::Warning;
    graph.vertices[8].lines.push("lo 10.9.9.9/32".to_owned());
    graph.edges[8].middle.push("mtu 9000".to_owned());
    let titles: Vec<String> = graph.collapsed().vertices.into_iter().map(|vertex| vertex.title).collect();
    assert_eq!(titles, ["sw", "h1 … h20 (17)", "h7", "h8", "h9"]);
}

/// What may be connected with what, and where it is.
fn any_graph() -> impl Strategy<Value = Graph> {
    let kinds = prop::sample::select(vec![
        Kind::Uplink,
        Kind::Interface,
        Kind::Tunnel,
        Kind::Router,
        Kind::Switch,
        Kind::Bridge,
        Kind::Plugins,
        Kind::Host,
        Kind::Pod,
    ]);
    let vertices =
        prop::collection::vec((kinds, prop::option::weighted(0.4, 0usize..3), 1usize..20, 0usize..3), 1..14);
    let styles = prop::sample::select(vec![Style::Link, Style::Link, Style::Inside, Style::Tunnel]);
    let edges =
        prop::collection::vec((0usize..14, 0usize..14, styles, 0usize..3, 0usize..3, 0usize..3), 0..24);
    (vertices, edges, any::<bool>()).prop_map(|(vertices, edges, whole)| {
        let count = vertices.len();
        let vertices = vertices.into_iter().enumerate().map(|(at, (kind, frame, length, lines))| Vertex {
            lines: (0..lines).map(|line| format!("line {line}")).collect(),
            ..vertex(&format!("{at}{}", "x".repeat(length)), kind, frame)
        });
        let edges = edges.into_iter().map(|(a, b, style, left, right, middle)| {
            let lines = |number: usize| (0..number).map(|line| format!("label {line}")).collect::<Vec<_>>();
            Edge {
                ends: [
                    End { vertex: a % count, lines: lines(left) },
                    End { vertex: b % count, lines: lines(right) },
                ],
                middle: lines(middle),
                style,
            }
        });
        Graph {
            title: "by chance".into(),
            frames: ["one", "another one", "3"].map(frame).to_vec(),
            vertices: vertices.collect(),
            edges: edges.filter(|edge| edge.ends[0].vertex != edge.ends[1].vertex).collect(),
            whole,
        }
    })
}

proptest! {
    #[test]
    fn nothing_covers_anything_whatever_is_connected(graph in any_graph()) {
        picture::check(&svg(&graph)).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn terminal_drawings_keep_to_the_columns_and_have_everybody(graph in any_graph()) {
        let shown = text(&graph, COLUMNS, Paint::PLAIN);
        for line in shown.lines() {
            prop_assert!(line.chars().count() <= COLUMNS, "{shown}");
        }
        if graph.whole {
            for vertex in &graph.vertices {
                prop_assert!(shown.contains(&vertex.title), "{} is missing in\n{shown}", vertex.title);
            }
        }
    }

    #[test]
    fn collapsed_graphs_refer_to_what_is_there(graph in any_graph()) {
        let collapsed = graph.collapsed();
        let count: usize = collapsed.vertices.iter().map(|vertex| vertex.count).sum();
        prop_assert_eq!(count, graph.vertices.len());
        for edge in &collapsed.edges {
            prop_assert!(edge.ends.iter().all(|end| end.vertex < collapsed.vertices.len()));
        }
        for vertex in &collapsed.vertices {
            prop_assert!(vertex.frame.is_none_or(|frame| frame < collapsed.frames.len()));
        }
    }
}

#[path = "../../lab/tests/drawing/picture.rs"]
mod picture;
