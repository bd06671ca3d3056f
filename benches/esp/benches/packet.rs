//! What one packet costs in each step of the packet path, without the kernel.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use isthmus_crypto::suite::{CipherSuite, KeyMaterial};
use isthmus_esp::offload::{NEEDS_CHECKSUM, PacketRun, Splitter, UdpJoining, VnetHeader};
use isthmus_esp::policy::Admission;
use isthmus_esp::{
    ConnectionHandle, InboundSa, OutboundDatabase, OutboundSa, Policy, ReplayWindow, Selectors, TrafficRange,
};
use isthmus_types::{Cidr, Encryption, Integrity};
use isthmus_wire::checksum;
use isthmus_wire::ip::IpHeader;
use zeroize::Zeroizing;

const SEGMENT: usize = 1386;
const SEGMENTS: usize = 45;

fn suites() -> Vec<CipherSuite> {
    [
        (Encryption::Aes128Gcm16, None),
        (Encryption::Aes256Gcm16, None),
        (Encryption::ChaCha20Poly1305, None),
        (Encryption::Aes128Cbc, Some(Integrity::HmacSha1_96)),
        (Encryption::Aes256Cbc, Some(Integrity::HmacSha2_256_128)),
    ]
    .into_iter()
    .map(|(encryption, integrity)| CipherSuite::new(encryption, integrity).expect("a valid pair"))
    .collect()
}

fn keys(suite: CipherSuite) -> KeyMaterial {
    KeyMaterial::new(
        Zeroizing::new(vec![1; suite.encryption_key_len()]),
        Zeroizing::new(vec![2; suite.integrity_key_len()]),
    )
}

fn cidr(text: &str) -> Cidr {
    text.parse().expect("a range")
}

fn selectors(local: &str, remote: &str) -> Selectors {
    Selectors {
        local: vec![TrafficRange::from_cidr(cidr(local))],
        remote: vec![TrafficRange::from_cidr(cidr(remote))],
    }
}

/// A super-packet as the TUN device gives it.
fn super_packet() -> Vec<u8> {
    let vnet = VnetHeader {
        flags: NEEDS_CHECKSUM,
        gso_type: 1,
        header_len: 52,
        gso_size: SEGMENT as u16,
        checksum_start: 20,
        checksum_offset: 16,
    };
    let total = (52 + SEGMENT * SEGMENTS) as u16;
    let mut packet = vnet.encode().to_vec();
    packet.extend([0x45, 0]);
    packet.extend(total.to_be_bytes());
    packet.extend([0, 1, 0x40, 0, 64, 6, 0, 0, 10, 1, 0, 1, 10, 2, 0, 1]);
    packet.extend([
        0x1f, 0x90, 0x1f, 0x91, 0, 0, 0, 1, 0, 0, 0, 1, 0x80, 0x10, 1, 0, 0, 0, 0, 0,
    ]);
    packet.extend([1; 12]);
    packet.extend(std::iter::repeat_n(7, SEGMENT * SEGMENTS));
    packet
}

fn segments() -> Vec<Vec<u8>> {
    let read = super_packet();
    let splitter = Splitter::new(&read).expect("well formed");
    (0..splitter.count())
        .map(|index| {
            let mut piece = vec![0; splitter.len_of(index)];
            splitter.write(index, &mut piece);
            piece
        })
        .collect()
}

fn seal_and_open(criterion: &mut Criterion) {
    let inner = &segments()[0];
    for suite in suites() {
        let mut group = criterion.benchmark_group(suite.to_string());
        group.throughput(Throughput::Bytes(inner.len() as u64));
        let mut sa = OutboundSa::new(256, suite, &keys(suite)).expect("keys fit");
        let mut packet = vec![0; sa.sealed_len(inner.len())];
        let offset = sa.payload_offset();
        group.bench_function("seal", |bencher| {
            bencher.iter(|| {
                packet[offset..offset + inner.len()].copy_from_slice(inner);
                sa.seal(&mut packet, inner.len(), 4)
            });
        });
        // Each packet opens once: seal a fresh one, and see the difference.
        let mut inbound = InboundSa::new(
            256,
            suite,
            &keys(suite),
            selectors("10.2.0.0/16", "10.1.0.0/16"),
            4096,
        )
        .expect("keys fit");
        group.bench_function("seal and open", |bencher| {
            bencher.iter(|| {
                packet[offset..offset + inner.len()].copy_from_slice(inner);
                sa.seal(&mut packet, inner.len(), 4)
                    .expect("sequence numbers left");
                inbound.open(&mut packet, 0).expect("authentic")
            });
        });
        group.finish();
    }
}

fn cut_and_join(criterion: &mut Criterion) {
    let read = super_packet();
    let pieces = segments();
    let mut out = vec![0; 2000];
    let mut group = criterion.benchmark_group("offload");
    group.throughput(Throughput::Bytes((SEGMENT * SEGMENTS) as u64));
    group.bench_function("cut 45 segments", |bencher| {
        bencher.iter(|| {
            let splitter = Splitter::new(black_box(&read)).expect("well formed");
            for index in 0..splitter.count() {
                let len = splitter.len_of(index);
                splitter.write(index, &mut out[..len]);
            }
        });
    });
    group.bench_function("join 45 segments", |bencher| {
        bencher.iter(|| {
            let header = IpHeader::decode(&pieces[0]).expect("well formed");
            let mut run = PacketRun::start(&header, &pieces[0], UdpJoining::Allowed).expect("joinable");
            for piece in &pieces[1..] {
                let header = IpHeader::decode(piece).expect("well formed");
                assert!(run.join(&header, piece));
            }
            run.finish().0
        });
    });
    group.finish();
}

fn look_up(criterion: &mut Criterion) {
    let mut packet = segments().swap_remove(0);
    packet[16..20].copy_from_slice(&[10, 2, 1, 1]);
    let packet = &packet;
    let header = IpHeader::decode(packet).expect("well formed");
    for count in [1u16, 100, 1000] {
        let mut database: OutboundDatabase<OutboundSa> = OutboundDatabase::new();
        for number in (1..=count).rev() {
            let remote = format!("10.{}.{}.0/24", number / 256 + 2, number % 256);
            let policy = Policy {
                local: cidr("10.1.0.0/16"),
                remote: cidr(&remote),
            };
            let handle = ConnectionHandle(u32::from(number));
            let suite = suites()[0];
            database.set_connection(handle, &[policy], Admission::Open);
            let sa = OutboundSa::new(256, suite, &keys(suite)).expect("keys fit");
            database.insert_sa(handle, 0, selectors("10.1.0.0/16", &remote), sa);
        }
        criterion.bench_function(&format!("route among {count} policies"), |bencher| {
            bencher.iter(|| database.route(black_box(&header), packet));
        });
    }
}

fn small_steps(criterion: &mut Criterion) {
    let packet = &segments()[0];
    criterion.bench_function("checksum of 1,438 bytes", |bencher| {
        bencher.iter(|| checksum::of(black_box(packet)));
    });
    let mut window = ReplayWindow::new(4096);
    let mut sequence = 0;
    criterion.bench_function("replay window, in order", |bencher| {
        bencher.iter(|| {
            sequence += 1;
            window.mark(sequence)
        });
    });
}

criterion_group!(benches, seal_and_open, cut_and_join, look_up, small_steps);
criterion_main!(benches);
