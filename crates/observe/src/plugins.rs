//! Which version of a CNI plugin is installed, without starting it: by what Go's linker writes into the file, and by dpkg's lists.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use model::{NetworkConfig, PluginBinary};

/// Where runtimes look for plugins, in their order.
const DIRECTORIES: [&str; 3] = ["/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni"];
/// containerd calls it for every pod, whatever is configured.
const ALWAYS: &str = "loopback";
/// The section is a few KiB, with a module's dependencies.
const LARGEST_SECTION: u64 = 4 << 20;
const MAGIC: &[u8] = b"\xff Go buildinf:";
/// Strings follow the header directly (Go 1.18).
const INLINE: u8 = 2;
const HEADER: usize = 32;

/// The binaries of all plugins that configurations name.
pub(crate) fn installed(configs: &[NetworkConfig]) -> Vec<PluginBinary> {
    if configs.is_empty() {
        return Vec::new();
    }
    let named =
        configs.iter().flat_map(|config| config.plugins.iter().chain(&config.ipam)).map(String::as_str);
    let kinds: BTreeSet<&str> = named.chain([ALWAYS]).filter(|kind| is_file_name(kind)).collect();
    kinds.into_iter().filter_map(|kind| binary(kind, &DIRECTORIES.map(Path::new))).collect()
}

/// A type comes from a file, and becomes a part of a path.
fn is_file_name(kind: &str) -> bool {
    !kind.contains('/') && !matches!(kind, "" | "." | "..")
}

fn binary(kind: &str, directories: &[&Path]) -> Option<PluginBinary> {
    let path = directories.iter().map(|dir| dir.join(kind)).find(|path| path.is_file())?;
    let info = build_info(&path).unwrap_or_default();
    let version = info.version.or_else(|| packaged(&path, Path::new("/var/lib/dpkg")));
    let mode = std::fs::metadata(&path).ok().map(|stat| stat.mode());
    Some(PluginBinary { kind: kind.to_owned(), path, package: info.package, version, mode })
}

#[derive(Debug, Default, PartialEq, Eq)]
struct BuildInfo {
    package: Option<String>,
    version: Option<String>,
}

/// What `go version -m` prints (debug/buildinfo).
fn build_info(path: &Path) -> Option<BuildInfo> {
    let section = section(&File::open(path).ok()?, b".go.buildinfo")?;
    if !section.starts_with(MAGIC) || section.get(15)? & INLINE == 0 {
        return None;
    }
    let mut rest = section.get(HEADER..)?;
    let _compiler = string(&mut rest)?;
    let text = string(&mut rest)?;
    // Sentinels of 16 bytes on both sides, of which not all are UTF-8.
    Some(parse(&String::from_utf8_lossy(text.get(16..text.len().checked_sub(16)?)?)))
}

fn parse(text: &str) -> BuildInfo {
    let lines = || text.lines().map(|line| line.split('\t').collect::<Vec<_>>());
    let package = lines().find_map(|line| (line.first() == Some(&"path")).then(|| line.get(1).copied())?);
    let module = lines().find_map(|line| (line.first() == Some(&"mod")).then(|| line.get(2).copied())?);
    // The reference plugins' releases are not built as modules of a version: their version is set by the linker.
    let flags = text.lines().find_map(|line| line.strip_prefix("build\t-ldflags="));
    let set = flags.and_then(|flags| flags.split("buildversion.BuildVersion=").nth(1));
    let set = set.map(|rest| rest.split([' ', '"', '\'']).next().unwrap_or_default());
    let version =
        set.or(module.filter(|version| *version != "(devel)")).filter(|version| !version.is_empty());
    BuildInfo { package: package.map(str::to_owned), version: version.map(str::to_owned) }
}

/// A string with its length before it, as a varint.
fn string<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let mut length = 0usize;
    for at in 0..5 {
        let byte = *rest.get(at)?;
        length |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            let text = rest.get(at + 1..(at + 1).checked_add(length)?)?;
            *rest = &rest[at + 1 + length..];
            return Some(text);
        }
    }
    None
}

/// A section of a 64-bit little-endian ELF file.
fn section(file: &File, name: &[u8]) -> Option<Vec<u8>> {
    let read = |at: u64, length: u64| {
        let mut bytes = vec![0; usize::try_from(length).ok().filter(|_| length <= LARGEST_SECTION)?];
        file.read_exact_at(&mut bytes, at).ok()?;
        Some(bytes)
    };
    let number = |bytes: &[u8], at: usize, size: usize| {
        let mut whole = [0; 8];
        whole[..size].copy_from_slice(bytes.get(at..at + size)?);
        Some(u64::from_le_bytes(whole))
    };
    let header = read(0, 64)?;
    if !header.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let (offset, size, count) =
        (number(&header, 0x28, 8)?, number(&header, 0x3a, 2)?, number(&header, 0x3c, 2)?);
    let place = |index: u64| {
        let entry = read(offset.checked_add(index * size)?, size.max(64))?;
        Some((number(&entry, 0, 4)?, number(&entry, 0x18, 8)?, number(&entry, 0x20, 8)?))
    };
    let (_, names_at, names_length) = place(number(&header, 0x3e, 2)?)?;
    let names = read(names_at, names_length)?;
    for index in 0..count {
        let (named, at, length) = place(index)?;
        let own = names.get(usize::try_from(named).ok()?..)?;
        if own.strip_prefix(name).is_some_and(|rest| rest.first() == Some(&0)) {
            return read(at, length);
        }
    }
    None
}

/// The version of the Debian package that has the file.
fn packaged(path: &Path, dpkg: &Path) -> Option<String> {
    let path = path.canonicalize().ok()?;
    let lists = std::fs::read_dir(dpkg.join("info")).ok()?;
    // A file may be listed below /lib that is below /usr/lib since directories were merged.
    let other = path.strip_prefix("/usr").ok().map(|rest| PathBuf::from("/").join(rest));
    let wanted: Vec<String> =
        [Some(path), other].into_iter().flatten().map(|path| path.display().to_string()).collect();
    let owner = lists.flatten().map(|entry| entry.path()).find_map(|list| {
        let name = list.file_name()?.to_str()?.strip_suffix(".list")?.to_owned();
        // Only packages that may have plugins: there are thousands of lists.
        (name.contains("cni") || name.contains("containernetworking") || name.contains("container"))
            .then_some(())?;
        let files = std::fs::read_to_string(&list).ok()?;
        files.lines().any(|line| wanted.iter().any(|path| path == line)).then_some(name)
    })?;
    let owner = owner.split(':').next()?;
    let status = std::fs::read_to_string(dpkg.join("status")).ok()?;
    let entry =
        status.split("\n\n").find(|entry| entry.lines().next() == Some(&format!("Package: {owner}")))?;
    entry.lines().find_map(|line| line.strip_prefix("Version: ")).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_stand_in_the_linkers_flags_or_in_the_module() {
        let of = |text: &str| parse(text).version;
        let release = "path\tgithub.com/containernetworking/plugins/plugins/main/bridge\n\
            mod\tgithub.com/containernetworking/plugins\t(devel)\t\n\
            build\t-ldflags=\"-extldflags -static -X github.com/containernetworking/plugins/pkg/utils/buildversion.BuildVersion=v1.3.0\"\n";
        assert_eq!(of(release).as_deref(), Some("v1.3.0"));
        assert_eq!(
            parse(release).package.unwrap(),
            "github.com/containernetworking/plugins/plugins/main/bridge"
        );
        assert_eq!(of("path\tx/cmd/y\nmod\tx\tv0.9.1\th1:abc=\n").as_deref(), Some("v0.9.1"));
        for unknown in ["path\tx\nmod\tx\t(devel)\n", "", "mod", "build\t-ldflags=\"-X a.BuildVersion=\"\n"] {
            assert_eq!(of(unknown), None, "{unknown:?}");
        }
    }

    #[test]
    fn files_that_are_something_else_have_no_version() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("plugin");
        let mut elf = std::fs::read("/proc/self/exe").unwrap();
        elf.truncate(5000);
        for content in [&b""[..], b"#!/bin/sh\n", b"\x7fELF\x02\x01", &[0xff; 200], &elf] {
            std::fs::write(&file, content).unwrap();
            assert_eq!(build_info(&file), None);
        }
        assert_eq!(build_info(Path::new("/proc/self/exe")), None, "Rust's");
        let mut huge: &[u8] = &[0xff, 0xff, 0xff, 0xff, 0x7f];
        assert_eq!(string(&mut huge), None);
    }

    #[test]
    fn debians_plugins_are_known_by_their_package() {
        let path = Path::new("/usr/lib/cni/bridge");
        let Ok(info) = std::fs::metadata(path) else {
            assert!(
                std::env::var_os("CI").is_none(),
                "xtask/install test installs containernetworking-plugins"
            );
            return eprintln!("SKIPPED: no reference plugins here");
        };
        assert!(info.is_file());
        let found = binary("bridge", &[Path::new("/nowhere"), Path::new("/usr/lib/cni")]).unwrap();
        assert_eq!(
            found.package.as_deref(),
            Some("github.com/containernetworking/plugins/plugins/main/bridge")
        );
        let version = found.version.expect("dpkg knows it");
        assert!(version.starts_with(|c: char| c.is_ascii_digit()), "{version}");
    }
}
