//! What may reach a container by way of the node, and that it may.

use std::net::IpAddr;

use cni::{Call, Code, Config, Error, Result};
use model::{AttachmentRecord, IfName, RuleElement};
use serde::Deserialize;

use crate::chained::{Addition, Work, nftables_work};
use crate::host::kernel;
use crate::netns::Container;
use crate::{record, rules};

/// The addition.
pub(crate) struct Firewall {
    policy: Policy,
    /// A chain of iptables' that is asked before pods are let through.
    admin_chain: String,
}

/// Who may open connections to the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Policy {
    /// Everybody.
    Open,
    /// Everybody but containers of other bridges that have this policy, or the next one.
    SameBridge,
    /// Everybody but containers that have this policy, or the one before.
    Isolated,
}

/// The configuration as it is written.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Written {
    backend: Option<String>,
    iptables_admin_chain_name: Option<String>,
    ingress_policy: String,
}

impl Addition for Firewall {
    const TYPE: &'static str = "firewall";

    fn of(config: &Config) -> Result<Self> {
        let written: Written = config.own()?;
        match written.backend.as_deref() {
            // One implementation, in nftables, serves both.
            None | Some("" | "iptables" | "nftables") => {}
            Some("firewalld") => {
                return Err(Error::new(Code::UnsupportedField, "backend firewalld is not supported")
                    .details("add the bridge to firewalld's zone \"trusted\" instead"));
            }
            Some(other) => {
                return Err(Error::new(Code::InvalidConfig, format!("backend {other:?} is not known"))
                    .details("iptables or nftables; both are served by nftables"));
            }
        }
        let policy = match written.ingress_policy.as_str() {
            "" | "open" => Policy::Open,
            "same-bridge" => Policy::SameBridge,
            "isolated" => Policy::Isolated,
            other => {
                return Err(Error::new(Code::InvalidConfig, format!("ingressPolicy {other:?} is not known"))
                    .details("open, same-bridge or isolated"));
            }
        };
        let admin_chain = written.iptables_admin_chain_name.filter(|name| !name.is_empty());
        let admin_chain = admin_chain.unwrap_or_else(|| "CNI-ADMIN".into());
        // A chain's name is at most 28 bytes for iptables.
        if admin_chain.len() > 28 || !admin_chain.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Error::new(Code::InvalidConfig, "iptablesAdminChainName is not valid")
                .details("at most 28 characters, without spaces"));
        }
        Ok(Self { policy, admin_chain })
    }

    fn plan(&self, work: &mut Work<'_>) -> Result<()> {
        let addresses: Vec<IpAddr> = work.addresses().map(|net| net.addr()).collect();
        let admitted = addresses.iter().map(|address| RuleElement::Admit { address: *address });
        work.record.rules = admitted.collect();
        if self.policy == Policy::Open {
            return Ok(());
        }
        let on_host = work.outcome.interfaces.first().filter(|interface| interface.sandbox.is_empty());
        let bridge: IfName = on_host.and_then(|interface| interface.name.parse().ok()).ok_or_else(|| {
            Error::new(Code::InvalidConfig, "ingressPolicy needs a bridge, which prevResult does not name")
                .details("chain firewall to the bridge plugin")
        })?;
        for address in addresses {
            work.record.rules.push(RuleElement::Restrict { address, bridge: bridge.clone() });
            if self.policy == Policy::Isolated {
                work.record.rules.push(RuleElement::Isolate { address });
            }
        }
        work.record.bridge = Some(bridge);
        Ok(())
    }

    /// Where iptables drops what is forwarded, it has to be told about pods: our own table cannot overrule it.
    fn finish(&self, _: &mut Work<'_>) -> Result<()> {
        nft::foreign::admit_forwarded(&self.admin_chain).map_err(kernel)?;
        match sys::legacy_forward_drops() {
            true => Err(Error::new(Code::Internal, "the legacy iptables drops what is forwarded").details(
                "its chain FORWARD has the policy DROP; use iptables-nft, or `iptables-legacy -P FORWARD ACCEPT`",
            )),
            false => Ok(()),
        }
    }

    /// The reference plugin's rules, where that admitted the container.
    fn unmake(call: &Call, _: Option<&Container>, record: Option<&AttachmentRecord>) -> Result<()> {
        let addresses = crate::interface::addresses(call.config.previous.as_ref());
        if record.is_some() || addresses.is_empty() {
            return Ok(());
        }
        rules::remove_reference(&record::key(call), &addresses)
    }

    fn check(&self, work: &Work<'_>) -> Result<()> {
        for v6 in [false, true] {
            let concerns = work.addresses().any(|net| net.addr().is_ipv6() == v6);
            if concerns && !nft::foreign::is_admitting(v6).map_err(kernel)? {
                return Err(Error::new(Code::CheckFailed, "iptables drops what pods send")
                    .details("its chain FORWARD drops by policy, and lost the rule that admits them"));
            }
        }
        Ok(())
    }

    fn status(&self) -> Result<()> {
        nftables_work()
    }
}
