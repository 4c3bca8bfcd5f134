//! What interface plugins do on the host.

use std::os::fd::AsFd;

use cni::{Code, Error, Outcome, Result};
use model::{AttachmentRecord, IfIndex, IfName, MacAddr};
use netlink::Socket;
use netlink::link::{self, Change, Veth};

use crate::netns::Container;

/// A failed request, as CNI has it.
pub(crate) fn kernel(error: netlink::Error) -> Error {
    Error::new(Code::Internal, error.to_string())
}

/// A MAC that nobody else has.
pub(crate) fn new_mac() -> Result<MacAddr> {
    let random = sys::random().map_err(|error| Error::new(Code::Io, "no random numbers").details(error))?;
    Ok(MacAddr::local(random))
}

/// `veth` and eight random hexadecimal digits, as the reference plugins name theirs.
pub(crate) fn veth_name() -> Result<IfName> {
    let random = sys::random().map_err(|error| Error::new(Code::Io, "no random numbers").details(error))?;
    let name = format!("veth{:08x}", u32::from_ne_bytes(random));
    name.parse().map_err(|error| Error::new(Code::Internal, "a name").details(error))
}

/// Makes the veth that the record announces: the host's end up and stamped, and a port of `master` if there is one; the other
/// in the container's namespace.
pub(crate) fn create_veth(
    socket: &mut Socket,
    record: &AttachmentRecord,
    netns: &Container,
    master: Option<IfIndex>,
    mtu_bytes: Option<u32>,
) -> Result<()> {
    let ifname = &record.key.ifname;
    let name = record.host_interface.as_ref().unwrap_or(ifname);
    let veth = Veth {
        name,
        mac: record.host_mac,
        master,
        mtu_bytes,
        peer_name: ifname,
        peer_mac: record.mac,
        peer_netns: Some(netns.as_fd()),
        indices: None,
    };
    let alias = record.key.alias();
    let stamp = Change { alias: Some(&alias), ..Change::default() };
    let answers =
        socket.batch(vec![link::create_veth(&veth), link::change_by_name(name, &stamp)]).map_err(kernel)?;
    answers.all().map_err(|error| created(error, ifname, name))
}

/// Why an interface could not be made.
pub(crate) fn created(error: netlink::Error, ifname: &IfName, name: &IfName) -> Error {
    if error.exists() {
        let message = format!("the container has an interface {ifname} already");
        return Error::new(Code::Internal, message).details(error);
    }
    kernel(error.on(name))
}

/// Lets the host forward for the families of a result, if it does not yet.
pub(crate) fn forward(outcome: &Outcome) -> Result<()> {
    for (is_ipv4, name) in [(true, "net/ipv4/ip_forward"), (false, "net/ipv6/conf/all/forwarding")] {
        if !outcome.ips.iter().any(|ip| ip.address.addr().is_ipv4() == is_ipv4) {
            continue;
        }
        let fail =
            |error: std::io::Error| Error::new(Code::Io, format!("cannot set sysctl {name}")).details(error);
        if sys::read_sysctl(name).map_err(fail)? != "1" {
            sys::write_sysctl(name, "1").map_err(fail)?;
        }
    }
    Ok(())
}
