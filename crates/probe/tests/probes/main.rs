//! Each probe where it works and where it does not, in namespaces of the test's own.

mod amount;
mod capture;
mod net;
mod reach;
