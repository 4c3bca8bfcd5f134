//! What is in nf_tables, read in this process: a test that asks thousands of times cannot start nft each time.

use netlink::{Attributes, Request, Socket};

/// include/uapi/linux/netfilter/{nfnetlink,nf_tables}.h
const SUBSYSTEM: u16 = 10;
const GET_TABLE: u16 = 1;
const GET_CHAIN: u16 = 4;
const GET_RULE: u16 = 7;
const GET_SET: u16 = 10;
const GET_ELEMENT: u16 = 13;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const DELETE_TABLE: u16 = 2;

/// Length of `struct nfgenmsg`.
const HEADER: usize = 4;

/// A view of nf_tables of the namespace in which it was opened. It is kept open: closing its socket would wait until the kernel has
/// freed what anybody deleted before.
#[derive(Debug)]
pub struct Ruleset(Socket);

impl Ruleset {
    /// Of the calling thread's namespace.
    pub fn open() -> Self {
        Self(Socket::netfilter().expect("nfnetlink"))
    }

    /// Names tables, chains, rules (by their chain), sets and elements, sorted: as many lines as there are things.
    pub fn list(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        // The names that each kind of thing has, as the numbers of its attributes.
        for (kind, what, names) in [
            (GET_TABLE, "table", &[1u16][..]),
            (GET_CHAIN, "chain", &[1, 3]),
            (GET_RULE, "rule", &[1, 2]),
            (GET_SET, "set", &[1, 2]),
        ] {
            let things = self.dump(&request(kind, 0), |payload| {
                let attributes = Attributes::after(payload, HEADER);
                let own = names.iter().filter_map(|name| Some(attributes.find(*name)?.string()));
                Some((*payload.first()?, own.collect::<Vec<_>>()))
            });
            for (family, names) in things {
                all.push(format!("{what} {family} {}", names.join(" ")));
                if let (GET_SET, [table, set]) = (kind, names.as_slice()) {
                    let keys = self.elements(family, table, set);
                    all.extend(keys.into_iter().map(|key| format!("element {family} {table} {set} {key}")));
                }
            }
        }
        all.sort();
        all
    }

    fn elements(&mut self, family: u8, table: &str, set: &str) -> Vec<String> {
        let request = request(GET_ELEMENT, family).attr_str(1, table).attr_str(2, set);
        let lists = self.dump(&request, |payload| {
            let list = Attributes::after(payload, HEADER).find(3)?.nested();
            Some(list.map(|element| format!("{:02x?}", element.value)).collect::<Vec<_>>())
        });
        lists.into_iter().flatten().collect()
    }

    fn dump<T>(&mut self, request: &Request, parse: impl FnMut(&[u8]) -> Option<T>) -> Vec<T> {
        self.0.dump(request, parse).expect("nf_tables can be listed")
    }

    /// Removes a table of family inet, if it is there.
    pub fn remove_table(&mut self, name: &str) {
        let frame = |kind| Request::new("frame", kind, 0, &[0, 0, 0, SUBSYSTEM as u8]);
        let delete = request(DELETE_TABLE, 1).attr_str(1, name);
        let batch = vec![(frame(BATCH_BEGIN), false), (delete, true), (frame(BATCH_END), false)];
        match self.0.transact(batch).and_then(netlink::Transaction::all) {
            Err(error) if !error.is_gone() => panic!("{error}"),
            _ => {}
        }
    }
}

fn request(kind: u16, family: u8) -> Request {
    Request::new("list nftables", SUBSYSTEM << 8 | kind, 0, &[family, 0, 0, 0])
}
