use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;

use super::*;

/// Handshakes of one address before cookies are asked for.
const HALF_OPEN_OF_ONE_ADDRESS: usize = 8;
/// An answer to a first message has a nonce of full length and two NAT_DETECTION notifies.
const LONGER: usize = 32 + 2 * 28;

/// What must be as before when nothing authentic came.
fn state(endpoint: &Endpoint) -> (usize, usize, usize, usize) {
    let children = endpoint
        .sas
        .values()
        .filter_map(IkeSa::established)
        .map(|established| established.children.len())
        .sum();
    let of_peers = endpoint
        .begun_by_peers
        .values()
        .filter(|id| endpoint.sas.get(*id).is_some_and(IkeSa::is_half_open))
        .count();
    (endpoint.sas.len(), half_open(endpoint), of_peers, children)
}

#[test]
fn random_bytes_leave_no_state_and_no_answer() {
    let mut ends = Ends::established();
    let before = state(&ends.right);
    let spis = only_sa(&mut ends.right).spis();
    let mut rng = ChaCha20Rng::seed_from_u64(3);
    for number in 0..20_000 {
        let mut bytes = vec![0; (rng.next_u32() % 300) as usize];
        rng.fill_bytes(&mut bytes);
        if bytes.len() >= 28 && number % 2 == 0 {
            // A header that leads to the established IKE SA.
            bytes[..8].copy_from_slice(&spis.initiator.0.to_be_bytes());
            bytes[8..16].copy_from_slice(&spis.responder.0.to_be_bytes());
            bytes[16..20].copy_from_slice(&[46, 0x20, 34 + (rng.next_u32() % 4) as u8, 8]);
            bytes[20..24].copy_from_slice(&(2 + rng.next_u32() % 2).to_be_bytes());
            let len = u32::try_from(bytes.len()).unwrap();
            bytes[24..28].copy_from_slice(&len.to_be_bytes());
            if bytes.len() >= 32 {
                let inner = u16::try_from(bytes.len() - 28).unwrap();
                bytes[28..30].copy_from_slice(&[33, 0]);
                bytes[30..32].copy_from_slice(&inner.to_be_bytes());
            }
        }
        assert_eq!(ends.answer_to(&bytes), None);
    }
    assert_eq!(state(&ends.right), before);
    assert_eq!(before.1, 0);
    assert_eq!(ends.ask(ExchangeType::INFORMATIONAL, &[]), []);
}

#[test]
fn mutated_messages_are_answered_by_little_and_leave_nothing() {
    let mut ends = Ends::established();
    let child = only_established(&mut ends.left).children[0].id;
    ends.left.rekey_child(child, ends.now);
    ends.exchange();
    ends.pass(Duration::from_secs(10));
    let before = state(&ends.right);
    let real = std::mem::take(&mut ends.heard);
    assert!(real.len() >= 4, "{}", real.len());
    let mut rng = ChaCha20Rng::seed_from_u64(4);
    let mut most = 0;
    for round in 0..20 {
        for (_, bytes) in &real {
            for index in 0..bytes.len() {
                let mut changed = bytes.clone();
                changed[index] ^= 1 << (rng.next_u32() % 8);
                if round % 4 == 1 {
                    changed.truncate(index);
                }
                if let Some(answer) = ends.answer_to(&changed) {
                    assert!(
                        answer.len() <= changed.len() + LONGER,
                        "{} bytes for {}",
                        answer.len(),
                        changed.len()
                    );
                }
                most = most.max(half_open(&ends.right));
            }
        }
    }
    assert!(most > 0, "no mutation was a new first message");
    assert!(most <= HALF_OPEN_OF_ONE_ADDRESS, "{most} half-open handshakes");
    ends.pass(Duration::from_secs(25));
    assert_eq!(state(&ends.right), before);
    assert_eq!(before.1, 0);
    assert_eq!(ends.ask(ExchangeType::INFORMATIONAL, &[]), []);
}
