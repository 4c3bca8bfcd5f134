//! Short ways to write rulesets.

use model::filter::*;
use podplumb_analyze::filter::Packet;

pub(crate) fn is(field: Field, value: Value) -> Match {
    Match::Is { field, mask: None, not: false, values: vec![value] }
}

pub(crate) fn is_not(field: Field, value: Value) -> Match {
    Match::Is { field, mask: None, not: true, values: vec![value] }
}

/// At least one of the bits.
pub(crate) fn bits_of(field: Field, mask: u64) -> Match {
    Match::Is { field, mask: Some(mask), not: true, values: vec![Value::Number(0)] }
}

pub(crate) fn net(text: &str) -> Value {
    let whole = text.parse::<std::net::IpAddr>().map(ipnet::IpNet::from);
    Value::Net(text.parse().or(whole).expect("an address or a prefix"))
}

pub(crate) fn name(text: &str) -> Value {
    match text.strip_suffix('*') {
        Some(prefix) => Value::Names(prefix.to_owned()),
        None => Value::Name(text.to_owned()),
    }
}

pub(crate) fn number(number: u64) -> Value {
    Value::Number(number)
}

pub(crate) fn rule(matches: impl Into<Vec<Match>>, action: Action) -> Rule {
    let matches = matches.into();
    let text = format!("{matches:?} {action:?}");
    Rule { matches, actions: vec![action], text, ..Rule::default() }
}

pub(crate) fn jump(chain: &str) -> Action {
    Action::Jump(chain.to_owned())
}

pub(crate) fn chain(name: &str, rules: impl Into<Vec<Rule>>) -> Chain {
    Chain { name: name.to_owned(), base: None, rules: rules.into() }
}

pub(crate) fn base(hook: Hook, priority: i32, policy: Policy, rules: impl Into<Vec<Rule>>) -> Chain {
    let base = Base { hook, priority, kind: ChainKind::Filter, devices: Vec::new(), policy };
    Chain { name: format!("{}{priority}", hook.as_str()), base: Some(base), rules: rules.into() }
}

pub(crate) fn nat(hook: Hook, rules: impl Into<Vec<Rule>>) -> Chain {
    let priority = if matches!(hook, Hook::Prerouting | Hook::Output) { -100 } else { 100 };
    let mut chain = base(hook, priority, Policy::Accept, rules);
    chain.base.as_mut().expect("a base").kind = ChainKind::Nat;
    chain
}

pub(crate) fn table(family: Family, name: &str, chains: impl Into<Vec<Chain>>) -> Table {
    Table {
        family,
        name: name.to_owned(),
        maker: Maker::Nft,
        dormant: false,
        chains: chains.into(),
        sets: Vec::new(),
    }
}

pub(crate) fn ruleset(tables: impl Into<Vec<Table>>) -> Ruleset {
    Ruleset { tables: tables.into(), gaps: Vec::new() }
}

/// One table with these chains.
pub(crate) fn of(chains: impl Into<Vec<Chain>>) -> Ruleset {
    ruleset([table(Family::Inet, "t", chains)])
}

pub(crate) fn to(address: &str, port: u16) -> Translation {
    let address = address.parse().expect("an address");
    Translation { addresses: Some((address, address)), ports: Some((port, port)), map: None }
}

/// A TCP connection from one pod to another's port 80, as FORWARD sees it.
pub(crate) fn packet() -> Packet {
    Packet {
        source_port: Some(40_000),
        input: Some("cni0".to_owned()),
        output: Some("eth0".to_owned()),
        ..Packet::connection(6, "10.244.0.2".parse().unwrap(), "192.0.2.9".parse().unwrap(), 80)
    }
}
