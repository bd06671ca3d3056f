//! The payloads of a message, sorted by kind.

use isthmus_wire::ike::{
    AuthPayload, CertificateEncoding, DeletePayload, Identification, KePayload, NotifyPayload, NotifyType,
    Payload, PayloadType, Proposal, TrafficSelector,
};

use crate::error::{IkeError, Violation};

/// Payloads of a message. Those of which there may be only one were seen at most once.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    pub(crate) sa: Option<Vec<Proposal>>,
    pub(crate) ke: Option<KePayload>,
    pub(crate) nonce: Option<Vec<u8>>,
    pub(crate) id_initiator: Option<Identification>,
    pub(crate) id_responder: Option<Identification>,
    pub(crate) auth: Option<AuthPayload>,
    pub(crate) ts_initiator: Option<Vec<TrafficSelector>>,
    pub(crate) ts_responder: Option<Vec<TrafficSelector>>,
    /// X.509 certificates, in the order that they came in.
    pub(crate) certificates: Vec<Vec<u8>>,
    pub(crate) notifies: Vec<NotifyPayload>,
    pub(crate) deletes: Vec<DeletePayload>,
}

impl Parts {
    /// Sorts payloads; refuses duplicates and critical payloads that are unknown.
    pub(crate) fn sort(payloads: Vec<Payload>) -> Result<Self, IkeError> {
        let mut parts = Self::default();
        for payload in payloads {
            let payload_type = payload.payload_type();
            match payload {
                Payload::Auth(auth) => once(&mut parts.auth, auth, payload_type)?,
                // Other encodings, such as URLs to fetch from, are not taken; nor do requests change what we send.
                Payload::Certificate(certificate)
                    if certificate.encoding == CertificateEncoding::X509_SIGNATURE =>
                {
                    parts.certificates.push(certificate.data);
                }
                Payload::Certificate(_) | Payload::CertificateRequest(_) => {}
                Payload::Delete(delete) => parts.deletes.push(delete),
                Payload::IdInitiator(id) => once(&mut parts.id_initiator, id, payload_type)?,
                Payload::IdResponder(id) => once(&mut parts.id_responder, id, payload_type)?,
                Payload::Ke(ke) => once(&mut parts.ke, ke, payload_type)?,
                Payload::Nonce(nonce) => once(&mut parts.nonce, nonce, payload_type)?,
                Payload::Notify(notify) => parts.notifies.push(notify),
                Payload::Other(raw) if raw.critical && !is_known(raw.payload_type) => {
                    return Err(IkeError::Violation(Violation::CriticalPayload(payload_type)));
                }
                Payload::Other(_) | Payload::VendorId(_) => {}
                Payload::Sa(proposals) => once(&mut parts.sa, proposals, payload_type)?,
                Payload::TsInitiator(selectors) => once(&mut parts.ts_initiator, selectors, payload_type)?,
                Payload::TsResponder(selectors) => once(&mut parts.ts_responder, selectors, payload_type)?,
            }
        }
        Ok(parts)
    }

    pub(crate) fn notify(&self, notify_type: NotifyType) -> Option<&NotifyPayload> {
        self.notifies
            .iter()
            .find(|notify| notify.notify_type == notify_type)
    }

    /// The first notify that reports an error.
    pub(crate) fn error(&self) -> Option<&NotifyPayload> {
        self.notifies.iter().find(|notify| notify.notify_type.is_error())
    }
}

/// Takes a payload that must be there.
pub(crate) fn required<T>(part: Option<T>, payload_type: PayloadType) -> Result<T, IkeError> {
    part.ok_or(IkeError::Violation(Violation::Missing(payload_type)))
}

fn once<T>(place: &mut Option<T>, part: T, payload_type: PayloadType) -> Result<(), IkeError> {
    if place.replace(part).is_some() {
        return Err(IkeError::Violation(Violation::Duplicate(payload_type)));
    }
    Ok(())
}

/// Types of RFC 7296: their critical bit means nothing, also where we do not read them.
const fn is_known(payload_type: PayloadType) -> bool {
    payload_type.0 >= PayloadType::SA.0 && payload_type.0 <= PayloadType::EAP.0
}
