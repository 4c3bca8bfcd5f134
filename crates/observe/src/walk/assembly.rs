//! Instructions of BPF programs, and how they are put together.

use sys::BpfRelocation;

use super::types::Member;

// Helpers (include/uapi/linux/bpf.h).
pub(super) const MAP_UPDATE_ELEM: i32 = 2;
pub(super) const GET_CURRENT_TASK: i32 = 35;
pub(super) const PROBE_READ_KERNEL: i32 = 113;
/// Linux 5.17.
pub(super) const LOOP: i32 = 181;

// Instructions: class, operation, and whether the second operand is a register (Documentation/bpf/standardization).
pub(super) const SET: u8 = 0xb7;
pub(super) const MOVE: u8 = 0xbf;
pub(super) const ADD: u8 = 0x07;
pub(super) const ADD_REGISTER: u8 = 0x0f;
pub(super) const SUBTRACT: u8 = 0x17;
pub(super) const SUBTRACT_REGISTER: u8 = 0x1f;
pub(super) const SHIFT_LEFT: u8 = 0x67;
pub(super) const LOAD: u8 = 0x79;
pub(super) const LOAD_WORD: u8 = 0x61;
pub(super) const STORE: u8 = 0x7b;
pub(super) const STORE_WORD: u8 = 0x63;
pub(super) const STORE_VALUE: u8 = 0x7a;
pub(super) const GO: u8 = 0x05;
pub(super) const GO_IF_ZERO: u8 = 0x15;
pub(super) const GO_IF_NOT_ZERO: u8 = 0x55;
const GO_IF_VALUE: u8 = GO_IF_ZERO;
pub(super) const GO_IF_MORE: u8 = 0x2d;
pub(super) const GO_IF_NEGATIVE: u8 = 0xc5;
pub(super) const GO_IF_SAME: u8 = 0x1d;
pub(super) const GO_IF_OTHER: u8 = 0x5d;
pub(super) const CALL: u8 = 0x85;
pub(super) const EXIT: u8 = 0x95;
pub(super) const LOAD_WIDE: u8 = 0x18;

/// The second operand of [`LOAD_WIDE`] where its value is a map's descriptor, or a function's place (BPF_PSEUDO_MAP_FD,
/// BPF_PSEUDO_FUNC).
pub(super) const MAP: u8 = 1;
pub(super) const FUNCTION: u8 = 4;

/// The kinds of relocation (`enum bpf_core_relo_kind`).
pub(super) const BYTE_OFFSET: u32 = 0;
pub(super) const EXISTS: u32 = 2;

/// The register that has the end of the stack.
pub(super) const STACK: u8 = 10;

/// Instructions as they are written down.
///
/// `Place` is a program's own: where it goes to, forward.
#[derive(Debug)]
pub(super) struct Assembly<Place> {
    pub(super) instructions: Vec<u64>,
    pub(super) relocations: Vec<BpfRelocation>,
    /// Instructions that go somewhere.
    open: Vec<(usize, Place)>,
}

impl<Place: Copy + PartialEq> Assembly<Place> {
    pub(super) fn new() -> Self {
        Self { instructions: Vec::new(), relocations: Vec::new(), open: Vec::new() }
    }

    pub(super) fn put(&mut self, operation: u8, to: u8, from: u8, offset: i16, value: i32) {
        let registers = u64::from(to) | u64::from(from) << 4;
        let rest = u64::from(offset.cast_unsigned()) << 16 | u64::from(value.cast_unsigned()) << 32;
        self.instructions.push(u64::from(operation) | registers << 8 | rest);
    }

    pub(super) fn set(&mut self, register: u8, value: i32) {
        self.put(SET, register, 0, 0, value);
    }

    pub(super) fn copy(&mut self, to: u8, from: u8) {
        self.put(MOVE, to, from, 0, 0);
    }

    /// A register gets a place on the stack.
    pub(super) fn point(&mut self, register: u8, at: i16) {
        self.copy(register, STACK);
        self.put(ADD, register, 0, 0, at.into());
    }

    pub(super) fn call(&mut self, helper: i32) {
        self.put(CALL, 0, 0, 0, helper);
    }

    pub(super) fn leave(&mut self, result: i32) {
        self.set(0, result);
        self.put(EXIT, 0, 0, 0, 0);
    }

    pub(super) fn wide(&mut self, register: u8, kind: u8, value: i32) {
        self.put(LOAD_WIDE, register, kind, 0, value);
        self.instructions.push(0);
    }

    /// A register gets a function that is written down later; says where that belongs.
    pub(super) fn name_function(&mut self, register: u8) -> usize {
        self.wide(register, FUNCTION, 0);
        self.instructions.len() - 2
    }

    /// The function that was named there begins here. Returns the number of its first instruction.
    pub(super) fn begin_function(&mut self, named_at: usize) -> u32 {
        let here = self.instructions.len();
        // A function is named by its distance from the instruction after.
        let distance = u64::try_from(here - named_at - 1).expect("a short program");
        self.instructions[named_at] |= distance << 32;
        u32::try_from(here).expect("a short program")
    }

    pub(super) fn go(&mut self, operation: u8, a: u8, b: u8, place: Place) {
        self.open.push((self.instructions.len(), place));
        self.put(operation, a, b, 0, 0);
    }

    /// Goes there if the register has this value.
    pub(super) fn go_if_value(&mut self, register: u8, value: i32, place: Place) {
        self.open.push((self.instructions.len(), place));
        self.put(GO_IF_VALUE, register, 0, 0, value);
    }

    /// All that goes to this place goes here.
    pub(super) fn place(&mut self, place: Place) {
        let here = self.instructions.len();
        self.open.retain(|(at, to)| {
            if *to == place {
                let offset = u16::try_from(here - at - 1).expect("a short program");
                self.instructions[*at] |= u64::from(offset) << 16;
            }
            *to != place
        });
    }

    /// The kernel gives the last instruction the value.
    pub(super) fn filled_in(&mut self, member: Member, kind: u32) {
        let at = (self.instructions.len() - 1) * size_of::<u64>();
        let at = u32::try_from(at).expect("a short program");
        self.relocations.push([at, member.of, member.path, kind]);
    }

    /// Reads so many bytes of a structure to a place on the stack.
    pub(super) fn read(&mut self, bytes: i32, to: i16, structure: u8, member: Member, otherwise: Place) {
        self.point(1, to);
        self.set(2, bytes);
        self.copy(3, structure);
        self.put(ADD, 3, 0, 0, 0);
        self.filled_in(member, BYTE_OFFSET);
        self.call(PROBE_READ_KERNEL);
        self.go(GO_IF_NOT_ZERO, 0, 0, otherwise);
    }

    /// Goes elsewhere on kernels whose structure has no such member. The verifier knows the value, and so does not look at the way
    /// that is not gone, where offsets stay open.
    pub(super) fn unless_there(&mut self, member: Member, otherwise: Place) {
        self.set(1, 1);
        self.filled_in(member, EXISTS);
        self.go(GO_IF_ZERO, 1, 0, otherwise);
    }
}
