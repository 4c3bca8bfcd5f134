//! The only unsafe code of podplumb, behind safe functions: network namespaces, socket options that
//! no safe crate has, packet sockets, BPF programs that run once, a child that is left to wait alone. Also
//! the few facts about the running system that both the plugins and the observer need.

mod activation;
mod bpf;
mod capture;
mod child;
mod file;
mod iptables;
mod lines;
mod lock;
mod mountns;
mod netns;
mod offload;
mod packet;
mod process;
mod ring;
mod signals;
mod socket;
mod standin;
mod stat;
mod system;
mod tap;
#[cfg(feature = "trace")]
pub mod trace;
mod userns;
#[cfg(feature = "zoo")]
pub mod zoo;

pub use activation::inherited_listener;
pub use bpf::{BpfArray, BpfCode, BpfFunction, BpfProgram, BpfRefusal, BpfRelocation, tcx_programs};
pub use capture::{CaptureSocket, Captured};
pub use child::fork_detached;
pub use file::UnnamedFile;
pub use iptables::{LegacyTable, legacy_forward_drops, legacy_table};
pub use lines::{LineFile, whole as whole_lines, writer as line_writer};
pub use lock::Locked;
pub use mountns::MountNs;
pub use netns::{Entered, NetNs, isolate_thread, when_stranded};
pub use offload::tx_checksum;
pub use packet::{FilterStep, PacketSocket, attach_filter, send_frames};
pub use process::{NamespaceKind, Process, descriptors_in_flight};
pub use ring::CaptureRing;
pub use signals::stop_signals;
pub use socket::{netlink_socket, netns_cookie, never_fragment};
pub use standin::stand_in;
pub use stat::ProcessStat;
pub use system::{
    boot_id, booted_at, earliest_of_boot, hostname, is_root, kernel_release, raise_file_limit, random,
    read_sysctl, since_boot, write_sysctl,
};
pub use tap::Tap;
pub use userns::{enter_keeper, is_initial_user_namespace, start_keeper};
