//! How much room things take, in the units of a format: cells of a terminal, or pixels.

use super::{Frame, Vertex};

/// Width and height.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) w: i32,
    pub(super) h: i32,
}

/// What the layout has to know of a format.
#[derive(Debug, Clone, Copy)]
pub(super) struct Metrics {
    /// Least room of a box.
    pub(super) vertex: fn(&Vertex) -> Size,
    /// Width of what a frame says, and how far down its content begins.
    pub(super) frame: fn(&Frame) -> Size,
    /// Width of a frame's title, with the space around it.
    pub(super) title: fn(&Frame) -> i32,
    /// Whether that stands at the lower border.
    pub(super) is_title_below: bool,
    /// Width of a label.
    pub(super) label: fn(&str) -> i32,
    /// From one line of a label to the next.
    pub(super) line: i32,
    /// Between a line and its label.
    pub(super) lead: i32,
    /// How much of what is below a line the line covers.
    pub(super) stroke: i32,
    /// Between a box and the labels above and below it.
    pub(super) ease: i32,
    /// Between boxes, and between tiers with nothing to say.
    pub(super) gap: Size,
    /// Between a frame and its content, beside and below.
    pub(super) pad: Size,
    /// From the corner of a box to where a line may leave it.
    pub(super) corner: i32,
    /// Between lines that run beside each other.
    pub(super) track: i32,
    /// How wide a drawing should be.
    pub(super) width: i32,
    /// So many units of width look as long as ten of height.
    pub(super) aspect: i32,
}
