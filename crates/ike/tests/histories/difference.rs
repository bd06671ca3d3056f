//! Differences between the ends that keep the tunnel down, and what the ends must say about them.

use isthmus_ike::{
    ConnectionConfig, ConnectionState, ConnectionStatus, DownReason, FindingKind, IkeIdentity, Layer,
    Severity, Unanswered,
};

use isthmus_simnet::Side;
use isthmus_types::{Encryption, IkeVersion, Secret};

/// One seed of so many has a difference.
const SHARE: u64 = 8;

/// What is wrong at one of the ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What.
    pub field: Field,
    /// At which end.
    pub wrong: Side,
    version: IkeVersion,
}

/// A field that must suit the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    EspProposals,
    Identity,
    IkeProposals,
    Key,
    Ranges,
}

const FIELDS: [Field; 5] = [
    Field::EspProposals,
    Field::Identity,
    Field::IkeProposals,
    Field::Key,
    Field::Ranges,
];

impl Difference {
    /// That of the history with this seed, if it has one.
    pub fn of(seed: u64, version: IkeVersion) -> Option<Self> {
        if seed % SHARE != SHARE - 1 {
            return None;
        }
        let turn = usize::try_from(seed / SHARE).unwrap_or(0);
        Some(Self {
            field: FIELDS[turn % FIELDS.len()],
            wrong: if (turn / FIELDS.len()).is_multiple_of(2) {
                Side::Left
            } else {
                Side::Right
            },
            version,
        })
    }

    /// Makes the configuration of the wrong end wrong.
    pub fn spoil(self, side: Side, config: &mut ConnectionConfig) {
        if side != self.wrong {
            return;
        }
        match self.field {
            Field::EspProposals => config.esp_proposals[0].encryption = vec![Encryption::Aes256Gcm16],
            Field::Identity => config.local_identity = IkeIdentity::Fqdn("somebody.example".into()),
            Field::IkeProposals => {
                config.ike_proposals[0].encryption = vec![match config.version {
                    IkeVersion::V1 => Encryption::Aes128Cbc,
                    IkeVersion::V2 => Encryption::Aes256Gcm16,
                }];
            }
            Field::Key => config.psk = Secret::new("wrong".into()),
            Field::Ranges => config.local_cidrs = vec!["172.16.0.0/16".parse().expect("a constant range")],
        }
    }

    /// Whether an end may hold a child for a moment. Who is refused asks once what the peer would accept, or whom it is,
    /// and deletes what the peer installs for that.
    pub fn allows_child(self, side: Side) -> bool {
        match self.field {
            Field::EspProposals => true,
            Field::Identity => side == self.wrong,
            Field::IkeProposals | Field::Key | Field::Ranges => false,
        }
    }

    /// What is missing or wrong in what an end says, when the ends have had time to talk.
    pub fn untold_by(self, side: Side, status: &ConnectionStatus) -> Option<String> {
        if self.version == IkeVersion::V1 && self.field == Field::Identity && side == self.wrong {
            // Who answers in version 1 proves itself last, and is refused in clear: it cannot know.
            return (status.state == ConnectionState::Up).then(|| "is up".into());
        }
        let reason = match self.field {
            Field::EspProposals => DownReason::IpsecProposalMismatch,
            Field::Identity | Field::Key => DownReason::AuthenticationFailed,
            Field::IkeProposals => DownReason::IkeProposalMismatch,
            Field::Ranges => DownReason::SelectorMismatch,
        };
        match &status.state {
            ConnectionState::Down { reason: told, .. } if *told == reason => {}
            other @ (ConnectionState::AdminDown | ConnectionState::Down { .. } | ConnectionState::Up) => {
                return Some(format!("says {other:?}, not {reason:?}"));
            }
        }
        let errors = || {
            let kinds = status.findings.iter().map(|finding| &finding.kind);
            kinds.filter(|kind| kind.severity() == Severity::Error)
        };
        if let Some(other) = errors().find(|kind| !self.explains(kind)) {
            return Some(format!("finds {other:?}"));
        }
        (errors().next().is_none()).then(|| "finds nothing".into())
    }

    /// Whether what was found names the field. Of the ends of a failed authentication only the one that refused it can.
    pub fn is_named_by(self, status: &ConnectionStatus) -> bool {
        status.findings.iter().any(|finding| match self.field {
            Field::Identity => matches!(finding.kind, FindingKind::IdentityMismatch { .. }),
            // In version 1 a wrong key shows as what cannot be read.
            Field::Key => matches!(
                finding.kind,
                FindingKind::KeyDoubted { .. } | FindingKind::KeyMismatch { .. }
            ),
            Field::EspProposals | Field::IkeProposals | Field::Ranges => self.explains(&finding.kind),
        })
    }

    fn explains(self, kind: &FindingKind) -> bool {
        // Version 1 has no answer that the end whose proof is refused could trust.
        let unheard = matches!(
            kind,
            FindingKind::NoAnswer {
                to: Unanswered::Authentication { .. },
                ..
            }
        );
        if self.version == IkeVersion::V1 && unheard {
            return matches!(self.field, Field::Identity | Field::Key);
        }
        match self.field {
            Field::EspProposals => {
                matches!(
                    kind,
                    FindingKind::NoProposalInCommon {
                        layer: Layer::Esp,
                        ..
                    } | FindingKind::ProposalOrGroupRefused { .. }
                )
            }
            Field::Identity => matches!(
                kind,
                FindingKind::AuthenticationRefusedByPeer { .. }
                    | FindingKind::IdentityMismatch { .. }
                    | FindingKind::KeyDoubted { .. }
            ),
            Field::IkeProposals => {
                matches!(
                    kind,
                    FindingKind::NoProposalInCommon {
                        layer: Layer::Ike,
                        ..
                    }
                )
            }
            Field::Key => matches!(
                kind,
                FindingKind::AuthenticationRefusedByPeer { .. }
                    | FindingKind::KeyDoubted { .. }
                    | FindingKind::KeyMismatch { .. }
            ),
            Field::Ranges => matches!(kind, FindingKind::SelectorsRefused { .. }),
        }
    }
}
