use std::time::Duration;

use isthmus_ike::{ConnectionState, DownReason, Endpoint, EstablishMode};
use isthmus_simnet::{Link, Pair, Side};

use super::{settled, version_1};
use crate::{LONG, REST, child_spi, reason};

fn config(side: Side) -> isthmus_ike::ConnectionConfig {
    let mut config = Pair::config(side);
    version_1(side, &mut config);
    config
}

#[test]
fn a_restarted_peer_is_found_again() {
    for side in [Side::Left, Side::Right] {
        let mut pair = settled(1);
        pair.restart(side);
        pair.upsert(side, config(side));
        assert!(
            pair.run_until(LONG, Pair::is_settled),
            "{side:?}: {:?}",
            pair.discord()
        );
        pair.run_for(REST);
        assert!(pair.is_settled(), "{side:?}: {:?}", pair.discord());
    }
}

#[test]
fn a_dead_peer_is_noticed_and_a_living_one_is_not_given_up() {
    let mut pair = settled(2);
    pair.set_traffic(false);
    pair.run_for(Duration::from_secs(300));
    assert!(pair.is_settled(), "{:?}", pair.discord());
    pair.restart(Side::Right);
    pair.run_for(Duration::from_secs(30));
    assert_eq!(reason(&pair, Side::Left), Some(DownReason::PeerNotResponding));
    assert!(pair.peer(Side::Left).children.is_empty());
    pair.upsert(Side::Right, config(Side::Right));
    assert!(pair.run_until(LONG, Pair::is_settled), "{:?}", pair.discord());
}

#[test]
fn taking_a_connection_down_tells_the_peer() {
    let mut pair = settled(3);
    let mut down = config(Side::Left);
    down.admin_up = false;
    pair.upsert(Side::Left, down);
    pair.run_for(Duration::from_secs(8));
    assert_eq!(
        pair.peer(Side::Left).endpoint.state(Side::Left.connection()),
        Some(ConnectionState::AdminDown)
    );
    assert!(pair.peer(Side::Left).children.is_empty());
    assert!(pair.peer(Side::Right).children.is_empty());
    pair.upsert(Side::Left, config(Side::Left));
    assert!(pair.run_until(LONG, Pair::is_settled), "{:?}", pair.discord());
    let mut reset = config(Side::Left);
    reset.reset_count = 1;
    pair.upsert(Side::Left, reset);
    pair.run_for(Duration::from_secs(1));
    assert!(pair.run_until(LONG, Pair::is_settled), "{:?}", pair.discord());
}

#[test]
fn closing_leaves_nothing_behind() {
    let mut pair = settled(4);
    pair.act(Side::Left, |endpoint, now| endpoint.close(now));
    assert!(pair.peer(Side::Left).endpoint.is_idle());
    assert!(pair.peer(Side::Left).children.is_empty());
    pair.run_for(Duration::from_secs(8));
    assert!(pair.peer(Side::Right).children.is_empty());
}

#[test]
fn the_ends_agree_again_after_any_faults() {
    for seed in 0..40 {
        let mut pair = super::pair_with(seed, Link::hostile(), |_, config| {
            config.ike_lifetime_seconds = 100;
            config.esp_lifetime_seconds = 40;
        });
        pair.set_traffic(true);
        pair.run_for(Duration::from_secs(240));
        pair.link = Link::clean();
        pair.run_for(Duration::from_secs(90));
        assert!(
            pair.run_until(LONG, Pair::is_settled),
            "seed {seed}: {:?}; left {:?}, right {:?}",
            pair.discord(),
            pair.peer(Side::Left).endpoint.status(Side::Left.connection()),
            pair.peer(Side::Right).endpoint.status(Side::Right.connection()),
        );
    }
}

#[test]
fn other_ranges_or_proposals_replace_the_children_only() {
    let mut pair = settled(5);
    for side in [Side::Left, Side::Right] {
        let mut config = config(side);
        config.esp_proposals[0].encryption = vec![isthmus_types::Encryption::Aes256Gcm16];
        pair.upsert(side, config);
    }
    pair.run_for(REST);
    assert!(pair.run_until(LONG, Pair::is_settled), "{:?}", pair.discord());
    let status = pair
        .peer(Side::Left)
        .endpoint
        .status(Side::Left.connection())
        .unwrap();
    assert_eq!(status.esp_suite.unwrap().to_string(), "aes256gcm16");
    assert_eq!(crate::lost(&pair), 0);
}

/// The end of `side` loses its IKE state alone: its SAs of ESP go on.
fn forget_ike(pair: &mut Pair, side: Side) {
    let now = pair.now();
    pair.peer_mut(side).endpoint = Endpoint::new(side.address(), [7; 32], now);
}

#[test]
fn a_child_stays_until_the_restarted_peer_has_a_new_one() {
    for seed in 0..4 {
        let mut pair = settled(seed);
        pair.journal = Some(Vec::new());
        pair.restart(Side::Right);
        pair.upsert(Side::Right, config(Side::Right));
        let mut stays = true;
        let settles = pair.run_until(LONG, |pair| {
            stays &= pair.peer(Side::Left).is_up();
            pair.is_settled()
        });
        assert!(settles, "seed {seed}: {:?}", pair.discord());
        assert!(stays, "seed {seed}: {:#?}", pair.journal);
    }
}

#[test]
fn a_child_that_the_peer_has_lost_does_not_come_back_into_use() {
    let mut pair = settled(1);
    pair.set_traffic(false);
    pair.restart(Side::Right);
    pair.upsert(Side::Right, config(Side::Right));
    let before = child_spi(&pair, Side::Left);
    assert!(pair.run_until(LONG, |pair| pair.is_up() && child_spi(pair, Side::Left) != before));
    let mut only = config(Side::Left);
    only.establish = EstablishMode::PeerOnly;
    pair.upsert(Side::Left, only);
    pair.act(Side::Right, |endpoint, now| {
        endpoint.remove_connection(Side::Right.connection(), now);
    });
    pair.run_for(Duration::from_secs(1));
    assert!(!pair.peer(Side::Left).is_up());
}

/// A peer that has lost no more than its ISAKMP SA says the same as one that has lost everything.
#[test]
fn a_child_that_the_peer_says_it_has_lost_stays_if_the_peer_sends_on_it() {
    for (traffic, stays) in [(true, true), (false, false)] {
        let mut pair = settled(1);
        let before = child_spi(&pair, Side::Left);
        pair.set_traffic(traffic);
        pair.run_for(Duration::from_secs(1));
        forget_ike(&mut pair, Side::Right);
        let mut other = config(Side::Right);
        // So nothing replaces the child.
        other.esp_proposals[0].encryption = vec![isthmus_types::Encryption::Aes256Gcm16];
        pair.upsert(Side::Right, other);
        pair.run_for(Duration::from_secs(5));
        assert_eq!(child_spi(&pair, Side::Left), before);
        pair.run_for(Duration::from_secs(25));
        let left = pair.peer(Side::Left).endpoint.status(Side::Left.connection());
        let children = left.unwrap().children;
        let is_there = children.iter().any(|child| child.inbound_spi == before);
        assert_eq!(is_there, stays, "{children:?}");
        assert_eq!(pair.peer(Side::Left).children.is_empty(), !stays);
    }
}
