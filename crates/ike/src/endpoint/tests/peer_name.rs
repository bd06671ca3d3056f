use std::time::Duration;

use super::*;

fn questions(endpoint: &mut Endpoint) -> Vec<String> {
    std::iter::from_fn(|| endpoint.poll_event())
        .filter_map(|event| match event {
            Event::ResolvePeer { name, .. } => Some(name),
            Event::IkeKeysAgreed(_)
            | Event::ChildInstalled(_)
            | Event::ChildOutboundReady { .. }
            | Event::ChildRetired { .. }
            | Event::ChildRemoved { .. }
            | Event::ConnectionStateChanged { .. }
            | Event::PeerMoved { .. }
            | Event::SpiClosed { .. }
            | Event::SpiOpened { .. } => None,
        })
        .collect()
}

fn named() -> Ends {
    let mut ends = Ends::new();
    ends.right.upsert_connection(config(RIGHT), ends.now);
    let mut left = config(LEFT);
    left.peer = PeerEndpoint::Name("gateway.example".into());
    ends.left.upsert_connection(left, ends.now);
    ends
}

#[test]
fn a_name_is_asked_for_before_the_first_message_and_its_address_is_used() {
    let mut ends = named();
    assert_eq!(questions(&mut ends.left), ["gateway.example"]);
    assert!(ends.left.poll_transmit().is_none());
    ends.left.peer_resolved(connection(), Some(RIGHT), ends.now);
    let first = ends.left.poll_transmit().expect("a first message");
    assert_eq!(first.destination, SocketAddr::new(RIGHT, IKE_PORT));
    ends.deliver_right(&first);
    ends.exchange();
    assert_eq!(ends.left.state(connection()), Some(ConnectionState::Up));
    assert!(questions(&mut ends.left).is_empty());
}

#[test]
fn a_name_without_address_is_told_and_asked_for_again() {
    let mut ends = named();
    assert_eq!(questions(&mut ends.left).len(), 1);
    ends.left.peer_resolved(connection(), None, ends.now);
    let (reason, detail) = down(&ends.left);
    assert_eq!(reason, DownReason::PeerNotResponding);
    assert!(detail.contains("name"), "{detail}");
    ends.pass(Duration::from_secs(4));
    assert!(questions(&mut ends.left).is_empty());
    ends.pass(Duration::from_secs(2));
    assert_eq!(questions(&mut ends.left).len(), 1);
    ends.left.peer_resolved(connection(), Some(RIGHT), ends.now);
    ends.exchange();
    assert_eq!(ends.left.state(connection()), Some(ConnectionState::Up));
}
