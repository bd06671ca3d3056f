//! Distinguished names, compared as RFC 5280 section 7.1 asks: by meaning, not by how a string is encoded.

use std::str::FromStr as _;

use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::der::asn1::{Ia5StringRef, PrintableStringRef, TeletexStringRef, Utf8StringRef};
use x509_cert::der::{Decode as _, Encode as _};
use x509_cert::name::Name;

/// A distinguished name.
#[derive(Clone, Debug)]
pub struct DistinguishedName(Name);

/// One relative name: its attributes, sorted.
type Relative = Vec<(Vec<u8>, Vec<u8>)>;

impl DistinguishedName {
    pub(super) fn of(name: &Name) -> Self {
        Self(name.clone())
    }

    /// Reads the text of RFC 4514, most specific attribute first: `CN=gateway,O=Example,C=CH`. Spaces after commas are
    /// allowed. None if it is no such text.
    pub fn parse(text: &str) -> Option<Self> {
        let compact: Vec<&str> = text.split(", ").collect();
        let name = Name::from_str(&compact.join(",")).ok()?;
        (!name.is_empty()).then_some(Self(name))
    }

    /// Reads its DER. None if it is none.
    pub fn from_der(der: &[u8]) -> Option<Self> {
        Name::from_der(der).ok().map(Self)
    }

    /// Its DER. None if it cannot be written, which no name that was read is.
    pub fn to_der(&self) -> Option<Vec<u8>> {
        self.0.to_der().ok()
    }

    /// Whether it has no attribute.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn meaning(&self) -> Vec<Relative> {
        self.0
            .iter_rdn()
            .map(|relative| {
                let mut attributes: Relative = relative.iter().map(attribute).collect();
                attributes.sort();
                attributes
            })
            .collect()
    }
}

impl PartialEq for DistinguishedName {
    fn eq(&self, other: &Self) -> bool {
        self.meaning() == other.meaning()
    }
}

impl Eq for DistinguishedName {}

impl std::fmt::Display for DistinguishedName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // RFC 4514 escapes what ends a value; what a terminal would act on is escaped here.
        let text = self.0.to_string();
        text.chars().try_for_each(|character| {
            if character.is_control() {
                write!(f, "{}", character.escape_default())
            } else {
                write!(f, "{character}")
            }
        })
    }
}

/// The type of an attribute, and its text without regard to case and repeated spaces; the DER of what is no text.
fn attribute(attribute: &AttributeTypeAndValue) -> (Vec<u8>, Vec<u8>) {
    let value = &attribute.value;
    let text = Utf8StringRef::try_from(value)
        .map(|text| text.as_str())
        .or_else(|_| PrintableStringRef::try_from(value).map(|text| text.as_str()))
        .or_else(|_| Ia5StringRef::try_from(value).map(|text| text.as_str()))
        .or_else(|_| TeletexStringRef::try_from(value).map(|text| text.as_str()));
    let folded = match text {
        Ok(text) => {
            let words: Vec<&str> = text.split_whitespace().collect();
            [b"text ", words.join(" ").to_lowercase().as_bytes()].concat()
        }
        Err(_) => [&b"bytes "[..], &value.to_der().unwrap_or_default()].concat(),
    };
    (attribute.oid.as_bytes().to_vec(), folded)
}
