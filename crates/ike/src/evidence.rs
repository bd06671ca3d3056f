//! From what was seen in an exchange to what is told about it.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use isthmus_crypto::certificate::CertificateRefusal;
use isthmus_crypto::signature::SignatureError;
use isthmus_types::{DhGroup, Encryption, IkeVersion, Integrity, Prf};
use isthmus_wire::ike::{NotifyType, Proposal, TransformType};

use crate::algorithm::{EspSuite, IkeSuite};
use crate::auth::Method;
use crate::channel::Role;
use crate::config::ConnectionConfig;
use crate::connection::Connection;
use crate::error::{AuthenticationFailure, IkeError};
use crate::finding::{CertificateFault, End, EventKind, FindingKind, Layer, Severity, Theirs, Unanswered};
use crate::host::Context;
use crate::nat::Path;
use crate::nearest::{describe_kind, nearest};
use crate::negotiate::{KeyExchange, describe, offer_esp, offer_ike};
use crate::parts::Parts;
use crate::sa::IkeSa;
use crate::selector::{self, Selector};
use crate::status::{ChildStatus, DownReason};
use crate::survey::Survey;

/// How often the peer must be early before the lifetimes are said to differ: once may be a person's wish.
const EARLY_TIMES: u8 = 2;
/// The peer is early if it acts before this part of our lifetime has passed.
const EARLY_PART: u32 = 4;
/// Messages longer than this may travel in fragments.
const FRAGMENTED_LEN: usize = 1232;

/// What counts for findings, beside the findings themselves.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Our proofs that the peer refused in a row.
    pub(crate) refusals: u32,
    /// Attempts in a row without an answer to the first message.
    pub(crate) unanswered: u32,
    /// Whether to find out what IKE proposals the peer has.
    pub(crate) ike_survey: Survey,
    /// Whether to find out what ESP proposals the peer has.
    pub(crate) esp_survey: Survey,
    early_children: u8,
    early_ikes: u8,
}

impl Role {
    /// Who began an exchange in which we have this role.
    pub(crate) const fn begun_by(self) -> End {
        match self {
            Self::Initiator => End::Ours,
            Self::Responder => End::Peers,
        }
    }
}

/// The peer's IKE proposals were refused.
pub(crate) fn no_ike_proposal(config: &ConnectionConfig, offered: &[Proposal]) -> FindingKind {
    no_proposal(Layer::Ike, &offer_ike(&config.ike_proposals, None), offered)
}

/// The peer's ESP proposals were refused.
pub(crate) fn no_esp_proposal(
    config: &ConnectionConfig,
    offered: &[Proposal],
    exchange: KeyExchange,
) -> FindingKind {
    let ours = offer_esp(
        &config.esp_proposals,
        0,
        exchange,
        config.options.extended_sequence_numbers,
    );
    let kind = no_proposal(Layer::Esp, &ours, offered);
    if kind.suspects() == ["esp.pfs"] {
        FindingKind::PfsMismatch {
            ours: describe_kind(&ours, TransformType::KE),
            theirs: Some(describe_kind(offered, TransformType::KE)),
        }
    } else {
        kind
    }
}

fn no_proposal(layer: Layer, ours: &[Proposal], offered: &[Proposal]) -> FindingKind {
    FindingKind::NoProposalInCommon {
        layer,
        ours: describe(ours),
        theirs: Some(Theirs {
            offered: describe(offered),
            nearest: nearest(layer, ours, offered),
        }),
    }
}

/// The peer's selectors were refused.
pub(crate) fn no_selectors(
    config: &ConnectionConfig,
    local: &[Selector],
    remote: &[Selector],
) -> FindingKind {
    let ours = selector::configured(&config.local_cidrs);
    let theirs = selector::configured(&config.peer_cidrs);
    let (end, asked, configured) = if selector::narrow(local, &ours).is_empty() {
        (End::Ours, local, ours)
    } else {
        (End::Peers, remote, theirs)
    };
    FindingKind::SelectorsRefused {
        by: End::Ours,
        end: Some(end),
        ours: selector::describe(&configured),
        theirs: Some(selector::describe(asked)),
    }
}

/// An authentication that failed, as evidence. `None` if it is no matter of authentication.
pub(crate) fn authentication(
    connection: &mut Connection,
    failure: &AuthenticationFailure,
    peer: Option<&str>,
) -> FindingKind {
    let open = asks_any_identity(connection);
    let refused = matches!(failure, AuthenticationFailure::ToldByPeer);
    if open || refused {
        connection.tally.refusals = connection.tally.refusals.saturating_add(1);
    }
    let config = &connection.config;
    match failure {
        AuthenticationFailure::Key => FindingKind::KeyMismatch {
            identity: peer.map_or_else(|| config.peer_identity.to_string(), str::to_owned),
        },
        AuthenticationFailure::Identity(received) => FindingKind::IdentityMismatch {
            end: End::Peers,
            received: received.clone(),
            expected: config.peer_identity.to_string(),
        },
        AuthenticationFailure::Method => FindingKind::MethodMismatch {
            received: "another method than a pre-shared key".into(),
            expected: "a pre-shared key".into(),
        },
        AuthenticationFailure::SharedKey => FindingKind::MethodMismatch {
            received: "a pre-shared key".into(),
            expected: "a certificate".into(),
        },
        AuthenticationFailure::Certificate(refusal) => FindingKind::CertificateRefused {
            subject: refusal
                .subject()
                .or(peer)
                .map_or_else(|| config.peer_identity.to_string(), str::to_owned),
            fault: fault(refusal),
            detail: refusal.detail(),
        },
        AuthenticationFailure::Signature { subject, error } => FindingKind::CertificateRefused {
            subject: subject.clone(),
            fault: match error {
                SignatureError::Bad | SignatureError::OtherKeyKind => CertificateFault::OtherKey,
                SignatureError::Weak => CertificateFault::Weak,
            },
            detail: error.to_string(),
        },
        AuthenticationFailure::OwnCredentials(why) => FindingKind::Other {
            reason: DownReason::AuthenticationFailed,
            detail: format!("this end cannot authenticate by certificate: {why}"),
        },
        AuthenticationFailure::ToldByPeer => {
            let mut suspects = match connection.method {
                Method::Certificate(_) | Method::Unusable(_) => vec!["certificate", "local_identity"],
                Method::SharedKey => vec!["psk", "local_identity"],
            };
            if connection.tally.refusals < 2 {
                suspects.push("peer_identity");
            }
            FindingKind::AuthenticationRefusedByPeer {
                identity: connection.config.local_identity.to_string(),
                asked: (!open).then(|| connection.config.peer_identity.to_string()),
                suspects,
            }
        }
    }
}

const fn fault(refusal: &CertificateRefusal) -> CertificateFault {
    match refusal {
        CertificateRefusal::BadSignature { .. } => CertificateFault::UnknownIssuer,
        CertificateRefusal::Malformed | CertificateRefusal::TooLong { .. } => CertificateFault::Invalid,
        CertificateRefusal::Expired { .. } => CertificateFault::Expired,
        CertificateRefusal::NameConstraint { .. } => CertificateFault::Constrained,
        CertificateRefusal::None => CertificateFault::Missing,
        CertificateRefusal::NotYetValid { .. } => CertificateFault::NotYetValid,
        CertificateRefusal::Purpose { .. } => CertificateFault::Purpose,
        CertificateRefusal::Revoked { .. } => CertificateFault::Revoked,
        CertificateRefusal::RevocationListMissing { .. } => CertificateFault::RevocationListMissing,
        CertificateRefusal::RevocationListStale { .. } => CertificateFault::RevocationListStale,
        CertificateRefusal::UnknownIssuer { .. } => CertificateFault::UnknownIssuer,
        CertificateRefusal::UnsupportedExtension { .. } => CertificateFault::UnsupportedExtension,
        CertificateRefusal::Weak { .. } => CertificateFault::Weak,
        CertificateRefusal::WrongName { .. } => CertificateFault::WrongName,
    }
}

/// Whether the next attempt leaves open which identity the peer shall have: once after the first refusal. A peer that refused
/// to be the one we asked for tells its own then. It is checked as strictly as ever.
pub(crate) const fn asks_any_identity(connection: &Connection) -> bool {
    connection.tally.refusals == 1
}

/// IKE_AUTH failed. `peer` is the identity that the peer presented.
pub(crate) fn auth_failed(context: &mut Context<'_>, error: &IkeError, peer: Option<&str>) {
    let Some(connection) = &mut context.connection else {
        return;
    };
    let kind = match error {
        IkeError::Authentication(failure) => authentication(connection, failure, peer),
        IkeError::Internal(_)
        | IkeError::Malformed(_)
        | IkeError::Mismatch(_)
        | IkeError::Refused(_)
        | IkeError::Violation(_) => FindingKind::Other {
            reason: error.down_reason(),
            detail: format!("IKE_AUTH failed: {error}"),
        },
    };
    connection.suspect(kind);
}

/// The peer is authenticated.
pub(crate) fn on_established(context: &mut Context<'_>, path: &Path, suite: &IkeSuite, begun_by: Role) {
    let Some(connection) = &mut context.connection else {
        return;
    };
    let diary = &mut connection.diary;
    let begun_on_4500 = connection.tally.unanswered > 0;
    connection.tally.refusals = 0;
    connection.tally.unanswered = 0;
    // That the peer accepted our proof shows only in its own.
    let accepted = begun_by == Role::Initiator;
    diary.disprove(|kind| {
        kind.severity() == Severity::Error
            && match kind.reason() {
                DownReason::AuthenticationFailed => accepted || kind.doubts_peer(),
                DownReason::IkeProposalMismatch | DownReason::PeerNotResponding => true,
                DownReason::AwaitingPeer
                | DownReason::Internal
                | DownReason::IpsecProposalMismatch
                | DownReason::Negotiating
                | DownReason::SelectorMismatch => false,
            }
    });
    diary.disprove(|kind| {
        matches!(
            kind,
            FindingKind::NatFound { .. }
                | FindingKind::UnknownPeer { .. }
                | FindingKind::ObsoleteAlgorithm {
                    layer: Layer::Ike,
                    ..
                }
        ) || (matches!(kind, FindingKind::PortUnanswered { .. }) && !begun_on_4500)
    });
    diary.note(EventKind::IkeEstablished {
        by: begun_by.begun_by(),
        peer: path.remote,
        suite: suite.to_string(),
    });
    let (ours, theirs) = (path.nat.local, path.nat.remote);
    if ours || theirs {
        diary.find(FindingKind::NatFound { ours, theirs });
    }
    let mut algorithms = obsolete(suite.cipher.encryption(), suite.cipher.integrity());
    if matches!(suite.prf, Prf::HmacMd5 | Prf::HmacSha1) {
        algorithms.push(suite.prf.to_string());
    }
    algorithms.extend(obsolete_group(suite.dh));
    if !algorithms.is_empty() {
        diary.find(FindingKind::ObsoleteAlgorithm {
            layer: Layer::Ike,
            algorithms,
        });
    }
}

/// A Child SA is installed.
pub(crate) fn on_child(connection: &mut Connection, suite: &EspSuite, begun_by: Role, spi: u32) {
    let ours = describe_kind(
        &offer_esp(
            &connection.config.esp_proposals,
            0,
            KeyExchange::Negotiated,
            false,
        ),
        TransformType::KE,
    );
    let diary = &mut connection.diary;
    diary.note(EventKind::ChildInstalled {
        by: begun_by.begun_by(),
        spi,
        suite: suite.to_string(),
    });
    diary.disprove(|kind| {
        matches!(
            kind,
            FindingKind::ObsoleteAlgorithm {
                layer: Layer::Esp,
                ..
            }
        )
    });
    let mut algorithms = obsolete(suite.cipher.encryption(), suite.cipher.integrity());
    algorithms.extend(suite.pfs.and_then(obsolete_group));
    if !algorithms.is_empty() {
        diary.find(FindingKind::ObsoleteAlgorithm {
            layer: Layer::Esp,
            algorithms,
        });
    }
    if suite.pfs.is_none() {
        diary.find(FindingKind::PfsUnverified { ours });
    }
}

/// The peer asks for a Child SA with ESP proposals that suit: what it asked for before holds no more.
pub(crate) fn on_common_proposal(connection: &mut Connection, exchange: KeyExchange) {
    // Groups are looked at only where there is a key exchange.
    let group_too = exchange == KeyExchange::Negotiated;
    connection.diary.disprove(|kind| {
        let is_proposal = matches!(
            kind,
            FindingKind::NoProposalInCommon {
                layer: Layer::Esp,
                theirs: Some(_),
                ..
            }
        );
        let is_group = matches!(kind, FindingKind::PfsMismatch { theirs: Some(_), .. });
        is_proposal || (is_group && group_too)
    });
}

/// A Child SA was made by an exchange of its own: forward secrecy is agreed on.
pub(crate) fn on_own_exchange(connection: &mut Connection) {
    connection.diary.disprove(|kind| {
        matches!(
            kind,
            FindingKind::PfsMismatch { .. } | FindingKind::PfsUnverified { .. }
        )
    });
}

/// The peer replaced or deleted an SA of the given age.
pub(crate) fn on_peers_end(connection: &mut Connection, layer: Layer, age: Duration) {
    let (seconds, early) = match layer {
        Layer::Esp => (
            connection.config.esp_lifetime_seconds,
            &mut connection.tally.early_children,
        ),
        Layer::Ike => (
            connection.config.ike_lifetime_seconds,
            &mut connection.tally.early_ikes,
        ),
    };
    let ours = Duration::from_secs(u64::from(seconds));
    if age >= ours / EARLY_PART {
        *early = 0;
        connection.diary.disprove(
            |kind| matches!(kind, FindingKind::LifetimeSkew { layer: other, .. } if *other == layer),
        );
        return;
    }
    *early = early.saturating_add(1);
    if *early >= EARLY_TIMES {
        connection.diary.find(FindingKind::LifetimeSkew {
            layer,
            theirs: age,
            ours,
        });
    }
}

/// The peer asks for a Child SA in this mode.
pub(crate) fn mode(context: &mut Context<'_>, parts: &Parts) {
    if let Some(connection) = &mut context.connection {
        connection
            .diary
            .disprove(|kind| matches!(kind, FindingKind::TransportModeAsked { .. }));
    }
    if parts.notify(NotifyType::USE_TRANSPORT_MODE).is_some() {
        context.find(FindingKind::TransportModeAsked { refused: false });
    }
}

/// The peer speaks another version than we do.
pub(crate) fn other_version(connection: &mut Connection, theirs: u8) {
    let ours = match connection.config.version {
        IkeVersion::V1 => 1,
        IkeVersion::V2 => 2,
    };
    if connection.config.admin_up && ours != theirs {
        connection.suspect(FindingKind::VersionMismatch { theirs, ours });
    }
}

/// The peer did not answer.
pub(crate) fn no_answer(context: &mut Context<'_>, sa: &IkeSa, to: Unanswered, tries: u32) {
    let peer = sa.path.remote;
    let kind = match to {
        Unanswered::Authentication { bytes } if bytes > FRAGMENTED_LEN => {
            FindingKind::FragmentsLost { peer, bytes }
        }
        Unanswered::Authentication { .. } | Unanswered::FirstMessage | Unanswered::Request { .. } => {
            FindingKind::NoAnswer { peer, to, tries }
        }
    };
    context.find(kind);
}

/// The peer answered a protected request: both directions work, and messages of that length pass.
pub(crate) fn answered(context: &mut Context<'_>) {
    if let Some(connection) = &mut context.connection {
        connection.diary.disprove(|kind| {
            matches!(
                kind,
                FindingKind::FragmentsLost { .. } | FindingKind::NoAnswer { .. }
            )
        });
    }
}

/// The peer answered a first message: the way to it is open.
pub(crate) fn heard(context: &mut Context<'_>, peer: std::net::SocketAddr) {
    let Some(connection) = &mut context.connection else {
        return;
    };
    connection.diary.disprove(|kind| {
        matches!(
            kind,
            FindingKind::NoAnswer {
                to: Unanswered::FirstMessage,
                ..
            }
        )
    });
    if connection.tally.unanswered > 0 && peer.port() == crate::endpoint::NAT_PORT {
        let peer: IpAddr = peer.ip();
        connection.diary.find(FindingKind::PortUnanswered { peer });
    } else {
        connection.tally.unanswered = 0;
    }
}

/// The configured ranges that no child carries, each side by itself, and since when.
pub(crate) fn narrowed(
    config: &ConnectionConfig,
    children: &[ChildStatus],
) -> impl Iterator<Item = (FindingKind, Instant)> + use<> {
    let since = children.iter().map(|child| child.installed_at).max();
    let side = |end: End, configured: &[Selector], carried: Vec<Selector>| {
        let left_out = selector::without(configured, &carried);
        (!left_out.is_empty()).then_some(FindingKind::SelectorsNarrowed {
            end,
            left_out,
            carried: selector::distinct(carried),
        })
    };
    let carried =
        |of: fn(&ChildStatus) -> &Vec<Selector>| children.iter().flat_map(of).cloned().collect::<Vec<_>>();
    let found = since.map(|since| {
        [
            side(
                End::Ours,
                &selector::configured(&config.local_cidrs),
                carried(|child| &child.local_selectors),
            ),
            side(
                End::Peers,
                &selector::configured(&config.peer_cidrs),
                carried(|child| &child.remote_selectors),
            ),
        ]
        .map(|kind| kind.map(|kind| (kind, since)))
    });
    found.into_iter().flatten().flatten()
}

fn obsolete(encryption: Encryption, integrity: Option<Integrity>) -> Vec<String> {
    let mut words = Vec::new();
    if encryption == Encryption::TripleDes {
        words.push(encryption.to_string());
    }
    if let Some(integrity @ (Integrity::HmacMd5_96 | Integrity::HmacSha1_96)) = integrity {
        words.push(integrity.to_string());
    }
    words
}

fn obsolete_group(group: DhGroup) -> Option<String> {
    matches!(group, DhGroup::Modp1024 | DhGroup::Modp1536).then(|| group.to_string())
}
