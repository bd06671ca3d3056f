"""Builds two VPCs joined by VPN with the unmodified ibm-vpc SDK, and checks every answer with the SDK's own models.

Reads ISTHMUS_URL, ISTHMUS_API_KEY and ISTHMUS_OTHER_API_KEY; the last line tells how many checks were made.
"""

import os
import sys
import time

import ibm_vpc.vpc_v1 as sdk
import jwt
from ibm_cloud_sdk_core import ApiException
from ibm_cloud_sdk_core.authenticators import BearerTokenAuthenticator, IAMAuthenticator
from ibm_vpc import VpcV1

URL = os.environ["ISTHMUS_URL"]
KEY = os.environ["ISTHMUS_API_KEY"]
OTHER_KEY = os.environ["ISTHMUS_OTHER_API_KEY"]
PSK = "Example.Key-1"
PATIENCE = 20.0

checks = 0


def check(condition, what):
    """Counts a check and ends the run if it does not hold."""
    global checks
    checks += 1
    if not condition:
        sys.exit(f"check {checks} failed: {what}")


def same(left, right, what):
    """Counts a check that two values are equal."""
    check(left == right, f"{what}: {left!r} is not {right!r}")


def parsed(model, response, status):
    """The answer, after the SDK's model accepted it."""
    same(response.get_status_code(), status, f"status of {model.__name__}")
    answer = response.get_result()
    try:
        model.from_dict(answer)
    except Exception as error:  # pylint: disable=broad-except
        check(False, f"{model.__name__}.from_dict: {error!r} on {answer}")
    check(True, model.__name__)
    return answer


def empty(response, status):
    """An answer without a body."""
    same(response.get_status_code(), status, "status of an empty answer")
    check(not response.get_result(), "the body is empty")


def refused(status, code, call):
    """A call that the server refuses."""
    try:
        call()
    except ApiException as error:
        same(error.status_code, status, f"status instead of {code}")
        body = error.http_response.json()
        same(body["errors"][0]["code"], code, "code")
        same(error.message, body["errors"][0]["message"], "message")
        same(body["trace"], error.http_response.headers["X-Request-Id"], "trace")
        return
    check(False, f"the call was not refused with {status} {code}")


def until(read, wanted, what):
    """Reads until the wanted state is there."""
    deadline = time.monotonic() + PATIENCE
    while True:
        answer = read()
        if wanted(answer):
            check(True, what)
            return answer
        check(time.monotonic() < deadline, f"waiting for {what}: {answer}")
        time.sleep(0.05)


def service(key=KEY, **more):
    """A client with a key."""
    client = VpcV1(authenticator=IAMAuthenticator(key, url=URL), **more)
    client.set_service_url(URL + "/v1")
    return client


def credentials(client):
    """Tokens as the SDK gets and uses them."""
    try:
        service(key="wrong").list_vpcs()
        check(False, "a wrong key is refused")
    except ApiException as error:
        check("API key" in (error.message or ""), f"a readable message: {error.message}")
    token = client.authenticator.token_manager.get_token()
    claims = jwt.decode(token, options={"verify_signature": False})
    check(claims["exp"] > claims["iat"], "the token lives")
    bearer = VpcV1(authenticator=BearerTokenAuthenticator(token))
    bearer.set_service_url(URL + "/v1")
    parsed(sdk.VPCCollection, bearer.list_vpcs(), 200)
    os.environ.update(
        VPC_URL=URL + "/v1", VPC_AUTH_TYPE="iam", VPC_APIKEY=KEY, VPC_AUTH_URL=URL, VPC_AUTH_DISABLE_SSL="true"
    )
    parsed(sdk.VPCCollection, VpcV1.new_instance().list_vpcs(), 200)


def geography(client):
    """Regions, zones and what instances are made of."""
    regions = parsed(sdk.RegionCollection, client.list_regions(), 200)
    name = regions["regions"][0]["name"]
    region = parsed(sdk.Region, client.get_region(name), 200)
    zones = parsed(sdk.ZoneCollection, client.list_region_zones(name), 200)
    same([zone["name"] for zone in zones["zones"]], [zone["name"] for zone in region["zones"]], "zones")
    parsed(sdk.Zone, client.get_region_zone(name, zones["zones"][0]["name"]), 200)
    refused(404, "not_found", lambda: client.get_region("mars"))
    profiles = parsed(sdk.InstanceProfileCollection, client.list_instance_profiles(), 200)
    for profile in profiles["profiles"]:
        parsed(sdk.InstanceProfile, client.get_instance_profile(profile["name"]), 200)
    images = parsed(sdk.ImageCollection, client.list_images(), 200)
    parsed(sdk.Image, client.get_image(images["images"][0]["id"]), 200)
    parsed(sdk.KeyCollection, client.list_keys(), 200)
    return images["images"][0]["id"], zones["zones"][0]["name"]


def default_resources(client, vpc):
    """What a VPC brings with it."""
    parsed(sdk.DefaultNetworkACL, client.get_vpc_default_network_acl(vpc), 200)
    parsed(sdk.DefaultSecurityGroup, client.get_vpc_default_security_group(vpc), 200)
    parsed(sdk.DefaultRoutingTable, client.get_vpc_default_routing_table(vpc), 200)
    whole = parsed(sdk.VPC, client.get_vpc(vpc), 200)
    parsed(sdk.NetworkACL, client.get_network_acl(whole["default_network_acl"]["id"]), 200)
    parsed(sdk.SecurityGroup, client.get_security_group(whole["default_security_group"]["id"]), 200)
    parsed(sdk.RoutingTable, client.get_vpc_routing_table(vpc, whole["default_routing_table"]["id"]), 200)


def site(client, number, image, zone):
    """A VPC with a prefix, two tiers, an instance in each, and a VPN gateway."""
    name = f"vpc-{number}"
    made = client.create_vpc(name=name, address_prefix_management="manual")
    vpc = parsed(sdk.VPC, made, 201)["id"]
    default_resources(client, vpc)
    same(client.update_vpc(vpc, {"name": f"{name}-x"}, if_match=made.get_headers()["ETag"]).get_status_code(), 200, "etag")
    refused(412, "precondition_failed", lambda: client.update_vpc(vpc, {"name": name}, if_match='W/"0"'))
    parsed(sdk.VPC, client.update_vpc(vpc, {"name": name}), 200)

    prefix = parsed(
        sdk.AddressPrefix,
        client.create_vpc_address_prefix(vpc, cidr=f"10.{number}.0.0/16", zone={"name": zone}, name="all", is_default=True),
        201,
    )
    check(not prefix["has_subnets"], "no subnet yet")
    parsed(sdk.AddressPrefix, client.update_vpc_address_prefix(vpc, prefix["id"], {"name": "whole"}), 200)
    tiers = []
    for tier in (0, 1):
        prototype = {"vpc": {"id": vpc}, "name": f"tier-{tier}", "ipv4_cidr_block": f"10.{number}.{tier}.0/24"}
        subnet = parsed(sdk.Subnet, client.create_subnet(prototype), 201)
        same(subnet["available_ipv4_address_count"], 251, "a fresh /24")
        parsed(sdk.Subnet, client.update_subnet(subnet["id"], {"name": f"net-{number}-{tier}"}), 200)
        tiers.append(subnet["id"])
    check(parsed(sdk.AddressPrefix, client.get_vpc_address_prefix(vpc, prefix["id"]), 200)["has_subnets"], "has subnets")
    parsed(sdk.AddressPrefixCollection, client.list_vpc_address_prefixes(vpc), 200)
    counted = {"vpc": {"id": vpc}, "total_ipv4_address_count": 16, "zone": {"name": zone}}
    extra = parsed(sdk.Subnet, client.create_subnet(counted), 201)
    check(extra["ipv4_cidr_block"].endswith("/28"), "sixteen addresses are a /28")
    empty(client.delete_subnet(extra["id"]), 204)

    for subnet in tiers:
        instance(client, f"app-{number}-{tiers.index(subnet)}", image, zone, subnet)
        parsed(sdk.ReservedIPCollection, client.list_subnet_reserved_ips(subnet), 200)
    return vpc, tiers, gateway(client, f"gw-{number}", tiers[0])


def instance(client, name, image, zone, subnet):
    """An instance, seen from all sides."""
    prototype = {
        "name": name,
        "image": {"id": image},
        "zone": {"name": zone},
        "profile": {"name": "bx2-2x8"},
        "primary_network_interface": {"subnet": {"id": subnet}},
    }
    made = parsed(sdk.Instance, client.create_instance(prototype), 201)["id"]
    running = until(lambda: client.get_instance(made).get_result(), lambda it: it["status"] == "running", "running")
    parsed(sdk.Instance, client.get_instance(made), 200)
    parsed(sdk.InstanceInitialization, client.get_instance_initialization(made), 200)
    nics = parsed(sdk.NetworkInterfaceUnpaginatedCollection, client.list_instance_network_interfaces(made), 200)
    nic = nics["network_interfaces"][0]["id"]
    same(nic, running["primary_network_interface"]["id"], "the interface")
    parsed(sdk.NetworkInterface, client.get_instance_network_interface(made, nic), 200)
    ip = running["primary_network_interface"]["primary_ip"]["id"]
    parsed(sdk.ReservedIP, client.get_subnet_reserved_ip(subnet, ip), 200)
    parsed(sdk.InstanceAction, client.create_instance_action(made, type="stop"), 201)
    until(lambda: client.get_instance(made).get_result(), lambda it: it["status"] == "stopped", "stopped")
    parsed(sdk.InstanceAction, client.create_instance_action(made, type="start"), 201)
    until(lambda: client.get_instance(made).get_result(), lambda it: it["status"] == "running", "running again")
    parsed(sdk.Instance, client.update_instance(made, {"name": f"{name}-x"}), 200)


def gateway(client, name, subnet):
    """A VPN gateway that becomes ready."""
    model = sdk.VPNGatewayZonalAvailabilityModeVPNGatewayPolicyMode
    made = parsed(model, client.create_vpn_gateway({"subnet": {"id": subnet}, "name": name, "mode": "policy"}), 201)
    check("status" not in made, "no status at this date")
    same([member["role"] for member in made["members"]], ["active", "standby"], "roles")
    same(made["members"][1]["public_ip"]["address"], "0.0.0.0", "the standby's address")
    ready = until(
        lambda: client.get_vpn_gateway(made["id"]).get_result(),
        lambda it: it["lifecycle_state"] == "stable",
        "the gateway",
    )
    same(ready["health_state"], "ok", "health")
    same(ready["public_ip"], made["public_ip"], "the public address")
    parsed(model, client.update_vpn_gateway(made["id"], {"name": f"{name}-x"}), 200)
    parsed(model, client.get_vpn_gateway(made["id"]), 200)
    members = parsed(sdk.VPNGatewayMemberCollection, client.list_vpn_gateway_members(made["id"]), 200)
    parsed(sdk.VPNGatewayMember, client.get_vpn_gateway_member(made["id"], members["members"][0]["id"]), 200)
    same(client.get_subnet(subnet).get_result()["available_ipv4_address_count"], 242, "251 less 8 less an instance")
    refused(409, "subnet_in_use_vpn_gateway_exists", lambda: client.delete_subnet(subnet))
    return ready


def policies(client):
    """IKE and IPsec policies in both forms."""
    ike = parsed(sdk.IKEPolicy, client.create_ike_policy(2, name="ike", authentication_algorithm="sha256",
                 encryption_algorithm="aes256", dh_group=19), 201)
    same((ike["key_lifetime"], ike["negotiation_mode"]), (28800, "main"), "defaults")
    lists = {"authentication_algorithms": ["sha512", "sha256"], "dh_groups": [19, 31]}
    many = parsed(sdk.IKEPolicy, client.update_ike_policy(ike["id"], lists), 200)
    same((many["authentication_algorithm"], many["dh_group"]), ("multiple", 65535), "lists")
    parsed(sdk.IKEPolicy, client.get_ike_policy(ike["id"]), 200)
    parsed(sdk.IKEPolicyCollection, client.list_ike_policies(), 200)
    esp = parsed(sdk.IPsecPolicy, client.create_ipsec_policy(name="esp", authentication_algorithm="disabled",
                 encryption_algorithm="aes256gcm16", pfs="group_19"), 201)
    same((esp["key_lifetime"], esp["transform_protocol"], esp["encapsulation_mode"]), (3600, "esp", "tunnel"), "defaults")
    parsed(sdk.IPsecPolicy, client.update_ipsec_policy(esp["id"], {"key_lifetime": 7200}), 200)
    parsed(sdk.IPsecPolicy, client.get_ipsec_policy(esp["id"]), 200)
    parsed(sdk.IPsecPolicyCollection, client.list_ipsec_policies(), 200)
    return ike["id"], esp["id"]


def connect(client, ours, theirs, local, peer, more):
    """A connection from one gateway to the other."""
    prototype = {
        "name": "link",
        "psk": PSK,
        "local": {"cidrs": local},
        "peer": {"address": theirs["public_ip"]["address"], "cidrs": peer},
        **more,
    }
    model = sdk.VPNGatewayConnectionPolicyMode
    made = parsed(model, client.create_vpn_gateway_connection(ours["id"], prototype), 201)
    same(made["dead_peer_detection"], {"action": "restart", "interval": 2, "timeout": 10}, "DPD")
    same((made["status"], made["establish_mode"], made["peer"]["type"]), ("down", "bidirectional", "address"), "new")
    parsed(model, client.get_vpn_gateway_connection(ours["id"], made["id"]), 200)
    return made["id"]


def ranges(client, gw, connection):
    """The ranges of a connection one by one."""
    for side, cidr in (("local", "192.168.9.0/24"), ("peer", "192.168.10.0/24")):
        added = getattr(client, f"add_vpn_gateway_connections_{side}_cidr")
        present = getattr(client, f"check_vpn_gateway_connections_{side}_cidr")
        removed = getattr(client, f"remove_vpn_gateway_connections_{side}_cidr")
        listed = getattr(client, f"list_vpn_gateway_connections_{side}_cidrs")
        missing = "vpn_connection_cidr_not_found"
        refused(404, missing, lambda: present(gw, connection, cidr))
        empty(added(gw, connection, cidr), 201)
        empty(added(gw, connection, cidr), 204)
        empty(present(gw, connection, cidr), 204)
        check(cidr in parsed(sdk.VPNGatewayConnectionCIDRs, listed(gw, connection), 200)["cidrs"], "listed")
        whole = client.get_vpn_gateway_connection(gw, connection).get_result()
        check(cidr in whole[side]["cidrs"], "shown")
        empty(removed(gw, connection, cidr), 204)
        refused(404, missing, lambda: removed(gw, connection, cidr))
        only = listed(gw, connection).get_result()["cidrs"]
        while len(only) > 1:
            break
        if len(only) == 1:
            refused(409, "vpn_connection_cidr_not_deleted", lambda: removed(gw, connection, only[0]))


def join(client, left, right):
    """Both connections, until both are up; then everything that can be done to one of them."""
    ike, esp = policies(client)
    mine = connect(client, left, right, ["10.1.0.0/16"], ["10.2.0.0/16"], {})
    yours = connect(client, right, left, ["10.2.0.0/16"], ["10.1.0.0/16"],
                    {"ike_policy": {"id": ike}, "ipsec_policy": {"id": esp}})
    for gw, connection in ((left, mine), (right, yours)):
        up = until(
            lambda gw=gw, connection=connection: client.get_vpn_gateway_connection(gw["id"], connection).get_result(),
            lambda it: it["status"] == "up",
            "the connection",
        )
        same(up["status_reasons"], [], "no reasons when up")
        parsed(sdk.VPNGatewayConnectionCollection, client.list_vpn_gateway_connections(gw["id"]), 200)
    ranges(client, left["id"], mine)

    refused(409, "ike_policy_in_use", lambda: client.delete_ike_policy(ike))
    refused(409, "ipsec_policy_in_use", lambda: client.delete_ipsec_policy(esp))
    users = parsed(sdk.VPNGatewayConnectionCollection, client.list_ike_policy_connections(ike), 200)
    same([user["id"] for user in users["connections"]], [yours], "users of the policy")
    parsed(sdk.VPNGatewayConnectionCollection, client.list_ipsec_policy_connections(esp), 200)

    model = sdk.VPNGatewayConnectionPolicyMode
    change = {"name": "renamed", "ike_policy": {"id": ike}, "admin_state_up": False}
    tag = client.get_vpn_gateway_connection(left["id"], mine).get_headers()["ETag"]
    changed = parsed(model, client.update_vpn_gateway_connection(left["id"], mine, change, if_match=tag), 200)
    same((changed["name"], changed["status"], changed["status_reasons"]), ("renamed", "down", []), "switched off")
    refused(412, "precondition_failed",
            lambda: client.update_vpn_gateway_connection(left["id"], mine, {"name": "late"}, if_match=tag))
    back = {"ike_policy": None, "admin_state_up": True}
    automatic = parsed(model, client.update_vpn_gateway_connection(left["id"], mine, back), 200)
    check("ike_policy" not in automatic, "automatic negotiation")
    until(
        lambda: client.get_vpn_gateway_connection(left["id"], mine).get_result(),
        lambda it: it["status"] == "up",
        "the connection after it was switched on",
    )
    return ike, esp, mine, yours


def bad_input(client, left, subnet):
    """What the SDK's user sees of refusals."""
    good = {"psk": PSK, "local": {"cidrs": ["10.1.5.0/24"]}, "peer": {"address": "198.51.100.9", "cidrs": ["10.9.0.0/16"]}}
    for change in ({"psk": "five5"}, {"psk": "k" * 129}, {"psk": "0xabcdef"}, {"psk": "with space"},
                   {"peer": {"address": "999.1.1.1", "cidrs": ["10.9.0.0/16"]}},
                   {"peer": {"address": "198.51.100.9", "fqdn": "a.example", "cidrs": ["10.9.0.0/16"]}},
                   {"peer": {"address": "198.51.100.9", "cidrs": []}},
                   {"peer": {"address": "198.51.100.9", "cidrs": ["192.168.1.5/24"]}},
                   {"dead_peer_detection": {"interval": 20, "timeout": 10}},
                   {"ike_policy": {"id": "r006-unknown"}}, {"name": "Bad_Name"}):
        try:
            client.create_vpn_gateway_connection(left["id"], {**good, **change})
            check(False, f"{change} is refused")
        except ApiException as error:
            same(error.status_code, 400, f"status for {change}")
            check(PSK not in error.message, "no key in a message")
    refused(400, "bad_field", lambda: client.create_vpn_gateway({"subnet": {"id": subnet}, "mode": "route"}))
    refused(404, "vpn_gateway_not_found", lambda: client.get_vpn_gateway("0717-unknown"))
    stranger = service(key=OTHER_KEY)
    refused(404, "vpn_gateway_not_found", lambda: stranger.get_vpn_gateway(left["id"]))
    same(stranger.list_vpcs().get_result()["total_count"], 0, "a stranger's VPCs")


def pages(client):
    """The SDK's pagers."""
    for number in range(5):
        client.create_vpc(name=f"page-{number}")
    first = parsed(sdk.VPCCollection, client.list_vpcs(limit=3), 200)
    same((len(first["vpcs"]), first["total_count"], "next" in first), (3, 7, True), "the first page")
    everything = sdk.VpcsPager(client=client, limit=3).get_all()
    same(len({vpc["id"] for vpc in everything}), 7, "all VPCs")
    same(len(sdk.VpnGatewaysPager(client=client, limit=1).get_all()), 2, "all gateways")
    same(len(sdk.SubnetsPager(client=client, limit=1).get_all()), 4, "all subnets")
    same(len(sdk.InstancesPager(client=client, limit=3).get_all()), 4, "all instances")
    for limit, code in ((0, "validation_min_value"), (101, "validation_max_value")):
        refused(400, code, lambda limit=limit: client.list_vpcs(limit=limit))
    for vpc in everything:
        if vpc["name"].startswith("page-"):
            prefixes = parsed(sdk.AddressPrefixCollection, client.list_vpc_address_prefixes(vpc["id"]), 200)
            same(len(prefixes["address_prefixes"]), 3, "a default prefix in each zone")
            empty(client.delete_vpc(vpc["id"]), 204)


def older_date(client, left, mine):
    """The same objects, and new ones, as a client of February 2022 sees them."""
    old = service(version="2022-02-08")
    gw = old.get_vpn_gateway(left["id"]).get_result()
    same((gw["status"], gw["members"][0]["status"]), ("available", "available"), "status at an older date")
    flat = old.get_vpn_gateway_connection(left["id"], mine).get_result()
    same((flat["local_cidrs"], flat["peer_cidrs"], flat["route_mode"]),
         (["10.1.0.0/16"], ["10.2.0.0/16"], "policy"), "the flat form")
    prototype = {"name": "flat", "psk": PSK, "peer_address": "198.51.100.77",
                 "local_cidrs": ["10.1.1.0/24"], "peer_cidrs": ["10.77.0.0/16"]}
    made = old.create_vpn_gateway_connection(left["id"], prototype).get_result()
    same((made["peer_address"], made["mode"]), ("198.51.100.77", "policy"), "a flat connection")
    nested = parsed(sdk.VPNGatewayConnectionPolicyMode, client.get_vpn_gateway_connection(left["id"], made["id"]), 200)
    same((nested["peer"]["address"], nested["local"]["cidrs"]), ("198.51.100.77", ["10.1.1.0/24"]), "seen nested")
    path = f"/vpn_gateways/{left['id']}/connections/{made['id']}/peer_cidrs"
    def plain(method, url):
        request = old.prepare_request(method, url, params={"version": old.version, "generation": 2})
        return old.send(request)
    for method, status in (("PUT", 204), ("GET", 204), ("DELETE", 204)):
        same(plain(method, path + "/10.78.0.0/16").get_status_code(), status, f"{method} of a range")
    same(plain("GET", path).get_result(), {"peer_cidrs": ["10.77.0.0/16"]}, "the list of ranges")
    legacy = old.create_ike_policy(1, authentication_algorithm="md5", encryption_algorithm="triple_des", dh_group=5)
    legacy = legacy.get_result()["id"]
    parsed(sdk.IKEPolicy, client.get_ike_policy(legacy), 200)
    refused(400, "bad_field", lambda: client.create_ike_policy(
        1, authentication_algorithm="md5", encryption_algorithm="triple_des", dh_group=5))
    empty(client.delete_ike_policy(legacy), 204)
    for body in ({"local": {"cidrs": ["10.1.1.0/24"]}}, {"peer": {"address": "198.51.100.9"}}):
        refused(400, "bad_field",
                lambda body=body: old.create_vpn_gateway_connection(left["id"], {**prototype, **body}))
    empty(client.delete_vpn_gateway_connection(left["id"], made["id"]), 202)


def gone(read):
    """Whether a read says 404."""
    try:
        read()
        return False
    except ApiException as error:
        return error.status_code == 404


def take_down(client, sites, made):
    """Everything away again, in the order that the rules ask for."""
    ike, esp, mine, yours = made
    (_, _, left), (_, _, right) = sites
    empty(client.delete_vpn_gateway_connection(right["id"], yours), 202)
    check(gone(lambda: client.get_vpn_gateway_connection(right["id"], yours)), "the connection is gone")
    empty(client.delete_ike_policy(ike), 204)
    empty(client.delete_ipsec_policy(esp), 204)
    for vpc, tiers, gw in sites:
        refused(409, "vpc_in_use", lambda vpc=vpc: client.delete_vpc(vpc))
        empty(client.delete_vpn_gateway(gw["id"]), 202)
        until(lambda gw=gw: gone(lambda: client.get_vpn_gateway(gw["id"])), bool, "the gateway's end")
        for found in client.list_instances(vpc_id=vpc).get_result()["instances"]:
            empty(client.delete_instance(found["id"]), 204)
            until(lambda found=found: gone(lambda: client.get_instance(found["id"])), bool, "the instance's end")
        for subnet in tiers:
            same(client.get_subnet(subnet).get_result()["available_ipv4_address_count"], 251, "all addresses are back")
            empty(client.delete_subnet(subnet), 204)
        empty(client.delete_vpc(vpc), 204)
    check(gone(lambda: client.get_vpn_gateway_connection(left["id"], mine)), "the other connection went with its gateway")
    same(client.list_vpcs().get_result()["total_count"], 0, "nothing is left")


def main():
    """The whole scenario."""
    client = service()
    credentials(client)
    image, zone = geography(client)
    sites = [site(client, number, image, zone) for number in (1, 2)]
    left, right = sites[0][2], sites[1][2]
    parsed(sdk.VPNGatewayCollection, client.list_vpn_gateways(), 200)
    parsed(sdk.SubnetCollection, client.list_subnets(), 200)
    parsed(sdk.InstanceCollection, client.list_instances(), 200)
    made = join(client, left, right)
    bad_input(client, left, sites[0][1][1])
    pages(client)
    older_date(client, left, made[2])
    take_down(client, sites, made)
    print(f"ibm-vpc SDK at {client.version}: {checks} checks passed")


if __name__ == "__main__":
    main()
