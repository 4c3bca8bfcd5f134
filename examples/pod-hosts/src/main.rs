//! A chained CNI plugin: each pod gets a file with its addresses and its name, in a directory for dnsmasq's --hostsdir.

use cni::{Call, Code, Config, Environment, Error, Files, Outcome, Plugin, Result};
#[derive(serde::Deserialize)]
struct Settings {
    directory: Files,
}
struct PodHosts;

fn files(config: &Config) -> Result<Files> {
    Ok(config.own::<Settings>()?.directory)
}
fn lines(call: &Call) -> Result<String> {
    let name = call.invocation.args.pod().map(|pod| format!("{}.{}", pod.name, pod.namespace));
    let is_host = |name: &String| name.bytes().all(|b| b.is_ascii_alphanumeric() || b".-".contains(&b));
    let name = name.filter(is_host).unwrap_or_else(|| call.invocation.container.to_string());
    Ok(call.previous()?.ips.iter().map(|ip| format!("{} {name}\n", ip.address.addr())).collect())
}
impl Plugin for PodHosts {
    fn add(&self, call: &Call) -> Result<Outcome> {
        files(&call.config)?.write(&call.key(), &lines(call)?)?;
        call.previous().cloned()
    }
    fn del(&self, call: &Call) -> Result<()> {
        files(&call.config)?.remove(&call.key())
    }
    fn check(&self, call: &Call) -> Result<()> {
        let is_right = files(&call.config)?.read(&call.key())? == Some(lines(call)?);
        is_right.then_some(()).ok_or_else(|| Error::new(Code::CheckFailed, "the pod's entry is not right"))
    }
    fn gc(&self, config: &Config, _: &Environment) -> Result<()> {
        files(config)?.collect(config)
    }
    fn status(&self, config: &Config, _: &Environment) -> Result<()> {
        files(config).map(drop)
    }
}
fn main() {
    cni::main(&PodHosts)
}
