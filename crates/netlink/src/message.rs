//! Building and reading netlink messages.

/// Length of `struct nlmsghdr`.
pub(crate) const HEADER: usize = 16;

/// `NLM_F_REQUEST`; the others are added by the socket's methods or by the typed functions.
pub(crate) const NLM_F_REQUEST: u16 = 0x1;
pub(crate) const NLM_F_ACK: u16 = 0x4;
pub(crate) const NLM_F_DUMP: u16 = 0x300;
/// `NLM_F_CREATE | NLM_F_EXCL`: make it, fail if it exists.
pub const CREATE_EXCLUSIVE: u16 = 0x400 | 0x200;
/// `NLM_F_CREATE | NLM_F_REPLACE`: make it or replace it.
pub const CREATE_OR_REPLACE: u16 = 0x400 | 0x100;
/// `NLM_F_CREATE`: make it; no complaint if it exists (nfnetlink).
pub const CREATE: u16 = 0x400;
/// `NLM_F_APPEND`: after the existing ones (nftables rules).
pub const APPEND: u16 = 0x800;

const NLA_F_NESTED: u16 = 0x8000;
const NLA_TYPE_MASK: u16 = 0x3fff;

/// A netlink message to be sent, and what to call it in an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub(crate) what: &'static str,
    pub(crate) bytes: Vec<u8>,
}

impl Request {
    /// A message of type `kind` with the fixed header `header` (ifinfomsg, nfgenmsg, …).
    pub fn new(what: &'static str, kind: u16, flags: u16, header: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&(flags | NLM_F_REQUEST).to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(header);
        let mut request = Self { what, bytes };
        request.pad();
        request
    }

    /// Appends an attribute.
    #[must_use]
    pub fn attr(mut self, kind: u16, value: &[u8]) -> Self {
        self.push(kind, value);
        self
    }

    /// Appends a u32 in the machine's byte order, as rtnetlink has it.
    #[must_use]
    pub fn attr_u32(self, kind: u16, value: u32) -> Self {
        self.attr(kind, &value.to_ne_bytes())
    }

    /// Appends a u32 in network byte order, as nfnetlink has it.
    #[must_use]
    pub fn attr_be32(self, kind: u16, value: u32) -> Self {
        self.attr(kind, &value.to_be_bytes())
    }

    /// Appends a string with its final NUL.
    #[must_use]
    pub fn attr_str(mut self, kind: u16, value: &str) -> Self {
        let start = self.open(kind);
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(0);
        self.close(start);
        self
    }

    /// Appends an attribute that contains what `fill` appends.
    #[must_use]
    pub fn nest(self, kind: u16, fill: impl FnOnce(Self) -> Self) -> Self {
        self.enclose(kind | NLA_F_NESTED, fill)
    }

    /// Like [`Request::nest`], but `fill` may also append raw bytes, and the attribute does not say that it is nested.
    #[must_use]
    pub fn enclose(mut self, kind: u16, fill: impl FnOnce(Self) -> Self) -> Self {
        let start = self.open(kind);
        self = fill(self);
        self.close(start);
        self
    }

    /// Appends bytes as they are (`struct ifinfomsg` inside `VETH_INFO_PEER`).
    #[must_use]
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self.pad();
        self
    }

    fn push(&mut self, kind: u16, value: &[u8]) {
        let start = self.open(kind);
        self.bytes.extend_from_slice(value);
        self.close(start);
    }

    fn open(&mut self, kind: u16) -> usize {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        start
    }

    fn close(&mut self, start: usize) {
        // Callers append names and addresses, whose lengths are checked where they enter: far below 64 KiB.
        let length = (self.bytes.len() - start) as u16;
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.pad();
    }

    fn pad(&mut self) {
        while !self.bytes.len().is_multiple_of(4) {
            self.bytes.push(0);
        }
    }

    /// Writes length, further flags and sequence number into the header.
    pub(crate) fn seal(&mut self, flags: u16, sequence: u32) {
        let length = self.bytes.len() as u32;
        self.bytes[0..4].copy_from_slice(&length.to_ne_bytes());
        let all = u16::from_ne_bytes([self.bytes[6], self.bytes[7]]) | flags;
        self.bytes[6..8].copy_from_slice(&all.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
    }

    /// The message's bytes, for golden tests.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// One attribute of a received message.
#[derive(Debug, Clone, Copy)]
pub struct Attribute<'a> {
    /// Its type, without the flags.
    pub kind: u16,
    /// Its value.
    pub value: &'a [u8],
}

impl<'a> Attribute<'a> {
    /// As a u8.
    pub fn u8(self) -> Option<u8> {
        self.value.first().copied()
    }

    /// As a u32 in the machine's byte order.
    pub fn u32(self) -> Option<u32> {
        Some(u32::from_ne_bytes(self.value.get(..4)?.try_into().ok()?))
    }

    /// As a u32 in network byte order.
    pub fn be32(self) -> Option<u32> {
        Some(u32::from_be_bytes(self.value.get(..4)?.try_into().ok()?))
    }

    /// As an i32.
    pub fn i32(self) -> Option<i32> {
        self.u32().map(u32::cast_signed)
    }

    /// As a string without its final NUL; bytes that are no UTF-8 are replaced.
    pub fn string(self) -> String {
        let text = self.value.split(|b| *b == 0).next().unwrap_or_default();
        String::from_utf8_lossy(text).into_owned()
    }

    /// As an IP address, by length.
    pub fn ip(self) -> Option<std::net::IpAddr> {
        match self.value.len() {
            4 => <[u8; 4]>::try_from(self.value).ok().map(Into::into),
            16 => <[u8; 16]>::try_from(self.value).ok().map(Into::into),
            _ => None,
        }
    }

    /// As an Ethernet address.
    pub fn mac(self) -> Option<model::MacAddr> {
        self.value.try_into().ok().map(model::MacAddr)
    }

    /// The attributes inside.
    pub fn nested(self) -> Attributes<'a> {
        Attributes(self.value)
    }
}

/// The attributes of a message or of a nested attribute. Ends at the first one that does not fit.
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a>(pub &'a [u8]);

impl<'a> Attributes<'a> {
    /// Those after a fixed header of `header` bytes.
    pub fn after(payload: &'a [u8], header: usize) -> Self {
        Self(payload.get(header..).unwrap_or_default())
    }

    /// The first attribute of this kind.
    pub fn find(self, kind: u16) -> Option<Attribute<'a>> {
        let mut attributes = self;
        Iterator::find(&mut attributes, |attribute| attribute.kind == kind)
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Attribute<'a>;

    fn next(&mut self) -> Option<Attribute<'a>> {
        let length = usize::from(u16::from_ne_bytes(self.0.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(self.0.get(2..4)?.try_into().ok()?) & NLA_TYPE_MASK;
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Attribute { kind, value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_attributes_read_back() {
        let request = Request::new("test", 16, 0, &[0; 16])
            .attr_str(3, "veth0")
            .nest(18, |r| r.attr_str(1, "veth").nest(2, |r| r.attr_u32(7, 42)));
        let attributes = Attributes::after(&request.bytes, HEADER + 16);
        assert_eq!(attributes.find(3).unwrap().string(), "veth0");
        let info = attributes.find(18).unwrap().nested();
        assert_eq!(info.find(1).unwrap().string(), "veth");
        assert_eq!(info.find(2).unwrap().nested().find(7).unwrap().u32(), Some(42));
    }

    #[test]
    fn cut_attributes_end_the_list_without_panic() {
        let whole =
            Request::new("test", 16, 0, &[]).attr_u32(1, 1).attr_str(2, "abcdef").bytes.split_off(HEADER);
        for cut in 0..whole.len() {
            let seen: Vec<_> = Attributes(&whole[..cut]).map(|a| a.kind).collect();
            assert!(seen.len() <= 1 || cut > 8 + 10, "{cut}: {seen:?}");
        }
    }
}
