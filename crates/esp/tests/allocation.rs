//! The way of a packet through this crate takes no memory from the allocator.

#![expect(clippy::unwrap_used, reason = "a test: what is wrong shall stop it")]

use isthmus_crypto::suite::{CipherSuite, KeyMaterial};
use isthmus_esp::offload::{NEEDS_CHECKSUM, PacketRun, Splitter, UdpJoining, VnetHeader};
use isthmus_esp::policy::Admission;
use isthmus_esp::{
    ConnectionHandle, InboundSa, InboundTable, Lifetime, Opened, OutboundDatabase, OutboundSa, Policy,
    Selectors, SequenceNumbers, TrafficRange, Verdict,
};
use isthmus_types::{Cidr, Encryption, Integrity};
use isthmus_wire::esp::EspHeader;
use zeroize::Zeroizing;

const SPI: u32 = 0x1000_0001;
const PAYLOAD: usize = 40 * 1400;

/// What the TUN device gives: a super-packet of TCP over IPv4.
fn super_packet() -> Vec<u8> {
    let vnet = VnetHeader {
        flags: NEEDS_CHECKSUM,
        gso_type: 1,
        header_len: 40,
        gso_size: 1400,
        checksum_start: 20,
        checksum_offset: 16,
    };
    let total = (40 + PAYLOAD) as u16;
    let mut packet = vnet.encode().to_vec();
    packet.extend([0x45, 0]);
    packet.extend(total.to_be_bytes());
    packet.extend([0, 1, 0x40, 0, 64, 6, 0, 0, 10, 1, 0, 1, 10, 2, 0, 1]);
    packet.extend([
        0x1f, 0x90, 0x1f, 0x91, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 1, 0, 0, 0, 0, 0,
    ]);
    packet.extend(std::iter::repeat_n(7, PAYLOAD));
    packet
}

struct Path {
    database: OutboundDatabase<OutboundSa>,
    table: InboundTable<()>,
    read: Vec<u8>,
    wire: Vec<u8>,
}

impl Path {
    fn new(suite: CipherSuite, numbers: SequenceNumbers) -> Self {
        let keys = KeyMaterial::new(
            Zeroizing::new(vec![1; suite.encryption_key_len()]),
            Zeroizing::new(vec![2; suite.integrity_key_len()]),
        );
        let (here, there): (Cidr, Cidr) = ("10.1.0.0/16".parse().unwrap(), "10.2.0.0/16".parse().unwrap());
        let selectors = |local, remote| Selectors {
            local: vec![TrafficRange::from_cidr(local)],
            remote: vec![TrafficRange::from_cidr(remote)],
        };
        let mut database = OutboundDatabase::new();
        let policy = Policy {
            local: here,
            remote: there,
        };
        database.set_connection(ConnectionHandle(1), &[policy], Admission::Open);
        let lifetime = Lifetime::new(suite, numbers, None, None);
        let sa = OutboundSa::new(SPI, suite, &keys)
            .unwrap()
            .with_limits(numbers, lifetime);
        database.insert_sa(ConnectionHandle(1), 0, selectors(here, there), sa);
        let mut table = InboundTable::default();
        let sa = InboundSa::new(SPI, suite, &keys, selectors(there, here), 4096)
            .unwrap()
            .with_limits(numbers, lifetime);
        table.insert(sa, ());
        Self {
            database,
            table,
            read: super_packet(),
            wire: vec![0; 2000],
        }
    }

    /// Sends the super-packet through; returns how many segments were joined again at the other end.
    fn pass(&mut self) -> usize {
        let splitter = Splitter::new(&self.read).unwrap();
        let Verdict::Seal(handle) = self.database.route(splitter.header(), splitter.packet()) else {
            panic!("no SA");
        };
        let (_, sa) = self.database.sa(handle).unwrap();
        let mut run: Option<PacketRun> = None;
        for index in 0..splitter.count() {
            let inner_len = splitter.len_of(index);
            let packet = &mut self.wire[..sa.sealed_len(inner_len)];
            let offset = sa.payload_offset();
            splitter.write(index, &mut packet[offset..offset + inner_len]);
            sa.seal(packet, inner_len, 4).unwrap();

            let spi = EspHeader::decode(packet).unwrap().spi;
            let (inbound, ()) = self.table.find(spi).unwrap();
            let Opened::Inner { offset, header } = inbound.open(packet, 0).unwrap().opened else {
                panic!("a dummy");
            };
            let inner = &packet[offset..offset + header.total_len];
            match &mut run {
                Some(run) => assert!(run.join(&header, inner)),
                None => run = PacketRun::start(&header, inner, UdpJoining::Allowed),
            }
        }
        let mut run = run.unwrap();
        assert_eq!(run.finish().0.gso_size, 1400);
        run.count()
    }
}

#[test]
fn a_super_packet_goes_through_without_allocation() {
    let suites = [
        (Encryption::Aes256Gcm16, None),
        (Encryption::ChaCha20Poly1305, None),
        (Encryption::Aes128Cbc, Some(Integrity::HmacSha1_96)),
        (Encryption::Aes256Cbc, Some(Integrity::HmacSha2_512_256)),
    ];
    for (encryption, integrity) in suites {
        let suite = CipherSuite::new(encryption, integrity).unwrap();
        for numbers in [SequenceNumbers::Short, SequenceNumbers::Extended] {
            let mut path = Path::new(suite, numbers);
            assert_eq!(path.pass(), 40);
            let counted = allocation_counter::measure(|| {
                assert_eq!(path.pass(), 40);
            });
            assert_eq!(counted.count_total, 0, "{suite}, {numbers:?}");
        }
    }
}
