//! What `isthmus vpn peer-config` prints, fed to the real daemons.
//!
//! strongSwan loads the file with `swanctl` as an administrator would, the tunnel comes up and hosts answer each other.
//! Libreswan has no ESP here: its real daemon reads the file, and both ends authenticate each other.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail, ensure};
use isthmus_hostplan::{ConnectionPlan, EstablishMode, IkeIdentity, PeerEndpoint};
use isthmus_netlab::isthmus::connection_between;
use isthmus_netlab::proposal;
use isthmus_netlab::strongswan::SwanCertificate;
use isthmus_netlab::{
    Family, Isthmus, Libreswan, Ping, Site, StrongSwan, SwanConnection, TwoSites, TwoSitesOptions,
};
use isthmus_peerconfig::{Peering, Vendor, configuration};
use isthmus_types::{IkeVersion, Secret};

use crate::certificates;
use crate::harness::{self, say};
use crate::setup::program;
use crate::table::Authentication;

const IKE: &str = "aes128-sha256-prfsha256-ecp256";
const ESP: &str = "aes128gcm16-ecp256";
const KEY: &str = "a key with \\ and # and } in it";

/// What differs from two gateways with addresses for identities.
#[derive(Clone, Copy, Debug)]
enum Case {
    Aggressive,
    Certificates,
    DistinguishedNames,
    Forced,
    KeyIds,
    Names,
    OneProposal,
    ManyProposals,
    TwoPairs,
    TwoPairsOfVersionOne,
    VersionOne,
    VersionSix,
}

const STRONGSWAN: [(&str, Case); 12] = [
    ("strongswan", Case::OneProposal),
    ("strongswan-many-proposals", Case::ManyProposals),
    ("strongswan-names", Case::Names),
    ("strongswan-two-pairs", Case::TwoPairs),
    ("strongswan-ikev1", Case::VersionOne),
    ("strongswan-ikev1-two-pairs", Case::TwoPairsOfVersionOne),
    ("strongswan-aggressive", Case::Aggressive),
    ("strongswan-certificates", Case::Certificates),
    ("strongswan-distinguished-names", Case::DistinguishedNames),
    ("strongswan-forced", Case::Forced),
    ("strongswan-key-ids", Case::KeyIds),
    ("strongswan-ipv6", Case::VersionSix),
];
const LIBRESWAN: [(&str, Case); 9] = [
    ("libreswan", Case::OneProposal),
    ("libreswan-many-proposals", Case::ManyProposals),
    ("libreswan-names", Case::Names),
    ("libreswan-ikev1", Case::VersionOne),
    ("libreswan-aggressive", Case::Aggressive),
    ("libreswan-distinguished-names", Case::DistinguishedNames),
    ("libreswan-forced", Case::Forced),
    ("libreswan-key-ids", Case::KeyIds),
    ("libreswan-ipv6", Case::VersionSix),
];

/// Runs the cases whose names contain one of `arguments`, all without any.
pub fn run(arguments: &[String]) -> Result<ExitCode> {
    let request = harness::parse(arguments)?;
    let strongswan = STRONGSWAN
        .iter()
        .map(|(name, case)| (*name, *case, Vendor::StrongSwan));
    let libreswan = LIBRESWAN
        .iter()
        .map(|(name, case)| (*name, *case, Vendor::Libreswan));
    let cases: Vec<_> = strongswan
        .chain(libreswan)
        .filter(|(name, ..)| request.wants(name))
        .collect();
    if request.list {
        for (name, ..) in &cases {
            say(&format!("{name}: test"));
        }
        return Ok(ExitCode::SUCCESS);
    }
    isthmus_netlab::require()?;
    let (mut passed, mut failed) = (0, 0);
    for (name, case, vendor) in cases {
        let start = Instant::now();
        let outcome = match vendor {
            Vendor::StrongSwan => with_strongswan(case),
            Vendor::Libreswan => with_libreswan(case),
            Vendor::CiscoIos | Vendor::FortiOs | Vendor::Junos | Vendor::MikroTik | Vendor::PfSense => {
                bail!("no such daemon runs here")
            }
        };
        let seconds = start.elapsed().as_secs_f64();
        match outcome {
            Ok(account) => {
                passed += 1;
                say(&format!("passed  {name:<28} {seconds:5.1} s  {account}"));
            }
            Err(error) => {
                failed += 1;
                say(&format!("FAILED  {name:<28} {seconds:5.1} s  {error:?}\n"));
            }
        }
    }
    say(&format!("{passed} passed, {failed} failed, 0 skipped"));
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn sites(case: Case) -> Result<TwoSites> {
    TwoSites::new(TwoSitesOptions {
        subnets: match case {
            Case::TwoPairs | Case::TwoPairsOfVersionOne => 2,
            Case::Aggressive
            | Case::Certificates
            | Case::DistinguishedNames
            | Case::Forced
            | Case::KeyIds
            | Case::ManyProposals
            | Case::Names
            | Case::OneProposal
            | Case::VersionOne
            | Case::VersionSix => 1,
        },
        ..TwoSitesOptions::default()
    })
}

/// Family of the packets between the gateways, and in the tunnel.
const fn family(case: Case) -> Family {
    match case {
        Case::VersionSix => Family::V6,
        Case::Aggressive
        | Case::Certificates
        | Case::DistinguishedNames
        | Case::Forced
        | Case::KeyIds
        | Case::ManyProposals
        | Case::Names
        | Case::OneProposal
        | Case::TwoPairs
        | Case::TwoPairsOfVersionOne
        | Case::VersionOne => Family::V4,
    }
}

/// Our connection, and the peer's configuration made from it.
struct Printed {
    plan: ConnectionPlan,
    text: String,
    /// What the peer's administrator has beside it.
    certificate: Option<SwanCertificate>,
}

fn connection(case: Case, ours: &Site, theirs: &Site, vendor: Vendor) -> Result<Printed> {
    let mut plan = connection_between(ours, theirs, KEY, IKE, ESP)?;
    plan.name = "gw".to_owned();
    // The file makes the peer begin.
    plan.establish = EstablishMode::PeerOnly;
    let mut certificate = None;
    let name = |name: &str| IkeIdentity::DistinguishedName(format!("CN={name},O=Two Words,C=CH"));
    match case {
        Case::Certificates => {
            let mut other = SwanConnection::between(theirs, ours, KEY, IKE, ESP);
            certificates::equip(&mut plan, &mut other, Authentication::Ecdsa, None)?;
            certificate = other.certificate;
        }
        Case::DistinguishedNames => {
            plan.local_identity = name("left");
            plan.peer_identity = name("right");
        }
        Case::Forced => plan.force_encapsulation = true,
        Case::KeyIds => {
            plan.local_identity = IkeIdentity::KeyId(vec![0, 0x80, 0xff]);
            plan.peer_identity = IkeIdentity::KeyId(b"branch 7".to_vec());
        }
        Case::VersionSix => {
            plan.peer = PeerEndpoint::Address {
                address: theirs.address_v6.into(),
            };
            plan.local_identity = IkeIdentity::Address(ours.address_v6.into());
            plan.peer_identity = IkeIdentity::Address(theirs.address_v6.into());
            plan.local_cidrs = ours.subnets_of(Family::V6);
            plan.peer_cidrs = theirs.subnets_of(Family::V6);
        }
        Case::ManyProposals => {
            for words in ["aes256gcm16-prfsha384-ecp384", "aes256-sha512-prfsha512-modp3072"] {
                plan.ike_proposals.insert(0, proposal::ike(words)?);
            }
            for words in ["aes256-sha256-ecp256", "aes256gcm16-ecp256"] {
                plan.esp_proposals.insert(0, proposal::esp(words)?);
            }
        }
        Case::Names => {
            plan.local_identity = IkeIdentity::Fqdn("left.example".to_owned());
            plan.peer_identity = IkeIdentity::Email("right@example.org".to_owned());
        }
        Case::OneProposal | Case::TwoPairs => {}
        Case::Aggressive | Case::TwoPairsOfVersionOne | Case::VersionOne => {
            plan.options.aggressive_mode = matches!(case, Case::Aggressive);
            plan.version = IkeVersion::V1;
            plan.ike_proposals = vec![proposal::ike("aes256-sha256-prfsha256-modp2048")?];
            plan.esp_proposals = vec![proposal::esp("aes256-sha256-modp2048")?];
        }
    }
    let text = configuration(
        vendor,
        &Peering::without_secrets(ours.address_of(family(case)), plan.clone()),
        Some(&Secret::new(KEY.to_owned())),
    )?;
    Ok(Printed {
        plan,
        text,
        certificate,
    })
}

fn with_strongswan(case: Case) -> Result<String> {
    let sites = sites(case)?;
    let (ours, theirs) = (&sites.left, &sites.right);
    let Printed {
        plan,
        text,
        certificate,
    } = connection(case, ours, theirs, Vendor::StrongSwan)?;
    // What it is started with is replaced by the file.
    let nothing = SwanConnection::between(theirs, ours, "not this one", IKE, ESP);
    let peer = StrongSwan::start(&theirs.gateway, nothing)?;
    let isthmus = Isthmus::start(program()?, ours, vec![plan])?;
    if let Some(certificate) = &certificate {
        peer.store(certificate)?;
    }
    peer.load_file(&text)?;
    let logs =
        |error: anyhow::Error| error.context(format!("{text}\n{}\n{}", isthmus.log_tail(), peer.log_tail()));
    let report = isthmus.wait_until_up().map_err(logs)?;
    let mut answered = 0;
    for near in &ours.hosts {
        for far in &theirs.hosts {
            Ping::until_answered(&near.node, far.address_of(family(case))).map_err(logs)?;
            Ping::until_answered(&far.node, near.address_of(family(case))).map_err(logs)?;
            answered += 2;
        }
    }
    ensure!(
        text.contains("swanctl") && !report.ike_suite.is_empty(),
        "nothing was agreed on"
    );
    Ok(format!("up with {}, {answered} ways answered", report.ike_suite))
}

fn with_libreswan(case: Case) -> Result<String> {
    let sites = sites(case)?;
    let (ours, theirs) = (&sites.left, &sites.right);
    let Printed { plan, text, .. } = connection(case, ours, theirs, Vendor::Libreswan)?;
    let version = plan.version;
    // The secrets stand in the same text, as comments: the other file.
    let secrets: String = text
        .lines()
        .filter(|line| line.starts_with("# ") && line.contains(" : PSK "))
        .map(|line| format!("{}\n", line.trim_start_matches("# ")))
        .collect();
    let setup = match version {
        IkeVersion::V1 => "config setup\n    ikev1-policy=accept\n",
        IkeVersion::V2 => "",
    };
    let peer = Libreswan::start_files(&theirs.gateway, &format!("{setup}{text}"), &secrets)?;
    let isthmus = Isthmus::start(program()?, ours, vec![plan])?;
    peer.start_initiating()?;
    let words: &[&str] = match version {
        IkeVersion::V1 => &["SA established", "PRESHARED_KEY"],
        IkeVersion::V2 => &["established IKE SA", "authenticated"],
    };
    peer.until_logged(words)
        .map_err(|error| error.context(format!("{text}\n{}\n{}", isthmus.log_tail(), peer.log_tail())))?;
    Ok("its daemon read the file; IKE SA and authentication, no ESP".to_owned())
}
