use std::time::Duration;

use isthmus_simnet::{Pair, Side};
use isthmus_types::DhGroup;

use super::{settled, settled_with};
use crate::{LONG, REST, child_spi, lost};

#[derive(Clone, Copy, Debug)]
enum What {
    Child,
    Ike,
}

fn rekey(pair: &mut Pair, side: Side, what: What) {
    let status = pair.peer(side).endpoint.status(side.connection());
    let status = status.expect("a connection");
    let child = status.children[0].child;
    pair.act(side, |endpoint, now| match what {
        What::Child => endpoint.rekey_child(child, now),
        What::Ike => endpoint.rekey_ike(side.connection(), now),
    });
}

fn check(mut pair: Pair, sides: &[(Side, What)], label: &str) {
    let before = child_spi(&pair, Side::Left);
    for (side, what) in sides {
        rekey(&mut pair, *side, *what);
    }
    pair.run_for(REST);
    assert!(
        pair.run_until(LONG, Pair::is_settled),
        "{label}: {:?}",
        pair.discord()
    );
    let child_too = sides.iter().any(|(_, what)| matches!(what, What::Child));
    assert_eq!(child_spi(&pair, Side::Left) != before, child_too, "{label}");
    assert_eq!(lost(&pair), 0, "{label}");
    let received = pair.peer(Side::Left).received;
    pair.run_for(Duration::from_secs(1));
    assert!(
        pair.peer(Side::Left).received > received,
        "{label}: traffic has stopped"
    );
}

const CASES: [&[(Side, What)]; 8] = [
    &[(Side::Left, What::Child)],
    &[(Side::Right, What::Child)],
    &[(Side::Left, What::Ike)],
    &[(Side::Right, What::Ike)],
    &[(Side::Left, What::Child), (Side::Right, What::Child)],
    &[(Side::Left, What::Ike), (Side::Right, What::Ike)],
    &[(Side::Left, What::Ike), (Side::Right, What::Child)],
    &[
        (Side::Left, What::Child),
        (Side::Right, What::Child),
        (Side::Left, What::Ike),
        (Side::Right, What::Ike),
    ],
];

#[test]
fn every_rekey_loses_no_packet() {
    for seed in 0..10 {
        for case in CASES {
            check(settled(seed), case, &format!("seed {seed}, {case:?}"));
        }
    }
}

#[test]
fn every_rekey_survives_the_loss_of_each_datagram() {
    for seed in 0..2 {
        for case in CASES {
            for number in 0..16 {
                let mut pair = settled(seed);
                pair.link.lose_number = Some(pair.sent + number);
                check(pair, case, &format!("seed {seed}, {case:?} without {number}"));
            }
        }
    }
}

/// Both ends begin within one flight of each other, again and again.
#[test]
fn rekeys_that_cross_on_the_way_lose_no_packet() {
    for what in [What::Child, What::Ike] {
        for offset in 0..14 {
            let mut pair = settled_with(offset, |_, config| {
                config.esp_proposals[0].pfs = vec![DhGroup::X25519];
            });
            for _ in 0..3 {
                rekey(&mut pair, Side::Left, what);
                pair.run_for(Duration::from_millis(offset));
                rekey(&mut pair, Side::Right, what);
                pair.run_for(REST);
                assert!(pair.is_settled(), "{what:?} {offset} ms: {:?}", pair.discord());
            }
            assert_eq!(lost(&pair), 0, "{what:?} {offset} ms");
        }
    }
}

#[test]
fn lifetimes_pass_unnoticed_by_traffic() {
    for seed in 0..4 {
        let mut pair = settled_with(seed, |side, config| {
            config.ike_lifetime_seconds = 200;
            config.esp_lifetime_seconds = if side == Side::Left { 100 } else { 60 };
        });
        let first = child_spi(&pair, Side::Left);
        pair.run_for(Duration::from_secs(1500));
        assert!(
            pair.run_until(LONG, Pair::is_settled),
            "seed {seed}: {:?}",
            pair.discord()
        );
        assert_eq!(lost(&pair), 0, "seed {seed}");
        assert_ne!(child_spi(&pair, Side::Left), first);
    }
}
