//! One thing of the zoo, and whether it is still there.

use std::path::{Path, PathBuf};

use podplumb_tests::output;

/// A pod or namespace, dead or alive.
#[derive(Debug)]
pub(crate) struct Animal {
    pub(crate) name: &'static str,
    /// A line about it for the page.
    pub(crate) what: &'static str,
    pub(crate) alive: bool,
    pub(crate) pieces: Vec<Piece>,
}

/// Something that a recipe may remove.
#[derive(Debug)]
pub(crate) enum Piece {
    /// A host interface.
    Veth(String),
    /// A mount of this namespace, in the mount namespace of `seen_by`, or in our own.
    Pin { path: PathBuf, inode: u64, seen_by: Option<u32> },
    /// A lease file.
    Lease(PathBuf),
    /// An entry of libcni's cache.
    Cache(PathBuf),
    /// A file that pins nothing.
    File(PathBuf),
    /// From a pinned namespace, this address answers.
    Traffic { from: PathBuf, to: String },
    /// A stopped container of Docker's, which can be started again.
    Container(&'static str),
}

impl Piece {
    /// What the page calls it.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Piece::Veth(_) => "veth",
            Piece::Pin { .. } => "pin",
            Piece::Lease(_) => "lease",
            Piece::Cache(_) => "cache entry",
            Piece::File(_) => "file",
            Piece::Traffic { .. } => "traffic",
            Piece::Container(_) => "start",
        }
    }

    pub(crate) fn is_there(&self) -> bool {
        match self {
            Piece::Veth(name) => has_link(name),
            Piece::Pin { path, inode, seen_by } => is_pinned(path, *inode, *seen_by),
            Piece::Lease(path) | Piece::Cache(path) | Piece::File(path) => path.exists(),
            Piece::Traffic { from, to } => {
                let netns = format!("--net={}", from.display());
                output("nsenter", &[&netns, "ping", "-c", "1", "-W", "2", to]).status.success()
            }
            Piece::Container(name) => output("docker", &["start", name]).status.success(),
        }
    }
}

impl Animal {
    /// The pieces that are not there any more.
    pub(crate) fn lost(&self) -> Vec<&'static str> {
        self.pieces.iter().filter(|piece| !piece.is_there()).map(Piece::kind).collect()
    }

    /// The pieces that are still there.
    pub(crate) fn left(&self) -> Vec<&'static str> {
        self.pieces.iter().filter(|piece| piece.is_there()).map(Piece::kind).collect()
    }
}

fn has_link(name: &str) -> bool {
    output("ip", &["link", "show", "dev", name]).status.success()
}

fn is_pinned(path: &Path, inode: u64, seen_by: Option<u32>) -> bool {
    let table =
        seen_by.map_or("/proc/thread-self/mountinfo".to_owned(), |pid| format!("/proc/{pid}/mountinfo"));
    let table = std::fs::read_to_string(table).unwrap_or_default();
    // "36 35 0:4 net:[4026532281] /run/netns/name …"
    let root = format!("net:[{inode}]");
    let path = path.display().to_string();
    table.lines().any(|line| {
        let mut fields = line.split(' ').skip(3);
        fields.next() == Some(root.as_str()) && fields.next() == Some(path.as_str())
    })
}
