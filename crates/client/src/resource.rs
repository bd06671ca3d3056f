//! What all resources share.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::id::Id;

/// The properties of an answer that this crate has no name for.
pub type Rest = Map<String, Value>;

/// A resource with an id and a name.
pub trait Resource: DeserializeOwned + Serialize + Sized {
    /// The kind in words, such as `VPN gateway`.
    const KIND: &'static str;

    /// Its id.
    fn id(&self) -> &Id<Self>;

    /// Its name.
    fn name(&self) -> &str;

    /// What its name is unique in, for a person who has to tell two of the same name apart.
    fn scope(&self) -> Option<&str> {
        None
    }
}

/// A resource that another one refers to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Reference<R> {
    /// Its id.
    pub id: Id<R>,
    /// Its name.
    pub name: String,
    /// Everything else.
    #[serde(flatten)]
    pub rest: Rest,
}

/// A thing that another one refers to by name: a zone, a region.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameReference {
    /// Its name.
    pub name: String,
    /// Everything else.
    #[serde(flatten)]
    pub rest: Rest,
}

impl NameReference {
    /// A reference for a request.
    pub fn to(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            rest: Rest::new(),
        }
    }
}

macro_rules! resources {
    ($($name:ident, $kind:literal $(, $scope:ident)?);+ $(;)?) => {$(
        impl crate::resource::Resource for $name {
            const KIND: &'static str = $kind;

            fn id(&self) -> &crate::id::Id<Self> {
                &self.id
            }

            fn name(&self) -> &str {
                &self.name
            }

            $(fn scope(&self) -> Option<&str> {
                Some(&self.$scope.name)
            })?
        }
    )+};
}

pub(crate) use resources;
