//! The plugin binary. Called as `bridge`, `host-local` or `loopback` (by a link of that name in the CNI binary directory) it
//! is that plugin; called as `podplumb-cni`, the configuration's `type` says which.

use std::path::Path;

/// musl's allocator made 94 mmap/munmap pairs in one dump of links; with dlmalloc the whole process took a third of the time.
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() {
    let name = std::env::args_os().next();
    let name = name.as_deref().and_then(|path| Path::new(path).file_name()?.to_str());
    let name = name.filter(|name| plugins::names().any(|plugin| plugin == *name));
    let environment = cni::Environment::of_process();
    cni::run(&environment, &mut std::io::stdin().lock(), name, plugins::select).exit()
}
