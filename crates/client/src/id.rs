//! Ids as the API writes them: opaque text, told apart by what they name.

use std::fmt;
use std::marker::PhantomData;

use isthmus_types::ResourceBits;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The id of a resource of type `R`.
pub struct Id<R> {
    text: String,
    names: PhantomData<fn() -> R>,
}

impl<R> Id<R> {
    /// Takes an id as the API wrote it.
    pub fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            names: PhantomData,
        }
    }

    /// The id as the API wrote it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The bits behind the id, by which the host's kernel objects are named; none if it was not made by Isthmus.
    pub fn bits(&self) -> Option<ResourceBits> {
        let uuid = self.text.len().checked_sub(36)?;
        ResourceBits::from_uuid(self.text.get(uuid..)?).ok()
    }
}

impl<R> Clone for Id<R> {
    fn clone(&self) -> Self {
        Self::new(self.text.clone())
    }
}

impl<R> PartialEq for Id<R> {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl<R> Eq for Id<R> {}

impl<R> fmt::Display for Id<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<R> fmt::Debug for Id<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<R> Serialize for Id<R> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de, R> Deserialize<'de> for Id<R> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

/// A resource that a request refers to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(bound = "")]
pub struct Identity<R> {
    /// Its id.
    pub id: Id<R>,
}

impl<R> From<&Id<R>> for Identity<R> {
    fn from(id: &Id<R>) -> Self {
        Self { id: id.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_behind_every_prefix() {
        let bits = ResourceBits::from_random(0x1234_5678_9abc);
        for prefix in ["0717-", "0717_", "r006-", ""] {
            let id = Id::<()>::new(format!("{prefix}{}", bits.to_uuid()));
            assert_eq!(id.bits(), Some(bits), "{prefix}");
        }
        assert_eq!(Id::<()>::new("short").bits(), None);
        assert_eq!(Id::<()>::new("ä".repeat(40)).bits(), None);
    }
}
