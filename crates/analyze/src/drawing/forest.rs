//! Boxes in tiers: each spans those below it, so that their lines are straight. Edges that are in no tree go around, by tracks between
//! the tiers.

use super::layout::{Anchor, Arranged, Item, Label, Point, Rect, Side, Tie, Wire};
use super::metrics::{Metrics, Size};
use super::tiers::Forest;

/// How an edge goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route {
    /// Not here.
    None,
    /// From a box straight down to one that hangs from it.
    Tree,
    /// Level, between two that are beside each other.
    Level,
    /// Up from both, and level above them.
    Over,
    /// Down from the upper, level, and down to the lower; past other tiers at the right margin.
    Around,
}

/// A tree in its own coordinates, from 0 to `width`.
#[derive(Debug, Clone, Default)]
struct Tree {
    width: i32,
    /// Place and width of the box on top.
    x: i32,
    w: i32,
    /// Where the trees below begin.
    below: Vec<i32>,
    /// Where its wires go up, from the box's left.
    ups: Vec<i32>,
    /// Where those wires go down that do not lead to trees below, from the box's left.
    downs: Vec<i32>,
}

/// What there has to be room for between a tier and the one above.
#[derive(Debug, Clone, Copy, Default)]
struct Channel {
    upper_lines: i32,
    middle_lines: i32,
    lower_lines: i32,
    tracks: i32,
    is_used: bool,
    top: i32,
    tracks_top: i32,
    bottom: i32,
}

struct Arranging<'a> {
    items: &'a [Item],
    ties: &'a [Tie<'a>],
    forest: &'a Forest,
    metrics: &'a Metrics,
    routes: Vec<Route>,
    /// What goes up from each: ties.
    ups: Vec<Vec<usize>>,
    /// What goes down from each, apart from its trees.
    downs: Vec<Vec<usize>>,
    trees: Vec<Tree>,
    boxes: Vec<Rect>,
    channels: Vec<Channel>,
    /// The track of each edge that goes over or around; the second one of those that pass other tiers.
    tracks: Vec<[i32; 2]>,
}

pub(super) fn arrange(items: &[Item], ties: &[Tie<'_>], forest: &Forest, metrics: &Metrics) -> Arranged {
    let count = items.len();
    let mut arranging = Arranging {
        items,
        ties,
        forest,
        metrics,
        routes: vec![Route::None; ties.len()],
        ups: vec![Vec::new(); count],
        downs: vec![Vec::new(); count],
        trees: vec![Tree::default(); count],
        boxes: vec![Rect::default(); count],
        channels: Vec::new(),
        tracks: vec![[0; 2]; ties.len()],
    };
    arranging.choose_routes();
    for root in &forest.roots {
        arranging.measure(*root);
    }
    let mut x = 0;
    for (number, root) in forest.roots.iter().enumerate() {
        if number > 0 {
            x += arranging.gap(forest.roots[number - 1], *root);
        }
        // A level wire may lead past roots of other tiers.
        let mut before = forest.roots[..number].iter().rev();
        if let Some(before) = before.find(|before| forest.depth[**before] == forest.depth[*root]) {
            x = x.max(arranging.boxes[*before].right() + arranging.gap(*before, *root));
        }
        arranging.place(*root, x);
        x += arranging.trees[*root].width;
    }
    arranging.draw(x)
}

fn lines(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

impl Arranging<'_> {
    fn depth(&self, item: usize) -> usize {
        self.forest.depth[item]
    }

    fn choose_routes(&mut self) {
        for (item, parent) in self.forest.parent.iter().enumerate() {
            if let Some((_, tie)) = parent {
                self.routes[*tie] = Route::Tree;
                self.ups[item].push(*tie);
            }
        }
        let rows = self.forest.rows();
        let beside = |a: usize, b: usize| {
            let row = &rows[self.forest.depth[a]];
            let same_parent =
                self.forest.parent[a].map(|parent| parent.0) == self.forest.parent[b].map(|parent| parent.0);
            same_parent && row.windows(2).any(|pair| pair == [a, b] || pair == [b, a])
        };
        let mut level: Vec<[usize; 2]> = Vec::new();
        for (at, tie) in self.ties.iter().enumerate() {
            let [a, b] = tie.items;
            if self.routes[at] != Route::None || a == b {
                continue;
            }
            let is_free = !self.items[a].is_frame && !self.items[b].is_frame;
            let pair = [a.min(b), a.max(b)];
            let (upper, lower) = if self.depth(a) < self.depth(b) { (a, b) } else { (b, a) };
            if self.depth(a) == self.depth(b) && is_free && !level.contains(&pair) && beside(a, b) {
                level.push(pair);
                self.routes[at] = Route::Level;
            } else if tie.is_tunnel {
                // Those have no say in where things go.
            } else if self.depth(a) == self.depth(b) {
                self.routes[at] = Route::Over;
                self.ups[a].push(at);
                self.ups[b].push(at);
            } else {
                self.routes[at] = Route::Around;
                self.ups[lower].push(at);
                self.downs[upper].push(at);
            }
        }
    }

    /// Room between two that are beside each other.
    fn gap(&self, left: usize, right: usize) -> i32 {
        let between = self
            .ties
            .iter()
            .enumerate()
            .filter(|(_, tie)| tie.items == [left, right] || tie.items == [right, left]);
        let rooms = between.map(|(at, tie)| match self.routes[at] {
            Route::Level => level_room(tie, self.metrics),
            Route::None if tie.is_tunnel => tie.room(self.metrics) + self.metrics.gap.w,
            _ => 0,
        });
        rooms.max().unwrap_or(0).max(self.metrics.gap.w)
    }

    fn room(&self, tie: usize) -> i32 {
        self.ties[tie].room(self.metrics)
    }

    /// The room of each wire that goes up from an item, in order: first its own tie to the tier above, then those around, then those
    /// that leave its frame.
    fn ups_rooms(&self, item: usize) -> Vec<i32> {
        let own = self.ups[item].iter().map(|tie| self.room(*tie));
        own.chain(self.items[item].entries.iter().map(|(_, room)| *room)).collect()
    }

    fn measure(&mut self, item: usize) {
        let metrics = self.metrics;
        let ups = self.ups_rooms(item);
        let mut least = self.items[item].size.w;
        if ups.len() > 1 && !self.items[item].is_frame {
            least = least.max(2 * metrics.corner + ups[..ups.len() - 1].iter().sum::<i32>());
        }
        let children = self.forest.children[item].clone();
        let mut tree = Tree::default();
        let mut ports = Vec::new();
        let mut x = 0;
        for (number, child) in children.iter().enumerate() {
            self.measure(*child);
            if number > 0 {
                x += self.gap(children[number - 1], *child);
            }
            tree.below.push(x);
            ports.push(
                x + self.trees[*child].x
                    + self.up_port(*child, self.forest.parent[*child].map(|parent| parent.1)),
            );
            x += self.trees[*child].width;
        }
        let mut downs = Vec::new();
        let (mut left, mut right);
        match (ports.first(), ports.last(), children.last()) {
            (Some(first), Some(last), Some(last_child)) => {
                (left, right) = (first - metrics.corner, last + metrics.corner + 1);
                let tie = self.forest.parent[*last_child].map(|parent| parent.1);
                let mut next = last + tie.map_or(0, |tie| self.room(tie));
                for down in &self.downs[item] {
                    downs.push(next);
                    right = next + metrics.lead + metrics.corner + 1;
                    next += self.room(*down) + metrics.lead;
                }
            }
            _ => {
                (left, right) = (0, 0);
                let mut next = metrics.corner;
                for down in &self.downs[item] {
                    downs.push(next);
                    right = next + metrics.lead + metrics.corner + 1;
                    next += self.room(*down) + metrics.lead;
                }
            }
        }
        let spare = least - (right - left);
        if spare > 0 {
            // Its middle above the middle of what is below: lines go on straight.
            left = (left + right - 1).div_euclid(2) - least / 2;
            right = left + least;
        }
        let shift = (-left).max(0);
        tree.x = left + shift;
        tree.w = right - left;
        tree.below.iter_mut().for_each(|below| *below += shift);
        tree.downs = downs.iter().map(|down| down - left).collect();
        tree.ups = self.up_ports(item, &ups, tree.w);
        let overhang = tree.ups.iter().zip(&ups).map(|(port, room)| tree.x + port + room - metrics.lead);
        let downs_end = self.downs[item]
            .iter()
            .zip(&tree.downs)
            .map(|(tie, port)| tree.x + port + self.room(*tie) + metrics.lead);
        let ends = overhang.chain(downs_end).chain([x + shift, tree.x + tree.w]);
        tree.width = ends.max().unwrap_or(0);
        self.trees[item] = tree;
    }

    fn up_ports(&self, item: usize, rooms: &[i32], w: i32) -> Vec<i32> {
        if self.items[item].is_frame {
            let ports = self.ups[item].iter().map(|tie| {
                let tie = &self.ties[*tie];
                let own = if tie.items[0] == item { 0 } else { 1 };
                tie.ports[own].unwrap_or(w / 2)
            });
            return ports.collect();
        }
        let Some((_, but_last)) = rooms.split_last() else { return Vec::new() };
        let mut port = (w - but_last.iter().sum::<i32>()) / 2;
        let mut ports = vec![port];
        for room in but_last {
            port += room;
            ports.push(port);
        }
        ports
    }

    /// Where this tie leaves the item upwards, from its box's left.
    fn up_port(&self, item: usize, tie: Option<usize>) -> i32 {
        let place = self.ups[item].iter().position(|own| Some(*own) == tie);
        place.and_then(|place| self.trees[item].ups.get(place)).copied().unwrap_or(self.trees[item].w / 2)
    }

    fn place(&mut self, item: usize, x: i32) {
        let tree = &self.trees[item];
        self.boxes[item] = Rect { x: x + tree.x, y: 0, w: tree.w, h: self.items[item].size.h };
        let below = tree.below.clone();
        for (child, at) in self.forest.children[item].clone().into_iter().zip(below) {
            self.place(child, x + at);
        }
    }

    /// Says how much each channel has to hold, and gives out tracks.
    fn fill_channels(&mut self) -> i32 {
        let rows = self.forest.depth.iter().max().map_or(0, |deepest| deepest + 1);
        self.channels = vec![Channel::default(); rows];
        let mut outside = 0;
        for (at, tie) in self.ties.iter().enumerate() {
            let [a, b] = tie.items;
            let (upper, lower) = if self.forest.depth[a] < self.forest.depth[b] { (0, 1) } else { (1, 0) };
            let [upper_lines, lower_lines] = [upper, lower].map(|end| lines(tie.lines[end].len()));
            let middle = lines(tie.middle.len());
            let depth = self.forest.depth[tie.items[lower]];
            let above = self.forest.depth[tie.items[upper]] + 1;
            match self.routes[at] {
                Route::None | Route::Level => {}
                Route::Tree => {
                    let channel = &mut self.channels[depth];
                    channel.upper_lines = channel.upper_lines.max(upper_lines);
                    channel.middle_lines = channel.middle_lines.max(middle);
                    channel.lower_lines = channel.lower_lines.max(lower_lines);
                    channel.is_used = true;
                }
                Route::Over => {
                    let channel = &mut self.channels[depth];
                    channel.lower_lines = channel.lower_lines.max(upper_lines.max(lower_lines) + middle);
                    self.tracks[at] = [channel.tracks; 2];
                    channel.tracks += 1;
                    channel.is_used = true;
                }
                Route::Around => {
                    let channel = &mut self.channels[depth];
                    channel.lower_lines = channel.lower_lines.max(lower_lines + middle);
                    self.tracks[at] = [channel.tracks; 2];
                    channel.tracks += 1;
                    channel.is_used = true;
                    let channel = &mut self.channels[above];
                    channel.upper_lines = channel.upper_lines.max(upper_lines);
                    channel.is_used = true;
                    if above != depth {
                        self.tracks[at][1] = channel.tracks;
                        channel.tracks += 1;
                        outside += 1;
                    }
                }
            }
        }
        outside
    }

    /// Gives tiers and channels their heights. Returns the height of all.
    fn stack(&mut self) -> i32 {
        let metrics = self.metrics;
        let mut y = 0;
        for depth in 0..self.channels.len() {
            let channel = &mut self.channels[depth];
            channel.top = y;
            if channel.is_used {
                let middle = channel.middle_lines * metrics.line;
                let tracks = channel.tracks * metrics.track;
                let labels = (channel.upper_lines + channel.lower_lines) * metrics.line;
                let spare = if labels > 0 && middle + tracks == 0 { metrics.line } else { 0 };
                let ease = if labels > 0 { metrics.ease } else { 0 };
                let middle = if middle > 0 { middle + 2 * metrics.ease } else { 0 };
                let tracks = if tracks > 0 { tracks + 2 * metrics.ease } else { 0 };
                channel.tracks_top = y + ease + channel.upper_lines * metrics.line + middle + metrics.ease;
                let least = if depth == 0 { 0 } else { metrics.gap.h };
                y += (2 * ease + labels + middle + tracks + spare).max(least);
            } else if depth > 0 {
                y += metrics.gap.h;
            }
            channel.bottom = y;
            let own = (0..self.items.len()).filter(|item| self.forest.depth[*item] == depth);
            let mut height = 0;
            for item in own {
                self.boxes[item].y = y;
                height = height.max(self.boxes[item].h);
            }
            for (at, tie) in self.ties.iter().enumerate() {
                if self.routes[at] == Route::Level && self.forest.depth[tie.items[0]] == depth {
                    let level = tie.items.map(|item| self.boxes[item].h).into_iter().min().unwrap_or(0) / 2;
                    let below =
                        tie.lines.map(|lines| lines.len().saturating_sub(1)).into_iter().max().unwrap_or(0);
                    height = height.max(level + metrics.stroke + lines(below) * metrics.line);
                }
            }
            y += height;
        }
        y
    }

    /// Where a wire goes down from a box. One that comes up from below at the same place would run into it between two tracks: then
    /// it goes beside that one, for which its label has room.
    fn free_x(&self, tie: usize, upper: usize, place: usize) -> i32 {
        let tree = &self.trees[upper];
        let x = self.boxes[upper].x + tree.downs[place];
        let below = self.depth(upper) + 1;
        let is_taken = (0..self.items.len()).filter(|item| self.depth(*item) == below).any(|item| {
            let ups = self.ups[item].iter().zip(&self.trees[item].ups);
            ups.filter(|(own, _)| **own != tie).any(|(_, port)| self.boxes[item].x + port == x)
        });
        if is_taken { x + self.metrics.lead } else { x }
    }

    fn draw(mut self, width: i32) -> Arranged {
        let outside = self.fill_channels();
        let height = self.stack();
        let metrics = self.metrics;
        let mut arranged = Arranged::default();
        let mut margin = width + metrics.track;
        for (at, tie) in self.ties.iter().enumerate() {
            let [a, b] = tie.items;
            let (upper, lower) = if self.forest.depth[a] < self.forest.depth[b] { (0, 1) } else { (1, 0) };
            let up = |end: usize| {
                let item = tie.items[end];
                let rect = self.boxes[item];
                Point { x: rect.x + self.up_port(item, Some(at)), y: rect.y }
            };
            let above = &self.boxes[tie.items[upper]];
            let (points, sides) = match self.routes[at] {
                Route::None => continue,
                Route::Level => {
                    draw_level(tie, [self.boxes[a], self.boxes[b]], metrics, &mut arranged);
                    continue;
                }
                Route::Tree => {
                    let to = up(lower);
                    let from = Point { x: to.x, y: above.bottom() };
                    let channel = &self.channels[self.forest.depth[tie.items[lower]]];
                    labels(&mut arranged.labels, from, tie.lines[upper], metrics);
                    let middle = Point {
                        x: to.x,
                        y: channel.tracks_top - 3 * metrics.ease - lines(tie.middle.len()) * metrics.line,
                    };
                    labels(&mut arranged.labels, middle, tie.middle, metrics);
                    labels_above(&mut arranged.labels, to, tie.lines[lower], metrics);
                    (vec![from, to], [Side::Bottom, Side::Top])
                }
                Route::Over => {
                    let [from, to] = [up(0), up(1)];
                    let channel = &self.channels[self.forest.depth[a]];
                    let y = channel.tracks_top + self.tracks[at][0] * metrics.track;
                    let first: Vec<String> = tie.middle.iter().chain(tie.lines[0]).cloned().collect();
                    labels_above(&mut arranged.labels, from, &first, metrics);
                    labels_above(&mut arranged.labels, to, tie.lines[1], metrics);
                    let corners = [Point { x: from.x, y }, Point { x: to.x, y }];
                    (vec![from, corners[0], corners[1], to], [Side::Top, Side::Top])
                }
                Route::Around => {
                    let to = up(lower);
                    let place = self.downs[tie.items[upper]].iter().position(|own| *own == at).unwrap_or(0);
                    let x = self.free_x(at, tie.items[upper], place);
                    let from = Point { x, y: above.bottom() };
                    let last = &self.channels[self.forest.depth[tie.items[lower]]];
                    let first = &self.channels[self.forest.depth[tie.items[upper]] + 1];
                    let y = last.tracks_top + self.tracks[at][0] * metrics.track;
                    labels(&mut arranged.labels, from, tie.lines[upper], metrics);
                    let below: Vec<String> = tie.middle.iter().chain(tie.lines[lower]).cloned().collect();
                    labels_above(&mut arranged.labels, to, &below, metrics);
                    let mut points = vec![from];
                    if first.top == last.top {
                        points.push(Point { x, y });
                    } else {
                        let upper_y = first.tracks_top + self.tracks[at][1] * metrics.track;
                        points.extend([
                            Point { x, y: upper_y },
                            Point { x: margin, y: upper_y },
                            Point { x: margin, y },
                        ]);
                        margin += metrics.track;
                    }
                    points.extend([Point { x: to.x, y }, to]);
                    (points, [Side::Bottom, Side::Top])
                }
            };
            arranged.wires.push(Wire { edge: tie.edge, points, sides });
        }
        for (item, rect) in self.boxes.iter().enumerate() {
            let ports = self.trees[item].ups.iter().skip(self.ups[item].len());
            let entries = self.items[item].entries.iter().zip(ports);
            arranged.entries.extend(entries.map(|((edge, _), port)| (*edge, rect.x + port)));
        }
        let gutter = if outside > 0 { margin - width } else { 0 };
        arranged.size = Size { w: width + gutter, h: height };
        arranged.rects = self.boxes;
        arranged
    }
}

/// Room between two boxes for a level wire between them.
pub(super) fn level_room(tie: &Tie<'_>, metrics: &Metrics) -> i32 {
    let [left, right] = tie.lines;
    let rows = left.len().max(right.len());
    let line =
        |lines: &[String], row: usize| lines.get(row).map_or(0, |line| (metrics.label)(line) + metrics.lead);
    let mut room = 0;
    for row in 0..rows.max(1) {
        let mut own = line(left, row) + line(right, row) + metrics.lead;
        if row == 0 && !tie.middle.is_empty() {
            // It stands in the middle, whatever is on either side.
            let side = line(left, row).max(line(right, row));
            own = 2 * side + (metrics.label)(&tie.middle.join(", ")) + 2 * metrics.lead;
        }
        room = room.max(own);
    }
    room.max(metrics.gap.w)
}

/// A level wire, with names above it and addresses below.
pub(super) fn draw_level(tie: &Tie<'_>, rects: [Rect; 2], metrics: &Metrics, arranged: &mut Arranged) {
    let y = rects[0].y + rects[0].h.min(rects[1].h) / 2;
    let (left, right) = if rects[0].x < rects[1].x { (0, 1) } else { (1, 0) };
    let (from, to) = (Point { x: rects[left].right(), y }, Point { x: rects[right].x, y });
    let mut write = |x: i32, anchor: Anchor, lines: &[String]| {
        for (row, words) in lines.iter().enumerate() {
            let y = match row {
                0 => y - metrics.line,
                row => y + metrics.stroke + (i32::try_from(row).unwrap_or(0) - 1) * metrics.line,
            };
            arranged.labels.push(Label { at: Point { x, y }, anchor, words: words.clone() });
        }
    };
    write(from.x + metrics.lead - 1, Anchor::Start, tie.lines[left]);
    write(to.x - metrics.lead + 1, Anchor::End, tie.lines[right]);
    if !tie.middle.is_empty() {
        write((from.x + to.x) / 2, Anchor::Middle, &[tie.middle.join(", ")]);
    }
    arranged.wires.push(Wire { edge: tie.edge, points: vec![from, to], sides: [Side::Right, Side::Left] });
}

/// Lines to the right of an upright wire, from here down.
pub(super) fn labels(out: &mut Vec<Label>, at: Point, words: &[String], metrics: &Metrics) {
    for (row, words) in words.iter().enumerate() {
        let at = Point { x: at.x + metrics.lead, y: at.y + metrics.ease + lines(row) * metrics.line };
        out.push(Label { at, anchor: Anchor::Start, words: words.clone() });
    }
}

/// Lines to the right of an upright wire that end here.
pub(super) fn labels_above(out: &mut Vec<Label>, at: Point, words: &[String], metrics: &Metrics) {
    let y = at.y - 2 * metrics.ease - lines(words.len()) * metrics.line;
    labels(out, Point { x: at.x, y }, words, metrics);
}
