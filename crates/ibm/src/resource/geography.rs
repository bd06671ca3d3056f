//! Regions and zones.

use isthmus_ops::{OpError, Query, RegionView, ResourceKind, ZoneView};
use isthmus_types::{RegionName, ZoneName};
use serde_json::{Value, json};

use crate::call::{Call, Plan};
use crate::fault::Fault;
use crate::refusal;
use crate::render::{Render, Shape};

pub(crate) fn regions(_: &Call<'_>) -> Result<Plan, Fault> {
    Ok(Plan::query(Query::Regions, Shape::Whole))
}

pub(crate) fn region(call: &Call<'_>) -> Result<Plan, Fault> {
    Ok(Plan::query(Query::Region(region_name(call)?), Shape::Whole))
}

pub(crate) fn zones(call: &Call<'_>) -> Result<Plan, Fault> {
    Ok(Plan::query(Query::Zones(region_name(call)?), Shape::Whole))
}

pub(crate) fn zone(call: &Call<'_>) -> Result<Plan, Fault> {
    let region = region_name(call)?;
    let zone = ZoneName::new(call.variable(1)).map_err(|_| unknown(call, ResourceKind::Zone, 1))?;
    Ok(Plan::query(Query::Zone { region, zone }, Shape::Whole))
}

fn region_name(call: &Call<'_>) -> Result<RegionName, Fault> {
    RegionName::new(call.variable(0)).map_err(|_| unknown(call, ResourceKind::Region, 0))
}

fn unknown(call: &Call<'_>, kind: ResourceKind, index: usize) -> Fault {
    refusal::fault(
        &OpError::not_found(kind, call.variable(index)),
        call.subject(),
        call.date,
    )
}

impl Render {
    pub(crate) fn region_view(&self, region: &RegionView) -> Value {
        let zones: Vec<Value> = region
            .zones
            .iter()
            .map(|zone| {
                let href = self.href(&format!("regions/{}/zones/{zone}", region.name));
                json!({ "name": zone.as_str(), "href": href })
            })
            .collect();
        json!({
            "name": region.name.as_str(),
            "href": self.href(&format!("regions/{}", region.name)),
            "endpoint": self.scene.base_url,
            "status": "available",
            "zones": zones,
        })
    }

    pub(crate) fn zone_view(&self, zone: &ZoneView) -> Value {
        json!({
            "name": zone.name.as_str(),
            "href": self.href(&format!("regions/{}/zones/{}", zone.region, zone.name)),
            "status": "available",
            "data_center": zone.name.as_str(),
            "universal_name": zone.name.as_str(),
            "region": {
                "name": zone.region.as_str(),
                "href": self.href(&format!("regions/{}", zone.region)),
            },
        })
    }
}
