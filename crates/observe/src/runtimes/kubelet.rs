//! The runtime that kubelet is told to use: it is asked wherever its socket is, and is silent if it is not there.

use std::path::{Path, PathBuf};

/// Where kubelet's configuration is (KubeletConfiguration's containerRuntimeEndpoint, and kubeadm's flags).
const FILES: [&str; 2] = ["/var/lib/kubelet/config.yaml", "/var/lib/kubelet/kubeadm-flags.env"];
const KEYS: [&str; 2] = ["containerRuntimeEndpoint:", "--container-runtime-endpoint="];

/// The sockets that kubelet's configuration names.
pub(super) fn endpoints() -> Vec<PathBuf> {
    let texts = FILES.iter().filter_map(|file| std::fs::read_to_string(file).ok());
    texts.flat_map(|text| endpoints_in(&text)).collect()
}

fn endpoints_in(text: &str) -> Vec<PathBuf> {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let values = lines.flat_map(|line| KEYS.iter().filter_map(|key| Some(line.split_once(key)?.1)));
    values.filter_map(endpoint).collect()
}

/// `unix:///run/containerd/containerd.sock`, quoted or not, or a path; other schemes are not on this node.
fn endpoint(value: &str) -> Option<PathBuf> {
    let is_end = |c: char| c.is_whitespace() || c == '"' || c == '\'';
    let value = value.trim_start_matches(is_end).split(is_end).next()?;
    let path = value.strip_prefix("unix://").unwrap_or(value);
    path.starts_with('/').then(|| Path::new(path).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_from_both_kinds_of_file() {
        for (text, wanted) in [
            (
                "kind: KubeletConfiguration\ncontainerRuntimeEndpoint: unix:///run/x/c.sock\n",
                Some("/run/x/c.sock"),
            ),
            ("containerRuntimeEndpoint: \"unix:///run/x/c.sock\" # ours", Some("/run/x/c.sock")),
            (
                "KUBELET_KUBEADM_ARGS=\"--v=2 --container-runtime-endpoint=unix:///run/x/c.sock --foo\"\n",
                Some("/run/x/c.sock"),
            ),
            ("KUBELET_KUBEADM_ARGS=\"--container-runtime-endpoint=/run/x/c.sock\"", Some("/run/x/c.sock")),
            ("# containerRuntimeEndpoint: unix:///run/x/c.sock", None),
            ("containerRuntimeEndpoint: npipe:////./pipe/containerd", None),
            ("containerRuntimeEndpoint: \"\"", None),
            ("", None),
        ] {
            let wanted: Vec<PathBuf> = wanted.into_iter().map(PathBuf::from).collect();
            assert_eq!(endpoints_in(text), wanted, "{text}");
        }
    }
}
