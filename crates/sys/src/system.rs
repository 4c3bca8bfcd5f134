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
