//! What Debian's reference plugins (1.1.1) are known to fail, each with why.

pub(crate) const KNOWN: [(&str, &str); 0] = [];
