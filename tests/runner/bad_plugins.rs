//! Plugins that do what no plugin should.

use serde_json::json;

use crate::{Rig, bridge, can_run, nothing, traces};

/// What a plugin does, what is said of its ADD, and of its DEL where that fails.
const CASES: [(&str, &str, Option<&str>); 9] = [
    ("echo this is no JSON", "printed something that is no result: this is no JSON", None),
    ("true", "succeeded without printing a result", None),
    ("echo null", "printed something that is no result: null", None),
    ("kill -KILL $$", "signal: 9", Some("signal: 9")),
    ("kill -SEGV $$", "signal: 11", Some("signal: 11")),
    ("exec sleep 1000", "took more than 6 s and was ended", Some("took more than 6 s and was ended")),
    ("exec >&- ; cat > /dev/null", "succeeded without printing a result", None),
    ("head -c 10000000 /dev/zero | tr '\\0' x", "printed more than 4 MiB", None),
    ("echo out of order >&2; exit 7", "out of order", Some("out of order")),
];

#[test]
fn whatever_a_plugin_does_the_rest_of_the_chain_is_undone_and_deleted() {
    if !can_run() {
        return;
    }
    let rig = Rig::new();
    rig.network("1.0.0", &[bridge(), json!({ "type": "bad" }), json!({ "type": "good" })]);
    rig.recorder("good", r#"echo '{"cniVersion":"1.0.0","dns":{}}'"#);
    podplumb_tests::run("ip", &["netns", "add", "a"]);
    for (text, says, says_of_del) in CASES {
        rig.script("bad", text);
        let (stdout, stderr) = rig.cni(1, &["add", "pods", "a", "a", "--timeout", "6s"]);
        assert!(
            stdout.is_empty() && stderr.contains("ADD of bad: ") && stderr.contains(says),
            "{text}: {stderr}"
        );
        assert_eq!(traces(), nothing(), "{text}");

        rig.script("bad", r#"echo '{"cniVersion":"1.0.0","dns":{}}'"#);
        rig.cni(0, &["add", "pods", "a", "a"]);
        rig.script("bad", text);
        rig.calls();
        let code = i32::from(says_of_del.is_some());
        let (_, stderr) = rig.cni(code, &["del", "pods", "a", "--timeout", "6s"]);
        assert!(says_of_del.is_none_or(|says| stderr.contains(says)), "{text}: {stderr}");
        assert_eq!(rig.calls().len(), 1, "{text}: good was called");
        if code == 1 {
            assert_eq!(traces(), ["pods-a-eth0"], "{text}: only what is needed to try again is left");
            rig.script("bad", "true");
            rig.cni(0, &["del", "pods", "a"]);
        }
        assert_eq!(traces(), nothing(), "{text}");
    }
}

#[test]
fn a_plugin_that_leaves_a_child_with_its_stdout_is_answered_for() {
    if !can_run() {
        return;
    }
    let rig = Rig::new();
    let pid = rig.world.path().join("pid");
    rig.script(
        "lingers",
        &format!(
            "[ $CNI_COMMAND = ADD ] && {{ sleep 1000 & echo $! > {}; echo '{{\"cniVersion\":\"1.0.0\",\"dns\":{{}}}}'; }}; true",
            pid.display()
        ),
    );
    rig.network("1.0.0", &[json!({ "type": "lingers" })]);
    let (stdout, _) = rig.cni(0, &["add", "pods", "a", "/proc/self/ns/net"]);
    podplumb_tests::kill(std::fs::read_to_string(&pid).unwrap().trim().parse().unwrap());
    assert!(stdout.contains("\"cniVersion\": \"1.0.0\""), "{stdout}");
    rig.cni(0, &["del", "pods", "a"]);
}
