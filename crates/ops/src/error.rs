//! Why an operation was refused, in terms that every dialect can translate.

use serde::{Deserialize, Serialize};

/// The kind of a resource, as errors and audit records name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "each variant is named for the resource it stands for")]
pub enum ResourceKind {
    Account,
    AddressPrefix,
    ApiKey,
    CustomerGateway,
    IkePolicy,
    Instance,
    IpsecPolicy,
    NetworkAcl,
    NetworkInterface,
    PublicAddress,
    Region,
    ReservedIp,
    ResourceGroup,
    RouteTable,
    SecurityGroup,
    Subnet,
    User,
    Vpc,
    VpnConnection,
    VpnGateway,
    Zone,
}

impl ResourceKind {
    /// The kind in words for a sentence, such as `VPN gateway`.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::AddressPrefix => "address prefix",
            Self::ApiKey => "API key",
            Self::CustomerGateway => "customer gateway",
            Self::IkePolicy => "IKE policy",
            Self::Instance => "instance",
            Self::IpsecPolicy => "IPsec policy",
            Self::NetworkAcl => "network ACL",
            Self::NetworkInterface => "network interface",
            Self::PublicAddress => "public address",
            Self::Region => "region",
            Self::ReservedIp => "reserved IP",
            Self::ResourceGroup => "resource group",
            Self::RouteTable => "route table",
            Self::SecurityGroup => "security group",
            Self::Subnet => "subnet",
            Self::User => "user",
            Self::Vpc => "VPC",
            Self::VpnConnection => "VPN connection",
            Self::VpnGateway => "VPN gateway",
            Self::Zone => "zone",
        }
    }
}

/// What is wrong. Stable: dialects map it, clients see what they map it to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OpErrorCode {
    /// No free address left in the subnet, prefix or public pool.
    AddressesExhausted,
    /// The address is taken.
    AddressInUse,
    /// The address is not one that a workload may have (outside the subnet, or kept by the provider).
    AddressNotUsable,
    /// The CIDR is not on this side of the connection.
    CidrNotFound,
    /// The CIDR is not allowed there (reserved range, prefix length out of bounds, wrong family).
    CidrNotValid,
    /// The range overlaps one that exists.
    CidrOverlap,
    /// The same CIDR twice in one list.
    CidrRepeated,
    /// The name is taken in its scope.
    DuplicateName,
    /// The zone already has a default prefix.
    DefaultPrefixExists,
    /// Still used by another resource.
    InUse,
    /// An address prefix still holds subnets.
    InUseBySubnet,
    /// A subnet still holds an instance's interface.
    InUseByInterface,
    /// A subnet still holds a VPN gateway.
    InUseByVpnGateway,
    /// Isthmus is at fault.
    Internal,
    /// The value is not allowed; `field` says which.
    InvalidField,
    /// The resource's state does not allow it.
    InvalidState,
    /// The last CIDR of a side cannot be removed.
    LastCidr,
    /// A field is missing; `field` says which.
    MissingField,
    /// The zone has no default prefix to take addresses from.
    NoDefaultPrefix,
    /// No such resource, in the path of the request.
    NotFound,
    /// The subnet's range is in no address prefix of the VPC.
    NotInAddressPrefix,
    /// The caller may not do this.
    NotPermitted,
    /// The state has changed since the caller read it.
    PreconditionFailed,
    /// More than the account may have.
    QuotaExceeded,
    /// A resource that the request's body refers to does not exist.
    ReferenceNotFound,
    /// Resources of different VPCs or zones are mixed.
    ScopeMismatch,
    /// Try again later.
    Unavailable,
}

/// A refused operation. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct OpError {
    /// What is wrong.
    pub code: OpErrorCode,
    /// The kind of resource that it is about.
    pub resource: ResourceKind,
    /// A sentence for the caller; never holds a secret nor anything of another account.
    pub message: String,
    /// The field at fault, in the words of [`crate::Operation`]'s fields, such as `peer_cidrs[1]`.
    pub field: Option<String>,
    /// The offending value, unless it is secret.
    pub value: Option<String>,
    /// More for our own log, never for the caller.
    #[serde(skip)]
    pub private: Option<String>,
}

impl OpError {
    /// An error about a resource of kind `resource`.
    pub fn new(code: OpErrorCode, resource: ResourceKind, message: impl Into<String>) -> Self {
        Self {
            code,
            resource,
            message: message.into(),
            field: None,
            value: None,
            private: None,
        }
    }

    /// No resource of this kind and id in the path of the request.
    pub fn not_found(resource: ResourceKind, id: impl std::fmt::Display) -> Self {
        Self::new(
            OpErrorCode::NotFound,
            resource,
            format!("{} {id} was not found", resource.words()),
        )
        .with_value(id.to_string())
    }

    /// Names the field at fault.
    #[must_use]
    pub fn with_field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// Names the offending value.
    #[must_use]
    pub fn with_value(mut self, value: impl Into<String>) -> Self {
        self.value = Some(value.into());
        self
    }

    /// Adds detail for our own log.
    #[must_use]
    pub fn with_private(mut self, detail: impl Into<String>) -> Self {
        self.private = Some(detail.into());
        self
    }
}
