//! How the reference plugins name what they make for one container.

use sha2::{Digest, Sha512};

/// A prefix and a hash of network and container, cut to `length` characters (plugins/pkg/utils, `MustFormatHashWithPrefix`).
pub fn hashed_name(prefix: &str, network: &str, container: &str, length: usize) -> String {
    let hash = Sha512::new().chain_update(network).chain_update(container).finalize();
    let mut name = prefix.to_owned();
    for byte in hash {
        if name.len() >= length {
            break;
        }
        name.push_str(&format!("{byte:02x}"));
    }
    name.truncate(length);
    name
}

/// A chain of iptables; they have at most 28 characters (`MustFormatChainNameWithPrefix`). `prefix` is empty for ipMasq,
/// `DN-` for portmap.
pub fn chain_name(prefix: &str, network: &str, container: &str) -> String {
    hashed_name(&format!("CNI-{prefix}"), network, container, 28)
}

/// bandwidth's ifb: as many characters as an interface's name has.
pub fn ifb_name(network: &str, container: &str) -> String {
    hashed_name(IFB_PREFIX, network, container, 15)
}

/// What the names of bandwidth's ifbs begin with.
pub const IFB_PREFIX: &str = "bwp";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_reference_plugins() {
        // `printf net1c1 | sha512sum`
        assert_eq!(chain_name("", "net1", "c1"), "CNI-c2d892b58e87e28a12fe6479");
        assert_eq!(chain_name("DN-", "net1", "c1"), "CNI-DN-c2d892b58e87e28a12fe6");
        assert_eq!(ifb_name("net1", "c1"), "bwpc2d892b58e87");
    }
}
