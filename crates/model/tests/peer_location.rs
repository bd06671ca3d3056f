//! Peers without a fixed address: what tells them apart, and every change that would take that away.

#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "tests may panic"
)]

mod support;

use isthmus_model::Settings;
use isthmus_ops::*;
use isthmus_types::*;

use support::*;

struct Lab {
    world: World,
    gateway: VpnGatewayId,
}

impl Lab {
    fn new() -> Self {
        let mut world = World::new(Settings::default());
        let vpc = world.vpc_with_prefix("blue", "10.1.0.0/16");
        let subnet = world.subnet(vpc, "10.1.0.0/24");
        let gateway = world.gateway(subnet).id;
        Self { world, gateway }
    }

    fn connection(&mut self, number: u8, change: impl FnOnce(&mut CreateVpnConnection)) -> VpnConnectionId {
        let mut new = new_connection(self.gateway, &["10.1.0.0/24"], &[&format!("10.2.{number}.0/24")]);
        change(&mut new);
        self.world.connection(new).id
    }

    fn change(
        &mut self,
        connection: VpnConnectionId,
        change: ConnectionOptionsChange,
    ) -> Result<ConnectionOptionsView, OpError> {
        let operation = Operation::UpdateConnectionOptions(UpdateConnectionOptions {
            gateway: self.gateway,
            connection,
            change,
            if_match: None,
        });
        match self.world.run(operation)? {
            Outcome::ConnectionOptions(view) => Ok(view),
            other => panic!("{other:?}"),
        }
    }

    /// The code, the field and the sentence. Nothing may change.
    fn refused(
        &mut self,
        operate: impl FnOnce(&mut Self) -> Result<(), OpError>,
    ) -> (OpErrorCode, String, String) {
        let before = self.world.state.clone();
        let error = operate(self).unwrap_err();
        assert_eq!(self.world.state, before);
        (error.code, error.field.unwrap(), error.message)
    }

    fn update(
        &mut self,
        connection: VpnConnectionId,
        change: impl FnOnce(&mut UpdateVpnConnection),
    ) -> Result<(), OpError> {
        let mut update = no_update(self.gateway, connection);
        change(&mut update);
        self.world.run(Operation::UpdateVpnConnection(update)).map(drop)
    }

    fn state(&self, connection: VpnConnectionId) -> ConnectionState {
        self.world.connection_view(self.gateway, connection).state
    }
}

fn anywhere(peer_id: Option<TunnelIdentity>) -> ConnectionOptionsChange {
    ConnectionOptionsChange {
        peer_id: peer_id.map(Some),
        peer_location: Some(PeerLocation::Anywhere),
        ..ConnectionOptionsChange::default()
    }
}

fn fqdn(name: &str) -> TunnelIdentity {
    TunnelIdentity::Fqdn(name.to_owned())
}

#[test]
fn a_peer_that_may_be_anywhere_needs_an_identity_that_is_somebodys() {
    let mut lab = Lab::new();
    let at_an_address = lab.connection(1, |_| ());
    let (code, field, sentence) = lab.refused(|lab| lab.change(at_an_address, anywhere(None)).map(drop));
    assert_eq!((code, field.as_str()), (OpErrorCode::MissingField, "peer_id"));
    assert!(sentence.contains("known by its identity alone"), "{sentence}");
    for wildcard in [
        "0.0.0.0",
        "::",
        "255.255.255.255",
        "224.0.0.1",
        "ff02::1",
        "127.0.0.1",
    ] {
        let identity = TunnelIdentity::Address(wildcard.parse().unwrap());
        let (code, field, sentence) =
            lab.refused(|lab| lab.change(at_an_address, anywhere(Some(identity))).map(drop));
        assert_eq!((code, field.as_str()), (OpErrorCode::InvalidField, "peer_id"));
        assert!(sentence.contains("the address of nobody"), "{sentence}");
    }
    // What no identity matches but itself is no wildcard; text that only looks like one is refused as it always was.
    for wildcard in ["*", "%any", "*.example.com"] {
        let (code, field, _) = lab.refused(|lab| {
            lab.change(at_an_address, anywhere(Some(fqdn(wildcard))))
                .map(drop)
        });
        assert_eq!((code, field.as_str()), (OpErrorCode::InvalidField, "peer_id"));
    }

    let set = lab
        .change(at_an_address, anywhere(Some(fqdn("a.example"))))
        .unwrap();
    assert_eq!(set.options.peer_location, PeerLocation::Anywhere);
    let ConnectionState::Down { reason, .. } = lab.state(at_an_address) else {
        panic!("nobody came yet")
    };
    assert_eq!(reason, ConnectionDownReason::AwaitingPeer);
    // Its identity cannot go as long as it may be anywhere; both can go together.
    let without_identity = ConnectionOptionsChange {
        peer_id: Some(None),
        ..ConnectionOptionsChange::default()
    };
    let (code, ..) = lab.refused(|lab| lab.change(at_an_address, without_identity.clone()).map(drop));
    assert_eq!(code, OpErrorCode::MissingField);
    let back = ConnectionOptionsChange {
        peer_location: Some(PeerLocation::Fixed),
        ..without_identity
    };
    assert_eq!(
        lab.change(at_an_address, back).unwrap().options,
        ConnectionOptions::default()
    );

    // A private address behind a translator is somebody's, and so are a name and an identity of the provider's API.
    let private = TunnelIdentity::Address("192.168.1.10".parse().unwrap());
    assert!(lab.change(at_an_address, anywhere(Some(private))).is_ok());
    let named = lab.connection(2, |new| new.peer = PeerAddress::Fqdn("b.example".to_owned()));
    assert!(lab.change(named, anywhere(None)).is_ok());
    let identified = lab.connection(3, |new| new.peer_identity = Some(Identity::KeyId(vec![1, 2])));
    assert!(lab.change(identified, anywhere(None)).is_ok());
}

#[test]
fn a_peer_that_alone_may_begin_is_waited_for_from_the_first() {
    let mut lab = Lab::new();
    let connection = lab.connection(1, |new| new.establish = Establish::PeerOnly);
    let ConnectionState::Down { reason, .. } = lab.state(connection) else {
        panic!("nobody came yet")
    };
    assert_eq!(reason, ConnectionDownReason::AwaitingPeer);
}

/// The host's last word is older than the wish.
#[test]
fn a_peer_is_waited_for_as_soon_as_its_connection_is_switched_on() {
    let mut lab = Lab::new();
    let connection = lab.connection(1, |new| new.admin_state_up = false);
    lab.change(connection, anywhere(Some(fqdn("a.example")))).unwrap();
    let off = ConnectionStatus {
        state: ConnectionState::Down {
            reason: ConnectionDownReason::AdminDown,
            detail: "the connection is switched off".to_owned(),
        },
        since: Timestamp(5),
        reset_count: 0,
        ike_suite: String::new(),
        esp_suite: String::new(),
    };
    lab.world
        .run_as_system(Operation::RecordStatus(vec![StatusUpdate::VpnConnection {
            connection,
            status: off,
        }]));
    lab.update(connection, |update| update.admin_state_up = Some(true))
        .unwrap();
    let ConnectionState::Down { reason, .. } = lab.state(connection) else {
        panic!("nobody came yet")
    };
    assert_eq!(reason, ConnectionDownReason::AwaitingPeer);
}

#[test]
fn two_such_peers_of_a_gateway_are_never_known_by_the_same_identity() {
    let mut lab = Lab::new();
    let first = lab.connection(1, |_| ());
    let second = lab.connection(2, |_| ());
    let dn = |text: &str| TunnelIdentity::DistinguishedName(text.to_owned());
    for (one, same, other) in [
        (
            fqdn("a.example"),
            fqdn("a.example"),
            TunnelIdentity::Email("a@example".to_owned()),
        ),
        (dn("CN=a,O=Example"), dn("CN=a, O=Example"), dn("CN=b,O=Example")),
        (
            TunnelIdentity::KeyId("k".to_owned()),
            TunnelIdentity::KeyId("k".to_owned()),
            fqdn("k"),
        ),
    ] {
        lab.change(first, anywhere(Some(one))).unwrap();
        let (code, field, sentence) = lab.refused(|lab| lab.change(second, anywhere(Some(same))).map(drop));
        assert_eq!((code, field.as_str()), (OpErrorCode::InvalidState, "peer_id"));
        assert!(
            sentence.contains("only their identities tell such peers"),
            "{sentence}"
        );
        assert!(lab.change(second, anywhere(Some(other))).is_ok());
    }
    // At a fixed address the same identity is no trouble.
    lab.change(first, anywhere(Some(fqdn("a.example")))).unwrap();
    let at_its_address = ConnectionOptionsChange {
        peer_id: Some(Some(fqdn("a.example"))),
        peer_location: Some(PeerLocation::Fixed),
        ..ConnectionOptionsChange::default()
    };
    assert!(lab.change(second, at_its_address).is_ok());
    let (code, ..) = lab.refused(|lab| lab.change(second, anywhere(None)).map(drop));
    assert_eq!(code, OpErrorCode::InvalidState);
    // What is being deleted is no one's any more.
    let delete = Operation::DeleteVpnConnection {
        gateway: lab.gateway,
        connection: first,
        if_match: None,
    };
    lab.world.run(delete).unwrap();
    assert!(lab.change(second, anywhere(None)).is_ok());
    invariants::check(&lab.world.state);
}

#[test]
fn the_providers_api_cannot_make_such_peers_equal_either() {
    let mut lab = Lab::new();
    let first = lab.connection(1, |new| new.peer = PeerAddress::Fqdn("a.example".to_owned()));
    let second = lab.connection(2, |new| new.peer = PeerAddress::Fqdn("b.example".to_owned()));
    lab.change(first, anywhere(None)).unwrap();
    lab.change(second, anywhere(None)).unwrap();

    let rename = |update: &mut UpdateVpnConnection| {
        update.peer = Some(PeerAddress::Fqdn("a.example".to_owned()));
    };
    let (code, field, _) = lab.refused(|lab| lab.update(second, rename));
    assert_eq!((code, field.as_str()), (OpErrorCode::InvalidState, "peer"));
    let identify =
        |identity: Identity| move |update: &mut UpdateVpnConnection| update.peer_identity = Some(identity);
    let same = Identity::Hostname("a.example".to_owned());
    let (code, field, _) = lab.refused(|lab| lab.update(second, identify(same)));
    assert_eq!(
        (code, field.as_str()),
        (OpErrorCode::InvalidState, "peer_identity")
    );
    let nobody = Identity::Address("0.0.0.0".parse().unwrap());
    let (code, field, _) = lab.refused(|lab| lab.update(second, identify(nobody)));
    assert_eq!(
        (code, field.as_str()),
        (OpErrorCode::InvalidField, "peer_identity")
    );

    assert!(
        lab.update(second, identify(Identity::Fqdn("c.example".to_owned())))
            .is_ok()
    );
    // The option comes before what the provider's API says, so that may be anything.
    let own = ConnectionOptionsChange {
        peer_id: Some(Some(fqdn("d.example"))),
        ..ConnectionOptionsChange::default()
    };
    lab.change(second, own).unwrap();
    assert!(lab.update(second, rename).is_ok());
}
