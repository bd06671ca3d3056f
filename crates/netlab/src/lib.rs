//! Real network topologies of this machine's kernel, for tests and benchmarks: namespaces joined by veth pairs, the
//! traffic that proves them, and the daemons under test in them.
//!
//! A [`Lab`] owns its namespaces. Their names carry the process id of the owner, so that labs of several processes
//! stand side by side, and everything is removed when the lab is dropped, also by a panic; what a killed process left
//! behind is removed by the next lab that is made ([`sweep()`]). Nothing outside these namespaces is touched, and no
//! interface of a lab is ever visible in the host's own namespace.
//!
//! Drive it so: make a [`TwoSites`], start a [`StrongSwan`] or an [`Isthmus`] at each gateway, [`eventually`] wait for
//! what they report, then measure with [`Ping`], [`transfer()`], [`iperf3`](iperf::run) and [`LinkCounters`].
//!
//! It must not know the control plane; it is part of no binary that is shipped. It needs root and the Debian
//! packages that [`packages`] lists.

pub mod capture;
pub mod counters;
pub mod iperf;
pub mod isthmus;
pub mod libreswan;
pub mod memory;
mod mounts;
pub mod node;
pub mod patience;
pub mod ping;
pub mod proposal;
pub mod resident;
pub mod strongswan;
pub mod sweep;
pub mod topology;
pub mod transfer;
pub mod vici;

use std::path::Path;

pub use capture::Capture;
pub use counters::{LinkCount, LinkCounters};
pub use isthmus::Isthmus;
pub use libreswan::Libreswan;
pub use node::{Node, Running};
pub use patience::eventually;
pub use ping::{Ping, PingCount};
pub use resident::resident;
pub use strongswan::{Distribution, StrongSwan, SwanConnection};
pub use sweep::sweep;
pub use topology::{Family, Lab, Nat, Site, TwoSites, TwoSitesOptions};
pub use transfer::transfer;

/// What a lab needs beside what every Debian has: a file, and the package that brings it.
const NEEDS: &[(&str, &str)] = &[
    ("/usr/bin/iperf3", "iperf3"),
    ("/usr/sbin/ip", "iproute2"),
    (
        "/usr/lib/ipsec/plugins/libstrongswan-kernel-libipsec.so",
        "libcharon-extra-plugins",
    ),
    (
        "/usr/lib/ipsec/plugins/libstrongswan-openssl.so",
        "libstrongswan-standard-plugins",
    ),
    ("/usr/sbin/nft", "nftables"),
    ("/usr/lib/ipsec/charon", "strongswan-charon"),
    (
        "/usr/lib/ipsec/plugins/libstrongswan-vici.so",
        "strongswan-swanctl",
    ),
];

/// The Debian packages that a lab needs: exactly what to give to `apt-get install --no-install-recommends`.
pub fn packages() -> impl Iterator<Item = &'static str> {
    NEEDS.iter().map(|(_, package)| *package)
}

/// Those of [`packages`] that this machine lacks.
pub fn missing_packages() -> impl Iterator<Item = &'static str> {
    NEEDS
        .iter()
        .filter(|(file, _)| !Path::new(file).exists())
        .map(|(_, package)| *package)
}

/// Makes sure that a lab can work here.
///
/// # Errors
/// When we are not root, or packages are missing: with their names.
pub fn require() -> anyhow::Result<()> {
    anyhow::ensure!(nix::unistd::geteuid().is_root(), "network namespaces need root");
    let missing: Vec<&str> = missing_packages().collect();
    anyhow::ensure!(
        missing.is_empty(),
        "missing Debian packages: {}",
        missing.join(" ")
    );
    Ok(())
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
