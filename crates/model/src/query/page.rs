//! Cutting lists into pages.
//!
//! The mark of a page names the last item of the page before it. Items that were there when the first page was read
//! are thus neither skipped nor repeated, whatever comes and goes meanwhile.

use isthmus_ops::{GatewaySort, OpError, OpErrorCode, Page, PageOf, ResourceKind};
use isthmus_types::{ResourceBits, ResourceName, Timestamp};

use crate::record::VpnGateway;

const ID_DIGITS: usize = 17;

fn bad_mark(resource: ResourceKind, mark: &str) -> OpError {
    OpError::new(
        OpErrorCode::InvalidField,
        resource,
        "start is not a mark that a page gave",
    )
    .with_field("start")
    .with_value(mark)
}

fn mark_of(page: &Page, resource: ResourceKind) -> Result<Option<ResourceBits>, OpError> {
    page.start
        .as_deref()
        .map(|mark| mark.parse().map_err(|_| bad_mark(resource, mark)))
        .transpose()
}

fn limit(page: &Page) -> usize {
    page.limit.get() as usize
}

/// A page of all children of a parent. `after` gives them ordered by id, from above an id on.
pub(crate) fn page_of_all<Id, V, I>(
    page: &Page,
    resource: ResourceKind,
    total: usize,
    after: impl FnOnce(Option<Id>) -> I,
    view: impl Fn(Id) -> Result<V, OpError>,
) -> Result<PageOf<V>, OpError>
where
    Id: Copy + From<ResourceBits> + std::fmt::Display,
    I: Iterator<Item = Id>,
{
    let start = mark_of(page, resource)?.map(Id::from);
    let mut ids: Vec<Id> = after(start).take(limit(page).saturating_add(1)).collect();
    let more = ids.len() > limit(page);
    ids.truncate(limit(page));
    Ok(PageOf {
        next: ids.last().filter(|_| more).map(ToString::to_string),
        items: ids.into_iter().map(view).collect::<Result<_, _>>()?,
        total: total as u64,
    })
}

/// A page of what matches a filter. `matches` are ordered by id.
pub(crate) fn page_of_matches<'a, R: 'a, V>(
    page: &Page,
    resource: ResourceKind,
    matches: impl Iterator<Item = &'a R>,
    bits: impl Fn(&R) -> ResourceBits,
    view: impl Fn(&'a R) -> Result<V, OpError>,
) -> Result<PageOf<V>, OpError> {
    let start = mark_of(page, resource)?;
    let mut total = 0;
    let mut more = false;
    let mut chosen: Vec<&'a R> = Vec::new();
    for record in matches {
        total += 1;
        if start.is_some_and(|start| bits(record) <= start) {
            continue;
        }
        if chosen.len() < limit(page) {
            chosen.push(record);
        } else {
            more = true;
        }
    }
    Ok(PageOf {
        next: chosen
            .last()
            .filter(|_| more)
            .map(|record| bits(record).to_string()),
        items: chosen.into_iter().map(view).collect::<Result<_, _>>()?,
        total,
    })
}

/// A page of a short list that is rendered already and ordered by id.
pub(crate) fn page_of_views<V>(
    page: &Page,
    resource: ResourceKind,
    mut views: Vec<V>,
    bits: impl Fn(&V) -> ResourceBits,
) -> Result<PageOf<V>, OpError> {
    let start = mark_of(page, resource)?;
    let total = views.len() as u64;
    views.retain(|view| start.is_none_or(|start| bits(view) > start));
    let more = views.len() > limit(page);
    views.truncate(limit(page));
    Ok(PageOf {
        next: views.last().filter(|_| more).map(|view| bits(view).to_string()),
        items: views,
        total,
    })
}

/// Where a gateway stands in an order; ties are broken by id.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Created(Timestamp, ResourceBits),
    Name(ResourceName, ResourceBits),
}

impl Place {
    fn of(gateway: &VpnGateway, sort: GatewaySort) -> Self {
        match sort {
            GatewaySort::CreatedAscending | GatewaySort::CreatedDescending => {
                Self::Created(gateway.meta.created_at, gateway.id.bits())
            }
            GatewaySort::NameAscending | GatewaySort::NameDescending => {
                Self::Name(gateway.meta.name.clone(), gateway.id.bits())
            }
        }
    }

    fn mark(&self) -> String {
        match self {
            Self::Created(time, bits) => format!("{bits}.{}", time.0),
            Self::Name(name, bits) => format!("{bits}.{name}"),
        }
    }

    fn read(mark: &str, sort: GatewaySort) -> Option<Self> {
        let (bits, rest) = mark.split_at_checked(ID_DIGITS)?;
        let bits = bits.parse().ok()?;
        let rest = rest.strip_prefix('.')?;
        match sort {
            GatewaySort::CreatedAscending | GatewaySort::CreatedDescending => {
                Some(Self::Created(Timestamp(rest.parse().ok()?), bits))
            }
            GatewaySort::NameAscending | GatewaySort::NameDescending => {
                Some(Self::Name(ResourceName::new(rest).ok()?, bits))
            }
        }
    }
}

/// A page of VPN gateways in the order asked for.
pub(crate) fn page_of_sorted_gateways<'a, V>(
    page: &Page,
    sort: GatewaySort,
    matches: impl Iterator<Item = &'a VpnGateway>,
    view: impl Fn(&'a VpnGateway) -> Result<V, OpError>,
) -> Result<PageOf<V>, OpError> {
    let start = page
        .start
        .as_deref()
        .map(|mark| Place::read(mark, sort).ok_or_else(|| bad_mark(ResourceKind::VpnGateway, mark)))
        .transpose()?;
    let mut placed: Vec<(Place, &VpnGateway)> = matches
        .map(|gateway| (Place::of(gateway, sort), gateway))
        .collect();
    let total = placed.len() as u64;
    placed.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    match sort {
        GatewaySort::CreatedAscending | GatewaySort::NameAscending => {
            placed.retain(|(place, _)| start.as_ref().is_none_or(|start| place > start));
        }
        GatewaySort::CreatedDescending | GatewaySort::NameDescending => {
            placed.reverse();
            placed.retain(|(place, _)| start.as_ref().is_none_or(|start| place < start));
        }
    }
    let more = placed.len() > limit(page);
    placed.truncate(limit(page));
    Ok(PageOf {
        next: placed.last().filter(|_| more).map(|(place, _)| place.mark()),
        items: placed
            .into_iter()
            .map(|(_, gateway)| view(gateway))
            .collect::<Result<_, _>>()?,
        total,
    })
}
