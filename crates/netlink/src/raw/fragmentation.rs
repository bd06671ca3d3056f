//! Whether packets of a socket may be fragmented on the way.

use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU8, Ordering};

use nix::libc;

use crate::udp::set_option;

/// Whether packets may be fragmented on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragmentation {
    /// By any router (IPv4), and by ourselves.
    Allowed,
    /// By nobody: packets longer than the link are refused. What the kernel has heard of the path is ignored, as anybody
    /// may have said it.
    Forbidden,
}

/// Remembers what a socket was told last, as it is asked before each send.
#[derive(Debug, Default)]
pub(crate) struct FragmentationSwitch(AtomicU8);

const UNSET: u8 = 0;
const ALLOWED: u8 = 1;
const FORBIDDEN: u8 = 2;

impl FragmentationSwitch {
    pub(crate) fn set(&self, socket: &impl AsRawFd, local: IpAddr, wanted: Fragmentation) -> io::Result<()> {
        let state = match wanted {
            Fragmentation::Allowed => ALLOWED,
            Fragmentation::Forbidden => FORBIDDEN,
        };
        if self.0.load(Ordering::Relaxed) == state {
            return Ok(());
        }
        apply(socket, local, wanted)?;
        self.0.store(state, Ordering::Relaxed);
        Ok(())
    }

    /// Runs `send` with fragmentation allowed.
    pub(crate) fn allowed_during(
        &self,
        socket: &impl AsRawFd,
        local: IpAddr,
        send: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let before = self.0.swap(UNSET, Ordering::Relaxed);
        apply(socket, local, Fragmentation::Allowed)?;
        let sent = send();
        if before == FORBIDDEN {
            apply(socket, local, Fragmentation::Forbidden)?;
        }
        sent
    }
}

fn apply(socket: &impl AsRawFd, local: IpAddr, wanted: Fragmentation) -> io::Result<()> {
    match (local, wanted) {
        (IpAddr::V4(_), Fragmentation::Allowed) => set_option(
            socket,
            libc::IPPROTO_IP,
            libc::IP_MTU_DISCOVER,
            libc::IP_PMTUDISC_DONT,
        ),
        (IpAddr::V4(_), Fragmentation::Forbidden) => set_option(
            socket,
            libc::IPPROTO_IP,
            libc::IP_MTU_DISCOVER,
            libc::IP_PMTUDISC_PROBE,
        ),
        (IpAddr::V6(_), Fragmentation::Allowed) => set_option(
            socket,
            libc::IPPROTO_IPV6,
            libc::IPV6_MTU_DISCOVER,
            libc::IPV6_PMTUDISC_DONT,
        ),
        (IpAddr::V6(_), Fragmentation::Forbidden) => set_option(
            socket,
            libc::IPPROTO_IPV6,
            libc::IPV6_MTU_DISCOVER,
            libc::IPV6_PMTUDISC_PROBE,
        ),
    }
}
