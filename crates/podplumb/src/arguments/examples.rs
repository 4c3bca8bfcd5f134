//! What stands below a command's help: calls of it as people make them.

use clap::Command;

/// A command by its words, what else there is to know of it, and calls of it, each with what it is for.
type Examples = (&'static [&'static str], &'static str, &'static [(&'static str, &'static str)]);

const EXAMPLES: &[Examples] = &[
    (
        &[],
        "X in the usage of a command is a pod, container, veth, address, pid or namespace. Exit codes: 0 fine, 1 failed, 2 usage, 3 something was found.",
        &[
            ("podplumb map", "what is wired to what"),
            ("podplumb who 10.88.0.3", "whose address is that"),
            ("podplumb doctor", "what is wrong, and the fix"),
            ("podplumb trace shop/web 10.96.0.10 --port udp/53", "does it get there"),
            ("podplumb leaks", "what crashed pods left"),
            ("podplumb reclaim --apply", "remove it"),
        ],
    ),
    (
        &["map"],
        "What `leaks` and `doctor` found is marked with `!`; what could not be seen is said.",
        &[
            ("podplumb map -o wide", "with indices, MACs, FDB entries"),
            ("podplumb map --watch", "with rates, every second"),
            ("podplumb map -o svg > node.svg", "as a picture"),
        ],
    ),
    (
        &["who"],
        "",
        &[
            ("podplumb who shop/web", "a pod"),
            ("podplumb who veth5cbdc8c5", "a host interface"),
            ("podplumb who 0a:58:0a:58:00:03", "a MAC address"),
            ("podplumb who pid:4711", "a process"),
        ],
    ),
    (&["pods"], "", &[("podplumb pods -o wide", "with ids and namespaces")]),
    (
        &["holders"],
        "",
        &[
            ("podplumb holders /run/netns/cni-0a6e12c4", "why it is still there"),
            ("podplumb holders shop/web --kill-orphans", "end connections nobody has"),
        ],
    ),
    (
        &["snapshot"],
        "",
        &[
            ("podplumb snapshot > node1.json", "for --from, on any machine"),
            ("podplumb snapshot --close > node1.json", "also for holders --from"),
        ],
    ),
    (
        &["report"],
        "",
        &[("podplumb report --list", "what would be in it"), ("podplumb report --redact", "to give it away")],
    ),
    (
        &["doctor"],
        "Nothing is changed, and no packet is sent. Exit 3 if there is an error or a warning.",
        &[
            ("podplumb doctor --from node1.json", "of another machine"),
            ("podplumb doctor --explain pod-mtu", "what a check is about"),
            ("podplumb doctor --only pod-mtu,rp-filter", "these two"),
        ],
    ),
    (
        &["trace"],
        "It is computed what the kernel would do with the packet, there and back; with --live, real ones are sent and watched as well. Exit 3 if it does not arrive for certain.",
        &[
            ("podplumb trace shop/web shop/db --port tcp/5432", "between pods"),
            ("podplumb trace shop/web 10.96.0.10 --port udp/53", "to a service"),
            ("podplumb trace host shop/web --live", "with real packets"),
            ("podplumb trace web db --from n1.json --from n2.json", "across nodes"),
        ],
    ),
    (
        &["capture"],
        "docs/capture.md has all words of filters.",
        &[
            ("podplumb capture shop/web", "a line for each packet"),
            ("podplumb capture web db cni0 -w x.pcapng", "three places in one file"),
            ("podplumb capture web --both-ends -- tcp port 80", "inside, and on the host"),
            ("podplumb capture eth0 -- vxlan and host pod:shop/web", "looks into VXLAN"),
        ],
    ),
    (
        &["exec"],
        "Exit code, terminal and signals are the command's.",
        &[
            ("podplumb exec shop/web -- ss -tlnp", "this machine's ss"),
            ("podplumb exec pid:4711 --all -- sh", "the image's shell, as in the pod"),
        ],
    ),
    (
        &["expose"],
        "",
        &[
            ("podplumb expose shop/web", "then: ip netns exec web …"),
            ("podplumb expose --remove web", "take it away"),
        ],
    ),
    (
        &["sockets"],
        "",
        &[
            ("podplumb sockets shop/web --listening", "what can be reached"),
            ("podplumb sockets shop/web --unix", "also unix sockets"),
        ],
    ),
    (
        &["leaks"],
        "Nothing is changed. Exit 3 if there is any.",
        &[
            ("podplumb leaks --all", "also what is in use, and why"),
            ("podplumb leaks --from node1.json", "of another machine"),
            ("podplumb leaks --watch", "attachments as they come and go"),
        ],
    ),
    (
        &["reclaim"],
        "Only what two looks, --grace apart, found to be nobody's is removed, its identity compared again at that moment, and each step is in the journal before it is taken. Exit 3 if, without --apply, there is something to do.",
        &[
            ("podplumb reclaim", "what would be done, and why"),
            ("podplumb reclaim --apply", "do it: a minute later, if all is as it was"),
            ("podplumb reclaim --boot --apply", "in a unit that runs before the runtimes"),
        ],
    ),
    (
        &["gc"],
        "Valid is what runtimes, leases, cache entries and records name, but for orphans. Without --apply, what would be deleted is printed, with exit 3.",
        &[("podplumb gc --apply", "tell all networks what is valid")],
    ),
    (&["journal"], "", &[("podplumb journal -o json", "with identities and times")]),
    (
        &["undo"],
        "",
        &[
            ("podplumb undo 1a200165219-33e9", "a run"),
            ("podplumb undo 1a200165219-33e9.6", "one operation of it"),
        ],
    ),
    (
        &["cni"],
        "",
        &[
            ("podplumb cni list", "networks as a runtime sees them"),
            ("podplumb cni validate", "what is wrong with their configurations"),
            ("podplumb cni add pods blue blue", "attach what `ip netns` calls blue"),
            ("podplumb cni del pods blue", "and detach it"),
            ("podplumb cni install", "podplumb's plugins in place of others"),
        ],
    ),
    (
        &["cni", "gc"],
        "",
        &[
            ("podplumb cni gc pods --valid web:eth0 db:eth0", "keep these two"),
            ("podplumb cni gc pods --from-cache --dry-run", "what would go"),
        ],
    ),
    (
        &["lab"],
        "",
        &[
            ("podplumb lab up vxlan.yaml", "make it, or change it"),
            ("podplumb lab verify vxlan", "is it as its file expects"),
            ("podplumb lab exec vxlan node1-pod1 -- ip route", "run something in it"),
            ("podplumb lab down vxlan", "and nothing is left"),
        ],
    ),
    (
        &["lab", "graph"],
        "",
        &[
            ("podplumb lab graph vxlan.yaml", "in the terminal, up or not"),
            ("podplumb lab graph vxlan -o svg > vxlan.svg", "for a slide"),
        ],
    ),
    (
        &["lab", "capture"],
        "",
        &[("podplumb lab capture vxlan net -w x.pcapng -- icmp", "all interfaces of net")],
    ),
    (&["lab", "import"], "", &[("podplumb lab import --from node1.json > node1.yaml", "a node on a laptop")]),
];

/// Puts the examples below the help of their commands.
pub(super) fn with_examples(mut command: Command) -> Command {
    for (words, note, examples) in EXAMPLES {
        command = below(command, words, &text(note, examples));
    }
    command
}

fn below(command: Command, words: &[&'static str], text: &str) -> Command {
    match words.split_first() {
        Some((first, rest)) => command.mut_subcommand(first, |command| below(command, rest, text)),
        // What a newcomer looks for stands where the screen ends.
        None => command.after_help(text.to_owned()),
    }
}

fn text(note: &str, examples: &[(&str, &str)]) -> String {
    let width = examples.iter().map(|(call, _)| call.chars().count()).max().unwrap_or(0);
    let lines = examples.iter().map(|(call, what)| format!("\n  {call:<width$}  {what}"));
    let note = if note.is_empty() { String::new() } else { format!("{note}\n\n") };
    format!("{note}Examples:{}", lines.collect::<String>())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::arguments::{Arguments, command};

    #[test]
    fn examples_are_what_the_program_understands() {
        for (_, _, examples) in EXAMPLES {
            for (call, _) in *examples {
                let call = call.split(" > ").next().unwrap_or_default();
                let parsed = Arguments::try_parse_from(call.split(' '));
                assert!(parsed.is_ok(), "{call}: {}", parsed.unwrap_err());
            }
        }
    }

    #[test]
    fn an_example_is_a_line() {
        for (words, _, examples) in EXAMPLES {
            for line in text("", examples).lines() {
                assert!(line.chars().count() <= 80, "{words:?}: {line}");
            }
        }
    }

    #[test]
    fn every_help_fits_its_columns_and_those_of_commands_have_examples() {
        fn look(command: &mut Command) {
            let name = command.get_name().to_owned();
            for help in [command.render_help(), command.render_long_help()].map(|help| help.to_string()) {
                let wide: Vec<&str> = help.lines().filter(|line| line.chars().count() > 80).collect();
                // A usage line is not wrapped.
                assert!(wide.iter().all(|line| line.starts_with("Usage: ")), "{name}: {wide:#?}");
            }
            command.get_subcommands_mut().filter(|command| command.get_name() != "help").for_each(look);
        }
        let mut command = command().term_width(80);
        command.build();
        let own = command.get_subcommands().filter(|command| command.get_name() != "help");
        let without: Vec<&str> =
            own.filter(|one| one.get_after_help().is_none()).map(Command::get_name).collect();
        assert!(without.is_empty(), "commands without an example: {without:?}");
        look(&mut command);
    }
}
