//! The host's side: fetches the plan, keeps it on disk, makes the kernel match it, and reports what it observed.

pub mod pass;

pub use pass::{Pass, PassError, reconcile};
