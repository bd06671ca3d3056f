//! IPv6 addresses of gateways outside: who gets which, for how long, and which peers they may have.

#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "tests may panic"
)]

mod support;

use std::net::Ipv6Addr;

use isthmus_model::{Record, RecordKey, RecordKind, Settings};
use isthmus_ops::*;
use isthmus_types::*;

use support::*;

struct Lab {
    world: World,
    subnet: SubnetId,
}

impl Lab {
    fn new(settings: Settings) -> Self {
        let mut world = World::new(settings);
        let vpc = world.vpc_with_prefix("blue", "10.1.0.0/16");
        let subnet = world.subnet(vpc, "10.1.0.0/24");
        Self { world, subnet }
    }

    fn switch(&mut self, gateway: VpnGatewayId, ipv6: bool) -> Result<Option<Ipv6Addr>, OpError> {
        let operation = Operation::UpdateGatewayOptions(UpdateGatewayOptions {
            gateway,
            key_log: None,
            ipv6: Some(ipv6),
            if_match: None,
        });
        let outcome = self.world.run(operation)?;
        invariants::check(&self.world.state);
        match outcome {
            Outcome::GatewayOptions(view) => {
                assert_eq!(view.ipv6, ipv6);
                Ok(view.ipv6_address)
            }
            other => panic!("{other:?}"),
        }
    }

    fn connect(&mut self, gateway: VpnGatewayId, peer: &str) -> Result<VpnConnectionView, OpError> {
        let mut new = new_connection(gateway, &["10.1.0.0/24"], &["10.2.0.0/24"]);
        new.peer = PeerAddress::Address(peer.parse().unwrap());
        match self.world.run(Operation::CreateVpnConnection(new))? {
            Outcome::VpnConnection(view) => Ok(view),
            other => panic!("{other:?}"),
        }
    }
}

fn at(last: u16) -> Option<Ipv6Addr> {
    Some(Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, last))
}

#[test]
fn a_gateway_keeps_its_ipv6_address_until_it_is_gone() {
    let mut lab = Lab::new(Settings::default());
    let [one, two] = [0, 1].map(|_| lab.world.available_gateway(lab.subnet));
    assert_eq!(lab.switch(one, false), Ok(None));
    assert_eq!(lab.switch(one, true), Ok(at(2)));
    assert_eq!(lab.switch(two, true), Ok(at(3)));
    assert_eq!(lab.switch(one, true), Ok(at(2)));
    // Nobody else gets an address that a host may still have.
    assert_eq!(lab.switch(one, false), Ok(at(2)));
    let three = lab.world.available_gateway(lab.subnet);
    assert_eq!(lab.switch(three, true), Ok(at(4)));
    assert_eq!(lab.switch(one, true), Ok(at(2)));
    let outside = |lab: &Lab, id| lab.world.state.vpn_gateway(id).unwrap().ipv6_outside();
    assert_eq!(outside(&lab, one), at(2));
    lab.switch(one, false).unwrap();
    assert_eq!(outside(&lab, one), None);
}

#[test]
fn a_gateway_of_an_earlier_release_has_no_ipv6_and_is_written_as_it_was() {
    let mut lab = Lab::new(Settings::default());
    let id = lab.world.available_gateway(lab.subnet);
    let Some(record) = lab.world.state.record(RecordKey::VpnGateway(id)) else {
        panic!("the gateway is there")
    };
    let mut written = Vec::new();
    record
        .serialize_body(&mut serde_json::Serializer::new(&mut written))
        .unwrap();
    assert!(!String::from_utf8(written.clone()).unwrap().contains("ipv6"));
    let read = Record::deserialize_body(
        RecordKind::VpnGateway,
        &mut serde_json::Deserializer::from_slice(&written),
    )
    .unwrap();
    assert_eq!(read, record);
    // Nor did the settings of such a release name a pool.
    let settings: Settings = serde_json::from_str(r#"{"uplink_router":"203.0.113.1"}"#).unwrap();
    assert_eq!(settings, Settings::default());
}

#[test]
fn an_empty_pool_gives_an_error_and_changes_nothing() {
    let settings = Settings {
        public_pool_ipv6: cidr("2001:db8:113::/126"),
        ..Settings::default()
    };
    let mut lab = Lab::new(settings);
    let gateways = [0, 1, 2].map(|_| lab.world.available_gateway(lab.subnet));
    assert_eq!(lab.switch(gateways[0], true), Ok(at(2)));
    assert_eq!(lab.switch(gateways[1], true), Ok(at(3)));
    let before = lab.world.state.clone();
    let error = lab.switch(gateways[2], true).unwrap_err();
    assert_eq!(
        (error.code, error.message.as_str()),
        (OpErrorCode::AddressesExhausted, "no public IPv6 address is left")
    );
    assert_eq!(lab.world.state, before);
}

#[test]
fn a_peer_at_an_ipv6_address_needs_a_gateway_that_has_one_and_an_address_that_peers_can_have() {
    let mut lab = Lab::new(Settings::default());
    let gateway = lab.world.available_gateway(lab.subnet);
    let refused = |lab: &mut Lab, peer: &str| {
        let before = lab.world.state.clone();
        let error = lab.connect(gateway, peer).unwrap_err();
        assert_eq!(lab.world.state, before);
        assert_eq!(
            (error.code, error.field.as_deref()),
            (OpErrorCode::InvalidField, Some("peer")),
            "{peer}"
        );
        error.message
    };
    let message = refused(&mut lab, "2001:db8::9");
    assert!(
        message.contains("no IPv6 address outside") && message.contains("ipv6"),
        "{message}"
    );
    let own = lab.switch(gateway, true).unwrap().unwrap();
    for peer in ["::", "::1", "fe80::1", "ff0e::1", "::ffff:198.51.100.7"] {
        refused(&mut lab, peer);
    }
    assert!(refused(&mut lab, &own.to_string()).contains("own address"));

    let view = lab.connect(gateway, "2001:db8::9").unwrap();
    assert_eq!(view.local_identity, Identity::Address(own.into()));
    assert_eq!(
        view.peer_identity,
        Identity::Address("2001:db8::9".parse().unwrap())
    );
    let error = lab.switch(gateway, false).unwrap_err();
    assert_eq!(
        (error.code, error.field.as_deref()),
        (OpErrorCode::InvalidState, Some("ipv6"))
    );
    assert!(
        error.message.contains(view.common.name.as_str()),
        "{}",
        error.message
    );

    // The peer's IP version may change, and with it the identities that stand for addresses.
    let to = |peer: &str| {
        Operation::UpdateVpnConnection(UpdateVpnConnection {
            peer: Some(PeerAddress::Address(peer.parse().unwrap())),
            ..no_update(gateway, view.id)
        })
    };
    lab.world.run(to("198.51.100.9")).unwrap();
    let now = lab.world.connection_view(gateway, view.id);
    assert_eq!(now.local_identity, Identity::Address(now.gateway_address.into()));
    lab.switch(gateway, false).unwrap();
    let error = lab.world.run(to("2001:db8::9")).unwrap_err();
    assert_eq!(error.code, OpErrorCode::InvalidField);
}
