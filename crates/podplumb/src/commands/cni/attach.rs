//! `podplumb cni add`, `del` and `check`

use std::path::Path;

use cni::{Args, Attachment, AttachmentKey, Network};
use observe::CniPaths;

use super::{netns, network, require_root, runner, tell};
use crate::arguments::{AddOptions, AttachmentOptions, DelOptions};
use crate::output::{Ended, hinted, print_json};

pub(super) fn add(options: &AddOptions) -> anyhow::Result<Ended> {
    require_root("add")?;
    let attachment = attachment(&options.attachment, Some(&options.netns))?;
    let network = network(&options.attachment.call, &options.attachment.network)?;
    // An ADD that fails is undone, and that would remove what an earlier one made, remembered or not.
    let record = CniPaths::default().record_dir.join(attachment.key.file_name());
    if record.exists() {
        return Err(hinted(
            format!(
                "{} is attached already, or was being so: its record is {}",
                attachment.key,
                record.display()
            ),
            "`podplumb cni del NETWORK CONTAINER NETNS` detaches it",
        ));
    }
    match runner(&options.attachment.call)?.add(&network, &attachment) {
        Ok(result) => print_json(&result).map(|()| Ended::Fine),
        Err(failures) => Ok(tell(&failures)),
    }
}

pub(super) fn del(options: &DelOptions) -> anyhow::Result<Ended> {
    require_root("del")?;
    let call = &options.attachment.call;
    let attachment = attachment(&options.attachment, options.netns.as_deref())?;
    let runner = runner(call)?;
    // The configuration of the ADD is in the cache. Only where it is not, the one on disk counts, and what is wrong with it.
    let remembered = match runner.cache.read(&attachment.key) {
        Ok(Some(Ok(entry))) => Network::from_cached(&entry.config).is_ok(),
        _ => false,
    };
    let network = match network(call, &options.attachment.network) {
        Err(_) if remembered => None,
        network => Some(network?),
    };
    Ok(tell(&runner.del(network.as_ref(), &attachment).err().unwrap_or_default()))
}

pub(super) fn check(options: &DelOptions) -> anyhow::Result<Ended> {
    require_root("check")?;
    let attachment = attachment(&options.attachment, options.netns.as_deref())?;
    let network = network(&options.attachment.call, &options.attachment.network)?;
    if network.disable_check {
        eprintln!("nothing was checked: the configuration of {} says disableCheck", network.name);
    }
    let checked = runner(&options.attachment.call)?.check(&network, &attachment);
    Ok(tell(&checked.err().unwrap_or_default()))
}

fn attachment(options: &AttachmentOptions, path: Option<&Path>) -> anyhow::Result<Attachment> {
    let args = options.args.as_deref().filter(|args| !args.is_empty()).map(Args::parse).transpose()?;
    Ok(Attachment {
        key: AttachmentKey {
            network: options.network.clone(),
            container: options.container.clone(),
            ifname: options.ifname.clone(),
        },
        netns: path.map(netns).transpose()?.flatten(),
        args,
        capability_args: options.capability_args.clone().filter(|args| !args.is_null()),
    })
}
