//! How many handshakes of strangers there are is known without counting them, through whatever happens to them.

use super::*;

/// The first message of the left end under another SPI, and the right end's answer to it from `address`.
fn knock(ends: &mut Ends, first: &[u8], number: u64, address: IpAddr) -> Option<Vec<u8>> {
    let mut bytes = first.to_vec();
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    let source = SocketAddr::new(address, IKE_PORT);
    ends.right.handle_datagram(IKE_PORT, source, &bytes, ends.now);
    let answer = ends.right.poll_transmit().map(|transmit| transmit.payload);
    assert!(ends.right.poll_transmit().is_none(), "one answer at most");
    answer
}

/// Ends of which the right one answers anybody, and the first message of the left one.
fn open_to_all() -> (Ends, Vec<u8>) {
    let mut ends = Ends::new();
    let mut right = config(RIGHT);
    right.peer = PeerEndpoint::Anywhere;
    ends.right.upsert_connection(right, ends.now);
    ends.left.upsert_connection(config(LEFT), ends.now);
    let first = ends.left.poll_transmit().expect("a first message").payload;
    (ends, first)
}

#[test]
fn handshakes_are_counted_by_prefix_whatever_becomes_of_them() {
    let (mut ends, first) = open_to_all();
    let address_of = |number: u64| -> IpAddr {
        let last = number / 3 + 1;
        match number % 3 {
            0 => format!("198.51.100.{last}"),
            1 => format!("203.0.113.{last}"),
            _ => format!("2001:db8::{last:x}"),
        }
        .parse()
        .unwrap()
    };
    let mut number = 0;
    // Each of three prefixes is answered eight times, then asked for a cookie.
    for _ in 0..60 {
        knock(&mut ends, &first, number + 1, address_of(number)).expect("an answer");
        number += 1;
        assert_eq!(half_open(&ends.right), usize::try_from(number).unwrap().min(24));
    }
    assert_eq!(ends.right.cookies_sent(), 36);
    // One that is repeated is one still, and is answered as before.
    let again = knock(&mut ends, &first, 1, address_of(0));
    assert_eq!(again, knock(&mut ends, &first, 1, address_of(0)));
    assert_eq!(half_open(&ends.right), 24);
    // Another prefix has its own count; from 32 in all on everybody needs a cookie.
    let other: IpAddr = "192.0.2.77".parse().unwrap();
    for extra in 1..=20 {
        number += 1;
        knock(&mut ends, &first, number, other).expect("an answer");
        assert_eq!(half_open(&ends.right), 24 + extra.min(8));
    }
    // The real peer brings a cookie, and its handshake is no stranger's once it is done.
    ends.pass(Duration::from_secs(2));
    assert_eq!(ends.right.state(connection()), Some(ConnectionState::Up));
    assert_eq!(half_open(&ends.right), 32);
    // The rest ends with its time.
    for _ in 0..60 {
        ends.pass(Duration::from_secs(1));
        half_open(&ends.right);
    }
    assert_eq!(half_open(&ends.right), 0);
    assert_eq!(ends.right.footprint().begun_by_peers, 1);
    assert_eq!(ends.right.footprint().ike_sas, 1);
}

/// The same of version 1, which knows no cookies: from there on nobody is answered.
#[test]
fn handshakes_of_version_1_are_counted_by_address_whatever_becomes_of_them() {
    let counted = |ends: &Ends| {
        let recounted = ends.right.v1.recounted_half_open();
        assert_eq!(
            *ends.right.v1.half_open(),
            recounted,
            "the index is what is there"
        );
        assert_eq!(
            ends.right.half_open(),
            recounted.all(),
            "what is told of both versions"
        );
        recounted.all()
    };
    let mut ends = Ends::new();
    let mut right = version_1(RIGHT);
    right.peer = PeerEndpoint::Anywhere;
    ends.right.upsert_connection(right, ends.now);
    ends.left.upsert_connection(version_1(LEFT), ends.now);
    let first = ends.left.poll_transmit().expect("a first message").payload;
    let mut number = 0;
    for host in 1..=3 {
        let address: IpAddr = format!("198.51.100.{host}").parse().unwrap();
        for nth in 1..=20 {
            number += 1;
            let answer = knock(&mut ends, &first, number, address);
            assert_eq!(answer.is_some(), nth <= 16, "{address}, number {nth}");
            assert_eq!(counted(&ends), (host - 1) * 16 + nth.min(16));
        }
    }
    assert_eq!(ends.right.footprint().begun_by_peers, 48);
    // The real peer is at another address.
    ends.pass(Duration::from_secs(2));
    assert_eq!(ends.right.state(connection()), Some(ConnectionState::Up));
    assert_eq!(counted(&ends), 48);
    for _ in 0..120 {
        ends.pass(Duration::from_secs(1));
        counted(&ends);
    }
    assert_eq!(counted(&ends), 0);
    assert_eq!(ends.right.footprint().begun_by_peers, 1);
    assert_eq!(ends.right.footprint().ike_sas, 1);
}

#[test]
fn one_that_failed_to_prove_itself_counts_until_it_is_forgotten() {
    let mut ends = Ends::new();
    ends.right.upsert_connection(config(RIGHT), ends.now);
    let mut left = config(LEFT);
    left.psk = Secret::new("another one".into());
    ends.left.upsert_connection(left, ends.now);
    ends.exchange();
    assert!(matches!(only_sa(&mut ends.right).state, State::Refused(_)));
    assert_eq!(half_open(&ends.right), 1);
    ends.left.close(ends.now);
    for _ in 0..60 {
        ends.pass(Duration::from_secs(1));
        half_open(&ends.right);
    }
    assert_eq!(half_open(&ends.right), 0);
    assert_eq!(ends.right.footprint().begun_by_peers, 0);
}
