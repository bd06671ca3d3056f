//! One file per vendor.

pub(crate) mod cisco_ios;
pub(crate) mod fortios;
pub(crate) mod junos;
pub(crate) mod libreswan;
pub(crate) mod mikrotik;
pub(crate) mod pfsense;
pub(crate) mod strongswan;
