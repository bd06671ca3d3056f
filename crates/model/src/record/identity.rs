//! Accounts and who may act for them.

use isthmus_types::{AccountId, ApiKeyId, ResourceName, Timestamp, UserId};
use serde::{Deserialize, Serialize};

/// An account: the owner of resources and the unit of isolation between tenants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Its id.
    pub id: AccountId,
    /// Its name, unique in the installation.
    pub name: ResourceName,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A person or program that acts for an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Its id.
    pub id: UserId,
    /// The account that it acts for.
    pub account: AccountId,
    /// Its name, unique in the account.
    pub name: ResourceName,
    /// What it may do.
    pub role: Role,
    /// When it was made.
    pub created_at: Timestamp,
}

/// What a user may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything in its account.
    Administrator,
}

/// An API key of a user. The key itself is not stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// Its id.
    pub id: ApiKeyId,
    /// The account that it opens.
    pub account: AccountId,
    /// The user that it stands for.
    pub user: UserId,
    /// SHA-256 of the key.
    pub hash: [u8; 32],
    /// When it was made.
    pub created_at: Timestamp,
}
