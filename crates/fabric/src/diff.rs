//! From what is to what should be: ordered operations.
//!
//! Removals come first, in the reverse order of dependency, then additions in the order of dependency. What the kernel
//! replaces in one step – a route, a neighbour, an nft table – is one operation. A router's nft table is in place
//! before any of its links comes up, and before any route leads to a range that the table guards.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::name;
use crate::operation::Operation;
use crate::state::{
    Claim, Desired, Link, LinkKind, Mark, Namespace, Observed, ObservedKind, ObservedLink, ObservedNamespace,
    Owner, Place,
};

/// An operation and the planned object that needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Who needs it.
    pub owner: Owner,
    /// What to do.
    pub operation: Operation,
}

/// A planned object that waits for something which is not ours to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// Who waits.
    pub owner: Owner,
    /// For what, in words.
    pub on: String,
}

/// All that lies between what is and what should be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// What to do, in order.
    pub steps: Vec<Step>,
    /// Who cannot be served now.
    pub blocked: Vec<Blocked>,
}

impl Difference {
    /// Whether everything is as it should be.
    pub const fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.blocked.is_empty()
    }
}

/// Compares what should be with what is.
pub fn diff(desired: &Desired, observed: &Observed) -> Difference {
    let mut work = Work {
        desired,
        observed,
        phases: std::array::from_fn(|_| Vec::new()),
        blocked: Vec::new(),
        waiting: BTreeSet::new(),
        lost: BTreeSet::new(),
    };
    work.namespaces();
    work.links();
    for (name, namespace) in &desired.namespaces {
        if work.is_waiting(name) {
            continue;
        }
        let view = work.view(name);
        work.properties(name, namespace, &view);
        work.addresses(name, namespace, &view);
        work.neighbours(name, namespace, &view);
        work.routes(name, namespace, &view);
        work.rules(name, namespace, &view);
        work.settings(name, namespace, &view);
    }
    Difference {
        steps: work.phases.into_iter().flatten().collect(),
        blocked: work.blocked,
    }
}

/// When an operation has its turn.
#[derive(Clone, Copy)]
enum Phase {
    RemoveRule,
    RemoveRoute,
    RemoveNeighbour,
    RemoveAddress,
    RemoveLink,
    CreateNamespace,
    NamespaceSysctl,
    CreateLink,
    LinkSysctl,
    Ruleset,
    LinkProperty,
    Address,
    LinkState,
    Neighbour,
    Route,
    Rule,
}

const PHASES: usize = Phase::Rule as usize + 1;

struct Work<'a> {
    desired: &'a Desired,
    observed: &'a Observed,
    phases: [Vec<Step>; PHASES],
    blocked: Vec<Blocked>,
    // Namespaces of others that do not exist, and links that cannot be made.
    waiting: BTreeSet<Place>,
    // Links that exist but are about to go, with all that hangs on them.
    lost: BTreeSet<Place>,
}

impl Work<'_> {
    fn push(&mut self, phase: Phase, owner: Owner, operation: Operation) {
        self.phases[phase as usize].push(Step { owner, operation });
    }

    fn block(&mut self, owner: Owner, place: Place, on: String) {
        self.blocked.push(Blocked { owner, on });
        self.waiting.insert(place);
    }

    fn is_waiting(&self, namespace: &str) -> bool {
        let desired = &self.desired.namespaces[namespace];
        desired.claim == Claim::LinksOfForeign && !self.observed.namespaces.contains_key(namespace)
    }

    fn found(&self, place: &Place) -> Option<&ObservedLink> {
        self.observed
            .namespaces
            .get(&place.namespace)?
            .links
            .get(&place.link)
    }

    // What is there once the lost links are gone.
    fn view(&self, name: &str) -> ObservedNamespace {
        let mut view = self.observed.namespaces.get(name).cloned().unwrap_or_default();
        let gone = |link: &str| {
            self.lost.contains(&Place {
                namespace: name.to_owned(),
                link: link.to_owned(),
            })
        };
        view.links.retain(|link, _| !gone(link));
        view.addresses.retain(|(link, _), _| !gone(link));
        view.neighbours.retain(|(link, _), _| !gone(link));
        view.routes
            .retain(|_, route| !route.target.link().is_some_and(gone));
        if let Some(desired) = self.desired.namespaces.get(name) {
            view.sysctls.retain(|path, _| {
                let link = desired
                    .sysctls
                    .get(path)
                    .and_then(|sysctl| sysctl.link.as_deref());
                !link.is_some_and(gone)
            });
        }
        view
    }

    fn namespaces(&mut self) {
        let desired = self.desired;
        for (name, namespace) in &desired.namespaces {
            if self.observed.namespaces.contains_key(name) {
                continue;
            }
            if namespace.claim == Claim::LinksOfForeign {
                let owners: BTreeSet<Owner> = namespace.links.values().map(|link| link.owner).collect();
                for owner in owners {
                    let on = format!("namespace {name}");
                    self.blocked.push(Blocked { owner, on });
                }
            } else {
                let namespace_name = name.clone();
                self.push(
                    Phase::CreateNamespace,
                    namespace.owner,
                    Operation::CreateNamespace {
                        namespace: namespace_name,
                    },
                );
            }
        }
    }

    fn links(&mut self) {
        let desired = self.desired;
        for (name, namespace) in &desired.namespaces {
            if self.is_waiting(name) {
                continue;
            }
            for (link_name, link) in &namespace.links {
                let place = Place {
                    namespace: name.clone(),
                    link: link_name.clone(),
                };
                match &link.kind {
                    LinkKind::Loopback | LinkKind::VethPeer => {}
                    LinkKind::Tap { alias } => {
                        self.device(namespace, link, place, |place| Operation::CreateTap {
                            place,
                            alias: alias.clone(),
                        })
                    }

                    LinkKind::Tun => {
                        self.device(namespace, link, place, |place| Operation::CreateTun { place })
                    }
                    LinkKind::Veth { peer } => self.veth(link, place, peer),
                }
            }
            if namespace.claim == Claim::Everything {
                self.orphans(name, namespace);
            }
        }
    }

    fn orphans(&mut self, name: &str, namespace: &Namespace) {
        let Some(found) = self.observed.namespaces.get(name) else {
            return;
        };
        let orphans = found
            .links
            .keys()
            .filter(|link| name::is_router_link(link) && !namespace.links.contains_key(*link));
        let places: Vec<Place> = orphans
            .map(|link| Place {
                namespace: name.to_owned(),
                link: link.clone(),
            })
            .collect();
        for place in places {
            self.lose(namespace.owner, place);
        }
    }

    fn lose(&mut self, owner: Owner, place: Place) {
        if self.lost.insert(place.clone()) {
            self.push(Phase::RemoveLink, owner, Operation::RemoveLink { place });
        }
    }

    fn device(
        &mut self,
        namespace: &Namespace,
        link: &Link,
        place: Place,
        create: impl FnOnce(Place) -> Operation,
    ) {
        match self.found(&place).map(|found| found.kind) {
            Some(ObservedKind::Tun) => return,
            Some(ObservedKind::Loopback | ObservedKind::Other | ObservedKind::Veth { .. }) => {
                if namespace.claim == Claim::LinksOfForeign {
                    let on = format!("the name of link {place}");
                    self.block(link.owner, place, on);
                    return;
                }
                self.lose(link.owner, place.clone());
            }
            None => {}
        }
        self.push(Phase::CreateLink, link.owner, create(place));
    }

    fn veth(&mut self, link: &Link, place: Place, peer: &Place) {
        let Some(far) = self.desired.namespaces.get(&peer.namespace) else {
            return;
        };
        if self.is_waiting(&peer.namespace) {
            // The near end alone cannot exist; one left over from before has lost its other end.
            self.waiting.insert(place.clone());
            if self.found(&place).is_some() {
                self.lose(link.owner, place);
            }
            return;
        }
        let (near, other) = (self.found(&place).copied(), self.found(peer).copied());
        let joined = matches!(
            (near, other),
            (
                Some(ObservedLink { index: a, kind: ObservedKind::Veth { peer: to_b }, .. }),
                Some(ObservedLink { index: b, kind: ObservedKind::Veth { peer: to_a }, .. }),
            ) if a == to_a && b == to_b
        );
        if joined {
            return;
        }
        if near.is_some() {
            self.lose(link.owner, place.clone());
        }
        if other.is_some() {
            if far.claim == Claim::LinksOfForeign {
                self.waiting.insert(place);
                let on = format!("the name of link {peer}");
                self.block(link.owner, peer.clone(), on);
                return;
            }
            self.lose(link.owner, peer.clone());
        }
        let operation = Operation::CreateVeth {
            mac: link.mac,
            peer: peer.clone(),
            peer_mac: far.links.get(&peer.link).and_then(|end| end.mac),
            place,
        };
        self.push(Phase::CreateLink, link.owner, operation);
    }

    fn cannot_be(&self, namespace: &str, link: &str) -> bool {
        !self.waiting.is_empty()
            && self.waiting.contains(&Place {
                namespace: namespace.to_owned(),
                link: link.to_owned(),
            })
    }

    fn properties(&mut self, name: &str, namespace: &Namespace, view: &ObservedNamespace) {
        for (link_name, link) in &namespace.links {
            if self.cannot_be(name, link_name) {
                continue;
            }
            let place = Place {
                namespace: name.to_owned(),
                link: link_name.clone(),
            };
            let found = view.links.get(link_name);
            // A new veth already has the hardware addresses it was made with.
            let mac = link
                .mac
                .filter(|mac| found.is_some_and(|found| found.mac != Some(*mac)));
            let mtu = link.mtu.filter(|mtu| found.is_none_or(|found| found.mtu != *mtu));
            if mac.is_some() || mtu.is_some() {
                let operation = Operation::SetLink {
                    place: place.clone(),
                    mac,
                    mtu,
                    up: None,
                };
                self.push(Phase::LinkProperty, link.owner, operation);
            }
            if found.is_some_and(|found| found.up) != link.up {
                let operation = Operation::SetLink {
                    place,
                    mac: None,
                    mtu: None,
                    up: Some(link.up),
                };
                self.push(Phase::LinkState, link.owner, operation);
            }
        }
    }

    fn addresses(&mut self, name: &str, namespace: &Namespace, view: &ObservedNamespace) {
        let place = |link: &str| Place {
            namespace: name.to_owned(),
            link: link.to_owned(),
        };
        for ((link, address), mark) in &view.addresses {
            let Some(of_link) = namespace.links.get(link) else {
                continue;
            };
            let claimed = *mark == Mark::Ours || namespace.claim == Claim::Everything;
            if claimed
                && !is_the_kernels(address.addr())
                && !namespace.addresses.contains(&(link.clone(), *address))
            {
                let operation = Operation::RemoveAddress {
                    place: place(link),
                    address: *address,
                };
                self.push(Phase::RemoveAddress, of_link.owner, operation);
            }
        }
        for (link, address) in &namespace.addresses {
            if self.cannot_be(name, link) || view.addresses.contains_key(&(link.clone(), *address)) {
                continue;
            }
            let owner = namespace
                .links
                .get(link)
                .map_or(namespace.owner, |link| link.owner);
            let operation = Operation::AddAddress {
                place: place(link),
                address: *address,
            };
            self.push(Phase::Address, owner, operation);
        }
    }

    fn neighbours(&mut self, name: &str, namespace: &Namespace, view: &ObservedNamespace) {
        let owner = |link: &String| {
            namespace
                .links
                .get(link)
                .map_or(namespace.owner, |link| link.owner)
        };
        let place = |link: &str| Place {
            namespace: name.to_owned(),
            link: link.to_owned(),
        };
        for key in view.neighbours.keys() {
            let (link, address) = key;
            let claimed = namespace.claim == Claim::Everything || namespace.links.contains_key(link);
            if claimed && !namespace.neighbours.contains_key(key) {
                let operation = Operation::RemoveNeighbour {
                    place: place(link),
                    address: *address,
                };
                self.push(Phase::RemoveNeighbour, owner(link), operation);
            }
        }
        for (key, mac) in &namespace.neighbours {
            let (link, address) = key;
            if self.cannot_be(name, link) || view.neighbours.get(key) == Some(mac) {
                continue;
            }
            let operation = Operation::ReplaceNeighbour {
                place: place(link),
                address: *address,
                mac: *mac,
            };
            self.push(Phase::Neighbour, owner(link), operation);
        }
    }

    fn routes(&mut self, name: &str, namespace: &Namespace, view: &ObservedNamespace) {
        for (key, route) in &view.routes {
            let claimed = namespace.claim == Claim::Everything
                || route
                    .target
                    .link()
                    .is_some_and(|link| namespace.links.contains_key(link));
            if claimed && !namespace.routes.contains_key(key) {
                let operation = Operation::RemoveRoute {
                    namespace: name.to_owned(),
                    key: *key,
                };
                self.push(Phase::RemoveRoute, namespace.owner, operation);
            }
        }
        for (key, route) in &namespace.routes {
            let waits = route
                .value
                .target
                .link()
                .is_some_and(|link| self.cannot_be(name, link));
            if waits || view.routes.get(key) == Some(&route.value) {
                continue;
            }
            let operation = Operation::ReplaceRoute {
                namespace: name.to_owned(),
                key: *key,
                route: route.value.clone(),
            };
            self.push(Phase::Route, route.owner, operation);
        }
    }

    fn rules(&mut self, name: &str, namespace: &Namespace, view: &ObservedNamespace) {
        if namespace.claim == Claim::Everything {
            for rule in view
                .rules
                .iter()
                .filter(|rule| !namespace.rules.contains_key(*rule))
            {
                let operation = Operation::RemoveRule {
                    namespace: name.to_owned(),
                    rule: rule.clone(),
                };
                self.push(Phase::RemoveRule, namespace.owner, operation);
            }
        }
        for (rule, owner) in &namespace.rules {
            if !view.rules.contains(rule) {
                let operation = Operation::AddRule {
                    namespace: name.to_owned(),
                    rule: rule.clone(),
                };
                self.push(Phase::Rule, *owner, operation);
            }
        }
    }

    fn settings(&mut self, name: &str, namespace: &Namespace, view: &ObservedNamespace) {
        for (path, sysctl) in &namespace.sysctls {
            let waits = sysctl
                .link
                .as_deref()
                .is_some_and(|link| self.cannot_be(name, link));
            if waits || view.sysctls.get(path) == Some(&sysctl.value) {
                continue;
            }
            let phase = if sysctl.link.is_some() {
                Phase::LinkSysctl
            } else {
                Phase::NamespaceSysctl
            };
            let operation = Operation::WriteSysctl {
                namespace: name.to_owned(),
                path: path.clone(),
                value: sysctl.value.clone(),
            };
            self.push(phase, sysctl.owner, operation);
        }
        for (table, ruleset) in &namespace.rulesets {
            let previous = view.rulesets.get(table);
            if previous.is_some_and(|found| ruleset.value.matches(found)) {
                continue;
            }
            let operation = Operation::ReplaceRuleset {
                namespace: name.to_owned(),
                table: table.clone(),
                ruleset: ruleset.value.clone(),
                previous: previous.cloned(),
            };
            self.push(Phase::Ruleset, ruleset.owner, operation);
        }
    }
}

// The kernel gives links these by itself.
fn is_the_kernels(address: IpAddr) -> bool {
    let link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    address.is_loopback() || link_local
}

#[cfg(test)]
mod tests;
