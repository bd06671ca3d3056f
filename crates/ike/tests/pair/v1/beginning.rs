//! Attempts that have become needless: the peer has made the SA itself, or we may not begin any more.

use std::time::Duration;

use isthmus_ike::{ConnectionConfig, DpdAction, End, EstablishMode};
use isthmus_simnet::{Link, Pair, Side};

use super::{established, pair_with, version_1};
use crate::{LONG, REST, reason};

/// Messages of main mode.
const MAIN_MODE: usize = 6;

fn config(side: Side, change: impl Fn(&mut ConnectionConfig)) -> ConnectionConfig {
    let mut config = Pair::config(side);
    version_1(side, &mut config);
    change(&mut config);
    config
}

/// Who began the ISAKMP SAs that an end has had.
fn beginnings(pair: &Pair, side: Side) -> Vec<End> {
    established(pair, side).into_iter().map(|(_, by)| by).collect()
}

#[test]
fn an_attempt_that_was_not_heard_ends_where_the_peers_is_established() {
    for offset in [0, 20, 100, 300, 450] {
        let mut pair = Pair::new(offset, Link::clean());
        pair.link.lose_number = Some(0);
        pair.upsert(Side::Left, config(Side::Left, |_| {}));
        assert_eq!(pair.sent, 1);
        pair.run_for(Duration::from_millis(offset));
        pair.upsert(Side::Right, config(Side::Right, |_| {}));
        pair.run_for(REST);
        assert!(pair.is_settled(), "{offset} ms: {:?}", pair.discord());
        assert_eq!(beginnings(&pair, Side::Left), [End::Peers], "{offset} ms");
        assert_eq!(beginnings(&pair, Side::Right), [End::Ours], "{offset} ms");
    }
}

#[test]
fn a_replacement_that_was_not_heard_is_begun_again() {
    for number in 0..3 {
        let mut pair = super::settled(number);
        pair.run_for(REST);
        let before = beginnings(&pair, Side::Left).len();
        pair.link.lose_number = Some(pair.sent);
        pair.act(Side::Left, |endpoint, now| {
            endpoint.rekey_ike(Side::Left.connection(), now);
        });
        pair.run_for(REST);
        assert!(pair.is_settled(), "{:?}", pair.discord());
        let begun = beginnings(&pair, Side::Left);
        assert_eq!(begun.last(), Some(&End::Ours), "{begun:?}");
        assert_eq!(begun.len(), before + 1);
    }
}

#[test]
fn a_first_message_is_not_repeated_once_only_the_peer_may_begin() {
    let mut pair = Pair::new(1, Link::clean());
    pair.upsert(Side::Left, config(Side::Left, |_| {}));
    pair.run_for(Duration::from_millis(100));
    assert_eq!(pair.sent, 1);
    pair.upsert(
        Side::Left,
        config(Side::Left, |config| config.establish = EstablishMode::PeerOnly),
    );
    pair.run_for(LONG);
    assert_eq!(pair.sent, 1);
    assert!(pair.peer(Side::Left).endpoint.is_idle());
    assert_eq!(
        reason(&pair, Side::Left),
        Some(isthmus_ike::DownReason::AwaitingPeer)
    );
}

/// Takes the right to begin away after each message of main mode, or the connection down, with each later one lost in turn.
/// Nobody of the two asks for a Child SA, so nothing may stay.
fn leaves_nothing(what: &str, change: impl Fn(&mut ConnectionConfig)) {
    let peer_only = |config: &mut ConnectionConfig| {
        config.establish = EstablishMode::PeerOnly;
        // Otherwise this would clean up.
        config.dpd_action = DpdAction::None;
    };
    for number in 1..=MAIN_MODE {
        for lost in 0..6 {
            let label = format!("{what} after message {number}, without {lost} of the rest");
            let mut pair = Pair::new(number as u64, Link::clean());
            pair.upsert(Side::Right, config(Side::Right, peer_only));
            pair.upsert(Side::Left, config(Side::Left, |_| {}));
            assert!(pair.run_until(LONG, |pair| pair.sent == number), "{label}");
            // The last run loses none.
            pair.link.lose_number = (lost < 5).then_some(number + lost);
            pair.upsert(Side::Left, config(Side::Left, &change));
            pair.run_for(LONG);
            for side in [Side::Left, Side::Right] {
                let peer = pair.peer(side);
                assert!(peer.endpoint.is_idle(), "{label}: {side:?} still has an SA");
                assert!(peer.children.is_empty(), "{label}: {side:?} has a child");
            }
        }
    }
}

#[test]
fn what_is_established_without_a_right_to_begin_and_without_children_is_deleted() {
    leaves_nothing("peer only", |config| config.establish = EstablishMode::PeerOnly);
}

#[test]
fn a_connection_taken_down_amid_a_handshake_leaves_nothing_at_the_peer() {
    leaves_nothing("down", |config| config.admin_up = false);
}

#[test]
fn an_sa_that_carries_children_stays_when_only_the_peer_may_begin() {
    let mut pair = pair_with(3, Link::clean(), |_, _| {});
    assert!(pair.run_until(LONG, Pair::is_settled), "{:?}", pair.discord());
    pair.set_traffic(true);
    pair.run_for(Duration::from_secs(1));
    pair.act(Side::Left, |endpoint, now| {
        endpoint.rekey_ike(Side::Left.connection(), now);
    });
    pair.upsert(
        Side::Left,
        config(Side::Left, |config| config.establish = EstablishMode::PeerOnly),
    );
    pair.run_for(REST);
    assert!(pair.is_settled(), "{:?}", pair.discord());
    assert_eq!(crate::lost(&pair), 0);
}
