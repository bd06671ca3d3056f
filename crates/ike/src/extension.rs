//! Extensions that both ends announce in IKE_SA_INIT.

use std::net::SocketAddr;

use isthmus_types::IkeProposal;
use isthmus_wire::ike::{NotifyPayload, NotifyType, Payload};

use crate::config::ConnectionConfig;

/// Bytes before an IKE message in a packet: IP header, UDP header, non-ESP marker.
const OVERHEAD_V4: usize = 20 + 8 + 4;
const OVERHEAD_V6: usize = 40 + 8 + 4;

/// What an end announces, or what both announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extensions {
    /// Fragments (RFC 7383), and the largest packet with one, bytes.
    fragment_size: Option<u16>,
    /// IKE_INTERMEDIATE (RFC 9242).
    pub(crate) intermediate: bool,
}

impl Extensions {
    /// What we announce for a connection.
    pub(crate) fn offered(config: &ConnectionConfig) -> Self {
        Self {
            fragment_size: Some(config.options.fragment_size).filter(|size| *size != 0),
            intermediate: config
                .ike_proposals
                .iter()
                .any(|proposal| !proposal.additional.is_empty()),
        }
    }

    /// What is left after the peer's announcements.
    pub(crate) fn agreed(self, received: &[NotifyPayload]) -> Self {
        let has = |wanted| received.iter().any(|notify| notify.notify_type == wanted);
        Self {
            fragment_size: self
                .fragment_size
                .filter(|_| has(NotifyType::IKEV2_FRAGMENTATION_SUPPORTED)),
            intermediate: self.intermediate && has(NotifyType::INTERMEDIATE_EXCHANGE_SUPPORTED),
        }
    }

    /// The proposals that can be carried out for a first IKE SA: additional key exchanges need IKE_INTERMEDIATE.
    pub(crate) fn possible(self, proposals: &[IkeProposal]) -> Vec<IkeProposal> {
        proposals
            .iter()
            .filter(|proposal| self.intermediate || proposal.additional.is_empty())
            .cloned()
            .collect()
    }

    /// The notifies that announce it.
    pub(crate) fn notifies(self) -> Vec<Payload> {
        let mut types = Vec::new();
        if self.fragment_size.is_some() {
            types.push(NotifyType::IKEV2_FRAGMENTATION_SUPPORTED);
        }
        if self.intermediate {
            types.push(NotifyType::INTERMEDIATE_EXCHANGE_SUPPORTED);
        }
        types
            .into_iter()
            .map(|notify_type| Payload::Notify(NotifyPayload::new(notify_type, Vec::new())))
            .collect()
    }

    /// Bytes of the longest datagram to a peer at `remote`, if messages may be fragmented.
    pub(crate) fn datagram_limit(self, remote: SocketAddr) -> Option<usize> {
        let overhead = if remote.ip().to_canonical().is_ipv4() {
            OVERHEAD_V4
        } else {
            OVERHEAD_V6
        };
        self.fragment_size
            .map(|size| usize::from(size.max(576)) - overhead)
    }
}
