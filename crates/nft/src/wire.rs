//! nf_tables messages (include/uapi/linux/netfilter/nf_tables.h).

use netlink::{Error, Request, Result, Socket};

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
    GetChain = 4,
    DeleteChain = 5,
    NewRule = 6,
    GetRule = 7,
    DeleteRule = 8,
    NewSet = 9,
    GetSet = 10,
    NewElement = 12,
    GetElement = 13,
    DeleteElement = 14,
}

/// A message about family `family`.
pub(crate) fn message(what: &'static str, kind: Kind, family: u8, flags: u16) -> Request {
    Request::new(what, NFNL_SUBSYS_NFTABLES << 8 | kind as u16, flags, &nfgenmsg(family, 0))
}

/// Runs messages as one transaction: all take effect or none. The errors, by place.
pub(crate) fn transact(socket: &mut Socket, messages: Vec<Request>) -> Result<Vec<Option<Error>>> {
    let frame = |what, kind| Request::new(what, kind, 0, &nfgenmsg(0, NFNL_SUBSYS_NFTABLES));
    let count = messages.len();
    let mut batch = vec![(frame("begin nftables transaction", NFNL_MSG_BATCH_BEGIN), false)];
    batch.extend(messages.into_iter().map(|message| (message, true)));
    batch.push((frame("commit nftables transaction", NFNL_MSG_BATCH_END), false));
    Ok(socket.transact(batch)?.each().into_iter().skip(1).take(count).collect())
}

/// Like [`transact`]; the first error is the result.
pub(crate) fn commit(socket: &mut Socket, messages: Vec<Request>) -> Result<()> {
    transact(socket, messages)?.into_iter().flatten().next().map_or(Ok(()), Err)
}

fn nfgenmsg(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

/// Names of attributes, by the message or attribute that they are in.
pub(crate) mod attribute {
    pub(crate) const TABLE_NAME: u16 = 1;
    pub(crate) const LIST_ELEM: u16 = 1;

    pub(crate) const CHAIN_TABLE: u16 = 1;
    pub(crate) const CHAIN_NAME: u16 = 3;
    pub(crate) const CHAIN_HOOK: u16 = 4;
    pub(crate) const CHAIN_POLICY: u16 = 5;
    pub(crate) const CHAIN_TYPE: u16 = 7;
    pub(crate) const HOOK_NUMBER: u16 = 1;
    pub(crate) const HOOK_PRIORITY: u16 = 2;

    pub(crate) const RULE_TABLE: u16 = 1;
    pub(crate) const RULE_CHAIN: u16 = 2;
    pub(crate) const RULE_HANDLE: u16 = 3;
    pub(crate) const RULE_EXPRESSIONS: u16 = 4;
    pub(crate) const RULE_USERDATA: u16 = 7;

    pub(crate) const SET_TABLE: u16 = 1;
    pub(crate) const SET_NAME: u16 = 2;
    pub(crate) const SET_FLAGS: u16 = 3;
    pub(crate) const SET_KEY_TYPE: u16 = 4;
    pub(crate) const SET_KEY_LEN: u16 = 5;
    pub(crate) const SET_DATA_TYPE: u16 = 6;
    pub(crate) const SET_DATA_LEN: u16 = 7;
    pub(crate) const SET_DESC: u16 = 9;
    pub(crate) const SET_ID: u16 = 10;
    pub(crate) const DESC_CONCAT: u16 = 2;
    pub(crate) const FIELD_LEN: u16 = 1;

    pub(crate) const ELEMENTS_TABLE: u16 = 1;
    pub(crate) const ELEMENTS_SET: u16 = 2;
    pub(crate) const ELEMENTS: u16 = 3;
    pub(crate) const ELEMENT_KEY: u16 = 1;
    pub(crate) const ELEMENT_DATA: u16 = 2;
    pub(crate) const ELEMENT_USERDATA: u16 = 6;
    pub(crate) const ELEMENT_KEY_END: u16 = 10;
    pub(crate) const DATA_VALUE: u16 = 1;
    pub(crate) const DATA_VERDICT: u16 = 2;

    pub(crate) const EXPRESSION_NAME: u16 = 1;
    pub(crate) const EXPRESSION_DATA: u16 = 2;
}
