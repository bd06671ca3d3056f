//! Additional key exchanges: IKE_INTERMEDIATE and IKE_FOLLOWUP_KE.

use std::time::Duration;

use isthmus_ike::{ConnectionConfig, DownReason};
use isthmus_simnet::{Link, Pair, Side};
use isthmus_types::{AdditionalKeyExchange, DhGroup, Secret};

use crate::rekeying::{What, rekey};
use crate::{LONG, REST, child_spi, connect_with, lost, reason};

fn hybrid(_: Side, config: &mut ConnectionConfig) {
    config.ike_proposals[0].additional = vec![AdditionalKeyExchange::MlKem768];
    config.esp_proposals[0].pfs = vec![DhGroup::X25519];
    config.esp_proposals[0].additional = vec![AdditionalKeyExchange::MlKem768];
}

fn up(seed: u64, link: Link) -> Pair {
    let mut pair = Pair::new(seed, link);
    connect_with(&mut pair, hybrid);
    assert!(
        pair.run_until(LONG, Pair::is_settled),
        "seed {seed}: {:?}",
        pair.discord()
    );
    pair
}

fn suites(pair: &Pair, side: Side) -> (String, String) {
    let status = pair
        .peer(side)
        .endpoint
        .status(side.connection())
        .expect("a connection");
    (
        status.ike_suite.expect("an IKE SA").to_string(),
        status.esp_suite.expect("a child").to_string(),
    )
}

#[test]
fn first_keys_and_all_later_ones_come_from_both_exchanges() {
    let mut pair = up(1, Link::clean());
    for side in [Side::Left, Side::Right] {
        let (ike, esp) = suites(&pair, side);
        assert_eq!(ike, "aes128gcm16-prfsha256-x25519-mlkem768");
        assert_eq!(esp, "aes128gcm16");
    }
    for side in [Side::Left, Side::Right] {
        rekey(&mut pair, side, What::Child);
        pair.run_for(REST);
        assert!(pair.is_settled(), "{:?}", pair.discord());
        rekey(&mut pair, side, What::Ike);
        pair.run_for(REST);
        assert!(pair.is_settled(), "{:?}", pair.discord());
        for side in [Side::Left, Side::Right] {
            let (ike, esp) = suites(&pair, side);
            assert_eq!(ike, "aes128gcm16-prfsha256-x25519-mlkem768");
            assert_eq!(esp, "aes128gcm16-x25519-mlkem768");
        }
    }
}

#[test]
fn a_peer_without_it_gets_the_plain_proposal_beside() {
    for without in [Side::Left, Side::Right] {
        let mut pair = Pair::new(2, Link::clean());
        connect_with(&mut pair, |side, config| {
            let plain = config.ike_proposals[0].clone();
            if side != without {
                hybrid(side, config);
                config.ike_proposals.push(plain);
            }
        });
        assert!(pair.run_until(LONG, Pair::is_settled), "{:?}", pair.discord());
        assert_eq!(suites(&pair, without).0, "aes128gcm16-prfsha256-x25519");
    }
}

#[test]
fn ends_of_which_only_one_insists_do_not_come_up() {
    let mut pair = Pair::new(3, Link::clean());
    connect_with(&mut pair, |side, config| {
        if side == Side::Left {
            hybrid(side, config);
        }
    });
    pair.run_for(Duration::from_secs(20));
    assert!(!pair.is_up());
    assert_eq!(reason(&pair, Side::Left), Some(DownReason::IkeProposalMismatch));
}

#[test]
fn another_shared_key_is_found_after_an_additional_key_exchange_too() {
    let mut pair = Pair::new(4, Link::clean());
    connect_with(&mut pair, |side, config| {
        hybrid(side, config);
        if side == Side::Left {
            config.psk = Secret::new("something else".into());
        }
    });
    pair.run_for(Duration::from_secs(20));
    assert!(!pair.is_up());
    assert_eq!(reason(&pair, Side::Left), Some(DownReason::AuthenticationFailed));
}

#[test]
fn the_loss_of_any_one_datagram_is_overcome_with_and_without_fragments() {
    for fragment_size in [0, 576, 1280] {
        let with = |link| {
            let mut pair = Pair::new(5, link);
            connect_with(&mut pair, |side, config| {
                hybrid(side, config);
                config.options.fragment_size = fragment_size;
            });
            assert!(
                pair.run_until(LONG, Pair::is_settled),
                "{fragment_size}: {:?}",
                pair.discord()
            );
            pair
        };
        let all = with(Link::clean()).sent;
        for number in 0..all {
            with(Link::losing(number));
        }
    }
}

fn check(mut pair: Pair, begun: &[(Side, What)], gap: Duration, label: &str) {
    let before = child_spi(&pair, Side::Left);
    for (side, what) in begun {
        rekey(&mut pair, *side, *what);
        pair.run_for(gap);
    }
    pair.run_for(REST);
    assert!(
        pair.run_until(LONG, Pair::is_settled),
        "{label}: {:?}",
        pair.discord()
    );
    let child_too = begun.iter().any(|(_, what)| *what == What::Child);
    assert_eq!(child_spi(&pair, Side::Left) != before, child_too, "{label}");
    assert_eq!(lost(&pair), 0, "{label}");
}

const CASES: [&[(Side, What)]; 6] = [
    &[(Side::Left, What::Child)],
    &[(Side::Right, What::Ike)],
    &[(Side::Left, What::Child), (Side::Right, What::Child)],
    &[(Side::Left, What::Ike), (Side::Right, What::Ike)],
    &[(Side::Left, What::Ike), (Side::Right, What::Child)],
    &[(Side::Left, What::Child), (Side::Right, What::Ike)],
];

fn busy(seed: u64) -> Pair {
    let mut pair = up(seed, Link::clean());
    pair.set_traffic(true);
    pair.run_for(Duration::from_secs(1));
    pair
}

#[test]
fn rekeys_with_a_followup_survive_the_loss_of_each_datagram() {
    for seed in 0..2 {
        for case in CASES {
            for number in 0..14 {
                let mut pair = busy(seed);
                pair.link.lose_number = Some(pair.sent + number);
                let label = format!("seed {seed}, {case:?} without {number}");
                check(pair, case, Duration::ZERO, &label);
            }
        }
    }
}

#[test]
fn rekeys_with_a_followup_that_cross_at_any_moment_leave_one_of_each() {
    for seed in 0..4 {
        for case in &CASES[2..] {
            for gap in 0..32 {
                let label = format!("seed {seed}, {case:?} {gap} ms apart");
                check(busy(seed), case, Duration::from_millis(gap), &label);
            }
        }
    }
}

#[test]
fn ends_with_followups_agree_again_after_any_faults() {
    for seed in 0..60 {
        let mut pair = Pair::new(seed, Link::hostile());
        connect_with(&mut pair, |side, config| {
            hybrid(side, config);
            config.ike_lifetime_seconds = 40;
            config.esp_lifetime_seconds = 15;
        });
        pair.run_for(Duration::from_secs(150));
        pair.link = Link::clean();
        pair.run_for(Duration::from_secs(60));
        assert!(
            pair.run_until(LONG, Pair::is_settled),
            "seed {seed}: {:?}",
            pair.discord()
        );
    }
}
