use isthmus_ike::{
    ConnectionConfig, ConnectionState, DownReason, EstablishMode, Event, Finding, FindingKind, IkeIdentity,
    PeerEndpoint, Severity,
};
use isthmus_simnet::{Link, Nat, Pair, Side};
use isthmus_types::{Encryption, ResourceBits, Secret, VpnConnectionId};

use crate::v1::version_1;
use crate::{LONG, reason};

fn named(name: &str) -> IkeIdentity {
    IkeIdentity::Fqdn(name.into())
}

/// The right end's connection to a peer that may be anywhere and calls itself `name`.
fn roaming(number: u128, name: &str, psk: &str) -> ConnectionConfig {
    ConnectionConfig {
        connection: VpnConnectionId::from(ResourceBits::from_random(number)),
        peer: PeerEndpoint::Anywhere,
        peer_identity: named(name),
        psk: Secret::new(psk.into()),
        ..Pair::config(Side::Right)
    }
}

fn left(name: &str, psk: &str) -> ConnectionConfig {
    ConnectionConfig {
        local_identity: named(name),
        psk: Secret::new(psk.into()),
        ..Pair::config(Side::Left)
    }
}

#[test]
fn the_identity_chooses_among_peers_without_an_address_and_with_it_the_key() {
    for behind_nat in [false, true] {
        for mine in ["a.example", "b.example", "c.example"] {
            let mut pair = Pair::new(1, Link::clean());
            if behind_nat {
                pair.put_nat(Side::Left, Nat::new("198.51.100.1".parse().unwrap()));
            }
            for (number, name) in ["a.example", "b.example", "c.example"].iter().enumerate() {
                let number = if *name == mine { 2 } else { 20 + number as u128 };
                pair.upsert(Side::Right, roaming(number, name, &format!("key of {name}")));
            }
            pair.upsert(Side::Right, roaming(2, mine, &format!("key of {mine}")));
            pair.upsert(Side::Left, left(mine, &format!("key of {mine}")));
            assert!(
                pair.run_until(LONG, |pair: &Pair| pair.discord().is_none()),
                "{mine}"
            );
        }
    }
}

#[test]
fn a_peer_without_an_address_is_never_gone_to() {
    let mut pair = Pair::new(1, Link::clean());
    pair.upsert(Side::Right, roaming(2, "a.example", "key"));
    pair.run_for(LONG);
    assert_eq!(pair.sent, 0);
    assert_eq!(reason(&pair, Side::Right), Some(DownReason::AwaitingPeer));
}

#[test]
fn that_the_peer_is_waited_for_is_told_at_once() {
    for (peer, words) in [
        (PeerEndpoint::Anywhere, "known by its identity, name a.example"),
        (Pair::config(Side::Right).peer, "alone may begin"),
    ] {
        let mut pair = Pair::new(1, Link::clean());
        let config = ConnectionConfig {
            peer,
            establish: EstablishMode::PeerOnly,
            ..roaming(2, "a.example", "key")
        };
        let mut told = Vec::new();
        pair.act(Side::Right, |endpoint, now| {
            endpoint.upsert_connection(config, now);
            while let Some(event) = endpoint.poll_event() {
                told.push(event);
            }
        });
        let [Event::ConnectionStateChanged { state, .. }] = told.as_slice() else {
            panic!("{told:?}")
        };
        let ConnectionState::Down { reason, detail } = state else {
            panic!("{state:?}")
        };
        assert_eq!(*reason, DownReason::AwaitingPeer);
        assert!(detail.contains(words), "{detail}");
    }
}

fn unknown_peer(pair: &Pair, connection: VpnConnectionId) -> Option<Finding> {
    let status = pair
        .peer(Side::Right)
        .endpoint
        .status(connection)
        .expect("a connection");
    let mut findings = status.findings.into_iter();
    findings.find(|finding| matches!(finding.kind, FindingKind::UnknownPeer { .. }))
}

#[test]
fn an_unknown_identity_is_told_of_but_leaves_the_state_as_it_is() {
    let mut pair = Pair::new(1, Link::clean());
    pair.upsert(Side::Right, roaming(2, "a.example", "key"));
    pair.upsert(Side::Left, left("evil.example", "key"));
    pair.run_for(LONG);
    assert_eq!(reason(&pair, Side::Right), Some(DownReason::AwaitingPeer));
    let found = unknown_peer(&pair, Side::Right.connection()).expect("a finding");
    assert_eq!(found.kind.severity(), Severity::Warning);
    assert!(found.times > 1, "{found:?}");
    let sentence = found.kind.explanation();
    for part in [
        "somebody at 192.0.2.1 calls itself name evil.example",
        "known by name a.example",
        "if that was the peer, set its identity here to name evil.example",
    ] {
        assert!(sentence.contains(part), "{sentence}");
    }
    // The peer itself comes: whoever that was before, it was not the peer.
    pair.upsert(Side::Left, left("a.example", "key"));
    assert!(pair.run_until(LONG, |pair: &Pair| pair.discord().is_none()));
    assert!(unknown_peer(&pair, Side::Right.connection()).is_none());
}

#[test]
fn strangers_say_nothing_about_a_peer_that_is_in_contact() {
    let mut pair = Pair::new(1, Link::clean());
    pair.upsert(Side::Right, roaming(2, "a.example", "key"));
    pair.upsert(Side::Left, left("a.example", "key"));
    assert!(pair.run_until(LONG, |pair: &Pair| pair.discord().is_none()));
    // From the same address, with the right name and not its key, and with another name.
    for (number, name) in [(7, "a.example"), (8, "evil.example")] {
        let stranger = ConnectionConfig {
            connection: VpnConnectionId::from(ResourceBits::from_random(number)),
            ..left(name, "not the key")
        };
        pair.upsert(Side::Left, stranger);
    }
    pair.run_for(LONG);
    let status = pair
        .peer(Side::Right)
        .endpoint
        .status(Side::Right.connection())
        .unwrap();
    assert_eq!(status.state, ConnectionState::Up);
    let grave = |finding: &&Finding| finding.kind.severity() > Severity::Info;
    assert_eq!(status.findings.iter().find(grave), None);
}

#[test]
fn a_connection_with_the_peers_address_comes_before_one_without() {
    let mut pair = Pair::new(1, Link::clean());
    // Its id is lower, so it would be found first.
    pair.upsert(Side::Right, roaming(0, "a.example", "another key"));
    let at_its_address = ConnectionConfig {
        peer_identity: named("a.example"),
        psk: Secret::new("key".into()),
        ..Pair::config(Side::Right)
    };
    pair.upsert(Side::Right, at_its_address);
    pair.upsert(Side::Left, left("a.example", "key"));
    assert!(
        pair.run_until(LONG, |pair: &Pair| pair.discord().is_none()),
        "{:?}",
        pair.discord()
    );
}

/// In version 1 the first connection that may be meant is taken until the identity can be read.
#[test]
fn in_version_1_too_a_connection_with_the_peers_address_comes_before_one_without() {
    let mut pair = Pair::new(1, Link::clean());
    let right = |number, name, config: ConnectionConfig| {
        let mut config = ConnectionConfig {
            connection: VpnConnectionId::from(ResourceBits::from_random(number)),
            peer_identity: named(name),
            psk: Secret::new("key".into()),
            establish: EstablishMode::PeerOnly,
            ..config
        };
        version_1(Side::Right, &mut config);
        config
    };
    pair.upsert(Side::Right, right(0, "a.example", roaming(0, "a.example", "key")));
    pair.upsert(Side::Right, right(1, "b.example", Pair::config(Side::Right)));
    pair.upsert(Side::Right, right(2, "a.example", Pair::config(Side::Right)));
    let mut config = left("a.example", "key");
    version_1(Side::Left, &mut config);
    pair.upsert(Side::Left, config);
    assert!(
        pair.run_until(LONG, |pair: &Pair| pair.discord().is_none()),
        "{:?}",
        pair.discord()
    );
}

/// An identity leads to no connection whose policy forbids what was agreed on before it was read.
#[test]
fn in_version_1_no_identity_leads_to_a_connection_with_other_algorithms() {
    for aggressive in [false, true] {
        let mut pair = Pair::new(1, Link::clean());
        let right = |number, name| {
            let mut config = roaming(number, name, "key");
            version_1(Side::Right, &mut config);
            config.options.aggressive_mode = aggressive;
            config
        };
        let mut weak = right(1, "b.example");
        weak.ike_proposals[0].encryption = vec![Encryption::Aes128Cbc];
        pair.upsert(Side::Right, weak);
        pair.upsert(Side::Right, right(2, "a.example"));
        let mut config = left("a.example", "key");
        version_1(Side::Left, &mut config);
        config.options.aggressive_mode = aggressive;
        config.ike_proposals[0].encryption = vec![Encryption::Aes128Cbc];
        pair.upsert(Side::Left, config);
        pair.run_for(LONG);
        assert!(!pair.is_up(), "aggressive {aggressive}");
        assert!(pair.peer(Side::Right).children.is_empty());
    }
}

#[test]
fn in_version_1_no_identity_leads_to_a_connection_that_forbids_aggressive_mode() {
    let mut pair = Pair::new(1, Link::clean());
    for (number, name, allows) in [(1, "b.example", true), (2, "a.example", false)] {
        let mut config = roaming(number, name, "key");
        version_1(Side::Right, &mut config);
        config.options.aggressive_mode = allows;
        pair.upsert(Side::Right, config);
    }
    let mut config = left("a.example", "key");
    version_1(Side::Left, &mut config);
    config.options.aggressive_mode = true;
    pair.upsert(Side::Left, config);
    pair.run_for(LONG);
    assert!(pair.peer(Side::Right).children.is_empty());
}

/// The same with version 1, where the key is needed before the identity can be read.
#[test]
fn in_version_1_the_key_chooses_among_peers_without_an_address_and_then_the_identity() {
    let names = ["a.example", "b.example", "c.example", "d.example"];
    // Two of them share a key.
    let key = |name: &str| match name {
        "c.example" | "d.example" => "shared".to_owned(),
        other => format!("key of {other}"),
    };
    for aggressive in [false, true] {
        for mine in names {
            let mut pair = Pair::new(1, Link::clean());
            for (number, name) in names.iter().enumerate() {
                let number = if *name == mine { 2 } else { number as u128 * 3 };
                let mut config = roaming(number, name, &key(name));
                version_1(Side::Right, &mut config);
                config.options.aggressive_mode = aggressive;
                pair.upsert(Side::Right, config);
            }
            let mut config = left(mine, &key(mine));
            version_1(Side::Left, &mut config);
            config.options.aggressive_mode = aggressive;
            pair.upsert(Side::Left, config);
            assert!(
                pair.run_until(LONG, |pair: &Pair| pair.discord().is_none()),
                "aggressive {aggressive}, {mine}: {:?}",
                pair.discord()
            );
        }
    }
}

#[test]
fn in_version_1_nobody_comes_in_with_a_key_of_another_connection() {
    for aggressive in [false, true] {
        let mut pair = Pair::new(1, Link::clean());
        for (number, name) in [(2, "a.example"), (5, "b.example")] {
            let mut config = roaming(number, name, &format!("key of {name}"));
            version_1(Side::Right, &mut config);
            config.options.aggressive_mode = aggressive;
            pair.upsert(Side::Right, config);
        }
        let mut config = left("a.example", "key of b.example");
        version_1(Side::Left, &mut config);
        config.options.aggressive_mode = aggressive;
        pair.upsert(Side::Left, config);
        pair.run_for(LONG);
        assert!(!pair.is_up());
        assert!(pair.peer(Side::Right).children.is_empty());
    }
}

#[test]
fn an_agreed_policy_that_is_not_that_of_the_identity_is_refused() {
    let mut pair = Pair::new(1, Link::clean());
    let mut strict = roaming(2, "a.example", "key");
    strict.ike_proposals[0].encryption = vec![Encryption::Aes256Gcm16];
    pair.upsert(Side::Right, strict);
    pair.upsert(Side::Right, roaming(3, "b.example", "other key"));
    // It offers what only the other connection accepts.
    pair.upsert(Side::Left, left("a.example", "key"));
    pair.run_for(LONG);
    assert!(pair.peer(Side::Right).children.is_empty());
    assert_eq!(reason(&pair, Side::Right), Some(DownReason::IkeProposalMismatch));
}

#[test]
fn policies_of_several_such_connections_are_told_apart_by_what_the_peer_offers() {
    let mut pair = Pair::new(1, Link::clean());
    let mut strict = roaming(2, "a.example", "key");
    strict.ike_proposals[0].encryption = vec![Encryption::Aes256Gcm16];
    pair.upsert(Side::Right, roaming(1, "b.example", "other key"));
    pair.upsert(Side::Right, strict);
    let mut mine = left("a.example", "key");
    mine.ike_proposals[0].encryption = vec![Encryption::Aes256Gcm16];
    pair.upsert(Side::Left, mine);
    assert!(
        pair.run_until(LONG, |pair: &Pair| pair.discord().is_none()),
        "{:?}",
        pair.discord()
    );
}
