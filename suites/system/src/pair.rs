//! Two VPCs joined by VPN, made through the API.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context as _, Result, ensure};
use isthmus_client::{
    EstablishMode, Id, Identity, Instance, NameReference, NewAddressPrefix, NewConnection, NewInstance,
    NewSubnet, NewVpc, NewVpnGateway, PrefixManagement, Subnet, SubnetRange, Vpc, VpnConnection, VpnGateway,
};
use isthmus_netlab::{Node, eventually};
use isthmus_types::{Cidr, Secret};

use crate::system::System;

/// One of the two VPCs.
pub struct Site {
    /// The VPC.
    pub vpc: Id<Vpc>,
    /// Its two subnets.
    pub subnets: Vec<Id<Subnet>>,
    /// Their ranges.
    pub cidrs: Vec<Cidr>,
    /// An instance in each subnet.
    pub instances: Vec<Id<Instance>>,
    /// The instances' addresses.
    pub addresses: Vec<Ipv4Addr>,
    /// Its VPN gateway.
    pub gateway: Id<VpnGateway>,
    /// The gateway's public address.
    pub public_address: Ipv4Addr,
    /// Its connection to the other site, if made.
    pub connection: Option<Id<VpnConnection>>,
}

/// Two VPCs with two subnets each, an instance in each subnet and a VPN gateway each.
pub struct Pair {
    /// The two sites.
    pub sites: [Site; 2],
    psk: String,
}

impl Pair {
    /// Makes both VPCs without connections, and waits until instances run and gateways are available.
    ///
    /// # Errors
    /// When a call fails or something does not come up.
    pub fn without_connections(system: &System, tag: &str) -> Result<Self> {
        let sites = [site(system, tag, 1)?, site(system, tag, 2)?];
        for site in &sites {
            for instance in &site.instances {
                eventually("a running instance", || {
                    let seen = system.call(|client| client.instance(instance))?;
                    ensure!(seen.status == "running", "{} is {}", seen.name, seen.status);
                    Ok(())
                })?;
            }
            eventually("an available gateway", || {
                let seen = system.call(|client| client.vpn_gateway(&site.gateway))?;
                ensure!(seen.is_available(), "{} is {}", seen.name, seen.status());
                Ok(())
            })?;
        }
        Ok(Self {
            sites,
            psk: format!("system-test-{tag}-{}", std::process::id()),
        })
    }

    /// The shared key that both connections are made with.
    pub fn psk(&self) -> &str {
        &self.psk
    }

    /// Makes both VPCs with a connection each, and waits until both read up.
    ///
    /// # Errors
    /// When a call fails or something does not come up.
    pub fn joined(system: &System, tag: &str) -> Result<Self> {
        let mut pair = Self::without_connections(system, tag)?;
        pair.connect(system, 0)?;
        pair.connect(system, 1)?;
        pair.wait_until_up(system)?;
        Ok(pair)
    }

    /// Makes the connection of site `index` to the other.
    ///
    /// # Errors
    /// Those of the call.
    pub fn connect(&mut self, system: &System, index: usize) -> Result<()> {
        let peer = self.sites[1 - index].public_address.into();
        self.connect_to(system, index, peer)
    }

    /// Makes the connection of site `index` to the other, whose gateway is at `peer`.
    ///
    /// # Errors
    /// Those of the call.
    pub fn connect_to(&mut self, system: &System, index: usize, peer: IpAddr) -> Result<()> {
        let (here, there) = (&self.sites[index], &self.sites[1 - index]);
        let new = NewConnection {
            name: Some(format!("to-{}", 2 - index)),
            psk: Secret::new(self.psk.clone()),
            peer: peer.to_string(),
            local_cidrs: here.cidrs.clone(),
            peer_cidrs: there.cidrs.clone(),
            ike_policy: None,
            ipsec_policy: None,
            admin_state_up: true,
            establish_mode: EstablishMode::Bidirectional,
        };
        let made = system.call(|client| client.create_connection(&here.gateway, &new))?;
        self.sites[index].connection = Some(made.id);
        Ok(())
    }

    /// Removes the connection of site `index` and waits until it is gone.
    ///
    /// # Errors
    /// When the call fails or it stays.
    pub fn disconnect(&mut self, system: &System, index: usize) -> Result<()> {
        let site = &mut self.sites[index];
        let connection = site.connection.take().context("a connection")?;
        system.call(|client| client.delete_connection(&site.gateway, &connection))?;
        eventually("the end of the connection", || {
            match system.call(|client| client.connection(&site.gateway, &connection)) {
                Err(error) if error.is_not_found() => Ok(()),
                Err(error) => Err(error.into()),
                Ok(seen) => anyhow::bail!("{} is still there", seen.name),
            }
        })
    }

    /// Waits until both connections read up.
    ///
    /// # Errors
    /// When they do not in the usual time; the text has their reasons.
    pub fn wait_until_up(&self, system: &System) -> Result<()> {
        for site in &self.sites {
            let connection = site.connection.as_ref().context("a connection")?;
            eventually("a connection that is up", || {
                let seen = system.call(|client| client.connection(&site.gateway, connection))?;
                ensure!(seen.is_up(), "{} is down: {}", seen.name, seen.reasons());
                Ok(())
            })
            .with_context(|| system.output_tail())?;
        }
        Ok(())
    }

    /// Namespace of instance `tier` of site `index`.
    ///
    /// # Errors
    /// When it does not exist.
    pub fn node(&self, system: &System, index: usize, tier: usize) -> Result<Node> {
        system.node_of(&self.sites[index].instances[tier])
    }

    /// Deletes everything, in the order that the API asks for, and waits until it is gone.
    ///
    /// # Errors
    /// When a call fails or something stays.
    pub fn delete(self, system: &System) -> Result<()> {
        for site in &self.sites {
            for instance in &site.instances {
                system.call(|client| client.delete_instance(instance))?;
            }
            system.call(|client| client.delete_vpn_gateway(&site.gateway))?;
        }
        for site in &self.sites {
            for subnet in &site.subnets {
                eventually("a subnet that can be deleted", || {
                    Ok(system.call(|client| client.delete_subnet(subnet))?)
                })?;
            }
            eventually("a VPC that can be deleted", || {
                Ok(system.call(|client| client.delete_vpc(&site.vpc))?)
            })?;
        }
        Ok(())
    }
}

fn site(system: &System, tag: &str, number: u8) -> Result<Site> {
    let range = |third: u8| format!("10.{number}.{third}.0/24").parse::<Cidr>();
    let new = NewVpc {
        name: Some(format!("vpc-{tag}-{number}")),
        address_prefix_management: PrefixManagement::Manual,
    };
    let vpc = system.call(|client| client.create_vpc(&new))?.id;
    let region = system.call(|client| client.regions())?.remove(0);
    let zones = system.call(|client| client.zones(&region.name))?;
    let zone = zones.first().context("a zone")?.name.clone();
    let prefix = NewAddressPrefix {
        name: None,
        cidr: format!("10.{number}.0.0/16").parse()?,
        zone: NameReference::to(zone.as_str()),
        is_default: true,
    };
    system.call(|client| client.create_prefix(&vpc, &prefix))?;
    let cidrs = vec![range(0)?, range(1)?];
    let (mut subnets, mut instances, mut addresses) = (Vec::new(), Vec::new(), Vec::new());
    for (tier, cidr) in cidrs.iter().enumerate() {
        let new = NewSubnet {
            name: Some(format!("tier-{number}-{tier}")),
            vpc: Identity::from(&vpc),
            zone: None,
            range: SubnetRange::Cidr(*cidr),
        };
        let subnet = system.call(|client| client.create_subnet(&new))?;
        let new = NewInstance {
            name: Some(format!("i-{tag}-{number}-{tier}")),
            subnet: subnet.id.clone(),
            zone: zone.clone(),
            address: None,
            attachment: isthmus_client::Attachment::Namespace,
        };
        let instance = system.call(|client| client.create_instance(&new))?;
        subnets.push(subnet.id);
        addresses.push(instance.primary_network_interface.primary_ip.address);
        instances.push(instance.id);
    }
    let new = NewVpnGateway {
        name: Some(format!("gw-{tag}-{number}")),
        subnet: subnets[0].clone(),
    };
    let gateway = system.call(|client| client.create_vpn_gateway(&new))?;
    let public_address = gateway.public_ip.address;
    Ok(Site {
        vpc,
        subnets,
        cidrs,
        instances,
        addresses,
        gateway: gateway.id,
        public_address,
        connection: None,
    })
}
