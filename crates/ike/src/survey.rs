//! What a peer that accepts none of our proposals would accept: asked once, with everything that is not obsolete.
//!
//! A survey of IKE proposals ends with the peer's IKE_SA_INIT answer: nothing is derived from it and the attempt is given
//! up. A survey of ESP proposals runs on an authenticated IKE SA, and what the peer installed is deleted at once. Neither
//! ever carries traffic.

use isthmus_types::{DhGroup, Encryption, EspProposal, IkeProposal, Integrity, Prf};

/// Whether the peer is to be asked what it would accept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Survey {
    /// It was asked.
    Done,
    /// There was no reason.
    #[default]
    NotNeeded,
    /// With the next attempt.
    Wanted,
}

impl Survey {
    /// The peer accepts none of our proposals.
    pub(crate) fn ask(&mut self) {
        if *self == Self::NotNeeded {
            *self = Self::Wanted;
        }
    }

    /// Whether the attempt that begins now asks.
    pub(crate) fn take(&mut self) -> bool {
        let wanted = *self == Self::Wanted;
        if wanted {
            *self = Self::Done;
        }
        wanted
    }
}

const AEADS: [Encryption; 3] = [
    Encryption::Aes256Gcm16,
    Encryption::Aes128Gcm16,
    Encryption::ChaCha20Poly1305,
];
const CIPHERS: [Encryption; 3] = [
    Encryption::Aes256Cbc,
    Encryption::Aes128Cbc,
    Encryption::Aes192Cbc,
];
const INTEGRITIES: [Integrity; 3] = [
    Integrity::HmacSha2_256_128,
    Integrity::HmacSha2_384_192,
    Integrity::HmacSha2_512_256,
];
const PRFS: [Prf; 3] = [Prf::HmacSha2_256, Prf::HmacSha2_384, Prf::HmacSha2_512];
const GROUPS: [DhGroup; 7] = [
    DhGroup::X25519,
    DhGroup::Ecp256,
    DhGroup::Modp2048,
    DhGroup::Ecp384,
    DhGroup::Ecp521,
    DhGroup::Modp3072,
    DhGroup::Modp4096,
];

/// Our IKE algorithms, then every other one that is not obsolete.
pub(crate) fn ike(ours: &[IkeProposal]) -> Vec<IkeProposal> {
    let (prf, dh) = (
        with(ours.iter().flat_map(|proposal| &proposal.prf), &PRFS),
        with(ours.iter().flat_map(|proposal| &proposal.dh), &GROUPS),
    );
    suites(
        ours.iter().flat_map(|proposal| &proposal.encryption),
        ours.iter().flat_map(|proposal| &proposal.integrity),
    )
    .map(|(encryption, integrity)| IkeProposal {
        encryption,
        integrity,
        prf: prf.clone(),
        dh: dh.clone(),
        additional: Vec::new(),
    })
    .collect()
}

/// Our ESP algorithms with our groups, then every other cipher that is not obsolete.
pub(crate) fn esp(ours: &[EspProposal]) -> Vec<EspProposal> {
    let pfs = with(ours.iter().flat_map(|proposal| &proposal.pfs), &[]);
    suites(
        ours.iter().flat_map(|proposal| &proposal.encryption),
        ours.iter().flat_map(|proposal| &proposal.integrity),
    )
    .map(|(encryption, integrity)| EspProposal {
        encryption,
        integrity,
        pfs: pfs.clone(),
        additional: Vec::new(),
    })
    .collect()
}

/// Ciphers with and without an integrity algorithm of their own, the kind that we prefer first.
fn suites<'a>(
    encryption: impl Iterator<Item = &'a Encryption>,
    integrity: impl Iterator<Item = &'a Integrity>,
) -> impl Iterator<Item = (Vec<Encryption>, Vec<Integrity>)> {
    let ours: Vec<Encryption> = encryption.copied().collect();
    let of_kind = |aead: bool| ours.iter().filter(move |cipher| cipher.is_aead() == aead);
    let mut suites = [
        (with(of_kind(false), &CIPHERS), with(integrity, &INTEGRITIES)),
        (with(of_kind(true), &AEADS), Vec::new()),
    ];
    if ours.first().is_some_and(|first| first.is_aead()) {
        suites.reverse();
    }
    suites.into_iter()
}

/// `first`, then those of `more` that are not among them.
fn with<'a, T: Copy + PartialEq + 'a>(first: impl Iterator<Item = &'a T>, more: &'a [T]) -> Vec<T> {
    let mut all: Vec<T> = Vec::new();
    for item in first.chain(more) {
        if !all.contains(item) {
            all.push(*item);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_algorithms_come_first_and_each_once() {
        let ours = [IkeProposal {
            encryption: vec![Encryption::Aes128Gcm16],
            integrity: Vec::new(),
            prf: vec![Prf::HmacSha2_512],
            dh: vec![DhGroup::Modp1024, DhGroup::Ecp384],
            additional: Vec::new(),
        }];
        let asked = ike(&ours);
        assert_eq!(asked.len(), 2);
        assert_eq!(asked[0].encryption[0], Encryption::Aes128Gcm16);
        assert!(asked[0].integrity.is_empty() && !asked[1].integrity.is_empty());
        assert_eq!(asked[1].prf[0], Prf::HmacSha2_512);
        assert_eq!(asked[0].dh.len(), GROUPS.len() + 1);
        assert_eq!(asked[0].dh[..2], [DhGroup::Modp1024, DhGroup::Ecp384]);
        // Nothing obsolete but what is configured.
        assert!(!asked[1].encryption.contains(&Encryption::TripleDes));
    }

    #[test]
    fn a_peer_is_asked_once() {
        let mut survey = Survey::default();
        assert!(!survey.take());
        survey.ask();
        assert!(survey.take());
        survey.ask();
        assert!(!survey.take());
    }
}
