//! The kernel's side of the host: namespaces, links, routes, nftables, sysctls, TUN devices, batched UDP and raw ESP.
//!
//! The only home of `unsafe` in Isthmus. It does what it is told and reports what exists; where the desired state
//! comes from it does not know.
//!
//! To read or change namespaces, call [`visit()`]: it runs work on a thread of its own and hands it a [`Visitor`] that
//! goes from namespace to namespace, to [`Visitor::observe`] and to [`Visitor::execute`]. To learn that something
//! changed, keep a [`watch::Watcher`].

pub mod device;
pub mod fragmentation;
pub mod link;
pub mod namespace;
pub mod nft;
pub mod raw;
pub mod tun;
pub mod udp;
pub mod visit;
pub mod watch;

mod execute;
mod observe;
mod socket;
mod sysctl;

pub use execute::ExecuteError;
pub use observe::ObserveError;
pub use visit::{Visitor, visit};
