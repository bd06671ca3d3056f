//! A typed client of the API that Isthmus serves: the IBM Cloud VPC REST API, with its token exchange.
//!
//! It knows the API as any client does, and nothing of the server behind it. Make a [`Client`] from a [`Profile`] and
//! call its methods; lists follow every page. A token is fetched when first needed and renewed before it ends.
//! Answers keep the properties that this crate has no name for, so that printing one shows all of it.

mod error;
mod http_api;
mod id;
mod network;
mod options;
mod policy;
mod resource;
mod vpn;

pub use error::{ClientError, ErrorTarget};
pub use http_api::{API_VERSION, Client};
pub use id::{Id, Identity};
pub use isthmus_runtime::Profile;
pub use network::{
    AddressPrefix, Attachment, Instance, InstanceAction, InterfaceSummary, NewAddressPrefix, NewInstance,
    NewSubnet, NewVpc, PrefixManagement, PrimaryIp, Region, Subnet, SubnetRange, Vpc, Zone,
};
pub use options::{
    Certificate, CertificateChange, CertificateHolder, ConnectionOptions, ConnectionOptionsChange,
    GatewayOptions,
};
pub use policy::{IkePolicy, IpsecPolicy, NewIkePolicy, NewIpsecPolicy};
pub use resource::{NameReference, Reference, Resource, Rest};
pub use vpn::{
    Change, ConnectionChange, DeadPeerDetection, EstablishMode, Local, NewConnection, NewVpnGateway, Peer,
    PeerHost, PublicAddress, StatusReason, VpnConnection, VpnGateway,
};
