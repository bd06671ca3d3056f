use std::time::Duration;

use isthmus_ike::{EstablishMode, IkeIdentity, PeerEndpoint};
use isthmus_simnet::{Link, Nat, Pair, Side};

use crate::{LONG, connect_with, lost};

fn behind_nat() -> Pair {
    let mut pair = Pair::new(1, Link::clean());
    let nat = Nat::new("198.51.100.1".parse().expect("a constant address"));
    let public = nat.public();
    pair.put_nat(Side::Left, nat);
    let mut right = Pair::config(Side::Right);
    right.peer = PeerEndpoint::Address(public);
    right.establish = EstablishMode::PeerOnly;
    pair.upsert(Side::Right, right);
    pair.upsert(Side::Left, Pair::config(Side::Left));
    pair
}

#[test]
fn a_nat_is_found_and_passed() {
    let mut pair = behind_nat();
    assert!(pair.run_until(LONG, Pair::is_settled), "{:?}", pair.discord());
    let left = pair
        .peer(Side::Left)
        .endpoint
        .status(Side::Left.connection())
        .unwrap();
    let right = pair
        .peer(Side::Right)
        .endpoint
        .status(Side::Right.connection())
        .unwrap();
    assert!(left.nat.unwrap().local && !left.nat.unwrap().remote);
    assert!(right.nat.unwrap().remote && !right.nat.unwrap().local);
    assert_eq!(left.remote.unwrap().port(), 4500);
    pair.set_traffic(true);
    pair.run_for(Duration::from_secs(5));
    assert_eq!(lost(&pair), 0);
}

#[test]
fn a_new_mapping_is_followed() {
    let mut pair = behind_nat();
    assert!(pair.run_until(LONG, Pair::is_settled));
    pair.set_traffic(true);
    pair.run_for(Duration::from_secs(5));
    pair.nat_mut().unwrap().rebind();
    pair.run_for(Duration::from_secs(5));
    assert_eq!(pair.peer(Side::Right).moves, 1);
    let received = pair.peer(Side::Left).received;
    pair.run_for(Duration::from_secs(5));
    assert!(pair.peer(Side::Left).received > received + 100);
    assert!(pair.is_settled());
}

#[test]
fn keepalives_go_out_only_behind_the_nat_and_only_in_silence() {
    let mut pair = behind_nat();
    let mut config = Pair::config(Side::Left);
    config.dpd_action = isthmus_ike::DpdAction::None;
    pair.upsert(Side::Left, config);
    assert!(pair.run_until(LONG, Pair::is_settled));
    let mut keepalives = 0;
    for _ in 0..6 {
        let sent = pair.sent;
        pair.run_for(Duration::from_secs(20));
        keepalives += pair.sent - sent;
    }
    assert!(keepalives >= 5, "{keepalives}");
}

#[test]
fn encapsulation_is_forced_by_either_end() {
    for forcing in [Side::Left, Side::Right] {
        let mut pair = Pair::new(1, Link::clean());
        connect_with(&mut pair, |side, config| {
            config.force_encapsulation = side == forcing;
            // Identities do not depend on ports.
            config.local_identity = IkeIdentity::Address(side.address());
        });
        assert!(pair.run_until(LONG, Pair::is_settled), "{:?}", pair.discord());
        for side in [Side::Left, Side::Right] {
            let status = pair.peer(side).endpoint.status(side.connection()).unwrap();
            assert!(status.nat.unwrap().encapsulates(), "{forcing:?} forces, {side:?}");
            assert_eq!(status.remote.unwrap().port(), 4500);
        }
        pair.set_traffic(true);
        pair.run_for(Duration::from_secs(2));
        assert_eq!(lost(&pair), 0);
    }
}
