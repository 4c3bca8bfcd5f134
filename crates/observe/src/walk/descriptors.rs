//! The program that walks over all processes, and over the descriptors of each, as instructions.
//!
//! It tells which processes have no descriptor that could have to do with a network namespace. They are nearly all, and so their
//! descriptors need not be read one by one, each of which costs 4 µs in procfs and 0.1 here. Offsets are left open for the kernel to
//! fill in, as in the walk over namespaces.

use sys::{BpfArray, BpfCode, BpfProgram, BpfRefusal};

use super::assembly::*;
use super::types::{Member, Types};

/// What the program writes of each process: its number, and [`CLEAR`] or zero.
pub(super) const ENTRY_BYTES: u32 = 8;
/// All of its descriptors were looked at, and none leads to a namespace.
pub(super) const CLEAR: u32 = 1;

/// Room for so many descriptors in all tables together: the walk is one RCU section, and takes 60 ms for these. Processes that come
/// after are not looked at.
const MOST_SLOTS: i32 = 1 << 20;

// Numbers of file systems (include/uapi/linux/magic.h), and of the device of tun (`TUN_MINOR`, include/linux/miscdevice.h).
const NSFS: i32 = 0x6e73_6673;
const PROCFS: i32 = 0x9fa0;
const ANONYMOUS: i32 = 0x0904_1934;
const TUN: i32 = 10 << 20 | 200;
/// How the name of an io_uring begins, which is the only one of the anonymous files that matters.
const RING: i32 = i32::from_ne_bytes(*b"[io_");

/// What the functions for processes share, on the first one's stack: the process that is looked at, that where the walk began, how many
/// slots may be looked at yet, and whether the walk is over.
const SHARED: i16 = -32;
const HERE: i16 = 0;
const FIRST: i16 = 8;
const LEFT: i16 = 16;
const DONE: i16 = 24;

/// What the function for a descriptor is given, on the stack of that for a process: where the table is, and whether one was found that
/// matters.
const TABLE: i16 = 0;
const FOUND: i16 = 8;

/// Where it goes to, forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Lost,
    Write,
    Back,
    Stop,
    Matters,
    Anonymous,
    Nothing,
}

/// The members that the program reads.
struct Kernel {
    types: Types,
    leader: Member,
    tasks: Member,
    next_task: Member,
    tgid: Member,
    files: Member,
    table: Member,
    size: Member,
    slots: Member,
    inode: Member,
    entry: Member,
    super_block: Member,
    device: Member,
    magic: Member,
    name: Member,
}

impl Kernel {
    fn new() -> Self {
        let mut types = Types::new();
        let (number, pointer) = (types.integer("unsigned int", 4), types.pointer());
        let wide = types.integer("unsigned long", 8);
        let list = types.structure("list_head", &[("next", pointer)]);
        let members = [("group_leader", pointer), ("tasks", list), ("tgid", number), ("files", pointer)];
        let task = types.structure("task_struct", &members);
        let files = types.structure("files_struct", &[("fdt", pointer)]);
        let table = types.structure("fdtable", &[("max_fds", number), ("fd", pointer)]);
        let path = types.structure("path", &[("dentry", pointer)]);
        let file = types.structure("file", &[("f_inode", pointer), ("f_path", path)]);
        let inode = types.structure("inode", &[("i_sb", pointer), ("i_rdev", number)]);
        let block = types.structure("super_block", &[("s_magic", wide)]);
        let name = types.structure("qstr", &[("name", pointer)]);
        let entry = types.structure("dentry", &[("d_name", name)]);
        Self {
            leader: types.member(task, "0:0"),
            tasks: types.member(task, "0:1"),
            next_task: types.member(task, "0:1:0"),
            tgid: types.member(task, "0:2"),
            files: types.member(task, "0:3"),
            table: types.member(files, "0:0"),
            size: types.member(table, "0:0"),
            slots: types.member(table, "0:1"),
            inode: types.member(file, "0:0"),
            entry: types.member(file, "0:1:0"),
            super_block: types.member(inode, "0:0"),
            device: types.member(inode, "0:1"),
            magic: types.member(block, "0:0"),
            name: types.member(entry, "0:0:0"),
            types,
        }
    }
}

/// The program, ready to run. It writes what it finds at the number of its step, and returns the number of its steps, or [`super::LOST`].
pub(super) fn load(into: &BpfArray, most: u32) -> Result<BpfProgram, BpfRefusal> {
    let mut kernel = Kernel::new();
    let mut assembly = Assembly::new();
    let to_process = begin(&mut assembly, &kernel, most);
    let process_at = assembly.begin_function(to_process);
    let to_slot = process(&mut assembly, &kernel, into.descriptor());
    let slot_at = assembly.begin_function(to_slot);
    slot(&mut assembly, &kernel);
    let walk = kernel.types.function("walk", &["context"], true);
    let process = kernel.types.function("process", &["number", "shared"], false);
    let slot = kernel.types.function("slot", &["number", "shared"], false);
    BpfProgram::load(&BpfCode {
        name: "podplumb_files",
        // As for the other program.
        licence: c"Dual MIT/GPL",
        instructions: &assembly.instructions,
        types: &kernel.types.encode(),
        functions: &[[0, walk], [process_at, process], [slot_at, slot]],
        relocations: &assembly.relocations,
    })
}

/// The function that finds the first process, which is the caller, and has the list walked. Returns where the next function's place
/// belongs.
fn begin(assembly: &mut Assembly<Place>, kernel: &Kernel, most: u32) -> usize {
    let scratch = SHARED - 8;
    assembly.call(GET_CURRENT_TASK);
    assembly.copy(6, 0);
    assembly.read(8, scratch, 6, kernel.leader, Place::Lost);
    assembly.put(LOAD, 6, STACK, scratch, 0);
    assembly.put(STORE, STACK, 6, SHARED + HERE, 0);
    assembly.put(STORE, STACK, 6, SHARED + FIRST, 0);
    assembly.put(STORE_VALUE, STACK, 0, SHARED + LEFT, MOST_SLOTS);
    assembly.put(STORE_VALUE, STACK, 0, SHARED + DONE, 0);
    assembly.set(1, most.cast_signed());
    let to_process = assembly.name_function(2);
    assembly.point(3, SHARED);
    assembly.set(4, 0);
    assembly.call(LOOP);
    assembly.put(LOAD, 1, STACK, SHARED + DONE, 0);
    assembly.go(GO_IF_ZERO, 1, 0, Place::Lost);
    assembly.put(EXIT, 0, 0, 0, 0);
    assembly.place(Place::Lost);
    assembly.leave(super::LOST.cast_signed());
    to_process
}

/// The function for each process: its number, and what is shared. Returns where the next function's place belongs.
fn process(assembly: &mut Assembly<Place>, kernel: &Kernel, array: i32) -> usize {
    // On its own stack: the step, the entry, what is read to look at, and what the function for a descriptor is given.
    let (number, entry, scratch, files, table, given) = (-4, -16, -24, -32, -40, -56);
    let is_clear = entry + 4;
    assembly.copy(6, 2);
    assembly.put(STORE_WORD, STACK, 1, number, 0);
    assembly.put(LOAD, 7, 6, HERE, 0);
    assembly.put(STORE_VALUE, STACK, 0, entry, 0);
    assembly.read(4, entry, 7, kernel.tgid, Place::Stop);
    // A zombie has none any more, but threads of it may.
    assembly.read(8, files, 7, kernel.files, Place::Write);
    assembly.put(LOAD, 8, STACK, files, 0);
    assembly.go(GO_IF_ZERO, 8, 0, Place::Write);
    assembly.read(8, table, 8, kernel.table, Place::Write);
    assembly.put(LOAD, 9, STACK, table, 0);
    assembly.read(8, given + TABLE, 9, kernel.slots, Place::Write);
    assembly.put(STORE_VALUE, STACK, 0, given + FOUND, 0);
    assembly.read(4, scratch, 9, kernel.size, Place::Write);
    assembly.put(LOAD_WORD, 1, STACK, scratch, 0);
    // Compared with a number each, and not with each other: the verifier would follow what is left through every step.
    assembly.set(2, MOST_SLOTS);
    assembly.go(GO_IF_MORE, 1, 2, Place::Write);
    assembly.put(LOAD, 2, 6, LEFT, 0);
    assembly.go(GO_IF_NEGATIVE, 2, 0, Place::Write);
    assembly.put(SUBTRACT_REGISTER, 2, 1, 0, 0);
    assembly.put(STORE, 6, 2, LEFT, 0);
    let to_slot = assembly.name_function(2);
    assembly.point(3, given);
    assembly.set(4, 0);
    assembly.call(LOOP);
    assembly.put(LOAD, 1, STACK, given + FOUND, 0);
    assembly.go(GO_IF_NOT_ZERO, 1, 0, Place::Write);
    // Every slot, of the table that it still has: none was looked at that belongs to somebody else by now.
    assembly.put(LOAD_WORD, 1, STACK, scratch, 0);
    assembly.go(GO_IF_OTHER, 0, 1, Place::Write);
    assembly.read(8, scratch, 7, kernel.files, Place::Write);
    assembly.put(LOAD, 1, STACK, scratch, 0);
    assembly.go(GO_IF_OTHER, 8, 1, Place::Write);
    assembly.read(8, scratch, 8, kernel.table, Place::Write);
    assembly.put(LOAD, 1, STACK, scratch, 0);
    assembly.go(GO_IF_OTHER, 9, 1, Place::Write);
    assembly.set(1, CLEAR.cast_signed());
    assembly.put(STORE_WORD, STACK, 1, is_clear, 0);

    assembly.place(Place::Write);
    assembly.wide(1, MAP, array);
    assembly.point(2, number);
    assembly.point(3, entry);
    assembly.set(4, 0);
    assembly.call(MAP_UPDATE_ELEM);
    assembly.go(GO_IF_NOT_ZERO, 0, 0, Place::Stop);
    assembly.read(8, scratch, 7, kernel.next_task, Place::Stop);
    assembly.put(LOAD, 1, STACK, scratch, 0);
    assembly.put(SUBTRACT, 1, 0, 0, 0);
    assembly.filled_in(kernel.tasks, BYTE_OFFSET);
    assembly.put(STORE, 6, 1, HERE, 0);
    assembly.put(LOAD, 2, 6, FIRST, 0);
    assembly.go(GO_IF_SAME, 1, 2, Place::Back);
    assembly.leave(0);
    assembly.place(Place::Back);
    assembly.put(STORE_VALUE, 6, 0, DONE, 1);
    assembly.place(Place::Stop);
    assembly.leave(1);
    to_slot
}

/// The function for each slot of a table: its number, and what is shared. What cannot be read matters.
fn slot(assembly: &mut Assembly<Place>, kernel: &Kernel) {
    let scratch = -8;
    assembly.copy(6, 2);
    assembly.copy(3, 1);
    assembly.put(SHIFT_LEFT, 3, 0, 0, 3);
    assembly.put(LOAD, 1, 6, TABLE, 0);
    assembly.put(ADD_REGISTER, 3, 1, 0, 0);
    assembly.point(1, scratch);
    assembly.set(2, 8);
    assembly.call(PROBE_READ_KERNEL);
    assembly.go(GO_IF_NOT_ZERO, 0, 0, Place::Matters);
    assembly.put(LOAD, 7, STACK, scratch, 0);
    assembly.go(GO_IF_ZERO, 7, 0, Place::Nothing);
    assembly.read(8, scratch, 7, kernel.inode, Place::Matters);
    assembly.put(LOAD, 8, STACK, scratch, 0);
    assembly.read(4, scratch, 8, kernel.device, Place::Matters);
    assembly.put(LOAD_WORD, 1, STACK, scratch, 0);
    assembly.go_if_value(1, TUN, Place::Matters);
    assembly.read(8, scratch, 8, kernel.super_block, Place::Matters);
    assembly.put(LOAD, 8, STACK, scratch, 0);
    assembly.read(8, scratch, 8, kernel.magic, Place::Matters);
    assembly.put(LOAD, 1, STACK, scratch, 0);
    assembly.go_if_value(1, NSFS, Place::Matters);
    assembly.go_if_value(1, PROCFS, Place::Matters);
    assembly.go_if_value(1, ANONYMOUS, Place::Anonymous);
    assembly.place(Place::Nothing);
    assembly.leave(0);

    assembly.place(Place::Anonymous);
    assembly.read(8, scratch, 7, kernel.entry, Place::Matters);
    assembly.put(LOAD, 8, STACK, scratch, 0);
    assembly.read(8, scratch, 8, kernel.name, Place::Matters);
    assembly.put(LOAD, 3, STACK, scratch, 0);
    assembly.point(1, scratch);
    assembly.set(2, 4);
    assembly.call(PROBE_READ_KERNEL);
    assembly.go(GO_IF_NOT_ZERO, 0, 0, Place::Matters);
    assembly.put(LOAD_WORD, 1, STACK, scratch, 0);
    assembly.go_if_value(1, RING, Place::Matters);
    assembly.leave(0);
    assembly.place(Place::Matters);
    assembly.put(STORE_VALUE, 6, 0, FOUND, 1);
    assembly.leave(1);
}
