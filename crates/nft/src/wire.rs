//! nf_tables messages (include/uapi/linux/netfilter/nf_tables.h).

use netlink::{Attributes, Error, Request, Result, Socket};

const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFNL_MSG_BATCH_BEGIN: u16 = 16;
const NFNL_MSG_BATCH_END: u16 = 17;
/// Attribute of the batch's begin: the generation that it is meant for.
const NFNL_BATCH_GENID: u16 = 1;
/// What the kernel answers when the generation is another by now (include/uapi/asm-generic/errno.h).
const ERESTART: i32 = 85;

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
    GetGeneration = 16,
}

/// A message about family `family`.
pub(crate) fn message(what: &'static str, kind: Kind, family: u8, flags: u16) -> Request {
    Request::new(what, NFNL_SUBSYS_NFTABLES << 8 | kind as u16, flags, &nfgenmsg(family, 0))
}

/// The ruleset at one moment: each transaction, whoever's, makes a new generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Generation(u32);

/// The generation of this moment.
pub(crate) fn generation(socket: &mut Socket) -> Result<Generation> {
    let request = message("ask for the nftables generation", Kind::GetGeneration, 0, 0);
    socket.get(request, |payload| {
        Some(Generation(Attributes::after(payload, 4).find(attribute::GENERATION_ID)?.be32()?))
    })
}

/// Runs messages as one transaction: all take effect or none. The errors, by place.
pub(crate) fn transact(socket: &mut Socket, messages: Vec<Request>) -> Result<Vec<Option<Error>>> {
    transact_at(socket, None, messages)
}

fn transact_at(
    socket: &mut Socket,
    generation: Option<Generation>,
    messages: Vec<Request>,
) -> Result<Vec<Option<Error>>> {
    let frame = |what, kind| Request::new(what, kind, 0, &nfgenmsg(0, NFNL_SUBSYS_NFTABLES));
    let count = messages.len();
    let begin = frame("begin nftables transaction", NFNL_MSG_BATCH_BEGIN);
    let begin = match generation {
        Some(Generation(id)) => begin.attr_be32(NFNL_BATCH_GENID, id),
        None => begin,
    };
    let mut batch = vec![(begin, false)];
    batch.extend(messages.into_iter().map(|message| (message, true)));
    batch.push((frame("commit nftables transaction", NFNL_MSG_BATCH_END), false));
    Ok(socket.transact(batch)?.each().into_iter().skip(1).take(count).collect())
}

/// Like [`transact`]; the first error is the result.
pub(crate) fn commit(socket: &mut Socket, messages: Vec<Request>) -> Result<()> {
    transact(socket, messages)?.into_iter().flatten().next().map_or(Ok(()), Err)
}

/// Like [`commit`], but only if nobody changed the ruleset since it was looked at. The error of the other case [`is_outdated`].
pub(crate) fn commit_at(socket: &mut Socket, generation: Generation, messages: Vec<Request>) -> Result<()> {
    transact_at(socket, Some(generation), messages)?.into_iter().flatten().next().map_or(Ok(()), Err)
}

/// Whether a transaction failed because the ruleset had changed.
pub(crate) fn is_outdated(error: &Error) -> bool {
    error.raw_os_error() == ERESTART
}

fn nfgenmsg(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

/// Names of attributes, by the message or attribute that they are in.
pub(crate) mod attribute {
    pub(crate) const TABLE_NAME: u16 = 1;
    pub(crate) const LIST_ELEM: u16 = 1;
    pub(crate) const GENERATION_ID: u16 = 1;

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
    pub(crate) const RULE_POSITION: u16 = 6;
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
    pub(crate) const SET_USERDATA: u16 = 13;
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
