//! Type information for the kernel (BTF): structures of its own as far as a program uses them, and the program's functions.
//!
//! Documentation/bpf/btf.rst has the format. Where a member really is, the kernel looks up in its own types by the member's name;
//! here all of them are at the beginning of their structure, which is what the instructions have before they are filled in.

const MAGIC: u32 = 0xeb9f;
const VERSION: u32 = 1;
const HEADER_BYTES: u32 = 24;

// Kinds of types.
const INTEGER: u32 = 1;
const POINTER: u32 = 2;
const STRUCTURE: u32 = 4;
const FUNCTION: u32 = 12;
const PROTOTYPE: u32 = 13;

/// A type, by its number. 0 is `void`.
pub(super) type Type = u32;

/// A member of a structure, or of a structure in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Member {
    /// The structure.
    pub(super) of: Type,
    /// Where the strings have the way to it.
    pub(super) path: u32,
}

/// Types as they are told.
#[derive(Debug)]
pub(super) struct Types {
    records: Vec<u32>,
    strings: Vec<u8>,
    count: Type,
    /// What functions return and are given.
    number: Type,
    pointer: Type,
}

impl Types {
    pub(super) fn new() -> Self {
        let mut types = Self { records: Vec::new(), strings: vec![0], count: 0, number: 0, pointer: 0 };
        types.number = types.integer("int", 4);
        types.pointer = types.add("", POINTER, 0, 0, &[]);
        types
    }

    fn string(&mut self, text: &str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        let at = length(&self.strings);
        self.strings.extend(text.bytes().chain([0]));
        at
    }

    /// `extent` is the size, or the type that it leads to.
    fn add(&mut self, name: &str, kind: u32, entries: u32, extent: u32, more: &[u32]) -> Type {
        let name = self.string(name);
        self.records.extend([name, kind << 24 | entries, extent]);
        self.records.extend(more);
        self.count += 1;
        self.count
    }

    /// A number of so many bytes.
    pub(super) fn integer(&mut self, name: &str, bytes: u32) -> Type {
        self.add(name, INTEGER, 0, bytes, &[bytes * 8])
    }

    /// A pointer to whatever.
    pub(super) fn pointer(&self) -> Type {
        self.pointer
    }

    /// A structure of the kernel, with some of its members.
    pub(super) fn structure(&mut self, name: &str, members: &[(&str, Type)]) -> Type {
        const LARGEST_MEMBER_BYTES: u32 = 8;
        let told: Vec<u32> = members.iter().flat_map(|(name, of)| [self.string(name), *of, 0]).collect();
        self.add(name, STRUCTURE, members.len() as u32, LARGEST_MEMBER_BYTES, &told)
    }

    /// The member of a structure that is reached by these places: `0:1:2` is the third member of the second one's structure.
    pub(super) fn member(&mut self, of: Type, path: &str) -> Member {
        Member { of, path: self.string(path) }
    }

    /// A function of the program, which returns a number. One that is not seen outside may be called by helpers.
    pub(super) fn function(&mut self, name: &str, parameters: &[&str], is_seen_outside: bool) -> Type {
        let told: Vec<u32> = parameters.iter().flat_map(|name| [self.string(name), self.pointer]).collect();
        let prototype = self.add("", PROTOTYPE, parameters.len() as u32, self.number, &told);
        self.add(name, FUNCTION, u32::from(is_seen_outside), prototype, &[])
    }

    /// The bytes that the kernel reads.
    pub(super) fn encode(&self) -> Vec<u8> {
        let bytes = length(&self.records) * 4;
        let header = [MAGIC | VERSION << 16, HEADER_BYTES, 0, bytes, bytes, length(&self.strings)];
        let words = header.iter().chain(&self.records);
        // The kernel takes this machine's order of bytes; its first four are two, one and one.
        let mut encoded: Vec<u8> = words.flat_map(|word| word.to_ne_bytes()).collect();
        encoded[..2].copy_from_slice(&(MAGIC as u16).to_ne_bytes());
        (encoded[2], encoded[3]) = (VERSION as u8, 0);
        encoded.extend(&self.strings);
        encoded
    }
}

fn length<T>(of: &[T]) -> u32 {
    u32::try_from(of.len()).expect("a few types")
}
