//! The model: every resource, every rule about resources, and nothing else.
//!
//! [`apply()`] carries out an [`isthmus_ops::Operation`] on an immutable [`Snapshot`] and answers with [`Changes`] and an
//! outcome, or with an error and no change at all. [`query()`] answers questions about one snapshot. Both are plain
//! functions: the time is passed in and so is the randomness ([`IdSource`]), nothing here reads a clock, a file or a
//! socket. [`Snapshot::with`] makes the next snapshot in time logarithmic in the number of resources, because all maps
//! and all secondary indices are persistent.
//!
//! This crate must not know HTTP, SQL, hosts or any provider's dialect. A rule that only one provider has is a value
//! in an operation or in [`Settings`], named for what it does.
//!
//! What a resource should be (its spec) and what hosts report of it (its status) are different records. States that
//! callers see are derived from both.

mod access;
mod address;
mod apply;
mod ids;
mod index;
mod names;
mod query;
pub mod record;
mod refusal;
mod settings;
mod snapshot;
mod view;

pub use apply::apply;
pub use ids::IdSource;
pub use query::query;
pub use record::{
    Account, AclAction, AclRule, AddressPrefix, ApiKey, Change, Changes, ConnectionObservation,
    CustomerGateway, Direction, GatewayMember, GatewayObservation, GroupRemote, GroupRule, IkePolicy,
    Instance, InstanceObservation, InstancePower, IpsecPolicy, Meta, NetworkAcl, NetworkInterface,
    PreSharedKey, Record, RecordKey, RecordKind, ReservedFor, ReservedIp, Role, RouteTable, SecurityGroup,
    Subnet, TunnelSettings, User, Vpc, VpnConnection, VpnGateway,
};
pub use settings::{Quotas, Settings, SettingsError};
pub use snapshot::{NameScope, PublicHolder, Snapshot};
