//! Every route of the dialect, without credentials and with those of another account. The table is the dialect's own
//! list of routes: a route that this file does not know fails the test.

use isthmus_api_suite::{Client, Server, World};
use serde_json::{Value, json};

/// Lists and creations: nothing in the path to be denied.
const COLLECTIONS: [&str; 15] = [
    "GET /v1/vpcs",
    "POST /v1/vpcs",
    "GET /v1/subnets",
    "POST /v1/subnets",
    "GET /v1/instances",
    "POST /v1/instances",
    "GET /v1/vpn_gateways",
    "POST /v1/vpn_gateways",
    "GET /v1/ike_policies",
    "POST /v1/ike_policies",
    "GET /v1/ipsec_policies",
    "POST /v1/ipsec_policies",
    "GET /v1/images",
    "GET /v1/instance/profiles",
    "GET /v1/keys",
];

/// What everybody sees alike.
const SHARED: [&str; 6] = [
    "GET /v1/regions",
    "GET /v1/regions/{region}",
    "GET /v1/regions/{region}/zones",
    "GET /v1/regions/{region}/zones/{zone}",
    "GET /v1/images/{image}",
    "GET /v1/instance/profiles/{name}",
];

/// What even the owner does not find: there are no keys, and the range asked for is on the other side.
const ABSENT: [&str; 3] = [
    "GET /v1/keys/{key}",
    "GET /v1/vpn_gateways/{gateway}/connections/{id}/peer_cidrs/{address}/{length}",
    "GET /v1/vpn_gateways/{gateway}/connections/{id}/peer/cidrs/{cidr}",
];

struct Ids {
    world: World,
    acl: String,
    group: String,
    table: String,
    reserved_ip: String,
}

impl Ids {
    async fn of(world: World, client: &Client) -> Self {
        let vpc = client.get(&format!("/v1/vpcs/{}", world.vpc)).await.unwrap();
        let ips = client
            .get(&format!("/v1/subnets/{}/reserved_ips", world.instance_subnet))
            .await
            .unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        Self {
            acl: text(&vpc.json["default_network_acl"]["id"]),
            group: text(&vpc.json["default_security_group"]["id"]),
            table: text(&vpc.json["default_routing_table"]["id"]),
            reserved_ip: text(&ips.json["reserved_ips"][0]["id"]),
            world,
        }
    }

    /// The value of a path variable; `before` is the segment that it follows.
    fn value(&self, before: &str, variable: &str) -> Option<String> {
        let world = &self.world;
        let value = match (before, variable) {
            ("regions", "{region}") => "us-south",
            ("zones", "{zone}") => "us-south-1",
            ("vpcs", "{vpc}") => &world.vpc,
            ("routing_tables", "{table}") => &self.table,
            ("network_acls", "{acl}") => &self.acl,
            ("security_groups", "{group}") => &self.group,
            ("address_prefixes", "{prefix}") => &world.prefix,
            ("subnets", "{subnet}") => &world.instance_subnet,
            ("reserved_ips", "{ip}") => &self.reserved_ip,
            ("instances", "{instance}") => &world.instance,
            ("network_interfaces", "{nic}") => &world.interface,
            ("profiles", "{name}") => "bx2-2x8",
            ("images", "{image}") => &world.image,
            ("keys", "{key}") => "r006-none",
            ("vpn_gateways", "{gateway}") => &world.gateway,
            ("members", "{member}") => &world.member,
            ("connections", "{id}") => &world.connection,
            ("cidrs", "{cidr}") => "10.1.0.0%2F16",
            ("local_cidrs" | "peer_cidrs", "{address}") => "10.1.0.0",
            ("{address}", "{length}") => "16",
            ("ike_policies", "{policy}") => &world.ike_policy,
            ("ipsec_policies", "{policy}") => &world.ipsec_policy,
            _ => return None,
        };
        Some(value.to_owned())
    }

    fn fill(&self, template: &str) -> String {
        let mut filled: Vec<String> = Vec::new();
        let mut before = "";
        for part in template.split('/') {
            filled.push(if part.starts_with('{') {
                self.value(before, part)
                    .unwrap_or_else(|| panic!("no case for {part} in {template}"))
            } else {
                part.to_owned()
            });
            before = part;
        }
        filled.join("/")
    }
}

fn body(route: &str) -> Value {
    match route {
        "POST /v1/vpcs/{vpc}/address_prefixes" => {
            json!({ "cidr": "10.9.0.0/16", "zone": { "name": "us-south-1" } })
        }
        "POST /v1/instances/{instance}/actions" => json!({ "type": "stop" }),
        "POST /v1/vpn_gateways/{gateway}/connections" => {
            World::connection_body("theirs", "198.51.100.77", "10.8.0.0/16", "10.9.0.0/16")
        }
        _ => json!({}),
    }
}

#[tokio::test]
async fn no_route_answers_without_a_token_or_to_another_account() {
    let server = Server::start().await.unwrap();
    let owner = server.client().await.unwrap();
    let world = World::make(&server, &owner).await.unwrap();
    let ids = Ids::of(world, &owner).await;
    let stranger_account = server.add_account("stranger").await.unwrap();
    let stranger = server.client_of(&stranger_account).await.unwrap();
    let nobody = Client::new(server.address);
    let before = server.revision();
    let mut checked = 0;
    for route in isthmus_ibm::routes() {
        let name = format!("{route:?}");
        let path = ids.fill(route.template);
        let method = route.method.as_str();
        let refused = nobody.call(method, &path, Some(body(&name))).await.unwrap();
        assert_eq!(
            (refused.status, refused.code()),
            (401, "not_authorized"),
            "{name}"
        );

        if COLLECTIONS.contains(&name.as_str()) {
            if method == "GET" {
                let own: Vec<&str> = [
                    &ids.world.vpc,
                    &ids.world.gateway,
                    &ids.world.instance,
                    &ids.world.ike_policy,
                ]
                .map(String::as_str)
                .to_vec();
                let seen = stranger.get(&path).await.unwrap().expect(200).unwrap();
                assert!(
                    own.iter().all(|id| !seen.text.contains(id)),
                    "{name} shows a stranger {}",
                    seen.text
                );
            }
        } else if SHARED.contains(&name.as_str()) {
            stranger
                .call(method, &path, None)
                .await
                .unwrap()
                .expect(200)
                .unwrap();
        } else {
            assert!(route.template.contains('{'), "no case for {name}");
            let denied = stranger.call(method, &path, Some(body(&name))).await.unwrap();
            assert_eq!(denied.status, 404, "{name}: {}", denied.text);
            assert!(denied.code().ends_with("not_found"), "{name}: {}", denied.code());
            if method == "GET" && !ABSENT.contains(&name.as_str()) {
                let shown = owner.get(&path).await.unwrap();
                assert!(matches!(shown.status, 200 | 204), "{name}: {}", shown.text);
            }
        }
        checked += 1;
    }
    assert_eq!(server.revision(), before, "a refused request changed something");
    println!("{checked} routes checked without a token and as another account");
}

#[tokio::test]
async fn what_belongs_to_another_account_cannot_be_referred_to() {
    let server = Server::start().await.unwrap();
    let owner = server.client().await.unwrap();
    let world = World::make(&server, &owner).await.unwrap();
    let account = server.add_account("stranger").await.unwrap();
    let stranger = server.client_of(&account).await.unwrap();
    let vpc = World::vpc(&stranger, "left").await.unwrap();
    let prefix = json!({ "cidr": "10.1.0.0/16", "zone": { "name": "us-south-1" } });
    stranger
        .post(&format!("/v1/vpcs/{vpc}/address_prefixes"), prefix)
        .await
        .unwrap()
        .expect(201)
        .unwrap();
    let subnet = World::subnet(&stranger, &vpc, "net", "10.1.0.0/24")
        .await
        .unwrap();
    let gateway = World::gateway(&stranger, "gw", &subnet).await.unwrap();
    let connections = format!("/v1/vpn_gateways/{}/connections", gateway["id"].as_str().unwrap());
    let before = server.revision();

    let body = json!({ "vpc": { "id": world.vpc }, "ipv4_cidr_block": "10.1.7.0/24" });
    let reply = stranger.post("/v1/subnets", body).await.unwrap();
    assert_eq!((reply.status, reply.code()), (400, "bad_field"), "{}", reply.text);

    let body = json!({ "subnet": { "id": world.gateway_subnet }, "mode": "policy" });
    let reply = stranger.post("/v1/vpn_gateways", body).await.unwrap();
    assert_eq!(
        (reply.status, reply.code()),
        (400, "vpn_gateway_subnet_not_found"),
        "{}",
        reply.text
    );

    let body = World::instance_body("x", &world.image, &world.instance_subnet);
    let reply = stranger.post("/v1/instances", body).await.unwrap();
    assert_eq!((reply.status, reply.code()), (400, "bad_field"), "{}", reply.text);

    let mut body = World::connection_body("x", "198.51.100.77", "10.1.0.0/16", "10.9.0.0/16");
    body["ike_policy"] = json!({ "id": world.ike_policy });
    let reply = stranger.post(&connections, body).await.unwrap();
    assert_eq!((reply.status, reply.code()), (400, "bad_field"), "{}", reply.text);
    assert_eq!(server.revision(), before);
}
