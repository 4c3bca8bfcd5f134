//! The daemon's arguments: the reference daemon's flags, which are Go's (`-flag value`, `-flag=value`, `--flag`).

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::exchange::Patience;
use super::settings::{self, SOCKET};

/// Longer than any runtime waits for a plugin.
const LONGEST: Duration = Duration::from_secs(3600);

/// The arguments, checked.
#[derive(Debug, Clone)]
pub(super) struct Arguments {
    /// Where to listen, prefix included.
    pub(super) socket: PathBuf,
    pub(super) pidfile: Option<PathBuf>,
    pub(super) host_prefix: PathBuf,
    pub(super) patience: Patience,
}

impl Arguments {
    /// For people.
    pub(super) const USAGE: &str = "usage: dhcp daemon [-socketpath PATH] [-pidfile PATH] [-hostprefix PATH] \
        [-broadcast] [-timeout DURATION] [-resendmax DURATION]";

    pub(super) fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Self, String> {
        let (mut socket, mut pidfile, mut host_prefix) = (PathBuf::from(SOCKET), None, PathBuf::new());
        let mut patience = Patience {
            timeout: Duration::from_secs(10),
            resend_max: Duration::from_secs(62),
            broadcast: false,
        };
        let mut arguments = arguments.map(|argument| {
            argument.into_string().map_err(|argument| format!("{} is not UTF-8", argument.display()))
        });
        while let Some(argument) = arguments.next() {
            let argument = argument?;
            let flag = argument.strip_prefix('-').map(|flag| flag.strip_prefix('-').unwrap_or(flag));
            let (flag, given) = match flag.and_then(|flag| flag.split_once('=')) {
                Some((flag, value)) => (Some(flag), Some(value.to_owned())),
                None => (flag, None),
            };
            // As in Go, a boolean takes its value only with '='.
            if flag == Some("broadcast") {
                patience.broadcast = match given.as_deref() {
                    None | Some("true" | "1") => true,
                    Some("false" | "0") => false,
                    Some(other) => return Err(format!("-broadcast is true or false, not {other:?}")),
                };
                continue;
            }
            let mut value = || match given.clone() {
                Some(value) => Ok(value),
                None => arguments.next().unwrap_or_else(|| Err(format!("{argument} needs a value"))),
            };
            match flag {
                Some("socketpath") => socket = value()?.into(),
                Some("pidfile") => {
                    pidfile = Some(value()?).filter(|path| !path.is_empty()).map(PathBuf::from)
                }
                Some("hostprefix") => host_prefix = value()?.into(),
                Some("timeout") => patience.timeout = duration(&value()?)?,
                Some("resendmax") => patience.resend_max = duration(&value()?)?,
                _ => return Err(format!("{argument:?} is not a flag")),
            }
        }
        if socket.as_os_str().is_empty() {
            socket = SOCKET.into();
        }
        if pidfile.as_deref().is_some_and(|path: &Path| !path.is_absolute()) {
            return Err("-pidfile needs an absolute path".to_owned());
        }
        let mut prefixed = host_prefix.as_os_str().to_owned();
        prefixed.push(&socket);
        let socket = PathBuf::from(prefixed);
        settings::check_socket(&socket).map_err(|why| format!("-socketpath {}: {why}", socket.display()))?;
        Ok(Self { socket, pidfile, host_prefix, patience })
    }
}

/// A duration as Go writes it: `10s`, `1m30s`, `1.5h`, `500ms`.
fn duration(text: &str) -> Result<Duration, String> {
    let invalid = || format!("{text:?} is not a duration such as 10s, 1m30s or 500ms");
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(invalid)?;
        let (number, tail) = rest.split_at(digits);
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return Err(invalid()),
        };
        let number: f64 = number.parse().map_err(|_| invalid())?;
        let part = Duration::try_from_secs_f64(number * seconds).map_err(|_| invalid())?;
        total = total.checked_add(part).ok_or_else(invalid)?;
        rest = tail;
    }
    if total.is_zero() || total > LONGEST {
        return Err(format!("{text:?} is not a duration above 0 and up to an hour"));
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Arguments, String> {
        Arguments::parse(arguments.iter().map(OsString::from))
    }

    #[test]
    fn the_reference_daemons_flags_are_understood() {
        let plain = parse(&[]).unwrap();
        assert_eq!((plain.socket.as_path(), plain.patience.timeout.as_secs()), (Path::new(SOCKET), 10));
        let all = [
            "-socketpath=/s/d.sock",
            "--pidfile",
            "/p",
            "-hostprefix",
            "/host",
            "-broadcast",
            "-timeout",
            "1m30s",
        ];
        let all = parse(&all).unwrap();
        assert_eq!(
            (all.socket.as_path(), all.host_prefix.as_path()),
            (Path::new("/host/s/d.sock"), Path::new("/host"))
        );
        assert_eq!((all.patience.timeout.as_secs(), all.patience.broadcast), (90, true));
        assert!(!parse(&["-broadcast=false"]).unwrap().patience.broadcast);
    }

    #[test]
    fn what_is_no_flag_or_no_value_is_refused() {
        for bad in [
            &["-timeout"][..],
            &["-timeout", "10"],
            &["-timeout", "0s"],
            &["-timeout", "2h"],
            &["-timeout", "s"],
            &["-timeout", "-1s"],
            &["-timeout", "1.2.3s"],
            &["-broadcast=perhaps"],
            &["-broadcast", "false"],
            &["-pidfile", "relative"],
            &["-socketpath", "relative"],
            &["daemon"],
            &["-verbose"],
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn durations_are_gos() {
        for (text, millis) in
            [("10s", 10_000), ("1m30s", 90_000), ("1.5s", 1500), ("500ms", 500), ("1h", 3_600_000)]
        {
            assert_eq!(duration(text).unwrap().as_millis(), millis, "{text}");
        }
    }
}
