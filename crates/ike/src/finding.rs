//! What is wrong, or worth knowing, about a connection: typed evidence, and what follows from it for an operator.
//!
//! A [`FindingKind`] holds only what was seen. Its sentence never says more than that; where one sight has several
//! explanations, [`FindingKind::suspects`] lists them, the most probable first.

mod words;

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use isthmus_types::VpnConnectionId;

use crate::nearest::Nearest;
use crate::selector::Selector;
use crate::status::DownReason;

/// A finding and when it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was found.
    pub kind: FindingKind,
    /// When it was seen first.
    pub first_at: Instant,
    /// When it was seen last.
    pub last_at: Instant,
    /// How often it was seen.
    pub times: u32,
}

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Good to know.
    Info,
    /// It works, but not as it should.
    Warning,
    /// It does not work, or soon will not.
    Error,
}

/// One of the two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum End {
    /// This one.
    Ours,
    /// The other one.
    Peers,
}

/// What kind of SA a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layer {
    /// The Child SA.
    Esp,
    /// The IKE SA.
    Ike,
}

/// What a peer left without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// The message that proves who we are, after the peer answered the first one.
    Authentication {
        /// Its length, bytes.
        bytes: usize,
    },
    /// The first message of a negotiation.
    FirstMessage,
    /// A request on an IKE SA that worked.
    Request {
        /// How long the peer has given no sign.
        silence: Duration,
    },
}

/// What is wrong with a certificate of the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateFault {
    /// An authority above it does not allow its names.
    Constrained,
    /// Its time is over, or a clock is wrong.
    Expired,
    /// It cannot be read, or its chain is broken.
    Invalid,
    /// None was sent.
    Missing,
    /// Its time has not come, or a clock is wrong.
    NotYetValid,
    /// The peer's proof is not that of its key.
    OtherKey,
    /// It says itself that it is for something else.
    Purpose,
    /// There is no list that says whether it was revoked, and one is required.
    RevocationListMissing,
    /// The list that says whether it was revoked is too old, and one in force is required.
    RevocationListStale,
    /// Its authority took it back.
    Revoked,
    /// None of our authorities made it.
    UnknownIssuer,
    /// It has a critical extension that we do not know.
    UnsupportedExtension,
    /// Its key or signature is too weak.
    Weak,
    /// It is for another name.
    WrongName,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FindingKind {
    /// The name of the peer has no address.
    AddressUnknown {
        /// The name.
        name: String,
    },
    /// The peer refused our proof of who we are, without saying why.
    AuthenticationRefusedByPeer {
        /// The identity that we presented.
        identity: String,
        /// The identity that we asked for; none if we left it open.
        asked: Option<String>,
        /// What may be the cause, the most probable first: fields as of [`FindingKind::field`].
        suspects: Vec<&'static str>,
    },
    /// The peer's certificate is not accepted.
    CertificateRefused {
        /// Whose certificate it is, as it says itself.
        subject: String,
        /// What is wrong with it.
        fault: CertificateFault,
        /// More about it.
        detail: String,
    },
    /// A message with large packets got no answer where a small one did.
    FragmentsLost {
        /// The peer.
        peer: SocketAddr,
        /// Bytes of the message that got no answer.
        bytes: usize,
    },
    /// The peer refused our ESP proposals with one setting of perfect forward secrecy and accepted them with another one of ours.
    GroupAccepted {
        /// What it refused, in words.
        refused: String,
        /// What it accepted, in words.
        accepted: String,
    },
    /// The peer demands a key exchange in a group that we do not have in our proposals.
    GroupDemanded {
        /// Where.
        layer: Layer,
        /// The group, in words.
        theirs: String,
        /// Our groups, in words.
        ours: String,
    },
    /// An identity is another one than expected.
    IdentityMismatch {
        /// Whose identity it is.
        end: End,
        /// What the peer sent.
        received: String,
        /// What is configured here.
        expected: String,
    },
    /// What the peer sends cannot be decrypted or proves nothing: in IKEv1 another pre-shared key looks so.
    KeyDoubted {
        /// The peer.
        peer: SocketAddr,
        /// What was seen.
        sign: String,
    },
    /// The peer proved another pre-shared key than ours.
    KeyMismatch {
        /// The identity that the peer presented.
        identity: String,
    },
    /// The peer replaces or deletes SAs long before we would.
    LifetimeSkew {
        /// Which SAs.
        layer: Layer,
        /// Age at which it did so last.
        theirs: Duration,
        /// Our lifetime.
        ours: Duration,
    },
    /// The peer proves itself in a way that is not ours.
    MethodMismatch {
        /// What the peer used.
        received: String,
        /// What is configured here.
        expected: String,
    },
    /// There is address translation on the way.
    NatFound {
        /// Before us.
        ours: bool,
        /// Before the peer.
        theirs: bool,
    },
    /// The peer gives no answer.
    NoAnswer {
        /// Where to we sent.
        peer: SocketAddr,
        /// What we sent.
        to: Unanswered,
        /// How often we sent it.
        tries: u32,
    },
    /// The proposals of the ends have nothing in common.
    NoProposalInCommon {
        /// Which proposals.
        layer: Layer,
        /// Ours, in words.
        ours: String,
        /// Theirs, if the peer told them.
        theirs: Option<Theirs>,
    },
    /// An algorithm in use is obsolete.
    ObsoleteAlgorithm {
        /// Where.
        layer: Layer,
        /// The algorithms.
        algorithms: Vec<String>,
    },
    /// Something else.
    Other {
        /// What it means for the state.
        reason: DownReason,
        /// What was seen.
        detail: String,
    },
    /// The ends differ in perfect forward secrecy: Child SAs cannot be replaced.
    PfsMismatch {
        /// Our groups, in words.
        ours: String,
        /// The peer's, in words, if it told.
        theirs: Option<String>,
    },
    /// The first Child SA had no key exchange of its own, so nothing shows yet whether the groups suit each other.
    PfsUnverified {
        /// Our groups, in words.
        ours: String,
    },
    /// The peer did not answer on UDP port 500 but does on 4500.
    PortUnanswered {
        /// The peer.
        peer: IpAddr,
    },
    /// Some of the address ranges are not carried.
    SelectorsNarrowed {
        /// On whose side the ranges are.
        end: End,
        /// Configured here, and not carried.
        left_out: Vec<Selector>,
        /// What is carried on this side.
        carried: Vec<Selector>,
    },
    /// The peer refused a Child SA for its algorithms or for its setting of perfect forward secrecy, and does not say for which: in
    /// IKEv1 the answer is the same.
    ProposalOrGroupRefused {
        /// Our algorithms, in words.
        proposals: String,
        /// Our settings of perfect forward secrecy, in words.
        groups: String,
    },
    /// The address ranges do not overlap.
    SelectorsRefused {
        /// Who refused.
        by: End,
        /// On whose side the ranges differ, if the peer told its own.
        end: Option<End>,
        /// Ours, in words.
        ours: String,
        /// Theirs, in words, if the peer told.
        theirs: Option<String>,
    },
    /// The peer asks for transport mode, which does not join networks.
    TransportModeAsked {
        /// Whether it also asks for ranges that are not ours, as such a peer does.
        refused: bool,
    },
    /// Somebody came whose identity is not that of the peer, which may be anywhere: the peer, or anybody.
    UnknownPeer {
        /// Where from.
        from: IpAddr,
        /// What it calls itself.
        received: String,
        /// The peer's identity, as it is configured here.
        expected: String,
    },
    /// The peer speaks another IKE version.
    VersionMismatch {
        /// The version that it speaks.
        theirs: u8,
        /// The version configured here.
        ours: u8,
    },
}

/// Proposals of the peer, and how they differ from ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Theirs {
    /// All of them, in words.
    pub offered: String,
    /// The two proposals that differ least; none if the peer sent no proposal.
    pub nearest: Option<Nearest>,
}

/// Something that happened to a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionEvent {
    /// When, the last time.
    pub at: Instant,
    /// How often in a row.
    pub times: u32,
    /// What.
    pub kind: EventKind,
}

/// What happened to a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A Child SA was deleted.
    ChildDeleted {
        /// By whom.
        by: End,
        /// Our inbound SPI.
        spi: u32,
    },
    /// A Child SA was installed.
    ChildInstalled {
        /// Who asked for it.
        by: End,
        /// Our inbound SPI.
        spi: u32,
        /// Its algorithms.
        suite: String,
    },
    /// Something was found for the first time.
    Found {
        /// Its sentence.
        sentence: String,
        /// How much it matters.
        severity: Severity,
    },
    /// The IKE SA was deleted.
    IkeDeleted {
        /// By whom.
        by: End,
    },
    /// An IKE SA is up.
    IkeEstablished {
        /// Who began.
        by: End,
        /// Where the peer is.
        peer: SocketAddr,
        /// Its algorithms.
        suite: String,
    },
    /// An IKE SA was replaced by a new one.
    IkeReplaced {
        /// Who began.
        by: End,
        /// Its algorithms.
        suite: String,
    },
    /// We begin a negotiation.
    NegotiationStarted {
        /// Where to.
        peer: SocketAddr,
    },
    /// The outer address of the peer changed.
    PeerMoved {
        /// Where to.
        to: SocketAddr,
    },
    /// Our operator asked for all SAs to be deleted and negotiated anew.
    Reset,
}

/// An event of a connection, for a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The connection.
    pub connection: VpnConnectionId,
    /// What happened.
    pub kind: EventKind,
}

impl FindingKind {
    /// A stable word for programs.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::AddressUnknown { .. } => "address_unknown",
            Self::AuthenticationRefusedByPeer { .. } => "authentication_refused_by_peer",
            Self::CertificateRefused { .. } => "certificate_refused",
            Self::FragmentsLost { .. } => "fragments_lost",
            Self::GroupAccepted { .. } => "group_accepted",
            Self::GroupDemanded { .. } => "group_demanded",
            Self::IdentityMismatch { .. } => "identity_mismatch",
            Self::KeyDoubted { .. } => "key_doubted",
            Self::KeyMismatch { .. } => "key_mismatch",
            Self::LifetimeSkew { .. } => "lifetime_skew",
            Self::MethodMismatch { .. } => "method_mismatch",
            Self::NatFound { .. } => "nat_found",
            Self::NoAnswer { .. } => "no_answer",
            Self::NoProposalInCommon { .. } => "no_proposal_in_common",
            Self::ObsoleteAlgorithm { .. } => "obsolete_algorithm",
            Self::Other { .. } => "other",
            Self::PfsMismatch { .. } => "pfs_mismatch",
            Self::PfsUnverified { .. } => "pfs_unverified",
            Self::PortUnanswered { .. } => "port_unanswered",
            Self::ProposalOrGroupRefused { .. } => "proposal_or_group_refused",
            Self::SelectorsNarrowed { .. } => "selectors_narrowed",
            Self::SelectorsRefused { .. } => "selectors_refused",
            Self::TransportModeAsked { .. } => "transport_mode_asked",
            Self::UnknownPeer { .. } => "unknown_peer",
            Self::VersionMismatch { .. } => "version_mismatch",
        }
    }

    /// How much it matters.
    pub const fn severity(&self) -> Severity {
        match self {
            Self::AddressUnknown { .. }
            | Self::AuthenticationRefusedByPeer { .. }
            | Self::CertificateRefused { .. }
            | Self::FragmentsLost { .. }
            | Self::GroupDemanded { .. }
            | Self::IdentityMismatch { .. }
            | Self::KeyDoubted { .. }
            | Self::KeyMismatch { .. }
            | Self::MethodMismatch { .. }
            | Self::NoAnswer { .. }
            | Self::NoProposalInCommon { .. }
            | Self::PfsMismatch { .. }
            | Self::ProposalOrGroupRefused { .. }
            | Self::SelectorsRefused { .. }
            | Self::VersionMismatch { .. } => Severity::Error,
            Self::LifetimeSkew { .. }
            | Self::ObsoleteAlgorithm { .. }
            | Self::PortUnanswered { .. }
            | Self::SelectorsNarrowed { .. }
            | Self::UnknownPeer { .. } => Severity::Warning,
            Self::TransportModeAsked { refused: true } => Severity::Error,
            Self::TransportModeAsked { refused: false } => Severity::Warning,
            Self::GroupAccepted { .. } | Self::NatFound { .. } | Self::PfsUnverified { .. } => Severity::Info,
            Self::Other { reason, .. } => match reason {
                DownReason::AwaitingPeer | DownReason::Negotiating => Severity::Info,
                DownReason::AuthenticationFailed
                | DownReason::IkeProposalMismatch
                | DownReason::Internal
                | DownReason::IpsecProposalMismatch
                | DownReason::PeerNotResponding
                | DownReason::SelectorMismatch => Severity::Error,
            },
        }
    }

    /// What to look at, as a stable word: the most probable cause.
    pub fn field(&self) -> &'static str {
        match self {
            Self::AddressUnknown { .. } => "peer_address",
            Self::AuthenticationRefusedByPeer { suspects, .. } => suspects.first().copied().unwrap_or("psk"),
            Self::CertificateRefused { fault, .. } => fault.field(),
            Self::FragmentsLost { .. } => "mtu",
            Self::GroupDemanded { layer, .. } => match layer {
                Layer::Esp => "esp.pfs",
                Layer::Ike => "ike.dh",
            },
            Self::IdentityMismatch { end, .. } => match end {
                End::Ours => "local_identity",
                End::Peers => "peer_identity",
            },
            Self::KeyDoubted { .. } | Self::KeyMismatch { .. } => "psk",
            Self::UnknownPeer { .. } => "peer_identity",
            Self::LifetimeSkew { layer, .. } => match layer {
                Layer::Esp => "esp.lifetime",
                Layer::Ike => "ike.lifetime",
            },
            Self::MethodMismatch { .. } => "auth_method",
            Self::NatFound { .. } => "nat",
            Self::NoAnswer { to, peer, .. } => match to {
                Unanswered::Authentication { .. } if peer.port() == crate::endpoint::NAT_PORT => "udp_4500",
                Unanswered::Authentication { .. } | Unanswered::FirstMessage | Unanswered::Request { .. } => {
                    "peer_address"
                }
            },
            Self::NoProposalInCommon { layer, theirs, .. } => theirs
                .as_ref()
                .and_then(|theirs| theirs.nearest.as_ref())
                .and_then(|nearest| nearest.fields.first().copied())
                .unwrap_or(match layer {
                    Layer::Esp => "esp.proposals",
                    Layer::Ike => "ike.proposals",
                }),
            Self::ObsoleteAlgorithm { layer, .. } => match layer {
                Layer::Esp => "esp.proposals",
                Layer::Ike => "ike.proposals",
            },
            Self::Other { reason, .. } => match reason {
                DownReason::AuthenticationFailed => "psk",
                DownReason::IkeProposalMismatch => "ike.proposals",
                DownReason::AwaitingPeer | DownReason::Internal | DownReason::Negotiating => "none",
                DownReason::IpsecProposalMismatch => "esp.proposals",
                DownReason::PeerNotResponding => "peer_address",
                DownReason::SelectorMismatch => "cidrs",
            },
            Self::GroupAccepted { .. } | Self::PfsMismatch { .. } | Self::PfsUnverified { .. } => "esp.pfs",
            Self::ProposalOrGroupRefused { .. } => "esp.proposals",
            Self::PortUnanswered { .. } => "udp_500",
            Self::SelectorsNarrowed { end, .. } => cidrs(Some(*end)),
            Self::SelectorsRefused { end, .. } => cidrs(*end),
            Self::TransportModeAsked { .. } => "esp.mode",
            Self::VersionMismatch { .. } => "ike_version",
        }
    }

    /// Everything that may be the cause, the most probable first.
    pub fn suspects(&self) -> Vec<&'static str> {
        match self {
            Self::AuthenticationRefusedByPeer { suspects, .. } => suspects.clone(),
            Self::NoAnswer {
                to: Unanswered::FirstMessage,
                ..
            } => vec!["peer_address", "udp_500"],
            Self::NoProposalInCommon {
                layer: Layer::Ike,
                theirs: None,
                ..
            } => vec!["ike.proposals", "ike_version", "peer_address"],
            Self::NoProposalInCommon {
                theirs: Some(theirs), ..
            } => theirs
                .nearest
                .as_ref()
                .map_or_else(|| vec![self.field()], |nearest| nearest.fields.clone()),
            Self::ProposalOrGroupRefused { .. } => vec!["esp.proposals", "esp.pfs"],
            Self::SelectorsRefused { end: None, .. } => vec!["cidrs", "local_cidrs", "peer_cidrs"],
            Self::AddressUnknown { .. }
            | Self::CertificateRefused { .. }
            | Self::FragmentsLost { .. }
            | Self::GroupAccepted { .. }
            | Self::GroupDemanded { .. }
            | Self::IdentityMismatch { .. }
            | Self::KeyDoubted { .. }
            | Self::KeyMismatch { .. }
            | Self::LifetimeSkew { .. }
            | Self::MethodMismatch { .. }
            | Self::NatFound { .. }
            | Self::NoAnswer { .. }
            | Self::NoProposalInCommon { .. }
            | Self::ObsoleteAlgorithm { .. }
            | Self::Other { .. }
            | Self::PfsMismatch { .. }
            | Self::PfsUnverified { .. }
            | Self::PortUnanswered { .. }
            | Self::SelectorsNarrowed { .. }
            | Self::SelectorsRefused { .. }
            | Self::TransportModeAsked { .. }
            | Self::UnknownPeer { .. }
            | Self::VersionMismatch { .. } => vec![self.field()],
        }
    }

    /// What it means for the state of a connection that is down.
    pub const fn reason(&self) -> DownReason {
        match self {
            Self::AddressUnknown { .. } | Self::FragmentsLost { .. } | Self::NoAnswer { .. } => {
                DownReason::PeerNotResponding
            }
            Self::AuthenticationRefusedByPeer { .. }
            | Self::CertificateRefused { .. }
            | Self::IdentityMismatch { .. }
            | Self::KeyDoubted { .. }
            | Self::KeyMismatch { .. }
            | Self::MethodMismatch { .. } => DownReason::AuthenticationFailed,
            Self::GroupDemanded { layer, .. } | Self::NoProposalInCommon { layer, .. } => match layer {
                Layer::Esp => DownReason::IpsecProposalMismatch,
                Layer::Ike => DownReason::IkeProposalMismatch,
            },
            Self::PfsMismatch { .. } | Self::ProposalOrGroupRefused { .. } => {
                DownReason::IpsecProposalMismatch
            }
            Self::VersionMismatch { .. } => DownReason::IkeProposalMismatch,
            Self::SelectorsRefused { .. } | Self::TransportModeAsked { .. } => DownReason::SelectorMismatch,
            Self::GroupAccepted { .. }
            | Self::LifetimeSkew { .. }
            | Self::NatFound { .. }
            | Self::ObsoleteAlgorithm { .. }
            | Self::PfsUnverified { .. }
            | Self::PortUnanswered { .. }
            | Self::SelectorsNarrowed { .. } => DownReason::Negotiating,
            Self::UnknownPeer { .. } => DownReason::AwaitingPeer,
            Self::Other { reason, .. } => *reason,
        }
    }

    /// How sure it is, among findings of the same severity: the surest one leads.
    pub(crate) const fn certainty(&self) -> u8 {
        let is_guess = matches!(
            self,
            Self::AuthenticationRefusedByPeer { .. }
                | Self::Other { .. }
                | Self::NoProposalInCommon { theirs: None, .. }
                | Self::ProposalOrGroupRefused { .. }
                | Self::SelectorsRefused { theirs: None, .. }
        );
        if matches!(self, Self::NoAnswer { .. }) {
            0
        } else if is_guess {
            1
        } else if matches!(self, Self::TransportModeAsked { .. }) {
            // It explains the ranges too.
            3
        } else {
            2
        }
    }

    /// Whether it doubts the proof of the peer, which our own check of a proof can disprove.
    pub(crate) const fn doubts_peer(&self) -> bool {
        matches!(
            self,
            Self::CertificateRefused { .. }
                | Self::IdentityMismatch { end: End::Peers, .. }
                | Self::KeyDoubted { .. }
                | Self::KeyMismatch { .. }
                | Self::MethodMismatch { .. }
        )
    }

    /// Whether it tells of the same as `other`, so that the newer takes the older one's place.
    pub(crate) fn replaces(&self, other: &Self) -> bool {
        self.code() == other.code()
            && (self.field() == other.field() || matches!(self, Self::NoAnswer { .. } | Self::Other { .. }))
    }
}

impl CertificateFault {
    const fn field(self) -> &'static str {
        match self {
            Self::Expired | Self::NotYetValid => "certificate.validity",
            Self::Invalid | Self::Missing => "certificate",
            Self::OtherKey => "certificate.private_key",
            Self::Purpose => "certificate.usage",
            Self::Revoked => "certificate.revocation",
            Self::RevocationListMissing | Self::RevocationListStale => "certificate.revocation_lists",
            Self::UnsupportedExtension => "certificate.extension",
            Self::UnknownIssuer => "certificate.issuer",
            Self::Weak => "certificate.strength",
            Self::Constrained | Self::WrongName => "certificate.name",
        }
    }
}

const fn cidrs(end: Option<End>) -> &'static str {
    match end {
        Some(End::Ours) => "local_cidrs",
        Some(End::Peers) => "peer_cidrs",
        None => "cidrs",
    }
}
