//! The program that walks over the kernel's list of network namespaces, as instructions.
//!
//! From the caller's own namespace it goes from `net.list.next` to `net.list.next`, until it is back. What a namespace looks like
//! differs between kernels; so each offset is left open, and the kernel fills it in by its own type information (CO-RE, which
//! it does by itself since Linux 5.17).

use sys::{BpfArray, BpfCode, BpfProgram, BpfRefusal};

use super::types::{Member, Types};

/// What the program writes of each namespace: id, inode, count of references.
pub(super) const ENTRY_BYTES: u32 = 16;
/// What it returns when it did not come back to where it began.
pub(super) const LOST: u32 = u32::MAX;

// Helpers (include/uapi/linux/bpf.h).
const MAP_UPDATE_ELEM: i32 = 2;
const GET_CURRENT_TASK: i32 = 35;
const PROBE_READ_KERNEL: i32 = 113;
/// Linux 5.17.
const LOOP: i32 = 181;

// Instructions: class, operation, and whether the second operand is a register (Documentation/bpf/standardization).
const SET: u8 = 0xb7;
const MOVE: u8 = 0xbf;
const ADD: u8 = 0x07;
const SUBTRACT: u8 = 0x17;
const LOAD: u8 = 0x79;
const LOAD_WORD: u8 = 0x61;
const STORE: u8 = 0x7b;
const STORE_WORD: u8 = 0x63;
const STORE_VALUE: u8 = 0x7a;
const GO: u8 = 0x05;
const GO_IF_ZERO: u8 = 0x15;
const GO_IF_NOT_ZERO: u8 = 0x55;
const GO_IF_SAME: u8 = 0x1d;
const GO_IF_OTHER: u8 = 0x5d;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
const LOAD_WIDE: u8 = 0x18;

/// The second operand of [`LOAD_WIDE`] where its value is a map's descriptor, or a function's place (BPF_PSEUDO_MAP_FD,
/// BPF_PSEUDO_FUNC).
const MAP: u8 = 1;
const FUNCTION: u8 = 4;

/// The kinds of relocation (`enum bpf_core_relo_kind`).
const BYTE_OFFSET: u32 = 0;
const EXISTS: u32 = 2;

/// The register that has the end of the stack.
const STACK: u8 = 10;

/// What the two functions share, by its place on the first one's stack: the namespace that is looked at, that where the walk began,
/// that one's kind, and whether the walk is over.
const SHARED: i16 = -32;
const HERE: i16 = 0;
const FIRST: i16 = 8;
const KIND: i16 = 16;
const DONE: i16 = 24;

/// Where it goes to, forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Lost,
    OldCount,
    Counted,
    OldId,
    Identified,
    Next,
    Back,
    Stop,
}

/// Instructions as they are written down.
#[derive(Debug, Default)]
struct Assembly {
    instructions: Vec<u64>,
    relocations: Vec<sys::BpfRelocation>,
    /// Instructions that go somewhere.
    open: Vec<(usize, Place)>,
}

impl Assembly {
    fn put(&mut self, operation: u8, to: u8, from: u8, offset: i16, value: i32) {
        let registers = u64::from(to) | u64::from(from) << 4;
        let rest = u64::from(offset.cast_unsigned()) << 16 | u64::from(value.cast_unsigned()) << 32;
        self.instructions.push(u64::from(operation) | registers << 8 | rest);
    }

    fn set(&mut self, register: u8, value: i32) {
        self.put(SET, register, 0, 0, value);
    }

    fn copy(&mut self, to: u8, from: u8) {
        self.put(MOVE, to, from, 0, 0);
    }

    /// A register gets a place on the stack.
    fn point(&mut self, register: u8, at: i16) {
        self.copy(register, STACK);
        self.put(ADD, register, 0, 0, at.into());
    }

    fn call(&mut self, helper: i32) {
        self.put(CALL, 0, 0, 0, helper);
    }

    fn leave(&mut self, result: i32) {
        self.set(0, result);
        self.put(EXIT, 0, 0, 0, 0);
    }

    fn wide(&mut self, register: u8, kind: u8, value: i32) {
        self.put(LOAD_WIDE, register, kind, 0, value);
        self.instructions.push(0);
    }

    fn go(&mut self, operation: u8, a: u8, b: u8, place: Place) {
        self.open.push((self.instructions.len(), place));
        self.put(operation, a, b, 0, 0);
    }

    /// All that goes to this place goes here.
    fn place(&mut self, place: Place) {
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
    fn filled_in(&mut self, member: Member, kind: u32) {
        let at = (self.instructions.len() - 1) * size_of::<u64>();
        let at = u32::try_from(at).expect("a short program");
        self.relocations.push([at, member.of, member.path, kind]);
    }

    /// Reads so many bytes of a structure to a place on the stack.
    fn read(&mut self, bytes: i32, to: i16, structure: u8, member: Member, otherwise: Place) {
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
    fn unless_there(&mut self, member: Member, otherwise: Place) {
        self.set(1, 1);
        self.filled_in(member, EXISTS);
        self.go(GO_IF_ZERO, 1, 0, otherwise);
    }
}

/// The members that the program reads.
struct Kernel {
    types: Types,
    nsproxy: Member,
    net_ns: Member,
    list: Member,
    next: Member,
    ops: Member,
    inum: Member,
    id: Member,
    old_id: Member,
    count: Member,
    old_count: Member,
}

impl Kernel {
    fn new() -> Self {
        let mut types = Types::new();
        let (number, pointer) = (types.integer("unsigned int", 4), types.pointer());
        let wide = types.integer("unsigned long long", 8);
        let task = types.structure("task_struct", &[("nsproxy", pointer)]);
        let proxy = types.structure("nsproxy", &[("net_ns", pointer)]);
        let list = types.structure("list_head", &[("next", pointer)]);
        let count = types.structure("refcount_struct", &[("refs", number)]);
        // `count` became `__ns_ref` in Linux 6.18, and moved into an unnamed member in 6.19, which makes no difference. `ns_id` came
        // in 6.18; what it is now was `net_cookie` before.
        let members =
            [("ops", pointer), ("inum", number), ("ns_id", wide), ("__ns_ref", count), ("count", count)];
        let common = types.structure("ns_common", &members);
        let net = types.structure("net", &[("list", list), ("ns", common), ("net_cookie", wide)]);
        Self {
            nsproxy: types.member(task, "0:0"),
            net_ns: types.member(proxy, "0:0"),
            list: types.member(net, "0:0"),
            next: types.member(net, "0:0:0"),
            ops: types.member(net, "0:1:0"),
            inum: types.member(net, "0:1:1"),
            id: types.member(net, "0:1:2"),
            old_id: types.member(net, "0:2"),
            count: types.member(net, "0:1:3"),
            old_count: types.member(net, "0:1:4"),
            types,
        }
    }
}

/// The program, ready to run. It writes what it finds at the number of its step, so the list's head, and namespaces that are being torn
/// down, leave zeros; and it returns the number of its steps, or [`LOST`].
pub(super) fn load(into: &BpfArray, most: u32) -> Result<BpfProgram, BpfRefusal> {
    let mut kernel = Kernel::new();
    let mut assembly = Assembly::default();
    let to_step = begin(&mut assembly, &kernel, most);
    let step_at = assembly.instructions.len();
    step(&mut assembly, &kernel, into.descriptor());
    // A function is named by its distance from the instruction after.
    let distance = u64::try_from(step_at - to_step - 1).expect("a short program");
    assembly.instructions[to_step] |= distance << 32;
    let walk = kernel.types.function("walk", &["context"], true);
    let step = kernel.types.function("step", &["number", "shared"], false);
    let step_at = u32::try_from(step_at).expect("a short program");
    BpfProgram::load(&BpfCode {
        name: "podplumb_walk",
        // Licences as ours, in the words that the kernel knows: helpers that read its memory want one that goes with its own.
        licence: c"Dual MIT/GPL",
        instructions: &assembly.instructions,
        types: &kernel.types.encode(),
        functions: &[[0, walk], [step_at, step]],
        relocations: &assembly.relocations,
    })
}

/// The function that finds the first namespace, and has the list walked. Returns where the other function's place belongs.
fn begin(assembly: &mut Assembly, kernel: &Kernel, most: u32) -> usize {
    let scratch = SHARED - 8;
    assembly.call(GET_CURRENT_TASK);
    assembly.copy(6, 0);
    assembly.read(8, scratch, 6, kernel.nsproxy, Place::Lost);
    assembly.put(LOAD, 6, STACK, scratch, 0);
    assembly.read(8, scratch, 6, kernel.net_ns, Place::Lost);
    assembly.put(LOAD, 6, STACK, scratch, 0);
    assembly.read(8, scratch, 6, kernel.ops, Place::Lost);
    assembly.put(LOAD, 7, STACK, scratch, 0);
    assembly.put(STORE, STACK, 6, SHARED + HERE, 0);
    assembly.put(STORE, STACK, 6, SHARED + FIRST, 0);
    assembly.put(STORE, STACK, 7, SHARED + KIND, 0);
    assembly.put(STORE_VALUE, STACK, 0, SHARED + DONE, 0);
    assembly.set(1, most.cast_signed());
    let to_step = assembly.instructions.len();
    assembly.wide(2, FUNCTION, 0);
    assembly.point(3, SHARED);
    assembly.set(4, 0);
    assembly.call(LOOP);
    assembly.put(LOAD, 1, STACK, SHARED + DONE, 0);
    assembly.go(GO_IF_ZERO, 1, 0, Place::Lost);
    assembly.put(EXIT, 0, 0, 0, 0);
    assembly.place(Place::Lost);
    assembly.leave(LOST.cast_signed());
    to_step
}

/// The function for each step: its number, and what is shared.
fn step(assembly: &mut Assembly, kernel: &Kernel, array: i32) {
    // On its own stack: the number, the entry, and what is read to look at.
    let (number, id, scratch) = (-4, -24, -32);
    let (inum, count) = (id + 8, id + 12);
    assembly.copy(6, 2);
    assembly.put(STORE_WORD, STACK, 1, number, 0);
    assembly.put(LOAD, 7, 6, HERE, 0);
    // The list's head is no namespace: what would be its operations is something else.
    assembly.read(8, scratch, 7, kernel.ops, Place::Stop);
    assembly.put(LOAD, 1, STACK, scratch, 0);
    assembly.put(LOAD, 2, 6, KIND, 0);
    assembly.go(GO_IF_OTHER, 1, 2, Place::Next);

    assembly.unless_there(kernel.count, Place::OldCount);
    assembly.read(4, count, 7, kernel.count, Place::Stop);
    assembly.go(GO, 0, 0, Place::Counted);
    assembly.place(Place::OldCount);
    assembly.read(4, count, 7, kernel.old_count, Place::Stop);
    assembly.place(Place::Counted);
    // Nobody has it any more, and nobody can get it.
    assembly.put(LOAD_WORD, 1, STACK, count, 0);
    assembly.go(GO_IF_ZERO, 1, 0, Place::Next);

    assembly.read(4, inum, 7, kernel.inum, Place::Stop);
    assembly.unless_there(kernel.id, Place::OldId);
    assembly.read(8, id, 7, kernel.id, Place::Stop);
    assembly.go(GO, 0, 0, Place::Identified);
    assembly.place(Place::OldId);
    assembly.read(8, id, 7, kernel.old_id, Place::Stop);
    assembly.place(Place::Identified);
    assembly.wide(1, MAP, array);
    assembly.point(2, number);
    assembly.point(3, id);
    assembly.set(4, 0);
    assembly.call(MAP_UPDATE_ELEM);
    assembly.go(GO_IF_NOT_ZERO, 0, 0, Place::Stop);

    assembly.place(Place::Next);
    assembly.read(8, scratch, 7, kernel.next, Place::Stop);
    assembly.put(LOAD, 1, STACK, scratch, 0);
    assembly.put(SUBTRACT, 1, 0, 0, 0);
    assembly.filled_in(kernel.list, BYTE_OFFSET);
    assembly.put(STORE, 6, 1, HERE, 0);
    assembly.put(LOAD, 2, 6, FIRST, 0);
    assembly.go(GO_IF_SAME, 1, 2, Place::Back);
    assembly.leave(0);
    assembly.place(Place::Back);
    assembly.put(STORE_VALUE, 6, 0, DONE, 1);
    assembly.place(Place::Stop);
    assembly.leave(1);
}
