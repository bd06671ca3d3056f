//! Values that must not leak.

use std::fmt;

use zeroize::Zeroizing;

/// A secret text: erased from memory when dropped, never printed.
///
/// It has no `Serialize`: a field that must travel says so with `#[serde(with = "isthmus_types::secret::revealed")]`, or
/// `carried` where the reader must leave no copy behind.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes ownership of `text`.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The secret itself. Name the reason where you call it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// Serialises a [`Secret`] in clear, for channels that only root can read and for sealed storage.
pub mod revealed {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::Secret;

    /// Writes the secret in clear.
    ///
    /// # Errors
    /// Those of `serializer`.
    pub fn serialize<S: Serializer>(secret: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(secret.reveal())
    }

    /// Reads a secret written in clear.
    ///
    /// # Errors
    /// Those of `deserializer`.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
        String::deserialize(deserializer).map(Secret::new)
    }
}

/// Serialises a [`Secret`] in hexadecimal, as `{"hex": "…"}`. JSON escapes none of it, so a reader that has the whole text in memory
/// makes no copy but the secret itself: a parser unescapes text in a buffer of its own, which nobody erases. A plain
/// string is read too.
pub mod carried {
    use serde::de::{Error, MapAccess, Unexpected, Visitor};
    use serde::ser::SerializeStruct as _;
    use serde::{Deserializer, Serializer};
    use zeroize::Zeroizing;

    use super::Secret;

    const FIELD: &str = "hex";
    const DIGITS: &[u8; 16] = b"0123456789abcdef";

    /// Writes the secret in hexadecimal.
    ///
    /// # Errors
    /// Those of `serializer`.
    pub fn serialize<S: Serializer>(secret: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes = secret.reveal().as_bytes();
        let mut digits = Zeroizing::new(String::with_capacity(2 * bytes.len()));
        for byte in bytes {
            for half in [byte >> 4, byte & 15] {
                digits.push(char::from(DIGITS[usize::from(half)]));
            }
        }
        let mut map = serializer.serialize_struct("Secret", 1)?;
        map.serialize_field(FIELD, digits.as_str())?;
        map.end()
    }

    /// Reads what [`serialize`] or [`revealed`](super::revealed) wrote.
    ///
    /// # Errors
    /// Those of `deserializer`; for anything else than hexadecimal digits of a text.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
        deserializer.deserialize_any(Reader)
    }

    struct Reader;

    impl<'de> Visitor<'de> for Reader {
        type Value = Secret;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a secret in hexadecimal or in clear")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Secret, E> {
            Ok(Secret::new(text.to_owned()))
        }

        fn visit_string<E: Error>(self, text: String) -> Result<Secret, E> {
            Ok(Secret::new(text))
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Secret, A::Error> {
            let mut found = None;
            while let Some(key) = map.next_key::<String>()? {
                if key != FIELD || found.is_some() {
                    return Err(Error::custom("expected one field, `hex`"));
                }
                found = Some(Zeroizing::new(map.next_value::<String>()?));
            }
            let digits = found.ok_or_else(|| Error::missing_field(FIELD))?;
            decode(&digits).ok_or_else(|| Error::invalid_value(Unexpected::Other("other text"), &self))
        }
    }

    fn decode(digits: &str) -> Option<Secret> {
        let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
        let mut bytes = Zeroizing::new(Vec::with_capacity(pairs.len()));
        for pair in pairs {
            let [high, low] = pair.map(|digit| char::from(digit).to_digit(16));
            bytes.push(u8::try_from(high? << 4 | low?).ok()?);
        }
        // The bytes move into the text: there is one copy.
        let text = String::from_utf8(std::mem::take(&mut *bytes)).ok()?;
        rest.is_empty().then(|| Secret::new(text))
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Holder {
        #[serde(with = "carried")]
        secret: Secret,
    }

    fn holder(text: &str) -> Holder {
        Holder {
            secret: Secret::new(text.to_owned()),
        }
    }

    #[test]
    fn what_is_carried_has_nothing_to_escape_and_comes_back() {
        for text in ["", "plain", "\"quoted\"\n\\ ends", "Grüße \u{0}"] {
            let written = serde_json::to_string(&holder(text)).unwrap();
            assert!(!written.contains('\\'), "{written}");
            assert_eq!(serde_json::from_str::<Holder>(&written).unwrap(), holder(text));
        }
        assert_eq!(
            serde_json::to_string(&holder("az")).unwrap(),
            r#"{"secret":{"hex":"617a"}}"#
        );
    }

    #[test]
    fn a_plain_string_is_read_and_anything_else_is_refused() {
        let plain: Holder = serde_json::from_str(r#"{"secret":"as it was"}"#).unwrap();
        assert_eq!(plain, holder("as it was"));
        for wrong in [
            r#"{"hex":"6"}"#,
            r#"{"hex":"6g"}"#,
            r#"{"hex":"ff"}"#,
            "{}",
            "7",
            r#"{"text":"61"}"#,
        ] {
            let text = format!(r#"{{"secret":{wrong}}}"#);
            assert!(serde_json::from_str::<Holder>(&text).is_err(), "{text}");
        }
    }
}
