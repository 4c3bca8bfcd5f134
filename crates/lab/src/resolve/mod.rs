//! From what people wrote to what there is to make: names, links, addresses, routes.

mod addresses;
mod check;
mod draft;
mod ends;
mod nodes;
mod overlay;
mod routing;
mod words;

pub(crate) use overlay::cost as vxlan_cost;

use crate::name::LabName;
use crate::topology::{Fault, OneOrMany, Step, Topology, VlanWords};
use crate::wiring::Wiring;

pub(crate) type Result<T> = std::result::Result<T, Fault>;

/// Whether a port may have these VLANs together.
pub(crate) fn are_vlans(said: &OneOrMany<VlanWords>) -> bool {
    words::vlans(Some(said), &[]).is_ok()
}

/// A wiring, and what is odd about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// What there is to make.
    pub wiring: Wiring,
    /// What works, but hardly as it was meant.
    pub warnings: Vec<String>,
}

/// Gives everything in the topology its names, addresses and routes.
///
/// `default_name` names the lab if the topology does not; `read` gets the text of a file that the topology names.
///
/// # Errors
/// What contradicts itself or cannot work, and where that stands. Nothing is made.
pub fn resolve(
    topology: &Topology,
    default_name: &str,
    read: &dyn Fn(&str) -> std::io::Result<String>,
) -> Result<Resolved> {
    let name = topology.name.as_deref().unwrap_or(default_name);
    let lab: LabName = name.parse().map_err(|error: crate::name::BadName| {
        fault(["name"], error.to_string()).hint("give the lab a name: `name: my-lab`")
    })?;
    let mut draft = draft::begin(topology)?;
    ends::connect(&mut draft)?;
    nodes::add_pods(&mut draft, read)?;
    let segments = addresses::assign(&mut draft)?;
    words::apply(&mut draft)?;
    overlay::add(&mut draft, &segments)?;
    routing::add(&mut draft, &segments);
    draft.forward();
    let warnings = check::check(&draft, &segments)?;
    let wiring = Wiring { lab, machines: draft.machines, expect: topology.expect.clone() };
    for (number, sentence) in wiring.expect.iter().enumerate() {
        crate::expect::parse(sentence, &wiring).map_err(|error| Fault {
            at: vec!["expect".into(), number.into()],
            what: error.to_string(),
            hint: error.hint,
        })?;
    }
    Ok(Resolved { wiring, warnings })
}

/// Something wrong at a place in the file.
pub(crate) fn fault<S: Into<Step>>(at: impl IntoIterator<Item = S>, what: impl Into<String>) -> Fault {
    Fault { at: at.into_iter().map(Into::into).collect(), what: what.into(), hint: None }
}

impl Fault {
    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Fault { hint: Some(hint.into()), ..self }
    }
}

#[cfg(test)]
mod tests;
