//! A container image made of busybox: nothing is fetched.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::process::run;

/// The image's name.
pub(crate) const NAME: &str = "localhost/podplumb/busybox:1";

/// Writes the root file system as a tar file.
pub(crate) fn root(directory: &Path) -> PathBuf {
    let root = directory.join("root");
    for sub in ["bin", "etc", "tmp", "proc", "sys", "dev"] {
        std::fs::create_dir_all(root.join(sub)).expect("a directory");
    }
    std::fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox-static is installed");
    for applet in ["sh", "sleep", "ping", "nc"] {
        let _ = std::os::unix::fs::symlink("busybox", root.join("bin").join(applet));
    }
    let layer = directory.join("layer.tar");
    run("tar", &["-C", &root.display().to_string(), "-cf", &layer.display().to_string(), "."]);
    layer
}

/// Writes the image as `docker save` does.
pub(crate) fn archive(directory: &Path) -> PathBuf {
    std::fs::create_dir_all(directory).expect("a directory");
    let layer = root(directory);
    let digest = run("sha256sum", &[&layer.display().to_string()]);
    let digest = digest.split_whitespace().next().expect("a digest");
    let config = json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": { "Cmd": ["/bin/sleep", "100000"], "Env": ["PATH=/bin"] },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{digest}")] },
    });
    let manifest = json!([{ "Config": "config.json", "RepoTags": [NAME], "Layers": ["layer.tar"] }]);
    std::fs::write(directory.join("config.json"), config.to_string()).expect("a file");
    std::fs::write(directory.join("manifest.json"), manifest.to_string()).expect("a file");
    let archive = directory.join("image.tar");
    let (dir, file) = (directory.display().to_string(), archive.display().to_string());
    run("tar", &["-C", &dir, "-cf", &file, "manifest.json", "config.json", "layer.tar"]);
    archive
}
