//! Facts about the running system.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use model::{BootId, Timestamp};

/// Whether the effective user is root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The id of this boot.
pub fn boot_id() -> io::Result<BootId> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    BootId::new(text.trim()).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// When the kernel started (`btime` of /proc/stat, to the second).
pub fn booted_at() -> io::Result<Timestamp> {
    let text = std::fs::read_to_string("/proc/stat")?;
    let seconds = text.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse::<i64>().ok());
    seconds
        .map(|s| Timestamp(s * 1000))
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc/stat has no btime"))
}

/// How far apart the clocks that [`earliest_of_boot`] compares may be: `btime` is rounded, and the clock is set in small steps.
const CLOCK_MARGIN_MS: i64 = 10_000;

/// A moment before which nothing of this boot was written, whatever a file's times say; `None` when that is not known.
///
/// When the clock is set (a machine without a battery for its clock, a virtual machine that was resumed), `btime` moves with it, and
/// what was written earlier in this boot seems to be older. The birth of /run, the first thing that a boot mounts, stays what it was.
/// So neither alone is enough. tmpfs tells it since Linux 6.0; where /run is on a disk it is old, and this errs on the safe side.
pub fn earliest_of_boot() -> Option<Timestamp> {
    let wanted = rustix::fs::StatxFlags::BTIME;
    let run = rustix::fs::statx(rustix::fs::CWD, "/run", rustix::fs::AtFlags::empty(), wanted).ok()?;
    if run.stx_mask & wanted.bits() == 0 {
        return None;
    }
    let mounted = Timestamp::from_stat(run.stx_btime.tv_sec, run.stx_btime.tv_nsec.into());
    let earliest = booted_at().ok()?.min(mounted);
    Some(Timestamp(earliest.0 - CLOCK_MARGIN_MS))
}

/// How long the machine has been up, suspended time included: a clock that nobody sets and that every process shares.
pub fn since_boot() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::try_from(now).unwrap_or_default()
}

/// Random bytes.
pub fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty())?;
    Ok(bytes)
}

/// Lets this process have as many files open as it may: a namespace is one, and the usual limit is 1,024.
pub fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Where that is refused, what cannot be opened says so itself.
    let _ = setrlimit(Resource::Nofile, limit);
}

/// `uname -r`.
pub fn kernel_release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// `uname -n`.
pub fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Reads a sysctl of the calling thread's namespace, by slashed name (`net/ipv4/ip_forward`: an interface's name may
/// contain dots).
pub fn read_sysctl(name: &str) -> io::Result<String> {
    Ok(std::fs::read_to_string(sysctl_path(name)?)?.trim_end().to_owned())
}

/// Writes a sysctl of the calling thread's namespace, by slashed name.
pub fn write_sysctl(name: &str, value: &str) -> io::Result<()> {
    // No O_CREAT: a sysctl that does not exist is an error of its own (ENOENT), not EACCES from procfs.
    let mut file = std::fs::OpenOptions::new().write(true).open(sysctl_path(name)?)?;
    io::Write::write_all(&mut file, value.as_bytes())
}

fn sysctl_path(name: &str) -> io::Result<PathBuf> {
    // An interface called `..` cannot exist, but the name may come from a file.
    if name.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{name:?} is not a sysctl")));
    }
    Ok(PathBuf::from("/proc/sys").join(name))
}
