//! Regions, VPCs, address prefixes, subnets and instances.

use isthmus_types::Cidr;
use serde::{Deserialize, Serialize};

use crate::error::ClientError;
use crate::http_api::Client;
use crate::id::{Id, Identity};
use crate::resource::{NameReference, Reference, Rest, resources};

/// A region.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Region {
    /// Its name.
    pub name: String,
    /// `available` or `unavailable`.
    pub status: String,
    /// Everything else.
    #[serde(flatten)]
    pub rest: Rest,
}

/// A zone of a region.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Zone {
    /// Its name.
    pub name: String,
    /// `available` or what else.
    pub status: String,
    /// Its region.
    pub region: NameReference,
    /// Everything else.
    #[serde(flatten)]
    pub rest: Rest,
}

/// A VPC.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Vpc {
    /// Its id.
    pub id: Id<Vpc>,
    /// Its name.
    pub name: String,
    /// `available`, `pending`, `deleting` or `failed`.
    pub status: String,
    /// When it was made.
    pub created_at: String,
    /// Everything else.
    #[serde(flatten)]
    pub rest: Rest,
}

/// A VPC to create.
#[derive(Clone, Debug, Serialize)]
pub struct NewVpc {
    /// Its name; made up by the server if missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Who makes its address prefixes.
    pub address_prefix_management: PrefixManagement,
}

/// Who makes a VPC's address prefixes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PrefixManagement {
    /// The server, one per zone.
    Auto,
    /// The caller.
    Manual,
}

/// An address prefix: a range of a VPC given to a zone.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AddressPrefix {
    /// Its id.
    pub id: Id<AddressPrefix>,
    /// Its name.
    pub name: String,
    /// The range.
    pub cidr: String,
    /// The zone.
    pub zone: NameReference,
    /// Whether subnets asked for by size come from it.
    pub is_default: bool,
    /// Whether it holds subnets.
    pub has_subnets: bool,
    /// Everything else.
    #[serde(flatten)]
    pub rest: Rest,
}

/// An address prefix to create.
#[derive(Clone, Debug, Serialize)]
pub struct NewAddressPrefix {
    /// Its name; made up by the server if missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The range.
    pub cidr: Cidr,
    /// The zone.
    pub zone: NameReference,
    /// Whether subnets asked for by size come from it.
    pub is_default: bool,
}

/// A subnet.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Subnet {
    /// Its id.
    pub id: Id<Subnet>,
    /// Its name.
    pub name: String,
    /// Its range.
    pub ipv4_cidr_block: Cidr,
    /// `available`, `pending`, `deleting` or `failed`.
    pub status: String,
    /// Its VPC.
    pub vpc: Reference<Vpc>,
    /// Its zone.
    pub zone: NameReference,
    /// Addresses that are free.
    pub available_ipv4_address_count: u64,
    /// All addresses.
    pub total_ipv4_address_count: u64,
    /// Everything else.
    #[serde(flatten)]
    pub rest: Rest,
}

/// A subnet to create.
#[derive(Clone, Debug, Serialize)]
pub struct NewSubnet {
    /// Its name; made up by the server if missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its VPC.
    pub vpc: Identity<Vpc>,
    /// Its zone; that of the containing prefix if missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<NameReference>,
    /// Its addresses.
    #[serde(flatten)]
    pub range: SubnetRange,
}

/// How a subnet's addresses are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum SubnetRange {
    /// This range.
    #[serde(rename = "ipv4_cidr_block")]
    Cidr(Cidr),
    /// So many addresses of the zone's default prefix.
    #[serde(rename = "total_ipv4_address_count")]
    Count(u32),
}

/// An instance.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Instance {
    /// Its id.
    pub id: Id<Instance>,
    /// Its name.
    pub name: String,
    /// `running`, `stopped`, and the states between.
    pub status: String,
    /// Its VPC.
    pub vpc: Reference<Vpc>,
    /// Its zone.
    pub zone: NameReference,
    /// Its primary network interface.
    pub primary_network_interface: InterfaceSummary,
    /// Everything else.
    #[serde(flatten)]
    pub rest: Rest,
}

/// A network interface as its instance shows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct InterfaceSummary {
    /// Its address.
    pub primary_ip: PrimaryIp,
    /// Its subnet.
    pub subnet: Reference<Subnet>,
    /// Everything else.
    #[serde(flatten)]
    pub rest: Rest,
}

/// The address of a network interface.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PrimaryIp {
    /// The address.
    pub address: std::net::Ipv4Addr,
    /// Everything else.
    #[serde(flatten)]
    pub rest: Rest,
}

/// An instance to create.
#[derive(Clone, Debug)]
pub struct NewInstance {
    /// Its name; made up by the server if missing.
    pub name: Option<String>,
    /// Its subnet, which decides VPC and zone.
    pub subnet: Id<Subnet>,
    /// Name of its zone: that of the subnet.
    pub zone: String,
    /// Its private address; chosen by the server if missing.
    pub address: Option<std::net::Ipv4Addr>,
    /// What stands at its end of the network.
    pub attachment: Attachment,
}

/// What stands at an instance's end of the network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Attachment {
    /// A namespace that Isthmus makes.
    #[default]
    Namespace,
    /// An interface in a namespace that the user made.
    HandOver {
        /// Name of the namespace.
        namespace: String,
        /// Name that the interface gets there.
        interface: String,
    },
    /// A TAP device on the host.
    Tap {
        /// Name that the device gets.
        interface: String,
    },
}

/// What to do with an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum InstanceAction {
    /// Take it down and up again.
    Reboot,
    /// Take it up.
    Start,
    /// Take it down.
    Stop,
}

resources! {
    Vpc, "VPC";
    AddressPrefix, "address prefix";
    Subnet, "subnet", vpc;
    Instance, "instance", vpc;
}

#[derive(Serialize)]
struct InstancePrototype<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    zone: NameReference,
    image: ImageIdentity,
    profile: NameReference,
    primary_network_interface: InterfacePrototype<'a>,
}

#[derive(Serialize)]
struct ImageIdentity {
    id: String,
}

#[derive(Serialize)]
struct InterfacePrototype<'a> {
    subnet: Identity<Subnet>,
    #[serde(skip_serializing_if = "Option::is_none")]
    primary_ip: Option<AddressPrototype<'a>>,
    attachment: &'a Attachment,
}

#[derive(Serialize)]
struct AddressPrototype<'a> {
    address: &'a std::net::Ipv4Addr,
}

#[derive(Deserialize)]
struct Image {
    id: String,
}

#[derive(Deserialize)]
struct Zones {
    zones: Vec<Zone>,
}

#[derive(Deserialize)]
struct Regions {
    regions: Vec<Region>,
}

#[derive(Serialize)]
struct Rename<'a> {
    name: &'a str,
}

#[derive(Serialize)]
struct Action {
    #[serde(rename = "type")]
    kind: InstanceAction,
}

/// The profile that instances get when the caller asks for none.
const PROFILE: &str = "bx2-2x8";

/// Calls about networks. Each fails with [`ClientError::Api`] if the server refuses.
#[expect(
    clippy::missing_errors_doc,
    reason = "the same for each: the API refused or cannot be reached"
)]
impl Client {
    /// All regions.
    pub async fn regions(&self) -> Result<Vec<Region>, ClientError> {
        self.read::<Regions>("/regions")
            .await
            .map(|answer| answer.regions)
    }

    /// A region.
    pub async fn region(&self, name: &str) -> Result<Region, ClientError> {
        self.read(&format!("/regions/{}", segment(name))).await
    }

    /// The zones of a region.
    pub async fn zones(&self, region: &str) -> Result<Vec<Zone>, ClientError> {
        let path = format!("/regions/{}/zones", segment(region));
        self.read::<Zones>(&path).await.map(|answer| answer.zones)
    }

    /// All VPCs.
    pub async fn vpcs(&self) -> Result<Vec<Vpc>, ClientError> {
        self.list("/vpcs", "vpcs").await
    }

    /// Creates a VPC.
    pub async fn create_vpc(&self, new: &NewVpc) -> Result<Vpc, ClientError> {
        self.create("/vpcs", new).await
    }

    /// Gives a VPC another name.
    pub async fn rename_vpc(&self, id: &Id<Vpc>, name: &str) -> Result<Vpc, ClientError> {
        self.change(&format!("/vpcs/{id}"), &Rename { name }).await
    }

    /// Deletes a VPC that has no subnet.
    pub async fn delete_vpc(&self, id: &Id<Vpc>) -> Result<(), ClientError> {
        self.delete(&format!("/vpcs/{id}")).await
    }

    /// The address prefixes of a VPC.
    pub async fn prefixes(&self, vpc: &Id<Vpc>) -> Result<Vec<AddressPrefix>, ClientError> {
        self.list(&format!("/vpcs/{vpc}/address_prefixes"), "address_prefixes")
            .await
    }

    /// Creates an address prefix.
    pub async fn create_prefix(
        &self,
        vpc: &Id<Vpc>,
        new: &NewAddressPrefix,
    ) -> Result<AddressPrefix, ClientError> {
        self.create(&format!("/vpcs/{vpc}/address_prefixes"), new).await
    }

    /// Deletes an address prefix that holds no subnet.
    pub async fn delete_prefix(&self, vpc: &Id<Vpc>, id: &Id<AddressPrefix>) -> Result<(), ClientError> {
        self.delete(&format!("/vpcs/{vpc}/address_prefixes/{id}")).await
    }

    /// All subnets, or those of one VPC.
    pub async fn subnets(&self, vpc: Option<&Id<Vpc>>) -> Result<Vec<Subnet>, ClientError> {
        self.list(&within("/subnets", vpc), "subnets").await
    }

    /// Creates a subnet.
    pub async fn create_subnet(&self, new: &NewSubnet) -> Result<Subnet, ClientError> {
        self.create("/subnets", new).await
    }

    /// Gives a subnet another name.
    pub async fn rename_subnet(&self, id: &Id<Subnet>, name: &str) -> Result<Subnet, ClientError> {
        self.change(&format!("/subnets/{id}"), &Rename { name }).await
    }

    /// Deletes a subnet that nothing uses.
    pub async fn delete_subnet(&self, id: &Id<Subnet>) -> Result<(), ClientError> {
        self.delete(&format!("/subnets/{id}")).await
    }

    /// All instances, or those of one VPC.
    pub async fn instances(&self, vpc: Option<&Id<Vpc>>) -> Result<Vec<Instance>, ClientError> {
        self.list(&within("/instances", vpc), "instances").await
    }

    /// An instance.
    pub async fn instance(&self, id: &Id<Instance>) -> Result<Instance, ClientError> {
        self.read(&format!("/instances/{id}")).await
    }

    /// Creates an instance with the first image that the server offers; it starts by itself.
    pub async fn create_instance(&self, new: &NewInstance) -> Result<Instance, ClientError> {
        let images: Vec<Image> = self.list("/images", "images").await?;
        let prototype = InstancePrototype {
            name: new.name.as_deref(),
            zone: NameReference::to(&new.zone),
            image: ImageIdentity {
                id: images
                    .into_iter()
                    .next()
                    .map(|image| image.id)
                    .unwrap_or_default(),
            },
            profile: NameReference::to(PROFILE),
            primary_network_interface: InterfacePrototype {
                subnet: Identity::from(&new.subnet),
                primary_ip: new.address.as_ref().map(|address| AddressPrototype { address }),
                attachment: &new.attachment,
            },
        };
        self.create("/instances", &prototype).await
    }

    /// Gives an instance another name.
    pub async fn rename_instance(&self, id: &Id<Instance>, name: &str) -> Result<Instance, ClientError> {
        self.change(&format!("/instances/{id}"), &Rename { name }).await
    }

    /// Starts, stops or restarts an instance.
    pub async fn act_on_instance(&self, id: &Id<Instance>, kind: InstanceAction) -> Result<(), ClientError> {
        self.create::<Rest>(&format!("/instances/{id}/actions"), &Action { kind })
            .await
            .map(drop)
    }

    /// Deletes an instance.
    pub async fn delete_instance(&self, id: &Id<Instance>) -> Result<(), ClientError> {
        self.delete(&format!("/instances/{id}")).await
    }
}

fn within(path: &str, vpc: Option<&Id<Vpc>>) -> String {
    vpc.map_or_else(|| path.to_owned(), |vpc| format!("{path}?vpc.id={vpc}"))
}

// Names that a person typed may hold anything.
fn segment(name: &str) -> String {
    form_urlencoded::byte_serialize(name.as_bytes())
        .collect::<String>()
        .replace('+', "%20")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subnet_range_is_one_property() {
        let new = NewSubnet {
            name: None,
            vpc: Identity {
                id: Id::new("r006-1"),
            },
            zone: None,
            range: SubnetRange::Cidr("10.1.0.0/24".parse().unwrap()),
        };
        assert_eq!(
            serde_json::to_string(&new).unwrap(),
            r#"{"vpc":{"id":"r006-1"},"ipv4_cidr_block":"10.1.0.0/24"}"#
        );
    }

    #[test]
    fn unknown_properties_survive() {
        let text = r#"{"id":"r006-1","name":"a","status":"available","created_at":"2026-01-01T00:00:00Z","crn":"c"}"#;
        let vpc: Vpc = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_value(&vpc).unwrap()["crn"], "c");
    }

    #[test]
    fn path_segments_are_encoded() {
        assert_eq!(segment("a b/c"), "a%20b%2Fc");
    }
}
