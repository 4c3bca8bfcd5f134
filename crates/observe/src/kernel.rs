//! What the kernel was built with, of what plugins need.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;

/// A kernel's configuration has some 300 KiB; compressed, a fifth of that.
const LARGEST_BYTES: u64 = 4 << 20;
const OPTIONS: [&str; 10] = [
    "CONFIG_BRIDGE",
    "CONFIG_DUMMY",
    "CONFIG_IFB",
    "CONFIG_IPVLAN",
    "CONFIG_MACVLAN",
    "CONFIG_NET_SCH_TBF",
    "CONFIG_NET_VRF",
    "CONFIG_TUN",
    "CONFIG_VETH",
    "CONFIG_VLAN_8021Q",
];

/// The options that are `y` or `m`; none at all where no file tells.
pub(crate) fn options(release: &str) -> BTreeMap<String, String> {
    let compressed = std::fs::read("/proc/config.gz").ok().and_then(|file| inflate(&file));
    let text = compressed.or_else(|| {
        // It becomes a part of a path.
        let release = Some(release).filter(|release| !release.contains('/'))?;
        std::fs::read(Path::new("/boot").join(format!("config-{release}"))).ok()
    });
    text.map(|text| parse(&String::from_utf8_lossy(&text))).unwrap_or_default()
}

fn parse(text: &str) -> BTreeMap<String, String> {
    let set = text.lines().filter_map(|line| line.split_once('='));
    let wanted = set.filter(|(name, value)| OPTIONS.contains(name) && matches!(*value, "y" | "m"));
    wanted.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn inflate(file: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    GzDecoder::new(file).take(LARGEST_BYTES).read_to_end(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_are_set_are_read_and_others_are_not() {
        let text =
            "# CONFIG_IPVLAN is not set\nCONFIG_VETH=m\nCONFIG_BRIDGE=y\nCONFIG_OTHER=y\nCONFIG_TUN=n\n";
        let read = parse(text);
        assert_eq!(read.keys().collect::<Vec<_>>(), ["CONFIG_BRIDGE", "CONFIG_VETH"]);
        assert_eq!(read["CONFIG_VETH"], "m");
    }

    #[test]
    fn what_the_kernel_compressed_is_read_and_what_is_cut_is_not() {
        let mut file = Vec::new();
        let text = b"CONFIG_VETH=y\n";
        flate2::read::GzEncoder::new(&text[..], flate2::Compression::default())
            .read_to_end(&mut file)
            .unwrap();
        assert_eq!(inflate(&file).as_deref(), Some(&text[..]));
        assert!((0..file.len()).all(|cut| inflate(&file[..cut]).is_none()));
        assert_eq!(inflate(text), None);
    }
}
