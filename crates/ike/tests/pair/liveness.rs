use std::time::Duration;

use isthmus_ike::{DownReason, DpdAction, EstablishMode};
use isthmus_simnet::{Link, Pair, Side};

use crate::{LONG, connect_with, reason, settled};

#[test]
fn a_restarted_end_is_back_within_two_round_trips() {
    for seed in 0..20 {
        let mut pair = settled(seed, Link::clean());
        pair.run_for(Duration::from_secs(30));
        pair.restart(Side::Right);
        pair.run_for(Duration::from_millis(200));
        let before = pair.elapsed();
        pair.upsert(Side::Right, Pair::config(Side::Right));
        let received = [pair.peer(Side::Left).received, pair.peer(Side::Right).received];
        let flows = |pair: &Pair| {
            pair.peer(Side::Left).received > received[0] && pair.peer(Side::Right).received > received[1]
        };
        assert!(pair.run_until(LONG, flows), "seed {seed}");
        assert!(
            pair.elapsed() - before < Duration::from_millis(100),
            "seed {seed}"
        );
        assert!(
            pair.run_until(LONG, Pair::is_settled),
            "seed {seed}: {:?}",
            pair.discord()
        );
    }
}

#[test]
fn both_ends_may_restart_at_once() {
    for seed in 0..20 {
        let mut pair = settled(seed, Link::clean());
        pair.run_for(Duration::from_secs(30));
        pair.restart(Side::Right);
        pair.restart(Side::Left);
        pair.connect();
        assert!(
            pair.run_until(Duration::from_millis(100), Pair::is_up),
            "seed {seed}"
        );
        assert!(
            pair.run_until(LONG, Pair::is_settled),
            "seed {seed}: {:?}",
            pair.discord()
        );
        pair.run_for(Duration::from_secs(60));
        assert!(pair.is_settled(), "seed {seed}: {:?}", pair.discord());
    }
}

#[test]
fn a_peer_that_lost_its_state_is_found_out() {
    let mut pair = Pair::new(1, Link::clean());
    connect_with(&mut pair, |side, config| {
        if side == Side::Right {
            config.establish = EstablishMode::PeerOnly;
        }
    });
    assert!(pair.run_until(LONG, Pair::is_settled));
    pair.restart(Side::Right);
    let mut right = Pair::config(Side::Right);
    right.establish = EstablishMode::PeerOnly;
    pair.upsert(Side::Right, right);
    pair.run_for(Duration::from_secs(14));
    assert!(
        pair.run_until(Duration::from_secs(1), Pair::is_settled),
        "{:?}",
        pair.discord()
    );
}

#[test]
fn a_dead_peer_takes_the_connection_down_as_its_action_says() {
    for (action, again) in [
        (DpdAction::Restart, true),
        (DpdAction::Clear, false),
        (DpdAction::Hold, false),
    ] {
        let mut pair = Pair::new(1, Link::clean());
        connect_with(&mut pair, |_, config| config.dpd_action = action);
        assert!(pair.run_until(LONG, Pair::is_settled));
        pair.run_for(Duration::from_secs(10));
        pair.restart(Side::Right);
        pair.run_for(Duration::from_secs(14));
        assert_eq!(reason(&pair, Side::Left), Some(DownReason::PeerNotResponding));
        assert!(pair.peer(Side::Left).children.is_empty());
        let sent = pair.sent;
        pair.run_for(Duration::from_secs(30));
        assert_eq!(pair.sent > sent, again, "{action:?}");
        pair.act(Side::Left, |endpoint, now| {
            endpoint.acquire(Side::Left.connection(), now)
        });
        assert!(pair.sent > sent, "{action:?}");
    }
}

#[test]
fn traffic_from_the_peer_spares_the_probes() {
    let mut pair = settled(1, Link::clean());
    pair.run_for(Duration::from_secs(30));
    let sent = pair.sent;
    pair.run_for(Duration::from_secs(60));
    assert_eq!(pair.sent, sent);
    pair.set_traffic(false);
    pair.run_for(Duration::from_secs(60));
    assert!(pair.sent > sent + 20);
    assert!(pair.is_settled());
}

#[test]
fn without_probes_silence_is_no_death() {
    let mut pair = Pair::new(1, Link::clean());
    connect_with(&mut pair, |_, config| config.dpd_action = DpdAction::None);
    assert!(pair.run_until(LONG, Pair::is_settled));
    pair.run_for(Duration::from_secs(10));
    let sent = pair.sent;
    pair.run_for(Duration::from_secs(300));
    assert_eq!(pair.sent, sent);
    assert!(pair.is_settled());
}
