//! What the reference plugin's ADD wrote down about an interface before it changed it: its DEL, or ours, restores it.

use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use cni::{Call, Code, Error, Result};
use model::Before;
use netlink::{Socket, link};
use serde::Deserialize;

use crate::host::kernel;
use crate::netns::{self, Container};
use crate::undo::restoring;

/// The reference plugin's directory, unless its configuration names another (`dataDir`).
const DIRECTORY: &str = "/run/cni/tuning";
/// It has five short fields.
const MAX_BYTES: u64 = 4096;

/// `configToRestore` (plugins/meta/tuning/tuning.go, 1.1.1 to 1.9.1).
#[derive(Deserialize)]
struct Written {
    mac: Option<String>,
    promisc: Option<bool>,
    mtu: Option<u32>,
    allmulti: Option<bool>,
    #[serde(rename = "txQLen")]
    tx_queue: Option<u32>,
}

/// Restores the container's interface, if it is still there, and removes the file. The file goes last, so that a DEL that fails can be repeated.
pub(super) fn restore(call: &Call, container: Option<&Container>) -> Result<()> {
    let path = path(call);
    let Some(text) = read(&path)? else { return Ok(()) };
    // It is not written at once, so a crash leaves it empty or cut. Then nobody knows what was before, and a DEL that fails for
    // that would fail forever.
    if let (Some(before), Some(container)) = (parse(&text), container) {
        let ifname = &call.invocation.ifname;
        let _entered = netns::enter(container)?;
        let mut socket = Socket::route().map_err(kernel)?;
        match link::by_name(&mut socket, ifname.as_str()) {
            Ok(found) => {
                let restored = restoring(found.index, &before).into_iter();
                let errors = restored.filter_map(|request| socket.ack(request).err());
                Error::all(errors.map(|error| kernel(error.on(ifname))).collect())?;
            }
            Err(error) if error.is_gone() => {}
            Err(error) => return Err(kernel(error)),
        }
    }
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::io("remove", &path)(error)),
        _ => Ok(()),
    }
}

/// Container id and interface name are checked, so the file is in the directory.
fn path(call: &Call) -> PathBuf {
    let directory = call.config.raw.get("dataDir").and_then(|text| text.as_str());
    let directory = directory.filter(|text| !text.is_empty()).unwrap_or(DIRECTORY);
    Path::new(directory).join(format!("{}_{}.json", call.invocation.container, call.invocation.ifname))
}

fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    let failed = Error::io("read", path);
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.is_file() => {}
        Ok(_) => {
            return Err(Error::new(Code::Io, format!("{} is not a plain file", path.display())));
        }
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(failed(error)),
    }
    let mut text = Vec::new();
    match std::fs::File::open(path).and_then(|file| file.take(MAX_BYTES).read_to_end(&mut text)) {
        Ok(_) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

fn parse(text: &[u8]) -> Option<Before> {
    let written: Written = serde_json::from_slice(text).ok()?;
    Some(Before {
        mac: written.mac.and_then(|mac| mac.parse().ok()),
        mtu_bytes: written.mtu.filter(|mtu| *mtu != 0),
        promiscuous: written.promisc,
        all_multicast: written.allmulti,
        tx_queue: written.tx_queue,
        ..Before::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_plugins_file_is_read_and_a_cut_one_is_not() {
        // As Debian's 1.1.1 wrote it.
        let text = br#"{ "mac": "a2:fa:7f:17:02:1f", "promisc": false, "mtu": 1500, "allmulti": false }"#;
        let before = parse(text).unwrap();
        assert_eq!(before.mac, "a2:fa:7f:17:02:1f".parse().ok());
        assert_eq!((before.mtu_bytes, before.tx_queue), (Some(1500), None));
        assert_eq!((before.promiscuous, before.all_multicast), (Some(false), Some(false)));
        assert!(parse(b"").is_none());
        assert!(parse(&text[..20]).is_none());
    }
}
