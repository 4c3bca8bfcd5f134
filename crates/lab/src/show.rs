//! What `lab show` prints: the drawing, and a table of all machines.

use analyze::drawing;
use analyze::render::{Paint, columns as align};

use model::IfName;

use crate::wiring::{Device, Machine, Wiring};

/// Of this many machines in a row that differ in nothing but numbers, not all are in the table.
const MANY: usize = 8;

/// The drawing, and the machines with their interfaces, addresses and default routes. Unless `all` of them are to be seen, those that are
/// alike and many are not told one by one.
pub fn text(wiring: &Wiring, all: bool, columns: usize, paint: Paint) -> String {
    let mut out = drawing::text(&crate::drawing::graph(wiring, all), columns, paint);
    let groups: Vec<&[Machine]> =
        if all { wiring.machines.chunks(1).collect() } else { wiring.machines.chunk_by(is_alike).collect() };
    let mut blocks: Vec<Vec<Vec<String>>> = Vec::new();
    for group in groups {
        match group {
            [first, rest @ .., last] if group.len() > MANY => {
                blocks.push(rows(first));
                blocks.push(vec![vec![format!("… {} more", rest.len())]]);
                blocks.push(rows(last));
            }
            group => blocks.extend(group.iter().map(rows)),
        }
    }
    out.push('\n');
    let head = ["MACHINE", "INTERFACE", "ADDRESS", "DEFAULT VIA"].map(str::to_owned).to_vec();
    let mut table = String::new();
    align(&mut table, 0, &std::iter::once(head).chain(blocks.iter().flatten().cloned()).collect::<Vec<_>>());
    if table.lines().all(|line| line.chars().count() <= columns) {
        let (head, rest) = table.split_once('\n').unwrap_or((&table, ""));
        out.push_str(&format!("{}\n{rest}", paint.dim(head)));
    } else {
        blocks.iter().for_each(|rows| narrow(&mut out, rows, columns, paint));
    }
    out
}

/// Below each other what does not fit beside each other.
fn narrow(out: &mut String, rows: &[Vec<String>], columns: usize, paint: Paint) {
    for (number, row) in rows.iter().enumerate() {
        let cell = |at: usize| row.get(at).map_or("", String::as_str);
        if number == 0 {
            out.push_str(&format!("{}\n", paint.bold(cell(0))));
        }
        let line = format!("  {:<15}  {}", cell(1), cell(2));
        let via = if cell(3).is_empty() { String::new() } else { format!("default via {}", cell(3)) };
        if line.chars().count() + 2 + via.len() <= columns && !via.is_empty() {
            out.push_str(&format!("{line}  {via}\n"));
        } else {
            let lines = [line.trim_end(), &format!("{:19}{via}", "")];
            lines
                .into_iter()
                .filter(|line| !line.trim().is_empty())
                .for_each(|line| out.push_str(&format!("{line}\n")));
        }
    }
}

/// A machine's rows: one for each address, for an interface that has none, and for all ports of a bridge.
fn rows(machine: &Machine) -> Vec<Vec<String>> {
    let mut rows: Vec<Vec<String>> = Vec::new();
    for devices in machine.devices.chunk_by(|a, b| bare_port(a).is_some() && bare_port(a) == bare_port(b)) {
        let [device, ..] = devices else { continue };
        let name = device.name.to_string();
        if let ([_, .., last], Some(bridge)) = (devices, bare_port(device)) {
            let names = format!("{name} … {}", last.name);
            rows.push(vec![names, format!("{} ports of {bridge}", devices.len()), String::new()]);
            continue;
        }
        match device.addresses.as_slice() {
            [] => {
                let what = bare_port(device).map_or("-".to_owned(), |bridge| format!("port of {bridge}"));
                rows.push(vec![name, what, String::new()]);
            }
            addresses => {
                for (number, address) in addresses.iter().enumerate() {
                    let name = if number == 0 { name.clone() } else { String::new() };
                    rows.push(vec![name, address.to_string(), String::new()]);
                }
            }
        }
    }
    if let Some(conflist) = machine.cni.as_ref().filter(|_| rows.is_empty()) {
        let conflist: serde_json::Value = serde_json::from_str(conflist).unwrap_or_default();
        let name = conflist["name"].as_str().unwrap_or("CNI");
        let name = analyze::render::printable(name);
        let what = match machine.ended {
            None => name,
            Some(how) => format!("{name} (ended: {how})"),
        };
        rows.push(vec!["by plugins".into(), what, String::new()]);
    }
    for route in machine.routes.iter().filter(|route| route.is_default()) {
        let via = route.gateway.map_or_else(|| route.device.to_string(), |gateway| gateway.to_string());
        // Beside the device that it leads through, if there is room.
        let own = rows.iter().position(|row| row[0] == route.device.as_str() && row[2].is_empty());
        match own.or_else(|| rows.iter().position(|row| row[2].is_empty())) {
            Some(row) => rows[row][2] = via,
            None => rows.push(vec![String::new(), String::new(), via]),
        }
    }
    if rows.is_empty() {
        rows.push(vec!["-".into()]);
    }
    for (number, row) in rows.iter_mut().enumerate() {
        row.insert(0, if number == 0 { machine.name.clone() } else { String::new() });
    }
    rows
}

/// The bridge of a port that has no addresses of its own.
fn bare_port(device: &Device) -> Option<&IfName> {
    let port = device.port.as_ref().filter(|_| device.addresses.is_empty());
    port.map(|port| &port.bridge)
}

fn is_alike(a: &Machine, b: &Machine) -> bool {
    let names =
        |machine: &Machine| machine.devices.iter().map(|device| device.name.clone()).collect::<Vec<_>>();
    let group = |machine: &Machine| machine.name.replace(|c: char| c.is_ascii_digit(), "");
    let addresses =
        |machine: &Machine| machine.devices.iter().map(|device| device.addresses.len()).collect::<Vec<_>>();
    a.kind == b.kind && names(a) == names(b) && addresses(a) == addresses(b) && group(a) == group(b)
}
