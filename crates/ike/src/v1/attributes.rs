//! Attributes and transforms of IKEv1 (RFC 2409 appendix A, RFC 2407 section 4.5), in terms of what IKEv2 negotiates with,
//! so that both versions choose and explain alike.

use isthmus_types::{Cipher, DhGroup, Encryption, EspProposal, IkeProposal, Integrity};
use isthmus_wire::ike::{self, Transform as ChosenTransform, TransformId, TransformType};
use isthmus_wire::isakmp::{Attribute, Proposal, ProtocolId, SaPayload, Transform};

use crate::algorithm::{EspSuite, IkeSuite, encryption_transform, group_id, integrity_id, prf_id};
use crate::negotiate::{KeyExchange, choose_esp, choose_ike};

/// KEY_IKE, the only transform of phase 1.
const KEY_IKE: u8 = 1;
const AUTH_PRE_SHARED_KEY: u32 = 1;
/// Most transforms of one message: their numbers are bytes.
const MAX_OFFERED: usize = 200;

/// Most transforms of a first message, so that it fits into one packet.
const MAX_OFFERED_AT_ONCE: usize = 32;

/// Attribute types of phase 1.
mod phase_1 {
    pub(super) const ENCRYPTION: u16 = 1;
    pub(super) const HASH: u16 = 2;
    pub(super) const AUTHENTICATION: u16 = 3;
    pub(super) const GROUP: u16 = 4;
    pub(super) const LIFE_TYPE: u16 = 11;
    pub(super) const LIFE_DURATION: u16 = 12;
    pub(super) const KEY_LENGTH: u16 = 14;
}

/// Attribute types of phase 2.
mod phase_2 {
    pub(super) const LIFE_TYPE: u16 = 1;
    pub(super) const LIFE_DURATION: u16 = 2;
    pub(super) const GROUP: u16 = 3;
    pub(super) const MODE: u16 = 4;
    pub(super) const AUTHENTICATION: u16 = 5;
    pub(super) const KEY_LENGTH: u16 = 6;
}

const SECONDS: u64 = 1;
const KILOBYTES: u64 = 2;

/// How packets of a Child SA are carried (RFC 2407 section 4.5, RFC 3947 section 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Tunnel,
    UdpTunnel,
}

impl Mode {
    const fn number(self) -> u32 {
        match self {
            Self::Tunnel => 1,
            Self::UdpTunnel => 3,
        }
    }

    const fn is(self, number: u64) -> bool {
        matches!((self, number), (Self::Tunnel, 1) | (Self::UdpTunnel, 3 | 61_443))
    }
}

/// Whether a transform asks for transport mode, plain or in UDP.
pub(super) fn is_transport(sa: &SaPayload) -> bool {
    sa.proposals
        .iter()
        .flat_map(|proposal| &proposal.transforms)
        .any(|transform| matches!(number(transform, phase_2::MODE), Some(2 | 4 | 61_444)))
}

/// Lifetimes that a transform or notification states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lifetimes {
    pub(super) seconds: Option<u64>,
    pub(super) kilobytes: Option<u64>,
}

/// What was agreed on, and the proposal with the one transform that says so.
pub(super) struct Chosen<S> {
    pub(super) suite: S,
    pub(super) answer: Proposal,
    pub(super) lifetimes: Lifetimes,
}

/// What we offer for phase 1, in as many parts as it takes: many peers read no long lists.
pub(super) fn offers_ike(proposals: &[IkeProposal], seconds: u32) -> Vec<SaPayload> {
    let transforms = ike_transforms(proposals, seconds);
    transforms.chunks(MAX_OFFERED_AT_ONCE).map(ike_payload).collect()
}

/// All that we can offer for phase 1.
pub(super) fn offer_ike(proposals: &[IkeProposal], seconds: u32) -> SaPayload {
    ike_payload(&ike_transforms(proposals, seconds))
}

fn ike_payload(transforms: &[(u8, Vec<Attribute>)]) -> SaPayload {
    SaPayload::ipsec(vec![Proposal {
        number: 1,
        protocol: ProtocolId::ISAKMP,
        spi: Vec::new(),
        transforms: numbered(transforms.to_vec()),
    }])
}

fn ike_transforms(proposals: &[IkeProposal], seconds: u32) -> Vec<(u8, Vec<Attribute>)> {
    let mut transforms = Vec::new();
    for proposal in proposals {
        for (encryption, integrity) in pairs(&proposal.encryption, &proposal.integrity) {
            let Some((cipher, bits)) = phase_1_cipher(encryption) else {
                continue;
            };
            for group in &proposal.dh {
                let mut attributes = vec![
                    Attribute::number(phase_1::ENCRYPTION, cipher),
                    Attribute::number(phase_1::HASH, hash_number(integrity)),
                    Attribute::number(phase_1::AUTHENTICATION, AUTH_PRE_SHARED_KEY),
                    Attribute::number(phase_1::GROUP, u32::from(group_id(*group).0)),
                    Attribute::number(phase_1::LIFE_TYPE, 1),
                    Attribute::number(phase_1::LIFE_DURATION, seconds),
                ];
                attributes.extend(bits.map(|bits| Attribute::number(phase_1::KEY_LENGTH, u32::from(bits))));
                transforms.push((KEY_IKE, attributes));
            }
        }
    }
    transforms
}

/// What we offer for phase 2: everything that takes `group`.
pub(super) fn offer_esp(
    proposals: &[EspProposal],
    group: Option<DhGroup>,
    spi: u32,
    mode: Mode,
    lifetimes: Lifetimes,
) -> SaPayload {
    let mut offered = Vec::new();
    for proposal in proposals.iter().filter(|proposal| takes(proposal, group)) {
        let mut transforms = Vec::new();
        let aead = proposal
            .encryption
            .iter()
            .filter(|encryption| encryption.is_aead())
            .map(|encryption| (*encryption, None));
        let others = pairs(&proposal.encryption, &proposal.integrity)
            .filter(|(encryption, _)| !encryption.is_aead())
            .map(|(encryption, integrity)| (encryption, Some(integrity)));
        for (encryption, integrity) in aead.chain(others) {
            let Some((id, bits)) = phase_2_cipher(encryption) else {
                continue;
            };
            let mut attributes = Vec::new();
            if let Some(seconds) = lifetimes.seconds.and_then(|seconds| u32::try_from(seconds).ok()) {
                attributes.push(Attribute::number(phase_2::LIFE_TYPE, 1));
                attributes.push(Attribute::number(phase_2::LIFE_DURATION, seconds));
            }
            if let Some(kilobytes) = lifetimes
                .kilobytes
                .and_then(|kilobytes| u32::try_from(kilobytes).ok())
            {
                attributes.push(Attribute::number(phase_2::LIFE_TYPE, 2));
                attributes.push(Attribute::number(phase_2::LIFE_DURATION, kilobytes));
            }
            attributes
                .extend(group.map(|group| Attribute::number(phase_2::GROUP, u32::from(group_id(group).0))));
            attributes.push(Attribute::number(phase_2::MODE, mode.number()));
            attributes.extend(integrity.map(|integrity| {
                Attribute::number(phase_2::AUTHENTICATION, authentication_number(integrity))
            }));
            attributes.extend(bits.map(|bits| Attribute::number(phase_2::KEY_LENGTH, u32::from(bits))));
            transforms.push((id, attributes));
        }
        if !transforms.is_empty() {
            offered.push(transforms);
        }
    }
    let proposals = offered
        .into_iter()
        .zip(1u8..)
        .map(|(transforms, number)| Proposal {
            number,
            protocol: ProtocolId::ESP,
            spi: spi.to_be_bytes().to_vec(),
            transforms: numbered(transforms),
        });
    SaPayload::ipsec(proposals.collect())
}

/// Whether a proposal goes with a key exchange in this group, or with none.
pub(super) fn takes(proposal: &EspProposal, group: Option<DhGroup>) -> bool {
    match group {
        Some(group) => proposal.pfs.contains(&group),
        None => proposal.pfs.is_empty(),
    }
}

/// Chooses for phase 1: ours is the order. Only transforms that authenticate with a pre-shared key count.
pub(super) fn pick_ike(ours: &[IkeProposal], offered: &SaPayload) -> Option<Chosen<IkeSuite>> {
    let ours: Vec<IkeProposal> = ours.iter().filter_map(for_version_1).collect();
    let (places, converted) = converted_ike(offered);
    let chosen = choose_ike(&ours, &converted)?;
    take(offered, &places, chosen.answer.number, chosen.suite)
}

/// Chooses for phase 2.
pub(super) fn pick_esp(ours: &[EspProposal], offered: &SaPayload, mode: Mode) -> Option<Chosen<EspSuite>> {
    let (places, converted) = converted_esp(offered, Some(mode));
    let chosen = choose_esp(ours, &converted, KeyExchange::Negotiated, false)?;
    take(offered, &places, chosen.answer.number, chosen.suite)
}

/// What was offered for phase 1, as IKEv2 would say it.
pub(super) fn describe_ike(offered: &SaPayload) -> Vec<ike::Proposal> {
    converted_ike(offered).1
}

/// What was offered for phase 2, as IKEv2 would say it.
pub(super) fn describe_esp(offered: &SaPayload) -> Vec<ike::Proposal> {
    converted_esp(offered, None).1
}

/// What of a proposal version 1 can carry: no AEAD, and the function of the hash as the only PRF.
pub(super) fn for_version_1(proposal: &IkeProposal) -> Option<IkeProposal> {
    let encryption: Vec<Encryption> = proposal
        .encryption
        .iter()
        .copied()
        .filter(|encryption| phase_1_cipher(*encryption).is_some())
        .collect();
    (!encryption.is_empty() && !proposal.integrity.is_empty()).then(|| IkeProposal {
        encryption,
        integrity: proposal.integrity.clone(),
        prf: proposal
            .integrity
            .iter()
            .map(|integrity| integrity.prf())
            .collect(),
        dh: proposal.dh.clone(),
        additional: Vec::new(),
    })
}

/// Lifetimes out of attributes of phase 1.
pub(super) fn ike_lifetimes(attributes: &[Attribute]) -> Lifetimes {
    lifetimes(attributes, phase_1::LIFE_TYPE, phase_1::LIFE_DURATION)
}

/// Lifetimes out of attributes of phase 2.
pub(super) fn esp_lifetimes(attributes: &[Attribute]) -> Lifetimes {
    lifetimes(attributes, phase_2::LIFE_TYPE, phase_2::LIFE_DURATION)
}

/// Attributes of phase 2 that state a lifetime in seconds.
pub(super) fn esp_seconds(seconds: u32) -> Vec<Attribute> {
    vec![
        Attribute::number(phase_2::LIFE_TYPE, 1),
        Attribute::number(phase_2::LIFE_DURATION, seconds),
    ]
}

fn lifetimes(attributes: &[Attribute], type_kind: u16, duration_kind: u16) -> Lifetimes {
    let mut found = Lifetimes::default();
    let mut life_type = None;
    for attribute in attributes {
        if attribute.kind() == type_kind {
            life_type = attribute.value();
        } else if attribute.kind() == duration_kind {
            match life_type {
                Some(SECONDS) => found.seconds = attribute.value(),
                Some(KILOBYTES) => found.kilobytes = attribute.value(),
                Some(_) | None => {}
            }
        }
    }
    found
}

type Place = (usize, usize);

fn converted_ike(offered: &SaPayload) -> (Vec<Place>, Vec<ike::Proposal>) {
    convert(offered, ProtocolId::ISAKMP, ike::ProtocolId::IKE, |transform| {
        if number(transform, phase_1::AUTHENTICATION) != Some(u64::from(AUTH_PRE_SHARED_KEY)) {
            return None;
        }
        let bits = number(transform, phase_1::KEY_LENGTH);
        let cipher = number(transform, phase_1::ENCRYPTION)?;
        let encryption = *Encryption::ALL.iter().find(|encryption| {
            phase_1_cipher(**encryption)
                .is_some_and(|(id, key)| u64::from(id) == cipher && key.map(u64::from) == bits)
        })?;
        let hash = number(transform, phase_1::HASH)?;
        let integrity = *Integrity::ALL
            .iter()
            .find(|integrity| u64::from(hash_number(**integrity)) == hash)?;
        let group = u16::try_from(number(transform, phase_1::GROUP)?).ok()?;
        Some(vec![
            encryption_transform(encryption),
            ChosenTransform::new(TransformType::INTEG, integrity_id(integrity)),
            ChosenTransform::new(TransformType::PRF, prf_id(integrity.prf())),
            ChosenTransform::new(TransformType::KE, TransformId(group)),
        ])
    })
}

fn converted_esp(offered: &SaPayload, mode: Option<Mode>) -> (Vec<Place>, Vec<ike::Proposal>) {
    convert(offered, ProtocolId::ESP, ike::ProtocolId::ESP, |transform| {
        let asked = number(transform, phase_2::MODE)?;
        if mode.is_some_and(|mode| !mode.is(asked)) {
            return None;
        }
        let bits = number(transform, phase_2::KEY_LENGTH);
        let encryption = *Encryption::ALL.iter().find(|encryption| {
            phase_2_cipher(**encryption)
                .is_some_and(|(id, key)| id == transform.id && key.map(u64::from) == bits)
        })?;
        let mut transforms = vec![encryption_transform(encryption)];
        if let Some(authentication) = number(transform, phase_2::AUTHENTICATION) {
            let integrity = *Integrity::ALL
                .iter()
                .find(|integrity| u64::from(authentication_number(**integrity)) == authentication)?;
            transforms.push(ChosenTransform::new(
                TransformType::INTEG,
                integrity_id(integrity),
            ));
        }
        if let Some(group) = number(transform, phase_2::GROUP) {
            let group = TransformId(u16::try_from(group).ok()?);
            transforms.push(ChosenTransform::new(TransformType::KE, group));
        }
        Some(transforms)
    })
}

/// Each transform that can be told in IKEv2's terms becomes a proposal, numbered by its place in the first list.
fn convert(
    offered: &SaPayload,
    protocol: ProtocolId,
    as_protocol: ike::ProtocolId,
    tell: impl Fn(&Transform) -> Option<Vec<ChosenTransform>>,
) -> (Vec<Place>, Vec<ike::Proposal>) {
    let mut places = Vec::new();
    let mut converted = Vec::new();
    for (index, proposal) in offered.proposals.iter().enumerate() {
        // Proposals with the same number ask for several protocols at once, such as compression.
        let alone = offered
            .proposals
            .iter()
            .filter(|other| other.number == proposal.number)
            .count()
            == 1;
        if proposal.protocol != protocol || !alone {
            continue;
        }
        for (position, transform) in proposal.transforms.iter().enumerate() {
            let (Some(transforms), Ok(number)) = (tell(transform), u8::try_from(places.len())) else {
                continue;
            };
            places.push((index, position));
            converted.push(ike::Proposal {
                number,
                protocol: as_protocol,
                spi: proposal.spi.clone(),
                transforms,
            });
        }
    }
    (places, converted)
}

fn take<S>(offered: &SaPayload, places: &[Place], number: u8, suite: S) -> Option<Chosen<S>> {
    let (index, position) = *places.get(usize::from(number))?;
    let proposal = offered.proposals.get(index)?;
    let transform = proposal.transforms.get(position)?;
    let lifetimes = if proposal.protocol == ProtocolId::ISAKMP {
        ike_lifetimes(&transform.attributes)
    } else {
        esp_lifetimes(&transform.attributes)
    };
    Some(Chosen {
        suite,
        lifetimes,
        answer: Proposal {
            transforms: vec![transform.clone()],
            ..proposal.clone()
        },
    })
}

fn numbered(transforms: Vec<(u8, Vec<Attribute>)>) -> Vec<Transform> {
    transforms
        .into_iter()
        .take(MAX_OFFERED)
        .zip(1u8..)
        .map(|((id, attributes), number)| Transform {
            number,
            id,
            attributes,
        })
        .collect()
}

fn number(transform: &Transform, kind: u16) -> Option<u64> {
    transform
        .attributes
        .iter()
        .find(|attribute| attribute.kind() == kind)
        .and_then(Attribute::value)
}

fn pairs<'a>(
    encryption: &'a [Encryption],
    integrity: &'a [Integrity],
) -> impl Iterator<Item = (Encryption, Integrity)> + 'a {
    encryption
        .iter()
        .flat_map(move |encryption| integrity.iter().map(move |integrity| (*encryption, *integrity)))
}

/// Number and key length attribute of a cipher in phase 1. Triple DES must not carry a length, AES must.
const fn phase_1_cipher(encryption: Encryption) -> Option<(u32, Option<u16>)> {
    match encryption.cipher() {
        Cipher::TripleDesCbc => Some((5, encryption.key_bits())),
        Cipher::AesCbc => Some((7, encryption.key_bits())),
        Cipher::AesGcm { .. } | Cipher::ChaCha20Poly1305 => None,
    }
}

/// Transform id and key length attribute of a cipher in phase 2.
const fn phase_2_cipher(encryption: Encryption) -> Option<(u8, Option<u16>)> {
    match encryption.cipher() {
        Cipher::TripleDesCbc => Some((3, encryption.key_bits())),
        Cipher::AesCbc => Some((12, encryption.key_bits())),
        Cipher::AesGcm { icv_len: 8 } => Some((18, encryption.key_bits())),
        Cipher::AesGcm { icv_len: 12 } => Some((19, encryption.key_bits())),
        Cipher::AesGcm { .. } => Some((20, encryption.key_bits())),
        Cipher::ChaCha20Poly1305 => None,
    }
}

const fn hash_number(integrity: Integrity) -> u32 {
    match integrity {
        Integrity::HmacMd5_96 => 1,
        Integrity::HmacSha1_96 => 2,
        Integrity::HmacSha2_256_128 => 4,
        Integrity::HmacSha2_384_192 => 5,
        Integrity::HmacSha2_512_256 => 6,
    }
}

const fn authentication_number(integrity: Integrity) -> u32 {
    match integrity {
        Integrity::HmacMd5_96 => 1,
        Integrity::HmacSha1_96 => 2,
        Integrity::HmacSha2_256_128 => 5,
        Integrity::HmacSha2_384_192 => 6,
        Integrity::HmacSha2_512_256 => 7,
    }
}

#[cfg(test)]
mod tests {
    use isthmus_types::Prf;

    use super::*;

    fn ike() -> Vec<IkeProposal> {
        vec![IkeProposal {
            encryption: vec![Encryption::Aes256Cbc, Encryption::TripleDes],
            integrity: vec![Integrity::HmacSha2_256_128, Integrity::HmacSha1_96],
            prf: vec![Prf::HmacSha2_256],
            dh: vec![DhGroup::Modp2048, DhGroup::Ecp256],
            additional: Vec::new(),
        }]
    }

    #[test]
    fn every_combination_of_phase_1_is_offered_and_can_be_chosen() {
        let offered = offer_ike(&ike(), 86_400);
        assert_eq!(offered.proposals[0].transforms.len(), 8);
        for transform in &offered.proposals[0].transforms {
            let is_aes = number(transform, phase_1::ENCRYPTION) == Some(7);
            assert_eq!(number(transform, phase_1::KEY_LENGTH).is_some(), is_aes);
        }
        let ours = [IkeProposal {
            encryption: vec![Encryption::TripleDes],
            integrity: vec![Integrity::HmacSha1_96],
            dh: vec![DhGroup::Ecp256],
            ..ike().remove(0)
        }];
        let chosen = pick_ike(&ours, &offered).unwrap();
        assert_eq!(chosen.suite.to_string(), "3des-sha1-prfsha1-ecp256");
        assert_eq!(chosen.lifetimes.seconds, Some(86_400));
        assert_eq!(
            chosen.answer.transforms,
            [offered.proposals[0].transforms[7].clone()]
        );
    }

    #[test]
    fn a_long_offer_is_made_in_parts() {
        let proposals = [IkeProposal {
            encryption: vec![
                Encryption::Aes256Cbc,
                Encryption::Aes192Cbc,
                Encryption::Aes128Cbc,
                Encryption::TripleDes,
            ],
            integrity: Integrity::ALL.to_vec(),
            dh: DhGroup::ALL.to_vec(),
            ..ike().remove(0)
        }];
        let offers = offers_ike(&proposals, 3600);
        let count: usize = offers
            .iter()
            .map(|offer| offer.proposals[0].transforms.len())
            .sum();
        assert_eq!(count, 4 * Integrity::ALL.len() * DhGroup::ALL.len());
        assert!(
            offers
                .iter()
                .all(|offer| offer.proposals[0].transforms.len() <= MAX_OFFERED_AT_ONCE)
        );
        assert!(offers_ike(&[], 3600).is_empty());
    }

    #[test]
    fn one_group_goes_with_one_offer_of_phase_2() {
        let proposals = [
            EspProposal {
                encryption: vec![Encryption::Aes256Gcm16],
                integrity: Vec::new(),
                pfs: vec![DhGroup::Modp2048, DhGroup::Ecp256],
                additional: Vec::new(),
            },
            EspProposal {
                encryption: vec![Encryption::Aes128Cbc],
                integrity: vec![Integrity::HmacSha1_96],
                pfs: vec![DhGroup::Ecp256],
                additional: Vec::new(),
            },
        ];
        let lifetimes = Lifetimes {
            seconds: Some(3600),
            kilobytes: Some(100_000),
        };
        let offer = |group| offer_esp(&proposals, group, 300, Mode::UdpTunnel, lifetimes);
        assert_eq!(offer(Some(DhGroup::Modp2048)).proposals.len(), 1);
        assert_eq!(offer(Some(DhGroup::Ecp256)).proposals.len(), 2);
        assert!(offer(None).proposals.is_empty());
        let offered = offer(Some(DhGroup::Ecp256));
        let chosen = pick_esp(&proposals[1..], &offered, Mode::UdpTunnel).unwrap();
        assert_eq!(chosen.suite.to_string(), "aes128-sha1-ecp256");
        assert_eq!(chosen.lifetimes, lifetimes);
        assert_eq!(chosen.answer.number, 2);
        assert!(pick_esp(&proposals, &offered, Mode::Tunnel).is_none());
    }
}
