//! Sealed packets on their way into one send.

use isthmus_netlink::udp::{Batch, MAX_SEGMENTS, MAX_SEND_LEN};

use super::device::Device;
use super::outer::OuterHeader;

/// Packets of one length (the last may be shorter) with one outer header, back to back.
pub(super) struct SendBatch {
    buffer: Box<[u8]>,
    len: usize,
    count: usize,
    segment_len: usize,
    ended: bool,
    outer: Option<OuterHeader>,
}

impl SendBatch {
    pub(super) fn new() -> Self {
        Self {
            buffer: vec![0; MAX_SEND_LEN].into_boxed_slice(),
            len: 0,
            count: 0,
            segment_len: 0,
            ended: false,
            outer: None,
        }
    }

    /// Whether a packet of `len` bytes can go with those that are waiting.
    pub(super) fn fits(&self, len: usize, outer: OuterHeader) -> bool {
        self.count == 0
            || (!self.ended
                && self.count < MAX_SEGMENTS
                && len <= self.segment_len
                && self.len + len <= MAX_SEND_LEN
                && self.outer == Some(outer))
    }

    /// Room for a packet that fits. None if it is longer than any datagram.
    pub(super) fn room(&mut self, len: usize) -> Option<&mut [u8]> {
        self.buffer.get_mut(self.len..self.len + len)
    }

    /// Adds the packet that was written to [`SendBatch::room`].
    pub(super) fn add(&mut self, len: usize, outer: OuterHeader) {
        if self.count == 0 {
            self.segment_len = len;
            self.outer = Some(outer);
        }
        self.ended = len < self.segment_len;
        self.count += 1;
        self.len += len;
    }

    /// Sends what waits. Returns how many packets were lost.
    pub(super) fn flush(&mut self, device: &Device) -> usize {
        let (Some(outer), true) = (self.outer, self.count > 0) else {
            return 0;
        };
        let batch = Batch {
            bytes: &self.buffer[..self.len],
            segment_len: self.segment_len,
            traffic_class: outer.traffic_class,
        };
        let lost = device.send_esp(batch, outer);
        self.len = 0;
        self.count = 0;
        self.ended = false;
        lost
    }
}
