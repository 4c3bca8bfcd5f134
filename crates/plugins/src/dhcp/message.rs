//! DHCP messages (RFC 2131, section 2; options: RFC 2132).

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use model::MacAddr;

pub(super) const SUBNET_MASK: u8 = 1;
pub(super) const ROUTERS: u8 = 3;
pub(super) const NAME_SERVERS: u8 = 6;
pub(super) const DOMAIN: u8 = 15;
pub(super) const STATIC_ROUTES: u8 = 33;
pub(super) const REQUESTED_ADDRESS: u8 = 50;
pub(super) const LEASE_TIME: u8 = 51;
pub(super) const OVERLOAD: u8 = 52;
pub(super) const KIND: u8 = 53;
pub(super) const SERVER: u8 = 54;
pub(super) const REQUEST_LIST: u8 = 55;
pub(super) const MAX_MESSAGE_BYTES: u8 = 57;
pub(super) const RENEWAL_TIME: u8 = 58;
pub(super) const REBINDING_TIME: u8 = 59;
pub(super) const CLIENT_ID: u8 = 61;
pub(super) const SEARCH: u8 = 119;
pub(super) const CLASSLESS_ROUTES: u8 = 121;
pub(super) const PAD: u8 = 0;
pub(super) const END: u8 = 255;

const FIXED_BYTES: usize = 236;
const SERVER_NAME: std::ops::Range<usize> = 44..108;
const FILE: std::ops::Range<usize> = 108..236;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
/// BOOTP relays may drop what is shorter (RFC 1542, section 2.1).
const SHORTEST_BYTES: usize = 300;
const ETHERNET: u8 = 1;
const BROADCAST_FLAG: u8 = 0x80;

/// Options by number; one that came in several parts is joined (RFC 3396).
pub(super) type Options = BTreeMap<u8, Vec<u8>>;

/// What a message is (option 53).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Discover = 1,
    Offer = 2,
    Request = 3,
    Ack = 5,
    Nak = 6,
    Release = 7,
}

/// A message, without the fields that only relays and netbooting clients use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    /// From a server.
    pub(super) is_reply: bool,
    /// Transaction id.
    pub(super) id: u32,
    /// Since the client began, in seconds.
    pub(super) seconds: u16,
    /// Replies are to be broadcast.
    pub(super) broadcast: bool,
    /// `ciaddr`: the client's address, where it has one that works.
    pub(super) client: Ipv4Addr,
    /// `yiaddr`: the address that the server gives.
    pub(super) yours: Ipv4Addr,
    /// `chaddr`.
    pub(super) mac: MacAddr,
    /// Options, the kind among them.
    pub(super) options: Options,
}

/// Why bytes are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Malformed {
    /// It ends too early.
    Cut,
    /// It is about an interface of another kind.
    NotEthernet,
    /// It has no options: plain BOOTP.
    NotDhcp,
}

impl Message {
    pub(super) fn kind(&self) -> Option<Kind> {
        let [number] = self.options.get(&KIND)?[..] else { return None };
        let all = [Kind::Discover, Kind::Offer, Kind::Request, Kind::Ack, Kind::Nak, Kind::Release];
        all.into_iter().find(|kind| *kind as u8 == number)
    }

    /// An option that is one address.
    pub(super) fn address(&self, option: u8) -> Option<Ipv4Addr> {
        Some(Ipv4Addr::from(<[u8; 4]>::try_from(self.options.get(&option)?.as_slice()).ok()?))
    }

    /// An option that is a number of seconds.
    pub(super) fn seconds_of(&self, option: u8) -> Option<u32> {
        Some(u32::from_be_bytes(self.options.get(&option)?.as_slice().try_into().ok()?))
    }

    /// The bytes of the message.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; FIXED_BYTES];
        bytes[0] = if self.is_reply { 2 } else { 1 };
        bytes[1] = ETHERNET;
        bytes[2] = 6;
        bytes[4..8].copy_from_slice(&self.id.to_be_bytes());
        bytes[8..10].copy_from_slice(&self.seconds.to_be_bytes());
        bytes[10] = if self.broadcast { BROADCAST_FLAG } else { 0 };
        bytes[12..16].copy_from_slice(&self.client.octets());
        bytes[16..20].copy_from_slice(&self.yours.octets());
        bytes[28..34].copy_from_slice(&self.mac.0);
        bytes.extend_from_slice(&COOKIE);
        // Some servers look for the kind in the first place only.
        let kind = self.options.get_key_value(&KIND);
        let others = self.options.iter().filter(|(number, _)| **number != KIND);
        for (number, value) in kind.into_iter().chain(others) {
            // An option of length 0 is one part, too.
            let parts = value.chunks(255).chain(value.is_empty().then_some(&value[..]));
            for part in parts {
                bytes.extend_from_slice(&[*number, part.len() as u8]);
                bytes.extend_from_slice(part);
            }
        }
        bytes.push(END);
        bytes.resize(bytes.len().max(SHORTEST_BYTES), PAD);
        bytes
    }

    /// Reads a message; what is cut or does not end is refused as a whole.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let fixed = bytes.get(..FIXED_BYTES).ok_or(Malformed::Cut)?;
        if fixed[1..3] != [ETHERNET, 6] {
            return Err(Malformed::NotEthernet);
        }
        let rest = bytes[FIXED_BYTES..].strip_prefix(&COOKIE).ok_or(Malformed::NotDhcp)?;
        let mut options = Options::new();
        read_options(rest, &mut options)?;
        if let Some([overload]) = options.get(&OVERLOAD).map(Vec::as_slice) {
            let overload = *overload;
            if overload & 1 != 0 {
                read_options(&fixed[FILE], &mut options)?;
            }
            if overload & 2 != 0 {
                read_options(&fixed[SERVER_NAME], &mut options)?;
            }
        }
        let address = |at: usize| Ipv4Addr::new(fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]);
        let mut mac = [0; 6];
        mac.copy_from_slice(&fixed[28..34]);
        Ok(Self {
            is_reply: fixed[0] == 2,
            id: u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]),
            seconds: u16::from_be_bytes([fixed[8], fixed[9]]),
            broadcast: fixed[10] & BROADCAST_FLAG != 0,
            client: address(12),
            yours: address(16),
            mac: MacAddr(mac),
            options,
        })
    }
}

fn read_options(mut bytes: &[u8], options: &mut Options) -> Result<(), Malformed> {
    loop {
        let (&number, rest) = bytes.split_first().ok_or(Malformed::Cut)?;
        bytes = rest;
        match number {
            PAD => continue,
            END => return Ok(()),
            _ => {}
        }
        let (&length, rest) = bytes.split_first().ok_or(Malformed::Cut)?;
        let (value, rest) = rest.split_at_checked(usize::from(length)).ok_or(Malformed::Cut)?;
        options.entry(number).or_default().extend_from_slice(value);
        bytes = rest;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn messages() -> impl Strategy<Value = Message> {
        let options = prop::collection::btree_map(
            (1u8..255).prop_filter("overload is about the other fields", |number| *number != OVERLOAD),
            prop::collection::vec(any::<u8>(), 0..600),
            0..8,
        );
        let numbers = (any::<bool>(), any::<u32>(), any::<u16>(), any::<bool>());
        let addresses = (any::<[u8; 4]>(), any::<[u8; 4]>(), any::<[u8; 6]>());
        (numbers, addresses, options).prop_map(|(numbers, addresses, options)| Message {
            is_reply: numbers.0,
            id: numbers.1,
            seconds: numbers.2,
            broadcast: numbers.3,
            client: addresses.0.into(),
            yours: addresses.1.into(),
            mac: MacAddr(addresses.2),
            options,
        })
    }

    proptest! {
        #[test]
        fn a_message_reads_back_what_it_wrote(message in messages()) {
            let bytes = message.encode();
            prop_assert!(bytes.len() >= SHORTEST_BYTES);
            prop_assert_eq!(Message::decode(&bytes), Ok(message));
        }

        #[test]
        fn a_cut_message_is_refused_at_every_length(message in messages()) {
            let bytes = message.encode();
            let end = bytes.iter().rposition(|byte| *byte == END).unwrap();
            for length in 0..=end {
                prop_assert!(Message::decode(&bytes[..length]).is_err(), "{} of {}", length, end);
            }
        }

        #[test]
        fn no_bytes_make_it_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..700), valid_start: bool) {
            if valid_start && bytes.len() > 240 {
                bytes[1..3].copy_from_slice(&[ETHERNET, 6]);
                bytes[236..240].copy_from_slice(&COOKIE);
            }
            if let Ok(message) = Message::decode(&bytes) {
                prop_assert!(message.kind().is_none_or(|kind| message.options[&KIND] == [kind as u8]));
                if !message.options.contains_key(&OVERLOAD) {
                    prop_assert_eq!(Message::decode(&message.encode()), Ok(message));
                }
            }
        }
    }

    #[test]
    fn options_go_on_in_the_fields_that_option_52_names() {
        let options = Options::from([(KIND, vec![5]), (OVERLOAD, vec![3]), (DOMAIN, b"a".to_vec())]);
        let message = Message {
            is_reply: true,
            id: 1,
            seconds: 0,
            broadcast: false,
            client: Ipv4Addr::UNSPECIFIED,
            yours: Ipv4Addr::new(10, 0, 0, 2),
            mac: MacAddr([2; 6]),
            options,
        };
        let mut bytes = message.encode();
        assert_eq!(Message::decode(&bytes), Err(Malformed::Cut), "the fields named have no end");
        bytes[FILE][..4].copy_from_slice(&[DOMAIN, 1, b'b', END]);
        bytes[SERVER_NAME][..7].copy_from_slice(&[SERVER, 4, 10, 0, 0, 1, END]);
        let read = Message::decode(&bytes).unwrap();
        assert_eq!(read.options[&DOMAIN], b"ab", "parts are joined: options, file, server name");
        assert_eq!(read.address(SERVER), Some(Ipv4Addr::new(10, 0, 0, 1)));
    }
}
