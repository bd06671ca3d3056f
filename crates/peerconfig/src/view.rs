//! A connection from the peer's side.

use isthmus_hostplan::{IkeIdentity, PeerEndpoint};
use isthmus_types::{Cidr, IkeVersion, Secret};

use crate::Peering;
use crate::suites::{EspSuite, IkeSuite, esp_suites, ike_suites};

/// Where the key belongs, if it is not shown.
pub(crate) const PLACEHOLDER: &str = "REPLACE-WITH-THE-SHARED-KEY";

/// The mirrored settings.
pub(crate) struct View {
    /// A name that every device takes.
    pub(crate) name: String,
    pub(crate) version: IkeVersion,
    /// The peer's own address; none if it has no fixed one.
    pub(crate) local_address: Option<String>,
    pub(crate) remote_address: String,
    pub(crate) local_id: IkeIdentity,
    pub(crate) remote_id: IkeIdentity,
    pub(crate) local_ranges: Vec<Cidr>,
    pub(crate) remote_ranges: Vec<Cidr>,
    pub(crate) ike: Vec<IkeSuite>,
    pub(crate) esp: Vec<EspSuite>,
    pub(crate) ike_lifetime: u32,
    pub(crate) esp_lifetime: u32,
    pub(crate) dpd_delay: u32,
    pub(crate) dpd_timeout: u32,
    key: Option<Secret>,
}

impl View {
    pub(crate) fn of(peering: &Peering, key: Option<&Secret>) -> Self {
        let plan = &peering.plan;
        Self {
            name: device_name(&plan.name),
            version: plan.version,
            local_address: match &plan.peer {
                PeerEndpoint::Address { address } => Some(address.to_string()),
                PeerEndpoint::Anywhere => None,
                PeerEndpoint::Name { fqdn } => Some(fqdn.clone()),
            },
            remote_address: peering.public_address.to_string(),
            local_id: plan.peer_identity.clone(),
            remote_id: plan.local_identity.clone(),
            local_ranges: plan.peer_cidrs.clone(),
            remote_ranges: plan.local_cidrs.clone(),
            ike: ike_suites(&plan.ike_proposals),
            esp: esp_suites(&plan.esp_proposals),
            ike_lifetime: plan.ike_lifetime_seconds,
            esp_lifetime: plan.esp_lifetime_seconds,
            dpd_delay: plan.dpd_interval_seconds,
            dpd_timeout: plan.dpd_timeout_seconds,
            key: key.cloned(),
        }
    }

    /// The shared key, or what stands for it.
    pub(crate) fn key(&self) -> &str {
        self.key.as_ref().map_or(PLACEHOLDER, Secret::reveal)
    }

    /// The key between double quotes, with what would end them escaped.
    pub(crate) fn quoted_key(&self) -> String {
        quoted(self.key())
    }

    /// Version 1 or 2.
    pub(crate) const fn version_number(&self) -> u8 {
        match self.version {
            IkeVersion::V1 => 1,
            IkeVersion::V2 => 2,
        }
    }

    /// Every pair of a local and a remote range.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (Cidr, Cidr)> + '_ {
        self.local_ranges
            .iter()
            .flat_map(|local| self.remote_ranges.iter().map(move |remote| (*local, *remote)))
    }
}

/// Text between double quotes.
pub(crate) fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// An identity without its kind.
pub(crate) fn plain(identity: &IkeIdentity) -> String {
    match identity {
        IkeIdentity::Address(address) => address.to_string(),
        IkeIdentity::DistinguishedName(text) | IkeIdentity::Email(text) | IkeIdentity::Fqdn(text) => {
            text.clone()
        }
        IkeIdentity::KeyId(bytes) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}

/// Ranges with a separator between them.
pub(crate) fn ranges(ranges: &[Cidr], separator: &str) -> String {
    ranges
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(separator)
}

// Letters, digits and dashes, beginning with a letter, short.
fn device_name(name: &str) -> String {
    let kept: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '-'
            }
        })
        .take(14)
        .collect();
    if kept.starts_with(|c: char| c.is_ascii_alphabetic()) {
        kept
    } else {
        format!("vpn-{kept}").chars().take(14).collect()
    }
}
