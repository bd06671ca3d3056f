//! Sealed packets on their way into one send.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;

use isthmus_netlink::udp::{Batch, MAX_SEGMENTS, MAX_SEND_LEN, UdpSocket};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// How long a full socket is waited for before its packets are dropped, in milliseconds.
const PATIENCE: u16 = 200;

/// Packets of one length (the last may be shorter) to one peer, back to back.
pub(super) struct SendBatch {
    buffer: Box<[u8]>,
    len: usize,
    count: usize,
    segment_len: usize,
    ended: bool,
    remote: Option<SocketAddr>,
    traffic_class: u8,
}

impl SendBatch {
    pub(super) fn new() -> Self {
        Self {
            buffer: vec![0; MAX_SEND_LEN].into_boxed_slice(),
            len: 0,
            count: 0,
            segment_len: 0,
            ended: false,
            remote: None,
            traffic_class: 0,
        }
    }

    /// Whether a packet of `len` bytes can go with those that are waiting.
    pub(super) fn fits(&self, len: usize, remote: SocketAddr, traffic_class: u8) -> bool {
        self.count == 0
            || (!self.ended
                && self.count < MAX_SEGMENTS
                && len <= self.segment_len
                && self.len + len <= MAX_SEND_LEN
                && self.remote == Some(remote)
                && self.traffic_class == traffic_class)
    }

    /// Room for a packet that fits. None if it is longer than any datagram.
    pub(super) fn room(&mut self, len: usize) -> Option<&mut [u8]> {
        self.buffer.get_mut(self.len..self.len + len)
    }

    /// Adds the packet that was written to [`SendBatch::room`].
    pub(super) fn add(&mut self, len: usize, remote: SocketAddr, traffic_class: u8) {
        if self.count == 0 {
            self.segment_len = len;
            self.remote = Some(remote);
            self.traffic_class = traffic_class;
        }
        self.ended = len < self.segment_len;
        self.count += 1;
        self.len += len;
    }

    /// Sends what waits. Returns how many packets were lost.
    pub(super) fn flush(&mut self, socket: &UdpSocket) -> usize {
        let (Some(remote), true) = (self.remote, self.count > 0) else {
            return 0;
        };
        let batch = Batch {
            bytes: &self.buffer[..self.len],
            segment_len: self.segment_len,
            traffic_class: self.traffic_class,
        };
        let lost = match socket.send_batch(batch, remote) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                wait_writable(socket);
                socket.send_batch(batch, remote)
            }
            result => result,
        };
        let lost = lost.unwrap_or(self.count);
        self.len = 0;
        self.count = 0;
        self.ended = false;
        lost
    }
}

fn wait_writable(socket: &UdpSocket) {
    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
    // Whatever the answer, the send that follows tells.
    let _ = poll(&mut fds, PollTimeout::from(PATIENCE));
}
