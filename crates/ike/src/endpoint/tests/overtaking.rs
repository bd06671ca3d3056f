//! Messages that overtake the answers that they depend on, and changes that meet an exchange under way.

use super::*;
use crate::child::ChildPhase;
use crate::event::ChildId;

/// The left end replaces its child; the answer is held back.
fn with_answer_held_back() -> (Ends, Transmit) {
    let mut ends = Ends::established();
    let child = only_established(&mut ends.left).children[0].id;
    ends.left.rekey_child(child, ends.now);
    let request = ends.left.poll_transmit().expect("a request");
    ends.deliver_right(&request);
    let answer = ends.right.poll_transmit().expect("an answer");
    (ends, answer)
}

fn newest(endpoint: &mut Endpoint) -> ChildId {
    only_established(endpoint).children.last().expect("a child").id
}

fn spis(endpoint: &mut Endpoint) -> Vec<(u32, u32)> {
    let children = &only_established(endpoint).children;
    children
        .iter()
        .map(|child| (child.inbound_spi, child.outbound_spi))
        .collect()
}

fn assert_one_child_at_both_ends(ends: &mut Ends) {
    let left = spis(&mut ends.left);
    let right: Vec<(u32, u32)> = spis(&mut ends.right)
        .iter()
        .map(|(inbound, outbound)| (*outbound, *inbound))
        .collect();
    assert_eq!(left.len(), 1);
    assert_eq!(left, right);
}

#[test]
fn a_rekey_that_overtakes_the_answer_which_tells_of_the_child_leaves_no_orphan() {
    let (mut ends, answer) = with_answer_held_back();
    let new = newest(&mut ends.right);
    ends.right.rekey_child(new, ends.now);
    let early = ends.right.poll_transmit().expect("a request");
    ends.deliver_left(&early);
    ends.deliver_left(&answer);
    ends.exchange();
    ends.pass(Duration::from_secs(20));
    assert_one_child_at_both_ends(&mut ends);
}

#[test]
fn a_delete_that_overtakes_the_answer_which_tells_of_the_child_leaves_no_orphan() {
    let (mut ends, answer) = with_answer_held_back();
    let new = newest(&mut ends.right);
    let established = only_established(&mut ends.right);
    established.child_mut(new).expect("the new child").phase = ChildPhase::Condemned;
    ends.right.note_inbound(new, ends.now);
    ends.right.rekey_ike(connection(), ends.now);
    let early = ends.right.poll_transmit().expect("a delete");
    ends.deliver_left(&early);
    ends.deliver_left(&answer);
    ends.exchange();
    ends.pass(Duration::from_secs(20));
    assert_one_child_at_both_ends(&mut ends);
}

#[test]
fn a_range_that_is_added_during_the_handshake_is_carried_after_it() {
    let more = "10.3.0.0/16".parse().unwrap();
    let mut ends = Ends::new();
    let mut right = config(RIGHT);
    right.peer_cidrs.push(more);
    ends.right.upsert_connection(right, ends.now);
    ends.left.upsert_connection(config(LEFT), ends.now);
    let first = ends.left.poll_transmit().expect("a first message");
    ends.deliver_right(&first);
    let answer = ends.right.poll_transmit().expect("an answer");
    ends.deliver_left(&answer);
    let mut left = config(LEFT);
    left.local_cidrs.push(more);
    ends.left.upsert_connection(left, ends.now);
    ends.exchange();
    ends.pass(Duration::from_secs(2));
    assert_one_child_at_both_ends(&mut ends);
    let children = &only_established(&mut ends.left).children;
    assert_eq!(children[0].traffic.local.len(), 2);
}

/// Whether the right end was told to send on a child that waited.
fn begins_to_send(ends: &mut Ends) -> bool {
    std::iter::from_fn(|| ends.right.poll_event())
        .any(|event| matches!(event, Event::ChildOutboundReady { .. }))
}

#[test]
fn an_end_that_answers_sends_on_the_new_child_once_the_other_end_asks_for_something_else() {
    let (mut ends, _) = with_answer_held_back();
    assert!(!begins_to_send(&mut ends));
    ends.ask(ExchangeType::INFORMATIONAL, &[]);
    assert!(begins_to_send(&mut ends));
}

#[test]
fn an_end_that_answers_goes_on_with_the_old_child_while_its_answer_is_lost() {
    let mut ends = Ends::established();
    let child = only_established(&mut ends.left).children[0].id;
    ends.left.rekey_child(child, ends.now);
    let request = ends.left.poll_transmit().expect("a request");
    for _ in 0..3 {
        ends.deliver_right(&request);
        let _lost = ends.right.poll_transmit().expect("an answer");
        ends.now += Duration::from_millis(2_500);
        ends.right.handle_timeout(ends.now);
        assert!(!begins_to_send(&mut ends));
    }
    // But not for ever.
    ends.now += Duration::from_secs(3);
    ends.right.handle_timeout(ends.now);
    assert!(begins_to_send(&mut ends));
}
