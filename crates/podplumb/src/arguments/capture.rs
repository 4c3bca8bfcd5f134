//! Arguments of `podplumb capture`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::{LiveOptions, duration};

#[derive(Debug, Args)]
pub(crate) struct CaptureOptions {
    /// Pods, containers, pids, addresses, veths, bridges, uplinks: what `who`
    /// understands. Of a pod it is eth0; POD%net1 is another interface of it
    #[arg(value_name = "WHERE", required = true)]
    pub(crate) places: Vec<String>,
    /// Which packets, in tcpdump's words: -- tcp port 80 and host pod:shop/web-1
    #[arg(last = true, value_name = "FILTER")]
    pub(crate) filter: Vec<String>,
    /// Write them into a pcapng file ('-': stdout), instead of showing them
    #[arg(short, long, value_name = "FILE")]
    pub(crate) write: Option<PathBuf>,
    /// Show them as well
    #[arg(long, requires = "write")]
    pub(crate) print: bool,
    /// Also the host's end of what is in a pod
    #[arg(long)]
    pub(crate) both_ends: bool,
    /// Stop after so many packets
    #[arg(short, long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// Stop after this time; else at Ctrl-C
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    pub(crate) time: Option<Duration>,
    /// Stop when the file is as large: 500k, 100M, 2G
    #[arg(long, value_name = "BYTES", value_parser = size, requires = "write")]
    pub(crate) size: Option<u64>,
    /// Do not stop then but go on in the next file, and keep the newest ones
    #[arg(long, value_name = "FILES", requires_all = ["write", "size"],
        value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) ring: Option<u16>,
    /// Keep so many bytes of each packet
    #[arg(short, long, value_name = "BYTES", default_value = "262144",
        value_parser = clap::value_parser!(u32).range(64..=262_144))]
    pub(crate) snap: u32,
    #[command(flatten)]
    pub(crate) live: LiveOptions,
}

/// `1000`, `500k`, `100M`, `2G`; of 1024 each.
fn size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let number: u64 = digits.parse().map_err(|_| "not a size like 500k, 100M or 2G".to_owned())?;
    let unit: u64 = match &text[digits.len()..] {
        "" => 1,
        "k" | "K" => 1 << 10,
        "m" | "M" => 1 << 20,
        "g" | "G" => 1 << 30,
        other => return Err(format!("unit {other:?} is not k, M or G")),
    };
    let bytes = number.checked_mul(unit).ok_or_else(|| "that is too large".to_owned())?;
    if bytes < 4096 { Err("that is too small: 4096 bytes at least".to_owned()) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!((size("500k"), size("2G"), size("5000")), (Ok(500 << 10), Ok(2 << 30), Ok(5000)));
        for bad in ["", "M", "5 M", "-5k", "100", "5T", "99999999999G"] {
            assert!(size(bad).is_err(), "{bad:?}");
        }
    }
}
