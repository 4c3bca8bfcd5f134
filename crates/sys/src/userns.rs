//! Work without root: a user namespace in which one is, and a process that keeps it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::mount::MountPropagationFlags;
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use crate::child::require_one_thread;
use crate::netns::unshare;

/// Starts a process that does nothing but keep a user and a mount namespace, in which the caller's user is root, and returns its
/// number. `prepare` is run inside before anybody else comes.
///
/// It lives until it is ended. Whoever may do as the caller's user enters with [`enter_keeper`].
///
/// # Errors
/// `ResourceBusy` when the process has several threads, what the kernel says when users may not have namespaces of their own
/// (EPERM, ENOSPC), and what `prepare` returns.
pub fn start_keeper(prepare: impl FnOnce() -> io::Result<()>) -> io::Result<u32> {
    require_one_thread()?;
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    // SAFETY: the process has a single thread, checked above, so the child may allocate and lock as it likes.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let made = isolate(uid, gid).and_then(|()| prepare());
            let code = made.as_ref().err().map_or(0, |error| error.raw_os_error().unwrap_or(libc::EIO));
            let _ = File::from(writer).write_all(&code.to_ne_bytes());
            if made.is_ok() {
                keep();
            }
            // SAFETY: ends the child without running the parent's exit handlers.
            unsafe { libc::_exit(1) }
        }
        child => {
            drop(writer);
            let mut code = [0; 4];
            File::from(reader).read_exact(&mut code)?;
            match i32::from_ne_bytes(code) {
                0 => Ok(child.unsigned_abs()),
                code => Err(io::Error::from_raw_os_error(code)),
            }
        }
    }
}

/// New namespaces, in which the user that the process runs as is root.
fn isolate(uid: u32, gid: u32) -> io::Result<()> {
    unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNS)?;
    // Without this an unprivileged process may not write gid_map (user_namespaces(7)).
    std::fs::write("/proc/self/setgroups", "deny")?;
    std::fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    std::fs::write("/proc/self/gid_map", format!("0 {gid} 1"))?;
    Ok(rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?)
}

/// Waits for a signal that ends it, with nothing open and nobody's terminal.
fn keep() {
    let _ = rustix::process::setsid();
    let _ = std::env::set_current_dir("/");
    // SAFETY: nothing in the child refers to descriptors from here on; it never returns to code that does.
    unsafe { libc::syscall(libc::SYS_close_range, 0, libc::c_uint::MAX, 0) };
    // SAFETY: names the process, for those who list processes; the string is static.
    unsafe { libc::prctl(libc::PR_SET_NAME, c"podplumb-keep".as_ptr()) };
    loop {
        // SAFETY: waits for a signal; nobody handles one.
        unsafe { libc::pause() };
    }
}

/// Moves the process, which has one thread, into the user and mount namespaces of a keeper.
pub fn enter_keeper(pid: u32) -> io::Result<()> {
    let open = |kind: &str| -> io::Result<File> {
        let path = format!("/proc/{pid}/ns/{kind}");
        Ok(rustix::fs::open(Path::new(&path), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?.into())
    };
    // Once inside, /proc/PID of the keeper may not be ours to read.
    let (user, mount) = (open("user")?, open("mnt")?);
    move_into_link_name_space(user.as_fd(), Some(LinkNameSpaceType::User))?;
    move_into_link_name_space(mount.as_fd(), Some(LinkNameSpaceType::Mount))?;
    Ok(())
}

/// Whether the calling process is in the user namespace in which all users are, so that its privileges are the machine's.
pub fn is_initial_user_namespace() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_whitespace().eq(["0", "0", "4294967295"])
}
