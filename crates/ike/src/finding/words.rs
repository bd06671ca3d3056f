//! Findings and events in plain sentences.

use super::{CertificateFault, End, EventKind, FindingKind, Layer, Severity, Theirs, Unanswered};
use crate::selector;

impl FindingKind {
    /// What was seen, in a sentence without a full stop.
    pub fn sentence(&self) -> String {
        match self {
            Self::AddressUnknown { name } => {
                format!("the name of the peer, {}, has no address", name.escape_default())
            }
            Self::AuthenticationRefusedByPeer { identity, .. } => {
                format!("the peer refused our key or identity (we are {identity}) and does not say which")
            }
            Self::CertificateRefused {
                subject,
                fault,
                detail,
            } => {
                let more = if detail.is_empty() {
                    String::new()
                } else {
                    format!(" ({detail})")
                };
                format!("the certificate of the peer, {subject}, {}{more}", fault.words())
            }
            Self::FragmentsLost { peer, bytes } => format!(
                "{peer} answers small messages but not the one of {bytes} bytes: fragments seem to be lost on the way"
            ),
            Self::GroupAccepted { refused, accepted } => {
                format!(
                    "the peer refused our ESP proposals with PFS {refused} and accepts those with {accepted}"
                )
            }
            Self::GroupDemanded { layer, theirs, ours } => {
                format!("the peer demands group {theirs} for {layer}, ours are {ours}")
            }
            Self::IdentityMismatch {
                end,
                received,
                expected,
            } => match end {
                End::Peers => format!("the peer calls itself {received}, expected is {expected}"),
                End::Ours => format!("the peer asked for identity {received} where ours is {expected}"),
            },
            Self::KeyDoubted { peer, sign } => {
                format!(
                    "the peer at {peer} cannot be authenticated, {sign}: probably the pre-shared keys differ"
                )
            }
            Self::KeyMismatch { identity } => {
                format!("the peer, {identity}, proved another pre-shared key than ours")
            }
            Self::LifetimeSkew { layer, theirs, ours } => format!(
                "the peer replaces or deletes the {layer} SA after {} s, our lifetime is {} s",
                theirs.as_secs(),
                ours.as_secs()
            ),
            Self::MethodMismatch { received, expected } => {
                format!("the peer proves itself with {received}, expected is {expected}")
            }
            Self::NatFound { ours, theirs } => match (ours, theirs) {
                (true, true) => "both ends are behind address translation, or force encapsulation".into(),
                (true, false) => "we are behind address translation, or the peer forces encapsulation".into(),
                (false, _) => "the peer is behind address translation, or forces encapsulation".into(),
            },
            Self::NoAnswer { peer, to, .. } => no_answer(peer, to),
            Self::NoProposalInCommon { layer, ours, theirs } => no_proposal(*layer, ours, theirs.as_ref()),
            Self::ObsoleteAlgorithm { layer, algorithms } => {
                format!(
                    "obsolete algorithms are in use for {layer}: {}",
                    algorithms.join(", ")
                )
            }
            Self::Other { detail, .. } => detail.clone(),
            Self::PfsMismatch { ours, theirs } => pfs_mismatch(ours, theirs.as_deref()),
            Self::PfsUnverified { ours } => format!(
                "perfect forward secrecy (PFS, ours is {ours}) is not verified yet: the first Child SA has no key \
                 exchange of its own"
            ),
            Self::PortUnanswered { peer } => {
                format!("{peer} did not answer on UDP port 500 but does on UDP port 4500")
            }
            Self::ProposalOrGroupRefused { proposals, groups } => format!(
                "the peer refused a Child SA and does not say whether for its algorithms, ours are {proposals}, or for perfect \
                 forward secrecy (PFS), ours is {groups}: in IKEv1 the answer is the same"
            ),
            Self::SelectorsNarrowed {
                end,
                left_out,
                carried,
            } => {
                let side = match end {
                    End::Ours => "our",
                    End::Peers => "the peer's",
                };
                format!(
                    "of the ranges on {side} side the tunnel leaves out {}; it carries {}",
                    selector::describe(left_out),
                    selector::describe(carried)
                )
            }
            Self::SelectorsRefused {
                by,
                end,
                ours,
                theirs,
            } => selectors_refused(*by, *end, ours, theirs.as_deref()),
            Self::TransportModeAsked { refused } => if *refused {
                "the peer asks for transport mode between the gateways alone, which joins no networks"
            } else {
                "the peer asks for transport mode; it was answered with tunnel mode"
            }
            .into(),
            Self::UnknownPeer {
                from,
                received,
                expected,
            } => {
                format!("somebody at {from} calls itself {received}; the peer is known by {expected}")
            }
            Self::VersionMismatch { theirs, ours } => {
                format!("the peer speaks IKE version {theirs}, version {ours} is configured here")
            }
        }
    }

    /// What to do about it, in a sentence without a full stop; empty if nothing needs to be done.
    pub fn fix(&self) -> String {
        match self {
            Self::AddressUnknown { .. } => "check the name and the name servers".into(),
            Self::AuthenticationRefusedByPeer { suspects, .. } => {
                format!("compare with the peer's settings, in this order: {}", suspects.join(", "))
            }
            Self::CertificateRefused { fault, .. } => fault.fix().into(),
            Self::FragmentsLost { .. } => {
                "let fragments pass, turn on IKE fragmentation at both ends, or offer fewer proposals and ranges".into()
            }
            Self::GroupAccepted { refused, .. } => {
                format!("take PFS {refused} out of the policy here, or allow it at the peer")
            }
            Self::GroupDemanded { theirs, .. } => format!("add group {theirs} to the policy here, or change it there"),
            Self::IdentityMismatch { end, received, expected } => match end {
                End::Peers => format!("set the peer's identity here to {received}, or make the peer send {expected}"),
                End::Ours => format!("set our identity here to {received}, or make the peer expect {expected}"),
            },
            Self::KeyDoubted { .. } | Self::KeyMismatch { .. } => "set the same pre-shared key at both ends".into(),
            Self::LifetimeSkew { .. } => "set the same lifetimes at both ends".into(),
            Self::MethodMismatch { .. } => "choose the same authentication method at both ends".into(),
            Self::NatFound { .. } => String::new(),
            Self::NoAnswer { to, peer, .. } => match to {
                Unanswered::Authentication { .. } => {
                    format!("open UDP port {} in both directions on the way to the peer", peer.port())
                }
                Unanswered::FirstMessage => {
                    "check the peer's address, that the peer is configured for ours, and that UDP ports 500 and 4500 \
                     are open"
                        .into()
                }
                Unanswered::Request { .. } => "check the peer and the way to it".into(),
            },
            Self::NoProposalInCommon { layer, theirs, .. } => fix_proposal(*layer, theirs.as_ref()),
            Self::ObsoleteAlgorithm { .. } => "agree on newer ones with the operator of the peer".into(),
            Self::Other { .. } => String::new(),
            Self::PfsMismatch { theirs, .. } => match theirs {
                Some(theirs) => format!("set PFS here to {theirs}, or change it at the peer"),
                None => "make PFS (on or off, and its group) equal at both ends".into(),
            },
            Self::PfsUnverified { .. } => String::new(),
            Self::PortUnanswered { .. } => "open UDP port 500 in both directions on the way to the peer".into(),
            Self::ProposalOrGroupRefused { .. } => {
                "make PFS (on or off, and its group) equal at both ends, and then the algorithms of the IPsec policies".into()
            }
            Self::SelectorsNarrowed { .. } => "add the missing ranges at the peer, or take them out here".into(),
            Self::SelectorsRefused { .. } => {
                "make the ranges mirror each other: local here is remote there, and the other way round".into()
            }
            Self::TransportModeAsked { .. } => "set tunnel mode at the peer".into(),
            Self::UnknownPeer { received, expected, .. } => {
                format!("if that was the peer, set its identity here to {received}, or make it send {expected}")
            }
            Self::VersionMismatch { theirs, .. } => {
                format!("choose IKE version {theirs} here, or change it at the peer")
            }
        }
    }

    /// The sentence and the fix.
    pub fn explanation(&self) -> String {
        let fix = self.fix();
        if fix.is_empty() {
            self.sentence()
        } else {
            format!("{}: {fix}", self.sentence())
        }
    }

    /// Our value of the field, in words; empty if there is none to show.
    pub fn ours(&self) -> String {
        match self {
            Self::GroupDemanded { ours, .. }
            | Self::PfsMismatch { ours, .. }
            | Self::PfsUnverified { ours }
            | Self::SelectorsRefused { ours, .. } => ours.clone(),
            Self::IdentityMismatch { expected, .. }
            | Self::MethodMismatch { expected, .. }
            | Self::UnknownPeer { expected, .. } => expected.clone(),
            Self::AuthenticationRefusedByPeer { identity, .. } => identity.clone(),
            Self::NoAnswer { peer, tries, .. } => format!("sent {tries} times to {peer}"),
            Self::LifetimeSkew { ours, .. } => format!("{} s", ours.as_secs()),
            Self::NoProposalInCommon { ours, theirs, .. } => theirs
                .as_ref()
                .and_then(|theirs| theirs.nearest.as_ref())
                .map_or_else(|| ours.clone(), |nearest| nearest.ours.clone()),
            Self::SelectorsNarrowed { left_out, .. } => selector::describe(left_out),
            Self::VersionMismatch { ours, .. } => ours.to_string(),
            Self::GroupAccepted { refused, .. } => refused.clone(),
            Self::ProposalOrGroupRefused { proposals, groups } => format!("{proposals}; PFS {groups}"),
            Self::AddressUnknown { .. }
            | Self::CertificateRefused { .. }
            | Self::FragmentsLost { .. }
            | Self::KeyDoubted { .. }
            | Self::KeyMismatch { .. }
            | Self::NatFound { .. }
            | Self::ObsoleteAlgorithm { .. }
            | Self::Other { .. }
            | Self::PortUnanswered { .. }
            | Self::TransportModeAsked { .. } => String::new(),
        }
    }

    /// The peer's value of the field, in words; empty if it did not tell.
    pub fn theirs(&self) -> String {
        match self {
            Self::GroupAccepted { accepted, .. } => accepted.clone(),
            Self::GroupDemanded { theirs, .. } => theirs.clone(),
            Self::IdentityMismatch { received, .. }
            | Self::MethodMismatch { received, .. }
            | Self::UnknownPeer { received, .. } => received.clone(),
            Self::LifetimeSkew { theirs, .. } => format!("{} s", theirs.as_secs()),
            Self::NoProposalInCommon { theirs, .. } => theirs.as_ref().map_or_else(String::new, |theirs| {
                theirs
                    .nearest
                    .as_ref()
                    .map_or_else(|| theirs.offered.clone(), |nearest| nearest.theirs.clone())
            }),
            Self::PfsMismatch { theirs, .. } | Self::SelectorsRefused { theirs, .. } => {
                theirs.clone().unwrap_or_default()
            }
            Self::SelectorsNarrowed { carried, .. } => selector::describe(carried),
            Self::VersionMismatch { theirs, .. } => theirs.to_string(),
            Self::CertificateRefused { subject, .. } => subject.clone(),
            Self::TransportModeAsked { .. } => "transport".into(),
            Self::AddressUnknown { .. }
            | Self::AuthenticationRefusedByPeer { .. }
            | Self::FragmentsLost { .. }
            | Self::KeyDoubted { .. }
            | Self::KeyMismatch { .. }
            | Self::NatFound { .. }
            | Self::NoAnswer { .. }
            | Self::ObsoleteAlgorithm { .. }
            | Self::Other { .. }
            | Self::PfsUnverified { .. }
            | Self::PortUnanswered { .. }
            | Self::ProposalOrGroupRefused { .. } => String::new(),
        }
    }
}

impl CertificateFault {
    const fn words(self) -> &'static str {
        match self {
            Self::Constrained => "has names that an authority above it forbids",
            Self::Expired => "has expired, or a clock is wrong",
            Self::Invalid => "cannot be used",
            Self::Missing => "was not sent",
            Self::NotYetValid => "is not valid yet, or a clock is wrong",
            Self::OtherKey => "does not fit its proof",
            Self::Purpose => "is for another use",
            Self::RevocationListMissing => "may be revoked: there is no revocation list for it",
            Self::RevocationListStale => "may be revoked: the revocation list for it is too old",
            Self::Revoked => "was revoked",
            Self::UnknownIssuer => "comes from none of our authorities",
            Self::UnsupportedExtension => "has a critical extension that is not supported",
            Self::Weak => "has too weak a key or signature",
            Self::WrongName => "is for another name",
        }
    }

    const fn fix(self) -> &'static str {
        match self {
            Self::Expired | Self::NotYetValid => {
                "compare the clocks of both ends, then have the certificate renewed"
            }
            Self::Constrained
            | Self::Invalid
            | Self::Purpose
            | Self::Revoked
            | Self::UnsupportedExtension
            | Self::Weak => "have a new certificate made for the peer",
            Self::Missing => "configure a certificate at the peer and have it sent always",
            Self::OtherKey => "compare certificate and private key at the peer",
            Self::RevocationListMissing | Self::RevocationListStale => {
                "give the authority's latest revocation list here"
            }
            Self::UnknownIssuer => "add the peer's authority here, or have the peer send its whole chain",
            Self::WrongName => {
                "have a certificate made for the peer's identity, or change the identity expected here"
            }
        }
    }
}

// Without what changes from try to try: the sentence is part of the state.
fn no_answer(peer: &std::net::SocketAddr, to: &Unanswered) -> String {
    match to {
        Unanswered::Authentication { bytes } => format!(
            "{} answered the first message but not the authentication message ({bytes} bytes to UDP port {})",
            peer.ip(),
            peer.port()
        ),
        Unanswered::FirstMessage => format!("no answer from {} to the first message", peer.ip()),
        Unanswered::Request { silence } => format!(
            "the peer at {} gave no sign for {} s and no answer to our requests",
            peer.ip(),
            silence.as_secs()
        ),
    }
}

fn no_proposal(layer: Layer, ours: &str, theirs: Option<&Theirs>) -> String {
    match theirs {
        None => format!("the peer accepts none of our {layer} proposals: {ours}"),
        Some(Theirs {
            offered,
            nearest: None,
        }) => {
            format!("no {layer} proposal in common: the peer has {offered}; accepted here: {ours}")
        }
        Some(Theirs {
            offered,
            nearest: Some(nearest),
        }) => format!(
            "no {layer} proposal in common: the peer has {offered}; accepted here: {ours}; the nearest pair, {} there \
             and {} here, differs in {}",
            nearest.theirs,
            nearest.ours,
            nearest.fields.join(", ")
        ),
    }
}

fn pfs_mismatch(ours: &str, theirs: Option<&str>) -> String {
    match theirs {
        Some(theirs) => format!(
            "perfect forward secrecy (PFS) differs: the peer has {theirs}, we have {ours}; the Child SA cannot be replaced \
             when it gets old"
        ),
        None => format!(
            "the peer accepted our ESP algorithms before and refuses them together with our PFS setting ({ours}); the Child SA \
             cannot be replaced when it gets old"
        ),
    }
}

fn fix_proposal(layer: Layer, theirs: Option<&Theirs>) -> String {
    match (layer, theirs) {
        (_, Some(Theirs { nearest: Some(nearest), .. })) => format!(
            "make {} equal at both ends, such as {} here",
            nearest.fields.join(", "),
            nearest.theirs
        ),
        (Layer::Ike, None) => {
            "make the IKE policies of both ends equal; a peer that expects another IKE version or does not know our \
             address may answer the same"
                .into()
        }
        (Layer::Esp, _) => "make the IPsec policies and their PFS groups equal at both ends".into(),
        (Layer::Ike, Some(_)) => "make the IKE policies of both ends equal".into(),
    }
}

fn selectors_refused(by: End, end: Option<End>, ours: &str, theirs: Option<&str>) -> String {
    let side = match end {
        Some(End::Ours) => " on our side",
        Some(End::Peers) => " on the peer's side",
        None => "",
    };
    match (by, theirs) {
        (_, Some(theirs)) => format!(
            "the address ranges{side} do not mirror each other: the peer has {theirs}; configured here is {ours}"
        ),
        (End::Peers, None) => format!("the peer refused our address ranges: {ours}"),
        (End::Ours, None) => format!("the peer asked for address ranges that do not overlap ours: {ours}"),
    }
}

impl std::fmt::Display for Layer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Esp => "ESP",
            Self::Ike => "IKE",
        })
    }
}

impl std::fmt::Display for Severity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Ours => "us",
            Self::Peers => "the peer",
        })
    }
}

impl EventKind {
    /// A stable word for programs.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::ChildDeleted { .. } => "child_deleted",
            Self::ChildInstalled { .. } => "child_installed",
            Self::Found { .. } => "found",
            Self::IkeDeleted { .. } => "ike_deleted",
            Self::IkeEstablished { .. } => "ike_established",
            Self::IkeReplaced { .. } => "ike_replaced",
            Self::NegotiationStarted { .. } => "negotiation_started",
            Self::PeerMoved { .. } => "peer_moved",
            Self::Reset => "reset",
        }
    }
}

impl std::fmt::Display for EventKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ChildDeleted { by, spi } => write!(f, "child SA {spi:#010x} deleted by {by}"),
            Self::ChildInstalled { by, spi, suite } => {
                write!(f, "child SA {spi:#010x} ({suite}) installed, asked for by {by}")
            }
            Self::Found { sentence, .. } => f.write_str(sentence),
            Self::IkeDeleted { by } => write!(f, "IKE SA deleted by {by}"),
            Self::IkeEstablished { by, peer, suite } => {
                write!(f, "IKE SA with {peer} ({suite}) established, begun by {by}")
            }
            Self::IkeReplaced { by, suite } => write!(f, "IKE SA replaced ({suite}), begun by {by}"),
            Self::NegotiationStarted { peer } => write!(f, "negotiation with {peer} started by us"),
            Self::PeerMoved { to } => write!(f, "the peer moved to {to}"),
            Self::Reset => f.write_str("reset on request: all SAs are deleted and negotiated anew"),
        }
    }
}
