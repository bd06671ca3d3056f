//! Writes the seeds of the corpora anew: real messages, packets, certificates and requests. `cargo run -p
//! isthmus-fuzzing --example seeds`, in the checkout. What fuzzing added to a corpus stays; the root of the
//! certificates is a new one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use isthmus_hostplan::tunnel::{
    ConnectionPlan, DpdAction, EstablishMode, GatewayTunnels, IkeIdentity, PeerEndpoint, RekeyedSas,
    TunnelPlan, TunnelReply, TunnelRequest,
};
use isthmus_ike::Endpoint;
use isthmus_simnet::pki::{self, Authority, KeyChoice};
use isthmus_simnet::{Pair, Side};
use isthmus_types::{Encryption, IkeVersion, Integrity, ResourceBits, VpnGatewayId};
use isthmus_wire::ike::{
    DeletePayload, KePayload, NotifyPayload, NotifyType, Payload, PayloadType, Proposal, ProtocolId,
    TrafficSelector, Transform, TransformId, TransformType, encode_chain,
};

fn main() -> io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut seeds = Seeds(root.join("../../fuzz/corpus"));
    messages(&mut seeds)?;
    version_1(&mut seeds)?;
    packets(&mut seeds)?;
    fs::write(root.join("src/root.pem"), certificates(&mut seeds)?)?;
    requests(&mut seeds)
}

struct Seeds(PathBuf);

impl Seeds {
    fn put(&mut self, target: &str, name: &str, bytes: &[u8]) -> io::Result<()> {
        let directory = self.0.join(target);
        fs::create_dir_all(&directory)?;
        fs::write(directory.join(format!("seed-{name}")), bytes)
    }
}

fn block(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("a seed is short");
    [&length.to_be_bytes(), bytes].concat()
}

/// Chains of payloads that an authenticated peer may send, with the exchange they belong to.
fn chains() -> Vec<(&'static str, u8, Vec<Payload>)> {
    let proposal = |protocol, spi: &[u8], transforms: Vec<Transform>| Proposal {
        number: 1,
        protocol,
        spi: spi.to_vec(),
        transforms,
    };
    let gcm = Transform::with_key_length(TransformId::ENCR_AES_GCM_16, 128);
    let esn = Transform::new(TransformType::ESN, TransformId::ESN_NO);
    let x25519 = Transform::new(TransformType::KE, TransformId(31));
    let prf = Transform::new(TransformType::PRF, TransformId(5));
    let range = |first: &str, last: &str| {
        vec![TrafficSelector::addresses(
            first.parse().expect("a constant"),
            last.parse().expect("a constant"),
        )]
    };
    let left = || range("10.1.0.0", "10.1.255.255");
    let right = || range("10.2.0.0", "10.2.255.255");
    let mut point = vec![0; 32];
    point[0] = 9;
    let ke = || {
        Payload::Ke(KePayload {
            method: TransformId(31),
            data: point.clone(),
        })
    };
    let child = proposal(ProtocolId::ESP, &[9, 8, 7, 6], vec![gcm.clone(), esn.clone()]);
    let strong = proposal(
        ProtocolId::ESP,
        &[9, 8, 7, 5],
        vec![gcm.clone(), x25519.clone(), esn],
    );
    let ike = proposal(ProtocolId::IKE, &[1, 2, 3, 4, 5, 6, 7, 8], vec![gcm, prf, x25519]);
    let nonce = || Payload::Nonce(vec![6; 32]);
    let notify = |kind, data: &[u8]| Payload::Notify(NotifyPayload::new(kind, data.to_vec()));
    vec![
        ("alive", 37, vec![]),
        ("delete-ike", 37, vec![Payload::Delete(DeletePayload::ike())]),
        (
            "delete-esp",
            37,
            vec![Payload::Delete(DeletePayload::esp(&[0x0908_0706]))],
        ),
        (
            "child-left",
            36,
            vec![
                Payload::Sa(vec![child.clone()]),
                nonce(),
                Payload::TsInitiator(left()),
                Payload::TsResponder(right()),
            ],
        ),
        (
            "child-right",
            36,
            vec![
                Payload::Sa(vec![child.clone()]),
                nonce(),
                Payload::TsInitiator(right()),
                Payload::TsResponder(left()),
            ],
        ),
        (
            "child-pfs",
            36,
            vec![
                Payload::Sa(vec![strong]),
                nonce(),
                ke(),
                Payload::TsInitiator(right()),
                Payload::TsResponder(left()),
            ],
        ),
        (
            "child-rekey",
            36,
            vec![
                Payload::Notify(NotifyPayload::about_esp(NotifyType::REKEY_SA, 1)),
                Payload::Sa(vec![child]),
                nonce(),
                Payload::TsInitiator(right()),
                Payload::TsResponder(left()),
            ],
        ),
        ("rekey-ike", 36, vec![Payload::Sa(vec![ike]), nonce(), ke()]),
        ("cookie", 34, vec![notify(NotifyType::COOKIE, &[1; 33])]),
        (
            "invalid-ke",
            34,
            vec![notify(NotifyType::INVALID_KE_PAYLOAD, &[0, 31])],
        ),
        (
            "none-chosen",
            36,
            vec![notify(NotifyType::NO_PROPOSAL_CHOSEN, &[])],
        ),
        (
            "auth-failed",
            35,
            vec![notify(NotifyType::AUTHENTICATION_FAILED, &[])],
        ),
        ("followup", 44, vec![ke()]),
        ("intermediate", 43, vec![ke()]),
        ("vendor", 37, vec![Payload::VendorId(b"somebody".to_vec())]),
    ]
}

fn config(side: Side, version: IkeVersion) -> isthmus_ike::ConnectionConfig {
    let mut config = Pair::config(side);
    config.version = version;
    if version == IkeVersion::V1 {
        for proposal in &mut config.ike_proposals {
            proposal.encryption = vec![Encryption::Aes256Cbc];
            proposal.integrity = vec![Integrity::HmacSha2_256_128];
        }
    }
    config
}

/// Every datagram of a handshake between two real ends.
fn handshake(version: IkeVersion) -> Vec<Vec<u8>> {
    let now = Instant::now();
    let mut left = Endpoint::new(Side::Left.address(), [1; 32], now);
    let mut right = Endpoint::new(Side::Right.address(), [2; 32], now);
    left.upsert_connection(config(Side::Left, version), now);
    let mut all = Vec::new();
    let mut config = config(Side::Right, version);
    config.establish = isthmus_ike::EstablishMode::PeerOnly;
    right.upsert_connection(config, now);
    loop {
        let before = all.len();
        for (from, to, side) in [(0, 1, Side::Left), (1, 0, Side::Right)] {
            let ends = [&mut left, &mut right];
            let mut flights = Vec::new();
            while let Some(transmit) = ends[from].poll_transmit() {
                flights.push(transmit);
            }
            for transmit in flights {
                let remote = std::net::SocketAddr::new(side.address(), transmit.local_port);
                ends[to].handle_datagram(transmit.destination.port(), remote, &transmit.payload, now);
                all.push(transmit.payload);
            }
        }
        if all.len() == before {
            return all;
        }
    }
}

fn messages(seeds: &mut Seeds) -> io::Result<()> {
    for (index, message) in handshake(IkeVersion::V1).iter().enumerate() {
        seeds.put("isakmp_message", &format!("handshake-{index}"), message)?;
        let name = format!("handshake-{index}");
        for choice in [0, 4] {
            let step = [&[choice, 0][..], &block(message)].concat();
            seeds.put("isakmp_stranger", &format!("{name}-{choice}"), &step)?;
        }
        // As an answer to our own first message, without the header.
        let response = [&[1, 2, 7, message[16]][..], &block(&message[28..])].concat();
        seeds.put("isakmp_stranger", &format!("response-{index}"), &response)?;
        let chain = [&[message[16]][..], &message[28..]].concat();
        seeds.put("isakmp_message", &format!("chain-{index}"), &chain)?;
    }
    let handshake = handshake(IkeVersion::V2);
    for (index, message) in handshake.iter().enumerate() {
        seeds.put("ike_message", &format!("handshake-{index}"), message)?;
        let step = [&[0, 0][..], &block(message)].concat();
        seeds.put("ike_stranger", &format!("handshake-{index}"), &step)?;
    }
    for (name, exchange, chain) in chains() {
        let mut content = Vec::new();
        let first = encode_chain(&chain, &mut content);
        seeds.put(
            "ike_message",
            &format!("chain-{name}"),
            &[&[first.0][..], &content].concat(),
        )?;
        for role in [0, 1] {
            let message = |flags: u8| [&[flags, exchange, first.0][..], &block(&content)].concat();
            seeds.put(
                "ike_peer",
                &format!("request-{name}-{role}"),
                &[&[role][..], &message(0x80)].concat(),
            )?;
            let twice = [&[role][..], &message(0x80), &message(0x80)].concat();
            seeds.put("ike_peer", &format!("twice-{name}-{role}"), &twice)?;
            // Our own rekeying first, then this as the answer to it.
            for (act, what) in [(0, "child"), (6, "ike")] {
                let answered = [&[role, 0, act][..], &message(0x81)].concat();
                seeds.put("ike_peer", &format!("answer-{what}-{name}-{role}"), &answered)?;
            }
        }
        let response = [&[1, 2, 7, first.0][..], &block(&content)].concat();
        seeds.put("ike_stranger", &format!("response-{name}"), &response)?;
    }
    if let Some(answer) = handshake.get(1) {
        // The real answer to a first message, without its header.
        let response = [&[1, 2, 7, PayloadType::SA.0][..], &block(&answer[28..])].concat();
        seeds.put("ike_stranger", "response-real", &response)?;
    }
    let many: Vec<u8> = (0..48u8).flat_map(|spi| [1, spi, 0, 0]).collect();
    seeds.put("isakmp_stranger", "many", &[&[0][..], &many].concat())?;
    seeds.put("isakmp_stranger", "many-aggressive", &[&[6][..], &many].concat())?;
    seeds.put("ike_stranger", "many", &[&[0][..], &many].concat())?;
    seeds.put("ike_stranger", "many-anywhere", &[&[2][..], &many].concat())?;
    seeds.put(
        "ike_stranger",
        "changed",
        &[0, 1, 9, 0, 6, 0, 17, 0x30, 0, 40, 0xff],
    )
}

/// What an authenticated peer says in IKEv1: whole quick modes, and notifications.
fn version_1(seeds: &mut Seeds) -> io::Result<()> {
    use isthmus_wire::isakmp::{
        Attribute, DeletePayload, ExchangeType, IdType, Identification, NotifyPayload, NotifyType, Payload,
        Proposal, ProtocolId, SaPayload, Transform, encode_chain,
    };
    let range = |network: u8| {
        Payload::Id(Identification {
            id_type: IdType::IPV4_ADDR_SUBNET,
            protocol: 0,
            port: 0,
            data: vec![10, network, 0, 0, 255, 255, 0, 0],
        })
    };
    // ESP with AES-GCM-16 and 128 bits, in tunnel mode.
    let sa = Payload::Sa(SaPayload::ipsec(vec![Proposal {
        number: 1,
        protocol: ProtocolId::ESP,
        spi: vec![9, 8, 7, 6],
        transforms: vec![Transform {
            number: 1,
            id: 20,
            attributes: vec![Attribute::number(4, 1), Attribute::number(6, 128)],
        }],
    }]));
    let quick = vec![sa, Payload::Nonce(vec![6; 32]), range(1), range(2)];
    let notify = |kind, data: &[u8]| {
        let notify = NotifyPayload::new(ProtocolId::ISAKMP, vec![0; 16], kind, data.to_vec());
        vec![Payload::Notify(notify)]
    };
    let message = |flags: u8, exchange: ExchangeType, payloads: &[Payload]| {
        let mut content = Vec::new();
        let first = encode_chain(payloads, &mut content);
        [&[flags, exchange.0, first.0][..], &block(&content)].concat()
    };
    let first = message(0x80, ExchangeType::QUICK, &quick);
    let third = message(0x83, ExchangeType::QUICK, &[]);
    let delete = |protocol, spi: &[u8]| vec![Payload::Delete(DeletePayload::one(protocol, spi.to_vec()))];
    let informational = |payloads: &[Payload]| message(0x80, ExchangeType::INFORMATIONAL, payloads);
    let whole = [first.clone(), third.clone()].concat();
    seeds.put("isakmp_peer", "quick-first", &first)?;
    seeds.put("isakmp_peer", "quick-whole", &whole)?;
    seeds.put(
        "isakmp_peer",
        "quick-twice",
        &[whole.clone(), whole.clone()].concat(),
    )?;
    seeds.put(
        "isakmp_peer",
        "quick-third-again",
        &[whole.clone(), third].concat(),
    )?;
    let esp = informational(&delete(ProtocolId::ESP, &[9, 8, 7, 6]));
    seeds.put("isakmp_peer", "quick-delete", &[whole.clone(), esp].concat())?;
    for act in [0u8, 1, 4, 6] {
        let acted = [whole.clone(), vec![0, act, 0x40, 0x20, 0]].concat();
        seeds.put("isakmp_peer", &format!("quick-act-{act}"), &acted)?;
    }
    let isakmp = informational(&delete(ProtocolId::ISAKMP, &[0; 16]));
    seeds.put("isakmp_peer", "delete", &isakmp)?;
    seeds.put(
        "isakmp_peer",
        "alive",
        &informational(&notify(NotifyType::R_U_THERE, &[0, 0, 0, 1])),
    )?;
    let refused = informational(&notify(NotifyType::NO_PROPOSAL_CHOSEN, &[]));
    seeds.put("isakmp_peer", "refused", &[vec![0, 3], refused].concat())?;
    seeds.put(
        "isakmp_peer",
        "clear",
        &message(0x88, ExchangeType::QUICK, &quick),
    )?;
    seeds.put(
        "isakmp_peer",
        "without-hash",
        &message(0x84, ExchangeType::QUICK, &quick),
    )
}

/// TCP segments of one flow, UDP datagrams and ICMP messages with right sums.
fn packets(seeds: &mut Seeds) -> io::Result<()> {
    let mut segments = Vec::new();
    for index in 0..4u32 {
        let mut tcp = vec![0x1f, 0x90, 0x04, 0xd2];
        tcp.extend((1000 + index * 64).to_be_bytes());
        tcp.extend([0, 0, 0, 77, 0x50, 0x10, 0x20, 0, 0, 0, 0, 0]);
        tcp.extend([index as u8; 64]);
        segments.push(ipv4(6, 16, tcp));
    }
    let datagrams: Vec<Vec<u8>> = (0..3u8)
        .map(|index| {
            ipv4(
                17,
                6,
                [&[0, 53, 0x12, 0x34, 0, 40, 0, 0][..], &[index; 32]].concat(),
            )
        })
        .collect();
    let syn = ipv4(
        6,
        16,
        vec![
            0, 80, 0, 81, 0, 0, 0, 1, 0, 0, 0, 0, 0x60, 2, 0x20, 0, 0, 0, 0, 0, 2, 4, 5, 0xb4,
        ],
    );
    let v6 = [
        &[0x60, 0, 0, 0, 0, 16, 44, 64][..],
        &[0xfd; 32],
        &[17, 0, 0, 1, 0, 0, 0, 7],
        &[0, 53, 0, 54, 0, 8, 1, 2],
    ]
    .concat();
    let mut too_big = vec![0; 1280];
    let length = isthmus_wire::icmp::write_too_big(&segments[0], 1280, &mut too_big).unwrap_or(0);
    too_big.truncate(length);
    let all = [&segments[0], &datagrams[0], &syn, &v6, &too_big];
    for (index, packet) in all.iter().enumerate() {
        for mtu in [64u16, 1280] {
            let seed = [&mtu.to_be_bytes()[..], packet].concat();
            seeds.put("packets", &format!("{index}-{mtu}"), &seed)?;
        }
        for suite in 0..4u8 {
            let numbers = suite & 1;
            let sealed = [
                &[suite, numbers, 2][..],
                &block(packet),
                &[if index == 3 { 41 } else { 4 }],
            ]
            .concat();
            let chosen = [
                &[suite, numbers, 1, 0, 9, 3][..],
                &block(&[&packet[..], &[0, 4]].concat()),
            ]
            .concat();
            let stranger = [&[suite, numbers, 0][..], &block(packet), &[0]].concat();
            for (kind, seed) in [("sealed", sealed), ("chosen", chosen), ("stranger", stranger)] {
                seeds.put("esp_open", &format!("{kind}-{index}-{suite}"), &seed)?;
            }
        }
    }
    for (name, packets) in [("segments", &segments), ("datagrams", &datagrams)] {
        let blocks: Vec<u8> = packets.iter().flat_map(|packet| block(packet)).collect();
        seeds.put("offload", name, &[&[1][..], &blocks].concat())?;
    }
    for (name, gso, size, start, offset, packet) in [
        ("tcp", 1u8, 24u16, 20u16, 16u16, &segments[0]),
        ("udp", 5, 10, 20, 6, &datagrams[0]),
        ("whole", 0, 0, 20, 6, &datagrams[1]),
    ] {
        let mut seed = vec![0, 1, gso];
        for half in [40, size, start, offset] {
            seed.extend(half.to_ne_bytes());
        }
        seed.extend_from_slice(packet);
        seeds.put("offload", name, &seed)?;
    }
    Ok(())
}

fn ipv4(protocol: u8, checksum_at: usize, mut upper: Vec<u8>) -> Vec<u8> {
    let mut packet = vec![
        0x45, 0, 0, 0, 0, 1, 0, 0, 64, protocol, 0, 0, 10, 1, 0, 2, 10, 2, 0, 3,
    ];
    let total = u16::try_from(20 + upper.len()).expect("a seed is short");
    packet[2..4].copy_from_slice(&total.to_be_bytes());
    let sum = isthmus_wire::checksum::of(&packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    let sum = isthmus_wire::checksum::Checksum::new()
        .pseudo_header(
            [10, 1, 0, 2].into(),
            [10, 2, 0, 3].into(),
            protocol,
            u32::from(total - 20),
        )
        .bytes(&upper)
        .finish();
    upper[checksum_at..checksum_at + 2].copy_from_slice(&sum.to_be_bytes());
    packet.extend(upper);
    packet
}

/// Gives the root in PEM.
fn certificates(seeds: &mut Seeds) -> io::Result<String> {
    let root = Authority::root("Fuzzing Root", KeyChoice::P256);
    let between = root.below("Fuzzing Intermediate", KeyChoice::Ed25519);
    let stranger = Authority::root("Somebody Else", KeyChoice::P256);
    let address = Side::Left.address();
    for key in [
        KeyChoice::Ed25519,
        KeyChoice::P256,
        KeyChoice::P384,
        KeyChoice::Rsa2048,
    ] {
        let leaf = root.issue(&pki::gateway("left", address), key);
        seeds.put(
            "certificates",
            &format!("leaf-{key:?}"),
            &[&[0][..], &block(&leaf.der)].concat(),
        )?;
        let pem = [&[3][..], leaf.key.reveal().as_bytes()].concat();
        if key == KeyChoice::Ed25519 {
            seeds.put("certificates", "key", &pem)?;
        }
    }
    let below = between.issue(&pki::gateway("below", address), KeyChoice::P256);
    let other = stranger.issue(&pki::gateway("other", address), KeyChoice::P256);
    let chain = [&[0][..], &block(&below.der), &block(&between.der())].concat();
    seeds.put("certificates", "chain", &chain)?;
    seeds.put(
        "certificates",
        "stranger",
        &[&[0][..], &block(&other.der), &block(&stranger.der())].concat(),
    )?;
    let list = root.revocation_list(&[7], (2040, 1, 1));
    let text = [&[1][..], &block(root.pem().as_bytes()), list.as_bytes()].concat();
    seeds.put("certificates", "authority", &text)?;
    seeds.put("certificates", "name", b"\x02CN=left.example,O=Isthmus,C=CH")?;
    seeds.put(
        "certificates",
        "scheme",
        &[&[3][..], &[0x30, 5, 6, 3, 0x2b, 0x65, 0x70]].concat(),
    )?;
    Ok(root.pem())
}

fn requests(seeds: &mut Seeds) -> io::Result<()> {
    let config = Pair::config(Side::Left);
    let connection = ConnectionPlan {
        connection: config.connection,
        name: config.name,
        admin_up: true,
        reset_count: 2,
        version: config.version,
        peer: PeerEndpoint::Anywhere,
        local_identity: IkeIdentity::Address(Side::Left.address()),
        peer_identity: IkeIdentity::Fqdn("right.example".into()),
        psk: config.psk,
        establish: EstablishMode::PeerOnly,
        ike_proposals: config.ike_proposals,
        esp_proposals: config.esp_proposals,
        local_cidrs: config.local_cidrs,
        peer_cidrs: config.peer_cidrs,
        ike_lifetime_seconds: 14_400,
        esp_lifetime_seconds: 3_600,
        dpd_action: DpdAction::Hold,
        dpd_interval_seconds: 2,
        dpd_timeout_seconds: 10,
        force_encapsulation: false,
        options: config.options,
    };
    let plan = TunnelPlan {
        gateways: vec![GatewayTunnels {
            gateway: VpnGatewayId::from(ResourceBits::from_random(7)),
            name: "left".into(),
            namespace: "gateway".into(),
            tun: "tun0".into(),
            public_address: Side::Left.address(),
            other_address: None,
            mtu: 1400,
            key_log: None,
            connections: vec![connection],
        }],
    };
    let rekey = TunnelRequest::Rekey {
        connection: config.connection,
        sas: RekeyedSas::Ike,
    };
    let lines = [
        serde_json::to_string(&TunnelRequest::Apply { plan }),
        serde_json::to_string(&rekey),
        serde_json::to_string(&TunnelRequest::Report),
        serde_json::to_string(&TunnelRequest::Watch),
        serde_json::to_string(&TunnelRequest::Stop),
        serde_json::to_string(&TunnelReply::Applied),
    ];
    for (index, line) in lines.into_iter().enumerate() {
        seeds.put("tunnel_request", &index.to_string(), line?.as_bytes())?;
    }
    Ok(())
}
