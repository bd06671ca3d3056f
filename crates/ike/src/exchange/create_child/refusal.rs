//! Why an answer gave no child, for the peer and for people.

use isthmus_wire::ike::NotifyType;

use crate::connection::Connection;
use crate::error::IkeError;
use crate::exchange::ike_auth::refusal_reason;
use crate::finding::{End, FindingKind, Layer};
use crate::host::Context;
use crate::parts::Parts;
use crate::selector::Traffic;
use crate::status::DownReason;

/// Why an answer gave no child.
pub(crate) struct ChildRefused {
    pub(crate) why: Refused,
    /// The peer believes to have a child with this inbound SPI of ours.
    pub(crate) installed_at_peer: Option<u32>,
}

/// What the answer said or had wrong.
pub(crate) enum Refused {
    ByPeer(NotifyType),
    ByUs(IkeError),
    /// Nothing is wrong with it: it only tells what the peer accepts.
    Surveyed(Box<FindingKind>),
}

/// What was asked, in words.
pub(crate) struct Asked {
    pub(super) proposals: String,
    pub(super) groups: String,
    pub(super) selectors: String,
    /// Whether the peer accepted the same algorithms before, when groups were not looked at.
    pub(super) accepted_before: bool,
    pub(super) traffic: Traffic,
    pub(super) lane: u8,
    pub(super) shares: bool,
}

impl Asked {
    /// Records what became of it.
    pub(crate) fn note_accepted(&self, connection: &mut Connection, answered: &Traffic, parts: &Parts) {
        let more_possible = parts.notify(NotifyType::ADDITIONAL_TS_POSSIBLE).is_some();
        connection.note_accepted(&self.traffic, answered, more_possible);
        if self.shares {
            connection
                .demand
                .note_lanes(parts.notify(NotifyType::SA_RESOURCE_INFO).is_some());
        }
    }
}

impl ChildRefused {
    /// Tells the connection's status, unless the child is asked for in another way next. `others_in_use` tells that
    /// there are other children.
    pub(crate) fn report(&self, context: &mut Context<'_>, asked: &Asked, others_in_use: bool) {
        if let (Refused::ByPeer(notify), Some(connection)) = (&self.why, &mut context.connection) {
            let demand = &mut connection.demand;
            if demand.note_refused(&asked.traffic, asked.lane, *notify, others_in_use, context.now) {
                return;
            }
        }
        self.report_replacement(context, asked);
    }

    /// As [`ChildRefused::report`] for a child that was to replace another one.
    pub(crate) fn report_replacement(&self, context: &mut Context<'_>, asked: &Asked) {
        let kind = match &self.why {
            Refused::ByPeer(notify) => asked.refused_with(*notify),
            Refused::ByUs(error) => FindingKind::Other {
                reason: error.down_reason(),
                detail: format!("the peer's Child SA is unusable: {error}"),
            },
            Refused::Surveyed(kind) => FindingKind::clone(kind),
        };
        if let (FindingKind::NoProposalInCommon { theirs: None, .. }, Some(connection)) =
            (&kind, &mut context.connection)
        {
            connection.tally.esp_survey.ask();
        }
        context.find(kind);
        if let Some(connection) = &mut context.connection {
            connection.child_pause.after_failure(context.host, context.now);
        }
    }
}

impl Asked {
    fn refused_with(&self, notify: NotifyType) -> FindingKind {
        match refusal_reason(notify) {
            DownReason::IpsecProposalMismatch if self.accepted_before => FindingKind::PfsMismatch {
                ours: self.groups.clone(),
                theirs: None,
            },
            DownReason::IpsecProposalMismatch => FindingKind::NoProposalInCommon {
                layer: Layer::Esp,
                ours: self.proposals.clone(),
                theirs: None,
            },
            DownReason::SelectorMismatch => FindingKind::SelectorsRefused {
                by: End::Peers,
                end: None,
                ours: self.selectors.clone(),
                theirs: None,
            },
            reason @ (DownReason::AuthenticationFailed
            | DownReason::AwaitingPeer
            | DownReason::IkeProposalMismatch
            | DownReason::Internal
            | DownReason::Negotiating
            | DownReason::PeerNotResponding) => FindingKind::Other {
                reason,
                detail: format!("the peer refused the Child SA with {notify:?}"),
            },
        }
    }
}
