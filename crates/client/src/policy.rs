//! IKE and IPsec policies.

use serde::{Deserialize, Serialize};

use crate::error::ClientError;
use crate::http_api::Client;
use crate::id::Id;
use crate::resource::{Reference, Rest, resources};
use crate::vpn::VpnConnection;

/// An IKE policy.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct IkePolicy {
    /// Its id.
    pub id: Id<IkePolicy>,
    /// Its name.
    pub name: String,
    /// 1 or 2.
    pub ike_version: u8,
    /// Ciphers, preferred first.
    pub encryption_algorithms: Vec<String>,
    /// Hashes, preferred first.
    pub authentication_algorithms: Vec<String>,
    /// Diffie-Hellman groups, preferred first.
    pub dh_groups: Vec<u16>,
    /// Seconds.
    pub key_lifetime: u32,
    /// Connections that use it.
    pub connections: Vec<Reference<VpnConnection>>,
    /// Everything else.
    #[serde(flatten)]
    pub rest: Rest,
}

/// An IKE policy to create or to become.
#[derive(Clone, Debug, Default, Serialize)]
pub struct NewIkePolicy {
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// 1 or 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ike_version: Option<u8>,
    /// Ciphers, preferred first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub encryption_algorithms: Vec<String>,
    /// Hashes, preferred first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub authentication_algorithms: Vec<String>,
    /// Diffie-Hellman groups, preferred first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dh_groups: Vec<u16>,
    /// Seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_lifetime: Option<u32>,
}

/// An IPsec policy.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct IpsecPolicy {
    /// Its id.
    pub id: Id<IpsecPolicy>,
    /// Its name.
    pub name: String,
    /// Ciphers, preferred first.
    pub encryption_algorithms: Vec<String>,
    /// Hashes, preferred first.
    pub authentication_algorithms: Vec<String>,
    /// Groups for perfect forward secrecy, preferred first.
    pub pfs_groups: Vec<String>,
    /// Seconds.
    pub key_lifetime: u32,
    /// Connections that use it.
    pub connections: Vec<Reference<VpnConnection>>,
    /// Everything else.
    #[serde(flatten)]
    pub rest: Rest,
}

/// An IPsec policy to create or to become.
#[derive(Clone, Debug, Default, Serialize)]
pub struct NewIpsecPolicy {
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Ciphers, preferred first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub encryption_algorithms: Vec<String>,
    /// Hashes, preferred first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub authentication_algorithms: Vec<String>,
    /// Groups for perfect forward secrecy, preferred first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pfs_groups: Vec<String>,
    /// Seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_lifetime: Option<u32>,
}

resources! {
    IkePolicy, "IKE policy";
    IpsecPolicy, "IPsec policy";
}

/// Calls about policies. Each fails with [`ClientError::Api`] if the server refuses.
#[expect(
    clippy::missing_errors_doc,
    reason = "the same for each: the API refused or cannot be reached"
)]
impl Client {
    /// All IKE policies.
    pub async fn ike_policies(&self) -> Result<Vec<IkePolicy>, ClientError> {
        self.list("/ike_policies", "ike_policies").await
    }

    /// Creates an IKE policy.
    pub async fn create_ike_policy(&self, new: &NewIkePolicy) -> Result<IkePolicy, ClientError> {
        self.create("/ike_policies", new).await
    }

    /// Changes an IKE policy.
    pub async fn change_ike_policy(
        &self,
        id: &Id<IkePolicy>,
        change: &NewIkePolicy,
    ) -> Result<IkePolicy, ClientError> {
        self.change(&format!("/ike_policies/{id}"), change).await
    }

    /// Deletes an IKE policy that no connection uses.
    pub async fn delete_ike_policy(&self, id: &Id<IkePolicy>) -> Result<(), ClientError> {
        self.delete(&format!("/ike_policies/{id}")).await
    }

    /// All IPsec policies.
    pub async fn ipsec_policies(&self) -> Result<Vec<IpsecPolicy>, ClientError> {
        self.list("/ipsec_policies", "ipsec_policies").await
    }

    /// Creates an IPsec policy.
    pub async fn create_ipsec_policy(&self, new: &NewIpsecPolicy) -> Result<IpsecPolicy, ClientError> {
        self.create("/ipsec_policies", new).await
    }

    /// Changes an IPsec policy.
    pub async fn change_ipsec_policy(
        &self,
        id: &Id<IpsecPolicy>,
        change: &NewIpsecPolicy,
    ) -> Result<IpsecPolicy, ClientError> {
        self.change(&format!("/ipsec_policies/{id}"), change).await
    }

    /// Deletes an IPsec policy that no connection uses.
    pub async fn delete_ipsec_policy(&self, id: &Id<IpsecPolicy>) -> Result<(), ClientError> {
        self.delete(&format!("/ipsec_policies/{id}")).await
    }
}
