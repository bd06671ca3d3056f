//! The kernel's side of the host: namespaces, links, routes, nftables, sysctls, TUN devices, batched UDP.
//!
//! The only home of `unsafe` in Isthmus. It does what it is told and reports what exists; where the desired state
//! comes from it does not know.

pub mod namespace;
pub mod tun;
pub mod udp;
