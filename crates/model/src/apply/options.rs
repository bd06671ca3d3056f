//! Options of VPN connections and VPN gateways.

use std::fmt::Display;

use isthmus_crypto::certificate::{
    Authorities, Certificate, CertificateName, Credentials, DistinguishedName, MAX_CERTIFICATES,
};
use isthmus_ops::{
    CertificateChange, ConnectionOptions, ConnectionOptionsChange, Identity, MlKem, OpError, OpErrorCode,
    Outcome, PeerLocation, ResourceKind, TunnelIdentity, UpdateConnectionOptions, UpdateGatewayOptions,
};
use isthmus_types::{CertificateOptions, IkeVersion, Secret, Timestamp, TunnelOptions};

use super::connection_rules::domain_name;
use super::gateway::not_deleting;
use super::{Draft, accepted, precondition};
use crate::record::{TunnelSettings, VpnConnection};
use crate::refusal::{dangling, invalid_field, missing_field};
use crate::view;

const KIND: ResourceKind = ResourceKind::VpnConnection;
const FIRST_VERSION: u64 = 1;
/// Bytes of a PEM text.
const LONGEST_PEM: usize = 256 << 10;
/// Bytes of an identity's text: it travels in one payload.
const LONGEST_IDENTITY: usize = 255;
/// A smaller Child SA would be replaced all the time.
const FEWEST_BYTES: u64 = 1 << 20;
/// As [`FEWEST_BYTES`].
const FEWEST_PACKETS: u64 = 1_000;

impl Draft<'_> {
    pub(super) fn update_options(&mut self, update: &UpdateConnectionOptions) -> Result<Outcome, OpError> {
        let connection = self
            .access()
            .vpn_connection(update.gateway, update.connection)?
            .clone();
        let settings = self.state.tunnel_settings(connection.id);
        let version = settings.map_or(FIRST_VERSION, |settings| settings.version);
        accepted(version, &update.if_match, KIND)?;
        let before = settings
            .map(|settings| settings.options.clone())
            .unwrap_or_default();
        let after = changed(before.clone(), &update.change)?;
        check_ranges(&after.tunnel)?;
        check_identity(after.local_id.as_ref(), "local_id")?;
        check_identity(after.peer_id.as_ref(), "peer_id")?;
        self.check_version(&connection, &after)?;
        self.check_certificate(&connection, &after)?;
        self.check_peer_location(&connection, &after, "peer_id")?;
        if after.peer_location == PeerLocation::Fixed && before.peer_location != PeerLocation::Fixed {
            self.check_address_of_peer(&connection)?;
        }
        if after != before {
            self.put(TunnelSettings {
                connection: connection.id,
                version: version + 1,
                options: after,
            });
        }
        Ok(Outcome::ConnectionOptions(view::options_view(
            &self.state,
            connection.id,
        )))
    }

    pub(super) fn update_gateway_options(
        &mut self,
        update: &UpdateGatewayOptions,
    ) -> Result<Outcome, OpError> {
        let mut gateway = self.access().vpn_gateway(update.gateway)?.clone();
        not_deleting(&gateway)?;
        precondition(&gateway.meta, &update.if_match, ResourceKind::VpnGateway)?;
        let before = gateway.clone();
        set(&mut gateway.key_log, update.key_log);
        if let Some(ipv6) = update.ipv6 {
            self.set_ipv6(&mut gateway, ipv6)?;
        }
        if gateway != before {
            gateway.meta.version += 1;
            self.put(gateway.clone());
        }
        Ok(Outcome::GatewayOptions(view::gateway_options_view(&gateway)))
    }

    // What IKEv1 does not know must not be left out without a word.
    fn check_version(&self, connection: &VpnConnection, options: &ConnectionOptions) -> Result<(), OpError> {
        let policy = connection.ike_policy.and_then(|id| self.state.ike_policy(id));
        if policy.is_none_or(|policy| policy.version == IkeVersion::V2) {
            return Ok(());
        }
        let why = "the connection's IKE policy is for IKEv1, which has none";
        if options.tunnel.certificate.is_some() {
            return Err(invalid_field(KIND, "certificate", "of ours", why));
        }
        match options.ml_kem {
            MlKem::Off => Ok(()),
            MlKem::On => Err(invalid_field(KIND, "ml_kem", "on", why)),
            MlKem::Required => Err(invalid_field(KIND, "ml_kem", "required", why)),
        }
    }

    fn check_certificate(
        &self,
        connection: &VpnConnection,
        options: &ConnectionOptions,
    ) -> Result<(), OpError> {
        let Some(certificate) = &options.tunnel.certificate else {
            return Ok(());
        };
        let own = credentials(certificate)?;
        let leaf = own
            .certificate()
            .ok_or_else(|| refusal("certificate.chain", "holds no certificate"))?;
        check_validity(leaf, self.now)?;
        authorities(certificate)?;
        let name = match (&options.local_id, &connection.local_identity) {
            (Some(identity), _) => name_of(identity),
            (None, Some(Identity::Address(address))) => Some(CertificateName::Address(*address)),
            (None, Some(Identity::Fqdn(name) | Identity::Hostname(name))) => {
                Some(CertificateName::Fqdn(name.clone()))
            }
            (None, Some(Identity::KeyId(_))) => None,
            (None, None) => {
                let peer = self
                    .state
                    .peer_of(connection)
                    .ok_or_else(|| dangling(ResourceKind::CustomerGateway, connection.customer_gateway))?;
                let gateway = self.access().vpn_gateway(connection.gateway)?;
                Some(CertificateName::Address(gateway.address_towards(&peer.address)))
            }
        };
        let Some(name) = name else {
            let why = "no certificate bears a key id: set a local_id that ours bears";
            return Err(refusal("certificate.chain", why));
        };
        if leaf.has_name(&name) {
            return Ok(());
        }
        Err(refusal(
            "certificate.chain",
            format!(
                "is for {}, but our identity is {name}: set local_id to one of those names, or give another \
                 certificate",
                leaf.describe_names()
            ),
        ))
    }
}

fn refusal(field: &str, why: impl Display) -> OpError {
    OpError::new(OpErrorCode::InvalidField, KIND, format!("{field} {why}")).with_field(field)
}

fn changed(
    mut options: ConnectionOptions,
    change: &ConnectionOptionsChange,
) -> Result<ConnectionOptions, OpError> {
    let tunnel = &mut options.tunnel;
    set(&mut tunnel.aggressive_mode, change.aggressive_mode);
    set(&mut tunnel.childless, change.childless);
    set(&mut tunnel.verify_pfs, change.verify_pfs);
    set(
        &mut tunnel.extended_sequence_numbers,
        change.extended_sequence_numbers,
    );
    set(&mut tunnel.replay_window, change.replay_window);
    set(&mut tunnel.selectors, change.selectors);
    set(&mut tunnel.parallel_child_sas, change.parallel_child_sas);
    set(&mut tunnel.esp_lifetime_bytes, change.esp_lifetime_bytes);
    set(&mut tunnel.esp_lifetime_packets, change.esp_lifetime_packets);
    set(&mut tunnel.fragment_size, change.fragment_size);
    set(&mut tunnel.dscp, change.dscp);
    set(&mut tunnel.dont_fragment, change.dont_fragment);
    if let Some(certificate) = &change.certificate {
        tunnel.certificate = match certificate {
            None => None,
            Some(change) => Some(certified(tunnel.certificate.take(), change)?),
        };
    }
    set(&mut options.ml_kem, change.ml_kem);
    set(&mut options.encapsulation, change.encapsulation);
    set(&mut options.local_id, change.local_id.clone());
    set(&mut options.peer_id, change.peer_id.clone());
    set(&mut options.peer_location, change.peer_location);
    Ok(options)
}

fn set<T>(value: &mut T, new: Option<T>) {
    if let Some(new) = new {
        *value = new;
    }
}

fn certified(
    before: Option<CertificateOptions>,
    change: &CertificateChange,
) -> Result<CertificateOptions, OpError> {
    let missing = |field| {
        missing_field(
            KIND,
            field,
            "a certificate needs its chain, its key and the peer's authorities",
        )
    };
    let mut options = match before {
        Some(before) => before,
        None => {
            let empty = CertificateOptions {
                chain: String::new(),
                private_key: Secret::new(String::new()),
                authorities: String::new(),
                revocation_lists: String::new(),
                require_revocation_list: false,
            };
            if change.chain.is_none() {
                return Err(missing("certificate.chain"));
            }
            if change.private_key.is_none() {
                return Err(missing("certificate.private_key"));
            }
            if change.authorities.is_none() {
                return Err(missing("certificate.authorities"));
            }
            empty
        }
    };
    set(&mut options.chain, change.chain.clone());
    set(&mut options.private_key, change.private_key.clone());
    set(&mut options.authorities, change.authorities.clone());
    set(&mut options.revocation_lists, change.revocation_lists.clone());
    set(
        &mut options.require_revocation_list,
        change.require_revocation_list,
    );
    Ok(options)
}

fn check_ranges(options: &TunnelOptions) -> Result<(), OpError> {
    if !(64..=4096).contains(&options.replay_window) {
        let why = "it must be from 64 to 4096 packets";
        return Err(invalid_field(KIND, "replay_window", options.replay_window, why));
    }
    if !(1..=16).contains(&options.parallel_child_sas) {
        let why = "it must be from 1 to 16";
        let value = options.parallel_child_sas;
        return Err(invalid_field(KIND, "parallel_child_sas", value, why));
    }
    if options.fragment_size != 0 && options.fragment_size < 576 {
        let why = "it must be from 576 to 65535 bytes, or 0 for no fragmentation";
        return Err(invalid_field(KIND, "fragment_size", options.fragment_size, why));
    }
    if let Some(bytes) = options.esp_lifetime_bytes.filter(|bytes| *bytes < FEWEST_BYTES) {
        let why = "it must be 1048576 bytes or more";
        return Err(invalid_field(KIND, "esp_lifetime_bytes", bytes, why));
    }
    if let Some(packets) = options
        .esp_lifetime_packets
        .filter(|packets| *packets < FEWEST_PACKETS)
    {
        let why = "it must be 1000 packets or more";
        return Err(invalid_field(KIND, "esp_lifetime_packets", packets, why));
    }
    Ok(())
}

fn check_identity(identity: Option<&TunnelIdentity>, field: &str) -> Result<(), OpError> {
    let refused = |value: &str, why| Err(invalid_field(KIND, field, value.escape_debug(), why));
    match identity {
        None | Some(TunnelIdentity::Address(_)) => Ok(()),
        Some(TunnelIdentity::DistinguishedName(text)) => {
            if DistinguishedName::parse(text).is_some_and(|name| !name.is_empty()) {
                Ok(())
            } else {
                refused(
                    text,
                    "it is not a distinguished name, such as CN=gateway,O=Example,C=CH",
                )
            }
        }
        Some(TunnelIdentity::Email(text)) => {
            let is_address = text.len() <= LONGEST_IDENTITY
                && text.bytes().all(|byte| byte.is_ascii_graphic())
                && text
                    .rsplit_once('@')
                    .is_some_and(|(local, host)| !local.is_empty() && domain_name(host));
            if is_address {
                Ok(())
            } else {
                refused(text, "it is not an e-mail address")
            }
        }
        Some(TunnelIdentity::Fqdn(text)) => {
            if domain_name(text) {
                Ok(())
            } else {
                refused(text, "it is not a domain name")
            }
        }
        Some(TunnelIdentity::KeyId(text)) => {
            if (1..=LONGEST_IDENTITY).contains(&text.len()) {
                Ok(())
            } else {
                refused(text, "a key id has 1 to 255 bytes")
            }
        }
    }
}

fn name_of(identity: &TunnelIdentity) -> Option<CertificateName> {
    match identity {
        TunnelIdentity::Address(address) => Some(CertificateName::Address(*address)),
        TunnelIdentity::DistinguishedName(text) => {
            DistinguishedName::parse(text).map(CertificateName::DistinguishedName)
        }
        TunnelIdentity::Email(text) => Some(CertificateName::Email(text.clone())),
        TunnelIdentity::Fqdn(text) => Some(CertificateName::Fqdn(text.clone())),
        TunnelIdentity::KeyId(_) => None,
    }
}

fn credentials(options: &CertificateOptions) -> Result<Credentials, OpError> {
    check_length("certificate.chain", &options.chain)?;
    // Revealed to be measured.
    check_length("certificate.private_key", options.private_key.reveal())?;
    let own = Credentials::from_pem(&options.chain, &options.private_key).map_err(|error| {
        use isthmus_crypto::certificate::CredentialsError as Error;
        match error {
            Error::Key(_) | Error::OtherKey(_) => {
                refusal("certificate.private_key", format!("is not usable: {error}"))
            }
            Error::Certificate | Error::NoAuthority | Error::NoCertificate | Error::RevocationList => {
                refusal("certificate.chain", format!("is not usable: {error}"))
            }
        }
    })?;
    if own.sent().count() > MAX_CERTIFICATES {
        let why = format!("holds more than {MAX_CERTIFICATES} certificates");
        return Err(refusal("certificate.chain", why));
    }
    Ok(own)
}

fn authorities(options: &CertificateOptions) -> Result<(), OpError> {
    check_length("certificate.authorities", &options.authorities)?;
    check_length("certificate.revocation_lists", &options.revocation_lists)?;
    let read = |lists| Authorities::from_pem(&options.authorities, lists, options.require_revocation_list);
    read("").map_err(|error| refusal("certificate.authorities", format!("is not usable: {error}")))?;
    read(&options.revocation_lists)
        .map_err(|error| refusal("certificate.revocation_lists", format!("is not usable: {error}")))?;
    let has_text = !options.revocation_lists.trim().is_empty();
    if has_text && !options.revocation_lists.contains("-----BEGIN X509 CRL-----") {
        return Err(refusal(
            "certificate.revocation_lists",
            "holds no revocation list in PEM",
        ));
    }
    if options.require_revocation_list && !has_text {
        let why = "is missing: require_revocation_list would refuse every peer";
        return Err(refusal("certificate.revocation_lists", why));
    }
    Ok(())
}

fn check_length(field: &str, text: &str) -> Result<(), OpError> {
    if text.len() <= LONGEST_PEM {
        Ok(())
    } else {
        Err(refusal(field, format!("is longer than {LONGEST_PEM} bytes")))
    }
}

fn check_validity(leaf: &Certificate, now: Timestamp) -> Result<(), OpError> {
    let end = leaf.expires_at();
    if end > now {
        return Ok(());
    }
    Err(refusal(
        "certificate.chain",
        format!(
            "begins with the certificate {}, which expired at {end}",
            leaf.subject()
        ),
    ))
}
