//! Addresses for containers, in host-local's format.
//!
//! [`range`] is pure: which addresses a configuration offers, and in which order they are tried. [`store`] is the directory
//! of lease files with host-local's lock. [`allocate`](allocate::allocate) brings the two together, with [`takeover`] for when nothing is free but what an earlier boot left. The files are byte for byte those of the
//! reference plugin (plugins/ipam/host-local/backend/disk), so that it and podplumb can be exchanged on a live node.

pub mod allocate;
pub mod range;
pub mod store;
pub mod takeover;

pub use allocate::{AllocateError, Allocation, Request, allocate, free};
pub use range::{Range, RangeError, RangeSet, RangeSets, RangeSpec};
pub use store::{LeaseFile, Store, StoreError};
pub use takeover::{Past, Takeover};
