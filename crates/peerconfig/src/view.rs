//! A connection from the peer's side.

use std::net::IpAddr;

use isthmus_hostplan::{IkeIdentity, PeerEndpoint};
use isthmus_types::{Cidr, IkeVersion, Secret};

use crate::Peering;
use crate::error::Inexpressible;
use crate::suites::{EspSuite, IkeSuite, Told, esp_suites, ike_suites};
use crate::text::{GATEWAY_ADDRESS, PEER_ADDRESS, RANGES, SHARED_KEY, one_line, without};

/// Where the key belongs, if it is not shown.
pub(crate) const PLACEHOLDER: &str = "REPLACE-WITH-THE-SHARED-KEY";

/// How the ends prove themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Certificates,
    SharedKey,
}

/// How an IKEv1 phase 1 is negotiated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase1 {
    Aggressive,
    Main,
}

/// When ESP is encapsulated in UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encapsulation {
    Always,
    BehindNat,
}

/// The mirrored settings.
pub(crate) struct View {
    /// A name that every device takes.
    pub(crate) name: String,
    pub(crate) version: IkeVersion,
    pub(crate) method: Method,
    pub(crate) phase_1: Phase1,
    pub(crate) encapsulation: Encapsulation,
    /// The peer's own address; none if it has no fixed one.
    local_address: Option<String>,
    pub(crate) remote_address: IpAddr,
    pub(crate) local_id: IkeIdentity,
    pub(crate) remote_id: IkeIdentity,
    pub(crate) local_ranges: Vec<Cidr>,
    pub(crate) remote_ranges: Vec<Cidr>,
    pub(crate) ike: Told<IkeSuite>,
    pub(crate) esp: Told<EspSuite>,
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
            method: match plan.options.certificate {
                Some(_) => Method::Certificates,
                None => Method::SharedKey,
            },
            phase_1: if plan.version == IkeVersion::V1 && plan.options.aggressive_mode {
                Phase1::Aggressive
            } else {
                Phase1::Main
            },
            encapsulation: if plan.force_encapsulation {
                Encapsulation::Always
            } else {
                Encapsulation::BehindNat
            },
            local_address: match &plan.peer {
                PeerEndpoint::Address { address } => Some(address.to_string()),
                PeerEndpoint::Anywhere => None,
                PeerEndpoint::Name { fqdn } => Some(fqdn.clone()),
            },
            remote_address: peering.public_address,
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

    /// The peer's own address or name; none if it has no fixed one.
    ///
    /// # Errors
    /// If it is no name.
    pub(crate) fn local_address(&self, device: &'static str) -> Result<Option<&str>, Inexpressible> {
        let is_wrong = |character: char| !(character.is_alphanumeric() || ".:-_".contains(character));
        self.local_address
            .as_deref()
            .map(|address| without(device, PEER_ADDRESS, address, is_wrong))
            .transpose()
    }

    /// The shared key, or what stands for it, whatever is in it.
    pub(crate) fn any_key(&self) -> &str {
        self.key.as_ref().map_or(PLACEHOLDER, Secret::reveal)
    }

    /// The same as one line.
    ///
    /// # Errors
    /// If it is none.
    pub(crate) fn key(&self, device: &'static str) -> Result<&str, Inexpressible> {
        one_line(device, SHARED_KEY, self.any_key())
    }

    /// Version 1 or 2.
    pub(crate) const fn version_number(&self) -> u8 {
        match self.version {
            IkeVersion::V1 => 1,
            IkeVersion::V2 => 2,
        }
    }

    /// Every pair of a local and a remote range of the same family.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (Cidr, Cidr)> + '_ {
        self.local_ranges.iter().flat_map(|local| {
            self.remote_ranges
                .iter()
                .filter(|remote| remote.network().is_ipv4() == local.network().is_ipv4())
                .map(move |remote| (*local, *remote))
        })
    }

    /// Makes sure that neither the ranges nor the gateway's address are of IPv6.
    ///
    /// # Errors
    /// If they are, with `why`.
    pub(crate) fn require_ipv4(&self, device: &'static str, why: &str) -> Result<(), Inexpressible> {
        if self.remote_address.is_ipv6() {
            return Err(Inexpressible::new(device, GATEWAY_ADDRESS, why));
        }
        let mut ranges = self.local_ranges.iter().chain(&self.remote_ranges);
        if ranges.any(|range| range.network().is_ipv6()) {
            return Err(Inexpressible::new(device, RANGES, why));
        }
        Ok(())
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
