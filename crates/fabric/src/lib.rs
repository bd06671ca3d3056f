//! What a host plan means in kernel objects, and what must be done to get there.
//!
//! [`compile`] turns a plan into desired state, one [`Desired`] for each VPC and one for the host's own part.
//! [`diff()`] compares it with what was observed and yields ordered operations. Everything here is a pure
//! function: no system call, no clock, no memory of earlier passes.
//!
//! To reconcile: observe every namespace that [`Desired::namespaces`] names, call [`diff()`], carry out its steps in
//! order, observe again and call [`diff()`] again. Objects that own a remaining step are not as planned.
//!
//! What is ours can be told from the kernel alone: namespaces carry the realm in their name, routes, rules,
//! addresses and neighbours our protocol number, nft tables our name.

pub mod compile;
pub mod diff;
pub mod name;
pub mod operation;
pub mod ruleset;
pub mod state;

pub use compile::{internet, tunnels, vpc};
pub use diff::{Blocked, Difference, Step, diff};
pub use operation::Operation;
pub use ruleset::{ObservedRuleset, Ruleset, Table};
pub use state::{
    Claim, Desired, LinkKind, Observed, ObservedKind, ObservedLink, ObservedNamespace, Owner, Place, Route,
    RouteKey, RouteTarget, Rule,
};
