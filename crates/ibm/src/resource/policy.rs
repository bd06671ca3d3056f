//! What IKE and IPsec policies share: algorithm lists in their two forms.

use isthmus_ops::{PolicyGroup, ResourceKind};
use isthmus_types::{Encryption, Integrity, VpnConnectionId, VpnGatewayId};
use serde_json::Value;

use crate::body::{Fields, choose};
use crate::call::Call;
use crate::date::ApiDate;
use crate::fault::{Fault, Target};
use crate::render::Render;

/// Ciphers of both kinds of policy. The first is refused at newer dates.
pub(crate) const CBC: [(&str, Encryption); 4] = [
    ("triple_des", Encryption::TripleDes),
    ("aes128", Encryption::Aes128Cbc),
    ("aes192", Encryption::Aes192Cbc),
    ("aes256", Encryption::Aes256Cbc),
];

/// Ciphers that only IPsec policies may name.
pub(crate) const GCM: [(&str, Encryption); 3] = [
    ("aes128gcm16", Encryption::Aes128Gcm16),
    ("aes192gcm16", Encryption::Aes192Gcm16),
    ("aes256gcm16", Encryption::Aes256Gcm16),
];

/// Hashes. The first two are refused at newer dates.
pub(crate) const HASHES: [(&str, Integrity); 5] = [
    ("md5", Integrity::HmacMd5_96),
    ("sha1", Integrity::HmacSha1_96),
    ("sha256", Integrity::HmacSha2_256_128),
    ("sha384", Integrity::HmacSha2_384_192),
    ("sha512", Integrity::HmacSha2_512_256),
];

/// Numbers of the groups that a policy may name. The first two are refused at newer dates.
pub(crate) const GROUPS: [u16; 14] = [2, 5, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 31];

pub(crate) const LIFETIME: std::ops::RangeInclusive<u32> = 1800..=86_400;

/// Reads a category that is given as one value or as a list, never both.
pub(crate) fn one_or_many<T: Copy + PartialEq>(
    fields: &Fields<'_>,
    one: &str,
    many: &str,
    words: &[(&str, T)],
) -> Result<Option<Vec<T>>, Fault> {
    let single = fields.choice(one, words)?;
    let list = fields
        .texts(many)?
        .map(|items| {
            items
                .iter()
                .map(|(path, text)| choose(text, path, words))
                .collect::<Result<Vec<_>, _>>()
        })
        .transpose()?;
    either(fields, one, many, single, list)
}

/// Like [`one_or_many`], for groups given by number.
pub(crate) fn one_or_many_groups(
    fields: &Fields<'_>,
    one: &str,
    many: &str,
) -> Result<Option<Vec<PolicyGroup>>, Fault> {
    let known = |path: &str, number: i64| {
        u16::try_from(number)
            .ok()
            .filter(|number| GROUPS.contains(number))
            .map(PolicyGroup)
            .ok_or_else(|| {
                Fault::bad(
                    "validation_enum",
                    format!("{path} is not a known Diffie-Hellman group"),
                )
                .at(Target::field(path).with_value(number.to_string()))
            })
    };
    let single = fields
        .integer_unbounded(one)?
        .map(|number| known(&fields.path_of(one), number))
        .transpose()?;
    let list = fields
        .integers(many)?
        .map(|items| {
            items
                .iter()
                .map(|(path, number)| known(path, *number))
                .collect::<Result<Vec<_>, _>>()
        })
        .transpose()?;
    either(fields, one, many, single, list)
}

fn either<T: PartialEq>(
    fields: &Fields<'_>,
    one: &str,
    many: &str,
    single: Option<T>,
    list: Option<Vec<T>>,
) -> Result<Option<Vec<T>>, Fault> {
    match (single, list) {
        (Some(_), Some(_)) => Err(Fault::bad(
            "validation_only_one",
            format!("give {one} or {many}, not both"),
        )
        .at(Target::field(fields.path_of(many)))),
        (Some(single), None) => Ok(Some(vec![single])),
        (None, Some(list)) if list.is_empty() => Err(fields.bad_field(many, "must not be empty")),
        (None, Some(list)) => {
            let repeated = list
                .iter()
                .enumerate()
                .any(|(index, item)| list.iter().take(index).any(|i| i == item));
            if repeated {
                Err(fields.bad_field(many, "names a value twice"))
            } else {
                Ok(Some(list))
            }
        }
        (None, None) => Ok(None),
    }
}

/// Refuses what newer dates no longer offer.
pub(crate) fn refuse_legacy(
    call: &Call<'_>,
    encryption: &[Encryption],
    integrity: &[Integrity],
    groups: &[PolicyGroup],
) -> Result<(), Fault> {
    if call.date < ApiDate::LEGACY_REMOVED {
        return Ok(());
    }
    let refuse = |property: &str, value: &str| {
        Err(Fault::bad(
            "bad_field",
            format!(
                "{value} is not offered at versions from {} on",
                ApiDate::LEGACY_REMOVED
            ),
        )
        .at(Target::field(property).with_value(value)))
    };
    if encryption.contains(&Encryption::TripleDes) {
        return refuse("encryption_algorithm", "triple_des");
    }
    for (word, legacy) in HASHES.iter().take(2) {
        if integrity.contains(legacy) {
            return refuse("authentication_algorithm", word);
        }
    }
    match GROUPS
        .iter()
        .take(2)
        .find(|group| groups.contains(&PolicyGroup(**group)))
    {
        Some(group) if call.subject() == ResourceKind::IpsecPolicy => {
            refuse("pfs", &format!("group_{group}"))
        }
        Some(group) => refuse("dh_group", &group.to_string()),
        None => Ok(()),
    }
}

/// The word of a cipher.
pub(crate) fn encryption_word(value: Encryption) -> &'static str {
    CBC.iter()
        .chain(&GCM)
        .find(|(_, known)| *known == value)
        .map_or(value.word(), |(word, _)| *word)
}

/// A list of words and the single word that stands for it.
pub(crate) fn both_forms(words: Vec<&str>) -> (Value, Value) {
    let single = match words.as_slice() {
        [one] => Value::from(*one),
        _ => Value::from("multiple"),
    };
    (single, words.into())
}

impl Render {
    /// References to the connections that use a policy.
    pub(crate) fn users_of_policy(
        &self,
        connections: &[(VpnGatewayId, isthmus_ops::Reference<VpnConnectionId>)],
    ) -> Value {
        connections
            .iter()
            .map(|(gateway, connection)| self.connection(*gateway, connection))
            .collect()
    }
}
