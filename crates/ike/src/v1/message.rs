//! Messages of IKEv1: encryption with its chain of IVs, and payloads sorted by kind.

use isthmus_wire::ike::{GENERIC_HEADER_LEN, HEADER_LEN};
use isthmus_wire::isakmp::{
    Chain, DeletePayload, Identification, IsakmpFlags, IsakmpHeader, NotifyPayload, Payload, PayloadType,
    SaPayload, encode_chain,
};

use super::fault::Fault;
use super::keys::Keys;

/// Most bytes of content before encryption that is added so that it fills whole blocks is below this.
const MAX_PADDING: usize = 256;

/// An authentic message is built from here: what stands after the header, in clear.
pub(super) struct Content {
    pub(super) first: PayloadType,
    pub(super) bytes: Vec<u8>,
}

/// Payloads by kind. Those of which there may be only one were seen at most once.
#[derive(Default)]
pub(super) struct Parts {
    /// With the body as sent.
    pub(super) sa: Option<(SaPayload, Vec<u8>)>,
    pub(super) ke: Option<Vec<u8>>,
    pub(super) nonce: Option<Vec<u8>>,
    /// With the bodies as sent, in their order.
    pub(super) ids: Vec<(Identification, Vec<u8>)>,
    pub(super) hash: Option<Vec<u8>>,
    pub(super) notifies: Vec<NotifyPayload>,
    pub(super) deletes: Vec<DeletePayload>,
    pub(super) vendor_ids: Vec<Vec<u8>>,
    pub(super) nat_d: Vec<Vec<u8>>,
    /// What follows the hash payload if that comes first.
    pub(super) after_hash: Option<Vec<u8>>,
}

impl Content {
    pub(super) fn of(payloads: &[Payload]) -> Self {
        let mut bytes = Vec::new();
        let first = encode_chain(payloads, &mut bytes);
        Self { first, bytes }
    }

    /// A chain that begins with a hash payload, whose value is made from the bytes of the others.
    pub(super) fn hashed(payloads: &[Payload], hash: impl FnOnce(&[u8]) -> Vec<u8>) -> Self {
        let rest = Self::of(payloads);
        let hash = hash(&rest.bytes);
        let mut bytes = Vec::with_capacity(GENERIC_HEADER_LEN + hash.len() + rest.bytes.len());
        encode_chain(&[Payload::Hash(hash)], &mut bytes);
        if let Some(next) = bytes.first_mut() {
            *next = rest.first.0;
        }
        bytes.extend_from_slice(&rest.bytes);
        Self {
            first: PayloadType::HASH,
            bytes,
        }
    }
}

/// Encrypts a message; `iv` is the one to use and becomes the next one.
pub(super) fn encrypt(keys: &Keys, iv: &mut Vec<u8>, header: IsakmpHeader, content: Content) -> Vec<u8> {
    let block = keys.block_len();
    let mut data = content.bytes;
    data.resize(data.len().next_multiple_of(block), 0);
    let fits = keys.cipher().encrypt(iv, &mut data).is_ok();
    debug_assert!(fits, "the content is whole blocks");
    if let Some(last) = data.len().checked_sub(block).and_then(|start| data.get(start..)) {
        *iv = last.to_vec();
    }
    let mut out = Vec::with_capacity(HEADER_LEN + data.len());
    IsakmpHeader {
        next_payload: content.first,
        flags: IsakmpFlags(header.flags.0 | IsakmpFlags::ENCRYPTION.0),
        ..header
    }
    .encode(HEADER_LEN + data.len(), &mut out);
    out.extend_from_slice(&data);
    out
}

/// Decrypts a message. Gives its payloads and the next IV. Garbage is told by its structure only.
pub(super) fn decrypt(
    keys: &Keys,
    iv: &[u8],
    header: &IsakmpHeader,
    bytes: &[u8],
) -> Result<(Parts, Vec<u8>), Fault> {
    let block = keys.block_len();
    let mut data = bytes.get(HEADER_LEN..).unwrap_or_default().to_vec();
    let next = data
        .len()
        .checked_sub(block)
        .and_then(|start| data.get(start..))
        .map(<[u8]>::to_vec)
        .ok_or(Fault::Malformed)?;
    keys.cipher()
        .decrypt(iv, &mut data)
        .map_err(|_| Fault::Malformed)?;
    let chain = Chain::decode(header.next_payload, &data).map_err(|_| Fault::Malformed)?;
    if data.len() - chain.len >= MAX_PADDING {
        return Err(Fault::Malformed);
    }
    Ok((Parts::sort(chain, &data)?, next))
}

/// Reads a message in clear.
pub(super) fn read(header: &IsakmpHeader, bytes: &[u8]) -> Result<Parts, Fault> {
    let data = bytes.get(HEADER_LEN..).unwrap_or_default();
    let chain = Chain::decode(header.next_payload, data).map_err(|_| Fault::Malformed)?;
    if chain.len != data.len() {
        return Err(Fault::Malformed);
    }
    Parts::sort(chain, data)
}

impl Parts {
    fn sort(chain: Chain, bytes: &[u8]) -> Result<Self, Fault> {
        let mut parts = Self::default();
        let bodies: Vec<Vec<u8>> = (0..chain.payloads.len())
            .map(|index| chain.body(index, bytes).unwrap_or_default().to_vec())
            .collect();
        if let (Some(Payload::Hash(_)), Some(place)) = (chain.payloads.first(), chain.places.first()) {
            parts.after_hash = bytes.get(place.end..chain.len).map(<[u8]>::to_vec);
        }
        for (payload, body) in chain.payloads.into_iter().zip(bodies) {
            match payload {
                Payload::Delete(delete) => parts.deletes.push(delete),
                Payload::Hash(hash) => once(&mut parts.hash, hash)?,
                Payload::Id(id) => parts.ids.push((id, body)),
                Payload::Ke(value) => once(&mut parts.ke, value)?,
                Payload::NatD(hash) => parts.nat_d.push(hash),
                Payload::Nonce(nonce) => once(&mut parts.nonce, nonce)?,
                Payload::Notify(notify) => parts.notifies.push(notify),
                Payload::Other { .. } => {}
                Payload::Sa(sa) => once(&mut parts.sa, (sa, body))?,
                Payload::VendorId(id) => parts.vendor_ids.push(id),
            }
        }
        Ok(parts)
    }

    /// What follows the hash, if the hash is what `expected` makes of it.
    pub(super) fn check_hash(&self, expected: impl FnOnce(&[u8]) -> Vec<u8>) -> Result<(), Fault> {
        let rest = self.after_hash.as_deref().ok_or(Fault::Hash)?;
        let received = self.hash.as_deref().ok_or(Fault::Hash)?;
        if isthmus_crypto::prf::constant_time_equal(received, &expected(rest)) {
            Ok(())
        } else {
            Err(Fault::Hash)
        }
    }
}

fn once<T>(place: &mut Option<T>, part: T) -> Result<(), Fault> {
    if place.replace(part).is_some() {
        return Err(Fault::Malformed);
    }
    Ok(())
}
