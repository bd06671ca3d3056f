use isthmus_ike::{ConnectionConfig, DownReason, IkeIdentity, PeerEndpoint};
use isthmus_simnet::{Link, Nat, Pair, Side};
use isthmus_types::{Encryption, ResourceBits, Secret, VpnConnectionId};

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
    assert_eq!(reason(&pair, Side::Right), Some(DownReason::Negotiating));
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
