//! The message layer of one IKE SA: protection (RFC 7296 section 3.14) and message ids (sections 2.1 to 2.3).

use isthmus_crypto::cipher::{Opener, Sealer};
use isthmus_crypto::prf::sha256;
use isthmus_wire::ike::{
    ExchangeType, GENERIC_HEADER_LEN, HEADER_LEN, IkeFlags, IkeHeader, IkeSpi, Message, Payload, PayloadType,
    decode_chain, encode_chain, encode_generic_header,
};
use zeroize::Zeroizing;

use crate::algorithm::IkeSuite;
use crate::error::{IkeError, Violation};
use crate::keys::{IkeKeys, SpiPair};

/// Which end of an IKE SA we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Initiator,
    Responder,
}

/// Seals and opens messages of one IKE SA, and counts them.
pub(crate) struct Channel {
    role: Role,
    spis: SpiPair,
    sealer: Sealer,
    opener: Opener,
    next_iv: u64,
    /// Id of our next request.
    send_id: u32,
    /// Id of the peer's next request.
    receive_id: u32,
    /// The peer's last request and what we answered.
    answered: Option<Answered>,
}

struct Answered {
    digest: [u8; 32],
    response: Vec<u8>,
}

/// What a received request is.
pub(crate) enum Received {
    /// Not processed before: its payloads.
    New(Vec<Payload>),
    /// Verified, but its content is no chain of payloads.
    Malformed(IkeError),
    /// Answered before: the bytes of the answer.
    Repeated(Vec<u8>),
    /// Outside the window, or not protected with our keys.
    Ignored,
}

impl Channel {
    /// A channel on which the original initiator's next request has the id `first_id`, and the original responder's
    /// first one the id 0: each end counts its own requests (RFC 7296 section 2.2).
    pub(crate) fn new(
        role: Role,
        spis: SpiPair,
        suite: &IkeSuite,
        keys: &IkeKeys,
        first_id: u32,
    ) -> Result<Self, IkeError> {
        let (outgoing, incoming) = match role {
            Role::Initiator => (&keys.initiator, &keys.responder),
            Role::Responder => (&keys.responder, &keys.initiator),
        };
        let (send_id, receive_id) = match role {
            Role::Initiator => (first_id, 0),
            Role::Responder => (0, first_id),
        };
        let unusable = |_| IkeError::Internal("the keys do not fit the suite");
        Ok(Self {
            role,
            spis,
            sealer: Sealer::new(suite.cipher, outgoing).map_err(unusable)?,
            opener: Opener::new(suite.cipher, incoming).map_err(unusable)?,
            next_iv: 0,
            send_id,
            receive_id,
            answered: None,
        })
    }

    /// Seals our next request.
    pub(crate) fn request(
        &mut self,
        exchange: ExchangeType,
        payloads: &[Payload],
    ) -> Result<(u32, Vec<u8>), IkeError> {
        let id = self.send_id;
        self.send_id = id
            .checked_add(1)
            .ok_or(IkeError::Internal("the message ids of the IKE SA are used up"))?;
        let bytes = self.seal(exchange, id, IkeFlags::NONE, payloads)?;
        Ok((id, bytes))
    }

    /// Seals and keeps the response to the request `request` that [`Channel::receive`] gave as new.
    pub(crate) fn respond(
        &mut self,
        exchange: ExchangeType,
        request: &[u8],
        payloads: &[Payload],
    ) -> Result<Vec<u8>, IkeError> {
        let response = self.seal(exchange, self.receive_id, IkeFlags::RESPONSE, payloads)?;
        self.receive_id = self
            .receive_id
            .checked_add(1)
            .ok_or(IkeError::Internal("the message ids of the IKE SA are used up"))?;
        self.answered = Some(Answered {
            digest: sha256(&[request]),
            response: response.clone(),
        });
        Ok(response)
    }

    /// Looks at a request of the peer.
    pub(crate) fn receive(&self, bytes: &[u8], message: &Message) -> Received {
        let id = message.header.message_id;
        if id == self.receive_id {
            return match self.open(bytes, message) {
                Ok(payloads) => Received::New(payloads),
                Err(IkeError::Violation(Violation::Integrity)) => Received::Ignored,
                Err(error) => Received::Malformed(error),
            };
        }
        match &self.answered {
            Some(answered)
                if id.checked_add(1) == Some(self.receive_id) && answered.digest == sha256(&[bytes]) =>
            {
                Received::Repeated(answered.response.clone())
            }
            Some(_) | None => Received::Ignored,
        }
    }

    /// Verifies and decrypts a message of the peer.
    pub(crate) fn open(&self, bytes: &[u8], message: &Message) -> Result<Vec<Payload>, IkeError> {
        let unprotected = IkeError::Violation(Violation::Integrity);
        let place = message
            .encrypted
            .as_ref()
            .filter(|place| place.payload_type == PayloadType::SK)
            .ok_or_else(|| unprotected.clone())?;
        let suite = self.opener.suite();
        let (aad, body) = bytes
            .split_at_checked(place.body.start)
            .ok_or_else(|| unprotected.clone())?;
        let (iv, rest) = body
            .split_at_checked(suite.iv_len())
            .ok_or_else(|| unprotected.clone())?;
        let (ciphertext, icv) = rest
            .len()
            .checked_sub(suite.icv_len())
            .and_then(|len| rest.split_at_checked(len))
            .ok_or_else(|| unprotected.clone())?;
        let mut data = Zeroizing::new(ciphertext.to_vec());
        self.opener
            .open(aad, iv, &mut data, icv)
            .map_err(|_| unprotected.clone())?;
        let (pad_len, _) = data.split_last().ok_or_else(|| unprotected.clone())?;
        let content_len = data
            .len()
            .checked_sub(1 + usize::from(*pad_len))
            .ok_or_else(|| unprotected.clone())?;
        let content = data.get(..content_len).ok_or(unprotected)?;
        decode_chain(place.first_inside, content).map_err(IkeError::Malformed)
    }

    fn seal(
        &mut self,
        exchange: ExchangeType,
        message_id: u32,
        flags: IkeFlags,
        payloads: &[Payload],
    ) -> Result<Vec<u8>, IkeError> {
        let failed = |_| IkeError::Internal("a message could not be sealed");
        let suite = self.sealer.suite();
        let mut data = Zeroizing::new(Vec::new());
        let first = encode_chain(payloads, &mut data);
        let pad_len = (suite.block_len() - (data.len() + 1) % suite.block_len()) % suite.block_len();
        let padded_len = data.len() + pad_len;
        data.resize(padded_len, 0);
        data.push(u8::try_from(pad_len).unwrap_or(0));

        let body_len = suite.iv_len() + data.len() + suite.icv_len();
        let total = HEADER_LEN + GENERIC_HEADER_LEN + body_len;
        let mut out = Vec::with_capacity(total);
        let flags = match self.role {
            Role::Initiator => flags.with(IkeFlags::INITIATOR),
            Role::Responder => flags,
        };
        IkeHeader {
            initiator_spi: self.spis.initiator,
            responder_spi: self.spis.responder,
            next_payload: PayloadType::SK,
            minor_version: 0,
            exchange,
            flags,
            message_id,
            length: u32::try_from(total).unwrap_or(u32::MAX),
        }
        .encode(&mut out);
        encode_generic_header(first, body_len, &mut out);
        let mut iv = vec![0; suite.iv_len()];
        self.sealer.make_iv(self.next_iv, &mut iv).map_err(failed)?;
        self.next_iv += 1;
        let mut icv = vec![0; suite.icv_len()];
        self.sealer.seal(&out, &iv, &mut data, &mut icv).map_err(failed)?;
        out.extend_from_slice(&iv);
        out.extend_from_slice(&data);
        out.extend_from_slice(&icv);
        Ok(out)
    }
}

/// The SPI of a message that belongs to the receiver.
pub(crate) fn receiver_spi(header: &IkeHeader) -> IkeSpi {
    if header.flags.contains(IkeFlags::INITIATOR) {
        header.responder_spi
    } else {
        header.initiator_spi
    }
}
