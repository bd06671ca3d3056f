"""Builds a gateway and a flat connection with an SDK of February 2022 and checks the answers with its models.

Reads ISTHMUS_URL and ISTHMUS_API_KEY; the last line tells how many checks were made.
"""

import os
import sys
import time

import ibm_vpc.vpc_v1 as sdk
from ibm_cloud_sdk_core import ApiException
from ibm_cloud_sdk_core.authenticators import IAMAuthenticator
from ibm_vpc import VpcV1

URL = os.environ["ISTHMUS_URL"]
PSK = "Example.Key-1"

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


def parsed(model, response, status=200):
    """The answer, after the SDK's model accepted it."""
    same(response.get_status_code(), status, f"status of {model.__name__}")
    answer = response.get_result()
    try:
        model.from_dict(answer)
    except Exception as error:  # pylint: disable=broad-except
        check(False, f"{model.__name__}.from_dict: {error!r} on {answer}")
    return answer


def status_of(call):
    """The status of a call, refused or not."""
    try:
        return call().get_status_code()
    except ApiException as error:
        return error.code


def until(read, wanted, what):
    """Reads until the wanted state is there."""
    deadline = time.monotonic() + 20
    while not wanted(read()):
        check(time.monotonic() < deadline, f"waiting for {what}")
        time.sleep(0.05)


def network(client):
    """A VPC with a subnet and an instance."""
    for region in parsed(sdk.RegionCollection, client.list_regions())["regions"]:
        zone = parsed(sdk.ZoneCollection, client.list_region_zones(region["name"]))["zones"][0]["name"]
    vpc = parsed(sdk.VPC, client.create_vpc(name="old", address_prefix_management="manual"), 201)["id"]
    parsed(sdk.DefaultNetworkACL, client.get_vpc_default_network_acl(vpc))
    parsed(sdk.DefaultSecurityGroup, client.get_vpc_default_security_group(vpc))
    parsed(sdk.DefaultRoutingTable, client.get_vpc_default_routing_table(vpc))
    made = client.create_vpc_address_prefix(vpc, "10.5.0.0/16", {"name": zone})
    parsed(sdk.AddressPrefix, made, 201)
    subnet = parsed(sdk.Subnet, client.create_subnet({"vpc": {"id": vpc}, "ipv4_cidr_block": "10.5.0.0/24"}), 201)["id"]
    image = client.list_images().get_result()["images"][0]["id"]
    nic = {"subnet": {"id": subnet}, "primary_ipv4_address": "10.5.0.77"}
    prototype = {"zone": {"name": zone}, "image": {"id": image}, "primary_network_interface": nic}
    instance = parsed(sdk.Instance, client.create_instance(prototype), 201)
    same(instance["primary_network_interface"]["primary_ipv4_address"], "10.5.0.77", "the address asked for")
    parsed(sdk.NetworkInterfaceUnpaginatedCollection, client.list_instance_network_interfaces(instance["id"]))
    return subnet


def gateway(client, subnet):
    """A gateway that becomes available."""
    made = parsed(sdk.VPNGatewayPolicyMode, client.create_vpn_gateway({"subnet": {"id": subnet}, "mode": "policy"}), 201)
    same(made["status"], "pending", "a new gateway")
    until(lambda: client.get_vpn_gateway(made["id"]).get_result()["status"], lambda it: it == "available", "the gateway")
    parsed(sdk.VPNGatewayPolicyMode, client.get_vpn_gateway(made["id"]))
    parsed(sdk.VPNGatewayCollection, client.list_vpn_gateways())
    return made["id"]


def connection(client, gw):
    """A flat connection and its ranges."""
    ike = parsed(sdk.IKEPolicy, client.create_ike_policy("md5", 5, "triple_des", 1), 201)
    esp = parsed(sdk.IPsecPolicy, client.create_ipsec_policy("sha1", "aes128", "disabled"), 201)
    prototype = {"psk": PSK, "peer_address": "198.51.100.9", "local_cidrs": ["10.5.0.0/24"],
                 "peer_cidrs": ["10.6.0.0/16"], "ike_policy": {"id": ike["id"]}, "ipsec_policy": {"id": esp["id"]}}
    made = parsed(sdk.VPNGatewayConnectionPolicyMode, client.create_vpn_gateway_connection(gw, prototype), 201)
    same((made["peer_address"], made["local_cidrs"]), ("198.51.100.9", ["10.5.0.0/24"]), "the flat form")
    one = made["id"]
    parsed(sdk.VPNGatewayConnectionPolicyMode, client.get_vpn_gateway_connection(gw, one))
    parsed(sdk.VPNGatewayConnectionCollection, client.list_vpn_gateway_connections(gw))
    for side in ("local", "peer"):
        verb = lambda name, side=side: getattr(client, f"{name}_vpn_gateway_connection_{side}_cidr")
        for name, status in (("check", 404), ("add", 204), ("add", 204), ("check", 204), ("remove", 204),
                             ("check", 404), ("remove", 404)):
            same(status_of(lambda name=name, verb=verb: verb(name)(gw, one, "192.168.9.0", "24")), status, f"{name} {side}")
    same(client.list_vpn_gateway_connection_local_cidrs(gw, one).get_result(), {"local_cidrs": ["10.5.0.0/24"]}, "local")
    same(client.list_vpn_gateway_connection_peer_cidrs(gw, one).get_result(), {"peer_cidrs": ["10.6.0.0/16"]}, "peer")
    patch = {"name": "renamed", "peer_address": "198.51.100.10", "ike_policy": None}
    changed = parsed(sdk.VPNGatewayConnectionPolicyMode, client.update_vpn_gateway_connection(gw, one, patch))
    same((changed["name"], changed["peer_address"], "ike_policy" in changed), ("renamed", "198.51.100.10", False), "changed")
    same(status_of(lambda: client.delete_ipsec_policy(esp["id"])), 409, "a policy in use")
    same(status_of(lambda: client.delete_vpn_gateway_connection(gw, one)), 202, "the connection goes")
    same(status_of(lambda: client.delete_ipsec_policy(esp["id"])), 204, "its policy goes")
    same(status_of(lambda: client.delete_ike_policy(ike["id"])), 204, "the other policy goes")


def main():
    """The whole scenario."""
    client = VpcV1(authenticator=IAMAuthenticator(os.environ["ISTHMUS_API_KEY"], url=URL))
    client.set_service_url(URL + "/v1")
    same(client.version, "2022-02-08", "the date of this SDK")
    gw = gateway(client, network(client))
    connection(client, gw)
    same(status_of(lambda: client.delete_vpn_gateway(gw)), 202, "the gateway goes")
    until(lambda: status_of(lambda: client.get_vpn_gateway(gw)), lambda status: status == 404, "the gateway's end")
    print(f"ibm-vpc SDK at {client.version}: {checks} checks passed")


if __name__ == "__main__":
    main()
