//! Segmentation offload at the TUN device: cutting super-packets before sealing, joining segments after opening.
//!
//! The device puts a `virtio_net_hdr` before each packet (OASIS VIRTIO 1.2 section 5.1.6), in the host's byte order.

mod merge;
mod split;

pub use merge::{MAX_HEADER_LEN, PacketRun, UdpJoining};
pub use split::Splitter;

/// Bytes of the header that the device puts before each packet.
pub const VNET_HEADER_LEN: usize = 10;

/// The checksum at `checksum_start + checksum_offset` still lacks everything but the pseudo-header.
pub const NEEDS_CHECKSUM: u8 = 1;

/// No segmentation.
pub const GSO_NONE: u8 = 0;
/// TCP over IPv4.
pub const GSO_TCPV4: u8 = 1;
/// TCP over IPv6.
pub const GSO_TCPV6: u8 = 4;
/// UDP datagrams of equal length.
pub const GSO_UDP: u8 = 5;
/// Set beside a TCP kind if congestion window reduced is set on the first segment.
pub const GSO_ECN: u8 = 0x80;

/// What the device says about a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VnetHeader {
    /// [`NEEDS_CHECKSUM`] or zero.
    pub flags: u8,
    /// One of the `GSO_` values.
    pub gso_type: u8,
    /// Bytes of all headers before the payload.
    pub header_len: u16,
    /// Bytes of payload in each segment but the last.
    pub gso_size: u16,
    /// Where the sum starts.
    pub checksum_start: u16,
    /// Where, after the start, the checksum goes.
    pub checksum_offset: u16,
}

impl VnetHeader {
    /// Reads the header.
    pub fn decode(bytes: &[u8; VNET_HEADER_LEN]) -> Self {
        let half = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        Self {
            flags: bytes[0],
            gso_type: bytes[1],
            header_len: half(2),
            gso_size: half(4),
            checksum_start: half(6),
            checksum_offset: half(8),
        }
    }

    /// The header's bytes.
    pub fn encode(self) -> [u8; VNET_HEADER_LEN] {
        let [header_len, gso_size, start, offset] = [
            self.header_len,
            self.gso_size,
            self.checksum_start,
            self.checksum_offset,
        ]
        .map(u16::to_ne_bytes);
        [
            self.flags,
            self.gso_type,
            header_len[0],
            header_len[1],
            gso_size[0],
            gso_size[1],
            start[0],
            start[1],
            offset[0],
            offset[1],
        ]
    }
}

#[cfg(test)]
mod tests;
