//! What each end finds out about why it is down.

use std::time::Duration;

use isthmus_ike::{
    ConnectionConfig, DownReason, EstablishMode, EventKind, Finding, FindingKind, IkeIdentity, Severity,
};
use isthmus_simnet::{Link, Pair, Side};
use isthmus_types::{DhGroup, Encryption, IkeVersion, Secret};

use crate::{LONG, reason};

/// The findings of the left end, which alone begins, with the right one changed.
fn findings(change: impl Fn(&mut ConnectionConfig)) -> Vec<Finding> {
    let mut pair = Pair::new(1, Link::clean());
    let mut right = Pair::config(Side::Right);
    right.establish = EstablishMode::PeerOnly;
    change(&mut right);
    pair.upsert(Side::Right, right);
    pair.upsert(Side::Left, Pair::config(Side::Left));
    pair.run_for(Duration::from_secs(45));
    let status = pair.peer(Side::Left).endpoint.status(Side::Left.connection());
    status.expect("a connection").findings
}

fn gravest(findings: &[Finding]) -> (&'static str, Severity) {
    let first = findings.first().expect("something was found");
    (first.kind.field(), first.kind.severity())
}

#[test]
fn a_refused_end_asks_what_the_peer_has() {
    let found = findings(|right| right.ike_proposals[0].dh = vec![DhGroup::Ecp384]);
    assert_eq!(gravest(&found), ("ike.dh", Severity::Error));
    assert!(found[0].kind.theirs().contains("ecp384"), "{found:?}");
    let found = findings(|right| right.esp_proposals[0].encryption = vec![Encryption::Aes256Gcm16]);
    assert_eq!(gravest(&found), ("esp.key_length", Severity::Error));
    assert!(found[0].kind.theirs().contains("aes256gcm16"), "{found:?}");
}

#[test]
fn a_peer_with_nothing_but_obsolete_algorithms_tells_no_more_than_its_refusal() {
    let found = findings(|right| {
        right.ike_proposals[0].encryption = vec![Encryption::TripleDes];
        right.ike_proposals[0].integrity = vec![isthmus_types::Integrity::HmacMd5_96];
        right.ike_proposals[0].dh = vec![DhGroup::Modp1024];
    });
    assert_eq!(gravest(&found), ("ike.proposals", Severity::Error));
    assert_eq!(
        found[0].kind.suspects(),
        ["ike.proposals", "ike_version", "peer_address"]
    );
}

#[test]
fn a_peer_of_another_name_is_told_by_its_name() {
    let found = findings(|right| right.local_identity = IkeIdentity::Fqdn("other.example".into()));
    assert_eq!(gravest(&found), ("peer_identity", Severity::Error));
    assert!(found[0].kind.theirs().contains("other.example"), "{found:?}");
}

#[test]
fn a_refused_key_leaves_both_candidates() {
    let found = findings(|right| right.psk = Secret::new("another".into()));
    assert_eq!(gravest(&found), ("psk", Severity::Error));
    assert_eq!(found[0].kind.suspects(), ["psk", "local_identity"]);
}

#[test]
fn ranges_that_are_left_out_are_named() {
    let narrow = |right: &mut ConnectionConfig| {
        let half = right.local_cidrs[0].to_string().replace("/16", "/17");
        right.local_cidrs = vec![half.parse().expect("a range")];
    };
    let found = findings(narrow);
    let (field, severity) = gravest(&found);
    assert_eq!((field, severity), ("peer_cidrs", Severity::Warning), "{found:?}");
    assert!(found[0].kind.ours().ends_with(".128.0/17"), "{found:?}");
}

#[test]
fn what_was_wrong_is_forgotten_when_it_works() {
    let mut pair = Pair::new(1, Link::clean());
    let mut wrong = Pair::config(Side::Right);
    wrong.psk = Secret::new("another".into());
    pair.upsert(Side::Right, wrong);
    pair.upsert(Side::Left, Pair::config(Side::Left));
    pair.run_for(Duration::from_secs(20));
    pair.upsert(Side::Right, Pair::config(Side::Right));
    assert!(pair.run_until(LONG, Pair::is_settled), "{:?}", pair.discord());
    for side in [Side::Left, Side::Right] {
        let status = pair
            .peer(side)
            .endpoint
            .status(side.connection())
            .expect("a connection");
        let grave = |finding: &&Finding| finding.kind.severity() == Severity::Error;
        assert_eq!(status.findings.iter().find(grave), None);
        assert!(status.events.len() <= 32);
        let installed = |kind: &EventKind| matches!(kind, EventKind::ChildInstalled { .. });
        assert!(status.events.iter().any(|event| installed(&event.kind)));
    }
}

#[test]
fn a_mismatch_that_the_peer_has_corrected_is_forgotten_though_the_tunnel_stays_down() {
    for version in [IkeVersion::V1, IkeVersion::V2] {
        let mut pair = Pair::new(1, Link::clean());
        let mut wrong = Pair::config(Side::Right);
        wrong.local_cidrs = vec!["172.16.0.0/16".parse().expect("a range")];
        wrong.esp_proposals[0].pfs = vec![DhGroup::X25519];
        let mut configs = [Pair::config(Side::Left), wrong];
        for (side, config) in [Side::Left, Side::Right].into_iter().zip(&mut configs) {
            if version == IkeVersion::V1 {
                crate::v1::version_1(side, config);
            }
            pair.upsert(side, config.clone());
        }
        let differs = |pair: &Pair| {
            let status = pair.peer(Side::Left).endpoint.status(Side::Left.connection());
            let findings = status.expect("a connection").findings;
            findings
                .iter()
                .any(|finding| matches!(finding.kind, FindingKind::PfsMismatch { .. }))
        };
        assert!(pair.run_until(LONG, differs), "{version:?}");
        configs[1].esp_proposals[0].pfs.clear();
        pair.upsert(Side::Right, configs[1].clone());
        assert!(pair.run_until(LONG, |pair| !differs(pair)), "{version:?}");
        assert_eq!(
            reason(&pair, Side::Left),
            Some(DownReason::SelectorMismatch),
            "{version:?}"
        );
    }
}

#[test]
fn forward_secrecy_is_not_verified_before_the_first_own_exchange_and_is_after() {
    let mut pair = Pair::new(1, Link::clean());
    for side in [Side::Left, Side::Right] {
        let mut config = Pair::config(side);
        config.esp_proposals[0].pfs = vec![DhGroup::X25519];
        pair.upsert(side, config);
    }
    assert!(pair.run_until(LONG, Pair::is_settled), "{:?}", pair.discord());
    let unverified = |pair: &Pair| {
        let status = pair.peer(Side::Left).endpoint.status(Side::Left.connection());
        let findings = status.expect("a connection").findings;
        findings
            .iter()
            .any(|finding| matches!(finding.kind, FindingKind::PfsUnverified { .. }))
    };
    assert!(unverified(&pair));
    let child = pair.peer(Side::Left).sending_child().expect("a child").sa.child;
    pair.act(Side::Left, |endpoint, now| endpoint.rekey_child(child, now));
    pair.run_for(Duration::from_secs(5));
    assert!(!unverified(&pair));
}
