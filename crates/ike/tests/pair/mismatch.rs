use std::time::Duration;

use isthmus_ike::{ConnectionConfig, ConnectionState, DownReason, IkeIdentity};
use isthmus_simnet::{Link, Pair, Side};
use isthmus_types::{DhGroup, Encryption, IkeVersion, Secret};

use crate::{LONG, connect_with, reason};

/// One end is configured with `change`; both must name `expected`. Then the end is put right and the tunnel comes up.
fn check(expected: DownReason, change: impl Fn(&mut ConnectionConfig)) {
    for wrong in [Side::Left, Side::Right] {
        let mut pair = Pair::new(1, Link::clean());
        let mut config = Pair::config(wrong);
        change(&mut config);
        pair.upsert(wrong, config);
        pair.upsert(wrong.other(), Pair::config(wrong.other()));
        pair.run_for(Duration::from_secs(45));
        for side in [Side::Left, Side::Right] {
            assert_eq!(
                reason(&pair, side),
                Some(expected),
                "{side:?}, wrong is {wrong:?}"
            );
            assert!(pair.peer(side).children.is_empty());
        }
        // Attempts go on, but not as a flood.
        let sent = pair.sent;
        pair.run_for(Duration::from_secs(60));
        assert!(pair.sent > sent, "nobody tries any more");
        assert!(
            pair.sent - sent < 160,
            "{} datagrams in a minute",
            pair.sent - sent
        );
        pair.upsert(wrong, Pair::config(wrong));
        assert!(
            pair.run_until(Duration::from_secs(12), Pair::is_up),
            "wrong was {wrong:?}"
        );
        assert!(pair.run_until(LONG, Pair::is_settled), "{:?}", pair.discord());
    }
}

#[test]
fn different_keys_are_told() {
    check(DownReason::AuthenticationFailed, |config| {
        config.psk = Secret::new("wrong".into())
    });
}

#[test]
fn different_identities_are_told() {
    check(DownReason::AuthenticationFailed, |config| {
        config.local_identity = IkeIdentity::Fqdn("somebody.example".into());
    });
}

#[test]
fn different_ike_proposals_are_told() {
    check(DownReason::IkeProposalMismatch, |config| {
        config.ike_proposals[0].encryption = vec![Encryption::Aes256Gcm16];
    });
}

#[test]
fn different_groups_are_told() {
    check(DownReason::IkeProposalMismatch, |config| {
        config.ike_proposals[0].dh = vec![DhGroup::Ecp384];
    });
}

#[test]
fn different_esp_proposals_are_told() {
    check(DownReason::IpsecProposalMismatch, |config| {
        config.esp_proposals[0].encryption = vec![Encryption::Aes256Gcm16];
    });
}

#[test]
fn different_ranges_are_told() {
    check(DownReason::SelectorMismatch, |config| {
        config.local_cidrs = vec!["172.16.0.0/16".parse().unwrap()];
    });
}

#[test]
fn a_peer_that_is_not_there_is_told() {
    let mut pair = Pair::new(1, Link::clean());
    pair.upsert(Side::Left, Pair::config(Side::Left));
    pair.run_for(Duration::from_secs(3));
    assert_eq!(reason(&pair, Side::Left), Some(DownReason::PeerNotResponding));
    pair.run_for(Duration::from_secs(300));
    assert_eq!(reason(&pair, Side::Left), Some(DownReason::PeerNotResponding));
    assert!(pair.sent < 200, "{}", pair.sent);
}

#[test]
fn different_forward_secrecy_shows_at_the_first_rekey_and_keeps_the_child_in_use() {
    let mut pair = Pair::new(1, Link::clean());
    let mut left = Pair::config(Side::Left);
    left.esp_proposals[0].pfs = vec![DhGroup::X25519];
    pair.upsert(Side::Left, left);
    pair.upsert(Side::Right, Pair::config(Side::Right));
    assert!(pair.run_until(LONG, Pair::is_settled), "{:?}", pair.discord());
    let child = pair.peer(Side::Left).sending_child().unwrap().sa.child;
    pair.act(Side::Left, |endpoint, now| endpoint.rekey_child(child, now));
    pair.run_for(Duration::from_secs(30));
    assert!(pair.is_settled(), "{:?}", pair.discord());
    for side in [Side::Left, Side::Right] {
        let status = pair.peer(side).endpoint.status(side.connection()).unwrap();
        let (reason, detail) = status.warning.expect("a warning");
        assert_eq!(reason, DownReason::IpsecProposalMismatch);
        assert!(detail.contains("PFS"), "{detail}");
    }
}

#[test]
fn a_version_one_policy_that_needs_version_two_is_told_in_words() {
    let mut pair = Pair::new(1, Link::clean());
    let mut left = Pair::config(Side::Left);
    // Its only cipher is an AEAD.
    left.version = IkeVersion::V1;
    pair.upsert(Side::Left, left);
    pair.run_for(LONG);
    assert_eq!(pair.sent, 0);
    let state = pair.peer(Side::Left).endpoint.state(Side::Left.connection());
    assert!(matches!(state, Some(ConnectionState::Down { detail, .. }) if detail.contains("version 1")));
}

#[test]
fn ends_of_different_versions_tell_each_others() {
    let mut pair = Pair::new(1, Link::clean());
    connect_with(&mut pair, |side, config| {
        if side == Side::Left {
            crate::v1::version_1(side, config);
        }
    });
    pair.run_for(Duration::from_secs(20));
    for (side, words) in [
        (
            Side::Left,
            "the peer speaks IKE version 2, version 1 is configured here",
        ),
        (
            Side::Right,
            "the peer speaks IKE version 1, version 2 is configured here",
        ),
    ] {
        let status = pair.peer(side).endpoint.status(side.connection()).unwrap();
        let told = status
            .findings
            .iter()
            .any(|finding| finding.kind.explanation().contains(words));
        assert!(told, "{side:?}: {:?}", status.findings);
    }
}
