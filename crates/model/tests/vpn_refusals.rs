//! Bad input about VPNs: the exact code for each, and nothing changed (`World::refusal` compares the states).

#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "tests may panic"
)]

mod support;

use std::net::{IpAddr, Ipv6Addr};

use isthmus_ops::OpErrorCode as Code;
use isthmus_ops::*;
use isthmus_types::*;

use support::scene::*;
use support::*;

#[test]
fn gateways_need_an_address_for_each_member() {
    let Scene {
        mut world, subnet, ..
    } = scene();
    for reserved_addresses in [0, 1] {
        let new = CreateVpnGateway {
            subnet,
            name: None,
            resource_group: None,
            reserved_addresses,
        };
        assert_eq!(
            world.refusal(Operation::CreateVpnGateway(new)),
            Code::InvalidField
        );
    }
    let first = world.gateway(subnet);
    let taken = first.common.name.as_str();
    assert_eq!(
        world.refusal(create_gateway(subnet, Some(taken))),
        Code::DuplicateName
    );
}

#[test]
fn shared_keys_are_checked_and_never_echoed() {
    let Scene {
        mut world, gateway, ..
    } = scene();
    let bad = [
        "",
        "12345",
        "0x123456",
        "0s123456",
        "white space",
        "semi;colon",
        "quote\"quote",
        "umlaut\u{e4}\u{e4}",
        "new\nline",
        "tab\ttab",
        "slash/slash",
    ];
    let long = "k".repeat(129);
    let connection = world
        .connection(new_connection(gateway, &["10.1.0.0/24"], &["10.2.0.0/24"]))
        .id;
    for text in bad.into_iter().chain([long.as_str()]) {
        let mut new = new_connection(gateway, &["10.1.0.0/24"], &["10.3.0.0/24"]);
        new.psk = Secret::new(text.to_owned());
        let mut update = no_update(gateway, connection);
        update.psk = Some(Secret::new(text.to_owned()));
        for operation in [
            Operation::CreateVpnConnection(new),
            Operation::UpdateVpnConnection(update),
        ] {
            let error = world.refused(operation);
            assert_eq!(
                (error.code, error.field.as_deref()),
                (Code::InvalidField, Some("psk")),
                "{text:?}"
            );
            assert_eq!(error.value, None);
            assert!(text.is_empty() || !format!("{error:?}").contains(text));
        }
    }
    let longest = "k".repeat(128);
    for (number, text) in ["123456", &longest, "0X123456", "0S-+&!@#$%^*(),.:_"]
        .into_iter()
        .enumerate()
    {
        let mut new = new_connection(
            gateway,
            &["10.1.0.0/24"],
            &[&format!("10.{}.0.0/16", 20 + number)],
        );
        new.psk = Secret::new(text.to_owned());
        assert_eq!(world.connection(new).psk.reveal(), text);
    }
}

#[test]
fn connections_are_checked() {
    let Scene {
        mut world,
        vpc,
        gateway,
        ..
    } = scene();
    world.run(create_prefix(vpc, "10.5.0.0/16", 2, false)).unwrap();
    let own = world.gateway_view(gateway).public_address;
    let mut first = new_connection(gateway, &["10.1.0.0/24"], &["10.2.0.0/16"]);
    first.name = Some(name("first"));
    world.connection(first);

    let with = |local: &[&str], peer: &[&str]| new_connection(gateway, local, peer);
    let change = |change: &dyn Fn(&mut CreateVpnConnection)| {
        let mut new = with(&["10.1.0.0/24"], &["10.3.0.0/16"]);
        change(&mut new);
        new
    };
    let dpd = |interval: u32, timeout: u32| {
        change(&move |new| {
            new.dead_peer_detection = DeadPeerDetection {
                action: DeadPeerAction::Hold,
                interval,
                timeout,
            };
        })
    };
    let peer = |peer: PeerAddress| change(&move |new| new.peer = peer.clone());
    let at = |text: &str| peer(PeerAddress::Address(text.parse().unwrap()));
    let fqdn = |text: &str| peer(PeerAddress::Fqdn(text.to_owned()));
    let table = [
        (with(&[], &["10.3.0.0/16"]), Code::MissingField, "local_cidrs"),
        (with(&["10.1.0.0/24"], &[]), Code::MissingField, "peer_cidrs"),
        (
            with(&["10.1.0.0/24", "10.1.0.0/24"], &["10.3.0.0/16"]),
            Code::CidrRepeated,
            "local_cidrs[1]",
        ),
        (
            with(&["10.1.0.0/24"], &["10.3.0.0/16", "10.3.0.0/16"]),
            Code::CidrRepeated,
            "peer_cidrs[1]",
        ),
        (
            with(&["2001:db8::/64"], &["10.3.0.0/16"]),
            Code::CidrNotValid,
            "local_cidrs[0]",
        ),
        (
            with(&["10.1.0.0/24"], &["10.3.0.0/16", "2001:db8::/64"]),
            Code::CidrNotValid,
            "peer_cidrs[1]",
        ),
        (
            with(&["10.1.0.0/24", "10.1.0.0/25"], &["10.3.0.0/16"]),
            Code::CidrOverlap,
            "local_cidrs[1]",
        ),
        (
            with(&["10.1.0.0/24"], &["10.1.0.0/24"]),
            Code::CidrOverlap,
            "local_cidrs[0]",
        ),
        (
            with(&["10.1.0.0/24"], &["10.0.0.0/8"]),
            Code::CidrOverlap,
            "local_cidrs[0]",
        ),
        (
            with(&["10.1.0.0/24"], &["10.3.0.0/16", "10.2.7.0/24"]),
            Code::CidrOverlap,
            "peer_cidrs[1]",
        ),
        (
            with(&["10.1.0.0/24"], &["0.0.0.0/0"]),
            Code::CidrOverlap,
            "peer_cidrs[0]",
        ),
        (
            change(&|new| new.name = Some(name("first"))),
            Code::DuplicateName,
            "name",
        ),
        (at("0.0.0.0"), Code::InvalidField, "peer"),
        (at("224.0.0.1"), Code::InvalidField, "peer"),
        (at("255.255.255.255"), Code::InvalidField, "peer"),
        (at("127.0.0.1"), Code::InvalidField, "peer"),
        (at(&own.to_string()), Code::InvalidField, "peer"),
        (
            peer(PeerAddress::Address(IpAddr::V6(Ipv6Addr::LOCALHOST))),
            Code::InvalidField,
            "peer",
        ),
        (fqdn(""), Code::InvalidField, "peer"),
        (fqdn("-a.example"), Code::InvalidField, "peer"),
        (fqdn("a..example"), Code::InvalidField, "peer"),
        (dpd(0, 10), Code::InvalidField, "dead_peer_detection.interval"),
        (
            dpd(86_400, 86_400),
            Code::InvalidField,
            "dead_peer_detection.interval",
        ),
        (dpd(1, 1), Code::InvalidField, "dead_peer_detection.timeout"),
        (dpd(2, 86_400), Code::InvalidField, "dead_peer_detection.timeout"),
        (dpd(11, 10), Code::InvalidField, "dead_peer_detection.interval"),
    ];
    for (new, code, field) in table {
        let text = format!("{new:?}");
        let error = world.refused(Operation::CreateVpnConnection(new));
        assert_eq!(
            (error.code, error.field.as_deref()),
            (code, Some(field)),
            "{text}"
        );
    }
}

#[test]
fn identities_that_fit_no_payload_are_refused() {
    let Scene {
        mut world, gateway, ..
    } = scene();
    let long = vec![7; 256];
    let bad = [
        Identity::KeyId(vec![]),
        Identity::KeyId(long),
        Identity::Fqdn("a b".to_owned()),
        Identity::Hostname(String::new()),
    ];
    for identity in bad {
        let mut local = new_connection(gateway, &["10.1.0.0/24"], &["10.3.0.0/16"]);
        let mut peer = local.clone();
        local.local_identity = Some(identity.clone());
        peer.peer_identity = Some(identity);
        for (new, field) in [(local, "local_identity"), (peer, "peer_identity")] {
            let error = world.refused(Operation::CreateVpnConnection(new));
            assert_eq!(
                (error.code, error.field.as_deref()),
                (Code::InvalidField, Some(field))
            );
        }
    }
}

#[test]
fn peer_ranges_are_unique_in_the_vpc_and_service_ranges_may_be_local() {
    let Scene {
        mut world,
        vpc,
        gateway,
        ..
    } = scene();
    world.run(create_prefix(vpc, "10.5.0.0/16", 2, false)).unwrap();
    let other_subnet = world.subnet(vpc, "10.5.0.0/24");
    let other_gateway = world.available_gateway(other_subnet);
    world.connection(new_connection(gateway, &["10.1.0.0/24"], &["10.2.0.0/16"]));
    // Peer ranges are the VPC's, not the gateway's.
    let elsewhere = new_connection(other_gateway, &["10.5.0.0/24"], &["10.2.255.0/24"]);
    assert_eq!(
        world.refusal(Operation::CreateVpnConnection(elsewhere)),
        Code::CidrOverlap
    );
    // What is allowed: the service ranges as local, a name as peer, the limits of dead-peer detection.
    world.connection(new_connection(
        gateway,
        &["166.8.0.0/14", "161.26.0.0/16"],
        &["10.3.0.0/16"],
    ));
    let mut named = new_connection(other_gateway, &["10.5.0.0/24"], &["10.4.0.0/16"]);
    named.peer = PeerAddress::Fqdn("vpn.example.com".to_owned());
    named.dead_peer_detection = DeadPeerDetection {
        action: DeadPeerAction::None,
        interval: 1,
        timeout: 86_399,
    };
    let view = world.connection(named);
    assert_eq!(view.peer_identity, Identity::Fqdn("vpn.example.com".to_owned()));
}

#[test]
fn all_of_ipv4_may_be_a_peer_range() {
    let Scene {
        mut world, gateway, ..
    } = scene();
    let view = world.connection(new_connection(gateway, &["10.1.0.0/24"], &["0.0.0.0/0"]));
    let add = |side, range: &str| Operation::AddConnectionCidr {
        gateway,
        connection: view.id,
        side,
        cidr: cidr(range),
    };
    world.run(add(Side::Local, "10.1.1.0/24")).unwrap();
    assert_eq!(world.refusal(add(Side::Peer, "10.1.1.128/25")), Code::CidrOverlap);
    assert_eq!(
        world.refusal(Operation::CreateVpnConnection(new_connection(
            gateway,
            &["10.1.0.0/24"],
            &["172.16.0.0/16"]
        ))),
        Code::CidrOverlap
    );
}

#[test]
fn ranges_of_a_connection_are_added_and_removed_one_by_one() {
    let Scene {
        mut world, gateway, ..
    } = scene();
    let connection = world.connection(new_connection(gateway, &["10.1.0.0/24"], &["10.2.0.0/24"]));
    let other = world.connection(new_connection(gateway, &["10.1.0.0/24"], &["10.7.0.0/16"]));
    let id = connection.id;
    let add = |side, range: &str| Operation::AddConnectionCidr {
        gateway,
        connection: id,
        side,
        cidr: cidr(range),
    };
    let remove = |side, range: &str| Operation::RemoveConnectionCidr {
        gateway,
        connection: id,
        side,
        cidr: cidr(range),
    };
    let added = |addition| Ok(Outcome::CidrAdded(addition));
    assert_eq!(world.run(add(Side::Peer, "10.2.1.0/24")), added(Addition::Added));
    assert_eq!(
        world.run(add(Side::Peer, "10.2.1.0/24")),
        added(Addition::AlreadyThere)
    );
    assert_eq!(
        world.run(add(Side::Local, "10.1.0.0/24")),
        added(Addition::AlreadyThere)
    );
    let table = [
        (add(Side::Local, "10.1.0.128/25"), Code::CidrOverlap),
        (add(Side::Local, "10.2.1.0/25"), Code::CidrOverlap),
        (add(Side::Peer, "10.1.0.0/25"), Code::CidrOverlap),
        (add(Side::Peer, "10.7.3.0/24"), Code::CidrOverlap),
        (add(Side::Peer, "2001:db8::/64"), Code::CidrNotValid),
        (remove(Side::Peer, "10.2.1.0/25"), Code::CidrNotFound),
        (remove(Side::Local, "10.2.1.0/24"), Code::CidrNotFound),
        (remove(Side::Local, "10.1.0.0/24"), Code::LastCidr),
    ];
    for (operation, code) in table {
        assert_eq!(world.refusal(operation.clone()), code, "{operation:?}");
    }
    assert_eq!(world.run(remove(Side::Peer, "10.2.0.0/24")), Ok(Outcome::Done));
    let ask = |side, range: &str| Query::ConnectionCidr {
        gateway,
        connection: id,
        side,
        cidr: cidr(range),
    };
    assert_eq!(world.ask(ask(Side::Peer, "10.2.1.0/24")), Ok(Outcome::Done));
    assert_eq!(
        world.ask(ask(Side::Peer, "10.2.0.0/24")).unwrap_err().code,
        Code::CidrNotFound
    );
    let view = world.connection_view(gateway, id);
    assert_eq!(view.peer_cidrs, [cidr("10.2.1.0/24")]);
    assert_eq!(view.common.version, 3);
    assert_eq!(world.connection_view(gateway, other.id).common.version, 1);
}

#[test]
fn updates_of_connections_are_checked() {
    let Scene {
        mut world, gateway, ..
    } = scene();
    let connection = world.connection(new_connection(gateway, &["10.1.0.0/24"], &["10.2.0.0/24"]));
    let other = world.connection(new_connection(gateway, &["10.1.0.0/24"], &["10.3.0.0/24"]));
    let change = |change: &dyn Fn(&mut UpdateVpnConnection)| {
        let mut update = no_update(gateway, connection.id);
        change(&mut update);
        Operation::UpdateVpnConnection(update)
    };
    let taken = other.common.name.clone();
    let dpd = |interval, timeout| DeadPeerDetectionPatch {
        action: None,
        interval,
        timeout,
    };
    let table = [
        (
            change(&|update| update.if_match = Some(vec![2])),
            Code::PreconditionFailed,
        ),
        (
            change(&|update| update.name = Some(taken.clone())),
            Code::DuplicateName,
        ),
        (
            change(&|update| update.peer = Some(PeerAddress::Fqdn("a.example".to_owned()))),
            Code::InvalidField,
        ),
        (
            change(&|update| update.dead_peer_detection = Some(dpd(Some(11), None))),
            Code::InvalidField,
        ),
        (
            change(&|update| update.dead_peer_detection = Some(dpd(None, Some(1)))),
            Code::InvalidField,
        ),
        (
            change(&|update| update.ike_policy = Some(Some(IkePolicyId(bits(5))))),
            Code::ReferenceNotFound,
        ),
    ];
    for (operation, code) in table {
        assert_eq!(world.refusal(operation.clone()), code, "{operation:?}");
    }
    // An empty change is no change.
    let before = world.state.clone();
    world
        .run(change(&|update| update.if_match = Some(vec![1])))
        .unwrap();
    world
        .run(change(&|update| update.psk = Some(connection.psk.clone())))
        .unwrap();
    assert_eq!(world.state, before);
    world
        .run(change(&|update| {
            update.psk = Some(Secret::new("another-key".to_owned()));
            update.peer = Some(PeerAddress::Address("198.51.100.9".parse().unwrap()));
            update.admin_state_up = Some(false);
        }))
        .unwrap();
    let view = world.connection_view(gateway, connection.id);
    assert_eq!(view.psk.reveal(), "another-key");
    assert_eq!(view.peer_identity, Identity::Address(ip("198.51.100.9").into()));
    assert_eq!(view.common.version, 2);
    invariants::check(&world.state);
}

#[test]
fn policies_are_checked() {
    let Scene { mut world, .. } = scene();
    let ike = |change: &dyn Fn(&mut CreateIkePolicy)| {
        let mut new = ike_policy(IkeVersion::V2);
        change(&mut new);
        Operation::CreateIkePolicy(new)
    };
    let ipsec = |change: &dyn Fn(&mut CreateIpsecPolicy)| {
        let mut new = ipsec_policy();
        change(&mut new);
        Operation::CreateIpsecPolicy(new)
    };
    use Encryption::{Aes128Cbc, Aes128Gcm16, Aes256Cbc, Aes256Gcm16};
    use Integrity::{HmacSha1_96, HmacSha2_256_128};
    let table = [
        (ike(&|new| new.encryption.clear()), Code::MissingField),
        (ike(&|new| new.integrity.clear()), Code::MissingField),
        (ike(&|new| new.dh.clear()), Code::MissingField),
        (
            ike(&|new| new.encryption = vec![Aes128Cbc, Aes128Cbc]),
            Code::InvalidField,
        ),
        (
            ike(&|new| new.integrity = vec![HmacSha1_96, HmacSha1_96]),
            Code::InvalidField,
        ),
        (
            ike(&|new| new.dh = vec![PolicyGroup(14), PolicyGroup(14)]),
            Code::InvalidField,
        ),
        (ike(&|new| new.dh = vec![PolicyGroup(1)]), Code::InvalidField),
        (ike(&|new| new.dh = vec![PolicyGroup(25)]), Code::InvalidField),
        (ike(&|new| new.key_lifetime = 1_799), Code::InvalidField),
        (ike(&|new| new.key_lifetime = 86_401), Code::InvalidField),
        (
            ike(&|new| {
                new.version = IkeVersion::V1;
                new.encryption = vec![Aes128Cbc, Aes256Cbc];
            }),
            Code::InvalidField,
        ),
        (
            ike(&|new| {
                new.version = IkeVersion::V1;
                new.encryption = vec![Aes128Gcm16];
            }),
            Code::InvalidField,
        ),
        (ipsec(&|new| new.encryption.clear()), Code::MissingField),
        (ipsec(&|new| new.integrity.clear()), Code::MissingField),
        (
            ipsec(&|new| new.encryption = vec![Aes128Gcm16, Aes256Gcm16]),
            Code::InvalidField,
        ),
        (
            ipsec(&|new| {
                new.encryption = vec![Aes128Gcm16, Aes128Cbc];
                new.integrity.clear();
            }),
            Code::MissingField,
        ),
        (ipsec(&|new| new.pfs = vec![PolicyGroup(3)]), Code::InvalidField),
        (ipsec(&|new| new.key_lifetime = 0), Code::InvalidField),
    ];
    for (operation, code) in table {
        assert_eq!(world.refusal(operation.clone()), code, "{operation:?}");
    }
    let good = [
        ike(&|new| new.dh = [2, 5, 14, 15, 20, 24, 31].map(PolicyGroup).to_vec()),
        ike(&|new| new.key_lifetime = 1_800),
        ipsec(&|new| {
            new.encryption = vec![Aes128Gcm16, Aes256Gcm16];
            new.integrity.clear();
        }),
        ipsec(&|new| {
            new.encryption = vec![Aes128Gcm16, Aes128Cbc];
            new.integrity = vec![HmacSha2_256_128];
            new.key_lifetime = 86_400;
        }),
    ];
    for operation in good {
        world.run(operation).unwrap();
    }
    let mut named = ike_policy(IkeVersion::V2);
    named.name = Some(name("mine"));
    world.run(Operation::CreateIkePolicy(named.clone())).unwrap();
    assert_eq!(
        world.refusal(Operation::CreateIkePolicy(named)),
        Code::DuplicateName
    );
    // The same name for the other kind of policy is another name.
    world.run(ipsec(&|new| new.name = Some(name("mine")))).unwrap();
}

#[test]
fn ikev1_takes_single_values_only() {
    let Scene {
        mut world, gateway, ..
    } = scene();
    let old = world.ike_policy(IkeVersion::V1);
    let new = world.ike_policy(IkeVersion::V2);
    let single = world.ipsec_policy(ipsec_policy());
    let mut several = ipsec_policy();
    several.encryption.push(Encryption::Aes256Cbc);
    let several = world.ipsec_policy(several);
    let with = |ike, ipsec| {
        let mut connection = new_connection(gateway, &["10.1.0.0/24"], &["10.2.0.0/24"]);
        connection.ike_policy = ike;
        connection.ipsec_policy = ipsec;
        connection
    };
    assert_eq!(
        world.refusal(Operation::CreateVpnConnection(with(Some(old), None))),
        Code::MissingField
    );
    assert_eq!(
        world.refusal(Operation::CreateVpnConnection(with(Some(old), Some(several)))),
        Code::InvalidField
    );
    let connection = world.connection(with(Some(old), Some(single))).id;
    // Neither policy can be made to contradict the other while they are used together.
    let widen = Operation::UpdateIpsecPolicy(UpdateIpsecPolicy {
        policy: single,
        name: None,
        encryption: None,
        integrity: None,
        pfs: Some(vec![PolicyGroup(14), PolicyGroup(19)]),
        key_lifetime: None,
    });
    let error = world.refused(widen.clone());
    assert_eq!(
        (error.code, error.field.as_deref()),
        (Code::InvalidField, Some("pfs"))
    );
    let mut update = no_update(gateway, connection);
    update.ipsec_policy = Some(None);
    assert_eq!(
        world.refusal(Operation::UpdateVpnConnection(update.clone())),
        Code::MissingField
    );
    update.ike_policy = Some(Some(new));
    world.run(Operation::UpdateVpnConnection(update)).unwrap();
    world.run(widen).unwrap();
    let downgrade = Operation::UpdateIkePolicy(UpdateIkePolicy {
        policy: new,
        name: None,
        version: Some(IkeVersion::V1),
        encryption: None,
        integrity: None,
        dh: None,
        key_lifetime: None,
    });
    let error = world.refused(downgrade);
    assert_eq!(
        (error.code, error.field.as_deref()),
        (Code::InvalidField, Some("version"))
    );
}
