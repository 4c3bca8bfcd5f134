//! Drawings of networks: boxes, what connects them, and where each goes.
//!
//! A [`Graph`] says what is to be seen and nothing of how. [`Graph::collapsed`] makes one box of many that are alike, the layout puts
//! boxes in tiers, and each format is a renderer of the same two: [`text`] for a terminal, [`svg`] for a slide, [`dot`] and
//! [`mermaid`] for those who lay out themselves.

mod canvas;
mod collapse;
mod compact;
mod dot;
mod forest;
mod layout;
mod list;
mod mermaid;
mod metrics;
mod ring;
mod svg;
mod text;
mod tiers;
mod tunnels;

pub use dot::dot;
pub use mermaid::mermaid;
pub use svg::svg;
pub use text::text;

use serde::Serialize;

/// What is to be drawn.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Graph {
    /// What it shows.
    pub title: String,
    /// Boxes around others.
    pub frames: Vec<Frame>,
    /// The boxes.
    pub vertices: Vec<Vertex>,
    /// What connects them.
    pub edges: Vec<Edge>,
    /// Whether each is to be seen, however many they are: no format then makes one box of those that are alike.
    pub whole: bool,
}

/// A box around others: a Kubernetes node with all that is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Frame {
    /// Unique among frames.
    pub id: String,
    /// Its name.
    pub title: String,
    /// What is worth knowing about it.
    pub lines: Vec<String>,
    /// Whether something is wrong with it.
    pub mark: Mark,
}

/// A box.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Vertex {
    /// Unique among vertices.
    pub id: String,
    /// Its name.
    pub title: String,
    /// What it is.
    pub kind: Kind,
    /// What is worth knowing about it.
    pub lines: Vec<String>,
    /// The place in [`Graph::frames`] of the one that it is in.
    pub frame: Option<usize>,
    /// Whether something is wrong with it.
    pub mark: Mark,
    /// How many things it stands for.
    pub count: usize,
}

/// What a box stands for. The order is the one from top to bottom, where nothing else decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A namespace that stands for all that is outside.
    Uplink,
    /// An interface of a node by which it reaches others.
    Interface,
    /// A VXLAN device.
    Tunnel,
    /// A namespace that forwards.
    Router,
    /// A namespace that is a bridge.
    Switch,
    /// A bridge.
    Bridge,
    /// CNI plugins, which connect what is below.
    Plugins,
    /// A namespace that sends and receives.
    Host,
    /// A pod.
    Pod,
}

/// Whether something is wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mark {
    /// Not that it is known.
    #[default]
    Fine,
    /// It may be.
    Warning,
    /// It is.
    Bad,
}

/// What connects two boxes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Edge {
    /// Its ends.
    pub ends: [End; 2],
    /// What is worth knowing about the whole of it: an MTU, a VXLAN network identifier.
    pub middle: Vec<String>,
    /// How it is drawn.
    pub style: Style,
}

/// An end of an edge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct End {
    /// The place in [`Graph::vertices`].
    pub vertex: usize,
    /// The interface there, then its addresses.
    pub lines: Vec<String>,
}

/// How an edge is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Style {
    /// A veth pair, a macvlan: frames pass.
    Link,
    /// Within a namespace: packets are forwarded from one to the other. Dotted.
    Inside,
    /// Between the ends of a tunnel: dashed. It has no say in where things go.
    Tunnel,
}

impl Edge {
    /// The end that is not there.
    fn other(&self, vertex: usize) -> usize {
        if self.ends[0].vertex == vertex { self.ends[1].vertex } else { self.ends[0].vertex }
    }

    fn touches(&self, vertex: usize) -> bool {
        self.ends.iter().any(|end| end.vertex == vertex)
    }
}

impl Graph {
    /// The graph in which those are one box that are alike and more than six, which is what anybody can read. Terminals, which are
    /// narrow, collapse more.
    pub fn collapsed(&self) -> Graph {
        collapse::collapse(self, collapse::READABLE)
    }
}

/// The control characters of others replaced: in every format, since an SVG is XML, which has none, and dot is read on terminals.
fn plain(text: &str) -> String {
    crate::render::printable(text)
}
