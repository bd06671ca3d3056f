use std::time::Duration;

use isthmus_crypto::suite::CipherSuite;
use isthmus_types::{DhGroup, Encryption, Integrity, Prf};
use isthmus_wire::ike::{NotifyPayload, NotifyType};

use super::fragment::{MAX_FRAGMENTS, PATIENCE};
use super::*;
use crate::algorithm::AdditionalKeyExchanges;
use crate::keys::{Nonces, ike_keys};

const LIMIT: usize = 240;

struct Ends {
    initiator: Channel,
    responder: Channel,
    now: Instant,
}

fn suites() -> [CipherSuite; 2] {
    [
        CipherSuite::new(Encryption::Aes128Gcm16, None).unwrap(),
        CipherSuite::new(Encryption::Aes256Cbc, Some(Integrity::HmacSha2_256_128)).unwrap(),
    ]
}

impl Ends {
    fn of(cipher: CipherSuite) -> Self {
        let suite = IkeSuite {
            cipher,
            prf: Prf::HmacSha2_256,
            dh: DhGroup::X25519,
            additional: AdditionalKeyExchanges::default(),
        };
        let spis = SpiPair {
            initiator: IkeSpi(1),
            responder: IkeSpi(2),
        };
        let nonces = Nonces {
            initiator: &[1; 32],
            responder: &[2; 32],
        };
        let keys = ike_keys(&suite, &[3; 32], &nonces, spis).unwrap();
        let end = |role| {
            let mut channel = Channel::new(role, spis, &suite, &keys, 1).unwrap();
            channel.set_datagram_limit(Some(LIMIT));
            channel
        };
        #[expect(
            clippy::disallowed_methods,
            reason = "a test needs some instant to start from"
        )]
        let now = Instant::now();
        Self {
            initiator: end(Role::Initiator),
            responder: end(Role::Responder),
            now,
        }
    }

    fn new() -> Self {
        Self::of(suites()[0])
    }

    fn send(&mut self, exchange: ExchangeType, payloads: &[Payload]) -> Vec<Vec<u8>> {
        self.initiator.request(exchange, payloads).unwrap().1.0
    }

    fn receive(&mut self, datagram: &[u8]) -> Received {
        let message = Message::decode(datagram).unwrap();
        self.responder.receive(datagram, &message, self.now)
    }

    /// What the responder has after these datagrams, in this order.
    fn receive_all(&mut self, datagrams: &[&Vec<u8>]) -> Option<Opened> {
        let mut whole = None;
        for datagram in datagrams {
            if let Received::New(opened) = self.receive(datagram) {
                assert!(whole.is_none(), "complete twice");
                whole = Some(opened);
            }
        }
        whole
    }

    fn respond(&mut self, payloads: &[Payload]) -> Vec<Vec<u8>> {
        self.responder
            .respond(ExchangeType::INFORMATIONAL, payloads)
            .unwrap()
            .0
    }
}

fn payloads(len: usize) -> Vec<Payload> {
    let bytes: Vec<u8> = (0..len).map(|index| u8::try_from(index % 251).unwrap()).collect();
    vec![
        Payload::VendorId(bytes),
        Payload::Notify(NotifyPayload::new(NotifyType::COOKIE, vec![1; 5])),
    ]
}

#[test]
fn messages_of_every_length_arrive_whole_in_datagrams_within_the_limit() {
    for suite in suites() {
        let mut ends = Ends::of(suite);
        let mut most = 0;
        for len in 0..900 {
            let sent = payloads(len);
            let datagrams = ends.send(ExchangeType::INFORMATIONAL, &sent);
            assert!(datagrams.iter().all(|datagram| datagram.len() <= LIMIT), "{len}");
            let single = Message::decode(&datagrams[0]).unwrap().encrypted.unwrap();
            assert_eq!(single.fragment.is_none(), datagrams.len() == 1, "{len}");
            most = most.max(datagrams.len());
            let opened = ends
                .receive_all(&datagrams.iter().collect::<Vec<_>>())
                .expect("whole");
            assert_eq!(opened.payloads, sent, "{len}");
            let answer = ends.respond(&sent);
            let mut answered = None;
            for datagram in &answer {
                let message = Message::decode(datagram).unwrap();
                let received = ends.initiator.receive_response(datagram, &message, ends.now);
                answered = answered.or(received.map(|opened| opened.unwrap().payloads));
            }
            assert_eq!(answered, Some(sent), "{len}");
        }
        assert!(most >= 4, "{most}");
    }
}

#[test]
fn order_and_repetition_of_fragments_do_not_matter() {
    let mut ends = Ends::new();
    let sent = payloads(690);
    let datagrams = ends.send(ExchangeType::INFORMATIONAL, &sent);
    let [a, b, c, d] = datagrams.as_slice() else {
        panic!("{} fragments", datagrams.len());
    };
    let opened = ends.receive_all(&[d, b, b, d, a, a, c]).expect("whole");
    assert_eq!(opened.payloads, sent);
}

#[test]
fn only_the_first_fragment_of_an_answered_request_brings_the_answer_again() {
    let mut ends = Ends::new();
    let datagrams = ends.send(ExchangeType::INFORMATIONAL, &payloads(690));
    assert!(ends.receive_all(&datagrams.iter().collect::<Vec<_>>()).is_some());
    let answer = ends.respond(&payloads(500));
    assert!(answer.len() > 1);
    for (index, datagram) in datagrams.iter().enumerate() {
        match ends.receive(datagram) {
            Received::Repeated(again) => {
                assert_eq!(index, 0);
                assert_eq!(again.0, answer);
            }
            Received::Ignored => assert_ne!(index, 0),
            Received::New(_) | Received::Malformed(_) => panic!("processed twice"),
        }
    }
}

#[test]
fn an_answered_request_that_is_cut_anew_brings_the_answer_again() {
    let mut ends = Ends::new();
    let datagrams = ends.send(ExchangeType::INFORMATIONAL, &payloads(690));
    assert!(ends.receive_all(&datagrams.iter().collect::<Vec<_>>()).is_some());
    ends.respond(&[]);
    ends.initiator.send_id = 1;
    ends.initiator.set_datagram_limit(Some(180));
    let smaller = ends.send(ExchangeType::INFORMATIONAL, &payloads(690));
    assert!(smaller.len() > datagrams.len());
    assert!(matches!(ends.receive(&smaller[0]), Received::Repeated(_)));
    assert!(matches!(ends.receive(&smaller[1]), Received::Ignored));
    // With other keys, nothing.
    let mut forged = smaller[0].clone();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    assert!(matches!(ends.receive(&forged), Received::Ignored));
}

#[test]
fn more_fragments_replace_the_set_and_fewer_are_ignored() {
    let mut ends = Ends::new();
    let sent = payloads(690);
    let coarse = ends.send(ExchangeType::INFORMATIONAL, &sent);
    ends.initiator.send_id = 1;
    ends.initiator.set_datagram_limit(Some(180));
    let fine = ends.send(ExchangeType::INFORMATIONAL, &sent);
    assert!(
        ends.receive_all(&coarse[..3].iter().collect::<Vec<_>>())
            .is_none()
    );
    assert!(ends.receive_all(&[&fine[0]]).is_none());
    assert!(
        ends.receive_all(&[&coarse[3], &coarse[0], &coarse[1], &coarse[2]])
            .is_none()
    );
    let opened = ends
        .receive_all(&fine[1..].iter().collect::<Vec<_>>())
        .expect("whole");
    assert_eq!(opened.payloads, sent);
}

#[test]
fn a_forged_fragment_takes_no_place() {
    let mut ends = Ends::new();
    let sent = payloads(690);
    let datagrams = ends.send(ExchangeType::INFORMATIONAL, &sent);
    for index in 0..datagrams[0].len() {
        let mut forged = datagrams[1].clone();
        if let Some(byte) = forged.get_mut(index) {
            *byte ^= 0x10;
        }
        if let Ok(message) = Message::decode(&forged) {
            let received = ends.responder.receive(&forged, &message, ends.now);
            assert!(matches!(received, Received::Ignored));
        }
    }
    let opened = ends
        .receive_all(&datagrams.iter().collect::<Vec<_>>())
        .expect("whole");
    assert_eq!(opened.payloads, sent);
}

#[test]
fn too_many_fragments_and_too_many_bytes_are_not_kept() {
    let mut ends = Ends::new();
    ends.initiator
        .set_datagram_limit(Some(HEADER_LEN + 8 + 8 + 16 + 64));
    let many = ends.send(
        ExchangeType::INFORMATIONAL,
        &payloads(64 * usize::from(MAX_FRAGMENTS)),
    );
    assert!(many.len() > usize::from(MAX_FRAGMENTS));
    assert!(ends.receive_all(&many.iter().collect::<Vec<_>>()).is_none());

    for (trusted, len, arrives) in [
        (false, MAX_UNAUTHENTICATED_LEN - 100, true),
        (false, MAX_UNAUTHENTICATED_LEN, false),
        (true, MAX_UNAUTHENTICATED_LEN, true),
    ] {
        let mut ends = Ends::new();
        ends.initiator.set_datagram_limit(Some(1200));
        if trusted {
            ends.responder.trust();
        }
        let long = ends.send(ExchangeType::INFORMATIONAL, &payloads(len));
        let whole = ends.receive_all(&long.iter().collect::<Vec<_>>());
        assert_eq!(whole.is_some(), arrives, "{len}");
    }
}

#[test]
fn an_incomplete_message_is_forgotten() {
    let mut ends = Ends::new();
    let sent = payloads(690);
    let datagrams = ends.send(ExchangeType::INFORMATIONAL, &sent);
    assert!(ends.receive_all(&[&datagrams[0], &datagrams[1]]).is_none());
    ends.now += PATIENCE;
    assert!(ends.receive_all(&[&datagrams[2], &datagrams[3]]).is_none());
    assert!(ends.receive_all(&[&datagrams[0], &datagrams[1]]).is_some());
}

#[test]
fn fragments_are_ignored_unless_both_ends_announced_them() {
    let mut ends = Ends::new();
    ends.responder.set_datagram_limit(None);
    let datagrams = ends.send(ExchangeType::INFORMATIONAL, &payloads(690));
    assert!(ends.receive_all(&datagrams.iter().collect::<Vec<_>>()).is_none());
    ends.initiator.set_datagram_limit(None);
    ends.initiator.send_id = 1;
    let whole = ends.send(ExchangeType::INFORMATIONAL, &payloads(690));
    assert_eq!(whole.len(), 1);
    assert!(ends.receive_all(&[&whole[0]]).is_some());
}

#[test]
fn both_ends_authenticate_the_same_bytes_of_an_intermediate_exchange_whole_or_not() {
    for suite in suites() {
        for (len, limit) in [(100, None), (690, Some(LIMIT)), (690, None)] {
            let mut ends = Ends::of(suite);
            ends.initiator.set_datagram_limit(limit);
            let sent = payloads(len);
            let datagrams = ends.send(ExchangeType::IKE_INTERMEDIATE, &sent);
            assert_eq!(datagrams.len() > 1, limit.is_some());
            let opened = ends
                .receive_all(&datagrams.iter().collect::<Vec<_>>())
                .expect("whole");
            assert_eq!(opened.plain, ends.initiator.sent_plain());
            // As if it had never been encrypted: a message that names its own length.
            assert_eq!(opened.plain[16], PayloadType::SK.0);
            let total = u32::from_be_bytes(opened.plain[24..28].try_into().unwrap());
            assert_eq!(usize::try_from(total).unwrap(), opened.plain.len());
            let inner = u16::from_be_bytes(opened.plain[30..32].try_into().unwrap());
            assert_eq!(usize::from(inner), opened.plain.len() - HEADER_LEN);
            assert_eq!(
                decode_chain(PayloadType(opened.plain[28]), &opened.plain[32..]).unwrap(),
                sent
            );
        }
    }
}

#[test]
fn a_late_fragment_of_an_older_message_does_no_harm() {
    let mut ends = Ends::new();
    let first = ends.send(ExchangeType::INFORMATIONAL, &payloads(690));
    assert!(ends.receive_all(&first.iter().collect::<Vec<_>>()).is_some());
    ends.respond(&[]);
    let second = ends.send(ExchangeType::INFORMATIONAL, &payloads(650));
    ends.now += Duration::from_secs(1);
    let mixed: Vec<&Vec<u8>> = second
        .iter()
        .zip(&first)
        .flat_map(|(new, old)| [new, old])
        .collect();
    assert_eq!(ends.receive_all(&mixed).expect("whole").payloads, payloads(650));
}
