//! Calling a plugin as a runtime does.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

/// One call.
pub(crate) struct Call<'a> {
    pub(crate) directory: &'a Path,
    pub(crate) command: &'a str,
    pub(crate) id: &'a str,
    pub(crate) config: &'a Value,
}

impl Call<'_> {
    /// Runs it, and returns what it printed.
    pub(crate) fn run(&self) -> Value {
        let kind = self.config["type"].as_str().expect("a type");
        let mut child = Command::new(self.directory.join(kind))
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("CNI_COMMAND", self.command)
            .env("CNI_CONTAINERID", self.id)
            .env("CNI_NETNS", format!("/run/netns/{}", self.id))
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", self.directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the plugin starts");
        let mut stdin = child.stdin.take().expect("piped");
        stdin.write_all(self.config.to_string().as_bytes()).expect("it reads");
        drop(stdin);
        let output = child.wait_with_output().expect("it ends");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{} of {kind}: {text}", self.command);
        serde_json::from_str(&text).unwrap_or_default()
    }
}

/// Ends a namespace that was pinned.
pub(crate) fn unpin(id: &str) {
    let path = format!("/run/netns/{id}");
    let _ = rustix::mount::unmount(&path, rustix::mount::UnmountFlags::DETACH);
    let _ = std::fs::remove_file(path);
}
