use std::time::Duration;

use isthmus_ike::{ConnectionState, EstablishMode};
use isthmus_simnet::{Link, Pair, Side};
use isthmus_types::{Encryption, Secret};

use crate::{LONG, child_spi, lost, settled};

#[test]
fn an_equal_or_renamed_configuration_changes_nothing() {
    let mut pair = settled(1, Link::clean());
    pair.run_for(Duration::from_secs(20));
    let (sent, spi) = (pair.sent, child_spi(&pair, Side::Left));
    pair.upsert(Side::Left, Pair::config(Side::Left));
    let mut renamed = Pair::config(Side::Left);
    renamed.name = "other".into();
    renamed.esp_lifetime_seconds = 1800;
    pair.upsert(Side::Left, renamed);
    pair.run_for(Duration::from_secs(20));
    assert_eq!((pair.sent, child_spi(&pair, Side::Left)), (sent, spi));
    assert!(pair.is_settled());
    assert_eq!(lost(&pair), 0);
}

#[test]
fn down_removes_everything_and_up_brings_it_back() {
    let mut pair = settled(1, Link::clean());
    let mut down = Pair::config(Side::Left);
    down.admin_up = false;
    pair.upsert(Side::Left, down);
    assert!(pair.peer(Side::Left).children.is_empty());
    assert_eq!(
        pair.peer(Side::Left).endpoint.state(Side::Left.connection()),
        Some(ConnectionState::AdminDown)
    );
    pair.run_for(LONG);
    assert!(pair.peer(Side::Right).children.is_empty());
    pair.upsert(Side::Left, Pair::config(Side::Left));
    assert!(pair.run_until(Duration::from_millis(50), Pair::is_up));
    assert!(pair.run_until(LONG, Pair::is_settled), "{:?}", pair.discord());
}

#[test]
fn a_reset_negotiates_anew() {
    let mut pair = settled(1, Link::clean());
    let spi = child_spi(&pair, Side::Left);
    let mut reset = Pair::config(Side::Left);
    reset.reset_count = 1;
    pair.upsert(Side::Left, reset);
    assert!(pair.run_until(Duration::from_millis(100), Pair::is_up));
    assert!(pair.run_until(LONG, Pair::is_settled), "{:?}", pair.discord());
    assert_ne!(child_spi(&pair, Side::Left), spi);
}

#[test]
fn new_ranges_make_a_new_child_under_the_same_ike_sa() {
    let mut pair = settled(1, Link::clean());
    pair.journal = Some(Vec::new());
    for side in [Side::Left, Side::Right] {
        let mut config = Pair::config(side);
        let wider = "10.1.0.0/15".parse::<isthmus_types::Cidr>();
        assert!(wider.is_err(), "host bits are refused");
        match side {
            Side::Left => config.local_cidrs.push("10.3.0.0/16".parse().unwrap()),
            Side::Right => config.peer_cidrs.push("10.3.0.0/16".parse().unwrap()),
        }
        pair.upsert(side, config);
    }
    let up = pair.run_until(LONG, |pair| {
        pair.is_settled()
            && pair
                .peer(Side::Right)
                .sending_child()
                .is_some_and(|child| child.sa.remote_selectors.len() == 2)
    });
    assert!(up, "{:?} {:#?}", pair.discord(), pair.journal);
}

#[test]
fn a_new_key_and_new_algorithms_at_both_ends_are_taken_up() {
    let mut pair = settled(1, Link::clean());
    for side in [Side::Left, Side::Right] {
        let mut config = Pair::config(side);
        config.psk = Secret::new("another key".into());
        config.esp_proposals[0].encryption = vec![Encryption::Aes256Gcm16];
        pair.upsert(side, config);
        pair.run_for(Duration::from_secs(3));
    }
    assert!(pair.run_until(Duration::from_secs(12), Pair::is_up));
    assert!(pair.run_until(LONG, Pair::is_settled), "{:?}", pair.discord());
    let status = pair
        .peer(Side::Left)
        .endpoint
        .status(Side::Left.connection())
        .unwrap();
    assert_eq!(status.esp_suite.unwrap().to_string(), "aes256gcm16");
}

#[test]
fn a_removed_connection_leaves_nothing() {
    let mut pair = settled(1, Link::clean());
    pair.act(Side::Left, |endpoint, now| {
        endpoint.remove_connection(Side::Left.connection(), now);
    });
    assert!(pair.peer(Side::Left).children.is_empty());
    pair.run_for(Duration::from_secs(1));
    assert!(pair.peer(Side::Left).endpoint.is_idle());
    let sent = pair.sent;
    pair.run_for(LONG);
    // The other end goes on trying; nobody answers.
    assert!(pair.sent > sent);
    assert!(pair.peer(Side::Left).endpoint.is_idle());
}

#[test]
fn a_first_message_is_not_repeated_once_only_the_peer_may_begin() {
    let mut pair = Pair::new(1, Link::clean());
    pair.upsert(Side::Left, Pair::config(Side::Left));
    pair.run_for(Duration::from_millis(100));
    assert_eq!(pair.sent, 1);
    let mut peer_only = Pair::config(Side::Left);
    peer_only.establish = EstablishMode::PeerOnly;
    pair.upsert(Side::Left, peer_only);
    pair.run_for(LONG);
    assert_eq!(pair.sent, 1);
    assert!(pair.peer(Side::Left).endpoint.is_idle());
}

/// What was begun before is finished. An IKE SA without a child, and without the right to ask for one, is of no use.
#[test]
fn an_empty_ike_sa_goes_if_only_the_peer_may_begin() {
    let config = |side, establish| {
        let mut config = Pair::config(side);
        config.establish = establish;
        config.options.childless = true;
        config
    };
    for number in 1..=4 {
        let mut pair = Pair::new(number as u64, Link::clean());
        pair.upsert(Side::Right, config(Side::Right, EstablishMode::PeerOnly));
        pair.upsert(Side::Left, config(Side::Left, EstablishMode::Bidirectional));
        assert!(pair.run_until(LONG, |pair| pair.sent == number));
        pair.upsert(Side::Left, config(Side::Left, EstablishMode::PeerOnly));
        pair.run_for(LONG);
        for side in [Side::Left, Side::Right] {
            assert!(
                pair.peer(side).endpoint.is_idle(),
                "after message {number}: {side:?}"
            );
        }
    }
}
