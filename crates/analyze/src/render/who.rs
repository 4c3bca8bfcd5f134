//! One thing with everything that belongs to it.

use model::Link;

use super::text::{Paint, hang, shorten};
use crate::who::{Chain, Found, InterfaceLine};

const HEAD: usize = 13;

/// All that a question may mean.
pub fn who(found: &[Found], paint: Paint) -> String {
    let mut out = String::new();
    for (at, found) in found.iter().enumerate() {
        if at > 0 {
            out.push('\n');
        }
        match found {
            Found::Chain { by, chain } => {
                out.push_str(&format!(
                    "{}{}\n",
                    paint.bold(&shorten(&chain.label)),
                    paint.dim(&format!("  by its {by}"))
                ));
                write_chain(&mut out, chain);
            }
            Found::HostLink { by, link } => {
                let by = paint.dim(&format!("  by its {by}"));
                out.push_str(&format!("{}{by}\n", paint.bold(&shorten(&link.name))));
                line(&mut out, "interface", &format!("of the host, {}", describe(link)));
            }
            Found::HostProcess { task } => {
                out.push_str(&format!("{}\n", paint.bold(&shorten(&task.to_string()))));
                line(&mut out, "namespace", "the host's own");
            }
        }
    }
    out
}

fn write_chain(out: &mut String, chain: &Chain) {
    if let Some(pod) = &chain.pod {
        let uid = pod.uid.as_ref().map(|uid| format!(", uid {uid}")).unwrap_or_default();
        line(out, "pod", &format!("{pod}{uid}"));
    }
    if let Some(sandbox) = &chain.sandbox {
        // In full: this is what one copies into the next command.
        out.push_str(&format!("  {:<width$}{sandbox}\n", "sandbox", width = HEAD - 2));
    }
    for container in &chain.containers {
        let kind = if container.sandbox { "sandbox" } else { "container" };
        let name = container.name.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
        let pid = container.pid.map(|pid| format!(", pid {pid}")).unwrap_or_default();
        let text = format!("{kind}{name} {}, {}{pid}", container.id, container.state);
        line(out, "listed", &text);
        line(out, "", &format!("by {} at {}", container.runtime, container.endpoint.display()));
    }
    if chain.containers.is_empty() {
        line(out, "listed", "by no runtime");
    }
    const SHOWN: usize = 4;
    for task in chain.tasks.iter().take(SHOWN) {
        line(out, "process", &task.to_string());
    }
    if chain.tasks.len() > SHOWN {
        line(out, "", &format!("and {} more", chain.tasks.len() - SHOWN));
    }
    match &chain.namespace {
        Some(namespace) => {
            let path = namespace.path.as_ref().map(|path| path.display().to_string());
            line(out, "namespace", &path.unwrap_or_else(|| "no path leads to it".into()));
            let mut ids = Vec::new();
            ids.extend(namespace.inode.map(|inode| format!("inode {inode}")));
            ids.extend(namespace.ns_id.map(|id| format!("ns_id {id}")));
            ids.extend(namespace.nsid.map(|nsid| format!("nsid {nsid}")));
            line(out, "", &ids.join(", "));
        }
        None => line(out, "namespace", "none is to be seen"),
    }
    for interface in &chain.interfaces {
        write_interface(out, interface);
    }
    for (head, paths) in [("lease", &chain.leases), ("cache", &chain.cache), ("record", &chain.records)] {
        for path in paths {
            line(out, head, &path.display().to_string());
        }
    }
    if let Some(heard) = &chain.heard {
        line(out, "last heard", &heard.line);
        line(out, "", &format!("in {}", heard.path.display()));
        if let Some(at) = heard.at {
            line(out, "", &format!("at {at}"));
        }
    }
}

fn write_interface(out: &mut String, interface: &InterfaceLine) {
    if let Some(inside) = &interface.inside {
        line(out, "inside", &describe(inside));
    }
    if let Some(host) = &interface.host {
        line(out, "host", &describe(host));
    }
    if let Some(bridge) = &interface.bridge {
        let port = interface.host.as_ref().and_then(|host| host.port).map(|port| {
            let state = match port.state {
                3 => "forwarding",
                4 => "blocking",
                2 => "learning",
                1 => "listening",
                _ => "disabled",
            };
            let hairpin = if port.hairpin { ", hairpin" } else { "" };
            let isolated = if port.isolated { ", isolated" } else { "" };
            format!(", port {state}{hairpin}{isolated}")
        });
        line(out, "bridge", &format!("{bridge}{}", port.unwrap_or_default()));
    }
}

fn describe(link: &Link) -> String {
    let mut text = format!("{} (index {}), {}", link.name, link.index, if link.up { "UP" } else { "DOWN" });
    if let Some(mac) = link.mac {
        text.push_str(&format!(", {mac}"));
    }
    text.push_str(&format!(", mtu {}", link.mtu_bytes));
    for address in &link.addresses {
        text.push_str(&format!(", {address}"));
    }
    text
}

fn line(out: &mut String, head: &str, text: &str) {
    let head = format!("  {head:<width$}", width = HEAD - 2);
    hang(out, &head, HEAD, &shorten(text));
}
