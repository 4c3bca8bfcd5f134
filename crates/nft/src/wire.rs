//! nf_tables messages (include/uapi/linux/netfilter/nf_tables.h).

use netlink::Request;

/// `NFPROTO_INET`: one table for IPv4 and IPv6 (nat chains since Linux 5.2).
pub(crate) const INET: u8 = 1;
const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFNL_MSG_BATCH_BEGIN: u16 = 16;
const NFNL_MSG_BATCH_END: u16 = 17;

/// Message types within the subsystem.
#[derive(Debug, Clone, Copy)]
#[repr(u16)]
pub(crate) enum Kind {
    NewTable = 0,
    GetTable = 1,
    NewChain = 3,
    NewRule = 6,
    NewSet = 9,
    NewElement = 12,
    GetElement = 13,
    DeleteElement = 14,
}

/// A message about family `family`.
pub(crate) fn message(what: &'static str, kind: Kind, family: u8, flags: u16) -> Request {
    Request::new(what, NFNL_SUBSYS_NFTABLES << 8 | kind as u16, flags, &nfgenmsg(family, 0))
}

/// The first message of a transaction.
pub(crate) fn begin() -> Request {
    Request::new("begin nftables transaction", NFNL_MSG_BATCH_BEGIN, 0, &nfgenmsg(0, NFNL_SUBSYS_NFTABLES))
}

/// The last message of a transaction.
pub(crate) fn end() -> Request {
    Request::new("commit nftables transaction", NFNL_MSG_BATCH_END, 0, &nfgenmsg(0, NFNL_SUBSYS_NFTABLES))
}

fn nfgenmsg(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

/// Expressions of a rule, each `NFTA_LIST_ELEM { NFTA_EXPR_NAME, NFTA_EXPR_DATA { … } }`.
pub(crate) mod expression {
    use netlink::Request;

    const NFTA_LIST_ELEM: u16 = 1;
    const NFTA_EXPR_NAME: u16 = 1;
    const NFTA_EXPR_DATA: u16 = 2;

    fn expression(rule: Request, name: &str, data: impl FnOnce(Request) -> Request) -> Request {
        rule.nest(NFTA_LIST_ELEM, |r| r.attr_str(NFTA_EXPR_NAME, name).nest(NFTA_EXPR_DATA, data))
    }

    /// `meta nfproto` into a register.
    pub(crate) fn meta_nfproto(rule: Request, register: u32) -> Request {
        const NFT_META_NFPROTO: u32 = 15;
        expression(rule, "meta", |r| r.attr_be32(2, NFT_META_NFPROTO).attr_be32(1, register))
    }

    /// Bytes of the network header into a register.
    pub(crate) fn network_header(rule: Request, register: u32, offset: u32, length: u32) -> Request {
        const NFT_PAYLOAD_NETWORK_HEADER: u32 = 1;
        expression(rule, "payload", |r| {
            r.attr_be32(1, register)
                .attr_be32(2, NFT_PAYLOAD_NETWORK_HEADER)
                .attr_be32(3, offset)
                .attr_be32(4, length)
        })
    }

    /// `register & mask`, in place.
    pub(crate) fn mask(rule: Request, register: u32, mask: &[u8]) -> Request {
        let zero = vec![0; mask.len()];
        expression(rule, "bitwise", |r| {
            r.attr_be32(1, register)
                .attr_be32(2, register)
                .attr_be32(3, mask.len() as u32)
                .nest(4, |r| r.attr(1, mask))
                .nest(5, |r| r.attr(1, &zero))
        })
    }

    /// How a register is compared.
    #[derive(Debug, Clone, Copy)]
    pub(crate) enum Compare {
        Equal = 0,
        NotEqual = 1,
    }

    /// Goes on only if the comparison holds.
    pub(crate) fn compare(rule: Request, register: u32, how: Compare, value: &[u8]) -> Request {
        expression(rule, "cmp", |r| {
            r.attr_be32(1, register).attr_be32(2, how as u32).nest(3, |r| r.attr(1, value))
        })
    }

    /// Goes on only if the set has the register's value.
    pub(crate) fn lookup(rule: Request, set: &str, register: u32) -> Request {
        expression(rule, "lookup", |r| r.attr_str(1, set).attr_be32(2, register))
    }

    /// `return`.
    pub(crate) fn ret(rule: Request) -> Request {
        const NFT_RETURN: i32 = -5;
        const NFT_REG_VERDICT: u32 = 0;
        expression(rule, "immediate", |r| {
            r.attr_be32(1, NFT_REG_VERDICT)
                .nest(2, |r| r.nest(2, |r| r.attr_be32(1, NFT_RETURN.cast_unsigned())))
        })
    }

    /// `masquerade`.
    pub(crate) fn masquerade(rule: Request) -> Request {
        expression(rule, "masq", |r| r)
    }
}
