//! The way of a packet, hop by hop, computed from snapshots: by which rule, route, neighbour, veth, bridge port and tunnel it goes, whether it
//! arrives, and if not, where it ends and why; and the same for its answer.
//!
//! What is computed is what the kernel would do, step by step: [`walk`](self) goes from one [`Place`] to the next, where a packet is sent,
//! received, forwarded, bridged or put into a tunnel. Whatever a snapshot does not tell becomes a doubt, and a way with doubts arrives
//! "perhaps". Nothing is guessed in silence.

mod bridge;
mod endpoint;
mod hooks;
pub mod live;
mod neighbour;
mod packet;
mod path;
mod segment;
mod tunnel;
mod unknown;
mod view;
mod walk;
mod warnings;

use std::net::IpAddr;

use model::{IfIndex, Snapshot};
use serde::Serialize;

pub use endpoint::Refusal;
pub use packet::{Packet, Protocol};
pub use path::{Narrowest, OtherWay};
pub use view::Place;

/// What is asked: how does a packet get from here to there?
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Where it starts: a pod, container, namespace, address, pid, or `host`.
    pub from: String,
    /// Where it is to go: the same, or any address.
    pub to: String,
    /// What kind of packet it is.
    pub protocol: Protocol,
    /// Its destination port, where the protocol has ports.
    pub port: Option<u16>,
    /// The family, where both ends have both.
    pub v6: Option<bool>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Trace {
    /// Where it starts.
    pub from: End,
    /// Where it is to go.
    pub to: End,
    /// What was sent. As what it arrived, each way tells.
    pub packet: Packet,
    /// The way there.
    pub there: Way,
    /// The way of the answer, where the packet arrives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub back: Option<Way>,
    /// Whether the answer goes by the same interfaces, and if not, where it leaves them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub back_differs: Option<OtherWay>,
    /// The largest packet that goes there in one piece, and what keeps it from being larger.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub narrowest: Option<Narrowest>,
    /// What was seen of real packets, where some were sent.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub seen: Vec<live::Seen>,
    /// What is odd about the snapshots together.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl Trace {
    /// Whether the packet arrives and its answer comes back.
    pub fn verdict(&self) -> Verdict {
        let back = self.back.as_ref().map_or(Verdict::Arrives, Way::verdict);
        match (self.there.verdict(), back) {
            (Verdict::Arrives, Verdict::Arrives) => Verdict::Arrives,
            (Verdict::Ends, _) | (Verdict::Arrives, Verdict::Ends) => Verdict::Ends,
            _ => Verdict::Perhaps,
        }
    }
}

/// One end of a trace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct End {
    /// What to call it: a pod, a namespace, an address.
    pub label: String,
    /// The node, where it was found on one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Its address; of the start, the source that was chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// The address was asked for: what starts here is sent from it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_bound: bool,
    /// Where it is; `None` for an address that no snapshot has.
    #[serde(skip)]
    pub place: Option<Place>,
}

/// One way, there or back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Way {
    /// What it goes by, in order.
    pub hops: Vec<Hop>,
    /// How it ends.
    pub outcome: Outcome,
    /// What is not known, and could let the packet go another way or be lost.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub doubts: Vec<String>,
    /// Whether it arrives.
    pub verdict: Verdict,
    /// The packet as it was at the end.
    pub packet: Packet,
}

impl Way {
    /// Whether it arrives.
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }
}

/// Whether a packet arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It does.
    Arrives,
    /// It depends on what is not known.
    Perhaps,
    /// It does not.
    Ends,
}

/// How a way ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "end")]
pub enum Outcome {
    /// Where it should.
    Arrives,
    /// The packet is lost or refused.
    Ends {
        /// Why.
        why: String,
        /// What would let it pass.
        #[serde(skip_serializing_if = "Option::is_none")]
        fix: Option<String>,
    },
    /// It goes to where no snapshot looks.
    Leaves {
        /// Where it went, and what of that is not known.
        why: String,
    },
}

/// One thing that a packet passes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hop {
    /// The node.
    pub node: String,
    /// The namespace, by the name that people have for it.
    pub namespace: String,
    /// What happens there.
    pub step: Step,
    /// The interface; `None` for what is between nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// Its index.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<IfIndex>,
    /// MTU of the interface, or of the route, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu_bytes: Option<u32>,
    /// How much of that the tunnels take in which the packet is, in bytes.
    #[serde(skip_serializing_if = "is_zero")]
    pub tunnel_bytes: u32,
    /// The facts that decide here, in order.
    pub facts: Vec<Fact>,
    /// Where it is.
    #[serde(skip)]
    pub place: Place,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// What happens to a packet at a hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// It is made here and leaves by this interface.
    Sent,
    /// It comes in by this interface.
    In,
    /// It was routed, and leaves by this interface.
    Forwarded,
    /// It comes to this bridge by one of its ports, or from the node itself.
    Bridged,
    /// It leaves by this port of a bridge.
    Out,
    /// It is put into a packet of the nodes' network here.
    Encapsulated,
    /// It is taken out of a packet of the nodes' network here.
    Decapsulated,
    /// It goes through a network that no snapshot shows.
    Between,
    /// It is for this namespace.
    Delivered,
}

/// A fact that decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fact {
    /// What it is about: `route`, `neighbour`, `fdb`, `rule`, …
    pub about: &'static str,
    /// The fact, as `ip`, `bridge` or `nft` would print it. From others: not to be printed raw.
    pub text: String,
    /// Goes without saying: for those who want all of them.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub usual: bool,
}

/// Computes the way of a packet, and of its answer.
///
/// # Errors
/// A name that nobody or more than one has, and ends of different families.
pub fn trace(snapshots: &[Snapshot], question: &Question) -> Result<Trace, Refusal> {
    let view = view::View::new(snapshots);
    let ends = endpoint::resolve(&view, question)?;
    Ok(path::both_ways(&view, ends, question))
}
