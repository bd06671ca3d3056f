use std::time::Duration;

use isthmus_ike::{DownReason, EstablishMode, FindingKind, IkeIdentity};
use isthmus_simnet::{Link, Nat, Pair, Side};
use isthmus_types::{DhGroup, Encryption, EspProposal, IkeProposal, Integrity, Prf, Secret};

use super::{pair_with, settled, settled_with};
use crate::{LONG, lost, reason};

#[test]
fn both_ends_come_up_and_carry_traffic() {
    for seed in 0..20 {
        let mut pair = settled(seed);
        pair.run_for(Duration::from_secs(60));
        assert!(pair.is_settled(), "seed {seed}: {:?}", pair.discord());
        assert_eq!(lost(&pair), 0, "seed {seed}");
        assert!(pair.peer(Side::Left).received > 1000, "seed {seed}");
    }
}

#[test]
fn one_end_alone_may_begin() {
    for passive in [Side::Left, Side::Right] {
        let pair = settled_with(1, |side, config| {
            if side == passive {
                config.establish = EstablishMode::PeerOnly;
            }
        });
        assert_eq!(lost(&pair), 0);
    }
}

#[test]
fn every_datagram_of_the_handshake_may_be_lost() {
    for seed in 0..4 {
        for number in 0..14 {
            let mut pair = pair_with(seed, Link::losing(number), |_, _| {});
            assert!(
                pair.run_until(LONG, Pair::is_settled),
                "seed {seed} without {number}: {:?}",
                pair.discord()
            );
            pair.set_traffic(true);
            pair.run_for(Duration::from_secs(60));
            assert!(
                pair.is_settled(),
                "seed {seed} without {number}: {:?}",
                pair.discord()
            );
            assert_eq!(lost(&pair), 0, "seed {seed} without {number}");
        }
    }
}

#[test]
fn every_algorithm_of_version_1_works() {
    let groups = [
        DhGroup::Modp1024,
        DhGroup::Modp1536,
        DhGroup::Modp2048,
        DhGroup::Ecp256,
        DhGroup::Ecp384,
        DhGroup::Ecp521,
        DhGroup::X25519,
    ];
    let ciphers = [
        Encryption::TripleDes,
        Encryption::Aes128Cbc,
        Encryption::Aes192Cbc,
        Encryption::Aes256Cbc,
    ];
    let mut number = 0;
    for integrity in Integrity::ALL {
        for cipher in ciphers {
            let group = groups[number % groups.len()];
            number += 1;
            let pair = settled_with(1, |_, config| {
                config.ike_proposals = vec![IkeProposal {
                    encryption: vec![cipher],
                    integrity: vec![*integrity],
                    prf: vec![Prf::HmacSha1],
                    dh: vec![group],
                    additional: Vec::new(),
                }];
                config.esp_proposals = vec![EspProposal {
                    encryption: vec![cipher],
                    integrity: vec![*integrity],
                    pfs: vec![group],
                    additional: Vec::new(),
                }];
            });
            let status = pair
                .peer(Side::Left)
                .endpoint
                .status(Side::Left.connection())
                .unwrap();
            let ike = status.ike_suite.unwrap();
            assert_eq!(
                ike.to_string(),
                format!("{cipher}-{integrity}-prf{integrity}-{group}")
            );
            assert_eq!(status.esp_suite.unwrap().pfs, Some(group));
        }
    }
    for cipher in [
        Encryption::Aes128Gcm16,
        Encryption::Aes192Gcm16,
        Encryption::Aes256Gcm16,
        Encryption::Aes256Gcm8,
        Encryption::Aes256Gcm12,
    ] {
        settled_with(1, |_, config| config.esp_proposals[0].encryption = vec![cipher]);
    }
}

#[test]
fn of_several_proposals_that_of_the_responder_is_taken() {
    let pair = settled_with(2, |side, config| match side {
        Side::Left => {
            let mut more = config.ike_proposals[0].clone();
            more.dh = vec![DhGroup::Modp2048, DhGroup::Ecp256];
            more.integrity = vec![Integrity::HmacSha1_96, Integrity::HmacSha2_512_256];
            config.ike_proposals.insert(0, more);
            config.esp_proposals[0].pfs = vec![DhGroup::X25519, DhGroup::Modp2048, DhGroup::Ecp256];
        }
        Side::Right => {
            config.ike_proposals[0].dh = vec![DhGroup::Ecp256];
            config.ike_proposals[0].integrity = vec![Integrity::HmacSha2_512_256];
            config.esp_proposals[0].pfs = vec![DhGroup::Ecp256];
            config.establish = EstablishMode::PeerOnly;
        }
    });
    let status = pair
        .peer(Side::Right)
        .endpoint
        .status(Side::Right.connection())
        .unwrap();
    assert_eq!(status.ike_suite.unwrap().dh, DhGroup::Ecp256);
    // Each refusal makes us try the next group.
    assert_eq!(status.esp_suite.unwrap().pfs, Some(DhGroup::Ecp256));
    let left = pair.peer(Side::Left).endpoint.status(Side::Left.connection());
    let found = left.unwrap().findings.into_iter().map(|finding| finding.kind);
    let told: Vec<FindingKind> = found
        .filter(|kind| matches!(kind, FindingKind::GroupAccepted { .. }))
        .collect();
    let expected = FindingKind::GroupAccepted {
        refused: "x25519, modp2048".into(),
        accepted: "ecp256".into(),
    };
    assert_eq!(told, [expected]);
}

/// The answer to another group is the same as that to other algorithms.
#[test]
fn a_refusal_names_the_proposals_and_the_group_as_candidates() {
    for (ours, theirs, words) in [
        (vec![DhGroup::X25519], vec![], "PFS x25519"),
        (vec![], vec![DhGroup::X25519], "PFS none"),
        (
            vec![DhGroup::X25519, DhGroup::Ecp256],
            vec![DhGroup::Ecp384],
            "PFS x25519, ecp256",
        ),
    ] {
        let mut pair = pair_with(4, Link::clean(), |side, config| match side {
            Side::Left => config.esp_proposals[0].pfs = ours.clone(),
            Side::Right => {
                config.esp_proposals[0].pfs = theirs.clone();
                config.establish = EstablishMode::PeerOnly;
            }
        });
        pair.run_for(Duration::from_secs(30));
        let status = pair.peer(Side::Left).endpoint.status(Side::Left.connection());
        let status = status.expect("a connection");
        let kind = &status.findings[0].kind;
        assert_eq!(kind.field(), "esp.proposals");
        assert_eq!(kind.suspects(), ["esp.proposals", "esp.pfs"]);
        assert_eq!(kind.ours(), format!("aes128gcm16; {words}"));
        assert_eq!(reason(&pair, Side::Left), Some(DownReason::IpsecProposalMismatch));
        // The end that refused knows.
        let status = pair.peer(Side::Right).endpoint.status(Side::Right.connection());
        assert_eq!(status.expect("a connection").findings[0].kind.field(), "esp.pfs");
    }
}

#[test]
fn a_nat_before_either_end_is_found_and_passed() {
    for inside in [Side::Left, Side::Right] {
        let mut pair = Pair::new(5, Link::clean());
        let public = "198.51.100.7".parse().unwrap();
        pair.put_nat(inside, Nat::new(public));
        crate::connect_with(&mut pair, |side, config| {
            super::version_1(side, config);
            if side != inside {
                config.peer = isthmus_ike::PeerEndpoint::Anywhere;
                config.establish = EstablishMode::PeerOnly;
            }
        });
        assert!(
            pair.run_until(LONG, Pair::is_settled),
            "{inside:?}: {:?}",
            pair.discord()
        );
        pair.set_traffic(true);
        pair.run_for(Duration::from_secs(120));
        let status = pair.peer(inside).endpoint.status(inside.connection()).unwrap();
        assert!(status.nat.unwrap().local);
        assert_eq!(status.remote.unwrap().port(), 4500);
        assert_eq!(lost(&pair), 0);
    }
}

#[test]
fn encapsulation_can_be_forced_by_one_end() {
    for forcing in [Side::Left, Side::Right] {
        let pair = settled_with(6, |side, config| config.force_encapsulation = side == forcing);
        for side in [Side::Left, Side::Right] {
            let child = pair.peer(side).sending_child().unwrap();
            assert!(
                matches!(
                    child.sa.encapsulation,
                    isthmus_ike::Encapsulation::Udp { local_port: 4500, .. }
                ),
                "{side:?}"
            );
        }
    }
}

fn detail(pair: &Pair, side: Side) -> String {
    pair.peer(side)
        .endpoint
        .status(side.connection())
        .expect("a connection")
        .warning
        .map(|(_, detail)| detail)
        .unwrap_or_default()
}

#[test]
fn another_key_is_told_as_such() {
    for other in [Side::Left, Side::Right] {
        for beginner in [Side::Left, Side::Right] {
            let mut pair = pair_with(7, Link::clean(), |side, config| {
                if side == other {
                    config.psk = Secret::new("another key".into());
                }
                if side != beginner {
                    config.establish = EstablishMode::PeerOnly;
                }
            });
            pair.run_for(Duration::from_secs(60));
            for side in [Side::Left, Side::Right] {
                assert_eq!(
                    reason(&pair, side),
                    Some(DownReason::AuthenticationFailed),
                    "{side:?}: {}",
                    detail(&pair, side)
                );
                assert!(detail(&pair, side).contains("probably the pre-shared keys differ"));
            }
        }
    }
}

#[test]
fn another_identity_is_told_as_such() {
    let mut pair = pair_with(8, Link::clean(), |side, config| match side {
        Side::Left => config.local_identity = IkeIdentity::Fqdn("left.example".into()),
        Side::Right => {
            config.peer_identity = IkeIdentity::Fqdn("other.example".into());
            config.establish = EstablishMode::PeerOnly;
        }
    });
    pair.run_for(Duration::from_secs(30));
    assert_eq!(reason(&pair, Side::Right), Some(DownReason::AuthenticationFailed));
    assert!(detail(&pair, Side::Right).contains("left.example"));
    assert_eq!(reason(&pair, Side::Left), Some(DownReason::AuthenticationFailed));
}

#[test]
fn proposals_without_anything_in_common_are_told_as_such() {
    let mut pair = pair_with(9, Link::clean(), |side, config| {
        if side == Side::Left {
            config.ike_proposals[0].dh = vec![DhGroup::Modp2048];
        }
    });
    pair.run_for(Duration::from_secs(30));
    for side in [Side::Left, Side::Right] {
        assert_eq!(reason(&pair, side), Some(DownReason::IkeProposalMismatch));
    }
    let mut pair = pair_with(9, Link::clean(), |side, config| {
        if side == Side::Left {
            config.esp_proposals[0].encryption = vec![Encryption::Aes256Gcm16];
        }
    });
    pair.run_for(Duration::from_secs(30));
    for side in [Side::Left, Side::Right] {
        assert_eq!(
            reason(&pair, side),
            Some(DownReason::IpsecProposalMismatch),
            "{side:?}: {}",
            detail(&pair, side)
        );
    }
}

#[test]
fn ranges_that_do_not_mirror_each_other_are_told_as_such() {
    let mut pair = pair_with(10, Link::clean(), |side, config| {
        if side == Side::Left {
            config.local_cidrs = vec!["10.9.0.0/16".parse().unwrap()];
        }
    });
    pair.run_for(Duration::from_secs(30));
    for side in [Side::Left, Side::Right] {
        assert_eq!(reason(&pair, side), Some(DownReason::SelectorMismatch));
    }
}

#[test]
fn aggressive_mode_is_refused_unless_it_is_allowed() {
    let mut pair = pair_with(11, Link::clean(), |side, config| {
        config.options.aggressive_mode = side == Side::Left;
        if side == Side::Right {
            config.establish = EstablishMode::PeerOnly;
        }
    });
    pair.run_for(Duration::from_secs(20));
    assert!(!pair.is_up());
    assert!(detail(&pair, Side::Right).contains("aggressive mode, which is not allowed here"));
    for seed in 0..10 {
        settled_with(seed, |_, config| config.options.aggressive_mode = true);
    }
    let pair = settled_with(12, |side, config| {
        config.options.aggressive_mode = true;
        config.force_encapsulation = side == Side::Left;
    });
    let child = pair.peer(Side::Right).sending_child().unwrap();
    assert!(matches!(
        child.sa.encapsulation,
        isthmus_ike::Encapsulation::Udp { .. }
    ));
}

#[test]
fn each_pair_of_ranges_has_a_child_of_its_own() {
    for (left, right) in [(2, 1), (2, 3)] {
        let ranges = |side: Side, count: u8| -> Vec<isthmus_types::Cidr> {
            let base = match side {
                Side::Left => 20,
                Side::Right => 40,
            };
            (0..count)
                .map(|number| format!("10.{}.0.0/16", base + number).parse().unwrap())
                .collect()
        };
        let mut pair = pair_with(13, Link::clean(), |side, config| {
            config.local_cidrs = ranges(side, if side == Side::Left { left } else { right });
            config.peer_cidrs = ranges(side.other(), if side == Side::Left { right } else { left });
        });
        let wanted = usize::from(left) * usize::from(right);
        let count = |pair: &Pair, side: Side| {
            pair.peer(side)
                .endpoint
                .status(side.connection())
                .unwrap()
                .children
                .len()
        };
        let both = |pair: &Pair| count(pair, Side::Left) == wanted && count(pair, Side::Right) == wanted;
        assert!(pair.run_until(LONG, both));
        pair.run_for(Duration::from_secs(60));
        assert!(both(&pair));
        assert_eq!(pair.peer(Side::Left).children.len(), wanted);
        assert_eq!(pair.peer(Side::Right).children.len(), wanted);
    }
}

/// More combinations than fit into one message: they are offered in parts.
#[test]
fn a_peer_with_one_entry_of_a_long_list_is_found() {
    let mut pair = pair_with(14, Link::clean(), |side, config| {
        let proposal = &mut config.ike_proposals[0];
        match side {
            Side::Left => {
                proposal.encryption = vec![
                    Encryption::Aes256Cbc,
                    Encryption::Aes192Cbc,
                    Encryption::Aes128Cbc,
                    Encryption::TripleDes,
                ];
                proposal.integrity = Integrity::ALL.to_vec();
                proposal.dh = DhGroup::ALL.to_vec();
            }
            Side::Right => {
                proposal.encryption = vec![Encryption::TripleDes];
                proposal.integrity = vec![Integrity::HmacSha1_96];
                proposal.dh = vec![DhGroup::Modp1536];
                config.establish = EstablishMode::PeerOnly;
            }
        }
    });
    assert!(
        pair.run_until(Duration::from_secs(5), Pair::is_settled),
        "{:?}",
        pair.discord()
    );
    assert_eq!(detail(&pair, Side::Left), "");
}
