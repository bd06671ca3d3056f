use std::time::Duration;

use isthmus_ike::{ConnectionConfig, EstablishMode};
use isthmus_simnet::{Link, Pair, Side};
use isthmus_types::DhGroup;

use crate::rekeying::{CASES, What, check, rekey};
use crate::{LONG, REST, child_spi, connect_with, lost, settled};

#[test]
fn every_rekey_loses_no_packet() {
    for seed in 0..20 {
        for case in CASES {
            check(
                settled(seed, Link::clean()),
                case,
                &format!("seed {seed}, {case:?}"),
            );
        }
    }
}

#[test]
fn every_rekey_survives_the_loss_of_each_datagram() {
    for seed in 0..4 {
        for case in CASES {
            for number in 0..14 {
                let mut pair = settled(seed, Link::clean());
                pair.link.lose_number = Some(pair.sent + number);
                check(pair, case, &format!("seed {seed}, {case:?} without {number}"));
            }
        }
    }
}

/// Both ends begin within one flight of each other, again and again, with a key exchange in each rekey.
#[test]
fn rekeys_that_cross_on_the_way_lose_no_packet() {
    for what in [What::Child, What::Ike] {
        for offset in 0..14 {
            let mut pair = Pair::new(offset, Link::clean());
            connect_with(&mut pair, |_, config| {
                config.esp_proposals[0].pfs = vec![DhGroup::X25519];
            });
            assert!(pair.run_until(LONG, Pair::is_settled), "{:?}", pair.discord());
            pair.set_traffic(true);
            pair.run_for(Duration::from_secs(1));
            for _ in 0..3 {
                let before = child_spi(&pair, Side::Left);
                rekey(&mut pair, Side::Left, what);
                pair.run_for(Duration::from_millis(offset));
                rekey(&mut pair, Side::Right, what);
                pair.run_for(REST);
                assert!(pair.is_settled(), "{what:?} {offset} ms: {:?}", pair.discord());
                let changed = child_spi(&pair, Side::Left) != before;
                assert_eq!(changed, matches!(what, What::Child), "{what:?} {offset} ms");
            }
            assert_eq!(lost(&pair), 0, "{what:?} {offset} ms");
        }
    }
}

#[test]
fn a_rekey_with_forward_secrecy_follows_the_group_of_the_responder() {
    let mut pair = Pair::new(1, Link::clean());
    connect_with(&mut pair, |side, config| {
        config.esp_proposals[0].pfs = match side {
            Side::Left => vec![DhGroup::X25519, DhGroup::Ecp256],
            Side::Right => vec![DhGroup::Ecp256],
        };
    });
    assert!(pair.run_until(LONG, Pair::is_settled));
    rekey(&mut pair, Side::Left, What::Child);
    pair.run_for(REST);
    assert!(pair.is_settled(), "{:?}", pair.discord());
    let status = pair
        .peer(Side::Left)
        .endpoint
        .status(Side::Left.connection())
        .unwrap();
    assert_eq!(status.children[0].suite.pfs, Some(DhGroup::Ecp256));
}

fn short_lives(_: Side, config: &mut ConnectionConfig) {
    config.ike_lifetime_seconds = 60;
    config.esp_lifetime_seconds = 25;
    config.esp_proposals[0].pfs = vec![DhGroup::X25519];
}

#[test]
fn lifetimes_pass_unnoticed_by_traffic() {
    for seed in 0..8 {
        let mut pair = Pair::new(seed, Link::clean());
        connect_with(&mut pair, short_lives);
        assert!(pair.run_until(LONG, Pair::is_settled));
        pair.set_traffic(true);
        let first = child_spi(&pair, Side::Left);
        pair.run_for(Duration::from_secs(600));
        assert!(
            pair.run_until(LONG, Pair::is_settled),
            "seed {seed}: {:?}",
            pair.discord()
        );
        assert_eq!(lost(&pair), 0, "seed {seed}");
        assert_ne!(child_spi(&pair, Side::Left), first);
    }
}

#[test]
fn an_end_that_must_not_begin_leaves_rekeys_to_the_other() {
    let mut pair = Pair::new(3, Link::clean());
    connect_with(&mut pair, |side, config| {
        short_lives(side, config);
        if side == Side::Left {
            config.establish = EstablishMode::PeerOnly;
            // It must never come to its own end first.
            config.ike_lifetime_seconds = 90;
            config.esp_lifetime_seconds = 40;
        }
    });
    assert!(pair.run_until(LONG, Pair::is_settled));
    pair.set_traffic(true);
    pair.run_for(Duration::from_secs(300));
    assert!(pair.run_until(LONG, Pair::is_settled), "{:?}", pair.discord());
    assert_eq!(lost(&pair), 0);
}
