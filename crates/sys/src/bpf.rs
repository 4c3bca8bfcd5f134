//! Small BPF programs, run once in the caller's own context: loaded, called and gone. Nothing is attached or pinned, so nothing of
//! them outlives the descriptors.

use std::ffi::CStr;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

// Commands, and kinds of maps and programs (include/uapi/linux/bpf.h).
const BPF_MAP_CREATE: libc::c_int = 0;
const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_TEST_RUN: libc::c_int = 10;
const BPF_PROG_QUERY: libc::c_int = 16;
const BPF_BTF_LOAD: libc::c_int = 18;
const BPF_MAP_LOOKUP_BATCH: libc::c_int = 24;
const BPF_MAP_TYPE_ARRAY: u32 = 2;
const BPF_PROG_TYPE_RAW_TRACEPOINT: u32 = 17;
const BPF_TCX_INGRESS: u32 = 46;
const BPF_TCX_EGRESS: u32 = 47;

/// `struct bpf_func_info`: where a function begins, and its type.
pub type BpfFunction = [u32; 2];
/// `struct bpf_core_relo`: byte offset of the instruction, type, place of the path in the strings, kind.
pub type BpfRelocation = [u32; 4];

/// Room for what the verifier says about a program that it refuses.
const LOG_BYTES: usize = 64 * 1024;

/// An array in the kernel, which programs write to.
#[derive(Debug)]
pub struct BpfArray {
    fd: OwnedFd,
    entries: u32,
    value_bytes: u32,
}

/// `union bpf_attr` for BPF_MAP_CREATE, as far as it is needed. The kernel takes what is missing for zero.
#[repr(C)]
#[derive(Clone, Copy)]
struct MapCreate {
    kind: u32,
    key_bytes: u32,
    value_bytes: u32,
    entries: u32,
}

/// For BPF_MAP_LOOKUP_BATCH.
#[repr(C)]
#[derive(Clone, Copy)]
struct LookupBatch {
    first: u64,
    next: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

/// For BPF_PROG_QUERY.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct ProgramQuery {
    interface: u32,
    attach_type: u32,
    flags: u32,
    attach_flags: u32,
    programs: u64,
    count: u32,
    padding: u32,
    program_flags: u64,
    links: u64,
    link_flags: u64,
    revision: u64,
}

/// For BPF_BTF_LOAD.
#[repr(C)]
#[derive(Clone, Copy)]
struct TypesLoad {
    types: u64,
    log: u64,
    bytes: u32,
    log_bytes: u32,
}

// No padding: the kernel would read that as well, and it is whatever was in that memory. Release builds had the length of a log there, and
// were refused.
const _: () = {
    assert!(size_of::<MapCreate>() == 4 * 4);
    assert!(size_of::<LookupBatch>() == 6 * 8 + 2 * 4);
    assert!(size_of::<ProgramQuery>() == 4 * 4 + 8 + 2 * 4 + 4 * 8);
    assert!(size_of::<TypesLoad>() == 2 * 8 + 2 * 4);
    assert!(size_of::<ProgramLoad>() == 8 * 8 + 16 + 16 * 4);
    assert!(size_of::<TestRun>() == 7 * 8 + 6 * 4);
};

/// For BPF_PROG_LOAD.
#[repr(C)]
#[derive(Clone, Copy)]
struct ProgramLoad {
    kind: u32,
    count: u32,
    instructions: u64,
    licence: u64,
    log_level: u32,
    log_bytes: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    attach_type: u32,
    types: u32,
    function_bytes: u32,
    functions: u64,
    function_count: u32,
    line_bytes: u32,
    lines: u64,
    line_count: u32,
    attach_type_id: u32,
    attach_object: u32,
    relocation_count: u32,
    descriptors: u64,
    relocations: u64,
    relocation_bytes: u32,
    log_true_bytes: u32,
}

/// For BPF_PROG_TEST_RUN.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct TestRun {
    program: u32,
    result: u32,
    data: [u64; 3],
    repeat: u32,
    duration: u32,
    context: [u64; 3],
    flags: u32,
    cpu: u32,
    batch: u64,
}

impl BpfArray {
    /// A new array of zeros.
    pub fn new(entries: u32, value_bytes: u32) -> io::Result<Self> {
        let mut attributes = MapCreate { kind: BPF_MAP_TYPE_ARRAY, key_bytes: 4, value_bytes, entries };
        let fd = descriptor(command(BPF_MAP_CREATE, &mut attributes)?);
        Ok(Self { fd, entries, value_bytes })
    }

    /// Its first `count` values, one after the other (Linux 5.6).
    pub fn values(&self, count: u32) -> io::Result<Vec<u8>> {
        let count = count.min(self.entries);
        let mut values = vec![0u8; count as usize * self.value_bytes as usize];
        let mut keys = vec![0u32; count as usize];
        let mut next = 0u32;
        let mut attributes = LookupBatch {
            first: 0,
            next: (&raw mut next) as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count,
            map: number(&self.fd),
            element_flags: 0,
            flags: 0,
        };
        match command(BPF_MAP_LOOKUP_BATCH, &mut attributes) {
            // "There is no more": all were asked for.
            Err(error) if error.raw_os_error() != Some(libc::ENOENT) => return Err(error),
            _ => values.truncate(attributes.count.min(count) as usize * self.value_bytes as usize),
        }
        Ok(values)
    }

    /// By what the instructions of a program name it.
    pub fn descriptor(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// What a program is made of.
#[derive(Debug, Clone, Copy)]
pub struct BpfCode<'a> {
    /// A name for those who list programs while it runs.
    pub name: &'a str,
    /// Its licence, which decides what it may call.
    pub licence: &'a CStr,
    /// Instructions.
    pub instructions: &'a [u64],
    /// Types (BTF): those of its functions, and of the kernel's structures as it knows them.
    pub types: &'a [u8],
    /// Its functions.
    pub functions: &'a [BpfFunction],
    /// Instructions that the kernel fills in by the types of its own (Linux 5.17).
    pub relocations: &'a [BpfRelocation],
}

/// A program that the kernel has checked.
#[derive(Debug)]
pub struct BpfProgram {
    fd: OwnedFd,
}

/// Why a program was not loaded.
#[derive(Debug)]
pub struct BpfRefusal {
    /// The system's error.
    pub error: io::Error,
    /// The last that the verifier says, if it had a word in it. From the kernel's types, so not to be printed raw.
    pub said: Option<String>,
}

impl From<io::Error> for BpfRefusal {
    fn from(error: io::Error) -> Self {
        Self { error, said: None }
    }
}

impl BpfProgram {
    /// Has the kernel check and translate a program (of the kind for raw tracepoints, but it is put on none).
    pub fn load(code: &BpfCode<'_>) -> Result<Self, BpfRefusal> {
        let mut types = TypesLoad {
            types: code.types.as_ptr() as u64,
            log: 0,
            bytes: length(code.types.len())?,
            log_bytes: 0,
        };
        let types = descriptor(command(BPF_BTF_LOAD, &mut types)?);
        let mut name = [0u8; 16];
        let shown = code.name.len().min(name.len() - 1);
        name[..shown].copy_from_slice(&code.name.as_bytes()[..shown]);
        let attributes = ProgramLoad {
            kind: BPF_PROG_TYPE_RAW_TRACEPOINT,
            count: length(code.instructions.len())?,
            instructions: code.instructions.as_ptr() as u64,
            licence: code.licence.as_ptr() as u64,
            log_level: 0,
            log_bytes: 0,
            log: 0,
            kernel_version: 0,
            flags: 0,
            name,
            interface: 0,
            attach_type: 0,
            types: number(&types),
            function_bytes: size_of::<BpfFunction>() as u32,
            functions: code.functions.as_ptr() as u64,
            function_count: length(code.functions.len())?,
            line_bytes: 0,
            lines: 0,
            line_count: 0,
            attach_type_id: 0,
            attach_object: 0,
            relocation_count: length(code.relocations.len())?,
            descriptors: 0,
            relocations: code.relocations.as_ptr() as u64,
            relocation_bytes: size_of::<BpfRelocation>() as u32,
            log_true_bytes: 0,
        };
        match command(BPF_PROG_LOAD, &mut attributes.clone()) {
            Ok(fd) => Ok(Self { fd: descriptor(fd) }),
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => Err(error.into()),
            Err(error) => Err(BpfRefusal { error, said: what_is_said(attributes) }),
        }
    }

    /// Runs it once, on this thread, and returns what it returned (Linux 5.10). It runs as one RCU read-side section.
    pub fn run(&self) -> io::Result<u32> {
        let mut attributes = TestRun { program: number(&self.fd), ..TestRun::default() };
        command(BPF_PROG_TEST_RUN, &mut attributes)?;
        Ok(attributes.result)
    }
}

/// The numbers of the programs that see what comes in by an interface of the calling thread's namespace, or what leaves by it, in their
/// order (tcx, Linux 6.6). A kernel without that has none.
pub fn tcx_programs(interface: u32, ingress: bool) -> io::Result<Vec<u32>> {
    match ask_tcx(interface, ingress) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS | libc::ENODEV)) => {
            Ok(Vec::new())
        }
        answer => Ok(answer?.0),
    }
}

/// The programs, and how often that was changed, with which the kernel's answer ends.
fn ask_tcx(interface: u32, ingress: bool) -> io::Result<(Vec<u32>, u64)> {
    // As many as the kernel takes (`BPF_MPROG_MAX`).
    let mut programs = vec![0u32; 64];
    let mut attributes = ProgramQuery {
        interface,
        attach_type: if ingress { BPF_TCX_INGRESS } else { BPF_TCX_EGRESS },
        programs: programs.as_mut_ptr() as u64,
        count: programs.len() as u32,
        ..ProgramQuery::default()
    };
    command(BPF_PROG_QUERY, &mut attributes)?;
    programs.truncate(attributes.count as usize);
    Ok((programs, attributes.revision))
}

/// Loads it again, to hear why not.
fn what_is_said(mut attributes: ProgramLoad) -> Option<String> {
    let mut log = vec![0u8; LOG_BYTES];
    (attributes.log_level, attributes.log_bytes, attributes.log) =
        (1, LOG_BYTES as u32, log.as_mut_ptr() as u64);
    if let Ok(fd) = command(BPF_PROG_LOAD, &mut attributes) {
        drop(descriptor(fd));
        return None;
    }
    let text = CStr::from_bytes_until_nul(&log).ok()?.to_string_lossy();
    // After the reason comes how much was looked at.
    let mut lines = text.lines().rev().filter(|line| !line.starts_with("processed ") && !line.is_empty());
    lines.next().map(str::to_owned)
}

/// What a command is about, and room behind it: the kernel reads no more than it is told there is, but where it answers in there (the
/// revision of BPF_PROG_QUERY) it writes wherever its own `union bpf_attr` has that.
#[repr(C)]
struct Roomy<T> {
    attributes: T,
    room: [u64; 32],
}

/// One bpf(2) call.
fn command<T: Copy>(which: libc::c_int, attributes: &mut T) -> io::Result<libc::c_int> {
    let mut roomy = Roomy { attributes: *attributes, room: [0; 32] };
    let result = call(which, &mut roomy);
    *attributes = roomy.attributes;
    result
}

fn call<T>(which: libc::c_int, roomy: &mut Roomy<T>) -> io::Result<libc::c_int> {
    // SAFETY: `attributes` is one of the structures above, of which the kernel reads no more than the size that it is told, and writes
    // within its union, which is smaller than `Roomy`; the pointers in it are to memory of the lengths that stand beside them, which
    // lives longer than the call, and is writable where it is written.
    let result = unsafe { libc::syscall(libc::SYS_bpf, which, std::ptr::from_mut(roomy), size_of::<T>()) };
    match libc::c_int::try_from(result) {
        Ok(result) if result >= 0 => Ok(result),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The result of a command that makes a descriptor (all of them with `O_CLOEXEC`).
fn descriptor(fd: libc::c_int) -> OwnedFd {
    // SAFETY: called only with what such a command has just returned, so nobody else has it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn number(fd: &OwnedFd) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

fn length(of: usize) -> io::Result<u32> {
    u32::try_from(of).map_err(|_| io::ErrorKind::InvalidInput.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel writes behind the structure: into the room, and not into somebody else's memory.
    #[test]
    fn an_answer_that_is_longer_than_the_question_has_room() {
        /// The beginning of [`ProgramQuery`].
        #[repr(C)]
        struct Short([u64; 4]);
        const LOOPBACK: u64 = 1;
        const REVISION: usize = 7 - 4;
        let question = Short([LOOPBACK | u64::from(BPF_TCX_INGRESS) << 32, 0, 0, 0]);
        let mut roomy = Roomy { attributes: question, room: [0; 32] };
        match call(BPF_PROG_QUERY, &mut roomy) {
            Ok(_) => {
                assert!(roomy.room[REVISION] > 0);
                let rest = roomy.room.iter().enumerate().filter(|(at, _)| *at != REVISION);
                assert!(rest.into_iter().all(|(_, word)| *word == 0));
                assert_eq!(
                    ask_tcx(1, true).unwrap().1,
                    roomy.room[REVISION],
                    "and here it is in the structure"
                );
            }
            // Nobody else may ask; before Linux 6.6 there is none.
            Err(error) => {
                assert!(matches!(error.raw_os_error(), Some(libc::EPERM | libc::EINVAL)), "{error}")
            }
        }
    }
}
