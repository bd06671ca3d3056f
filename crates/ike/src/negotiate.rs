//! Choice of proposals (RFC 7296 sections 2.7 and 3.3).
//!
//! The rule: the responder takes the first of *its own* proposals, and in it the first algorithm of each kind, that
//! some proposal of the peer offers. A peer's proposal with a transform type that we do not know is not chosen.

use isthmus_crypto::suite::CipherSuite;
use isthmus_types::{AdditionalKeyExchange, DhGroup, Encryption, EspProposal, IkeProposal, Integrity, Prf};
use isthmus_wire::ike::{IkeSpi, Proposal, ProtocolId, Transform, TransformId, TransformType};

use crate::algorithm::{
    ADDITIONAL_TYPES, AdditionalKeyExchanges, EspSuite, IkeSuite, SequenceNumbers, additional_id,
    describe_transform, encryption_transform, group_id, integrity_id, prf_id, same_cipher,
    sequence_numbers_id,
};

/// A choice, and the answer that tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chosen<S> {
    /// What was agreed.
    pub(crate) suite: S,
    /// The SPI that the peer gave.
    pub(crate) peer_spi: Vec<u8>,
    /// The answer, with an empty SPI for us to fill in.
    pub(crate) answer: Proposal,
}

/// Whether an ESP exchange does a key exchange of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyExchange {
    /// In IKE_AUTH: groups are neither offered nor looked at.
    Absent,
    /// In CREATE_CHILD_SA: groups are offered and must match.
    Negotiated,
}

/// Proposals for a new IKE SA, or with our new SPI for a rekey.
pub(crate) fn offer_ike(proposals: &[IkeProposal], spi: Option<IkeSpi>) -> Vec<Proposal> {
    let spi = spi.map_or_else(Vec::new, |spi| spi.0.to_be_bytes().to_vec());
    numbered(proposals.iter().map(|proposal| {
        let mut transforms = ciphers(&proposal.encryption, &proposal.integrity);
        transforms.extend(prfs(&proposal.prf));
        transforms.extend(groups(&proposal.dh));
        transforms.extend(additional(&proposal.additional));
        (ProtocolId::IKE, spi.clone(), transforms)
    }))
}

/// Proposals for a Child SA whose inbound SPI is `spi`.
pub(crate) fn offer_esp(
    proposals: &[EspProposal],
    spi: u32,
    exchange: KeyExchange,
    extended_sequence_numbers: bool,
) -> Vec<Proposal> {
    numbered(proposals.iter().map(|proposal| {
        let mut transforms = ciphers(&proposal.encryption, &proposal.integrity);
        if exchange == KeyExchange::Negotiated {
            transforms.extend(groups(&proposal.pfs));
            if !proposal.pfs.is_empty() {
                transforms.extend(additional(&proposal.additional));
            }
        }
        transforms.extend(
            acceptable_widths(extended_sequence_numbers)
                .iter()
                .map(|width| Transform::new(TransformType::ESN, sequence_numbers_id(*width))),
        );
        (ProtocolId::ESP, spi.to_be_bytes().to_vec(), transforms)
    }))
}

/// Chooses for an IKE SA.
pub(crate) fn choose_ike(ours: &[IkeProposal], offered: &[Proposal]) -> Option<Chosen<IkeSuite>> {
    ours.iter()
        .flat_map(|our| offered.iter().map(move |their| (our, their)))
        .filter(|(_, their)| their.protocol == ProtocolId::IKE)
        .find_map(|(our, their)| {
            let sorted = Sorted::of(their)?;
            let (cipher, mut transforms) = sorted.cipher(&our.encryption, &our.integrity)?;
            let (prf, transform) = sorted.pick(TransformType::PRF, &our.prf, prf_id)?;
            transforms.push(transform);
            let (dh, transform) = sorted.pick(TransformType::KE, &our.dh, group_id)?;
            transforms.push(transform);
            let (additional, more) = sorted.additional(&our.additional)?;
            transforms.extend(more);
            if sorted.has(TransformType::ESN) {
                return None;
            }
            Some(chosen(
                IkeSuite {
                    cipher,
                    prf,
                    dh,
                    additional,
                },
                their,
                transforms,
            ))
        })
}

/// Chooses for a Child SA.
pub(crate) fn choose_esp(
    ours: &[EspProposal],
    offered: &[Proposal],
    exchange: KeyExchange,
    extended_sequence_numbers: bool,
) -> Option<Chosen<EspSuite>> {
    ours.iter()
        .flat_map(|our| offered.iter().map(move |their| (our, their)))
        .filter(|(_, their)| their.protocol == ProtocolId::ESP && their.spi.len() == 4)
        .find_map(|(our, their)| {
            let sorted = Sorted::of(their)?;
            if sorted.has(TransformType::PRF) {
                return None;
            }
            let (cipher, mut transforms) = sorted.cipher(&our.encryption, &our.integrity)?;
            let mut additional = AdditionalKeyExchanges::default();
            let pfs = match exchange {
                KeyExchange::Absent => None,
                KeyExchange::Negotiated if our.pfs.is_empty() => {
                    if sorted.has(TransformType::KE)
                        && !sorted.offers(TransformType::KE, TransformId::KE_NONE)
                    {
                        return None;
                    }
                    transforms.extend(sorted.additional(&[])?.1);
                    None
                }
                KeyExchange::Negotiated => {
                    let (group, transform) = sorted.pick(TransformType::KE, &our.pfs, group_id)?;
                    transforms.push(transform);
                    let (chosen, more) = sorted.additional(&our.additional)?;
                    additional = chosen;
                    transforms.extend(more);
                    Some(group)
                }
            };
            let (sequence_numbers, transform) = if sorted.has(TransformType::ESN) {
                sorted.pick(
                    TransformType::ESN,
                    acceptable_widths(extended_sequence_numbers),
                    sequence_numbers_id,
                )?
            } else {
                // Older peers leave it out, which means 32 bits.
                (
                    SequenceNumbers::Short,
                    Transform::new(TransformType::ESN, TransformId::ESN_NO),
                )
            };
            transforms.push(transform);
            Some(chosen(
                EspSuite {
                    cipher,
                    pfs,
                    additional,
                    sequence_numbers,
                },
                their,
                transforms,
            ))
        })
}

/// Proposals in words, for evidence sentences.
pub(crate) fn describe(proposals: &[Proposal]) -> String {
    let words: Vec<String> = proposals
        .iter()
        .take(4)
        .map(|proposal| {
            let words: Vec<String> = proposal
                .transforms
                .iter()
                .filter(|transform| transform.transform_type != TransformType::ESN)
                .take(12)
                .map(describe_transform)
                .collect();
            words.join("-")
        })
        .collect();
    let mut text = words.join(", ");
    if proposals.len() > words.len() {
        text.push_str(", …");
    }
    text
}

/// A proposal's transforms, checked: known types only and an integrity algorithm exactly where one is due.
struct Sorted<'a> {
    transforms: &'a [Transform],
}

impl<'a> Sorted<'a> {
    fn of(proposal: &'a Proposal) -> Option<Self> {
        let known = |transform: &Transform| {
            matches!(
                transform.transform_type,
                TransformType::ENCR
                    | TransformType::PRF
                    | TransformType::INTEG
                    | TransformType::KE
                    | TransformType::ESN
            ) || ADDITIONAL_TYPES.contains(&transform.transform_type)
        };
        proposal.transforms.iter().all(known).then_some(Self {
            transforms: &proposal.transforms,
        })
    }

    fn of_type(&self, transform_type: TransformType) -> impl Iterator<Item = &'a Transform> {
        self.transforms
            .iter()
            .filter(move |transform| transform.transform_type == transform_type)
    }

    fn has(&self, transform_type: TransformType) -> bool {
        self.of_type(transform_type).next().is_some()
    }

    fn offers(&self, transform_type: TransformType, id: TransformId) -> bool {
        self.of_type(transform_type)
            .any(|transform| transform.id == id && transform.attributes.is_empty())
    }

    fn pick<T: Copy>(
        &self,
        transform_type: TransformType,
        ours: &[T],
        id: impl Fn(T) -> TransformId,
    ) -> Option<(T, Transform)> {
        ours.iter()
            .find(|our| self.offers(transform_type, id(**our)))
            .map(|our| (*our, Transform::new(transform_type, id(*our))))
    }

    /// All of ours, in our order, each of another type; types that are left over must offer "none".
    fn additional(&self, ours: &[AdditionalKeyExchange]) -> Option<(AdditionalKeyExchanges, Vec<Transform>)> {
        let mut left = ours;
        let mut transforms = Vec::new();
        for transform_type in ADDITIONAL_TYPES {
            if !self.has(transform_type) {
                continue;
            }
            let id = match left {
                [first, rest @ ..] if self.offers(transform_type, additional_id(*first)) => {
                    left = rest;
                    additional_id(*first)
                }
                [] | [_, ..] if self.offers(transform_type, TransformId::KE_NONE) => TransformId::KE_NONE,
                [] | [_, ..] => return None,
            };
            transforms.push(Transform::new(transform_type, id));
        }
        left.is_empty()
            .then(|| (AdditionalKeyExchanges::new(ours), transforms))
    }

    fn cipher(
        &self,
        encryption: &[Encryption],
        integrity: &[Integrity],
    ) -> Option<(CipherSuite, Vec<Transform>)> {
        encryption.iter().find_map(|encryption| {
            let wanted = encryption_transform(*encryption);
            let offered = self
                .of_type(TransformType::ENCR)
                .find(|transform| same_cipher(transform, &wanted))?;
            if encryption.is_aead() {
                let bare = !self.has(TransformType::INTEG)
                    || self.offers(TransformType::INTEG, TransformId::AUTH_NONE);
                let cipher = CipherSuite::new(*encryption, None).ok()?;
                return bare.then(|| (cipher, vec![offered.clone()]));
            }
            let (integrity, transform) = self.pick(TransformType::INTEG, integrity, |integrity| {
                integrity_id(integrity)
            })?;
            let cipher = CipherSuite::new(*encryption, Some(integrity)).ok()?;
            Some((cipher, vec![offered.clone(), transform]))
        })
    }
}

fn chosen<S>(suite: S, their: &Proposal, transforms: Vec<Transform>) -> Chosen<S> {
    Chosen {
        suite,
        peer_spi: their.spi.clone(),
        answer: Proposal {
            number: their.number,
            protocol: their.protocol,
            spi: Vec::new(),
            transforms,
        },
    }
}

fn numbered(proposals: impl Iterator<Item = (ProtocolId, Vec<u8>, Vec<Transform>)>) -> Vec<Proposal> {
    proposals
        .zip(1u8..)
        .map(|((protocol, spi, transforms), number)| Proposal {
            number,
            protocol,
            spi,
            transforms,
        })
        .collect()
}

fn ciphers(encryption: &[Encryption], integrity: &[Integrity]) -> Vec<Transform> {
    let encryption = encryption
        .iter()
        .map(|encryption| encryption_transform(*encryption));
    let integrity = integrity
        .iter()
        .map(|integrity| Transform::new(TransformType::INTEG, integrity_id(*integrity)));
    encryption.chain(integrity).collect()
}

fn prfs(prfs: &[Prf]) -> impl Iterator<Item = Transform> {
    prfs.iter()
        .map(|prf| Transform::new(TransformType::PRF, prf_id(*prf)))
}

fn groups(groups: &[DhGroup]) -> impl Iterator<Item = Transform> {
    groups
        .iter()
        .map(|group| Transform::new(TransformType::KE, group_id(*group)))
}

fn additional(methods: &[AdditionalKeyExchange]) -> impl Iterator<Item = Transform> {
    ADDITIONAL_TYPES
        .iter()
        .zip(methods)
        .map(|(transform_type, method)| Transform::new(*transform_type, additional_id(*method)))
}

const fn acceptable_widths(extended: bool) -> &'static [SequenceNumbers] {
    if extended {
        &[SequenceNumbers::Extended, SequenceNumbers::Short]
    } else {
        &[SequenceNumbers::Short]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cbc(encryption: Encryption, integrity: Integrity, dh: DhGroup) -> IkeProposal {
        IkeProposal {
            encryption: vec![encryption],
            integrity: vec![integrity],
            prf: vec![Prf::HmacSha2_256],
            dh: vec![dh],
            additional: Vec::new(),
        }
    }

    fn gcm(dh: Vec<DhGroup>) -> IkeProposal {
        IkeProposal {
            encryption: vec![Encryption::Aes256Gcm16, Encryption::Aes128Gcm16],
            integrity: vec![],
            prf: vec![Prf::HmacSha2_256],
            dh,
            additional: Vec::new(),
        }
    }

    fn esp(pfs: Vec<DhGroup>) -> EspProposal {
        EspProposal {
            encryption: vec![Encryption::Aes256Gcm16],
            integrity: vec![],
            pfs,
            additional: Vec::new(),
        }
    }

    #[test]
    fn the_first_of_our_own_order_is_chosen() {
        let ours = [
            gcm(vec![DhGroup::X25519, DhGroup::Ecp256]),
            cbc(
                Encryption::Aes256Cbc,
                Integrity::HmacSha2_256_128,
                DhGroup::Modp2048,
            ),
        ];
        let theirs = [
            cbc(
                Encryption::Aes256Cbc,
                Integrity::HmacSha2_256_128,
                DhGroup::Modp2048,
            ),
            gcm(vec![DhGroup::Ecp256, DhGroup::X25519]),
        ];
        let chosen = choose_ike(&ours, &offer_ike(&theirs, None)).unwrap();
        assert_eq!(chosen.suite.to_string(), "aes256gcm16-prfsha256-x25519");
        assert_eq!(chosen.answer.number, 2);
        assert_eq!(chosen.answer.transforms.len(), 3);
    }

    fn hybrid() -> IkeProposal {
        IkeProposal {
            additional: vec![AdditionalKeyExchange::MlKem768],
            ..gcm(vec![DhGroup::X25519])
        }
    }

    #[test]
    fn additional_key_exchanges_must_match_unless_a_plain_proposal_stands_beside() {
        let plain = gcm(vec![DhGroup::X25519]);
        let both = [hybrid(), plain.clone()];
        for (ours, theirs, expected) in [
            (
                &both[..1],
                &both[..1],
                Some("aes256gcm16-prfsha256-x25519-mlkem768"),
            ),
            (
                &both[..],
                &both[..1],
                Some("aes256gcm16-prfsha256-x25519-mlkem768"),
            ),
            (&both[..], &both[1..], Some("aes256gcm16-prfsha256-x25519")),
            (&both[1..], &both[..], Some("aes256gcm16-prfsha256-x25519")),
            (&both[..1], &both[1..], None),
            (&both[1..], &both[..1], None),
        ] {
            let chosen = choose_ike(ours, &offer_ike(theirs, None));
            assert_eq!(
                chosen.as_ref().map(|chosen| chosen.suite.to_string()).as_deref(),
                expected
            );
            if let Some(chosen) = chosen {
                // The initiator reads the answer as the responder meant it.
                let read = choose_ike(theirs, &[chosen.answer]).expect("the answer is one of the offers");
                assert_eq!(read.suite, chosen.suite);
            }
        }
    }

    #[test]
    fn an_additional_key_exchange_may_have_any_type_and_none_may_be_chosen() {
        let with = |transforms: &[(TransformType, TransformId)]| {
            let mut offered = offer_ike(&[gcm(vec![DhGroup::X25519])], None);
            offered[0]
                .transforms
                .extend(transforms.iter().map(|(kind, id)| Transform::new(*kind, *id)));
            offered
        };
        let (none, mlkem) = (TransformId::KE_NONE, TransformId::KE_ML_KEM_768);
        let (first, third) = (TransformType::ADDKE1, TransformType::ADDKE3);
        let plain = [gcm(vec![DhGroup::X25519])];
        for (ours, offered, ok) in [
            (&[hybrid()], with(&[(third, mlkem)]), true),
            (&[hybrid()], with(&[(first, none), (third, mlkem)]), true),
            (
                &[hybrid()],
                with(&[(first, mlkem), (third, none), (third, mlkem)]),
                true,
            ),
            (&[hybrid()], with(&[(first, mlkem), (third, mlkem)]), false),
            (&[hybrid()], with(&[(first, TransformId(35))]), false),
            (&plain, with(&[(first, mlkem), (first, none)]), true),
            (&plain, with(&[(first, mlkem)]), false),
        ] {
            let chosen = choose_ike(ours, &offered);
            assert_eq!(chosen.is_some(), ok, "{offered:?}");
            if let Some(chosen) = chosen {
                assert_eq!(chosen.suite.additional.is_empty(), ours[0].additional.is_empty());
            }
        }
    }

    #[test]
    fn key_length_is_part_of_the_cipher() {
        let ours = [cbc(
            Encryption::Aes128Cbc,
            Integrity::HmacSha1_96,
            DhGroup::Modp2048,
        )];
        let theirs = [cbc(
            Encryption::Aes256Cbc,
            Integrity::HmacSha1_96,
            DhGroup::Modp2048,
        )];
        assert_eq!(choose_ike(&ours, &offer_ike(&theirs, None)), None);
    }

    #[test]
    fn a_proposal_without_a_group_or_with_an_unknown_type_is_refused() {
        let ours = [gcm(vec![DhGroup::X25519])];
        let mut offered = offer_ike(&ours, None);
        offered[0]
            .transforms
            .push(Transform::new(TransformType(9), TransformId(1)));
        assert_eq!(choose_ike(&ours, &offered), None);
        let mut offered = offer_ike(&ours, None);
        offered[0]
            .transforms
            .retain(|transform| transform.transform_type != TransformType::KE);
        assert_eq!(choose_ike(&ours, &offered), None);
    }

    #[test]
    fn an_aead_takes_no_integrity_but_none() {
        let ours = [gcm(vec![DhGroup::X25519])];
        let with = |id| {
            let mut offered = offer_ike(&ours, None);
            offered[0]
                .transforms
                .push(Transform::new(TransformType::INTEG, id));
            choose_ike(&ours, &offered).is_some()
        };
        assert!(with(TransformId::AUTH_NONE));
        assert!(!with(TransformId::AUTH_HMAC_SHA2_256_128));
    }

    #[test]
    fn forward_secrecy_must_match_where_it_is_negotiated() {
        let esn = false;
        let with = [esp(vec![DhGroup::Ecp256])];
        let without = [esp(vec![])];
        for (ours, theirs, exchange, ok) in [
            (&with, &with, KeyExchange::Negotiated, true),
            (&with, &without, KeyExchange::Negotiated, false),
            (&without, &with, KeyExchange::Negotiated, false),
            (&without, &without, KeyExchange::Negotiated, true),
            (&with, &without, KeyExchange::Absent, true),
            (&without, &with, KeyExchange::Absent, true),
        ] {
            let offered = offer_esp(theirs, 300, exchange, esn);
            let chosen = choose_esp(ours, &offered, exchange, esn);
            assert_eq!(chosen.is_some(), ok);
            if let Some(chosen) = chosen {
                assert_eq!(chosen.peer_spi, 300u32.to_be_bytes());
                assert_eq!(
                    chosen.suite.pfs.is_some(),
                    exchange == KeyExchange::Negotiated && ours == &with
                );
            }
        }
    }

    #[test]
    fn sequence_number_width_follows_the_responders_preference() {
        for (ours, theirs, expected) in [
            (false, false, Some(SequenceNumbers::Short)),
            (true, true, Some(SequenceNumbers::Extended)),
            (false, true, Some(SequenceNumbers::Short)),
            (true, false, Some(SequenceNumbers::Short)),
        ] {
            let proposals = [esp(vec![])];
            let offered = offer_esp(&proposals, 300, KeyExchange::Absent, theirs);
            let chosen = choose_esp(&proposals, &offered, KeyExchange::Absent, ours);
            assert_eq!(chosen.map(|chosen| chosen.suite.sequence_numbers), expected);
        }
        let proposals = [esp(vec![])];
        let mut offered = offer_esp(&proposals, 300, KeyExchange::Absent, true);
        offered[0]
            .transforms
            .retain(|transform| transform.id != TransformId::ESN_NO);
        assert!(choose_esp(&proposals, &offered, KeyExchange::Absent, false).is_none());
        assert!(choose_esp(&proposals, &offered, KeyExchange::Absent, true).is_some());
    }
}
