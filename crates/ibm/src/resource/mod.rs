//! One file per resource: its requests and its looks.

pub(crate) mod address_prefix;
pub(crate) mod catalogue;
pub(crate) mod connection_cidr;
pub(crate) mod geography;
pub(crate) mod ike_policy;
pub(crate) mod instance;
pub(crate) mod ipsec_policy;
pub(crate) mod policy;
pub(crate) mod subnet;
pub(crate) mod vpc;
pub(crate) mod vpc_defaults;
pub(crate) mod vpn_connection;
pub(crate) mod vpn_connection_view;
pub(crate) mod vpn_gateway;
