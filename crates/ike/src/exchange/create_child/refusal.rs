//! Why an answer gave no child, for the peer and for people.

use isthmus_wire::ike::NotifyType;

use crate::error::IkeError;
use crate::exchange::ike_auth::refusal_reason;
use crate::host::Context;
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
}

/// What was asked, in words.
pub(crate) struct Asked {
    pub(super) proposals: String,
    pub(super) selectors: String,
}

impl ChildRefused {
    /// Tells the connection's status.
    pub(crate) fn report(&self, context: &mut Context<'_>, asked: &Asked) {
        let (reason, detail) = match &self.why {
            Refused::ByPeer(notify) => {
                let reason = refusal_reason(*notify);
                let detail = match reason {
                    DownReason::IpsecProposalMismatch => format!(
                        "the peer accepts none of our ESP proposals: {}. Make the IPsec policies and their PFS \
                         groups equal",
                        asked.proposals
                    ),
                    DownReason::SelectorMismatch => format!(
                        "the peer refused our address ranges: {}. They must mirror each other",
                        asked.selectors
                    ),
                    DownReason::AuthenticationFailed
                    | DownReason::IkeProposalMismatch
                    | DownReason::Internal
                    | DownReason::Negotiating
                    | DownReason::PeerNotResponding => {
                        format!("the peer refused the Child SA with {notify:?}")
                    }
                };
                (reason, detail)
            }
            Refused::ByUs(error) => (
                error.down_reason(),
                format!("the peer's Child SA is unusable: {error}"),
            ),
        };
        context.complain(reason, detail);
        if let Some(connection) = &mut context.connection {
            connection.child_pause.after_failure(context.host, context.now);
        }
    }
}
