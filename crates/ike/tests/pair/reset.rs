//! Resets: every SA goes at both ends and is made anew, once for each.

use std::time::Duration;

use isthmus_ike::{ConnectionConfig, ConnectionState, DownReason, EstablishMode, EventKind, PeerEndpoint};
use isthmus_simnet::{Link, Pair, Side};

use crate::v1::version_1;
use crate::{LONG, child_spi, reason};

/// Enough for what is sent to arrive.
const SOON: Duration = Duration::from_millis(200);

type Change = fn(Side, &mut ConnectionConfig);

const VERSIONS: [Change; 2] = [|_, _| (), version_1];

fn config(version: Change, resets: u32) -> ConnectionConfig {
    let mut config = Pair::config(Side::Left);
    version(Side::Left, &mut config);
    config.reset_count = resets;
    config
}

/// A pair that is at rest, of which only the left end may begin.
fn settled(version: Change) -> Pair {
    let mut pair = Pair::new(1, Link::clean());
    let mut right = Pair::config(Side::Right);
    version(Side::Right, &mut right);
    right.establish = EstablishMode::PeerOnly;
    pair.upsert(Side::Right, right);
    pair.upsert(Side::Left, config(version, 0));
    assert!(pair.run_until(LONG, Pair::is_settled), "{:?}", pair.discord());
    pair
}

fn events(pair: &Pair, side: Side) -> Vec<EventKind> {
    let status = pair.peer(side).endpoint.status(side.connection());
    let events = status.expect("a connection").events;
    events.into_iter().map(|event| event.kind).collect()
}

fn times(events: &[EventKind], code: &str) -> usize {
    events.iter().filter(|kind| kind.code() == code).count()
}

#[test]
fn both_ends_delete_everything_and_have_one_of_each_again() {
    for version in VERSIONS {
        let mut pair = settled(version);
        let before = [Side::Left, Side::Right].map(|side| child_spi(&pair, side));
        pair.upsert(Side::Left, config(version, 1));
        // At once, before the peer is heard of.
        assert!(pair.peer(Side::Left).children.is_empty());
        assert_eq!(reason(&pair, Side::Left), Some(DownReason::Negotiating));
        assert!(pair.run_until(SOON, Pair::is_up));
        assert!(pair.run_until(LONG, Pair::is_settled), "{:?}", pair.discord());
        for (side, before) in [Side::Left, Side::Right].into_iter().zip(before) {
            let events = events(&pair, side);
            assert_ne!(child_spi(&pair, side), before, "{side:?}");
            // Not only forgotten: the peer was told.
            assert_eq!(times(&events, "ike_deleted"), 1, "{side:?}: {events:?}");
            assert_eq!(times(&events, "ike_established"), 2, "{side:?}: {events:?}");
            assert_eq!(times(&events, "reset"), usize::from(side == Side::Left));
        }
    }
}

#[test]
fn resets_that_follow_each_other_at_once_end_with_one_of_each() {
    for version in VERSIONS {
        let mut pair = settled(version);
        for resets in 1..=5 {
            pair.upsert(Side::Left, config(version, resets));
            // Some of them come while the handshake of the one before is under way.
            pair.run_for(Duration::from_millis(u64::from(resets)));
        }
        assert!(pair.run_until(LONG, Pair::is_settled), "{:?}", pair.discord());
        let spi = child_spi(&pair, Side::Left);
        // The same count again is no reset.
        pair.upsert(Side::Left, config(version, 5));
        pair.run_for(SOON);
        assert_eq!(child_spi(&pair, Side::Left), spi);
    }
}

#[test]
fn one_that_restarts_with_the_count_of_before_resets_nothing() {
    for version in VERSIONS {
        let mut pair = settled(version);
        pair.upsert(Side::Left, config(version, 7));
        assert!(pair.run_until(LONG, Pair::is_settled), "{:?}", pair.discord());
        pair.restart(Side::Left);
        pair.upsert(Side::Left, config(version, 7));
        assert!(pair.run_until(LONG, Pair::is_settled), "{:?}", pair.discord());
        let events = events(&pair, Side::Left);
        assert_eq!(times(&events, "reset"), 0, "{events:?}");
        assert_eq!(times(&events, "ike_established"), 1, "{events:?}");
    }
}

#[test]
fn one_whose_peer_must_begin_ends_its_sas_and_waits() {
    let wait: [fn(&mut ConnectionConfig); 2] = [
        |config| config.peer = PeerEndpoint::Anywhere,
        |config| config.establish = EstablishMode::PeerOnly,
    ];
    for version in VERSIONS {
        for wait in wait {
            let mut pair = Pair::new(1, Link::clean());
            let awaiting = |resets| {
                let mut config = Pair::config(Side::Right);
                version(Side::Right, &mut config);
                wait(&mut config);
                config.reset_count = resets;
                config
            };
            pair.upsert(Side::Right, awaiting(0));
            let mut left = config(version, 0);
            left.dpd_action = isthmus_ike::DpdAction::Clear;
            pair.upsert(Side::Left, left);
            assert!(pair.run_until(LONG, Pair::is_settled), "{:?}", pair.discord());
            pair.upsert(Side::Right, awaiting(1));
            assert!(pair.peer(Side::Right).children.is_empty());
            assert_eq!(reason(&pair, Side::Right), Some(DownReason::AwaitingPeer));
            // The peer hears of it, and begins.
            assert!(pair.run_until(LONG, Pair::is_settled), "{:?}", pair.discord());
            let events = events(&pair, Side::Left);
            assert_eq!(times(&events, "ike_established"), 2, "{events:?}");
        }
    }
}

#[test]
fn one_that_is_switched_off_stays_so() {
    for version in VERSIONS {
        let mut pair = settled(version);
        let mut off = config(version, 0);
        off.admin_up = false;
        pair.upsert(Side::Left, off.clone());
        pair.run_for(Duration::from_secs(10));
        let (sent, noted) = (pair.sent, events(&pair, Side::Left).len());
        off.reset_count = 1;
        pair.upsert(Side::Left, off);
        pair.run_for(Duration::from_secs(10));
        assert_eq!((pair.sent, events(&pair, Side::Left).len()), (sent, noted));
        assert_eq!(
            pair.peer(Side::Left).endpoint.state(Side::Left.connection()),
            Some(ConnectionState::AdminDown)
        );
    }
}
