//! Options of connections and gateways: defaults, changes, and every refusal.

#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "tests may panic"
)]

mod support;

use isthmus_model::{Record, RecordKey, RecordKind, Settings};
use isthmus_ops::*;
use isthmus_simnet::pki::rcgen::{SanType, date_time_ymd};
use isthmus_simnet::pki::{Authority, KeyChoice, gateway, options, subject};
use isthmus_types::*;

use support::*;

const KEY: KeyChoice = KeyChoice::P256;

struct Lab {
    world: World,
    gateway: VpnGatewayId,
    connection: VpnConnectionId,
    address: std::net::IpAddr,
    authority: Authority,
}

impl Lab {
    fn new() -> Self {
        let mut world = World::new(Settings::default());
        world.now = isthmus_simnet::pki::DATE.0;
        let vpc = world.vpc_with_prefix("blue", "10.1.0.0/16");
        let subnet = world.subnet(vpc, "10.1.0.0/24");
        let gateway = world.gateway(subnet);
        let connection = world.connection(new_connection(gateway.id, &["10.1.0.0/24"], &["10.2.0.0/24"]));
        Self {
            world,
            gateway: gateway.id,
            connection: connection.id,
            address: gateway.public_address.into(),
            authority: Authority::root("Root", KEY),
        }
    }

    fn operation(&self, change: ConnectionOptionsChange) -> Operation {
        Operation::UpdateConnectionOptions(UpdateConnectionOptions {
            gateway: self.gateway,
            connection: self.connection,
            change,
            if_match: None,
        })
    }

    fn change(&mut self, change: ConnectionOptionsChange) -> Result<ConnectionOptionsView, OpError> {
        match self.world.run(self.operation(change))? {
            Outcome::ConnectionOptions(view) => Ok(view),
            other => panic!("{other:?}"),
        }
    }

    /// The field that the change is refused for, and the sentence. Nothing may change.
    fn refused(&mut self, change: ConnectionOptionsChange) -> (String, String) {
        let before = self.world.state.clone();
        let error = self.change(change).unwrap_err();
        assert_eq!(self.world.state, before);
        assert!(matches!(
            error.code,
            OpErrorCode::InvalidField | OpErrorCode::MissingField
        ));
        (error.field.unwrap(), error.message)
    }

    fn read(&self) -> ConnectionOptionsView {
        let query = Query::ConnectionOptions {
            gateway: self.gateway,
            connection: self.connection,
        };
        match self.world.ask(query).unwrap() {
            Outcome::ConnectionOptions(view) => view,
            other => panic!("{other:?}"),
        }
    }

    fn certificate(&self) -> CertificateOptions {
        let own = self.authority.issue(&gateway("blue", self.address), KEY);
        options(&own, &[], &self.authority)
    }
}

fn whole(certificate: &CertificateOptions) -> CertificateChange {
    CertificateChange {
        chain: Some(certificate.chain.clone()),
        private_key: Some(certificate.private_key.clone()),
        authorities: Some(certificate.authorities.clone()),
        revocation_lists: Some(certificate.revocation_lists.clone()),
        require_revocation_list: Some(certificate.require_revocation_list),
    }
}

fn with(certificate: CertificateChange) -> ConnectionOptionsChange {
    ConnectionOptionsChange {
        certificate: Some(Some(certificate)),
        ..ConnectionOptionsChange::default()
    }
}

#[test]
fn options_have_defaults_until_they_are_set_and_a_version_of_their_own() {
    let mut lab = Lab::new();
    let first = lab.read();
    assert_eq!((first.options, first.version), (ConnectionOptions::default(), 1));
    let connection_before = lab.world.connection_view(lab.gateway, lab.connection);
    let childless = ConnectionOptionsChange {
        childless: Some(true),
        replay_window: Some(4096),
        ml_kem: Some(MlKem::On),
        ..ConnectionOptionsChange::default()
    };
    let second = lab.change(childless.clone()).unwrap();
    assert_eq!(second.version, 2);
    assert!(second.options.tunnel.childless && second.options.ml_kem == MlKem::On);
    assert_eq!(lab.read(), second);
    // The same again changes nothing; what is missing stays.
    let revision = lab.world.state.revision();
    assert_eq!(lab.change(childless).unwrap(), second);
    assert_eq!(lab.world.state.revision(), revision);
    let third = lab
        .change(ConnectionOptionsChange {
            esp_lifetime_bytes: Some(Some(1 << 30)),
            ..ConnectionOptionsChange::default()
        })
        .unwrap();
    assert_eq!(third.version, 3);
    assert!(third.options.tunnel.childless);
    // What the provider's API shows is untouched.
    assert_eq!(
        lab.world.connection_view(lab.gateway, lab.connection),
        connection_before
    );
}

#[test]
fn a_stale_version_changes_nothing() {
    let mut lab = Lab::new();
    let mut operation = |accepted: &[u64]| {
        let change = ConnectionOptionsChange {
            verify_pfs: Some(true),
            ..ConnectionOptionsChange::default()
        };
        let Operation::UpdateConnectionOptions(mut update) = lab.operation(change) else {
            unreachable!()
        };
        update.if_match = Some(accepted.to_vec());
        lab.world.run(Operation::UpdateConnectionOptions(update))
    };
    assert_eq!(operation(&[2]).unwrap_err().code, OpErrorCode::PreconditionFailed);
    assert!(operation(&[1]).is_ok());
    assert_eq!(operation(&[1]).unwrap_err().code, OpErrorCode::PreconditionFailed);
    assert!(operation(&[7, 2]).is_ok());
}

#[test]
fn values_out_of_range_are_refused_by_name() {
    let mut lab = Lab::new();
    let none = ConnectionOptionsChange::default;
    for (change, field) in [
        (
            ConnectionOptionsChange {
                replay_window: Some(63),
                ..none()
            },
            "replay_window",
        ),
        (
            ConnectionOptionsChange {
                replay_window: Some(4097),
                ..none()
            },
            "replay_window",
        ),
        (
            ConnectionOptionsChange {
                parallel_child_sas: Some(0),
                ..none()
            },
            "parallel_child_sas",
        ),
        (
            ConnectionOptionsChange {
                parallel_child_sas: Some(17),
                ..none()
            },
            "parallel_child_sas",
        ),
        (
            ConnectionOptionsChange {
                fragment_size: Some(575),
                ..none()
            },
            "fragment_size",
        ),
        (
            ConnectionOptionsChange {
                esp_lifetime_bytes: Some(Some(1)),
                ..none()
            },
            "esp_lifetime_bytes",
        ),
        (
            ConnectionOptionsChange {
                esp_lifetime_packets: Some(Some(0)),
                ..none()
            },
            "esp_lifetime_packets",
        ),
    ] {
        assert_eq!(lab.refused(change).0, field);
    }
    for (identity, good) in [
        (TunnelIdentity::Fqdn("a b".to_owned()), false),
        (TunnelIdentity::Email("a.example".to_owned()), false),
        (TunnelIdentity::DistinguishedName("gateway".to_owned()), false),
        (TunnelIdentity::KeyId(String::new()), false),
        (TunnelIdentity::DistinguishedName("CN=a,O=b".to_owned()), true),
        (TunnelIdentity::Email("a@b.example".to_owned()), true),
    ] {
        let change = ConnectionOptionsChange {
            peer_id: Some(Some(identity)),
            ..none()
        };
        if good {
            assert!(lab.change(change).is_ok());
        } else {
            assert_eq!(lab.refused(change).0, "peer_id");
        }
    }
}

#[test]
fn a_certificate_is_taken_changed_in_part_and_forgotten() {
    let mut lab = Lab::new();
    let certificate = lab.certificate();
    let set = lab.change(with(whole(&certificate))).unwrap();
    assert_eq!(set.options.tunnel.certificate, Some(certificate.clone()));
    let holder = set.holder.unwrap();
    assert!(holder.subject.contains("CN=blue") && holder.names.contains(&lab.address.to_string()));
    assert_eq!(holder.expires_at.to_string(), "2040-01-01T00:00:00.000Z");

    let lists = lab.authority.revocation_list(&[1], (2039, 1, 1));
    let partly = CertificateChange {
        revocation_lists: Some(lists.clone()),
        require_revocation_list: Some(true),
        ..CertificateChange::default()
    };
    let found = lab
        .change(with(partly))
        .unwrap()
        .options
        .tunnel
        .certificate
        .unwrap();
    assert_eq!(found.revocation_lists, lists);
    assert_eq!(found.private_key, certificate.private_key);

    let forget = ConnectionOptionsChange {
        certificate: Some(None),
        ..ConnectionOptionsChange::default()
    };
    assert_eq!(lab.change(forget).unwrap().options.tunnel.certificate, None);
}

#[test]
fn certificates_that_cannot_work_are_refused_with_the_reason() {
    let mut lab = Lab::new();
    let good = lab.certificate();
    let other = lab.authority.issue(&gateway("blue", lab.address), KEY);
    let stranger = lab.authority.issue(&subject("blue"), KEY);
    let mut expired = gateway("blue", lab.address);
    expired.not_after = date_time_ymd(2026, 6, 30);
    let expired = lab.authority.issue(&expired, KEY);
    let pair =
        |issued: &isthmus_simnet::pki::Issued| whole(&options(issued, &[], &Authority::root("Root", KEY)));
    let change = |change: fn(&mut CertificateChange)| {
        let mut of = whole(&good);
        change(&mut of);
        of
    };
    let mut mixed = whole(&good);
    mixed.private_key = Some(other.key);
    for (change, field, words) in [
        (change(|of| of.chain = None), "certificate.chain", "is missing"),
        (
            change(|of| of.private_key = None),
            "certificate.private_key",
            "is missing",
        ),
        (
            change(|of| of.authorities = None),
            "certificate.authorities",
            "is missing",
        ),
        (
            change(|of| of.chain = Some("no PEM".to_owned())),
            "certificate.chain",
            "not usable",
        ),
        (
            change(|of| of.private_key = Some(Secret::new("hush".to_owned()))),
            "certificate.private_key",
            "not usable",
        ),
        (mixed, "certificate.private_key", "is not that of our certificate"),
        (
            change(|of| of.authorities = Some(String::new())),
            "certificate.authorities",
            "not usable",
        ),
        (
            change(|of| of.revocation_lists = Some("nothing".to_owned())),
            "certificate.revocation_lists",
            "no revocation list",
        ),
        (
            change(|of| of.require_revocation_list = Some(true)),
            "certificate.revocation_lists",
            "would refuse every peer",
        ),
        (pair(&expired), "certificate.chain", "expired at 2026-06-30"),
        (
            pair(&stranger),
            "certificate.chain",
            "but our identity is address",
        ),
    ] {
        let (found, sentence) = lab.refused(with(change));
        assert_eq!(found, field, "{sentence}");
        assert!(sentence.contains(words), "{sentence}");
        assert!(!sentence.contains("hush"), "{sentence}");
    }
    // Another identity makes the stranger's name the right one.
    let mut named = with(pair(&stranger));
    named.local_id = Some(Some(TunnelIdentity::DistinguishedName(
        "CN=blue,O=Isthmus".to_owned(),
    )));
    assert!(lab.change(named).is_ok());
    let mut named = subject("any");
    named
        .subject_alt_names
        .push(SanType::DnsName("blue.example".to_owned().try_into().unwrap()));
    let mut named = with(pair(&lab.authority.issue(&named, KEY)));
    named.local_id = Some(Some(TunnelIdentity::Fqdn("Blue.example".to_owned())));
    assert!(lab.change(named).is_ok());
}

#[test]
fn what_ikev1_lacks_is_refused_under_an_ikev1_policy() {
    let mut lab = Lab::new();
    let policy = lab.world.ike_policy(IkeVersion::V1);
    let ipsec = lab.world.ipsec_policy(ipsec_policy());
    let mut update = no_update(lab.gateway, lab.connection);
    update.ike_policy = Some(Some(policy));
    update.ipsec_policy = Some(Some(ipsec));
    lab.world.run(Operation::UpdateVpnConnection(update)).unwrap();
    let certificate = with(whole(&lab.certificate()));
    assert_eq!(lab.refused(certificate).0, "certificate");
    let hybrid = ConnectionOptionsChange {
        ml_kem: Some(MlKem::Required),
        ..ConnectionOptionsChange::default()
    };
    assert_eq!(lab.refused(hybrid).0, "ml_kem");
}

#[test]
fn options_are_sealed_belong_to_their_account_and_go_with_the_connection() {
    let mut lab = Lab::new();
    let certificate = with(whole(&lab.certificate()));
    lab.change(certificate.clone()).unwrap();
    assert!(RecordKind::TunnelSettings.is_secret());
    let foreign = lab.operation(certificate);
    let refused = lab.world.as_caller(caller(OTHER_ACCOUNT), foreign).unwrap_err();
    assert_eq!(refused.code, OpErrorCode::NotFound);
    let delete = Operation::DeleteVpnConnection {
        gateway: lab.gateway,
        connection: lab.connection,
        if_match: None,
    };
    lab.world.run(delete).unwrap();
    assert!(lab.world.state.tunnel_settings(lab.connection).is_none());
    invariants::check(&lab.world.state);
}

#[test]
fn a_gateway_of_an_earlier_release_is_read_and_has_no_key_log() {
    let mut lab = Lab::new();
    let Some(record) = lab.world.state.record(RecordKey::VpnGateway(lab.gateway)) else {
        panic!("the gateway is there")
    };
    let mut written = Vec::new();
    record
        .serialize_body(&mut serde_json::Serializer::new(&mut written))
        .unwrap();
    // What this release writes for a gateway without key log is what earlier ones wrote.
    assert!(!String::from_utf8(written.clone()).unwrap().contains("key_log"));
    let read = Record::deserialize_body(
        RecordKind::VpnGateway,
        &mut serde_json::Deserializer::from_slice(&written),
    )
    .unwrap();
    assert_eq!(read, record);

    let switch = |key_log| {
        Operation::UpdateGatewayOptions(UpdateGatewayOptions {
            gateway: lab.gateway,
            key_log: Some(key_log),
            ipv6: None,
            if_match: None,
        })
    };
    let (on, off) = (switch(true), switch(false));
    for (operation, key_log, version) in [(on.clone(), true, 2), (on, true, 2), (off, false, 3)] {
        let view = GatewayOptionsView {
            key_log,
            ipv6: false,
            ipv6_address: None,
            version,
        };
        assert_eq!(lab.world.run(operation), Ok(Outcome::GatewayOptions(view)));
    }
}
