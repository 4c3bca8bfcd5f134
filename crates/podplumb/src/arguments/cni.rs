//! Arguments of `podplumb cni`. Where cnitool reads an environment variable, so does podplumb.

use std::convert::Infallible;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use model::{ContainerId, IfName, NetworkName};
use serde_json::Value;

use super::{Format, Shape};

const CONF_DIR: &str = "/etc/cni/net.d";
const IFNAME: &str = "eth0";

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum CniCommand {
    /// Attach a container to a network, and print the result
    Add(AddOptions),
    /// Detach it; all plugins are called, whatever fails
    Del(DelOptions),
    /// Compare an attachment with its result
    Check(DelOptions),
    /// Remove what attachments left that are not valid any more
    Gc(GcOptions),
    /// Ask the plugins of a network whether they could attach a container
    Status(StatusOptions),
    /// List networks in a runtime's order, and their attachments
    List(ListOptions),
    /// Print podplumb's nftables ruleset, with whose each element is, as nft reads it
    Rules,
    /// Find everything that is wrong with configurations (exit 3 if there is any)
    Validate(ValidateOptions),
    /// Put podplumb's plugins in place of the reference ones, or take that back
    Install(InstallOptions),
}

/// Where configurations and plugins are.
#[derive(Debug, Args)]
pub(crate) struct PlaceOptions {
    /// Directory with network configurations
    #[arg(long, value_name = "DIR", env = "NETCONFPATH", hide_env = true, default_value = CONF_DIR, value_parser = conf_dir)]
    pub(crate) conf_dir: PathBuf,
    /// Directory with plugins, for those that podplumb does not have
    #[arg(long, value_name = "DIR", env = "CNI_PATH", hide_env = true, value_delimiter = ':',
        value_parser = any_path, default_values = ["/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni"])]
    pub(crate) bin_dir: Vec<PathBuf>,
    /// libcni's cache of results
    #[arg(long, value_name = "DIR", default_value = "/var/lib/cni/results")]
    pub(crate) cache_dir: PathBuf,
}

/// How plugins are called.
#[derive(Debug, Args)]
pub(crate) struct CallOptions {
    #[command(flatten)]
    pub(crate) place: PlaceOptions,
    /// Execute all plugins from --bin-dir, also those that podplumb has
    #[arg(long)]
    pub(crate) exec: bool,
    /// End a plugin that takes longer
    #[arg(long, value_name = "TIME", value_parser = super::duration, default_value = "60s")]
    pub(crate) timeout: Duration,
}

/// What an attachment is called with.
#[derive(Debug, Args)]
pub(crate) struct AttachmentOptions {
    /// Name of the network
    #[arg(value_name = "NETWORK")]
    pub(crate) network: NetworkName,
    /// Id of the container
    #[arg(value_name = "CONTAINER")]
    pub(crate) container: ContainerId,
    /// Interface in the container
    #[arg(long, value_name = "NAME", env = "CNI_IFNAME", hide_env = true, default_value = IFNAME, value_parser = ifname)]
    pub(crate) ifname: IfName,
    /// K=V;K=V for the plugins (CNI_ARGS)
    #[arg(long, value_name = "ARGS", env = "CNI_ARGS", hide_env = true)]
    pub(crate) args: Option<String>,
    /// JSON object with values for the plugins' capabilities
    #[arg(long, value_name = "JSON", env = "CAP_ARGS", hide_env = true, value_parser = capability_args)]
    pub(crate) capability_args: Option<Value>,
    #[command(flatten)]
    pub(crate) call: CallOptions,
}

#[derive(Debug, Args)]
pub(crate) struct AddOptions {
    #[command(flatten)]
    pub(crate) attachment: AttachmentOptions,
    /// Its network namespace: a path, or a name that `ip netns` knows
    #[arg(value_name = "NETNS")]
    pub(crate) netns: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct DelOptions {
    #[command(flatten)]
    pub(crate) attachment: AttachmentOptions,
    /// Its network namespace; the one of the ADD, unless given
    #[arg(value_name = "NETNS")]
    pub(crate) netns: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct GcOptions {
    /// Name of the network
    #[arg(value_name = "NETWORK")]
    pub(crate) network: NetworkName,
    #[command(flatten)]
    pub(crate) valid: ValidOptions,
    /// Only print which attachments of the cache would be deleted
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) call: CallOptions,
}

/// What GC has to leave alone. There is no default: whatever is not named is removed.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct ValidOptions {
    /// Attachments to keep; everything else of the network goes
    #[arg(long, value_name = "CONTAINER:IFNAME", num_args = 1.., value_parser = valid)]
    pub(crate) valid: Vec<(ContainerId, IfName)>,
    /// Keep what the cache knows. Not while a runtime makes pods: what it is
    /// making is not in the cache yet
    #[arg(long)]
    pub(crate) from_cache: bool,
    /// Keep nothing: remove all attachments of the network
    #[arg(long)]
    pub(crate) nothing_valid: bool,
}

#[derive(Debug, Args)]
pub(crate) struct StatusOptions {
    /// Name of the network
    #[arg(value_name = "NETWORK")]
    pub(crate) network: NetworkName,
    #[command(flatten)]
    pub(crate) call: CallOptions,
}

#[derive(Debug, Args)]
pub(crate) struct ListOptions {
    #[command(flatten)]
    pub(crate) place: PlaceOptions,
    /// Shape of the output: table (80 columns), wide (everything) or json
    #[arg(short, long, value_enum, default_value = "table")]
    pub(crate) output: Format,
}

#[derive(Debug, Args)]
pub(crate) struct ValidateOptions {
    /// Files, or directories like /etc/cni/net.d
    #[arg(value_name = "PATH", default_value = "/etc/cni/net.d")]
    pub(crate) paths: Vec<PathBuf>,
    /// Directory with plugins, for those that podplumb does not have
    #[arg(long, value_name = "DIR", env = "CNI_PATH", hide_env = true, value_delimiter = ':',
        value_parser = any_path, default_values = ["/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni"])]
    pub(crate) bin_dir: Vec<PathBuf>,
    /// Shape of the output: text or json
    #[arg(short, long, value_enum, default_value = "text")]
    pub(crate) output: Shape,
}

#[derive(Debug, Args)]
pub(crate) struct InstallOptions {
    /// Where runtimes look for plugins
    #[arg(long, value_name = "DIR", default_value = "/opt/cni/bin")]
    pub(crate) bin_dir: PathBuf,
    /// The plugin binary; the one beside podplumb, unless given
    #[arg(long, value_name = "FILE", conflicts_with = "undo")]
    pub(crate) plugin: Option<PathBuf>,
    /// Put back what was there before
    #[arg(long)]
    pub(crate) undo: bool,
}

/// An environment variable that is empty is as good as none.
fn or_default(text: &str, default: &'static str) -> String {
    if text.is_empty() { default.to_owned() } else { text.to_owned() }
}

fn conf_dir(text: &str) -> Result<PathBuf, Infallible> {
    Ok(or_default(text, CONF_DIR).into())
}

fn ifname(text: &str) -> Result<IfName, model::IdError> {
    or_default(text, IFNAME).parse()
}

/// CNI_PATH may have empty parts.
fn any_path(text: &str) -> Result<PathBuf, Infallible> {
    Ok(text.into())
}

fn capability_args(text: &str) -> Result<Value, String> {
    if text.is_empty() {
        return Ok(Value::Null);
    }
    match serde_json::from_str(text) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err("not a JSON object like {\"portMappings\": […]}".to_owned()),
        Err(error) => Err(format!("not JSON: {error}")),
    }
}

/// `CONTAINER:IFNAME`.
fn valid(text: &str) -> Result<(ContainerId, IfName), String> {
    let (container, ifname) = text.split_once(':').ok_or("not like CONTAINER:IFNAME")?;
    let container = container.parse().map_err(|error: model::IdError| error.to_string())?;
    Ok((container, ifname.parse().map_err(|error: model::IdError| error.to_string())?))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::arguments::Arguments;

    fn parses(arguments: &[&str]) -> bool {
        Arguments::try_parse_from([&["podplumb", "cni"], arguments].concat()).is_ok()
    }

    #[test]
    fn gc_wants_to_be_told_what_is_valid() {
        assert!(!parses(&["gc", "pods"]));
        assert!(!parses(&["gc", "pods", "--valid"]));
        assert!(!parses(&["gc", "pods", "--from-cache", "--nothing-valid"]));
        assert!(!parses(&["gc", "pods", "--valid", "a:eth0", "--nothing-valid"]));
        assert!(parses(&["gc", "pods", "--valid", "a:eth0", "b:eth0"]));
        assert!(parses(&["gc", "pods", "--from-cache"]));
    }

    #[test]
    fn names_that_could_escape_are_usage_errors() {
        for (network, container, ifname) in
            [("../x", "c", "eth0"), ("n", "a/b", "eth0"), ("n", "c", "a/b"), ("n", "c\n", "eth0")]
        {
            assert!(!parses(&["add", network, container, "ns", "--ifname", ifname]));
        }
        assert!(!parses(&["gc", "pods", "--valid", "a/b:eth0"]));
        assert!(!parses(&["add", "n", "c", "ns", "--capability-args", "[]"]));
        assert!(!parses(&["add", "n", "c", "ns", "--capability-args", "{"]));
        assert!(parses(&["add", "n", "c", "ns", "--capability-args", "{\"mac\":\"x\"}"]));
        assert!(parses(&["add", "n", "c", "ns", "--capability-args", "", "--ifname", "", "--conf-dir", ""]));
    }
}
