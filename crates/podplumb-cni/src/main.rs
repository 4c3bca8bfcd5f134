//! The plugin binary. Called as `bridge`, `host-local`, … (by a link of that name in the CNI binary directory) it
//! is that plugin; called as `podplumb-cni`, the configuration's `type` says which. `dhcp daemon` is the daemon of dhcp.

use std::path::Path;

/// musl's allocator made 94 mmap/munmap pairs in one dump of links; with dlmalloc the whole process took a third of the time.
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() {
    let name = std::env::args_os().next();
    let name = name.as_deref().and_then(|path| Path::new(path).file_name()?.to_str());
    let name = name.filter(|name| plugins::names().any(|plugin| plugin == *name));
    let mut arguments = std::env::args_os().skip(1);
    if name == Some("dhcp") && arguments.next().is_some_and(|word| word == "daemon") {
        std::process::exit(i32::from(plugins::dhcp::daemon(arguments)));
    }
    let environment = cni::Environment::of_process();
    cni::run(&environment, &mut std::io::stdin().lock(), name, plugins::select).exit()
}
