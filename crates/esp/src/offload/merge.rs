//! Joining consecutive TCP segments, or UDP datagrams, of one flow into one super-packet for the TUN device.
//!
//! Joined are only packets that the device, cutting the result, would give back: byte for byte, but for the
//! identification of IPv4 packets that may not be fragmented, which means nothing (RFC 6864 section 4.1).

use isthmus_wire::checksum::{self, Checksum};
use isthmus_wire::ip::{self, Fragment, IPV4_HEADER_LEN, IPV6_HEADER_LEN, IpHeader};
use isthmus_wire::tcp::{ACK, PSH, TCP_CHECKSUM_OFFSET, TcpHeader};
use isthmus_wire::udp::{UDP_CHECKSUM_OFFSET, UDP_HEADER_LEN};

use super::{GSO_TCPV4, GSO_TCPV6, GSO_UDP, NEEDS_CHECKSUM, VnetHeader};

/// Longest IP and TCP header together that a run starts with.
pub const MAX_HEADER_LEN: usize = IPV6_HEADER_LEN + 60;
/// Most bytes of a super-packet.
const MAX_TOTAL_LEN: usize = 65_535;
/// Most UDP datagrams of a super-packet that every kernel takes.
const MAX_DATAGRAMS: usize = 64;

/// Whether UDP datagrams may be joined: only a device that cuts them again takes them so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UdpJoining {
    /// They may.
    Allowed,
    /// Each must be written alone.
    Refused,
}

/// Consecutive packets of one TCP or UDP flow. It keeps the headers; the payloads stay where they are, with its owner.
#[derive(Clone, Debug)]
pub struct PacketRun {
    headers: [u8; MAX_HEADER_LEN],
    ip_len: usize,
    header_len: usize,
    upper: Upper,
    next_id: u16,
    piece: usize,
    payload: usize,
    count: usize,
    // A short packet or a push ends a run.
    ended: bool,
}

/// What goes on in the upper layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Upper {
    Tcp { next_sequence: u32 },
    Udp,
}

/// What a packet has to have in common with a run, and where its payload is.
struct Candidate {
    upper: Upper,
    pushed: bool,
    header_len: usize,
    payload: usize,
}

impl PacketRun {
    /// Starts a run with `packet`, whose header is `header`. None if the packet cannot be joined with any.
    pub fn start(header: &IpHeader, packet: &[u8], udp: UdpJoining) -> Option<Self> {
        let candidate = Candidate::of(header, packet, udp)?;
        let mut headers = [0; MAX_HEADER_LEN];
        headers
            .get_mut(..candidate.header_len)?
            .copy_from_slice(&packet[..candidate.header_len]);
        Some(Self {
            headers,
            ip_len: header.header_len,
            header_len: candidate.header_len,
            upper: candidate.upper.after(candidate.payload),
            next_id: identification(packet).wrapping_add(1),
            piece: candidate.payload,
            payload: candidate.payload,
            count: 1,
            ended: candidate.pushed,
        })
    }

    /// Bytes of headers that [`PacketRun::finish`] writes; in each packet of the run the payload begins there.
    pub const fn header_len(&self) -> usize {
        self.header_len
    }

    /// How many packets are in the run.
    pub const fn count(&self) -> usize {
        self.count
    }

    /// Whether nothing more can be joined, or nothing but a packet that is shorter than the others.
    pub const fn is_full(&self) -> bool {
        self.ended || self.header_len + self.payload + self.piece > MAX_TOTAL_LEN
    }

    /// Whether `packet` may be of the flow of this run, whatever else it carries; a fragment may be of any flow
    /// between the same addresses.
    pub fn shares_flow(&self, header: &IpHeader, packet: &[u8]) -> bool {
        let addresses = addresses(&self.headers);
        if header.protocol != self.protocol() || packet.get(addresses.clone()) != self.headers.get(addresses)
        {
            return false;
        }
        if header.fragment != Fragment::Whole {
            return true;
        }
        let at = self.ip_len;
        packet.get(header.header_len..header.header_len + 4) == self.headers.get(at..at + 4)
    }

    /// Takes `packet` into the run. False if it does not continue it; the run is then as before.
    pub fn join(&mut self, header: &IpHeader, packet: &[u8]) -> bool {
        if self.ended || header.header_len != self.ip_len || header.protocol != self.protocol() {
            return false;
        }
        let Some(candidate) = Candidate::of(header, packet, UdpJoining::Allowed) else {
            return false;
        };
        if candidate.header_len != self.header_len
            || candidate.upper != self.upper
            || candidate.payload > self.piece
            || self.header_len + self.payload + candidate.payload > MAX_TOTAL_LEN
            || !self.same_flow(header, packet)
        {
            return false;
        }
        self.upper = self.upper.after(candidate.payload);
        self.next_id = self.next_id.wrapping_add(1);
        self.payload += candidate.payload;
        self.count += 1;
        if candidate.pushed {
            self.headers[self.ip_len + 13] |= PSH;
        }
        self.ended = candidate.pushed
            || candidate.payload < self.piece
            || (self.upper == Upper::Udp && self.count == MAX_DATAGRAMS);
        true
    }

    /// Ends the run: what to tell the device, and the headers to put before all payloads.
    pub fn finish(&mut self) -> (VnetHeader, &[u8]) {
        if self.count > 1 {
            let total = self.header_len + self.payload;
            let checksum_offset = self.upper.checksum_offset();
            let gso_type = self.set_lengths(total, checksum_offset);
            let vnet = VnetHeader {
                flags: NEEDS_CHECKSUM,
                gso_type,
                header_len: self.header_len as u16,
                gso_size: self.piece as u16,
                checksum_start: self.ip_len as u16,
                checksum_offset: checksum_offset as u16,
            };
            return (vnet, &self.headers[..self.header_len]);
        }
        (VnetHeader::default(), &self.headers[..self.header_len])
    }

    fn set_lengths(&mut self, total: usize, checksum_offset: usize) -> u8 {
        let upper_len = total - self.ip_len;
        let headers = &mut self.headers[..self.header_len];
        let tcp_type = if headers[0] >> 4 == 4 {
            put(headers, 2, total as u16);
            put(headers, 10, 0);
            let sum = checksum::of(&headers[..self.ip_len]);
            put(headers, 10, sum);
            GSO_TCPV4
        } else {
            put(headers, 4, (total - IPV6_HEADER_LEN) as u16);
            GSO_TCPV6
        };
        let (protocol, gso_type) = match self.upper {
            Upper::Tcp { .. } => (ip::TCP, tcp_type),
            Upper::Udp => {
                put(headers, self.ip_len + 4, upper_len as u16);
                (ip::UDP, GSO_UDP)
            }
        };
        let partial = Checksum::new()
            .bytes(&headers[addresses(headers)])
            .word(u16::from(protocol))
            .long(upper_len as u32)
            .folded();
        put(headers, self.ip_len + checksum_offset, partial);
        gso_type
    }

    fn same_flow(&self, header: &IpHeader, packet: &[u8]) -> bool {
        let same = |from: usize, to: usize| self.headers[from..to] == packet[from..to];
        let ip_same = if packet[0] >> 4 == 4 {
            same(0, 2)
                && same(6, 10)
                && same(12, 20)
                && (header.dont_fragment || identification(packet) == self.next_id)
        } else {
            same(0, 4) && same(6, 40)
        };
        let at = self.ip_len;
        let upper_same = match self.upper {
            Upper::Tcp { .. } => {
                same(at + 8, at + 13) && same(at + 14, at + 16) && same(at + 18, self.header_len)
            }
            Upper::Udp => true,
        };
        ip_same && same(at, at + 4) && upper_same
    }

    const fn protocol(&self) -> u8 {
        match self.upper {
            Upper::Tcp { .. } => ip::TCP,
            Upper::Udp => ip::UDP,
        }
    }
}

impl Upper {
    /// What the packet after one of `payload` bytes has.
    const fn after(self, payload: usize) -> Self {
        match self {
            Self::Tcp { next_sequence } => Self::Tcp {
                next_sequence: next_sequence.wrapping_add(payload as u32),
            },
            Self::Udp => Self::Udp,
        }
    }

    const fn checksum_offset(self) -> usize {
        match self {
            Self::Tcp { .. } => TCP_CHECKSUM_OFFSET,
            Self::Udp => UDP_CHECKSUM_OFFSET,
        }
    }
}

impl Candidate {
    fn of(header: &IpHeader, packet: &[u8], udp: UdpJoining) -> Option<Self> {
        let plain_ip = match packet.first()? >> 4 {
            4 => header.header_len == IPV4_HEADER_LEN,
            _ => header.header_len == IPV6_HEADER_LEN,
        };
        if !plain_ip || header.fragment != Fragment::Whole {
            return None;
        }
        let upper = packet.get(header.header_len..header.total_len)?;
        let found = match header.protocol {
            ip::TCP => Self::tcp(header, upper),
            ip::UDP if udp == UdpJoining::Allowed => Self::udp(header, upper),
            _ => None,
        }?;
        // A wrong checksum must reach the receiver as it is, not be replaced by a right one.
        let sum = Checksum::new()
            .bytes(&packet[addresses(packet)])
            .word(u16::from(header.protocol))
            .long(upper.len() as u32)
            .bytes(upper);
        let header_sum_right =
            header.header_len == IPV6_HEADER_LEN || checksum::of(&packet[..header.header_len]) == 0;
        (sum.finish() == 0 && header_sum_right).then_some(found)
    }

    fn tcp(header: &IpHeader, segment: &[u8]) -> Option<Self> {
        let tcp = TcpHeader::decode(segment).ok()?;
        let payload = segment.len() - tcp.header_len;
        if payload == 0 || tcp.flags & !PSH != ACK {
            return None;
        }
        Some(Self {
            upper: Upper::Tcp {
                next_sequence: tcp.sequence,
            },
            pushed: tcp.flags & PSH != 0,
            header_len: header.header_len + tcp.header_len,
            payload,
        })
    }

    fn udp(header: &IpHeader, datagram: &[u8]) -> Option<Self> {
        let udp = datagram.first_chunk::<UDP_HEADER_LEN>()?;
        let payload = datagram.len() - UDP_HEADER_LEN;
        let length = usize::from(u16::from_be_bytes([udp[4], udp[5]]));
        // Zero means "no checksum" (RFC 768): cut again, each datagram would have one.
        let summed = udp[UDP_CHECKSUM_OFFSET..] != [0, 0];
        if payload == 0 || length != datagram.len() || !summed {
            return None;
        }
        Some(Self {
            upper: Upper::Udp,
            pushed: false,
            header_len: header.header_len + UDP_HEADER_LEN,
            payload,
        })
    }
}

/// Where an IP header has its addresses.
const fn addresses(packet: &[u8]) -> std::ops::Range<usize> {
    if packet[0] >> 4 == 4 { 12..20 } else { 8..40 }
}

fn identification(packet: &[u8]) -> u16 {
    u16::from_be_bytes([packet[4], packet[5]])
}

fn put(out: &mut [u8], at: usize, value: u16) {
    out[at..at + 2].copy_from_slice(&value.to_be_bytes());
}
