//! A ring, drawn as one: around a rectangle.

use super::forest::{draw_level, labels, labels_above, level_room};
use super::layout::{Arranged, Item, Point, Rect, Side, Tie, Wire};
use super::metrics::{Metrics, Size};
use super::tiers;

/// Where in the rectangle the ring's members are.
struct Grid {
    columns: i32,
    rows: i32,
}

/// Lays out a ring of four or more.
pub(super) fn arrange(items: &[Item], ties: &[Tie<'_>], metrics: &Metrics) -> Arranged {
    let near = tiers::neighbours(items.len(), ties);
    let order = around(&near);
    let count = i32::try_from(items.len()).unwrap_or(i32::MAX);
    let solid = || ties.iter().filter(|tie| !tie.is_tunnel);
    let most =
        |of: &dyn Fn(&Tie<'_>) -> usize| i32::try_from(solid().map(of).max().unwrap_or(0)).unwrap_or(0);
    let [ends, middle] =
        [most(&|tie| tie.lines[0].len().max(tie.lines[1].len())), most(&|tie| tie.middle.len())];
    let beside = solid().map(|tie| tie.room(metrics)).max().unwrap_or(0);
    let room = Size {
        w: items.iter().map(|item| item.size.w).max().unwrap_or(0),
        h: items.iter().map(|item| item.size.h).max().unwrap_or(0),
    };
    let gap = Size {
        w: solid()
            .map(|tie| level_room(tie, metrics))
            .max()
            .unwrap_or(0)
            .max(beside - room.w / 2 + metrics.lead),
        h: ((2 * ends + middle.max(1)) * metrics.line + 2 * metrics.ease).max(metrics.gap.h),
    };
    let overhang = (beside - room.w / 2).max(0);
    let grid_of = |columns: i32| {
        let rest = count - 2 * columns;
        Grid { columns, rows: 2 + (rest + 1) / 2 }
    };
    let wide = |grid: &Grid| grid.columns * (room.w + gap.w) - gap.w + overhang;
    let high = |grid: &Grid| grid.rows * (room.h + gap.h) - gap.h;
    // As wide as a screen is, for its height.
    let fits = (2..=count / 2).map(grid_of).filter(|grid| wide(grid) <= metrics.width || grid.columns == 2);
    let shape = |grid: &Grid| (wide(grid) * 9 * 10 - high(grid) * 16 * metrics.aspect).abs();
    let grid = fits.min_by_key(shape).unwrap_or_else(|| grid_of(2));

    let mut arranged = Arranged { rects: vec![Rect::default(); items.len()], ..Arranged::default() };
    for (number, item) in order.iter().enumerate() {
        let (column, row) = grid.place(i32::try_from(number).unwrap_or(0));
        let size = items[*item].size;
        arranged.rects[*item] = Rect {
            x: column * (room.w + gap.w),
            y: row * (room.h + gap.h),
            w: room.w,
            h: size.h.max(room.h),
        };
    }
    for tie in solid() {
        draw(tie, metrics, &mut arranged);
    }
    arranged.size = Size { w: wide(&grid), h: high(&grid) };
    arranged
}

/// The members in the order of the ring, from the first towards the lower of its neighbours.
fn around(near: &[Vec<(usize, usize)>]) -> Vec<usize> {
    let mut order = vec![0];
    let mut next = near[0].iter().map(|(other, _)| *other).min();
    while let Some(at) = next {
        let before = order[order.len() - 1];
        order.push(at);
        next = near[at].iter().map(|(other, _)| *other).find(|other| *other != before && *other != 0);
        if order.len() == near.len() {
            break;
        }
    }
    order
}

impl Grid {
    /// Column and row of a member: along the top, down on the right, back along the bottom, up on the left. Of an odd number the left
    /// side has one less.
    fn place(&self, number: i32) -> (i32, i32) {
        let (columns, inner) = (self.columns, self.rows - 2);
        let last = (columns - 1, self.rows - 1);
        if number < columns {
            (number, 0)
        } else if number < columns + inner {
            (last.0, number - columns + 1)
        } else if number < 2 * columns + inner {
            (last.0 - (number - columns - inner), last.1)
        } else {
            (0, last.1 - 1 - (number - 2 * columns - inner))
        }
    }
}

fn draw(tie: &Tie<'_>, metrics: &Metrics, arranged: &mut Arranged) {
    let [a, b] = tie.items.map(|item| arranged.rects[item]);
    if a.y == b.y {
        return draw_level(tie, [a, b], metrics, arranged);
    }
    let (upper, lower) = if a.y < b.y { (0, 1) } else { (1, 0) };
    let [above, below] = if upper == 0 { [a, b] } else { [b, a] };
    let x = above.x + above.w / 2;
    let (from, to) = (Point { x, y: above.bottom() }, Point { x, y: below.y });
    labels(&mut arranged.labels, from, tie.lines[upper], metrics);
    let height = i32::try_from(tie.middle.len()).unwrap_or(0) * metrics.line + 2 * metrics.ease;
    labels(&mut arranged.labels, Point { x, y: (from.y + to.y - height) / 2 }, tie.middle, metrics);
    labels_above(&mut arranged.labels, to, tie.lines[lower], metrics);
    arranged.wires.push(Wire { edge: tie.edge, points: vec![from, to], sides: [Side::Bottom, Side::Top] });
}
