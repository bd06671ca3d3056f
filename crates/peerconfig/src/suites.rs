//! Proposals as single combinations, which is what most devices want.

use isthmus_types::{AdditionalKeyExchange, DhGroup, Encryption, EspProposal, IkeProposal, Integrity, Prf};

use crate::error::Inexpressible;

/// Most combinations of one connection.
const MAX_SUITES: usize = 8192;
/// With more combinations than this, as of automatic negotiation, the best known ones stand for all: one in common is enough.
const MANY_SUITES: usize = 16;
/// How many stand for all.
const FEW_SUITES: usize = 8;

/// One combination for the IKE SA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IkeSuite {
    pub(crate) encryption: Encryption,
    /// None with a cipher that needs none.
    pub(crate) integrity: Option<Integrity>,
    pub(crate) prf: Prf,
    pub(crate) dh: DhGroup,
    pub(crate) additional: Option<AdditionalKeyExchange>,
}

/// One combination for a Child SA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EspSuite {
    pub(crate) encryption: Encryption,
    pub(crate) integrity: Option<Integrity>,
    /// None without perfect forward secrecy.
    pub(crate) pfs: Option<DhGroup>,
    pub(crate) additional: Option<AdditionalKeyExchange>,
}

/// The combinations that are told.
pub(crate) struct Told<S> {
    pub(crate) suites: Vec<S>,
    /// How many combinations there are, also those that are not told.
    of: usize,
}

impl<S> Told<S> {
    /// A remark if these stand for more, beginning with `mark`; empty if they are all.
    pub(crate) fn remark(&self, mark: &str, what: &str) -> String {
        if self.suites.len() == self.of {
            return String::new();
        }
        format!(
            "{mark} {} of the {} combinations of the {what} proposals are listed: one in common is enough.\n",
            self.suites.len(),
            self.of
        )
    }
}

/// What a device has words for, and what had to be left out.
pub(crate) struct Worded<T> {
    pub(crate) words: Vec<T>,
    pub(crate) left_out: Vec<String>,
}

impl<T: PartialEq> Worded<T> {
    /// The words of each item that has some, once each; the others by their names.
    pub(crate) fn of<S: std::fmt::Display>(items: &[S], word: impl Fn(&S) -> Option<T>) -> Self {
        let mut worded = Self {
            words: Vec::new(),
            left_out: Vec::new(),
        };
        for item in items {
            match word(item) {
                Some(word) if worded.words.contains(&word) => {}
                Some(word) => worded.words.push(word),
                None => worded.left_out.push(item.to_string()),
            }
        }
        worded
    }

    /// A remark about what was left out, beginning with `mark`; empty if nothing was.
    ///
    /// # Errors
    /// If nothing is left.
    pub(crate) fn remark(
        &self,
        mark: &str,
        device: &'static str,
        field: &'static str,
    ) -> Result<String, Inexpressible> {
        let shown: Vec<&str> = self.left_out.iter().take(6).map(String::as_str).collect();
        let more = match self.left_out.len() - shown.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let listed = format!("{}{more}", shown.join(", "));
        if self.words.is_empty() {
            let why = format!("it has no words for {listed}: choose another policy");
            return Err(Inexpressible::new(device, field, why));
        }
        if shown.is_empty() {
            return Ok(String::new());
        }
        let what = field.trim_end_matches("_proposals").to_uppercase();
        Ok(format!(
            "{mark} Left out, {device} has no words for it ({what}): {listed}\n"
        ))
    }
}

/// For a device with one setting of perfect forward secrecy for all proposals: the group of the first suite that it has words
/// for, and the words of those that have the same. `word` gives none for a suite whose group the device lacks.
pub(crate) fn with_one_group<T: PartialEq>(
    suites: &[EspSuite],
    word: impl Fn(&EspSuite) -> Option<T>,
) -> (Option<DhGroup>, Worded<T>) {
    let first = suites.iter().find(|suite| word(suite).is_some());
    let group = first.and_then(|suite| suite.pfs);
    let worded = Worded::of(suites, |suite| {
        (suite.pfs == group).then(|| word(suite)).flatten()
    });
    (group, worded)
}

pub(crate) fn ike_suites(proposals: &[IkeProposal]) -> Told<IkeSuite> {
    let mut suites = Vec::new();
    for proposal in proposals {
        for (encryption, integrity) in ciphers(&proposal.encryption, &proposal.integrity) {
            for prf in &proposal.prf {
                for dh in &proposal.dh {
                    for additional in additional(&proposal.additional) {
                        suites.push(IkeSuite {
                            encryption,
                            integrity,
                            prf: *prf,
                            dh: *dh,
                            additional,
                        });
                    }
                }
            }
        }
    }
    suites.truncate(MAX_SUITES);
    few(suites, |suite| {
        let hash = suite
            .integrity
            .is_none_or(|integrity| integrity.prf() == suite.prf);
        let prf = matches!(suite.prf, Prf::HmacSha2_256 | Prf::HmacSha2_512);
        let group = matches!(suite.dh, DhGroup::Ecp256 | DhGroup::Modp2048);
        is_common(suite.encryption, suite.integrity) && hash && prf && group
    })
}

pub(crate) fn esp_suites(proposals: &[EspProposal]) -> Told<EspSuite> {
    let mut suites = Vec::new();
    for proposal in proposals {
        let groups: Vec<Option<DhGroup>> = if proposal.pfs.is_empty() {
            vec![None]
        } else {
            proposal.pfs.iter().copied().map(Some).collect()
        };
        for (encryption, integrity) in ciphers(&proposal.encryption, &proposal.integrity) {
            for pfs in &groups {
                for additional in additional(&proposal.additional) {
                    suites.push(EspSuite {
                        encryption,
                        integrity,
                        pfs: *pfs,
                        additional,
                    });
                }
            }
        }
    }
    suites.truncate(MAX_SUITES);
    few(suites, |suite| {
        let group = matches!(suite.pfs, None | Some(DhGroup::Ecp256 | DhGroup::Modp2048));
        is_common(suite.encryption, suite.integrity) && group
    })
}

/// All of them, or of many a few that every device has.
fn few<S: Copy>(suites: Vec<S>, is_known: impl Fn(&S) -> bool) -> Told<S> {
    let of = suites.len();
    if of <= MANY_SUITES {
        return Told { suites, of };
    }
    let known: Vec<S> = suites.iter().filter(|suite| is_known(suite)).copied().collect();
    let mut few = if known.is_empty() { suites } else { known };
    few.truncate(FEW_SUITES);
    Told { suites: few, of }
}

/// Whether every device of the last years has it, and it is not obsolete.
const fn is_common(encryption: Encryption, integrity: Option<Integrity>) -> bool {
    matches!(
        (encryption, integrity),
        (Encryption::Aes128Gcm16 | Encryption::Aes256Gcm16, None)
            | (
                Encryption::Aes128Cbc | Encryption::Aes256Cbc,
                Some(Integrity::HmacSha2_256_128 | Integrity::HmacSha2_512_256)
            )
    )
}

fn ciphers(encryption: &[Encryption], integrity: &[Integrity]) -> Vec<(Encryption, Option<Integrity>)> {
    encryption
        .iter()
        .flat_map(|encryption| {
            if encryption.is_aead() {
                vec![(*encryption, None)]
            } else {
                integrity
                    .iter()
                    .map(|integrity| (*encryption, Some(*integrity)))
                    .collect()
            }
        })
        .collect()
}

fn additional(exchanges: &[AdditionalKeyExchange]) -> Vec<Option<AdditionalKeyExchange>> {
    if exchanges.is_empty() {
        vec![None]
    } else {
        exchanges.iter().copied().map(Some).collect()
    }
}

impl std::fmt::Display for IkeSuite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.encryption)?;
        if let Some(integrity) = self.integrity {
            write!(f, "-{integrity}")?;
        }
        write!(f, "-{}-{}", self.prf, self.dh)?;
        self.additional
            .map_or(Ok(()), |additional| write!(f, "-{additional}"))
    }
}

impl std::fmt::Display for EspSuite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.encryption)?;
        if let Some(integrity) = self.integrity {
            write!(f, "-{integrity}")?;
        }
        if let Some(group) = self.pfs {
            write!(f, "-{group}")?;
        }
        self.additional
            .map_or(Ok(()), |additional| write!(f, "-{additional}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_combinations_a_few_that_every_device_has_are_told() {
        let everything = IkeProposal {
            encryption: Encryption::ALL.to_vec(),
            integrity: Integrity::ALL.to_vec(),
            prf: Prf::ALL.to_vec(),
            dh: DhGroup::ALL.to_vec(),
            additional: Vec::new(),
        };
        let told = ike_suites(&[everything]);
        assert!(
            told.remark("#", "IKE").contains(" of the "),
            "{}",
            told.remark("#", "IKE")
        );
        let suites = told.suites;
        assert!((1..=FEW_SUITES).contains(&suites.len()), "{}", suites.len());
        for suite in suites {
            assert!(!matches!(suite.dh, DhGroup::Modp1024 | DhGroup::Modp1536));
            assert!(!matches!(suite.prf, Prf::HmacMd5 | Prf::HmacSha1));
        }
    }

    #[test]
    fn what_was_chosen_is_told_whole() {
        let chosen = EspProposal {
            encryption: vec![Encryption::TripleDes],
            integrity: vec![Integrity::HmacMd5_96],
            pfs: vec![DhGroup::Modp1024],
            additional: Vec::new(),
        };
        let told = esp_suites(&[chosen]);
        assert_eq!(told.suites.len(), 1);
        assert_eq!(told.remark("#", "ESP"), "");
    }
}
