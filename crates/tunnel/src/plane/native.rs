//! What arrives at a gateway's raw sockets: ESP packets without UDP, and ICMP messages about packets of ours.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use isthmus_netlink::raw::{MAX_RECEIVED, Packet};
use isthmus_wire::esp::EspHeader;
use isthmus_wire::icmp;
use isthmus_wire::ip::{self, IpHeader};
use isthmus_wire::udp::UDP_HEADER_LEN;

use super::NAT_PORT;
use super::device::{Device, Outside};
use super::outer::native;

/// Messages about the path that are passed on in one [`PERIOD`]: they are not authenticated, and anybody may send more.
const MAX_REPORTS: u32 = 20;
const PERIOD: Duration = Duration::from_secs(1);
/// Longest ICMP message that is looked at; the quoted SPI stands far before.
const MESSAGE_LEN: usize = 1500;

/// An ICMP message says that our packets to `remote` with this SPI must be smaller. Nothing of it is authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathReport {
    /// Where the packet was going.
    pub remote: IpAddr,
    /// Its SPI.
    pub spi: u32,
    /// Largest outer packet that can pass, bytes; zero if the router did not say.
    pub mtu: u16,
}

/// ESP packets of one receive from the raw socket.
pub(super) struct NativePackets {
    packets: [Packet; MAX_RECEIVED],
    count: usize,
}

impl NativePackets {
    /// Receives into `buffer`; none if nothing waits.
    pub(super) fn receive(outside: &Outside, buffer: &mut [u8]) -> Option<Self> {
        let mut packets = [Packet::NONE; MAX_RECEIVED];
        loop {
            match outside.native.receive(buffer, &mut packets) {
                Ok(count) => return Some(Self { packets, count }),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
    }

    /// Each with its sender.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Packet, SocketAddr)> + '_ {
        self.packets[..self.count]
            .iter()
            .map(|packet| (*packet, native(packet.source)))
    }
}

/// Passes on what routers say about the path, as far as it may be about us.
pub(super) struct PathReports {
    buffer: Box<[u8]>,
    period: Instant,
    passed: u32,
}

impl PathReports {
    pub(super) fn new() -> Self {
        Self {
            buffer: vec![0; MESSAGE_LEN].into_boxed_slice(),
            period: Instant::now(),
            passed: 0,
        }
    }

    /// The next report that waits.
    pub(super) fn next(&mut self, device: &Device) -> Option<PathReport> {
        let outsides = device.outsides();
        outsides.iter().find_map(|outside| self.next_to(outside))
    }

    fn next_to(&mut self, outside: &Outside) -> Option<PathReport> {
        loop {
            let message = outside.icmp.receive(&mut self.buffer).ok()?;
            let Some(report) = read(message, outside.address) else {
                continue;
            };
            let now = Instant::now();
            if now.duration_since(self.period) >= PERIOD {
                self.period = now;
                self.passed = 0;
            }
            if self.passed < MAX_REPORTS {
                self.passed += 1;
                return Some(report);
            }
        }
    }
}

/// What `message` to `local` says, if it quotes an ESP packet of ours.
fn read(message: &[u8], local: IpAddr) -> Option<PathReport> {
    let too_big = icmp::read_too_big(local, message)?;
    let header = IpHeader::decode_quoted(too_big.quoted).ok()?;
    let upper = too_big.quoted.get(header.header_len..)?;
    let esp = match header.protocol {
        ip::ESP => upper,
        ip::UDP if upper.get(..2)? == NAT_PORT.to_be_bytes() => upper.get(UDP_HEADER_LEN..)?,
        _ => return None,
    };
    // Routers need to quote no more than eight bytes of what follows the IP header.
    let spi = match EspHeader::decode(esp) {
        Ok(esp) => esp.spi,
        Err(_) => u32::from_be_bytes(*esp.first_chunk()?),
    };
    (header.source == local).then_some(PathReport {
        remote: header.destination,
        spi,
        mtu: too_big.mtu,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(protocol: u8, upper: &[u8]) -> Vec<u8> {
        let mut message = vec![3, 4, 0, 0, 0, 0, 0x05, 0x14];
        message.extend([0x45, 0, 0x05, 0xdc, 0, 0, 0x40, 0, 63, protocol, 0, 0]);
        message.extend([192, 0, 2, 1, 198, 51, 100, 7]);
        message.extend_from_slice(upper);
        message
    }

    #[test]
    fn a_report_names_the_peer_the_spi_and_the_size() {
        let local: IpAddr = "192.0.2.1".parse().unwrap();
        let report = PathReport {
            remote: "198.51.100.7".parse().unwrap(),
            spi: 0xc001_d00d,
            mtu: 1300,
        };
        let esp = [0xc0, 0x01, 0xd0, 0x0d, 0, 0, 0, 9];
        assert_eq!(read(&v4(ip::ESP, &esp), local), Some(report));
        assert_eq!(read(&v4(ip::ESP, &esp[..4]), local), Some(report));
        let udp = [&[0x11, 0x94, 0x11, 0x94, 0, 100, 0, 0], &esp[..]].concat();
        assert_eq!(read(&v4(ip::UDP, &udp), local), Some(report));

        assert_eq!(read(&v4(ip::UDP, &udp[..8]), local), None, "no SPI is quoted");
        assert_eq!(read(&v4(ip::TCP, &udp), local), None);
        assert_eq!(read(&v4(ip::ESP, &esp), "192.0.2.2".parse().unwrap()), None);
        let mut unreachable = v4(ip::ESP, &esp);
        unreachable[1] = 3;
        assert_eq!(read(&unreachable, local), None);
        for length in 0..31 {
            assert_eq!(read(&v4(ip::ESP, &esp)[..length], local), None, "{length}");
        }
    }

    #[test]
    fn ipv6_routers_are_heard_too() {
        let mut message = vec![2, 0, 0, 0, 0, 0, 0x05, 0x64];
        message.extend([0x60, 0, 0, 0, 5, 0, ip::ESP, 63]);
        message.extend([0x20; 16]);
        message.extend([0x21; 16]);
        message.extend([0, 0, 1, 2, 0, 0, 0, 9]);
        let local = IpAddr::from([0x20; 16]);
        assert_eq!(
            read(&message, local),
            Some(PathReport {
                remote: IpAddr::from([0x21; 16]),
                spi: 0x102,
                mtu: 1380,
            })
        );
    }
}
