use std::time::Duration;

use isthmus_ike::{DpdAction, End};
use isthmus_simnet::{Pair, Side};
use isthmus_types::DhGroup;

use super::{established, settled, settled_with};
use crate::rekeying::{CASES, What, check, rekey};
use crate::{LONG, REST, child_spi, lost};

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

/// A peer that moves its Child SAs to each new ISAKMP SA knows by the order which one that is.
#[test]
fn phases_1_that_cross_are_finished_one_after_the_other() {
    for seed in 0..40 {
        let mut pair = settled(seed);
        let before = child_spi(&pair, Side::Left);
        rekey(&mut pair, Side::Left, What::Ike);
        pair.run_for(Duration::from_millis(seed % 5));
        rekey(&mut pair, Side::Right, What::Ike);
        pair.run_for(Duration::from_secs(2));
        let last: Vec<End> = [Side::Left, Side::Right]
            .into_iter()
            .map(|side| {
                let times = established(&pair, side);
                let [.., (before, _), (last, by)] = times.as_slice() else {
                    panic!("seed {seed}: {times:?}");
                };
                let apart = *last - *before;
                assert!(
                    apart >= Duration::from_millis(150),
                    "seed {seed}, {side:?}: {apart:?}"
                );
                *by
            })
            .collect();
        assert_ne!(
            last[0], last[1],
            "seed {seed}: the same SA is the last one at both ends"
        );
        pair.run_for(REST);
        assert!(pair.is_settled(), "seed {seed}: {:?}", pair.discord());
        assert_eq!(lost(&pair), 0, "seed {seed}");
        // Nobody can tell which SA the peer had moved the old child to.
        assert_ne!(child_spi(&pair, Side::Left), before, "seed {seed}");
    }
}

/// An end that waits before it sends on a new child must take the peer's next rekey for one of that child.
#[test]
fn a_rekey_soon_after_two_that_crossed_leaves_a_child_to_send_on() {
    for seed in 0..60 {
        let mut pair = settled(seed);
        for side in [Side::Left, Side::Right] {
            rekey(&mut pair, side, What::Child);
        }
        pair.run_for(Duration::from_millis(20 + 10 * (seed % 48)));
        let side = [Side::Left, Side::Right][usize::from(seed % 2 == 1)];
        rekey(&mut pair, side, What::Child);
        pair.run_for(REST);
        assert!(pair.is_settled(), "seed {seed}: {:?}", pair.discord());
        let unsent = pair.peer(Side::Left).unsent + pair.peer(Side::Right).unsent;
        assert_eq!((lost(&pair), unsent), (0, 0), "seed {seed}");
    }
}

/// Nothing confirms a delete.
#[test]
fn an_isakmp_sa_whose_delete_is_lost_does_not_stay_at_the_peer() {
    for side in [Side::Left, Side::Right] {
        for seed in 0..4 {
            let sas = |pair: &Pair| {
                [Side::Left, Side::Right].map(|side| pair.peer(side).endpoint.footprint().ike_sas)
            };
            let mut pair = settled_with(seed, |_, config| config.dpd_action = DpdAction::None);
            // One of the SAs that crossed at the beginning is still there for a while.
            pair.run_for(REST);
            rekey(&mut pair, side, What::Ike);
            pair.run_for(Duration::from_secs(1));
            assert_eq!(sas(&pair), [2, 2], "seed {seed}");
            pair.link.lose_number = Some(pair.sent);
            assert!(pair.run_until(LONG, |pair| sas(pair).contains(&1)));
            assert!(sas(&pair).contains(&2), "seed {seed}: the delete was not lost");
            pair.run_for(Duration::from_secs(2));
            assert_eq!(sas(&pair), [1, 1], "seed {seed}");
        }
    }
}

/// Nothing confirms the last message of quick mode, and its responder may have the new child only from then on.
#[test]
fn a_lost_last_message_of_quick_mode_goes_out_again_before_the_new_child_is_used() {
    let sending = |pair: &Pair, side| {
        let child = pair.peer(side).sending_child().expect("a child");
        child.sa.child
    };
    for seed in 0..8 {
        let mut pair = settled(seed);
        pair.run_for(REST);
        let old = [Side::Left, Side::Right].map(|side| sending(&pair, side));
        pair.link.lose_number = Some(pair.sent + 2);
        rekey(&mut pair, Side::Left, What::Child);
        pair.run_for(Duration::from_millis(400));
        let new = [Side::Left, Side::Right].map(|side| sending(&pair, side));
        assert_ne!(new[1], old[1], "seed {seed}: the responder was not told");
        pair.run_for(Duration::from_secs(2));
        assert_eq!(lost(&pair), 0, "seed {seed}");
    }
}
