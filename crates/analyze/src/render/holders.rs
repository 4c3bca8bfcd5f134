//! Why something is still alive.

use super::text::{Paint, hang, shorten};
use crate::holders::{Held, Subject};

const HEAD: usize = 13;

/// All that a question may mean, each with its holders.
pub fn holders(subjects: &[Subject], paint: Paint) -> String {
    let mut out = String::new();
    for (at, subject) in subjects.iter().enumerate() {
        if at > 0 {
            out.push('\n');
        }
        let by = paint.dim(&format!("  by its {}", subject.by));
        out.push_str(&format!("{}{by}\n", paint.bold(&shorten(&subject.label))));
        if let Some(namespace) = &subject.namespace {
            let path = namespace.path.as_ref().map(|path| path.display().to_string());
            line(&mut out, "namespace", &path.unwrap_or_else(|| "no path leads to it".into()));
            let mut ids = Vec::new();
            ids.extend(namespace.inode.map(|inode| format!("inode {inode}")));
            ids.extend(namespace.ns_id.map(|id| format!("ns_id {id}")));
            ids.extend(namespace.nsid.map(|nsid| format!("nsid {nsid}")));
            line(&mut out, "", &ids.join(", "));
        }
        for (at, link) in subject.links.iter().enumerate() {
            line(&mut out, if at == 0 { "veth" } else { "" }, link);
        }
        if let Some(listed) = &subject.listed {
            line(&mut out, "listed", listed);
        }
        section(&mut out, "held by", &subject.holders, paint);
        section(&mut out, "or by", &subject.may_be, paint);
        if let Some(note) = &subject.note {
            line(&mut out, "held by", &format!("nobody: {note}"));
        }
    }
    out
}

fn section(out: &mut String, head: &str, all: &[Held], paint: Paint) {
    const SHOWN: usize = 12;
    for (at, held) in all.iter().take(SHOWN).enumerate() {
        line(out, if at == 0 { head } else { "" }, &held.text);
        if let Some(whose) = whose(held) {
            line(out, "", &whose);
        }
        let head = " ".repeat(HEAD);
        hang(out, &format!("{head}{} ", paint.green("→")), HEAD + 2, &shorten(&held.remedy));
    }
    if all.len() > SHOWN {
        line(out, "", &format!("and {} more (--output json lists them)", all.len() - SHOWN));
    }
}

/// Pod and container of the holder itself.
fn whose(held: &Held) -> Option<String> {
    let mut parts = Vec::new();
    parts.extend(held.of_pod.as_ref().map(|pod| format!("of pod {pod}")));
    parts
        .extend(held.of_container.as_ref().map(|id| format!("of container {}", crate::wiring::short_id(id))));
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn line(out: &mut String, head: &str, text: &str) {
    let head = format!("  {head:<width$}", width = HEAD - 2);
    hang(out, &head, HEAD, &shorten(text));
}
