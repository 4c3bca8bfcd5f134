//! The program that walks over the kernel's list of network namespaces, as instructions.
//!
//! From the caller's own namespace it goes from `net.list.next` to `net.list.next`, until it is back. What a namespace looks like
//! differs between kernels; so each offset is left open, and the kernel fills it in by its own type information (CO-RE, which
//! it does by itself since Linux 5.17).

use sys::{BpfArray, BpfCode, BpfProgram, BpfRefusal};

use super::assembly::*;
use super::types::{Member, Types};

/// What the program writes of each namespace: id, inode, count of references.
pub(super) const ENTRY_BYTES: u32 = 16;

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
/// down, leave zeros; and it returns the number of its steps, or [`super::LOST`].
pub(super) fn load(into: &BpfArray, most: u32) -> Result<BpfProgram, BpfRefusal> {
    let mut kernel = Kernel::new();
    let mut assembly = Assembly::new();
    let to_step = begin(&mut assembly, &kernel, most);
    let step_at = assembly.begin_function(to_step);
    step(&mut assembly, &kernel, into.descriptor());
    let walk = kernel.types.function("walk", &["context"], true);
    let step = kernel.types.function("step", &["number", "shared"], false);
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
fn begin(assembly: &mut Assembly<Place>, kernel: &Kernel, most: u32) -> usize {
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
    let to_step = assembly.name_function(2);
    assembly.point(3, SHARED);
    assembly.set(4, 0);
    assembly.call(LOOP);
    assembly.put(LOAD, 1, STACK, SHARED + DONE, 0);
    assembly.go(GO_IF_ZERO, 1, 0, Place::Lost);
    assembly.put(EXIT, 0, 0, 0, 0);
    assembly.place(Place::Lost);
    assembly.leave(super::LOST.cast_signed());
    to_step
}

/// The function for each step: its number, and what is shared.
fn step(assembly: &mut Assembly<Place>, kernel: &Kernel, array: i32) {
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
