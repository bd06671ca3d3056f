//! The message layer of one IKE SA: protection (RFC 7296 section 3.14), message ids (sections 2.1 to 2.3) and
//! fragments (RFC 7383).

mod fragment;
#[cfg(test)]
mod tests;

use std::time::Instant;

use isthmus_crypto::cipher::{Opener, Sealer};
use isthmus_crypto::prf::sha256;
use isthmus_wire::ike::{
    EncryptedPlace, ExchangeType, FRAGMENT_NUMBER_LEN, FragmentNumber, GENERIC_HEADER_LEN, HEADER_LEN,
    IkeFlags, IkeHeader, IkeSpi, MAX_MESSAGE_LEN, Message, Payload, PayloadType, decode_chain, encode_chain,
    encode_fragment_number, encode_generic_header,
};
use zeroize::Zeroizing;

use self::fragment::{Fragment, Reassembly, Whole};

use crate::algorithm::IkeSuite;
use crate::error::{IkeError, Violation};
use crate::keys::{IkeKeys, SpiPair};

/// Bytes of the longest fragmented message of somebody who has not proved anything: a chain of certificates fits.
const MAX_UNAUTHENTICATED_LEN: usize = 24 * 1024;

/// Which end of an IKE SA we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Initiator,
    Responder,
}

/// A message as it goes out: one datagram, or its fragments in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sealed(pub(crate) Vec<Vec<u8>>);

impl From<Vec<u8>> for Sealed {
    fn from(datagram: Vec<u8>) -> Self {
        Self(vec![datagram])
    }
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
    /// Bytes of the longest datagram that we send if both ends take fragments; longer messages are cut.
    datagram_limit: Option<usize>,
    /// Bytes of the longest fragmented message that is put together.
    reassembly_limit: usize,
    requests: Reassembly,
    responses: Reassembly,
    /// Digest of the peer's last request, or of the first fragment of it.
    request_digest: [u8; 32],
    /// The peer's last request and what we answered.
    answered: Option<Answered>,
    /// Our last message as IKE_INTERMEDIATE authenticates it.
    sent_plain: Vec<u8>,
}

struct Answered {
    digest: [u8; 32],
    response: Sealed,
}

/// The content of a message that was verified.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) payloads: Vec<Payload>,
    /// Of an IKE_INTERMEDIATE: what of it enters IntAuth (RFC 9242 section 3.3.2).
    pub(crate) plain: Vec<u8>,
}

/// What a received request is.
pub(crate) enum Received {
    /// Not processed before.
    New(Opened),
    /// Verified, but its content is no chain of payloads.
    Malformed(IkeError),
    /// Answered before: the answer.
    Repeated(Sealed),
    /// Outside the window, not protected with our keys, or a fragment of a message that is not complete yet.
    Ignored,
}

/// A message that was verified, whole.
struct Collected {
    /// Of its bytes or of its first fragment.
    digest: [u8; 32],
    opened: Result<Opened, IkeError>,
}

/// A decrypted message or fragment.
struct Content {
    first_inside: PayloadType,
    /// The header and the payloads in clear.
    clear: Vec<u8>,
    data: Zeroizing<Vec<u8>>,
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
        let (send_id, receive_id) = match role {
            Role::Initiator => (first_id, 0),
            Role::Responder => (0, first_id),
        };
        let (sealer, opener) = ciphers(role, suite, keys)?;
        Ok(Self {
            role,
            spis,
            sealer,
            opener,
            next_iv: 0,
            send_id,
            receive_id,
            datagram_limit: None,
            reassembly_limit: MAX_UNAUTHENTICATED_LEN,
            requests: Reassembly::default(),
            responses: Reassembly::default(),
            request_digest: [0; 32],
            answered: None,
            sent_plain: Vec::new(),
        })
    }

    /// Lets messages be cut so that no datagram is longer than `limit`, and takes fragments of the peer. None ends
    /// both.
    pub(crate) fn set_datagram_limit(&mut self, limit: Option<usize>) {
        self.datagram_limit = limit;
    }

    /// As it was set.
    pub(crate) const fn datagram_limit(&self) -> Option<usize> {
        self.datagram_limit
    }

    /// The peer was authenticated: it may send messages of any length.
    pub(crate) fn trust(&mut self) {
        self.reassembly_limit = MAX_MESSAGE_LEN;
    }

    /// Protects all further messages with other keys; ids go on.
    pub(crate) fn change_keys(&mut self, suite: &IkeSuite, keys: &IkeKeys) -> Result<(), IkeError> {
        (self.sealer, self.opener) = ciphers(self.role, suite, keys)?;
        self.next_iv = 0;
        self.requests = Reassembly::default();
        self.responses = Reassembly::default();
        Ok(())
    }

    /// The id of our next request, and of the peer's next one.
    pub(crate) const fn next_ids(&self) -> (u32, u32) {
        (self.send_id, self.receive_id)
    }

    /// Seals our next request.
    pub(crate) fn request(
        &mut self,
        exchange: ExchangeType,
        payloads: &[Payload],
    ) -> Result<(u32, Sealed), IkeError> {
        let id = self.send_id;
        self.send_id = id
            .checked_add(1)
            .ok_or(IkeError::Internal("the message ids of the IKE SA are used up"))?;
        self.responses = Reassembly::default();
        let sealed = self.seal(exchange, id, IkeFlags::NONE, payloads)?;
        Ok((id, sealed))
    }

    /// Seals and keeps the response to the request that [`Channel::receive`] gave as new or as malformed.
    pub(crate) fn respond(
        &mut self,
        exchange: ExchangeType,
        payloads: &[Payload],
    ) -> Result<Sealed, IkeError> {
        let response = self.seal(exchange, self.receive_id, IkeFlags::RESPONSE, payloads)?;
        self.receive_id = self
            .receive_id
            .checked_add(1)
            .ok_or(IkeError::Internal("the message ids of the IKE SA are used up"))?;
        self.answered = Some(Answered {
            digest: self.request_digest,
            response: response.clone(),
        });
        Ok(response)
    }

    /// Id of our next request.
    pub(crate) const fn next_request_id(&self) -> u32 {
        self.send_id
    }

    /// Id of the peer's request that is to be answered.
    pub(crate) const fn request_id(&self) -> u32 {
        self.receive_id
    }

    /// Our last message as IKE_INTERMEDIATE authenticates it (RFC 9242 section 3.3.2).
    pub(crate) fn sent_plain(&self) -> &[u8] {
        &self.sent_plain
    }

    /// Looks at a request of the peer.
    pub(crate) fn receive(&mut self, bytes: &[u8], message: &Message, now: Instant) -> Received {
        let id = message.header.message_id;
        if id == self.receive_id {
            let mut requests = std::mem::take(&mut self.requests);
            let collected = self.collect(&mut requests, bytes, message, now);
            self.requests = requests;
            let Some(Collected { digest, opened }) = collected else {
                return Received::Ignored;
            };
            self.request_digest = digest;
            return match opened {
                Ok(opened) => Received::New(opened),
                Err(error) => Received::Malformed(error),
            };
        }
        match &self.answered {
            Some(answered)
                if id.checked_add(1) == Some(self.receive_id) && self.repeats(answered, bytes, message) =>
            {
                Received::Repeated(answered.response.clone())
            }
            Some(_) | None => Received::Ignored,
        }
    }

    /// Looks at a response of the peer, or a fragment of it, to the request with its id. None as long as it is not
    /// complete, or if it is not protected with our keys.
    pub(crate) fn receive_response(
        &mut self,
        bytes: &[u8],
        message: &Message,
        now: Instant,
    ) -> Option<Result<Opened, IkeError>> {
        let mut responses = std::mem::take(&mut self.responses);
        let collected = self.collect(&mut responses, bytes, message, now);
        self.responses = responses;
        collected.map(|collected| collected.opened)
    }

    /// Forgets fragments of messages that are not complete for long.
    pub(crate) fn forget_stale_fragments(&mut self, now: Instant) {
        self.requests.forget_stale(now);
        self.responses.forget_stale(now);
    }

    /// A repeated request is the same bytes. Of a fragmented one only the first fragment counts, also if the peer
    /// has cut the message anew (RFC 7383 section 2.6.1).
    fn repeats(&self, answered: &Answered, bytes: &[u8], message: &Message) -> bool {
        if answered.digest == sha256(&[bytes]) {
            return true;
        }
        message.encrypted.as_ref().is_some_and(|place| {
            self.datagram_limit.is_some()
                && place.fragment.is_some_and(|fragment| fragment.number == 1)
                && self.decrypt(place, bytes).is_ok()
        })
    }

    /// Opens a message, or adds a fragment and opens what is then complete.
    fn collect(
        &self,
        reassembly: &mut Reassembly,
        bytes: &[u8],
        message: &Message,
        now: Instant,
    ) -> Option<Collected> {
        let place = message.encrypted.as_ref()?;
        let whole = match place.fragment {
            None => {
                let content = self.decrypt(place, bytes).ok()?;
                Whole {
                    digest: sha256(&[bytes]),
                    first_inside: content.first_inside,
                    clear: content.clear,
                    data: content.data,
                }
            }
            Some(fragment) => {
                self.datagram_limit?;
                let id = message.header.message_id;
                if !reassembly.wants(id, fragment, now) {
                    return None;
                }
                let content = self.decrypt(place, bytes).ok()?;
                let fragment = Fragment {
                    message_id: id,
                    place: fragment,
                    digest: sha256(&[bytes]),
                };
                reassembly.add(&fragment, content, self.reassembly_limit, now)?
            }
        };
        let digest = whole.digest;
        let plain = if message.header.exchange == ExchangeType::IKE_INTERMEDIATE {
            plain(whole.clear, whole.first_inside, &whole.data)
        } else {
            Vec::new()
        };
        let opened = decode_chain(whole.first_inside, &whole.data)
            .map(|payloads| Opened { payloads, plain })
            .map_err(IkeError::Malformed);
        Some(Collected { digest, opened })
    }

    /// Verifies and decrypts a message of the peer that is not fragmented.
    #[cfg(test)]
    pub(crate) fn open(&self, bytes: &[u8], message: &Message) -> Result<Vec<Payload>, IkeError> {
        let unprotected = IkeError::Violation(Violation::Integrity);
        let place = message.encrypted.as_ref().ok_or(unprotected)?;
        let content = self.decrypt(place, bytes)?;
        decode_chain(content.first_inside, &content.data).map_err(IkeError::Malformed)
    }

    fn decrypt(&self, place: &EncryptedPlace, bytes: &[u8]) -> Result<Content, IkeError> {
        let unprotected = IkeError::Violation(Violation::Integrity);
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
            .ok_or(unprotected)?;
        data.truncate(content_len);
        let header_len = match place.fragment {
            None => GENERIC_HEADER_LEN,
            Some(_) => GENERIC_HEADER_LEN + FRAGMENT_NUMBER_LEN,
        };
        let clear_len = aad.len().saturating_sub(header_len);
        Ok(Content {
            first_inside: place.first_inside,
            clear: aad.get(..clear_len).unwrap_or_default().to_vec(),
            data,
        })
    }

    fn seal(
        &mut self,
        exchange: ExchangeType,
        message_id: u32,
        flags: IkeFlags,
        payloads: &[Payload],
    ) -> Result<Sealed, IkeError> {
        let mut data = Zeroizing::new(Vec::new());
        let first_inside = encode_chain(payloads, &mut data);
        let flags = match self.role {
            Role::Initiator => flags.with(IkeFlags::INITIATOR),
            Role::Responder => flags,
        };
        let header = IkeHeader {
            initiator_spi: self.spis.initiator,
            responder_spi: self.spis.responder,
            next_payload: PayloadType::SK,
            minor_version: 0,
            exchange,
            flags,
            message_id,
            length: 0,
        };
        self.sent_plain.clear();
        if exchange == ExchangeType::IKE_INTERMEDIATE {
            let mut clear = Vec::new();
            header.encode(&mut clear);
            self.sent_plain = plain(clear, first_inside, &data);
        }
        let len = self.sealed_len(data.len(), GENERIC_HEADER_LEN);
        let Some(limit) = self.datagram_limit.filter(|limit| len > *limit) else {
            return self
                .seal_piece(header, first_inside, None, &data)
                .map(|datagram| Sealed(vec![datagram]));
        };
        let pieces: Vec<&[u8]> = data.chunks(self.piece_len(limit)).collect();
        let total = u16::try_from(pieces.len())
            .map_err(|_| IkeError::Internal("a message has more fragments than can be numbered"))?;
        let mut datagrams = Vec::with_capacity(pieces.len());
        for (number, piece) in (1..=total).zip(pieces) {
            let first = if number == 1 {
                first_inside
            } else {
                PayloadType::NONE
            };
            let fragment = FragmentNumber { number, total };
            datagrams.push(self.seal_piece(header, first, Some(fragment), piece)?);
        }
        Ok(Sealed(datagrams))
    }

    /// Bytes of a datagram with `content_len` bytes inside the encrypted payload.
    fn sealed_len(&self, content_len: usize, payload_header_len: usize) -> usize {
        let suite = self.sealer.suite();
        let padded = (content_len + 1).next_multiple_of(suite.block_len());
        HEADER_LEN + payload_header_len + suite.iv_len() + padded + suite.icv_len()
    }

    /// The most content of a fragment whose datagram has at most `limit` bytes.
    fn piece_len(&self, limit: usize) -> usize {
        let suite = self.sealer.suite();
        let overhead =
            HEADER_LEN + GENERIC_HEADER_LEN + FRAGMENT_NUMBER_LEN + suite.iv_len() + suite.icv_len();
        let blocks = limit.saturating_sub(overhead) / suite.block_len();
        (blocks * suite.block_len()).saturating_sub(1).max(64)
    }

    fn seal_piece(
        &mut self,
        header: IkeHeader,
        first_inside: PayloadType,
        fragment: Option<FragmentNumber>,
        content: &[u8],
    ) -> Result<Vec<u8>, IkeError> {
        let failed = |_| IkeError::Internal("a message could not be sealed");
        let (payload_type, number_len) = match fragment {
            None => (PayloadType::SK, 0),
            Some(_) => (PayloadType::SKF, FRAGMENT_NUMBER_LEN),
        };
        let total = self.sealed_len(content.len(), GENERIC_HEADER_LEN + number_len);
        let suite = self.sealer.suite();
        let padded_len = (content.len() + 1).next_multiple_of(suite.block_len()) - 1;
        let mut data = Zeroizing::new(Vec::with_capacity(padded_len + 1));
        data.extend_from_slice(content);
        data.resize(padded_len, 0);
        data.push(u8::try_from(padded_len - content.len()).unwrap_or(0));

        let mut out = Vec::with_capacity(total);
        IkeHeader {
            next_payload: payload_type,
            length: u32::try_from(total).unwrap_or(u32::MAX),
            ..header
        }
        .encode(&mut out);
        encode_generic_header(first_inside, total - HEADER_LEN - GENERIC_HEADER_LEN, &mut out);
        if let Some(fragment) = fragment {
            encode_fragment_number(fragment, &mut out);
        }
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

fn ciphers(role: Role, suite: &IkeSuite, keys: &IkeKeys) -> Result<(Sealer, Opener), IkeError> {
    let (outgoing, incoming) = match role {
        Role::Initiator => (&keys.initiator, &keys.responder),
        Role::Responder => (&keys.responder, &keys.initiator),
    };
    let unusable = |_| IkeError::Internal("the keys do not fit the suite");
    Ok((
        Sealer::new(suite.cipher, outgoing).map_err(unusable)?,
        Opener::new(suite.cipher, incoming).map_err(unusable)?,
    ))
}

/// A message as RFC 9242 section 3.3.2 authenticates it: in one piece, in clear, and without what only encryption
/// needs. `clear` is the header and the payloads before the encrypted one.
fn plain(clear: Vec<u8>, first_inside: PayloadType, content: &[u8]) -> Vec<u8> {
    let mut out = clear;
    let total = u32::try_from(out.len() + GENERIC_HEADER_LEN + content.len()).unwrap_or(u32::MAX);
    if out.len() == HEADER_LEN
        && let Some(next_payload) = out.get_mut(16)
    {
        *next_payload = PayloadType::SK.0;
    }
    if let Some(length) = out.get_mut(24..28) {
        length.copy_from_slice(&total.to_be_bytes());
    }
    encode_generic_header(first_inside, content.len(), &mut out);
    out.extend_from_slice(content);
    out
}

/// The SPI of a message that belongs to the receiver.
pub(crate) fn receiver_spi(header: &IkeHeader) -> IkeSpi {
    if header.flags.contains(IkeFlags::INITIATOR) {
        header.responder_spi
    } else {
        header.initiator_spi
    }
}
