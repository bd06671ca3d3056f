//! Joining consecutive TCP segments into one super-packet for the TUN device.
//!
//! Joined are only segments that the device, cutting the result, would give back: byte for byte, but for the
//! identification of IPv4 packets that may not be fragmented, which means nothing (RFC 6864 section 4.1).

use isthmus_wire::checksum::{self, Checksum};
use isthmus_wire::ip::{self, Fragment, IPV4_HEADER_LEN, IPV6_HEADER_LEN, IpHeader};
use isthmus_wire::tcp::{ACK, PSH, TCP_CHECKSUM_OFFSET, TcpHeader};

use super::{GSO_TCPV4, GSO_TCPV6, NEEDS_CHECKSUM, VnetHeader};

/// Longest IP and TCP header together that a run starts with.
const MAX_HEADER_LEN: usize = IPV6_HEADER_LEN + 60;
/// Most bytes of a super-packet.
const MAX_TOTAL_LEN: usize = 65_535;

/// Consecutive segments of one TCP flow. It keeps the headers; the payloads stay where they are, with its owner.
#[derive(Clone, Debug)]
pub struct TcpRun {
    headers: [u8; MAX_HEADER_LEN],
    ip_len: usize,
    header_len: usize,
    next_sequence: u32,
    next_id: u16,
    piece: usize,
    payload: usize,
    count: usize,
    // A short segment or a push ends a run.
    ended: bool,
}

/// What a segment has to have in common with a run, and where its payload is.
struct Candidate {
    tcp: TcpHeader,
    header_len: usize,
    payload: usize,
}

impl TcpRun {
    /// Starts a run with `packet`, whose header is `header`. None if the packet cannot be joined with any.
    pub fn start(header: &IpHeader, packet: &[u8]) -> Option<Self> {
        let candidate = Candidate::of(header, packet)?;
        let mut headers = [0; MAX_HEADER_LEN];
        headers
            .get_mut(..candidate.header_len)?
            .copy_from_slice(&packet[..candidate.header_len]);
        Some(Self {
            headers,
            ip_len: header.header_len,
            header_len: candidate.header_len,
            next_sequence: candidate.tcp.sequence.wrapping_add(candidate.payload as u32),
            next_id: identification(packet).wrapping_add(1),
            piece: candidate.payload,
            payload: candidate.payload,
            count: 1,
            ended: candidate.tcp.flags & PSH != 0,
        })
    }

    /// Bytes of headers that [`TcpRun::finish`] writes; in each packet of the run the payload begins there.
    pub const fn header_len(&self) -> usize {
        self.header_len
    }

    /// How many packets are in the run.
    pub const fn count(&self) -> usize {
        self.count
    }

    /// Whether `packet` is of the flow of this run, whatever else it carries.
    pub fn shares_flow(&self, header: &IpHeader, packet: &[u8]) -> bool {
        let addresses = if self.headers[0] >> 4 == 4 { 12..20 } else { 8..40 };
        let at = self.ip_len;
        header.header_len == at
            && header.protocol == ip::TCP
            && packet.get(addresses.clone()) == self.headers.get(addresses)
            && packet.get(at..at + 4) == self.headers.get(at..at + 4)
    }

    /// Takes `packet` into the run. False if it does not continue it; the run is then as before.
    pub fn join(&mut self, header: &IpHeader, packet: &[u8]) -> bool {
        if self.ended {
            return false;
        }
        let Some(candidate) = Candidate::of(header, packet) else {
            return false;
        };
        if candidate.header_len != self.header_len
            || header.header_len != self.ip_len
            || candidate.tcp.sequence != self.next_sequence
            || candidate.payload > self.piece
            || self.header_len + self.payload + candidate.payload > MAX_TOTAL_LEN
            || !self.same_flow(header, packet)
        {
            return false;
        }
        self.next_sequence = self.next_sequence.wrapping_add(candidate.payload as u32);
        self.next_id = self.next_id.wrapping_add(1);
        self.payload += candidate.payload;
        self.count += 1;
        if candidate.tcp.flags & PSH != 0 {
            self.headers[self.ip_len + 13] |= PSH;
        }
        self.ended = candidate.tcp.flags & PSH != 0 || candidate.payload < self.piece;
        true
    }

    /// Ends the run: what to tell the device, and the headers to put before all payloads.
    pub fn finish(&mut self) -> (VnetHeader, &[u8]) {
        if self.count > 1 {
            let total = self.header_len + self.payload;
            let gso_type = self.set_lengths(total);
            let vnet = VnetHeader {
                flags: NEEDS_CHECKSUM,
                gso_type,
                header_len: self.header_len as u16,
                gso_size: self.piece as u16,
                checksum_start: self.ip_len as u16,
                checksum_offset: TCP_CHECKSUM_OFFSET as u16,
            };
            return (vnet, &self.headers[..self.header_len]);
        }
        (VnetHeader::default(), &self.headers[..self.header_len])
    }

    fn set_lengths(&mut self, total: usize) -> u8 {
        let headers = &mut self.headers[..self.header_len];
        let gso_type = if headers[0] >> 4 == 4 {
            put(headers, 2, total as u16);
            put(headers, 10, 0);
            let sum = checksum::of(&headers[..self.ip_len]);
            put(headers, 10, sum);
            GSO_TCPV4
        } else {
            put(headers, 4, (total - IPV6_HEADER_LEN) as u16);
            GSO_TCPV6
        };
        let addresses = if gso_type == GSO_TCPV4 { 12..20 } else { 8..40 };
        let partial = Checksum::new()
            .bytes(&headers[addresses])
            .word(u16::from(ip::TCP))
            .long((total - self.ip_len) as u32)
            .folded();
        put(headers, self.ip_len + TCP_CHECKSUM_OFFSET, partial);
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
        let tcp = self.ip_len;
        ip_same
            && same(tcp, tcp + 4)
            && same(tcp + 8, tcp + 13)
            && same(tcp + 14, tcp + 16)
            && same(tcp + 18, self.header_len)
    }
}

impl Candidate {
    fn of(header: &IpHeader, packet: &[u8]) -> Option<Self> {
        let plain_ip = match packet.first()? >> 4 {
            4 => header.header_len == IPV4_HEADER_LEN,
            _ => header.header_len == IPV6_HEADER_LEN,
        };
        if !plain_ip || header.protocol != ip::TCP || header.fragment != Fragment::Whole {
            return None;
        }
        let segment = packet.get(header.header_len..header.total_len)?;
        let tcp = TcpHeader::decode(segment).ok()?;
        let payload = segment.len() - tcp.header_len;
        if payload == 0 || tcp.flags & !PSH != ACK {
            return None;
        }
        // A wrong checksum must reach the receiver as it is, not be replaced by a right one.
        let sum = Checksum::new()
            .pseudo_header(header.source, header.destination, ip::TCP, segment.len() as u32)
            .bytes(segment);
        let header_sum_right =
            header.header_len == IPV6_HEADER_LEN || checksum::of(&packet[..header.header_len]) == 0;
        if sum.finish() != 0 || !header_sum_right {
            return None;
        }
        Some(Self {
            tcp,
            header_len: header.header_len + tcp.header_len,
            payload,
        })
    }
}

fn identification(packet: &[u8]) -> u16 {
    u16::from_be_bytes([packet[4], packet[5]])
}

fn put(out: &mut [u8], at: usize, value: u16) {
    out[at..at + 2].copy_from_slice(&value.to_be_bytes());
}
