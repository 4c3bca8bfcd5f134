//! Unix sockets of a namespace (sock_diag, include/uapi/linux/unix_diag.h).

use model::{SocketProtocol, SocketState, UnixKind, UnixName, UnixPeer, UnixSocket};

use crate::error::Result;
use crate::message::{Attributes, Request};
use crate::socket::Socket;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const UNIX: u8 = 1;
const SHOW_NAME: u32 = 1;
const SHOW_PEER: u32 = 4;
const SHOW_QUEUES: u32 = 16;
const SHOW_UID: u32 = 64;
const MESSAGE: usize = 16;
const NAME: u16 = 0;
const PEER: u16 = 2;
const QUEUES: u16 = 4;
const UID: u16 = 7;

/// All unix sockets that were made in the socket's namespace, without their owners; of a peer it says only the inode.
///
/// An error that [is gone](crate::Error::is_gone) means a kernel without `CONFIG_UNIX_DIAG`.
pub(crate) fn sockets(socket: &mut Socket) -> Result<Vec<model::Socket>> {
    let mut header = [0u8; 24];
    header[0] = UNIX;
    header[4..8].copy_from_slice(&u32::MAX.to_ne_bytes());
    header[12..16].copy_from_slice(&(SHOW_NAME | SHOW_PEER | SHOW_QUEUES | SHOW_UID).to_ne_bytes());
    socket.dump(&Request::new("list unix sockets", SOCK_DIAG_BY_FAMILY, 0, &header), parse)
}

/// `struct unix_diag_msg` and its attributes.
pub(crate) fn parse(payload: &[u8]) -> Option<model::Socket> {
    let fixed = payload.get(..MESSAGE)?;
    let word = |bytes: &[u8], at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let attributes = Attributes::after(payload, MESSAGE);
    let value = |kind, at| word(attributes.find(kind)?.value, at);
    let kind = match fixed[1] {
        1 => UnixKind::Stream,
        2 => UnixKind::Datagram,
        5 => UnixKind::SeqPacket,
        _ => return None,
    };
    let peer = value(PEER, 0).filter(|inode| *inode > 0);
    Some(model::Socket {
        protocol: SocketProtocol::Unix,
        state: SocketState::from_number(fixed[2]),
        local: None,
        remote: None,
        v6_only: false,
        interface: None,
        interface_name: None,
        number: None,
        unix: Some(UnixSocket {
            kind,
            name: attributes.find(NAME).and_then(|attribute| name(attribute.value)),
            peer: peer.map(|inode| UnixPeer { inode: inode.into(), name: None, owners: Vec::new() }),
        }),
        receive_queue: value(QUEUES, 0).unwrap_or_default(),
        send_queue: value(QUEUES, 4).unwrap_or_default(),
        uid: value(UID, 0).unwrap_or_default(),
        inode: word(fixed, 4)?.into(),
        cookie: u64::from(word(fixed, 8)?) | u64::from(word(fixed, 12)?) << 32,
        owners: Vec::new(),
    })
}

/// A path ends with a NUL, an abstract name begins with one and may have more (unix(7)).
fn name(bytes: &[u8]) -> Option<UnixName> {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    match bytes.split_first()? {
        (0, rest) => Some(UnixName::Abstract(text(rest))),
        _ => {
            let path = bytes.split(|byte| *byte == 0).next().unwrap_or(bytes);
            Some(UnixName::Path(text(path)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_end_where_they_end_and_abstract_names_keep_every_byte() {
        assert_eq!(name(b"/run/x.sock\0"), Some(UnixName::Path("/run/x.sock".into())));
        assert_eq!(name(b"/run/x.sock"), Some(UnixName::Path("/run/x.sock".into())));
        assert_eq!(name(b"\0a\0b\0"), Some(UnixName::Abstract("a\0b\0".into())));
        assert_eq!(name(b"\0"), Some(UnixName::Abstract(String::new())));
        assert_eq!(name(b""), None);
    }

    #[test]
    fn what_is_cut_is_no_socket() {
        let mut message = [0u8; MESSAGE];
        (message[0], message[1], message[2]) = (UNIX, 1, 10);
        assert_eq!(parse(&message).map(|socket| socket.state), Some(SocketState::Listen));
        assert!(parse(&message[..MESSAGE - 1]).is_none());
        message[1] = 9;
        assert!(parse(&message).is_none(), "a kind that there is not");
    }
}
