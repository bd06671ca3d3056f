use isthmus_wire::ike::{NotifyPayload, NotifyType, PayloadType, RawPayload};

use super::*;
use crate::channel::{Channel, Received, Role};
use crate::negotiate::{KeyExchange, offer_esp};
use crate::parts::Parts;
use crate::selector;

/// A payload of a type that nobody knows.
fn unknown(critical: bool) -> Payload {
    Payload::Other(RawPayload {
        payload_type: PayloadType(200),
        critical,
        body: vec![1, 2, 3],
    })
}

fn unsupported() -> Vec<Payload> {
    vec![Payload::Notify(NotifyPayload::new(
        NotifyType::UNSUPPORTED_CRITICAL_PAYLOAD,
        vec![200],
    ))]
}

fn notify_types(payloads: &[Payload]) -> Vec<NotifyType> {
    Parts::sort(payloads.to_vec())
        .unwrap()
        .notifies
        .iter()
        .map(|notify| notify.notify_type)
        .collect()
}

/// The first message of the left end with one more payload.
fn first_with(payload: Payload) -> (Ends, Vec<u8>) {
    let mut ends = Ends::new();
    ends.right.upsert_connection(config(RIGHT), ends.now);
    ends.left.upsert_connection(config(LEFT), ends.now);
    let first = ends.left.poll_transmit().unwrap().payload;
    let message = Message::decode(&first).unwrap();
    let mut payloads = message.payloads.clone();
    payloads.push(payload);
    (ends, isthmus_wire::ike::encode_message(message.header, &payloads))
}

#[test]
fn an_unknown_critical_payload_in_the_first_message_is_refused_without_state() {
    let (mut ends, first) = first_with(unknown(true));
    let answer = ends.answer_to(&first).expect("an answer");
    assert_eq!(Message::decode(&answer).unwrap().payloads, unsupported());
    assert!(ends.right.is_idle());
}

#[test]
fn an_unknown_payload_that_is_not_critical_is_passed_over() {
    let (mut ends, first) = first_with(unknown(false));
    let answer = ends.answer_to(&first).expect("an answer");
    let parts = Parts::sort(Message::decode(&answer).unwrap().payloads).unwrap();
    assert!(parts.sa.is_some());
    assert_eq!(half_open(&ends.right), 1);
}

#[test]
fn an_oversized_first_message_takes_no_memory() {
    let (mut ends, first) = first_with(Payload::VendorId(vec![0; 3_000]));
    assert_eq!(ends.answer_to(&first), None);
    assert!(ends.right.is_idle());
}

#[test]
fn an_unknown_critical_payload_in_the_authentication_is_refused() {
    let mut ends = Ends::new();
    ends.right.upsert_connection(config(RIGHT), ends.now);
    ends.left.upsert_connection(config(LEFT), ends.now);
    let first = ends.left.poll_transmit().unwrap();
    ends.deliver_right(&first);
    let answer = ends.right.poll_transmit().unwrap();
    ends.deliver_left(&answer);
    let real = ends.left.poll_transmit().unwrap().payload;
    let sa = only_sa(&mut ends.left);
    let spis = sa.spis();
    let State::AuthSent(auth) = &sa.state else {
        panic!("IKE_AUTH was not sent");
    };
    // The real content, and one payload more.
    let reader = Channel::new(Role::Responder, spis, &auth.suite, &auth.keys, 1).unwrap();
    let mut writer = Channel::new(Role::Initiator, spis, &auth.suite, &auth.keys, 1).unwrap();
    let mut payloads = reader.open(&real, &Message::decode(&real).unwrap()).unwrap();
    payloads.push(unknown(true));
    let (_, request) = writer.request(ExchangeType::IKE_AUTH, &payloads).unwrap();
    let answer = ends.answer_to(&request.0[0]).expect("an answer");
    let answered = writer.open(&answer, &Message::decode(&answer).unwrap()).unwrap();
    assert_eq!(answered, unsupported());
    assert!(only_sa(&mut ends.right).established().is_none());
    assert_eq!(installed(&mut ends.right), 0);
    // Nothing more is accepted with these keys.
    let (_, more) = writer.request(ExchangeType::INFORMATIONAL, &[]).unwrap();
    assert_eq!(ends.answer_to(&more.0[0]), None);
}

#[test]
fn an_unknown_critical_payload_in_a_protected_request_is_refused_and_the_ike_sa_stays() {
    let mut ends = Ends::established();
    for exchange in [ExchangeType::INFORMATIONAL, ExchangeType::CREATE_CHILD_SA] {
        assert_eq!(ends.ask(exchange, &[unknown(true)]), unsupported());
    }
    assert_eq!(ends.ask(ExchangeType::INFORMATIONAL, &[unknown(false)]), []);
    assert_eq!(only_established(&mut ends.right).children.len(), 1);
}

/// A request for a child with the sender's inbound `spi`.
fn child_request(spi: u32) -> Vec<Payload> {
    let config = config(LEFT);
    vec![
        Payload::Sa(offer_esp(
            &config.esp_proposals,
            spi,
            KeyExchange::Negotiated,
            config.options.extended_sequence_numbers,
        )),
        Payload::Nonce(vec![7; 32]),
        Payload::TsInitiator(selector::encode(&selector::configured(&config.local_cidrs))),
        Payload::TsResponder(selector::encode(&selector::configured(&config.peer_cidrs))),
    ]
}

fn rekey_of(spi: u32) -> Payload {
    Payload::Notify(NotifyPayload::about_esp(NotifyType::REKEY_SA, spi))
}

#[test]
fn a_rekey_of_an_unknown_child_is_answered_with_its_spi() {
    let mut ends = Ends::established();
    let mut payloads = vec![rekey_of(0x1234)];
    payloads.extend(child_request(0x4000));
    let answer = ends.ask(ExchangeType::CREATE_CHILD_SA, &payloads);
    let expected = NotifyPayload::about_esp(NotifyType::CHILD_SA_NOT_FOUND, 0x1234);
    assert_eq!(answer, [Payload::Notify(expected)]);
    assert_eq!(only_established(&mut ends.right).children.len(), 1);
}

#[test]
fn a_child_that_the_peer_does_not_know_is_made_anew() {
    let mut ends = Ends::established();
    let lost = only_established(&mut ends.right).children.pop().unwrap();
    let child = only_established(&mut ends.left).children[0].id;
    installed(&mut ends.left);
    ends.left.rekey_child(child, ends.now);
    ends.exchange();
    ends.pass(Duration::from_secs(2));
    assert_eq!(installed(&mut ends.left), 1);
    let left = &only_established(&mut ends.left).children;
    assert_eq!(left.len(), 1);
    assert_ne!(left[0].outbound_spi, lost.inbound_spi);
    let (inbound, outbound) = (left[0].inbound_spi, left[0].outbound_spi);
    let right = &only_established(&mut ends.right).children[0];
    assert_eq!((right.outbound_spi, right.inbound_spi), (inbound, outbound));
}

#[test]
fn children_are_bounded_but_replacements_are_not_refused() {
    let mut ends = Ends::established();
    let mut accepted = 1;
    let refusal = loop {
        let mut request = child_request(0x4000 + accepted);
        // Each for other traffic: of two for the same one would go.
        let range = format!("10.1.{accepted}.0/24").parse().unwrap();
        request[2] = Payload::TsInitiator(selector::encode(&selector::configured(&[range])));
        let answer = ends.ask(ExchangeType::CREATE_CHILD_SA, &request);
        if !matches!(answer.first(), Some(Payload::Sa(_))) {
            break answer;
        }
        accepted += 1;
        assert!(accepted <= 128, "no bound");
    };
    assert_eq!(notify_types(&refusal), [NotifyType::NO_ADDITIONAL_SAS]);
    assert_eq!(accepted, 128);
    assert_eq!(only_established(&mut ends.right).children.len(), 128);
    let sa = only_sa(&mut ends.left).id;
    let child = only_established(&mut ends.left).children[0].id;
    ends.left.rekey_child(child, ends.now);
    ends.exchange();
    assert_eq!(only_sa(&mut ends.left).id, sa);
    assert_ne!(only_established(&mut ends.left).children[0].id, child);
}

/// The right end answers the next request of the left one with only this notify.
fn refuse_next(ends: &mut Ends, notify_type: NotifyType) {
    let request = ends.left.poll_transmit().expect("a request").payload;
    let message = Message::decode(&request).unwrap();
    let now = ends.now;
    let channel = &mut only_established(&mut ends.right).channel;
    assert!(matches!(
        channel.receive(&request, &message, now),
        Received::New(_)
    ));
    let refusal = [Payload::Notify(NotifyPayload::new(notify_type, Vec::new()))];
    let response = channel.respond(message.header.exchange, &refusal).unwrap();
    let source = SocketAddr::new(RIGHT, IKE_PORT);
    ends.left.handle_datagram(IKE_PORT, source, &response.0[0], now);
}

#[test]
fn a_peer_that_makes_no_more_children_gets_a_new_ike_sa_before_the_old_one_goes() {
    let mut ends = Ends::established();
    let old = only_sa(&mut ends.left).id;
    let child = only_established(&mut ends.left).children[0].id;
    ends.left.rekey_child(child, ends.now);
    refuse_next(&mut ends, NotifyType::NO_ADDITIONAL_SAS);
    let events: Vec<Event> = std::iter::from_fn(|| ends.left.poll_event()).collect();
    let retired = |event: &Event| matches!(event, Event::ChildRetired { .. });
    assert!(!events.iter().any(retired), "broken before another one is made");
    ends.exchange();
    assert_eq!(installed(&mut ends.left), 1, "the child of the new IKE SA");
    ends.pass(Duration::from_secs(10));
    assert_ne!(only_sa(&mut ends.left).id, old);
    assert_eq!(only_established(&mut ends.left).children.len(), 1);
    assert_eq!(only_established(&mut ends.right).children.len(), 1);
}

#[test]
fn reserved_and_doubled_spis_are_refused() {
    for spi in [Some(0), Some(1), Some(255), None] {
        let mut ends = Ends::established();
        let doubled = only_established(&mut ends.left).children[0].inbound_spi;
        installed(&mut ends.right);
        let request = child_request(spi.unwrap_or(doubled));
        let answer = ends.ask(ExchangeType::CREATE_CHILD_SA, &request);
        assert_eq!(notify_types(&answer), [NotifyType::INVALID_SYNTAX], "{spi:?}");
        assert_eq!(installed(&mut ends.right), 0);
    }
}

#[test]
fn a_request_without_a_payload_that_it_needs_is_an_error_each() {
    for missing in 1..4 {
        let mut ends = Ends::established();
        let mut payloads = child_request(0x4000);
        payloads.remove(missing);
        let answer = ends.ask(ExchangeType::CREATE_CHILD_SA, &payloads);
        assert_eq!(notify_types(&answer), [NotifyType::INVALID_SYNTAX], "{missing}");
        // Whoever does not understand the other closes.
        assert!(ends.right.is_idle(), "{missing}");
    }
}

#[test]
fn an_ike_sa_whose_request_was_not_understood_is_closed_and_made_anew() {
    let mut ends = Ends::established();
    let child = only_established(&mut ends.left).children[0].id;
    ends.left.rekey_child(child, ends.now);
    let request = ends.left.poll_transmit().unwrap().payload;
    let message = Message::decode(&request).unwrap();
    let right = &mut only_established(&mut ends.right).channel;
    assert!(matches!(
        right.receive(&request, &message, ends.now),
        crate::channel::Received::New(_)
    ));
    let error = Payload::Notify(NotifyPayload::new(NotifyType::INVALID_SYNTAX, Vec::new()));
    let answer = right.respond(ExchangeType::CREATE_CHILD_SA, &[error]).unwrap();
    let before = only_sa(&mut ends.left).id;
    let source = SocketAddr::new(RIGHT, IKE_PORT);
    ends.left
        .handle_datagram(IKE_PORT, source, &answer.0[0], ends.now);
    ends.exchange();
    ends.pass(Duration::from_secs(10));
    assert_ne!(only_sa(&mut ends.left).id, before);
    assert_eq!(ends.left.state(connection()), Some(ConnectionState::Up));
}

#[test]
fn requests_beyond_the_window_wait_whatever_window_the_peer_announces() {
    let mut ends = Ends::established();
    let window = Payload::Notify(NotifyPayload::new(NotifyType::SET_WINDOW_SIZE, vec![0, 0, 0, 9]));
    assert_eq!(ends.ask(ExchangeType::INFORMATIONAL, &[window]), []);
    let left = &mut only_established(&mut ends.left).channel;
    let (_, first) = left.request(ExchangeType::INFORMATIONAL, &[]).unwrap();
    let (_, second) = left.request(ExchangeType::INFORMATIONAL, &[]).unwrap();
    assert_eq!(ends.answer_to(&second.0[0]), None);
    let answer = ends.answer_to(&first.0[0]).expect("an answer");
    assert!(ends.answer_to(&second.0[0]).is_some());
    // Only the last answer is kept.
    assert_eq!(ends.answer_to(&first.0[0]), None);
    assert!(!answer.is_empty());
}

#[test]
fn a_redirect_is_not_followed() {
    let mut ends = Ends::new();
    ends.left.upsert_connection(config(LEFT), ends.now);
    let first = ends.left.poll_transmit().unwrap().payload;
    let header = Message::decode(&first).unwrap().header;
    // REDIRECT to an IPv4 address (RFC 5685 section 5).
    let redirect = Payload::Notify(NotifyPayload::new(NotifyType(16407), vec![1, 4, 203, 0, 113, 9]));
    let header = isthmus_wire::ike::IkeHeader {
        flags: isthmus_wire::ike::IkeFlags::RESPONSE,
        ..header
    };
    let answer = isthmus_wire::ike::encode_message(header, &[redirect]);
    let source = SocketAddr::new(RIGHT, IKE_PORT);
    ends.left.handle_datagram(IKE_PORT, source, &answer, ends.now);
    assert!(ends.left.poll_transmit().is_none());
    // The real answer still counts.
    ends.right.upsert_connection(config(RIGHT), ends.now);
    ends.pass(Duration::from_secs(2));
    assert_eq!(ends.left.state(connection()), Some(ConnectionState::Up));
}

#[test]
fn an_authentication_that_is_to_end_is_made_anew_in_time_and_with_overlap() {
    for rekeyed_before in [false, true] {
        let mut ends = Ends::established();
        let lifetime = NotifyPayload::new(NotifyType::AUTH_LIFETIME, 60u32.to_be_bytes().to_vec());
        let channel = &mut only_established(&mut ends.right).channel;
        let exchange = ExchangeType::INFORMATIONAL;
        let (_, request) = channel.request(exchange, &[Payload::Notify(lifetime)]).unwrap();
        let source = SocketAddr::new(RIGHT, IKE_PORT);
        ends.left
            .handle_datagram(IKE_PORT, source, &request.0[0], ends.now);
        ends.exchange();
        if rekeyed_before {
            ends.left.rekey_ike(connection(), ends.now);
            ends.exchange();
        }
        ends.pass(Duration::from_secs(40));
        let before = only_sa(&mut ends.left).id;
        for _ in 0..40 {
            ends.pass(Duration::from_millis(500));
            assert_eq!(ends.left.state(connection()), Some(ConnectionState::Up));
            assert_eq!(ends.right.state(connection()), Some(ConnectionState::Up));
        }
        assert!(only_sa(&mut ends.left).id > before);
        let status = ends.right.status(connection()).unwrap();
        assert_eq!((status.ike_sas, status.children.len()), (1, 1));
    }
}

#[test]
fn a_minor_version_is_passed_over_and_a_major_one_is_told_ours() {
    let mut ends = Ends::new();
    ends.right.upsert_connection(config(RIGHT), ends.now);
    ends.left.upsert_connection(config(LEFT), ends.now);
    let first = ends.left.poll_transmit().unwrap().payload;
    let mut minor = first.clone();
    minor[17] = 0x2f;
    let answer = ends.answer_to(&minor).expect("an answer");
    assert!(
        Parts::sort(Message::decode(&answer).unwrap().payloads)
            .unwrap()
            .sa
            .is_some()
    );
    let mut major = first;
    major[17] = 0x30;
    let answer = ends.answer_to(&major).expect("an answer");
    assert_eq!(
        notify_types(&Message::decode(&answer).unwrap().payloads),
        [NotifyType::INVALID_MAJOR_VERSION]
    );
}

#[test]
fn a_child_that_comes_after_the_connection_was_put_down_is_not_installed() {
    let mut ends = Ends::established();
    let child = only_established(&mut ends.left).children[0].id;
    ends.left.rekey_child(child, ends.now);
    let request = ends.left.poll_transmit().unwrap();
    installed(&mut ends.left);
    let mut down = config(LEFT);
    down.admin_up = false;
    ends.left.upsert_connection(down, ends.now);
    ends.deliver_right(&request);
    ends.exchange();
    assert_eq!(installed(&mut ends.left), 0);
    assert!(ends.left.is_idle());
    assert!(ends.right.is_idle());
}

#[test]
fn a_peer_that_asks_for_another_identity_is_told_of_in_these_words() {
    let mut ends = Ends::new();
    ends.right.upsert_connection(config(RIGHT), ends.now);
    let mut left = config(LEFT);
    left.peer_identity = IkeIdentity::Fqdn("somebody.example".into());
    ends.left.upsert_connection(left, ends.now);
    ends.exchange();
    let (reason, detail) = down(&ends.right);
    assert_eq!(reason, DownReason::AuthenticationFailed);
    assert!(
        detail.contains("asked for identity name somebody.example where ours is address 192.0.2.2"),
        "{detail}"
    );
}
