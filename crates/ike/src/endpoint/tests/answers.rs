//! Which answers count, and findings that one disproves.

use super::*;
use crate::finding::FindingKind;

fn misses_answer(endpoint: &Endpoint) -> bool {
    let status = endpoint.status(connection()).expect("a connection");
    let mut kinds = status.findings.iter().map(|finding| &finding.kind);
    kinds.any(|kind| matches!(kind, FindingKind::NoAnswer { .. }))
}

/// The right end answers the first message, and then nothing before the left one gives up.
fn with_authentication_unanswered(left: ConnectionConfig) -> Ends {
    let mut ends = Ends::new();
    ends.right.upsert_connection(config(RIGHT), ends.now);
    ends.left.upsert_connection(left, ends.now);
    let first = ends.left.poll_transmit().expect("a first message");
    ends.deliver_right(&first);
    let answer = ends.right.poll_transmit().expect("an answer");
    ends.deliver_left(&answer);
    for _ in 0..1_000 {
        while ends.left.poll_transmit().is_some() {}
        if misses_answer(&ends.left) {
            return ends;
        }
        ends.now += Duration::from_millis(500);
        ends.left.handle_timeout(ends.now);
    }
    panic!("the left end waits for ever");
}

#[test]
fn a_refusal_of_the_authentication_is_an_answer() {
    let wrong = ConnectionConfig {
        psk: Secret::new("wrong".into()),
        ..config(LEFT)
    };
    let mut ends = with_authentication_unanswered(wrong);
    ends.pass(Duration::from_secs(60));
    assert_eq!(down(&ends.left).0, DownReason::AuthenticationFailed);
    assert!(!misses_answer(&ends.left));
}

#[test]
fn an_answer_on_an_ike_sa_without_children_is_an_answer() {
    let mut ends = with_authentication_unanswered(ConnectionConfig {
        local_cidrs: vec!["172.16.0.0/16".parse().unwrap()],
        ..config(LEFT)
    });
    ends.pass(Duration::from_secs(60));
    assert_eq!(down(&ends.left).0, DownReason::SelectorMismatch);
    assert!(!misses_answer(&ends.left));
}

#[test]
fn an_answer_to_the_first_message_counts_only_from_where_that_went() {
    let mut ends = Ends::new();
    ends.right.upsert_connection(config(RIGHT), ends.now);
    ends.left.upsert_connection(config(LEFT), ends.now);
    let first = ends.left.poll_transmit().expect("a first message");
    ends.deliver_right(&first);
    let answer = ends.right.poll_transmit().expect("an answer");
    let elsewhere = SocketAddr::new(IpAddr::from([198, 51, 100, 9]), answer.local_port);
    ends.left
        .handle_datagram(IKE_PORT, elsewhere, &answer.payload, ends.now);
    assert!(ends.left.poll_transmit().is_none());
    ends.deliver_left(&answer);
    assert!(ends.left.poll_transmit().is_some());
}
