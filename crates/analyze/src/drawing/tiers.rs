//! Which box is above which.

use std::collections::{BTreeMap, VecDeque};

use super::layout::{Item, Tie};

/// Boxes by tier, each below one that it is connected with.
#[derive(Debug, Clone)]
pub(super) struct Forest {
    /// The tier of each, from 0 at the top.
    pub(super) depth: Vec<usize>,
    /// The one above, and the tie with it.
    pub(super) parent: Vec<Option<(usize, usize)>>,
    /// Those below, from left to right.
    pub(super) children: Vec<Vec<usize>>,
    /// Those on top, from left to right.
    pub(super) roots: Vec<usize>,
}

impl Forest {
    /// Everything in one row, in this order.
    pub(super) fn row(order: Vec<usize>, count: usize) -> Self {
        Forest {
            depth: vec![0; count],
            parent: vec![None; count],
            children: vec![Vec::new(); count],
            roots: order,
        }
    }

    /// The tiers, each from left to right.
    pub(super) fn rows(&self) -> Vec<Vec<usize>> {
        let mut rows: Vec<Vec<usize>> = Vec::new();
        let mut open: Vec<usize> = self.roots.iter().rev().copied().collect();
        while let Some(at) = open.pop() {
            let depth = self.depth[at];
            rows.resize_with(rows.len().max(depth + 1), Vec::new);
            rows[depth].push(at);
            open.extend(self.children[at].iter().rev());
        }
        rows
    }
}

/// For each item those that it is connected with, and by which tie.
pub(super) fn neighbours(count: usize, ties: &[Tie<'_>]) -> Vec<Vec<(usize, usize)>> {
    let mut neighbours = vec![Vec::new(); count];
    for (tie, Tie { items: [a, b], .. }) in ties.iter().enumerate().filter(|(_, tie)| !tie.is_tunnel) {
        if a != b {
            neighbours[*a].push((*b, tie));
            neighbours[*b].push((*a, tie));
        }
    }
    neighbours
}

/// Finds who is on top, and puts everybody else below a neighbour of the tier above. Frames are below all others: lines come to them
/// from above.
pub(super) fn forest(items: &[Item], ties: &[Tie<'_>]) -> Forest {
    let near = neighbours(items.len(), ties);
    let roots: Vec<usize> =
        parts(&near, |_| true).iter().flat_map(|part| roots(items, &near, part)).collect();
    let mut forest = Forest::row(Vec::new(), items.len());
    let mut depth: Vec<Option<usize>> = vec![None; items.len()];
    let mut open: VecDeque<usize> = roots.iter().copied().collect();
    for root in &roots {
        depth[*root] = Some(0);
    }
    while let Some(at) = open.pop_front() {
        for (other, _) in &near[at] {
            if depth[*other].is_none() && !items[*other].is_frame {
                depth[*other] = depth[at].map(|depth| depth + 1);
                open.push_back(*other);
            }
        }
    }
    for at in (0..items.len()).filter(|at| items[*at].is_frame) {
        let above = near[at].iter().filter(|(other, _)| !items[*other].is_frame);
        depth[at] = above.filter_map(|(other, _)| depth[*other]).max().map(|depth| depth + 1);
    }
    // A frame that knows only frames is beside them.
    for at in 0..items.len() {
        if depth[at].is_none() {
            depth[at] = near[at].iter().filter_map(|(other, _)| depth[*other]).max();
        }
    }
    forest.depth = depth.into_iter().map(Option::unwrap_or_default).collect();
    choose_parents(&mut forest, &near);
    forest.roots = in_order(&near, (0..items.len()).filter(|at| forest.parent[*at].is_none()).collect());
    // Those that no parent holds are on top of their own, wherever they are; tiers follow.
    let mut open = forest.roots.clone();
    for root in &forest.roots {
        let beside_frame =
            items[*root].is_frame && near[*root].iter().any(|(other, _)| items[*other].is_frame);
        if !beside_frame {
            forest.depth[*root] = 0;
        }
    }
    while let Some(at) = open.pop() {
        for child in forest.children[at].clone() {
            forest.depth[child] = forest.depth[at] + 1;
            open.push(child);
        }
    }
    forest
}

/// Where several could be above, they share.
fn choose_parents(forest: &mut Forest, near: &[Vec<(usize, usize)>]) {
    let mut shared: BTreeMap<Vec<(usize, usize)>, Vec<usize>> = BTreeMap::new();
    let mut candidates_of = Vec::new();
    for (at, near) in near.iter().enumerate() {
        let mut above: Vec<(usize, usize)> =
            near.iter().copied().filter(|(other, _)| forest.depth[*other] + 1 == forest.depth[at]).collect();
        above.dedup_by_key(|(other, _)| *other);
        let who: Vec<(usize, usize)> = above.iter().map(|(other, _)| (*other, 0)).collect();
        shared.entry(who).or_default().push(at);
        candidates_of.push(above);
    }
    for set in shared.values() {
        for (number, at) in set.iter().enumerate() {
            let above = &candidates_of[*at];
            if !above.is_empty() {
                forest.parent[*at] = Some(above[number * above.len() / set.len()]);
            }
        }
    }
    for at in 0..near.len() {
        if let Some((parent, _)) = forest.parent[at] {
            forest.children[parent].push(at);
        }
    }
}

/// Those that are connected among each other, of those that count.
pub(super) fn parts(near: &[Vec<(usize, usize)>], counts: impl Fn(usize) -> bool) -> Vec<Vec<usize>> {
    let mut seen = vec![false; near.len()];
    let mut parts = Vec::new();
    for start in (0..near.len()).filter(|at| counts(*at)) {
        if std::mem::replace(&mut seen[start], true) {
            continue;
        }
        let mut part = vec![start];
        let mut next = 0;
        while let Some(at) = part.get(next).copied() {
            next += 1;
            for (other, _) in &near[at] {
                if counts(*other) && !std::mem::replace(&mut seen[*other], true) {
                    part.push(*other);
                }
            }
        }
        part.sort_unstable();
        parts.push(part);
    }
    parts
}

/// Who is on top of a connected part: those who stand for what is outside, or by whom it is entered; else its centre.
fn roots(items: &[Item], near: &[Vec<(usize, usize)>], part: &[usize]) -> Vec<usize> {
    let mut on_top: Vec<usize> = part.iter().copied().filter(|at| items[*at].is_entry()).collect();
    if on_top.is_empty() {
        on_top = part.iter().copied().filter(|at| items[*at].is_uplink()).collect();
    }
    if !on_top.is_empty() {
        return on_top;
    }
    let free: Vec<bool> = (0..near.len()).map(|at| part.contains(&at) && !items[at].is_frame).collect();
    if !free.contains(&true) {
        return part.to_vec();
    }
    parts(near, |at| free[at]).iter().flat_map(|part| centre(items, near, part)).collect()
}

/// What remains when leaves are taken off again and again; of a core without leaves those with the most connections in it.
fn centre(items: &[Item], near: &[Vec<(usize, usize)>], part: &[usize]) -> Vec<usize> {
    let mut left: Vec<usize> = part.to_vec();
    let others = |at: usize, left: &[usize]| {
        let mut others: Vec<usize> = near[at]
            .iter()
            .map(|(other, _)| *other)
            .filter(|other| left.binary_search(other).is_ok())
            .collect();
        others.sort_unstable();
        others.dedup();
        others.len()
    };
    while left.len() > 2 {
        let core: Vec<usize> = left.iter().copied().filter(|at| others(*at, &left) > 1).collect();
        if core.len() == left.len() {
            // A ring with more at it: from one member down on both sides.
            let is_ring = left.iter().all(|at| others(*at, &left) == 2);
            if is_ring && left.iter().all(|at| items[*at].rank == items[left[0]].rank) {
                return vec![left[0]];
            }
            let most = left.iter().map(|at| others(*at, &left)).max().unwrap_or(0);
            left = left.iter().copied().filter(|at| others(*at, &left) == most).collect();
            break;
        }
        left = core;
    }
    let first = left.iter().map(|at| items[*at].rank).min();
    left.retain(|at| Some(items[*at].rank) == first);
    left
}

/// Those that are connected stand beside each other, from one with few such neighbours on.
pub(super) fn in_order(near: &[Vec<(usize, usize)>], members: Vec<usize>) -> Vec<usize> {
    let among = |at: usize| near[at].iter().map(|(other, _)| *other).filter(|other| members.contains(other));
    let mut order: Vec<usize> = Vec::new();
    while order.len() < members.len() {
        let next = match order.last() {
            Some(last) => among(*last).find(|other| !order.contains(other)),
            None => None,
        };
        let rest = || members.iter().copied().filter(|at| !order.contains(at));
        order.extend(next.or_else(|| rest().min_by_key(|at| (among(*at).count(), *at))));
    }
    order
}
