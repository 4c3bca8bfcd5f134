//! A terminal's cells, in which lines that meet become one character.

use crate::render::Paint;

/// What a cell's character means, for its colour.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Ink {
    #[default]
    Plain,
    Title,
    Faint,
    Warning,
    Bad,
}

/// What a line consists of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Stroke {
    #[default]
    Solid,
    Dashed,
    Dotted,
}

const NORTH: u8 = 1;
const EAST: u8 = 2;
const SOUTH: u8 = 4;
const WEST: u8 = 8;

/// By the directions in which lines leave a cell.
const LINES: [char; 16] = [' ', '╵', '╶', '└', '╷', '│', '┌', '├', '╴', '┘', '─', '┴', '┐', '┤', '┬', '┼'];

#[derive(Debug, Clone, Copy, Default)]
struct Cell {
    directions: u8,
    stroke: Stroke,
    is_round: bool,
    letter: Option<char>,
    /// The right half of a wide letter.
    is_covered: bool,
    ink: Ink,
}

/// A drawing area.
#[derive(Debug, Clone)]
pub(super) struct Canvas {
    width: i32,
    cells: Vec<Cell>,
}

impl Canvas {
    pub(super) fn new(width: i32, height: i32) -> Self {
        let count = usize::try_from(width.max(0)).unwrap_or(0) * usize::try_from(height.max(0)).unwrap_or(0);
        Canvas { width, cells: vec![Cell::default(); count] }
    }

    fn cell(&mut self, x: i32, y: i32) -> Option<&mut Cell> {
        if !(0..self.width).contains(&x) || y < 0 {
            return None;
        }
        self.cells.get_mut(usize::try_from(y * self.width + x).ok()?)
    }

    fn strike(&mut self, x: i32, y: i32, directions: u8, stroke: Stroke, ink: Ink) {
        if let Some(cell) = self.cell(x, y) {
            if cell.directions == 0 || stroke == Stroke::Solid {
                cell.stroke = stroke;
            }
            // What is wrong stays visible where lines meet.
            cell.ink = match (cell.directions, cell.ink) {
                (0, _) | (_, Ink::Faint) => ink,
                (_, there) => there,
            };
            cell.directions |= directions;
        }
    }

    /// A line that is level or upright, both ends included.
    pub(super) fn line(&mut self, from: (i32, i32), to: (i32, i32), stroke: Stroke, ink: Ink) {
        let ((x1, y1), (x2, y2)) = (from.min(to), from.max(to));
        for x in x1..x2 {
            self.strike(x, y1, EAST, stroke, ink);
            self.strike(x + 1, y1, WEST, stroke, ink);
        }
        let (y1, y2) = (y1.min(y2), y1.max(y2));
        for y in y1..y2 {
            self.strike(x1, y, SOUTH, stroke, ink);
            self.strike(x1, y + 1, NORTH, stroke, ink);
        }
    }

    /// A rectangle's border.
    pub(super) fn rectangle(&mut self, at: (i32, i32), size: (i32, i32), is_round: bool, ink: Ink) {
        let ((left, top), (right, bottom)) = (at, (at.0 + size.0 - 1, at.1 + size.1 - 1));
        for (from, to) in [
            ((left, top), (right, top)),
            ((left, bottom), (right, bottom)),
            ((left, top), (left, bottom)),
            ((right, top), (right, bottom)),
        ] {
            self.line(from, to, Stroke::Solid, ink);
        }
        for corner in [(left, top), (right, top), (left, bottom), (right, bottom)] {
            if let Some(cell) = self.cell(corner.0, corner.1) {
                cell.is_round = is_round;
            }
        }
    }

    /// Words, over whatever is there.
    pub(super) fn write(&mut self, x: i32, y: i32, words: &str, ink: Ink) {
        let mut x = x;
        for letter in words.chars() {
            let width = cells_of(letter);
            if width == 0 {
                continue;
            }
            if let Some(cell) = self.cell(x, y) {
                *cell = Cell { letter: Some(letter), ink, ..Cell::default() };
            }
            if width == 2
                && let Some(cell) = self.cell(x + 1, y)
            {
                *cell = Cell { is_covered: true, ink, ..Cell::default() };
            }
            x += width;
        }
    }

    /// The lines, without blanks at their ends.
    pub(super) fn text(&self, paint: Paint) -> String {
        let mut out = String::new();
        let width = usize::try_from(self.width).unwrap_or(1).max(1);
        for row in self.cells.chunks(width) {
            let end =
                row.iter().rposition(|cell| cell.letter.is_some_and(|c| c != ' ') || cell.directions != 0);
            let row = &row[..end.map_or(0, |end| end + 1)];
            let mut run = String::new();
            let mut ink = Ink::Plain;
            for cell in row.iter().filter(|cell| !cell.is_covered) {
                if cell.ink != ink {
                    out.push_str(&painted(&run, ink, paint));
                    run.clear();
                    ink = cell.ink;
                }
                run.push(cell.shown());
            }
            out.push_str(&painted(&run, ink, paint));
            out.push('\n');
        }
        out
    }
}

impl Cell {
    fn shown(&self) -> char {
        const LEVEL: u8 = EAST | WEST;
        const UPRIGHT: u8 = NORTH | SOUTH;
        if let Some(letter) = self.letter {
            return letter;
        }
        match self.directions {
            LEVEL if self.stroke == Stroke::Dashed => '╌',
            UPRIGHT if self.stroke == Stroke::Dashed => '╎',
            LEVEL if self.stroke == Stroke::Dotted => '┈',
            UPRIGHT if self.stroke == Stroke::Dotted => '┊',
            directions if self.is_round => match LINES[usize::from(directions)] {
                '┌' => '╭',
                '┐' => '╮',
                '└' => '╰',
                '┘' => '╯',
                other => other,
            },
            directions => LINES[usize::from(directions)],
        }
    }
}

fn painted(run: &str, ink: Ink, paint: Paint) -> String {
    match ink {
        _ if run.trim().is_empty() => run.to_owned(),
        Ink::Plain => run.to_owned(),
        Ink::Title => paint.bold(run),
        Ink::Faint => paint.dim(run),
        Ink::Warning => paint.yellow(run),
        Ink::Bad => paint.red(run),
    }
}

/// How many cells a terminal uses for it: East Asian wide characters and emoji take two, combining ones none.
fn cells_of(c: char) -> i32 {
    match c {
        '\u{300}'..='\u{36f}' | '\u{200b}'..='\u{200d}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' => 0,
        '\u{1100}'..='\u{115f}'
        | '\u{2e80}'..='\u{a4cf}'
        | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}'
        | '\u{fe30}'..='\u{fe6f}'
        | '\u{ff00}'..='\u{ff60}'
        | '\u{ffe0}'..='\u{ffe6}'
        | '\u{1f300}'..='\u{1faff}'
        | '\u{20000}'..='\u{3fffd}' => 2,
        _ => 1,
    }
}

/// How many cells a terminal uses for the text.
pub(super) fn cells(text: &str) -> i32 {
    text.chars().map(cells_of).sum()
}
