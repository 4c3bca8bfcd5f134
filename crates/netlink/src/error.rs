//! What can go wrong between a request and its answer.

use rustix::io::Errno;

/// A netlink result.
pub type Result<T> = std::result::Result<T, Error>;

/// A request that failed: which, on what object, and with what errno.
#[derive(Debug, thiserror::Error)]
#[error("{request}{}: {}{}", Spaced(object), errno_text(*errno), Detail(detail))]
pub struct Error {
    request: &'static str,
    object: String,
    errno: Errno,
    detail: Option<String>,
}

impl Error {
    pub(crate) fn new(request: &'static str, errno: Errno) -> Self {
        Self { request, object: String::new(), errno, detail: None }
    }

    /// From the negative number of an answer. What is no errno at all is a malformed answer.
    pub(crate) fn from_answer(request: &'static str, code: i32) -> Self {
        // MAX_ERRNO (include/linux/err.h).
        match code {
            -4095..0 => Self::new(request, Errno::from_raw_os_error(-code)),
            _ => Self::new(request, Errno::BADMSG),
        }
    }

    pub(crate) fn with_detail(mut self, detail: Option<String>) -> Self {
        self.detail = detail;
        self
    }

    /// Names the object that the request was about.
    #[must_use]
    pub fn on(mut self, object: impl std::fmt::Display) -> Self {
        if self.object.is_empty() {
            self.object = object.to_string();
        }
        self
    }

    /// The errno, as a positive number.
    pub fn raw_os_error(&self) -> i32 {
        self.errno.raw_os_error()
    }

    /// The thing asked for does not exist (ENODEV, ENOENT, ESRCH, EADDRNOTAVAIL).
    pub fn is_gone(&self) -> bool {
        matches!(self.errno, Errno::NODEV | Errno::NOENT | Errno::SRCH | Errno::ADDRNOTAVAIL | Errno::NXIO)
    }

    /// The kernel dropped messages because they were not read fast enough.
    pub fn is_overrun(&self) -> bool {
        self.errno == Errno::NOBUFS
    }

    /// The kernel was built without what is asked for.
    pub fn is_unsupported(&self) -> bool {
        matches!(self.errno, Errno::OPNOTSUPP | Errno::AFNOSUPPORT | Errno::PROTONOSUPPORT)
    }

    /// The thing to be made exists.
    pub fn exists(&self) -> bool {
        self.errno == Errno::EXIST
    }
}

fn errno_text(errno: Errno) -> String {
    std::io::Error::from_raw_os_error(errno.raw_os_error()).to_string()
}

struct Spaced<'a>(&'a str);

impl std::fmt::Display for Spaced<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, " {}", self.0) }
    }
}

struct Detail<'a>(&'a Option<String>);

impl std::fmt::Display for Detail<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(text) => write!(f, ": {text}"),
            None => Ok(()),
        }
    }
}
