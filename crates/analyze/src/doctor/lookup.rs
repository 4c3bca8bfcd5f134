//! Which route a packet takes of which only the destination is known.

use std::net::IpAddr;

use model::{IfIndex, Namespace, Route, Stack};

use crate::route::{Query, Routed, look_up};

/// What becomes of a packet that is neither marked nor bound to an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way<'a> {
    /// It takes this route.
    Route(&'a Route),
    /// No route leads there, or one that refuses.
    Nowhere,
    /// A rule decides that says more than a snapshot does.
    Unsure,
}

impl Way<'_> {
    /// The interfaces by which it may leave.
    pub(super) fn devices(self) -> Vec<IfIndex> {
        match self {
            Way::Route(route) if !route.hops.is_empty() => route.hops.iter().map(|hop| hop.device).collect(),
            Way::Route(route) => route.device.into_iter().collect(),
            Way::Nowhere | Way::Unsure => Vec::new(),
        }
    }
}

/// The way to an address that is not the namespace's own.
pub(super) fn way<'a>(namespace: &'a Namespace, stack: &'a Stack, to: IpAddr) -> Way<'a> {
    let decision = look_up(namespace, stack, &Query::of_anybody(to));
    match decision.routed {
        _ if !decision.doubts.is_empty() => Way::Unsure,
        Routed::Way(way) => Way::Route(way.route),
        Routed::Local | Routed::Refused { .. } | Routed::Nowhere => Way::Nowhere,
    }
}

#[cfg(test)]
mod tests {
    use model::{PolicyAction, PolicyRule, RouteKind};

    use super::*;

    const MAIN: u32 = 254;
    const LOCAL: u32 = 255;

    fn way<'a>(stack: &'a Stack, to: &str, host: &'a Namespace) -> Way<'a> {
        super::way(host, stack, to.parse().unwrap())
    }

    fn route(to: &str, device: u32, table: u32, priority: u32) -> Route {
        Route {
            destination: to.parse().unwrap(),
            device: Some(IfIndex(device)),
            table,
            priority,
            ..Route::default()
        }
    }

    fn rule(priority: u32, action: PolicyAction) -> PolicyRule {
        PolicyRule { priority, action, ..PolicyRule::default() }
    }

    #[test]
    fn the_longest_prefix_and_then_the_lowest_metric_of_the_first_table_with_a_route() {
        let mut stack = Stack {
            routes: vec![
                route("0.0.0.0/0", 2, MAIN, 100),
                route("0.0.0.0/0", 3, MAIN, 50),
                route("10.0.0.0/8", 4, MAIN, 0),
                route("10.1.0.0/16", 5, 7, 0),
            ],
            ..Stack::default()
        };
        let host = Namespace::default();
        let devices = |stack: &Stack, to: &str| way(stack, to, &host).devices();
        assert_eq!(devices(&stack, "192.0.2.1"), [IfIndex(3)]);
        assert_eq!(devices(&stack, "10.1.0.1"), [IfIndex(4)]);
        stack.rules = vec![
            rule(0, PolicyAction::Table(LOCAL)),
            rule(100, PolicyAction::Table(7)),
            rule(32766, PolicyAction::Table(MAIN)),
        ];
        assert_eq!(devices(&stack, "10.1.0.1"), [IfIndex(5)]);
        assert_eq!(devices(&stack, "10.2.0.1"), [IfIndex(4)]);
        assert_eq!(way(&stack, "fd00::1", &host), Way::Nowhere);
        // Only for marked packets: not for this one. By source: who knows.
        stack.rules[1].mark = Some((0x400, 0x400));
        assert_eq!(devices(&stack, "10.1.0.1"), [IfIndex(4)]);
        stack.rules[1].mark = None;
        stack.rules[1].source = Some("10.9.0.0/16".parse().unwrap());
        assert_eq!(way(&stack, "10.1.0.1", &host), Way::Unsure);
    }

    #[test]
    fn a_route_may_refuse_or_send_to_the_next_rule() {
        let host = Namespace::default();
        let mut stack = Stack { routes: vec![route("10.0.0.0/8", 4, MAIN, 0)], ..Stack::default() };
        stack.routes.push(Route { kind: RouteKind::Throw, ..route("10.1.0.0/16", 0, 7, 0) });
        stack.rules = vec![rule(1, PolicyAction::Table(7)), rule(32766, PolicyAction::Table(MAIN))];
        assert_eq!(way(&stack, "10.1.0.1", &host).devices(), [IfIndex(4)]);
        stack.routes[1].kind = RouteKind::Blackhole;
        assert_eq!(way(&stack, "10.1.0.1", &host), Way::Nowhere);
        // One of which it is not told where it leads.
        (stack.routes[1].kind, stack.routes[1].device) = (RouteKind::Unicast, None);
        assert_eq!(way(&stack, "10.1.0.1", &host), Way::Unsure);
    }
}
