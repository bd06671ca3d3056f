//! Waiting until a link takes packets.
//!
//! The kernel gives a link its queue a little after somebody has taken its other end, such as a daemon that opens a TUN
//! device. What is sent before that is lost without a word.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv};

use crate::socket::RouteSocket;

/// Group of links (`RTNLGRP_LINK` in `linux/rtnetlink.h`).
const LINK_GROUP: u32 = 1;
/// What the kernel calls the queue of a link that has none yet: it throws everything away.
const NO_QUEUE_YET: &str = "noop";

/// A look at one link of a namespace.
pub struct LinkWatch {
    name: String,
    questions: RouteSocket,
    announcements: Socket,
}

impl LinkWatch {
    /// A look at the link `name` of the namespace that the calling thread is in; it may be used on another thread.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn open(name: &str) -> io::Result<Self> {
        let mut announcements = Socket::new(NETLINK_ROUTE)?;
        announcements.bind(&SocketAddr::new(0, 0))?;
        announcements.add_membership(LINK_GROUP)?;
        announcements.set_non_blocking(true)?;
        Ok(Self {
            name: name.to_owned(),
            questions: RouteSocket::open()?,
            announcements,
        })
    }

    /// Whether what is sent to the link now gets to its other end.
    ///
    /// # Errors
    /// Those of the kernel, such as that there is no such link.
    pub fn takes_packets(&mut self) -> io::Result<bool> {
        let mut request = LinkMessage::default();
        request.attributes.push(LinkAttribute::IfName(self.name.clone()));
        let answer = self.questions.ask(RouteNetlinkMessage::GetLink(request))?;
        let Some(RouteNetlinkMessage::NewLink(link)) = answer else {
            return Ok(false);
        };
        let has_queue = link
            .attributes
            .iter()
            .any(|attribute| matches!(attribute, LinkAttribute::Qdisc(queue) if queue != NO_QUEUE_YET));
        Ok(has_queue && link.header.flags.contains(LinkFlags::Up | LinkFlags::LowerUp))
    }

    /// Waits until the link takes packets, at most for `limit`; false if it did not.
    ///
    /// # Errors
    /// Those of [`LinkWatch::takes_packets`].
    pub fn wait(&mut self, limit: Duration) -> io::Result<bool> {
        let deadline = Instant::now() + limit;
        loop {
            // Whatever is announced after this look ends the sleep below.
            self.drain();
            if self.takes_packets()? {
                return Ok(true);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            // SAFETY: the descriptor is open for as long as `announcements` is borrowed, and is not -1.
            let socket = unsafe { BorrowedFd::borrow_raw(self.announcements.as_raw_fd()) };
            // One more, so that less than a millisecond is not none.
            let milliseconds = u16::try_from(left.as_millis().saturating_add(1)).unwrap_or(u16::MAX);
            match poll(
                &mut [PollFd::new(socket, PollFlags::POLLIN)],
                PollTimeout::from(milliseconds),
            ) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn drain(&self) {
        let mut buffer = [0; 512];
        // An overrun is an announcement too; what does not fit is cut off unread.
        while matches!(
            recv(
                self.announcements.as_raw_fd(),
                &mut buffer,
                MsgFlags::MSG_DONTWAIT
            ),
            Ok(_) | Err(Errno::ENOBUFS | Errno::EINTR)
        ) {}
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::namespace::{self, Namespace};
    use crate::tun::Tun;

    struct Temporary(String);

    impl Drop for Temporary {
        fn drop(&mut self) {
            namespace::remove(&self.0).unwrap();
        }
    }

    fn ip(namespace: &str, arguments: &str) {
        let mut command = Command::new("ip");
        command.args(arguments.split(' '));
        let mut child = namespace::spawn(namespace, &mut command).unwrap();
        assert!(child.wait().unwrap().success(), "{arguments}");
    }

    #[test]
    fn a_device_takes_packets_once_it_is_up_and_somebody_has_it_open() {
        let name = format!("istlw-{}", std::process::id());
        namespace::create(&name).unwrap();
        let place = Temporary(name);
        ip(&place.0, "tuntap add dev tun0 mode tun vnet_hdr");
        let namespace = Namespace::open(&place.0).unwrap();
        let mut watch = namespace.run(|| LinkWatch::open("tun0")).unwrap().unwrap();
        assert!(!watch.takes_packets().unwrap());
        ip(&place.0, "link set tun0 up");
        assert!(!watch.wait(Duration::ZERO).unwrap());
        let tun = namespace.run(|| Tun::attach("tun0")).unwrap().unwrap();
        assert!(watch.wait(Duration::from_secs(10)).unwrap());
        drop(tun);
        ip(&place.0, "link delete tun0");
        assert!(watch.takes_packets().is_err());
    }
}
