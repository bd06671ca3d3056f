//! A small network made through the API.

use anyhow::Result;
use serde_json::{Value, json};

use crate::PSK;
use crate::client::Client;
use crate::server::Server;

/// Two VPCs; the left one with an instance, a VPN gateway, a connection and both policies of that connection.
pub struct World {
    /// Id of the VPC with everything in it.
    pub vpc: String,
    /// Id of an empty VPC.
    pub empty_vpc: String,
    /// Id of the prefix 10.1.0.0/16 of `vpc`.
    pub prefix: String,
    /// Id of 10.1.0.0/24, which holds the gateway.
    pub gateway_subnet: String,
    /// Id of 10.1.1.0/24, which holds the instance.
    pub instance_subnet: String,
    /// Id of 10.1.2.0/29, which is empty.
    pub small_subnet: String,
    /// Id of the instance.
    pub instance: String,
    /// Id of the instance's interface.
    pub interface: String,
    /// Id of the only image.
    pub image: String,
    /// Id of the gateway, which is ready.
    pub gateway: String,
    /// Id of the gateway's active member.
    pub member: String,
    /// Id of the connection, 10.1.0.0/16 to 10.2.0.0/16.
    pub connection: String,
    /// Id of the connection's IKE policy.
    pub ike_policy: String,
    /// Id of the connection's IPsec policy.
    pub ipsec_policy: String,
}

impl World {
    /// Makes the network and plays hosts until all of it is ready.
    ///
    /// # Errors
    /// When a request is not answered as it should be.
    pub async fn make(server: &Server, client: &Client) -> Result<Self> {
        let vpc = Self::vpc(client, "left").await?;
        let empty_vpc = Self::vpc(client, "empty").await?;
        let prefix = client
            .post(
                &format!("/v1/vpcs/{vpc}/address_prefixes"),
                json!({ "cidr": "10.1.0.0/16", "zone": { "name": "us-south-1" }, "name": "all", "is_default": true }),
            )
            .await?
            .expect(201)?;
        let gateway_subnet = Self::subnet(client, &vpc, "gw-net", "10.1.0.0/24").await?;
        let instance_subnet = Self::subnet(client, &vpc, "app-net", "10.1.1.0/24").await?;
        let small_subnet = Self::subnet(client, &vpc, "small", "10.1.2.0/29").await?;
        let images = client.get("/v1/images").await?.expect(200)?;
        let image = text(&images.json["images"][0]["id"]);
        let instance = client
            .post(
                "/v1/instances",
                Self::instance_body("app", &image, &instance_subnet),
            )
            .await?
            .expect(201)?;
        let ike = client
            .post(
                "/v1/ike_policies",
                json!({ "name": "ike", "ike_version": 2, "authentication_algorithm": "sha256",
                        "encryption_algorithm": "aes256", "dh_group": 19 }),
            )
            .await?
            .expect(201)?;
        let ipsec = client
            .post(
                "/v1/ipsec_policies",
                json!({ "name": "esp", "authentication_algorithm": "sha256",
                        "encryption_algorithm": "aes256", "pfs": "group_19" }),
            )
            .await?
            .expect(201)?;
        let gateway = Self::gateway(client, "gw", &gateway_subnet).await?;
        let mut body = Self::connection_body("to-right", "198.51.100.9", "10.1.0.0/16", "10.2.0.0/16");
        body["ike_policy"] = json!({ "id": ike.id() });
        body["ipsec_policy"] = json!({ "id": ipsec.id() });
        let connections = format!("/v1/vpn_gateways/{}/connections", text(&gateway["id"]));
        let connection = client.post(&connections, body).await?.expect(201)?;
        server.host_pass().await?;
        Ok(Self {
            vpc,
            empty_vpc,
            prefix: prefix.id().to_owned(),
            gateway_subnet,
            instance_subnet,
            small_subnet,
            interface: text(&instance.json["primary_network_interface"]["id"]),
            instance: instance.id().to_owned(),
            image,
            member: text(&gateway["members"][0]["id"]),
            gateway: text(&gateway["id"]),
            connection: connection.id().to_owned(),
            ike_policy: ike.id().to_owned(),
            ipsec_policy: ipsec.id().to_owned(),
        })
    }

    /// Makes a VPC without prefixes and gives its id.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn vpc(client: &Client, name: &str) -> Result<String> {
        let body = json!({ "name": name, "address_prefix_management": "manual" });
        Ok(client.post("/v1/vpcs", body).await?.expect(201)?.id().to_owned())
    }

    /// Makes a subnet and gives its id.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn subnet(client: &Client, vpc: &str, name: &str, cidr: &str) -> Result<String> {
        let body = json!({ "vpc": { "id": vpc }, "name": name, "ipv4_cidr_block": cidr });
        Ok(client
            .post("/v1/subnets", body)
            .await?
            .expect(201)?
            .id()
            .to_owned())
    }

    /// Makes a gateway and gives it as answered.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn gateway(client: &Client, name: &str, subnet: &str) -> Result<Value> {
        let body = json!({ "subnet": { "id": subnet }, "name": name, "mode": "policy" });
        Ok(client.post("/v1/vpn_gateways", body).await?.expect(201)?.json)
    }

    /// The body that makes an instance in the first zone.
    pub fn instance_body(name: &str, image: &str, subnet: &str) -> Value {
        json!({
            "name": name,
            "zone": { "name": "us-south-1" },
            "image": { "id": image },
            "profile": { "name": "cx2-2x4" },
            "primary_network_interface": { "subnet": { "id": subnet } },
        })
    }

    /// The body that makes a connection at a nested date.
    pub fn connection_body(name: &str, peer: &str, local: &str, remote: &str) -> Value {
        json!({
            "name": name,
            "psk": PSK,
            "local": { "cidrs": [local] },
            "peer": { "address": peer, "cidrs": [remote] },
        })
    }

    /// Path of the gateway's connections.
    pub fn connections_path(&self) -> String {
        format!("/v1/vpn_gateways/{}/connections", self.gateway)
    }

    /// Path of the connection.
    pub fn connection_path(&self) -> String {
        format!("{}/{}", self.connections_path(), self.connection)
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
