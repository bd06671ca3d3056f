//! Proposals: from policies, or the table of automatic negotiation.

use isthmus_model::{IkePolicy, IpsecPolicy};
use isthmus_ops::{MlKem, PolicyGroup};
use isthmus_types::{AdditionalKeyExchange, DhGroup, Encryption, EspProposal, IkeProposal, Integrity};

const AEADS: [Encryption; 3] = [
    Encryption::Aes256Gcm16,
    Encryption::Aes192Gcm16,
    Encryption::Aes128Gcm16,
];
const CIPHERS: [Encryption; 3] = [
    Encryption::Aes256Cbc,
    Encryption::Aes192Cbc,
    Encryption::Aes128Cbc,
];
const HASHES: [Integrity; 3] = [
    Integrity::HmacSha2_512_256,
    Integrity::HmacSha2_384_192,
    Integrity::HmacSha2_256_128,
];

/// The elliptic curves first: our own proposals meet there, and they cost a hundredth of the large primes.
const GROUPS: [DhGroup; 9] = [
    DhGroup::X25519,
    DhGroup::Ecp256,
    DhGroup::Ecp384,
    DhGroup::Ecp521,
    DhGroup::Modp2048,
    DhGroup::Modp3072,
    DhGroup::Modp4096,
    DhGroup::Modp6144,
    DhGroup::Modp8192,
];

const WEAK_CIPHERS: [Encryption; 1] = [Encryption::TripleDes];
const WEAK_HASHES: [Integrity; 2] = [Integrity::HmacSha1_96, Integrity::HmacMd5_96];
const WEAK_GROUPS: [DhGroup; 2] = [DhGroup::Modp1536, DhGroup::Modp1024];

/// What a connection without an IKE policy offers; `weak` adds what is obsolete, at the end of each list.
pub fn auto_ike(weak: bool) -> Vec<IkeProposal> {
    let integrity = joined(&HASHES, &WEAK_HASHES, weak);
    vec![IkeProposal {
        encryption: joined(&CIPHERS, &WEAK_CIPHERS, weak),
        prf: integrity.iter().copied().map(Integrity::prf).collect(),
        integrity,
        dh: joined(&GROUPS, &WEAK_GROUPS, weak),
        additional: Vec::new(),
    }]
}

/// What a connection without an IPsec policy offers: AEADs first, no perfect forward secrecy.
pub fn auto_esp(weak: bool) -> Vec<EspProposal> {
    vec![
        EspProposal {
            encryption: AEADS.to_vec(),
            integrity: Vec::new(),
            pfs: Vec::new(),
            additional: Vec::new(),
        },
        EspProposal {
            encryption: joined(&CIPHERS, &WEAK_CIPHERS, weak),
            integrity: joined(&HASHES, &WEAK_HASHES, weak),
            pfs: Vec::new(),
            additional: Vec::new(),
        },
    ]
}

/// What a policy allows: one proposal for its AEADs, one for its other ciphers, in the order of the policy.
pub(crate) fn of_ike_policy(policy: &IkePolicy) -> Vec<IkeProposal> {
    let dh = known(&policy.dh);
    let prf: Vec<_> = policy.integrity.iter().copied().map(Integrity::prf).collect();
    split(&policy.encryption)
        .into_iter()
        .map(|(encryption, aead)| IkeProposal {
            encryption,
            integrity: if aead {
                Vec::new()
            } else {
                policy.integrity.clone()
            },
            prf: prf.clone(),
            dh: dh.clone(),
            additional: Vec::new(),
        })
        .collect()
}

/// What a policy allows, split like those of [`of_ike_policy`].
pub(crate) fn of_ipsec_policy(policy: &IpsecPolicy) -> Vec<EspProposal> {
    let pfs = known(&policy.pfs);
    split(&policy.encryption)
        .into_iter()
        .map(|(encryption, aead)| EspProposal {
            encryption,
            integrity: if aead {
                Vec::new()
            } else {
                policy.integrity.clone()
            },
            pfs: pfs.clone(),
            additional: Vec::new(),
        })
        .collect()
}

/// A proposal that ML-KEM-768 can be added to.
pub(crate) trait Hybrid: Clone {
    /// Its key exchanges beside the Diffie-Hellman exchange; none if it has no such exchange.
    fn additional(&mut self) -> Option<&mut Vec<AdditionalKeyExchange>>;
}

impl Hybrid for IkeProposal {
    fn additional(&mut self) -> Option<&mut Vec<AdditionalKeyExchange>> {
        Some(&mut self.additional)
    }
}

impl Hybrid for EspProposal {
    fn additional(&mut self) -> Option<&mut Vec<AdditionalKeyExchange>> {
        (!self.pfs.is_empty()).then_some(&mut self.additional)
    }
}

/// The proposals with ML-KEM-768 as wanted: those with it first, then those without unless it is required.
pub(crate) fn with_ml_kem<P: Hybrid>(plain: Vec<P>, wanted: MlKem) -> Vec<P> {
    if wanted == MlKem::Off {
        return plain;
    }
    let mut hybrid = plain.clone();
    let mut differ = false;
    for additional in hybrid.iter_mut().filter_map(Hybrid::additional) {
        additional.push(AdditionalKeyExchange::MlKem768);
        differ = true;
    }
    if differ && wanted == MlKem::On {
        hybrid.extend(plain);
    }
    hybrid
}

/// Ciphers of one kind together, the kind of the preferred one first; true for AEADs.
fn split(ciphers: &[Encryption]) -> Vec<(Vec<Encryption>, bool)> {
    let (aeads, others): (Vec<_>, Vec<_>) = ciphers.iter().copied().partition(|cipher| cipher.is_aead());
    let mut kinds = vec![(aeads, true), (others, false)];
    if ciphers.first().is_some_and(|cipher| !cipher.is_aead()) {
        kinds.reverse();
    }
    kinds.retain(|(ciphers, _)| !ciphers.is_empty());
    kinds
}

fn known(groups: &[PolicyGroup]) -> Vec<DhGroup> {
    groups.iter().filter_map(|group| group.known()).collect()
}

fn joined<T: Copy>(strong: &[T], obsolete: &[T], weak: bool) -> Vec<T> {
    let obsolete = if weak { obsolete } else { &[] };
    strong.iter().chain(obsolete).copied().collect()
}
