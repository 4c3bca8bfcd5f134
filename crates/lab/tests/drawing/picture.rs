//! What has to hold of a picture: it is XML, no box covers another, no line runs through a box or along another line, and no text leaves
//! its box or the picture.

use roxmltree::{Document, Node};

#[derive(Debug, Clone, Copy)]
struct Area {
    left: f64,
    top: f64,
    right: f64,
    bottom: f64,
}

impl Area {
    fn covers(&self, other: &Area) -> bool {
        self.left < other.right
            && other.left < self.right
            && self.top < other.bottom
            && other.top < self.bottom
    }

    fn grown(&self, by: f64) -> Area {
        Area { left: self.left - by, top: self.top - by, right: self.right + by, bottom: self.bottom + by }
    }

    fn shrunk(&self, by: f64) -> Area {
        self.grown(-by)
    }

    fn contains(&self, other: &Area) -> bool {
        self.left <= other.left
            && other.right <= self.right
            && self.top <= other.top
            && other.bottom <= self.bottom
    }
}

fn number(node: Node<'_, '_>, name: &str) -> f64 {
    node.attribute(name).unwrap_or("0").parse().unwrap()
}

fn rect(node: Node<'_, '_>) -> Area {
    let (left, top) = (number(node, "x"), number(node, "y"));
    Area { left, top, right: left + number(node, "width"), bottom: top + number(node, "height") }
}

/// The room that a text takes: letters of one width have six tenths of their size, others are taken as wide as DejaVu Sans has them
/// in the middle.
fn words(node: Node<'_, '_>) -> Area {
    let size = number(node, "font-size");
    let is_mono = node.attribute("font-family").is_some_and(|family| family.contains("mono"));
    let letter = if is_mono { 0.602 } else { 0.6 };
    let count = node.text().unwrap_or_default().chars().count();
    let width = f64::from(u32::try_from(count).unwrap()) * letter * size;
    let x = number(node, "x");
    let left = match node.attribute("text-anchor") {
        Some("middle") => x - width / 2.0,
        Some("end") => x - width,
        _ => x,
    };
    let baseline = number(node, "y");
    Area { left, top: baseline - 0.75 * size, right: left + width, bottom: baseline + 0.2 * size }
}

fn has_class(node: Node<'_, '_>, class: &str) -> bool {
    node.attribute("class").is_some_and(|classes| classes.split(' ').any(|own| own == class))
}

pub(crate) fn check(svg: &str) -> Result<(), String> {
    let document = Document::parse(svg).map_err(|error| error.to_string())?;
    let root = document.root_element();
    let drawing = root.children().find(|node| node.has_tag_name("g")).ok_or("no drawing")?;
    let shift =
        drawing.attribute("transform").and_then(|text| text.strip_prefix("translate(")).ok_or("no shift")?;
    let shift: Vec<f64> = shift.trim_end_matches(')').split(' ').map(|part| part.parse().unwrap()).collect();
    let whole = Area {
        left: -shift[0],
        top: -shift[1],
        right: number(root, "width") - shift[0],
        bottom: number(root, "height") - shift[1],
    };
    let mut boxes: Vec<(Area, String)> = Vec::new();
    for vertex in drawing.children().filter(|node| has_class(*node, "vertex")) {
        let own = vertex.children().find(|node| has_class(*node, "box")).ok_or("a box without a border")?;
        let own = rect(own);
        let mut name = String::new();
        for text in vertex.children().filter(|node| node.has_tag_name("text")) {
            name = if name.is_empty() { text.text().unwrap_or_default().to_owned() } else { name };
            if !own.contains(&words(text)) {
                return Err(format!("`{}` leaves its box", text.text().unwrap_or_default()));
            }
        }
        boxes.push((own, name));
    }
    let frames: Vec<Area> = drawing.children().filter(|node| has_class(*node, "frame")).map(rect).collect();
    for (at, (own, name)) in boxes.iter().enumerate() {
        if !whole.contains(own) {
            return Err(format!("`{name}` leaves the picture"));
        }
        for (other, other_name) in &boxes[at + 1..] {
            if own.covers(other) {
                return Err(format!("`{name}` and `{other_name}` cover each other"));
            }
        }
        if frames.iter().any(|frame| frame.covers(own) && !frame.contains(own)) {
            return Err(format!("`{name}` is on the border of a frame"));
        }
    }
    for (at, frame) in frames.iter().enumerate() {
        if frames[at + 1..].iter().any(|other| frame.covers(other)) {
            return Err("frames cover each other".to_owned());
        }
    }
    let labels: Vec<(Area, &str)> = drawing
        .children()
        .filter(|node| node.has_tag_name("text"))
        .map(|node| (words(node), node.text().unwrap_or_default()))
        .collect();
    for (at, (own, text)) in labels.iter().enumerate() {
        if !whole.contains(own) {
            return Err(format!("`{text}` leaves the picture"));
        }
        if let Some((_, name)) = boxes.iter().find(|(area, _)| area.covers(own)) {
            return Err(format!("`{text}` is on the box `{name}`"));
        }
        if let Some((_, other)) = labels[at + 1..].iter().find(|(other, _)| other.covers(own)) {
            return Err(format!("`{text}` is on `{other}`"));
        }
    }
    let mut parts: Vec<(usize, Area)> = Vec::new();
    for (number, path) in drawing.children().filter(|node| node.has_tag_name("path")).enumerate() {
        parts.extend(
            straight_parts(path.attribute("d").unwrap_or_default()).into_iter().map(|part| (number, part)),
        );
    }
    for (at, (path, part)) in parts.iter().enumerate() {
        if let Some((_, name)) = boxes.iter().find(|(own, _)| own.shrunk(1.0).covers(&part.grown(0.4))) {
            return Err(format!("a line runs through `{name}`: {part:?}"));
        }
        let along = |other: &Area| {
            let (own, other) = (part.grown(0.4), other.grown(0.4));
            let common = (own.right.min(other.right) - own.left.max(other.left))
                .max(own.bottom.min(other.bottom) - own.top.max(other.top));
            own.covers(&other) && common > 3.0
        };
        if let Some((_, other)) = parts[at + 1..].iter().find(|(other, area)| other != path && along(area)) {
            return Err(format!("two lines run along each other: {part:?}, {other:?}"));
        }
    }
    Ok(())
}

/// The level and upright parts of a path; those of a curve are left out.
fn straight_parts(path: &str) -> Vec<Area> {
    let mut parts = Vec::new();
    let mut at: Option<(f64, f64)> = None;
    for command in
        path.split_inclusive(|c: char| c.is_ascii_alphabetic()).skip(1).zip(path.matches(char::is_alphabetic))
    {
        let (text, command) = command;
        let numbers: Vec<f64> = text
            .trim_end_matches(|c: char| c.is_ascii_alphabetic())
            .split_whitespace()
            .map(|number| number.parse().unwrap())
            .collect();
        let [.., x, y] = numbers[..] else { continue };
        if let (Some((from_x, from_y)), "L") = (at, command) {
            parts.push(Area {
                left: from_x.min(x),
                right: from_x.max(x),
                top: from_y.min(y),
                bottom: from_y.max(y),
            });
        }
        at = Some((x, y));
    }
    parts
}
