//! What to enter at the other end of a VPN connection, in the words of the device that stands there.
//!
//! [`configuration`] mirrors our settings: what is local here is remote there. Algorithms that a device has no word for are
//! left out, with a remark that says so; where nothing is left, or where a setting must be right and the device cannot
//! express it, there is an error that names it instead. The shared key is shown only if it is given, and private keys never are.
//!
//! What each device has words for is as its own manual says; the sources stand at the head of each file.
//!
//! This crate must know neither hosts nor APIs. One file per vendor under `vendor`.

mod error;
mod suites;
mod text;
mod vendor;
mod view;

use std::net::IpAddr;

use isthmus_hostplan::{ConnectionPlan, PeerEndpoint};
use isthmus_types::Secret;
use serde::{Deserialize, Serialize};

use view::View;

pub use error::Inexpressible;

/// One connection with its gateway's address: all that the other end must match.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peering {
    /// Address of our gateway, as the peer sees it.
    pub public_address: IpAddr,
    /// Our settings.
    pub plan: ConnectionPlan,
}

impl Peering {
    /// The settings without the shared key and without private keys.
    pub fn without_secrets(public_address: IpAddr, mut plan: ConnectionPlan) -> Self {
        plan.psk = Secret::new(String::new());
        if let Some(certificate) = &mut plan.options.certificate {
            certificate.private_key = Secret::new(String::new());
        }
        Self { public_address, plan }
    }
}

/// What stands at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vendor {
    /// Cisco IOS and IOS XE.
    CiscoIos,
    /// Fortinet FortiOS.
    FortiOs,
    /// Juniper Junos.
    Junos,
    /// libreswan, `ipsec.conf`.
    Libreswan,
    /// MikroTik RouterOS 7.
    MikroTik,
    /// pfSense.
    PfSense,
    /// strongSwan, `swanctl.conf`.
    StrongSwan,
}

impl Vendor {
    /// Every one, in the order of their words.
    pub const ALL: [Self; 7] = [
        Self::CiscoIos,
        Self::FortiOs,
        Self::Junos,
        Self::Libreswan,
        Self::MikroTik,
        Self::PfSense,
        Self::StrongSwan,
    ];

    /// The word for it on a command line.
    pub const fn word(self) -> &'static str {
        match self {
            Self::CiscoIos => "cisco-ios",
            Self::FortiOs => "fortios",
            Self::Junos => "junos",
            Self::Libreswan => "libreswan",
            Self::MikroTik => "mikrotik",
            Self::PfSense => "pfsense",
            Self::StrongSwan => "strongswan",
        }
    }

    /// The vendor that `word` names.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|vendor| vendor.word() == word)
    }
}

/// What to enter at the peer. Without `key` a placeholder stands where the shared key belongs.
///
/// # Errors
/// [`Inexpressible`] if the device has no words for a setting without which the tunnel would not come up.
pub fn configuration(
    vendor: Vendor,
    peering: &Peering,
    key: Option<&Secret>,
) -> Result<String, Inexpressible> {
    let view = View::of(peering, key);
    let text = match vendor {
        Vendor::CiscoIos => vendor::cisco_ios::render(&view),
        Vendor::FortiOs => vendor::fortios::render(&view),
        Vendor::Junos => vendor::junos::render(&view),
        Vendor::Libreswan => vendor::libreswan::render(&view),
        Vendor::MikroTik => vendor::mikrotik::render(&view),
        Vendor::PfSense => vendor::pfsense::render(&view),
        Vendor::StrongSwan => vendor::strongswan::render(&view),
    }?;
    Ok(match peering.plan.peer {
        PeerEndpoint::Anywhere => who_begins(vendor) + &text,
        PeerEndpoint::Address { .. } | PeerEndpoint::Name { .. } => text,
    })
}

/// What must be known at a peer that our gateway cannot go to.
fn who_begins(vendor: Vendor) -> String {
    let mark = match vendor {
        Vendor::CiscoIos => '!',
        Vendor::FortiOs
        | Vendor::Junos
        | Vendor::Libreswan
        | Vendor::MikroTik
        | Vendor::PfSense
        | Vendor::StrongSwan => '#',
    };
    let how = match vendor {
        // Their configuration says so.
        Vendor::FortiOs | Vendor::Junos | Vendor::Libreswan | Vendor::StrongSwan => String::new(),
        Vendor::CiscoIos | Vendor::MikroTik => {
            format!("{mark} Traffic for the other side makes it begin: keep some going.\n")
        }
        Vendor::PfSense => {
            format!(
                "{mark} Traffic for the other side makes it begin: fill in \"Automatically ping host\" in phase 2.\n"
            )
        }
    };
    format!(
        "{mark} This end must begin: the gateway waits for it, wherever it is, and knows it by its identity.\n{how}"
    )
}
