use std::net::SocketAddr;
use std::time::Duration;

use isthmus_ike::{Endpoint, EstablishMode};
use isthmus_simnet::{Link, Pair, Side};
use isthmus_types::DhGroup;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;

use crate::{LONG, settled};

/// The datagrams that two ends exchange from their start to their close, with the receiving side.
fn conversation() -> Vec<(Side, u16, Vec<u8>)> {
    let now = Pair::new(1, Link::clean()).now();
    let mut ends = [Side::Left, Side::Right].map(|side| Endpoint::new(side.address(), [7; 32], now));
    let mut left = Pair::config(Side::Left);
    left.establish = EstablishMode::Bidirectional;
    let mut right = Pair::config(Side::Right);
    right.establish = EstablishMode::PeerOnly;
    ends[1].upsert_connection(right, now);
    ends[0].upsert_connection(left, now);
    let mut heard = Vec::new();
    let mut exchange = |ends: &mut [Endpoint; 2]| {
        loop {
            let mut quiet = true;
            for (from, to, side) in [(0, 1, Side::Left), (1, 0, Side::Right)] {
                while let Some(transmit) = ends[from].poll_transmit() {
                    quiet = false;
                    let source = SocketAddr::new(side.address(), transmit.local_port);
                    let port = transmit.destination.port();
                    heard.push((side.other(), port, transmit.payload.clone()));
                    ends[to].handle_datagram(port, source, &transmit.payload, now);
                }
            }
            if quiet {
                break;
            }
        }
    };
    exchange(&mut ends);
    ends[0].rekey_ike(Side::Left.connection(), now);
    exchange(&mut ends);
    ends[0].close(now);
    exchange(&mut ends);
    assert!(heard.len() >= 10, "{}", heard.len());
    heard
}

fn remote(side: Side) -> SocketAddr {
    SocketAddr::new(side.other().address(), 500)
}

#[test]
fn mutated_and_truncated_datagrams_do_no_harm_and_are_answered_by_no_more() {
    let heard = conversation();
    let mut pair = settled(1, Link::clean());
    pair.set_traffic(false);
    let before = pair.peer(Side::Left).children.len();
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    for (_, port, bytes) in &heard {
        for side in [Side::Left, Side::Right] {
            let sent = pair.sent;
            let mut injected = 0;
            for len in 0..bytes.len() {
                pair.inject(side, *port, remote(side), &bytes[..len]);
                injected += 1;
            }
            for index in 0..bytes.len() {
                let mut changed = bytes.clone();
                changed[index] ^= 1 << (rng.next_u32() % 8);
                pair.inject(side, *port, remote(side), &changed);
                injected += 1;
            }
            assert!(pair.sent - sent <= injected, "more answers than questions");
        }
    }
    pair.run_for(Duration::from_secs(60));
    assert!(pair.is_settled(), "{:?}", pair.discord());
    assert_eq!(pair.peer(Side::Left).children.len(), before);
}

#[test]
fn random_bytes_are_never_answered() {
    let mut pair = settled(1, Link::clean());
    pair.set_traffic(false);
    let mut rng = ChaCha20Rng::seed_from_u64(2);
    let sent = pair.sent;
    for _ in 0..20_000 {
        let mut bytes = vec![0; (rng.next_u32() % 200) as usize];
        rng.fill_bytes(&mut bytes);
        // Most would fail at the version.
        if bytes.len() > 17 && rng.next_u32() % 4 != 0 {
            bytes[17] = 0x20;
            let len = u32::try_from(bytes.len()).unwrap();
            if bytes.len() >= 28 {
                bytes[24..28].copy_from_slice(&len.to_be_bytes());
            }
        }
        pair.inject(Side::Left, 500, remote(Side::Left), &bytes);
    }
    assert!(pair.sent - sent < 20, "{}", pair.sent - sent);
    assert!(pair.is_settled());
}

/// First messages of one peer with different SPIs and nonces.
fn flood(pair: &mut Pair, count: usize, source: SocketAddr) {
    let (_, _, first) = conversation().into_iter().next().expect("a first datagram");
    for number in 0..count {
        let mut bytes = first.clone();
        bytes[..8].copy_from_slice(&(number as u64 + 1).to_be_bytes());
        pair.inject(Side::Right, 500, source, &bytes);
    }
}

#[test]
fn strangers_are_not_answered() {
    let mut pair = Pair::new(1, Link::clean());
    pair.upsert(Side::Right, Pair::config(Side::Right));
    let sent = pair.sent;
    flood(&mut pair, 100, "203.0.113.9:500".parse().unwrap());
    assert_eq!(pair.sent, sent);
}

#[test]
fn a_flood_of_first_messages_meets_cookies_and_leaves_nothing() {
    let mut pair = Pair::new(1, Link::clean());
    let mut right = Pair::config(Side::Right);
    right.establish = EstablishMode::PeerOnly;
    pair.upsert(Side::Right, right);
    flood(&mut pair, 10_000, remote(Side::Right));
    assert_eq!(pair.sent, 10_000);
    // The real peer gets in nonetheless, with a cookie.
    pair.upsert(Side::Left, Pair::config(Side::Left));
    assert!(pair.run_until(Duration::from_millis(100), Pair::is_up));
    pair.run_for(LONG);
    assert!(pair.is_settled(), "{:?}", pair.discord());
}

#[test]
fn a_peer_gets_in_that_must_bring_a_cookie_and_change_its_group() {
    for number in 0..12 {
        let mut pair = Pair::new(1, Link::clean());
        let mut right = Pair::config(Side::Right);
        right.establish = EstablishMode::PeerOnly;
        let mut left = Pair::config(Side::Left);
        left.ike_proposals[0].dh = vec![DhGroup::Ecp256, DhGroup::X25519];
        pair.upsert(Side::Right, right);
        flood(&mut pair, 100, remote(Side::Right));
        pair.link.lose_number = Some(pair.sent + number);
        pair.upsert(Side::Left, left);
        assert!(pair.run_until(LONG, Pair::is_up), "without {number}");
        pair.run_for(LONG);
        assert!(pair.is_settled(), "without {number}: {:?}", pair.discord());
    }
}

#[test]
fn replayed_conversations_change_nothing() {
    let heard = conversation();
    let mut pair = settled(5, Link::clean());
    for (side, port, bytes) in heard.iter().chain(&heard) {
        pair.inject(*side, *port, remote(*side), bytes);
    }
    pair.run_for(Duration::from_secs(60));
    assert!(pair.is_settled(), "{:?}", pair.discord());
    assert_eq!(crate::lost(&pair), 0);
}
