//! What a test of refusals begins with.

use isthmus_model::Settings;
use isthmus_types::{SubnetId, VpcId, VpnGatewayId};

use super::World;

/// A VPC with 10.1.0.0/16 in zone 1, a subnet 10.1.0.0/24 and an available gateway in it.
pub struct Scene {
    pub world: World,
    pub vpc: VpcId,
    pub subnet: SubnetId,
    pub gateway: VpnGatewayId,
}

pub fn scene() -> Scene {
    scene_with(Settings::default())
}

pub fn scene_with(settings: Settings) -> Scene {
    let mut world = World::new(settings);
    let vpc = world.vpc_with_prefix("alpha", "10.1.0.0/16");
    let subnet = world.subnet(vpc, "10.1.0.0/24");
    let gateway = world.available_gateway(subnet);
    Scene {
        world,
        vpc,
        subnet,
        gateway,
    }
}
