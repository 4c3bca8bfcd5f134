//! A lab that lives as long as a value: for tests, and for whatever needs a network for a moment.

use std::path::Path;

use sys::NetNs;

use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::site::{Site, Started, end};
use crate::topology::{self, nearest};
use crate::wiring::Wiring;

/// A lab that is gone when this is dropped, also when a test panics: its namespaces are pinned nowhere.
///
/// ```no_run
/// let lab = podplumb_lab::Lab::from_yaml("hosts: [a, b]\nlinks: [a -- b]").unwrap();
/// let listener = lab.run("b", || std::net::TcpListener::bind("10.0.0.2:80")).unwrap().unwrap();
/// lab.run("a", || std::net::TcpStream::connect("10.0.0.2:80")).unwrap().unwrap();
/// ```
#[derive(Debug)]
pub struct Lab {
    wiring: Wiring,
    site: Site,
    processes: Vec<Started>,
}

impl Lab {
    /// Makes a lab of a topology's text.
    pub fn from_yaml(yaml: &str) -> Result<Self> {
        let file = Path::new("topology");
        let topology = topology::from_yaml(yaml, file)?;
        let read = |name: &str| std::fs::read_to_string(name);
        let resolved = crate::resolve(&topology, "test", &read).map_err(|fault| fault.located(yaml, file))?;
        Self::new(resolved.wiring)
    }

    /// Makes a lab.
    pub fn new(wiring: Wiring) -> Result<Self> {
        let mut lab = Lab { site: Site::new(wiring.lab.as_str(), None), wiring, processes: Vec::new() };
        lab.site.apply(&Plan::between(None, &lab.wiring), &mut lab.processes, &mut |_, _| {})?;
        Ok(lab)
    }

    /// Makes of the lab what is wanted.
    ///
    /// # Errors
    /// It may then be something in between.
    pub fn change(&mut self, wanted: Wiring) -> Result<()> {
        let plan = Plan::between(Some(&self.wiring), &wanted);
        self.site.apply(&plan, &mut self.processes, &mut |_, _| {})?;
        self.wiring = wanted;
        Ok(())
    }

    /// What there is.
    pub fn wiring(&self) -> &Wiring {
        &self.wiring
    }

    /// The namespace of a machine.
    pub fn netns(&self, machine: &str) -> Result<&NetNs> {
        self.site.netns(machine).ok_or_else(|| {
            let near = nearest(machine, self.wiring.machines.iter().map(|machine| machine.name.as_str()));
            Error::NoMachine {
                lab: self.wiring.lab.to_string(),
                machine: machine.to_owned(),
                near: near.map(str::to_owned),
            }
        })
    }

    /// Runs `work` in a machine, on a thread made for it.
    pub fn run<T: Send>(&self, machine: &str, work: impl FnOnce() -> T + Send) -> Result<T> {
        self.netns(machine)?.run(work).map_err(Error::io(format!("namespace {machine}")))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        end(&self.processes);
    }
}
