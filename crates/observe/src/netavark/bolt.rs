//! bbolt's file format, as far as reading needs it: pages of a B+tree of keys, whose values may be trees themselves.
//!
//! <https://github.com/etcd-io/bbolt/blob/main/internal/common/page.go> and its neighbours are the only description. Numbers are in the
//! machine's order of bytes. Whatever is in the file, so many elements are looked at and no more. `None` is a file that is damaged.

use std::cell::Cell;

/// Where the two heads are: the first bytes of the first two pages.
pub(super) const HEADS_BYTES: usize = 2 * LARGEST_PAGE;
const LARGEST_PAGE: usize = 64 << 10;
const MAGIC: u32 = 0xed0c_daed;
const VERSION: u32 = 2;
const PAGE_HEADER: usize = 16;
const HEAD_BYTES: usize = 64;
const ELEMENT: usize = 16;
const TREE_HEADER: usize = 16;
const BRANCH: u16 = 1;
const LEAF: u16 = 2;
/// The value of an element is a tree.
const IS_TREE: u32 = 1;
/// More than a database of the largest size that is read can have.
const MOST_ELEMENTS: usize = 1 << 20;

/// A database.
pub(super) struct Bolt<'a> {
    bytes: &'a [u8],
    page_bytes: usize,
    root: u64,
    transaction: u64,
    /// How many elements may still be looked at.
    left: Cell<usize>,
}

/// What is a bucket to bbolt: a tree on pages of its own, or one that is small enough to be in its element.
#[derive(Debug, Clone, Copy)]
pub(super) enum Tree<'a> {
    At(u64),
    Inline(&'a [u8]),
}

/// A key with its value.
#[derive(Debug, Clone, Copy)]
pub(super) struct Item<'a> {
    pub(super) key: &'a [u8],
    content: &'a [u8],
    is_tree: bool,
}

impl<'a> Item<'a> {
    /// Its value, if that is no tree.
    pub(super) fn value(&self) -> Option<&'a [u8]> {
        (!self.is_tree).then_some(self.content)
    }

    /// Its value, if that is a tree.
    pub(super) fn tree(&self) -> Option<Tree<'a>> {
        let header = self.content.get(..TREE_HEADER).filter(|_| self.is_tree)?;
        match u64_at(header, 0)? {
            0 => Some(Tree::Inline(&self.content[TREE_HEADER..])),
            page => Some(Tree::At(page)),
        }
    }
}

impl<'a> Bolt<'a> {
    /// The database as the last transaction that was finished left it.
    pub(super) fn open(bytes: &'a [u8]) -> Option<Self> {
        // The second head is where the second page begins, and only a head says how long a page is.
        let sizes = (0..).map(|shift| 1_usize << shift).skip(9).take_while(|size| *size <= LARGEST_PAGE);
        let first = head(bytes, 0).map(|(page_bytes, ..)| page_bytes);
        let (page_bytes, root, transaction) = match first {
            Some(page_bytes) => {
                let heads = [0, page_bytes].into_iter().filter_map(|place| head(bytes, place));
                heads.max_by_key(|(.., transaction)| *transaction)?
            }
            None => sizes.filter_map(|size| head(bytes, size).filter(|(own, ..)| *own == size)).next()?,
        };
        Some(Self { bytes, page_bytes, root, transaction, left: Cell::new(MOST_ELEMENTS) })
    }

    /// The last transaction that was finished.
    pub(super) fn transaction(&self) -> u64 {
        self.transaction
    }

    /// The tree that all others are in.
    pub(super) fn root(&self) -> Tree<'a> {
        Tree::At(self.root)
    }

    /// All keys of a tree with their values.
    pub(super) fn items(&self, tree: &Tree<'a>) -> Option<Vec<Item<'a>>> {
        let mut items = Vec::new();
        let mut pages = match tree {
            Tree::Inline(page) => {
                self.leaf(page, &mut items)?;
                return Some(items);
            }
            Tree::At(page) => vec![*page],
        };
        while let Some(page) = pages.pop() {
            let page = self.page(page)?;
            match u16_at(page, 8)? {
                LEAF => self.leaf(page, &mut items)?,
                BRANCH => {
                    for element in self.elements(page)? {
                        pages.push(u64_at(element, 8)?);
                    }
                }
                _ => return None,
            }
        }
        Some(items)
    }

    /// A page with those that continue it.
    fn page(&self, number: u64) -> Option<&'a [u8]> {
        let start = usize::try_from(number).ok()?.checked_mul(self.page_bytes)?;
        let rest = self.bytes.get(start..)?;
        let pages = usize::try_from(u32_at(rest, 12)?).ok()?.checked_add(1)?;
        rest.get(..pages.checked_mul(self.page_bytes)?)
    }

    fn elements(&self, page: &'a [u8]) -> Option<std::slice::ChunksExact<'a, u8>> {
        let count = usize::from(u16_at(page, 10)?);
        self.left.set(self.left.get().checked_sub(count)?);
        Some(page.get(PAGE_HEADER..PAGE_HEADER + count * ELEMENT)?.chunks_exact(ELEMENT))
    }

    fn leaf(&self, page: &'a [u8], items: &mut Vec<Item<'a>>) -> Option<()> {
        for (at, element) in self.elements(page)?.enumerate() {
            let length = |place| usize::try_from(u32_at(element, place)?).ok();
            let (flags, place, key, value) = (u32_at(element, 0)?, length(4)?, length(8)?, length(12)?);
            // Counted from the element itself.
            let start = (PAGE_HEADER + at * ELEMENT).checked_add(place)?;
            let (key, rest) = page.get(start..)?.split_at_checked(key)?;
            items.push(Item { key, content: rest.get(..value)?, is_tree: flags & IS_TREE != 0 });
        }
        Some(())
    }
}

/// Length of a page, root, and number of the transaction of a head that is whole.
fn head(bytes: &[u8], place: usize) -> Option<(usize, u64, u64)> {
    let head = bytes.get(place + PAGE_HEADER..)?.get(..HEAD_BYTES)?;
    let (sum, page_bytes) = (u64_at(head, 56)?, usize::try_from(u32_at(head, 8)?).ok()?);
    let is_whole = u32_at(head, 0)? == MAGIC && u32_at(head, 4)? == VERSION && sum == fnv(&head[..56]);
    let is_sound = is_whole && page_bytes.is_power_of_two() && (512..=LARGEST_PAGE).contains(&page_bytes);
    is_sound.then_some((page_bytes, u64_at(head, 16)?, u64_at(head, 48)?))
}

/// FNV-1a.
fn fnv(bytes: &[u8]) -> u64 {
    let step = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}
