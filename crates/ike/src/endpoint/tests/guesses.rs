//! In main mode of IKEv1 the responder tries keys until one reads the peer's proof: not for everybody, and not for ever.

use isthmus_wire::ike::HEADER_LEN;
use isthmus_wire::isakmp::{IsakmpFlags, IsakmpHeader};

use super::*;

/// A peer without an address among others with other keys, each of which may be meant.
fn roaming(number: u128) -> ConnectionConfig {
    let mut config = version_1(RIGHT);
    config.connection = VpnConnectionId::from(ResourceBits::from_random(number));
    config.peer = PeerEndpoint::Anywhere;
    config.peer_identity = IkeIdentity::Fqdn(format!("{number}.example"));
    config.psk = Secret::new(format!("key number {number}"));
    config
}

/// Ends that have a proof of the left one to read. It has the key of the last of the right end's connections.
fn before_the_proof() -> (Ends, Transmit) {
    let mut ends = Ends::new();
    for number in 2..6 {
        ends.right.upsert_connection(roaming(number), ends.now);
    }
    let mut left = version_1(LEFT);
    left.local_identity = IkeIdentity::Fqdn("5.example".into());
    left.psk = roaming(5).psk;
    ends.left.upsert_connection(left, ends.now);
    for _ in 0..2 {
        let request = ends.left.poll_transmit().expect("a request");
        ends.deliver_right(&request);
        let answer = ends.right.poll_transmit().expect("an answer");
        ends.deliver_left(&answer);
    }
    let proof = ends.left.poll_transmit().expect("a proof");
    (ends, proof)
}

/// As long as the proof, with the same header, and made with no key.
fn forged(proof: &Transmit, number: u8) -> Transmit {
    let header = IsakmpHeader::decode(&proof.payload).unwrap();
    assert!(header.flags.contains(IsakmpFlags::ENCRYPTION));
    let mut forged = proof.clone();
    forged.payload[HEADER_LEN..].fill(number);
    forged
}

fn is_up(ends: &Ends) -> bool {
    let meant = VpnConnectionId::from(ResourceBits::from_random(5));
    ends.right.state(meant) == Some(ConnectionState::Up)
}

#[test]
fn a_few_forged_proofs_do_not_keep_the_right_key_from_being_found() {
    let (mut ends, proof) = before_the_proof();
    for number in 1..=2 {
        ends.deliver_right(&forged(&proof, number));
    }
    ends.deliver_right(&proof);
    ends.exchange();
    assert!(is_up(&ends));
}

#[test]
fn whoever_goes_on_guessing_makes_nobody_try_all_keys_each_time() {
    let (mut ends, proof) = before_the_proof();
    for number in 1..=3 {
        ends.deliver_right(&forged(&proof, number));
    }
    ends.deliver_right(&proof);
    ends.exchange();
    assert!(!is_up(&ends), "the keys are tried for ever");
    // The peer begins anew, which costs a stranger as much as us.
    for _ in 0..60 {
        ends.pass(Duration::from_secs(1));
    }
    assert!(is_up(&ends));
}
