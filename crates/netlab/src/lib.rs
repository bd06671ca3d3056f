//! Real network topologies of this machine's kernel, for tests and benchmarks: namespaces joined by veth pairs, the
//! traffic that proves them, and the daemons under test in them.
//!
//! A [`Lab`] owns its namespaces. Their names carry the process id of the owner, so that labs of several processes
//! stand side by side, and everything is removed when the lab is dropped, also by a panic; what a killed process left
//! behind is removed by the next lab that is made ([`sweep`]). Nothing outside these namespaces is touched, and no
//! interface of a lab is ever visible in the host's own namespace.
//!
//! Drive it so: make a [`TwoSites`], start a [`StrongSwan`] or an [`Isthmus`] at each gateway, [`eventually`] wait for
//! what they report, then measure with [`Ping`], [`transfer`], [`iperf3`](iperf::run) and [`LinkCounters`].
//!
//! It must not know the control plane; it is part of no binary that is shipped. It needs root and the Debian
//! packages that [`packages`] lists.

pub mod counters;
pub mod iperf;
pub mod isthmus;
pub mod node;
pub mod patience;
pub mod ping;
pub mod strongswan;
pub mod sweep;
pub mod topology;
pub mod transfer;
pub mod vici;

pub use counters::{LinkCount, LinkCounters};
pub use isthmus::Isthmus;
pub use node::{Node, Running};
pub use patience::eventually;
pub use ping::{Ping, PingCount};
pub use strongswan::{StrongSwan, SwanConnection};
pub use sweep::sweep;
pub use topology::{Lab, Nat, Site, TwoSites, TwoSitesOptions};
pub use transfer::transfer;

/// The Debian packages that a lab needs, without those that every Debian has: exactly what to give to `apt-get install
/// --no-install-recommends`.
pub const fn packages() -> &'static [&'static str] {
    &[
        "iperf3",
        "iproute2",
        "libcharon-extra-plugins",
        "libstrongswan-standard-plugins",
        "nftables",
        "strongswan-charon",
        "strongswan-swanctl",
    ]
}

/// The systemd units that [`packages`] would start in the host's own namespace: mask them before installing, since a
/// daemon there takes UDP 500 and 4500 of the host and installs policies of its own.
pub const fn services_to_mask() -> &'static [&'static str] {
    &[
        "iperf3.service",
        "strongswan-starter.service",
        "strongswan.service",
    ]
}
