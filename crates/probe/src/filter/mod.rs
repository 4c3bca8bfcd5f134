//! Which packets are kept, in tcpdump's words, as a classic BPF program.
//!
//! `tcp port 80 and host 10.244.0.7`, `vxlan 42 and icmp`, `not arp`: the words are those of pcap-filter(7), and so is what they mean, to the
//! letter: `and` and `or` bind alike and from the left, a value without a keyword takes the one before it (`port 80 or 443`), IPv6's extension
//! headers are not followed, later fragments have no ports, and a packet that ends before what is asked for is not kept. On top of them
//! there are names of pods (`host pod:shop/web-1`) and VXLAN, which is looked into.

mod compile;
mod lexer;
mod parse;
mod tree;
mod values;
mod words;

use std::fmt;
use std::net::IpAddr;

use sys::FilterStep;

use crate::capture::LinkType;
use tree::Node;

/// What the kernel takes (BPF_MAXINSNS).
pub const MOST_STEPS: usize = 4096;

/// What a filter can name that is the node's.
pub struct Names<'a> {
    /// The addresses of a pod, by what follows `pod:`; none: there is no such pod.
    pub pod: &'a dyn Fn(&str) -> Vec<IpAddr>,
    /// The ports at which VXLAN is looked for.
    pub vxlan_ports: &'a [u16],
}

/// The port that Linux takes unless told otherwise, and IANA's.
pub const VXLAN_PORTS: [u16; 2] = [8472, 4789];

impl Default for Names<'_> {
    fn default() -> Self {
        Names { pod: &|_| Vec::new(), vxlan_ports: &VXLAN_PORTS }
    }
}

impl fmt::Debug for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Names").field("vxlan_ports", &self.vxlan_ports).finish_non_exhaustive()
    }
}

/// A filter that was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    text: String,
    tree: Node,
    vxlan_ports: Vec<u16>,
}

impl Filter {
    /// Reads a filter.
    ///
    /// # Errors
    /// Where it cannot be understood, why, and often what was probably meant.
    pub fn parse(text: &str, names: &Names<'_>) -> Result<Self, Misread> {
        let tree = parse::parse(text, names)?;
        let ports = if names.vxlan_ports.is_empty() { &VXLAN_PORTS[..] } else { names.vxlan_ports };
        let filter = Filter { text: text.to_owned(), tree, vxlan_ports: ports.to_vec() };
        for link in [LinkType::Ethernet, LinkType::Ip] {
            let steps = compile::compile(&filter.tree, &filter.vxlan_ports, link, u32::MAX);
            if steps.len() > MOST_STEPS {
                let what = format!("this comes to {} steps; the kernel takes {MOST_STEPS}", steps.len());
                return Err(Misread::new(
                    0..text.len(),
                    what,
                    Some("name nets or port ranges instead".into()),
                ));
            }
        }
        Ok(filter)
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The program for packets that begin like this. It keeps `snap_bytes` of each packet that passes.
    pub fn program(&self, link: LinkType, snap_bytes: u32) -> Vec<FilterStep> {
        compile::compile(&self.tree, &self.vxlan_ports, link, snap_bytes)
    }
}

/// A program that keeps `snap_bytes` of every packet.
pub fn everything(snap_bytes: u32) -> Vec<FilterStep> {
    vec![compile::keep(snap_bytes)]
}

/// Why a filter was not understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misread {
    /// Where, in bytes of the text.
    pub at: std::ops::Range<usize>,
    /// What is wrong there.
    pub what: String,
    /// What to write instead.
    pub hint: Option<String>,
}

impl Misread {
    fn new(at: std::ops::Range<usize>, what: impl Into<String>, hint: Option<String>) -> Self {
        Misread { at, what: what.into(), hint }
    }

    /// The filter, and a line that points at the place.
    pub fn pointed(&self, text: &str) -> String {
        const SHOWN: usize = 60;
        let before = text.get(..self.at.start).unwrap_or(text).chars().count();
        let marked = text.get(self.at.clone()).map_or(1, |part| part.chars().count()).max(1);
        // Of a long filter, what is around the place.
        let skipped = before.saturating_sub(SHOWN / 2);
        let printable = |c: char| if c.is_control() { '\u{fffd}' } else { c };
        let shown: String = text.chars().skip(skipped).take(SHOWN).map(printable).collect();
        let marked = marked.min(SHOWN.saturating_sub(before - skipped)).max(1);
        format!("{shown}\n{}{}", " ".repeat(before - skipped), "^".repeat(marked))
    }
}

impl fmt::Display for Misread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let printable = |c: char| if c.is_control() { '\u{fffd}' } else { c };
        f.write_str(&self.what.chars().map(printable).collect::<String>())
    }
}

impl std::error::Error for Misread {}
