use std::time::Duration;

use isthmus_ike::{ConnectionState, EstablishMode, IkeIdentity, SequenceNumbers};
use isthmus_simnet::{Link, Pair, Side};
use isthmus_types::{DhGroup, Encryption, EspProposal, IkeProposal, Integrity, Prf};

use crate::{LONG, connect_with, lost};

#[test]
fn the_second_configuration_brings_the_tunnel_up_in_two_round_trips() {
    let mut pair = Pair::new(1, Link::clean());
    pair.upsert(Side::Left, Pair::config(Side::Left));
    pair.run_for(Duration::from_secs(27));
    let before = pair.elapsed();
    pair.upsert(Side::Right, Pair::config(Side::Right));
    assert!(pair.run_until(LONG, Pair::is_up));
    assert!(
        pair.elapsed() - before <= Duration::from_millis(25),
        "{:?}",
        pair.elapsed() - before
    );
    assert!(pair.run_until(LONG, Pair::is_settled), "{:?}", pair.discord());
}

#[test]
fn both_ends_begin_at_once_and_settle_on_one_pair_without_losing_a_packet() {
    for seed in 0..50 {
        let mut pair = Pair::new(seed, Link::clean());
        pair.connect();
        pair.set_traffic(true);
        assert!(pair.run_until(LONG, Pair::is_up), "seed {seed}");
        assert!(
            pair.run_until(LONG, Pair::is_settled),
            "seed {seed}: {:?}",
            pair.discord()
        );
        pair.run_for(Duration::from_secs(60));
        assert!(pair.is_settled(), "seed {seed}: {:?}", pair.discord());
        assert_eq!(lost(&pair), 0, "seed {seed}");
    }
}

#[test]
fn every_suite_works() {
    let cbc = |encryption, integrity, prf, dh| IkeProposal {
        encryption: vec![encryption],
        integrity: vec![integrity],
        prf: vec![prf],
        dh: vec![dh],
        additional: Vec::new(),
    };
    let gcm = |encryption, prf, dh| IkeProposal {
        encryption: vec![encryption],
        integrity: vec![],
        prf: vec![prf],
        dh: vec![dh],
        additional: Vec::new(),
    };
    for ike in [
        cbc(
            Encryption::Aes128Cbc,
            Integrity::HmacSha1_96,
            Prf::HmacSha1,
            DhGroup::Modp2048,
        ),
        cbc(
            Encryption::Aes256Cbc,
            Integrity::HmacSha2_256_128,
            Prf::HmacSha2_256,
            DhGroup::Ecp256,
        ),
        cbc(
            Encryption::Aes192Cbc,
            Integrity::HmacSha2_384_192,
            Prf::HmacSha2_384,
            DhGroup::Ecp384,
        ),
        cbc(
            Encryption::TripleDes,
            Integrity::HmacMd5_96,
            Prf::HmacMd5,
            DhGroup::Modp1024,
        ),
        cbc(
            Encryption::Aes256Cbc,
            Integrity::HmacSha2_512_256,
            Prf::HmacSha2_512,
            DhGroup::Ecp521,
        ),
        gcm(Encryption::Aes128Gcm16, Prf::HmacSha2_256, DhGroup::X25519),
        gcm(Encryption::Aes256Gcm16, Prf::HmacSha2_256, DhGroup::Modp3072),
        gcm(Encryption::ChaCha20Poly1305, Prf::HmacSha2_512, DhGroup::Modp1536),
    ] {
        let mut pair = Pair::new(1, Link::clean());
        connect_with(&mut pair, |_, config| {
            config.ike_proposals = vec![ike.clone()];
            config.esp_proposals = vec![EspProposal {
                encryption: ike.encryption.clone(),
                integrity: ike.integrity.clone(),
                pfs: ike.dh.clone(),
                additional: Vec::new(),
            }];
        });
        assert!(
            pair.run_until(LONG, Pair::is_settled),
            "{ike:?}: {:?}",
            pair.discord()
        );
        let status = pair
            .peer(Side::Left)
            .endpoint
            .status(Side::Left.connection())
            .unwrap();
        let suite = status.ike_suite.unwrap();
        assert_eq!((suite.dh, suite.prf), (ike.dh[0], ike.prf[0]));
    }
}

#[test]
fn a_wrong_guess_of_the_group_costs_one_round_trip() {
    let mut pair = Pair::new(1, Link::clean());
    let mut left = Pair::config(Side::Left);
    left.ike_proposals[0].dh = vec![DhGroup::X25519, DhGroup::Ecp256];
    let mut right = Pair::config(Side::Right);
    right.ike_proposals[0].dh = vec![DhGroup::Ecp256];
    right.establish = EstablishMode::PeerOnly;
    pair.upsert(Side::Right, right);
    pair.upsert(Side::Left, left);
    assert!(pair.run_until(LONG, Pair::is_settled), "{:?}", pair.discord());
    assert!(pair.elapsed() < Duration::from_millis(100));
}

#[test]
fn names_mail_addresses_and_key_ids_identify() {
    for (left, right) in [
        (
            IkeIdentity::Fqdn("left.example".into()),
            IkeIdentity::Email("right@example".into()),
        ),
        (
            IkeIdentity::KeyId(vec![0, 1, 255]),
            IkeIdentity::Fqdn("192.0.2.2".into()),
        ),
    ] {
        let mut pair = Pair::new(1, Link::clean());
        connect_with(&mut pair, |side, config| {
            let (local, peer) = match side {
                Side::Left => (&left, &right),
                Side::Right => (&right, &left),
            };
            config.local_identity = local.clone();
            config.peer_identity = peer.clone();
        });
        assert!(pair.run_until(LONG, Pair::is_settled), "{:?}", pair.discord());
    }
}

#[test]
fn several_ranges_make_one_child_and_wider_ones_are_narrowed() {
    let mut pair = Pair::new(1, Link::clean());
    connect_with(&mut pair, |side, config| {
        if side == Side::Left {
            config.local_cidrs = vec!["10.1.0.0/24".parse().unwrap(), "10.1.1.0/24".parse().unwrap()];
            config.peer_cidrs = vec!["10.0.0.0/8".parse().unwrap()];
        } else {
            config.peer_cidrs = vec!["10.1.0.0/16".parse().unwrap()];
            config.local_cidrs = vec!["10.2.0.0/24".parse().unwrap(), "10.2.1.0/24".parse().unwrap()];
        }
    });
    assert!(pair.run_until(LONG, Pair::is_settled), "{:?}", pair.discord());
    let status = pair
        .peer(Side::Left)
        .endpoint
        .status(Side::Left.connection())
        .unwrap();
    let words =
        |selectors: &[isthmus_ike::Selector]| selectors.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(
        words(&status.children[0].local_selectors),
        ["10.1.0.0/24", "10.1.1.0/24"]
    );
    assert_eq!(
        words(&status.children[0].remote_selectors),
        ["10.2.0.0/24", "10.2.1.0/24"]
    );
}

#[test]
fn sequence_numbers_of_64_bits_are_agreed_on_where_both_want_them() {
    let mut pair = Pair::new(1, Link::clean());
    connect_with(&mut pair, |_, config| {
        config.options.extended_sequence_numbers = true;
    });
    assert!(pair.run_until(LONG, Pair::is_settled));
    let child = pair.peer(Side::Left).sending_child().unwrap();
    assert_eq!(child.sa.sequence_numbers, SequenceNumbers::Extended);
}

#[test]
fn an_end_that_must_not_begin_waits_for_the_other() {
    let mut pair = Pair::new(1, Link::clean());
    let mut left = Pair::config(Side::Left);
    left.establish = EstablishMode::PeerOnly;
    pair.upsert(Side::Left, left);
    pair.run_for(LONG);
    assert_eq!(pair.sent, 0);
    pair.upsert(Side::Right, Pair::config(Side::Right));
    assert!(pair.run_until(Duration::from_millis(25), Pair::is_up));
}

#[test]
fn each_lost_datagram_of_the_handshake_is_made_up_for() {
    let mut pair = Pair::new(1, Link::clean());
    pair.connect();
    assert!(pair.run_until(LONG, Pair::is_settled));
    let count = pair.sent;
    assert!(count >= 4);
    for number in 0..=count {
        let mut pair = Pair::new(1, Link::losing(number));
        pair.connect();
        assert!(
            pair.run_until(LONG, Pair::is_settled),
            "without {number}: {:?}",
            pair.discord()
        );
    }
}

#[test]
fn closing_tells_the_peer_and_leaves_nothing() {
    let mut pair = crate::settled(1, Link::clean());
    pair.set_traffic(false);
    pair.act(Side::Left, |endpoint, now| endpoint.close(now));
    assert!(pair.peer(Side::Left).children.is_empty());
    assert!(pair.run_until(Duration::from_secs(1), |pair| {
        pair.peer(Side::Left).endpoint.is_idle()
    }));
    assert!(!pair.peer(Side::Right).is_up());
    assert!(pair.run_until(LONG, |pair| pair.peer(Side::Right).children.is_empty()));
    let state = pair
        .peer(Side::Right)
        .endpoint
        .state(Side::Right.connection())
        .unwrap();
    assert!(matches!(state, ConnectionState::Down { .. }));
}
