//! Requests that are refused before anyone else sees them.

use http::Method;

use crate::samples::{FLAT, NESTED, PSK, read, regional, zonal};

struct Row {
    method: Method,
    path: String,
    date: &'static str,
    body: String,
    expected: (u16, &'static str, &'static str),
}

fn row(
    method: Method,
    path: impl Into<String>,
    date: &'static str,
    body: impl Into<String>,
    expected: (u16, &'static str, &'static str),
) -> Row {
    Row {
        method,
        path: path.into(),
        date,
        body: body.into(),
        expected,
    }
}

fn check(rows: Vec<Row>) {
    for Row {
        method,
        path,
        date,
        body,
        expected,
    } in rows
    {
        let case = format!("{method} {path} at {date} with {body}");
        let Err(fault) = read(method, &path, date, &body) else {
            panic!("accepted: {case}");
        };
        let target = fault.target.as_ref().map_or("", |target| target.name.as_str());
        assert_eq!(
            (fault.status.as_u16(), fault.code, target),
            expected,
            "{case}: {}",
            fault.message
        );
        let answer = String::from_utf8(fault.response("t").into_body()).unwrap();
        assert!(!answer.contains(PSK), "{case} repeats the key");
    }
}

#[test]
fn bodies_and_common_properties() {
    let post = |body: &str, expected| row(Method::POST, "/v1/vpcs", NESTED, body, expected);
    let long = format!(r#"{{"name":"{}"}}"#, "a".repeat(64));
    check(vec![
        post("", (400, "validation_failure", "")),
        post("{", (400, "validation_failure", "")),
        post("[]", (400, "validation_failure", "")),
        post("\"text\"", (400, "validation_failure", "")),
        post(&"[".repeat(5000), (400, "validation_failure", "")),
        post(r#"{"name":7}"#, (400, "validation_invalid_field_type", "name")),
        post(r#"{"name":null}"#, (400, "validation_invalid_field_type", "name")),
        post(r#"{"name":""}"#, (400, "validation_invalid_name", "name")),
        post(r#"{"name":"Bad_Name"}"#, (400, "validation_invalid_name", "name")),
        post(r#"{"name":"-a"}"#, (400, "validation_invalid_name", "name")),
        post(r#"{"name":"a-"}"#, (400, "validation_invalid_name", "name")),
        post(&long, (400, "validation_invalid_name", "name")),
        post(
            r#"{"classic_access":"yes"}"#,
            (400, "validation_invalid_field_type", "classic_access"),
        ),
        post(
            r#"{"address_prefix_management":"both"}"#,
            (400, "validation_enum", "address_prefix_management"),
        ),
        post(
            r#"{"resource_group":{}}"#,
            (400, "missing_field", "resource_group.id"),
        ),
        post(
            r#"{"resource_group":{"id":""}}"#,
            (400, "bad_field", "resource_group.id"),
        ),
        post(
            r#"{"dns":{"enable_hub":true}}"#,
            (400, "bad_field", "dns.enable_hub"),
        ),
    ]);
}

#[test]
fn path_ids_and_queries() {
    let get = |path: String, expected| row(Method::GET, path, NESTED, "", expected);
    let foreign = "0c6a1f9e-5b0d-4a53-9d6f-2f3f8f6f2a11";
    check(vec![
        get("/v1/vpcs/x".into(), (404, "not_found", "id")),
        get(format!("/v1/vpcs/r006-{foreign}"), (404, "not_found", "id")),
        get(format!("/v1/vpcs/{}", zonal(1)), (404, "not_found", "id")),
        get(
            format!("/v1/vpn_gateways/{}", regional(1)),
            (404, "vpn_gateway_not_found", "id"),
        ),
        get(
            format!("/v1/vpn_gateways/{}/connections/x", zonal(1)),
            (404, "vpn_connection_not_found", "id"),
        ),
        get("/v1/ike_policies/..".into(), (404, "ike_policy_not_found", "id")),
        get(
            "/v1/ipsec_policies/%00".into(),
            (404, "ipsec_policy_not_found", "id"),
        ),
        get("/v1/regions/US".into(), (404, "not_found", "id")),
        get("/v1/images/nope".into(), (404, "not_found", "id")),
        get("/v1/instance/profiles/nope".into(), (404, "not_found", "id")),
        get("/v1/vpcs?limit=0".into(), (400, "validation_min_value", "limit")),
        get("/v1/vpcs?limit=-3".into(), (400, "validation_min_value", "limit")),
        get(
            "/v1/vpcs?limit=101".into(),
            (400, "validation_max_value", "limit"),
        ),
        get(
            "/v1/vpcs?limit=x".into(),
            (400, "validation_invalid_field_type", "limit"),
        ),
        get(
            "/v1/vpcs?classic_access=1".into(),
            (400, "validation_invalid_field_type", "classic_access"),
        ),
        get("/v1/images?start=x".into(), (400, "invalid_id_format", "start")),
        get(
            "/v1/subnets?vpc.id=x".into(),
            (400, "invalid_id_format", "vpc.id"),
        ),
        get(
            "/v1/subnets?zone.name=A".into(),
            (400, "invalid_zone", "zone.name"),
        ),
        get(
            "/v1/vpn_gateways?sort=size".into(),
            (400, "validation_enum", "sort"),
        ),
        get(
            "/v1/vpn_gateways?mode=fast".into(),
            (400, "validation_enum", "mode"),
        ),
        get(
            format!("/v1/vpn_gateways/{}/connections?status=odd", zonal(1)),
            (400, "validation_enum", "status"),
        ),
    ]);
}

#[test]
fn networks_and_instances() {
    let vpc = regional(10);
    let prefixes = format!("/v1/vpcs/{vpc}/address_prefixes");
    let prefix = |body: &str, expected| row(Method::POST, prefixes.clone(), NESTED, body, expected);
    let in_vpc = |rest: &str| format!(r#"{{"vpc":{{"id":"{vpc}"}},{rest}}}"#);
    let subnet = |rest: &str, expected| row(Method::POST, "/v1/subnets", NESTED, in_vpc(rest), expected);
    let nic = format!(r#"{{"subnet":{{"id":"{}"}}}}"#, zonal(11));
    let instance = |body: String, expected| row(Method::POST, "/v1/instances", NESTED, body, expected);
    let image = format!("r006-{}", bits_of_image());
    check(vec![
        prefix(
            r#"{"zone":{"name":"us-south-1"}}"#,
            (400, "missing_field", "cidr"),
        ),
        prefix(r#"{"cidr":"10.0.0.0/16"}"#, (400, "missing_field", "zone")),
        prefix(
            r#"{"cidr":"10.0.0.0/16","zone":{}}"#,
            (400, "missing_field", "zone.name"),
        ),
        prefix(
            r#"{"cidr":"10.0.0.0/16","zone":{"name":"A"}}"#,
            (400, "invalid_zone", "zone.name"),
        ),
        prefix(
            r#"{"cidr":"10.0.0.1/16","zone":{"name":"z"}}"#,
            (400, "validation_invalid_cidr", "cidr"),
        ),
        prefix(
            r#"{"cidr":"fd00::/64","zone":{"name":"z"}}"#,
            (400, "validation_invalid_cidr", "cidr"),
        ),
        prefix(
            r#"{"cidr":"10.0.0.0/016","zone":{"name":"z"}}"#,
            (400, "validation_invalid_cidr", "cidr"),
        ),
        row(
            Method::POST,
            "/v1/subnets",
            NESTED,
            "{}",
            (400, "missing_field", "vpc"),
        ),
        row(
            Method::POST,
            "/v1/subnets",
            NESTED,
            r#"{"vpc":{}}"#,
            (400, "missing_field", "vpc.id"),
        ),
        row(
            Method::POST,
            "/v1/subnets",
            NESTED,
            r#"{"vpc":{"id":"x"}}"#,
            (400, "bad_field", "vpc.id"),
        ),
        subnet(r#""name":"a""#, (400, "missing_field", "ipv4_cidr_block")),
        subnet(
            r#""ipv4_cidr_block":"10.0.0.0/24","total_ipv4_address_count":16"#,
            (400, "validation_only_one", "total_ipv4_address_count"),
        ),
        subnet(r#""total_ipv4_address_count":16"#, (400, "missing_field", "zone")),
        subnet(
            r#""total_ipv4_address_count":4"#,
            (400, "validation_min_value", "total_ipv4_address_count"),
        ),
        subnet(
            r#""total_ipv4_address_count":17,"zone":{"name":"z"}"#,
            (400, "bad_field", "total_ipv4_address_count"),
        ),
        subnet(
            r#""ipv4_cidr_block":"10.0.0.9/24""#,
            (400, "validation_invalid_cidr", "ipv4_cidr_block"),
        ),
        instance("{}".into(), (400, "missing_field", "zone")),
        instance(r#"{"zone":{"name":"z"}}"#.into(), (400, "missing_field", "image")),
        instance(
            format!(r#"{{"zone":{{"name":"z"}},"image":{{"id":"{image}"}}}}"#),
            (400, "missing_field", "primary_network_interface"),
        ),
        instance(
            format!(
                r#"{{"zone":{{"name":"z"}},"image":{{"id":"{}"}},"primary_network_interface":{nic}}}"#,
                regional(4)
            ),
            (400, "bad_field", "image.id"),
        ),
        instance(
            format!(
                r#"{{"zone":{{"name":"z"}},"image":{{"id":"{image}"}},"profile":{{"name":"huge"}},"primary_network_interface":{nic}}}"#
            ),
            (400, "bad_field", "profile.name"),
        ),
        instance(
            format!(
                r#"{{"zone":{{"name":"z"}},"image":{{"id":"{image}"}},"primary_network_interface":{{"subnet":{{"id":"{}"}},"attachment":{{"kind":"tap","interface":"sixteen-bytes-xx"}}}}}}"#,
                zonal(11)
            ),
            (400, "bad_field", "primary_network_interface.attachment.interface"),
        ),
        row(
            Method::POST,
            format!("/v1/instances/0717_{}/actions", &zonal(1)[5..]),
            NESTED,
            r#"{"type":"explode"}"#,
            (400, "validation_enum", "type"),
        ),
    ]);
}

fn bits_of_image() -> String {
    let listed = crate::samples::read(Method::GET, "/v1/images", NESTED, "").unwrap();
    let isthmus_ibm::Ask::Answer(response) = listed.ask else {
        panic!("the images are a constant list")
    };
    let value: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
    value["images"][0]["id"].as_str().unwrap()[5..].to_owned()
}

#[test]
fn gateways() {
    let gateway = |date, body: String, expected| row(Method::POST, "/v1/vpn_gateways", date, body, expected);
    let on_subnet = |rest: &str| format!(r#"{{"subnet":{{"id":"{}"}}{rest}}}"#, zonal(11));
    let missing = (400, "vpn_gateway_missing_subnet_id", "subnet");
    check(vec![
        gateway(NESTED, r#"{"mode":"policy"}"#.into(), missing),
        gateway(NESTED, on_subnet(""), (400, "bad_field", "mode")),
        gateway(
            NESTED,
            on_subnet(r#","mode":"route""#),
            (400, "bad_field", "mode"),
        ),
        gateway(
            NESTED,
            on_subnet(r#","mode":"x""#),
            (400, "validation_enum", "mode"),
        ),
        gateway(FLAT, on_subnet(r#","mode":"policy""#), (400, "bad_field", "mode")),
        gateway(
            FLAT,
            r#"{"subnet":{"id":"x"}}"#.into(),
            (400, "vpn_gateway_subnet_not_found", "subnet.id"),
        ),
        gateway(
            FLAT,
            on_subnet(r#","name":"Bad""#),
            (400, "vpn_gateway_invalid_name", "name"),
        ),
    ]);
}

fn connections_path() -> String {
    format!("/v1/vpn_gateways/{}/connections", zonal(20))
}

/// A nested connection with one part replaced.
fn nested(pointer: &str, value: &str) -> String {
    let mut body = serde_json::json!({
        "psk": PSK,
        "local": { "cidrs": ["10.240.0.0/24"] },
        "peer": { "address": "203.0.113.9", "cidrs": ["10.241.0.0/24"] },
    });
    *body.pointer_mut(pointer).unwrap() = serde_json::from_str(value).unwrap();
    body.to_string()
}

#[test]
fn new_connections() {
    let post = |body: String, expected| row(Method::POST, connections_path(), NESTED, body, expected);
    let with = |pointer, value, expected| post(nested(pointer, value), expected);
    let long_key = format!("\"{}\"", "k".repeat(129));
    let key = (400, "vpn_connection_invalid_psk_format", "psk");
    let address = (400, "validation_invalid_ipv4_address", "peer.address");
    let local = (400, "vpn_connection_local_cidrs_required", "local.cidrs");
    check(vec![
        post("{}".into(), (400, "missing_field", "peer")),
        with("/psk", "\"\"", key),
        with("/psk", "\"short\"", key),
        with("/psk", &long_key, key),
        with("/psk", "\"0xabcdef\"", key),
        with("/psk", "\"0sabcdef\"", key),
        with("/psk", "\"with space\"", key),
        with("/psk", "\"schlüssel\"", key),
        with("/psk", "7", (400, "validation_invalid_field_type", "psk")),
        with("/local", "{}", local),
        with("/local/cidrs", "[]", local),
        with(
            "/local/cidrs",
            "[\"10.0.0.5/24\"]",
            (400, "vpn_connection_cidr_not_valid", "local.cidrs[0]"),
        ),
        with(
            "/local/cidrs",
            "[7]",
            (400, "validation_invalid_field_type", "local.cidrs[0]"),
        ),
        with(
            "/peer",
            r#"{"address":"203.0.113.9"}"#,
            (400, "vpn_connection_peer_cidrs_required", "peer.cidrs"),
        ),
        with(
            "/peer",
            r#"{"cidrs":["10.1.0.0/16"]}"#,
            (400, "missing_field", "peer.address"),
        ),
        with("/peer/address", "\"999.1.1.1\"", address),
        with("/peer/address", "\"0.0.0.0\"", address),
        with(
            "/peer",
            r#"{"address":"203.0.113.9","fqdn":"a.example","cidrs":["10.1.0.0/16"]}"#,
            (400, "validation_only_one", "peer.fqdn"),
        ),
        with(
            "/peer",
            r#"{"fqdn":"no dots","cidrs":["10.1.0.0/16"]}"#,
            (400, "bad_field", "peer.fqdn"),
        ),
        row(
            Method::POST,
            connections_path(),
            FLAT,
            nested("/psk", "\"abcdef\""),
            (400, "bad_field", "local"),
        ),
        post(
            r#"{"peer_address":"203.0.113.9"}"#.into(),
            (400, "bad_field", "peer_address"),
        ),
    ]);
}

#[test]
fn changed_connections() {
    let one = format!("{}/{}", connections_path(), zonal(30));
    let patch = |body: &str, date, expected| row(Method::PATCH, one.clone(), date, body, expected);
    let not_here = "vpn_connection_update_cidrs_not_permitted";
    let invalid = (400, "vpn_connection_cidr_not_valid", "cidr");
    check(vec![
        patch(r#"{"peer":{"cidrs":[]}}"#, NESTED, (400, not_here, "peer.cidrs")),
        patch(r#"{"local_cidrs":[]}"#, FLAT, (400, not_here, "local_cidrs")),
        patch(r#"{"tunnels":[]}"#, NESTED, (428, "missing_header", "If-Match")),
        patch(
            r#"{"admin_state_up":1}"#,
            NESTED,
            (400, "validation_invalid_field_type", "admin_state_up"),
        ),
        patch(
            r#"{"dead_peer_detection":{"interval":0}}"#,
            NESTED,
            (400, "validation_min_value", "dead_peer_detection.interval"),
        ),
        patch(
            r#"{"ike_policy":{"id":"x"}}"#,
            NESTED,
            (400, "bad_field", "ike_policy.id"),
        ),
        row(
            Method::PUT,
            format!("{one}/peer/cidrs/10.0.0.5%2F24"),
            NESTED,
            "",
            invalid,
        ),
        row(
            Method::GET,
            format!("{one}/local_cidrs/10.0.0.0/33"),
            FLAT,
            "",
            invalid,
        ),
    ]);
}

#[test]
fn policies() {
    let ike = |date, body: &str, expected| row(Method::POST, "/v1/ike_policies", date, body, expected);
    let ipsec = |date, body: &str, expected| row(Method::POST, "/v1/ipsec_policies", date, body, expected);
    check(vec![
        ike(NESTED, "{}", (400, "missing_field", "ike_version")),
        ike(
            NESTED,
            r#"{"ike_version":3}"#,
            (400, "validation_enum", "ike_version"),
        ),
        ike(
            NESTED,
            r#"{"ike_version":2}"#,
            (400, "missing_field", "authentication_algorithm"),
        ),
        ike(
            NESTED,
            r#"{"ike_version":2,"authentication_algorithm":"sha256","authentication_algorithms":["sha256"],"encryption_algorithm":"aes128","dh_group":14}"#,
            (400, "validation_only_one", "authentication_algorithms"),
        ),
        ike(
            NESTED,
            r#"{"ike_version":2,"authentication_algorithms":[],"encryption_algorithm":"aes128","dh_group":14}"#,
            (400, "bad_field", "authentication_algorithms"),
        ),
        ike(
            NESTED,
            r#"{"ike_version":2,"authentication_algorithms":["sha256","sha256"],"encryption_algorithm":"aes128","dh_group":14}"#,
            (400, "bad_field", "authentication_algorithms"),
        ),
        ike(
            NESTED,
            r#"{"ike_version":1,"authentication_algorithms":["sha256","sha384"],"encryption_algorithm":"aes128","dh_group":14}"#,
            (400, "bad_field", "authentication_algorithms"),
        ),
        ike(
            NESTED,
            r#"{"ike_version":2,"authentication_algorithm":"sha1","encryption_algorithm":"aes128","dh_group":14}"#,
            (400, "bad_field", "authentication_algorithm"),
        ),
        ike(
            NESTED,
            r#"{"ike_version":2,"authentication_algorithm":"sha256","encryption_algorithm":"triple_des","dh_group":14}"#,
            (400, "bad_field", "encryption_algorithm"),
        ),
        ike(
            NESTED,
            r#"{"ike_version":2,"authentication_algorithm":"sha256","encryption_algorithm":"aes128","dh_group":5}"#,
            (400, "bad_field", "dh_group"),
        ),
        ike(
            FLAT,
            r#"{"ike_version":2,"authentication_algorithm":"sha256","encryption_algorithm":"3des","dh_group":5}"#,
            (400, "validation_enum", "encryption_algorithm"),
        ),
        ike(
            FLAT,
            r#"{"ike_version":2,"authentication_algorithm":"sha256","encryption_algorithm":"aes128","dh_group":7}"#,
            (400, "validation_enum", "dh_group"),
        ),
        ike(
            FLAT,
            r#"{"ike_version":1,"authentication_algorithm":"md5","encryption_algorithm":"triple_des","dh_group":2,"key_lifetime":1799}"#,
            (400, "validation_min_value", "key_lifetime"),
        ),
        ike(
            FLAT,
            r#"{"ike_version":1,"authentication_algorithm":"md5","encryption_algorithm":"triple_des","dh_group":2,"key_lifetime":86401}"#,
            (400, "validation_max_value", "key_lifetime"),
        ),
        ipsec(
            NESTED,
            r#"{"authentication_algorithm":"sha256","encryption_algorithm":"aes128gcm16","pfs":"disabled"}"#,
            (400, "bad_field", "authentication_algorithm"),
        ),
        ipsec(
            NESTED,
            r#"{"authentication_algorithms":["disabled"],"encryption_algorithms":["aes128","aes128gcm16"],"pfs":"disabled"}"#,
            (400, "bad_field", "authentication_algorithms"),
        ),
        ipsec(
            NESTED,
            r#"{"authentication_algorithm":"sha256","encryption_algorithm":"aes128","pfs_groups":["disabled","group_14"]}"#,
            (400, "bad_field", "pfs_groups"),
        ),
        ipsec(
            NESTED,
            r#"{"authentication_algorithm":"sha256","encryption_algorithm":"aes128","pfs":"group_2"}"#,
            (400, "bad_field", "pfs"),
        ),
        ipsec(
            NESTED,
            r#"{"authentication_algorithm":"sha256","encryption_algorithm":"aes128"}"#,
            (400, "missing_field", "pfs"),
        ),
    ]);
}
