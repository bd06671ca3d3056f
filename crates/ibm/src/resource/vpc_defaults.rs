//! The default network ACL, security group and routing table of a VPC, which are read-only here.

use isthmus_ops::{NetworkAclView, PlacedSubnet, RouteTableView, RuleRemote, SecurityGroupView};
use isthmus_types::ResourceBits;
use serde_json::{Value, json};

use crate::date::ApiDate;
use crate::id::{self, IdKind};
use crate::render::Render;
use crate::resource::vpc::merge;

// Rules that are not objects of the model yet still need ids: those of their owner, changed by the rule's number.
fn rule_id(kind: &IdKind, owner: ResourceBits, number: usize) -> String {
    kind.text(ResourceBits::from_random(owner.value() ^ (number as u128 + 1)))
}

impl Render {
    // TCP, UDP and ICMP together, as the word of the caller's date.
    fn every_protocol(&self) -> &'static str {
        if self.date >= ApiDate::ICMP_TCP_UDP {
            "icmp_tcp_udp"
        } else {
            "all"
        }
    }

    fn placed_subnets(&self, subnets: &[PlacedSubnet]) -> Vec<Value> {
        subnets
            .iter()
            .map(|placed| self.subnet(&placed.subnet, &placed.zone))
            .collect()
    }

    pub(crate) fn network_acl_view(&self, acl: &NetworkAclView) -> Value {
        let bits = acl.id.bits();
        let own_id = id::NETWORK_ACL.text(bits);
        let rules: Vec<Value> = ["inbound", "outbound"]
            .iter()
            .enumerate()
            .map(|(number, direction)| {
                let rule = rule_id(&id::ACL_RULE, bits, number);
                json!({
                    "action": "allow",
                    "created_at": acl.common.created_at.to_string(),
                    "destination": "0.0.0.0/0",
                    "direction": direction,
                    "href": self.href(&format!("network_acls/{own_id}/rules/{rule}")),
                    "id": rule,
                    "ip_version": "ipv4",
                    "name": format!("allow-{direction}"),
                    "protocol": self.every_protocol(),
                    "source": "0.0.0.0/0",
                })
            })
            .collect();
        let mut map = self.head(&id::NETWORK_ACL, bits, &acl.common);
        let rest = json!({
            "crn": self.crn(self.region(), &id::NETWORK_ACL, &own_id),
            "rules": rules,
            "subnets": self.placed_subnets(&acl.subnets),
            "vpc": self.vpc(&acl.vpc),
        });
        merge(&mut map, rest);
        Value::Object(map)
    }

    pub(crate) fn security_group_view(&self, group: &SecurityGroupView) -> Value {
        let bits = group.id.bits();
        let own_id = id::SECURITY_GROUP.text(bits);
        let rules: Vec<Value> = group
            .rules
            .iter()
            .enumerate()
            .map(|(number, rule)| {
                let rule_id = rule_id(&id::GROUP_RULE, bits, number);
                let remote = match &rule.remote {
                    RuleRemote::Cidr(cidr) => json!({ "cidr_block": cidr.to_string() }),
                    RuleRemote::Group(other) => self.security_group(other),
                };
                json!({
                    "direction": if rule.inbound { "inbound" } else { "outbound" },
                    "href": self.href(&format!("security_groups/{own_id}/rules/{rule_id}")),
                    "id": rule_id,
                    "ip_version": "ipv4",
                    "local": { "cidr_block": "0.0.0.0/0" },
                    "name": format!("rule-{}", number + 1),
                    "protocol": self.every_protocol(),
                    "remote": remote,
                    "resource_type": "security_group_rule",
                })
            })
            .collect();
        let targets: Vec<Value> = group
            .targets
            .iter()
            .map(|target| self.network_interface(target))
            .collect();
        let mut map = self.head(&id::SECURITY_GROUP, bits, &group.common);
        if self.date < ApiDate::RESERVED_IP {
            map.insert("network_interfaces".into(), targets.clone().into());
        }
        let rest = json!({
            "crn": self.crn(self.region(), &id::SECURITY_GROUP, &own_id),
            "rules": rules,
            "targets": targets,
            "vpc": self.vpc(&group.vpc),
        });
        merge(&mut map, rest);
        Value::Object(map)
    }

    pub(crate) fn route_table_view(&self, table: &RouteTableView) -> Value {
        let bits = table.id.bits();
        let own_id = id::ROUTE_TABLE.text(bits);
        let mut map = self.head(&id::ROUTE_TABLE, bits, &table.common);
        let vpc = id::VPC.text(table.vpc.id.bits());
        let rest = json!({
            "accept_routes_from": [{ "resource_type": "vpn_gateway" }],
            "advertise_routes_to": [],
            "crn": self.crn(self.region(), &id::ROUTE_TABLE, &own_id),
            "href": self.href(&format!("vpcs/{vpc}/routing_tables/{own_id}")),
            "is_default": true,
            "lifecycle_state": "stable",
            "resource_type": "routing_table",
            "route_direct_link_ingress": false,
            "route_internet_ingress": false,
            "route_transit_gateway_ingress": false,
            "route_vpc_zone_ingress": false,
            "routes": [],
            "subnets": self.placed_subnets(&table.subnets),
        });
        merge(&mut map, rest);
        Value::Object(map)
    }
}
