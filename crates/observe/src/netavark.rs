//! What Podman's netavark backend has leased. Podman keeps that in a bbolt database of its own, host-local's files are not used.
//!
//! Only that of root's Podmans is read, which all of them share, wherever their stores are. A user's own Podman has its database
//! in that user's directories.

mod bolt;

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use model::{Gap, NetworkName, PodmanLease, Source};
use rustix::fs::OFlags;

use self::bolt::{Bolt, Tree};

/// In a tmpfs, so nothing of an earlier boot is in it.
const DATABASE: &str = "/run/containers/networks/ipam.db";
/// A lease has some 200 bytes in it.
const LARGEST_BYTES: u64 = 16 << 20;
/// How often it is read anew when Podman wrote meanwhile.
const ATTEMPTS: u32 = 5;
/// In each network: a list by container beside those by subnet.
const BY_CONTAINER: &[u8] = b"ids";
/// In each subnet: the last address that was given away.
const LAST: &[u8] = b"lastIP";

/// All leases at this moment.
pub(crate) fn leases(gaps: &mut Vec<Gap>) -> Vec<PodmanLease> {
    let path = Path::new(DATABASE);
    let why = match read(path) {
        Ok(bytes) => match parse(&bytes) {
            Some(leases) => return leases,
            None => "is damaged, or of a version that is not known".to_owned(),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => error.to_string(),
    };
    gaps.push(Gap { source: Source::Netavark, object: DATABASE.into(), why });
    Vec::new()
}

/// Reads a database that somebody may write to. bbolt never changes a page that the last finished transaction uses, until
/// one more is finished; so what was read is sound if the last one is still the same afterwards. Podman's lock on the file is not
/// taken: it would have to wait.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let flags = OFlags::NONBLOCK | OFlags::NOFOLLOW;
    let flags = i32::try_from(flags.bits()).expect("flags are an int to the kernel");
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    let invalid = |why| Err(io::Error::new(io::ErrorKind::InvalidData, why));
    for _ in 0..ATTEMPTS {
        let stat = file.metadata()?;
        if !stat.is_file() {
            return invalid("not a file");
        }
        if stat.len() > LARGEST_BYTES {
            return invalid("is longer than any that Podman writes");
        }
        let mut bytes = vec![0; usize::try_from(stat.len()).unwrap_or_default()];
        file.read_exact_at(&mut bytes, 0)?;
        let mut heads = vec![0; bytes.len().min(bolt::HEADS_BYTES)];
        file.read_exact_at(&mut heads, 0)?;
        let last = |bytes| Bolt::open(bytes).map(|bolt| bolt.transaction());
        if last(&bytes) == last(&heads) {
            return Ok(bytes);
        }
    }
    invalid("is written to all the time")
}

/// `network / subnet / address = container`.
pub(crate) fn parse(bytes: &[u8]) -> Option<Vec<PodmanLease>> {
    let bolt = Bolt::open(bytes)?;
    let mut leases = Vec::new();
    for (network, tree) in subtrees(&bolt, &bolt.root())? {
        let network: NetworkName = std::str::from_utf8(network).ok()?.parse().ok()?;
        for (subnet, tree) in subtrees(&bolt, &tree)? {
            if subnet == BY_CONTAINER {
                continue;
            }
            for item in bolt.items(&tree)? {
                if item.key == LAST {
                    continue;
                }
                let address = address(item.key)?;
                let container = std::str::from_utf8(item.value()?).ok()?.parse().ok()?;
                leases.push(PodmanLease { network: network.clone(), address, container });
            }
        }
    }
    leases.sort();
    Some(leases)
}

fn subtrees<'a>(bolt: &Bolt<'a>, tree: &Tree<'a>) -> Option<Vec<(&'a [u8], Tree<'a>)>> {
    Some(bolt.items(tree)?.into_iter().filter_map(|item| Some((item.key, item.tree()?))).collect())
}

fn address(key: &[u8]) -> Option<IpAddr> {
    let of_four = |key| <[u8; 4]>::try_from(key).ok().map(IpAddr::from);
    of_four(key).or_else(|| <[u8; 16]>::try_from(key).ok().map(IpAddr::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by Podman 4.3: two containers in `podman`, and one in `shop` with an address of each family.
    const REAL: &[u8] = include_bytes!("netavark/ipam.db");

    fn told(bytes: &[u8]) -> Option<Vec<String>> {
        let leases = parse(bytes)?.into_iter();
        Some(leases.map(|l| format!("{} {} {}", l.network, l.address, &l.container.as_str()[..6])).collect())
    }

    const LEASES: [&str; 4] = [
        "podman 10.88.0.2 548ea5",
        "podman 10.88.0.3 10355a",
        "shop 10.99.0.2 724d36",
        "shop fd00:99::2 724d36",
    ];

    #[test]
    fn what_podman_wrote_is_read() {
        assert_eq!(told(REAL).unwrap(), LEASES);
    }

    #[test]
    fn without_its_newest_head_a_database_is_as_the_transaction_before_left_it() {
        let newest = |bytes: &[u8]| Bolt::open(bytes).unwrap().transaction();
        let mut bytes = REAL.to_vec();
        let heads = [0, 4096].map(|place: usize| place + 16 + 48);
        let last =
            heads.into_iter().find(|at| bytes[*at..].starts_with(&newest(REAL).to_ne_bytes())).unwrap();
        bytes[last] ^= 1;
        assert_eq!(newest(&bytes), newest(REAL) - 1);
        let before = told(&bytes);
        // Its pages may have been given to another by now; then it says nothing, or less.
        assert!(before.is_none_or(|leases| leases.len() < LEASES.len()));
        bytes[heads[0]] ^= 4;
        bytes[heads[1]] ^= 4;
        assert_eq!(told(&bytes), None);
    }

    #[test]
    fn what_is_cut_or_damaged_is_none_or_less_and_never_read_for_ever() {
        for cut in (0..REAL.len()).step_by(997) {
            told(&REAL[..cut]);
        }
        let used = REAL.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        let mut bytes = REAL.to_vec();
        for (n, place) in (0..used - 8).step_by(4).enumerate() {
            let kept: [u8; 4] = bytes[place..place + 4].try_into().unwrap();
            let hurt = [0, u32::MAX, 3, 0x0002_0002, 0x7fff_ffff][n % 5];
            bytes[place..place + 4].copy_from_slice(&hurt.to_ne_bytes());
            for lease in told(&bytes).unwrap_or_default() {
                assert!(!lease.contains(['\n', '\u{1b}']));
            }
            bytes[place..place + 4].copy_from_slice(&kept);
        }
    }
}
