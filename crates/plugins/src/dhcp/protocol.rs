//! What plugin and daemon say to each other: one request a connection, one line of JSON each way, and before the answer a
//! line that says how long it may take.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cni::{Code, Error, Result};
use model::{AttachmentKey, ContainerId, IfName, NetworkName, NsInode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::lease::Lease;
use super::settings::Identity;

/// Of the protocol. A daemon of another version is not talked to.
const VERSION: u32 = 1;
/// The longest request is a GC's, which has every attachment of the node.
const LONGEST_LINE_BYTES: u64 = cni::MAX_CONFIG_BYTES;
/// How long either side waits for a line that is due at once.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Serialize, Deserialize)]
struct Envelope<T> {
    version: u32,
    #[serde(flatten)]
    body: T,
}

/// What the plugin wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "command")]
pub(super) enum Request {
    /// A lease for an interface, or the one that it has.
    Add {
        key: AttachmentKey,
        netns: PathBuf,
        /// So that the daemon, which opens the path anew, cannot end up in another namespace.
        ns_inode: NsInode,
        identity: Identity,
    },
    /// The lease back to the server.
    Del { key: AttachmentKey },
    /// The lease as it is.
    Check { key: AttachmentKey },
    /// Back to the server what belongs to no valid attachment of the network.
    Gc { network: NetworkName, valid: Vec<(ContainerId, IfName)> },
    /// Whether there is a daemon.
    Status,
}

#[derive(Debug, Serialize, Deserialize)]
struct Patience {
    patience_ms: u64,
}

/// What the daemon answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "answer")]
pub(super) enum Answer {
    /// To ADD and CHECK.
    Lease { lease: Box<Lease> },
    /// To the others.
    Done,
    /// To any.
    Failed { code: u32, message: String, details: String },
}

impl From<Result<Option<Lease>>> for Answer {
    fn from(result: Result<Option<Lease>>) -> Self {
        match result {
            Ok(Some(lease)) => Answer::Lease { lease: Box::new(lease) },
            Ok(None) => Answer::Done,
            Err(Error { code, message, details }) => Answer::Failed { code, message, details },
        }
    }
}

/// Why there is no answer.
pub(super) enum Unanswered {
    /// Nobody listens.
    NoDaemon(std::io::Error),
    /// Somebody does, but something is wrong.
    Failed(Error),
}

/// Asks the daemon; `None` is the answer of one that has nothing to say but that it is done.
pub(super) fn ask(socket: &Path, request: &Request) -> std::result::Result<Option<Lease>, Unanswered> {
    let mut stream = UnixStream::connect(socket).map_err(Unanswered::NoDaemon)?;
    let fail = |error: std::io::Error| {
        let message = format!("the DHCP daemon at {} does not answer", socket.display());
        Unanswered::Failed(Error::new(Code::TryAgain, message).details(error))
    };
    let wait = |stream: &UnixStream, patience| stream.set_read_timeout(Some(patience));
    stream.set_write_timeout(Some(PATIENCE)).and_then(|()| wait(&stream, PATIENCE)).map_err(fail)?;
    write(&mut stream, request).map_err(fail)?;
    let mut lines = BufReader::new(stream.try_clone().map_err(fail)?);
    let Patience { patience_ms } = read(&mut lines).map_err(fail)?;
    wait(&stream, Duration::from_millis(patience_ms) + PATIENCE).map_err(fail)?;
    match read(&mut lines).map_err(fail)? {
        Answer::Lease { lease } => Ok(Some(*lease)),
        Answer::Done => Ok(None),
        Answer::Failed { code, message, details } => {
            Err(Unanswered::Failed(Error { code, message, details }))
        }
    }
}

/// Serves one connection: `answer` is called with the request, after the plugin was told how long that may take.
pub(super) fn serve(
    stream: UnixStream,
    patience: Duration,
    answer: impl FnOnce(Request) -> Answer,
) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut writer = stream.try_clone()?;
    let request = match read(&mut BufReader::new(stream)) {
        Ok(request) => request,
        Err(error) => {
            let details = error.to_string();
            let message = "the daemon does not understand the request".to_owned();
            write(&mut writer, &Patience { patience_ms: 0 })?;
            return write(&mut writer, &Answer::Failed { code: Code::Decode as u32, message, details });
        }
    };
    let patience_ms = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
    write(&mut writer, &Patience { patience_ms })?;
    write(&mut writer, &answer(request))
}

fn write(stream: &mut UnixStream, body: &impl Serialize) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(&Envelope { version: VERSION, body })?;
    line.push(b'\n');
    stream.write_all(&line)
}

fn read<T: DeserializeOwned>(stream: &mut BufReader<UnixStream>) -> std::io::Result<T> {
    let mut line = Vec::new();
    stream.take(LONGEST_LINE_BYTES).read_until(b'\n', &mut line)?;
    let refuse = |why: String| std::io::Error::new(std::io::ErrorKind::InvalidData, why);
    if line.pop() != Some(b'\n') {
        return Err(refuse("the line is cut or too long".to_owned()));
    }
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let Versioned { version } = serde_json::from_slice(&line)?;
    if version != VERSION {
        return Err(refuse(format!("the other side speaks version {version}, this one {VERSION}")));
    }
    Ok(serde_json::from_slice::<Envelope<T>>(&line)?.body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_answers_whatever_is_said_to_it() {
        for (said, code) in [
            (&b"{\"version\":2,\"command\":\"status\"}\n"[..], Some(6)),
            (b"GET / HTTP/1.0\r\n\r\n", Some(6)),
            (b"{\"version\":1,\"command\":\"del\",\"key\":{\"network\":\"..\",\"container\":\"c\",\"ifname\":\"e\"}}\n", Some(6)),
            (b"{\"version\":1,\"command\":\"status\"}\n", None),
        ] {
            let (mut ours, theirs) = UnixStream::pair().unwrap();
            ours.write_all(said).unwrap();
            serve(theirs, Duration::ZERO, |_| Answer::Done).unwrap();
            let mut lines = BufReader::new(ours);
            let _: Patience = read(&mut lines).unwrap();
            match read(&mut lines).unwrap() {
                Answer::Failed { code: given, .. } => assert_eq!(Some(given), code),
                _ => assert_eq!(None, code),
            }
        }
    }
}
