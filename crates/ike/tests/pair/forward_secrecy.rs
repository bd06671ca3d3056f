//! When a key exchange of a child's own is done, and when its absence is found.

use std::time::Duration;

use isthmus_ike::{ConnectionConfig, EstablishMode};
use isthmus_simnet::{Link, Pair, Side};
use isthmus_types::DhGroup;

use crate::{LONG, connect_with, lost};

fn pfs_of_child(pair: &Pair, side: Side) -> Option<DhGroup> {
    let status = pair.peer(side).endpoint.status(side.connection());
    status.expect("a connection").esp_suite?.pfs
}

fn warning(pair: &Pair, side: Side) -> String {
    let status = pair.peer(side).endpoint.status(side.connection());
    status
        .expect("a connection")
        .warning
        .map(|(_, detail)| detail)
        .unwrap_or_default()
}

fn childless(side: Side, config: &mut ConnectionConfig) {
    config.esp_proposals[0].pfs = vec![DhGroup::X25519];
    config.options.childless = true;
    if side == Side::Right {
        config.establish = EstablishMode::PeerOnly;
    }
}

#[test]
fn the_first_child_of_a_childless_start_has_a_key_exchange_of_its_own() {
    let mut pair = Pair::new(1, Link::clean());
    connect_with(&mut pair, childless);
    assert!(
        pair.run_until(Duration::from_secs(1), Pair::is_settled),
        "{:?}",
        pair.discord()
    );
    // IKE_SA_INIT, IKE_AUTH and CREATE_CHILD_SA.
    assert_eq!(pair.sent, 6);
    for side in [Side::Left, Side::Right] {
        assert_eq!(pfs_of_child(&pair, side), Some(DhGroup::X25519));
    }
}

#[test]
fn a_childless_start_survives_the_loss_of_each_datagram_and_both_ends_at_once() {
    for number in 0..8 {
        for one_sided in [false, true] {
            let mut pair = Pair::new(2, Link::losing(number));
            connect_with(&mut pair, |side, config| {
                childless(side, config);
                if !one_sided {
                    config.establish = EstablishMode::Bidirectional;
                }
            });
            assert!(
                pair.run_until(LONG, Pair::is_settled),
                "without {number}: {:?}",
                pair.discord()
            );
            assert_eq!(pfs_of_child(&pair, Side::Left), Some(DhGroup::X25519));
        }
    }
}

#[test]
fn an_end_that_does_not_ask_for_a_childless_start_gets_its_child_with_the_authentication() {
    let mut pair = Pair::new(3, Link::clean());
    connect_with(&mut pair, |side, config| {
        childless(side, config);
        config.options.childless = side == Side::Right;
    });
    assert!(
        pair.run_until(Duration::from_secs(1), Pair::is_settled),
        "{:?}",
        pair.discord()
    );
    assert_eq!(pair.sent, 4);
    assert_eq!(pfs_of_child(&pair, Side::Left), None);
}

#[test]
fn forward_secrecy_is_verified_at_once_without_loss_if_wanted() {
    for begun_by in [Side::Left, Side::Right] {
        let mut pair = Pair::new(4, Link::clean());
        connect_with(&mut pair, |side, config| {
            config.esp_proposals[0].pfs = vec![DhGroup::X25519];
            // Of the end that only answers too, later.
            config.options.verify_pfs = side == Side::Left;
            if side != begun_by {
                config.ike_lifetime_seconds = 20_000;
            }
        });
        pair.set_traffic(true);
        pair.run_for(Duration::from_secs(15));
        assert!(pair.is_settled(), "{:?}", pair.discord());
        for side in [Side::Left, Side::Right] {
            assert_eq!(pfs_of_child(&pair, side), Some(DhGroup::X25519));
        }
    }
}

#[test]
fn a_mismatch_of_forward_secrecy_shows_at_once_and_names_it_while_traffic_passes() {
    let mut pair = Pair::new(5, Link::clean());
    connect_with(&mut pair, |side, config| {
        config.options.verify_pfs = true;
        if side == Side::Left {
            config.esp_proposals[0].pfs = vec![DhGroup::X25519];
        } else {
            config.establish = EstablishMode::PeerOnly;
        }
    });
    pair.run_for(Duration::from_secs(1));
    pair.set_traffic(true);
    pair.run_for(Duration::from_secs(2));
    assert!(pair.is_settled(), "{:?}", pair.discord());
    assert!(
        warning(&pair, Side::Left).contains("PFS"),
        "{}",
        warning(&pair, Side::Left)
    );
    assert_eq!(lost(&pair), 0);
    // It is not asked again and again.
    let sent = pair.sent;
    pair.set_traffic(true);
    pair.run_for(Duration::from_secs(60));
    assert!(pair.sent - sent < 10, "{}", pair.sent - sent);
}
