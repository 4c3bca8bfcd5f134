//! What podplumb's dhcp daemon keeps: a file for each attachment, beside its socket. Only those at the usual place are read.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use ipnet::Ipv4Net;
use model::{AttachmentKey, BootId, DhcpLease, Gap, NsId, NsInode, Source};
use serde::Deserialize;

use crate::cni::small_file;

const DIRECTORY: &str = "/run/cni/dhcp-leases";
/// The version of the files that is understood (crates/plugins/src/dhcp/store.rs).
const VERSION: u32 = 1;

/// A file, as far as it matters here.
#[derive(Deserialize)]
struct File {
    version: u32,
    boot_id: BootId,
    key: AttachmentKey,
    netns: PathBuf,
    ns_id: Option<NsId>,
    ns_inode: NsInode,
    phase: Phase,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum Phase {
    Selecting,
    Requesting { address: Ipv4Addr },
    Bound(Address),
    Lost(Address),
}

#[derive(Deserialize)]
struct Address {
    address: Ipv4Net,
}

/// All leases of this boot; the daemon forgets others when it starts.
pub(crate) fn leases(boot_id: &BootId, gaps: &mut Vec<Gap>) -> Vec<DhcpLease> {
    let mut leases = Vec::new();
    let mut gap = |object: &Path, why: String| {
        gaps.push(Gap { source: Source::Dhcp, object: object.display().to_string(), why });
    };
    let entries = match std::fs::read_dir(DIRECTORY) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return leases,
        Err(error) => {
            gap(Path::new(DIRECTORY), error.to_string());
            return leases;
        }
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        // One that is being written begins with a dot.
        let Some(key) = AttachmentKey::from_file_name(name) else { continue };
        match small_file(&path)
            .map(|content| content.map(|(content, _)| lease(&path, &key, &content, boot_id)))
        {
            Ok(Some(Ok(lease))) => leases.extend(lease),
            Ok(Some(Err(why))) => gap(&path, why.to_owned()),
            Ok(None) => {}
            Err(error) => gap(&path, error.to_string()),
        }
    }
    leases.sort();
    leases
}

fn lease(
    path: &Path,
    key: &AttachmentKey,
    content: &[u8],
    boot_id: &BootId,
) -> Result<Option<DhcpLease>, &'static str> {
    let file: File = serde_json::from_slice(content).map_err(|_| "is damaged, or no lease")?;
    if file.version != VERSION || file.key != *key {
        return Err("is of another version, or has another's name");
    }
    let address = match file.phase {
        Phase::Selecting => None,
        Phase::Requesting { address } => Some(address),
        Phase::Bound(lease) | Phase::Lost(lease) => Some(lease.address.addr()),
    };
    Ok((file.boot_id == *boot_id).then(|| DhcpLease {
        path: path.to_owned(),
        key: file.key,
        address: address.map(IpAddr::V4),
        netns: file.netns,
        ns_id: file.ns_id,
        ns_inode: file.ns_inode,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_a_lease_of_its_name_and_of_this_boot() {
        let here: BootId = "5d9df5e8-c5d2-4f3a-9e6e-3a3f0b7c1d2e".parse().unwrap();
        let there: BootId = "00000000-c5d2-4f3a-9e6e-3a3f0b7c1d2e".parse().unwrap();
        let key = AttachmentKey::from_file_name("lan:a1b2:eth0").unwrap();
        let of = |phase: &str| {
            let content = format!(
                r#"{{"version":1,"boot_id":"{here}","key":{{"network":"lan","container":"a1b2","ifname":"eth0"}},
                "netns":"/run/netns/x","ns_id":77,"ns_inode":4026531840,"interface":2,"mac":"02:00:00:00:00:01",
                "identity":{{}},"phase":{phase}}}"#
            );
            let path = Path::new("/run/cni/dhcp-leases/lan:a1b2:eth0");
            lease(path, &key, content.as_bytes(), &here).map(|lease| lease.unwrap().address)
        };
        let address = |text: &str| Ok(Some(text.parse::<IpAddr>().unwrap()));
        assert_eq!(of(r#""selecting""#), Ok(None));
        assert_eq!(of(r#"{"requesting":{"address":"10.0.0.7","server":{}}}"#), address("10.0.0.7"));
        assert_eq!(of(r#"{"bound":{"address":"10.0.0.7/24"}}"#), address("10.0.0.7"));
        assert_eq!(of(r#"{"lost":{"address":"10.0.0.8/24"}}"#), address("10.0.0.8"));
        assert!(of(r#"{"bound":"#).is_err());
        let content = br#"{"version":2,"boot_id":"5d9df5e8-c5d2-4f3a-9e6e-3a3f0b7c1d2e"}"#;
        assert!(lease(Path::new("/x"), &key, content, &there).is_err());
    }
}
