//! Which two proposals of the ends differ least, and in what.

use isthmus_wire::ike::{Proposal, Transform, TransformId, TransformType};

use crate::algorithm::{describe_transform, same_cipher};
use crate::finding::Layer;
use crate::negotiate::describe;

/// Two proposals that differ least.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nearest {
    /// Ours, in words.
    pub ours: String,
    /// Theirs, in words.
    pub theirs: String,
    /// In what they differ, as of [`crate::FindingKind::field`]; never empty.
    pub fields: Vec<&'static str>,
}

/// Kinds of algorithms, in the order in which people look at them.
const KINDS: [TransformType; 4] = [
    TransformType::INTEG,
    TransformType::PRF,
    TransformType::KE,
    TransformType::ESN,
];

/// The two proposals that differ in the fewest kinds of algorithms; none if an end has none, or if a pair suits.
pub(crate) fn nearest(layer: Layer, ours: &[Proposal], theirs: &[Proposal]) -> Option<Nearest> {
    ours.iter()
        .flat_map(|our| theirs.iter().map(move |their| (our, their)))
        .map(|(our, their)| (differences(layer, our, their), our, their))
        .min_by_key(|(fields, ..)| cost(fields))
        .filter(|(fields, ..)| !fields.is_empty())
        .map(|(fields, our, their)| Nearest {
            ours: describe(std::slice::from_ref(our)),
            theirs: describe(std::slice::from_ref(their)),
            fields,
        })
}

/// Another key length is nearer than another cipher.
fn cost(fields: &[&str]) -> usize {
    let length = |field: &&&str| field.ends_with("key_length");
    2 * fields.len() - fields.iter().filter(length).count()
}

fn differences(layer: Layer, our: &Proposal, their: &Proposal) -> Vec<&'static str> {
    let mut fields = Vec::new();
    let (ours, theirs) = (Offer(&our.transforms), Offer(&their.transforms));
    let common = ours.of(TransformType::ENCR).find(|transform| {
        theirs
            .of(TransformType::ENCR)
            .any(|other| same_cipher(transform, other))
    });
    if common.is_none() {
        let same_but_length = ours.of(TransformType::ENCR).any(|transform| {
            theirs
                .of(TransformType::ENCR)
                .any(|other| transform.id == other.id && transform.key_length() != other.key_length())
        });
        fields.push(match (layer, same_but_length) {
            (Layer::Ike, false) => "ike.encryption",
            (Layer::Ike, true) => "ike.key_length",
            (Layer::Esp, false) => "esp.encryption",
            (Layer::Esp, true) => "esp.key_length",
        });
    }
    for kind in KINDS {
        // With a cipher that needs none, another integrity algorithm follows from the other cipher.
        let follows =
            kind == TransformType::INTEG && common.is_none() && (!ours.has(kind) || !theirs.has(kind));
        if !follows && !ours.suits(&theirs, kind) {
            fields.push(field(layer, kind));
        }
    }
    let unknown = |offer: &Offer<'_>| {
        offer.0.iter().any(|transform| {
            transform.transform_type != TransformType::ENCR && !KINDS.contains(&transform.transform_type)
        })
    };
    if unknown(&ours) != unknown(&theirs) {
        fields.push(match layer {
            Layer::Ike => "ike.additional_key_exchange",
            Layer::Esp => "esp.additional_key_exchange",
        });
    }
    fields
}

fn field(layer: Layer, kind: TransformType) -> &'static str {
    match (layer, kind) {
        (Layer::Ike, TransformType::INTEG) => "ike.integrity",
        (Layer::Ike, TransformType::PRF) => "ike.prf",
        (Layer::Ike, TransformType::KE) => "ike.dh",
        (Layer::Ike, _) => "ike.esn",
        (Layer::Esp, TransformType::INTEG) => "esp.integrity",
        (Layer::Esp, TransformType::PRF) => "esp.prf",
        (Layer::Esp, TransformType::KE) => "esp.pfs",
        (Layer::Esp, _) => "esp.esn",
    }
}

/// The algorithms of one kind, in words.
pub(crate) fn describe_kind(proposals: &[Proposal], kind: TransformType) -> String {
    let mut words: Vec<String> = Vec::new();
    for proposal in proposals {
        for transform in Offer(&proposal.transforms).of(kind) {
            let word = describe_transform(transform);
            if !words.contains(&word) {
                words.push(word);
            }
        }
    }
    if words.is_empty() {
        "none".into()
    } else {
        words.truncate(8);
        words.join(", ")
    }
}

/// The algorithms of one proposal.
struct Offer<'a>(&'a [Transform]);

impl<'a> Offer<'a> {
    fn of(&self, kind: TransformType) -> impl Iterator<Item = &'a Transform> + use<'a> {
        self.0
            .iter()
            .filter(move |transform| transform.transform_type == kind)
    }

    fn has(&self, kind: TransformType) -> bool {
        self.of(kind).next().is_some()
    }

    /// Whether the kind is absent (or may be) at both ends, or one algorithm is there at both.
    fn suits(&self, other: &Self, kind: TransformType) -> bool {
        let both = self
            .of(kind)
            .any(|transform| other.of(kind).any(|theirs| theirs.id == transform.id));
        both || (self.may_be_absent(kind) && other.may_be_absent(kind))
    }

    fn may_be_absent(&self, kind: TransformType) -> bool {
        // The same number means "none" for integrity and for groups, and "no extended sequence numbers".
        !self.has(kind) || self.of(kind).any(|transform| transform.id == TransformId(0))
    }
}

#[cfg(test)]
mod tests {
    use isthmus_types::{DhGroup, Encryption, EspProposal, IkeProposal, Integrity, Prf};

    use super::*;
    use crate::negotiate::{KeyExchange, offer_esp, offer_ike};

    fn ike(change: impl Fn(&mut IkeProposal)) -> IkeProposal {
        let mut proposal = IkeProposal {
            encryption: vec![Encryption::Aes128Cbc],
            integrity: vec![Integrity::HmacSha2_256_128],
            prf: vec![Prf::HmacSha2_256],
            dh: vec![DhGroup::Ecp256],
            additional: Vec::new(),
        };
        change(&mut proposal);
        proposal
    }

    fn ike_fields(theirs: &[IkeProposal]) -> Vec<&'static str> {
        let ours = offer_ike(&[ike(|_| ())], None);
        nearest(Layer::Ike, &ours, &offer_ike(theirs, None)).map_or_else(Vec::new, |nearest| nearest.fields)
    }

    #[test]
    fn each_kind_of_ike_algorithm_is_named_alone() {
        for (theirs, field) in [
            (
                ike(|p| p.encryption = vec![Encryption::ChaCha20Poly1305]),
                "ike.encryption",
            ),
            (
                ike(|p| p.encryption = vec![Encryption::Aes256Cbc]),
                "ike.key_length",
            ),
            (
                ike(|p| p.integrity = vec![Integrity::HmacSha2_512_256]),
                "ike.integrity",
            ),
            (ike(|p| p.prf = vec![Prf::HmacSha2_512]), "ike.prf"),
            (ike(|p| p.dh = vec![DhGroup::Modp4096]), "ike.dh"),
        ] {
            assert_eq!(ike_fields(&[theirs]), [field]);
        }
        assert!(ike_fields(&[ike(|_| ())]).is_empty());
    }

    #[test]
    fn a_cipher_that_needs_no_integrity_does_not_make_integrity_differ() {
        let aead = ike(|p| {
            p.encryption = vec![Encryption::Aes128Gcm16];
            p.integrity = Vec::new();
        });
        assert_eq!(ike_fields(&[aead]), ["ike.encryption"]);
    }

    #[test]
    fn the_pair_with_the_fewest_differences_is_told() {
        let far = ike(|p| {
            p.dh = vec![DhGroup::Modp4096];
            p.prf = vec![Prf::HmacSha2_512];
        });
        let near = ike(|p| p.encryption = vec![Encryption::Aes256Cbc]);
        let ours = offer_ike(&[ike(|_| ())], None);
        let found = nearest(Layer::Ike, &ours, &offer_ike(&[far, near], None)).unwrap();
        assert_eq!(found.fields, ["ike.key_length"]);
        assert_eq!(found.ours, "aes128-sha256-prfsha256-ecp256");
        assert_eq!(found.theirs, "aes256-sha256-prfsha256-ecp256");
    }

    #[test]
    fn forward_secrecy_and_sequence_numbers_are_kinds_of_esp() {
        let esp = |pfs: Vec<DhGroup>| EspProposal {
            encryption: vec![Encryption::Aes128Gcm16],
            integrity: Vec::new(),
            pfs,
            additional: Vec::new(),
        };
        let offer = |pfs, esn| offer_esp(&[esp(pfs)], 300, KeyExchange::Negotiated, esn);
        let fields = |ours: &[Proposal], theirs: &[Proposal]| {
            nearest(Layer::Esp, ours, theirs).map_or_else(Vec::new, |nearest| nearest.fields)
        };
        let none = offer(Vec::new(), false);
        let group = offer(vec![DhGroup::Ecp256], false);
        assert_eq!(fields(&none, &group), ["esp.pfs"]);
        assert_eq!(fields(&group, &none), ["esp.pfs"]);
        assert_eq!(fields(&group, &offer(vec![DhGroup::X25519], false)), ["esp.pfs"]);
        let mut only_extended = offer(Vec::new(), true);
        only_extended[0]
            .transforms
            .retain(|transform| transform.id != TransformId::ESN_NO);
        assert_eq!(fields(&none, &only_extended), ["esp.esn"]);
        assert_eq!(describe_kind(&group, TransformType::KE), "ecp256");
        assert_eq!(describe_kind(&none, TransformType::KE), "none");
    }
}
