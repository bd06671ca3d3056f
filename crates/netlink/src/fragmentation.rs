//! Whether packets of a socket may be fragmented on the way.

use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

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

/// What a socket was told last, and how many sends rely on it now: threads that share a socket may want different
/// things. Those that want the same do not wait for each other.
#[derive(Debug, Default)]
pub(crate) struct FragmentationSwitch(AtomicU32);

// The lowest bits tell the state, the others count the sends.
const STATE: u32 = 3;
const UNSET: u32 = 0;
const ALLOWED: u32 = 1;
const FORBIDDEN: u32 = 2;
const ONE_SEND: u32 = 4;
const CHANGING: u32 = 3 | ONE_SEND;

impl FragmentationSwitch {
    /// Runs `send` with fragmentation as `wanted`.
    pub(crate) fn during<T>(
        &self,
        socket: &impl AsRawFd,
        local: IpAddr,
        wanted: Fragmentation,
        send: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        self.enter(wanted, || apply(socket, local, wanted))?;
        let _entered = Entered(&self.0);
        send()
    }

    fn enter(&self, wanted: Fragmentation, apply: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let state = match wanted {
            Fragmentation::Allowed => ALLOWED,
            Fragmentation::Forbidden => FORBIDDEN,
        };
        loop {
            let now = self.0.load(Ordering::Relaxed);
            let (entered, next) = if now & STATE == state {
                (true, now + ONE_SEND)
            } else if now < ONE_SEND {
                (false, CHANGING)
            } else {
                // A send that wants the opposite takes some microseconds.
                thread::yield_now();
                continue;
            };
            let taken = self
                .0
                .compare_exchange_weak(now, next, Ordering::Acquire, Ordering::Relaxed);
            match (taken, entered) {
                (Err(_), _) => {}
                (Ok(_), true) => return Ok(()),
                (Ok(_), false) => {
                    let applied = apply();
                    let reached = if applied.is_ok() { state + ONE_SEND } else { UNSET };
                    self.0.store(reached, Ordering::Release);
                    return applied;
                }
            }
        }
    }
}

/// A send that relies on the state.
struct Entered<'a>(&'a AtomicU32);

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(ONE_SEND, Ordering::Release);
    }
}

fn apply(socket: &impl AsRawFd, local: IpAddr, wanted: Fragmentation) -> io::Result<()> {
    let (level, option, [allowed, forbidden]) = match local {
        IpAddr::V4(_) => (
            libc::IPPROTO_IP,
            libc::IP_MTU_DISCOVER,
            [libc::IP_PMTUDISC_DONT, libc::IP_PMTUDISC_PROBE],
        ),
        IpAddr::V6(_) => (
            libc::IPPROTO_IPV6,
            libc::IPV6_MTU_DISCOVER,
            [libc::IPV6_PMTUDISC_DONT, libc::IPV6_PMTUDISC_PROBE],
        ),
    };
    let value = match wanted {
        Fragmentation::Allowed => allowed,
        Fragmentation::Forbidden => forbidden,
    };
    set_option(socket, level, option, value)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU8;

    use super::*;

    #[test]
    fn a_send_never_meets_the_opposite_of_what_it_wants() {
        let switch = FragmentationSwitch::default();
        // As the socket was told last.
        let told = AtomicU8::new(0);
        thread::scope(|scope| {
            for (mark, wanted) in [
                (1, Fragmentation::Allowed),
                (2, Fragmentation::Forbidden),
                (1, Fragmentation::Allowed),
                (2, Fragmentation::Forbidden),
            ] {
                let (switch, told) = (&switch, &told);
                scope.spawn(move || {
                    for _ in 0..2000 {
                        let tell = || {
                            told.store(mark, Ordering::SeqCst);
                            Ok(())
                        };
                        switch.enter(wanted, tell).unwrap();
                        let _entered = Entered(&switch.0);
                        assert_eq!(told.load(Ordering::SeqCst), mark);
                        thread::yield_now();
                        assert_eq!(told.load(Ordering::SeqCst), mark);
                    }
                });
            }
        });
        assert_eq!(switch.0.load(Ordering::SeqCst) / ONE_SEND, 0);
    }

    #[test]
    fn a_change_that_failed_is_tried_again() {
        let switch = FragmentationSwitch::default();
        let refuse = || Err(io::Error::from_raw_os_error(libc::EINVAL));
        assert!(switch.enter(Fragmentation::Allowed, refuse).is_err());
        let mut tried = false;
        let accept = || {
            tried = true;
            Ok(())
        };
        switch.enter(Fragmentation::Allowed, accept).unwrap();
        assert!(tried);
    }
}
