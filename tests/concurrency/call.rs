//! Calling a plugin that may be killed.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

/// How a call ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Answer {
    /// With this result; null where there is none.
    Success(Value),
    /// With this error.
    Refused(String),
    /// We killed it.
    Killed,
}

impl Answer {
    /// The result of a call that nothing happened to.
    pub(crate) fn expect(self, what: &str) -> Value {
        match self {
            Answer::Success(result) => result,
            other => panic!("{what}: {other:?}"),
        }
    }
}

/// The codes that the specification gives a meaning, and those that it leaves to plugins.
fn is_known(code: u64) -> bool {
    matches!(code, 1..=8 | 11 | 50 | 51 | 100..)
}

/// Calls a plugin; after `doom` it is killed, if it still runs. Panics where the answer is none of the protocol.
pub(crate) fn call(
    program: &Path,
    environment: &[(&str, &str)],
    config: &Value,
    doom: Option<Duration>,
) -> Answer {
    let mut child = Command::new(program)
        .env_clear()
        .envs(environment.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    // A configuration fits into the pipe, so nobody has to wait for it to be read.
    child.stdin.take().expect("a pipe").write_all(config.to_string().as_bytes()).expect("it fits");
    if let Some(moment) = doom {
        std::thread::sleep(moment);
        child.kill().expect("it is ours");
    }
    let output = child.wait_with_output().expect("it ends");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let what = || format!("{} {environment:?}: {}, {stdout:?}, {stderr:?}", program.display(), output.status);
    let json: Option<Value> = match stdout.trim() {
        "" => Some(Value::Null),
        text => serde_json::from_str(text).ok(),
    };
    match (output.status.code(), json) {
        (None, _) if doom.is_some() => Answer::Killed,
        (Some(0), Some(result)) => Answer::Success(result),
        (Some(1), Some(error)) => {
            let code = error["code"].as_u64().unwrap_or_default();
            let message = error["msg"].as_str().unwrap_or_default();
            assert!(is_known(code) && !message.is_empty(), "{}", what());
            Answer::Refused(format!("{code}: {message}: {}", error["details"]))
        }
        _ => panic!("this is no answer: {}", what()),
    }
}
