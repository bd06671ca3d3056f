//! The IKE SAs of an endpoint, found by what they belong to and by when they want attention, so that work costs what it
//! concerns and not what exists.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use isthmus_types::VpnConnectionId;

use crate::begun::{HalfOpen, Prefix};
use crate::child::Child;
use crate::sa::{IkeSa, SaId};

/// Every IKE SA of an endpoint. One leaves the table to be worked on and is put back, which brings the indices up to date.
#[derive(Default)]
pub(super) struct SaTable {
    entries: BTreeMap<SaId, Entry>,
    of_connection: BTreeSet<(VpnConnectionId, SaId)>,
    due: BTreeSet<(Instant, SaId)>,
    half_open: HalfOpen<Prefix>,
    /// Connections whose IKE SAs were worked on.
    touched: BTreeSet<VpnConnectionId>,
}

struct Entry {
    sa: IkeSa,
    /// As the indices have them.
    connection: Option<VpnConnectionId>,
    due: Option<Instant>,
    /// If it is half open, where from.
    half_open: Option<Prefix>,
}

impl SaTable {
    pub(super) fn get(&self, id: SaId) -> Option<&IkeSa> {
        self.entries.get(&id).map(|entry| &entry.sa)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &IkeSa> {
        self.entries.values().map(|entry| &entry.sa)
    }

    /// Every IKE SA, for tests: the indices do not see what changes.
    #[cfg(test)]
    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut IkeSa> {
        self.entries.values_mut().map(|entry| &mut entry.sa)
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The IKE SAs of a connection, oldest first.
    pub(super) fn of(&self, connection: VpnConnectionId) -> impl Iterator<Item = &IkeSa> {
        self.of_connection
            .range((connection, SaId(u64::MIN))..=(connection, SaId(u64::MAX)))
            .filter_map(|(_, id)| self.get(*id))
    }

    /// Takes an IKE SA out, to be worked on and put back or dropped.
    pub(super) fn take(&mut self, id: SaId) -> Option<IkeSa> {
        let entry = self.entries.remove(&id)?;
        if let Some(connection) = entry.connection {
            self.of_connection.remove(&(connection, id));
            self.touched.insert(connection);
        }
        if let Some(at) = entry.due {
            self.due.remove(&(at, id));
        }
        if let Some(prefix) = entry.half_open {
            self.half_open.remove(&prefix);
        }
        Some(entry.sa)
    }

    pub(super) fn put(&mut self, sa: IkeSa) {
        let id = sa.id;
        let connection = sa.connection;
        if let Some(connection) = connection {
            self.of_connection.insert((connection, id));
            self.touched.insert(connection);
        }
        let due = next_timeout(&sa).map(|(at, _)| at);
        if let Some(at) = due {
            self.due.insert((at, id));
        }
        let half_open = half_open(&sa);
        if let Some(prefix) = half_open {
            self.half_open.add(prefix);
        }
        let entry = Entry {
            sa,
            connection,
            due,
            half_open,
        };
        self.entries.insert(id, entry);
    }

    /// Changes an IKE SA in place.
    pub(super) fn edit(&mut self, id: SaId, change: impl FnOnce(&mut IkeSa)) {
        if let Some(mut sa) = self.take(id) {
            change(&mut sa);
            self.put(sa);
        }
    }

    /// The IKE SAs that want attention at `now`.
    pub(super) fn due(&self, now: Instant) -> Vec<SaId> {
        let mut ids: Vec<SaId> = self
            .due
            .iter()
            .take_while(|(at, _)| *at <= now)
            .map(|(_, id)| *id)
            .collect();
        ids.sort_unstable();
        ids
    }

    /// When the next IKE SA wants attention, and why.
    pub(super) fn next_timeout(&self) -> Option<(Instant, &'static str)> {
        let (_, id) = self.due.first()?;
        next_timeout(self.get(*id)?)
    }

    /// How many IKE SAs are half open.
    pub(super) const fn half_open(&self) -> &HalfOpen<Prefix> {
        &self.half_open
    }

    /// The same, counted.
    #[cfg(test)]
    pub(super) fn recounted_half_open(&self) -> HalfOpen<Prefix> {
        self.values().filter_map(half_open).collect()
    }

    /// The connections whose IKE SAs were worked on since the last call.
    pub(super) fn take_touched(&mut self) -> BTreeSet<VpnConnectionId> {
        std::mem::take(&mut self.touched)
    }
}

fn half_open(sa: &IkeSa) -> Option<Prefix> {
    sa.is_half_open().then(|| Prefix::of(sa.path.remote.ip()))
}

fn next_timeout(sa: &IkeSa) -> Option<(Instant, &'static str)> {
    let children = sa
        .established()
        .into_iter()
        .flat_map(|established| &established.children)
        .filter_map(Child::next_timeout);
    children.chain(sa.timers.next()).min_by_key(|(at, _)| *at)
}

/// Which connections must be looked at: because something happened to them, or because it is time.
#[derive(Default)]
pub(super) struct Agenda {
    touched: BTreeSet<VpnConnectionId>,
    due: BTreeSet<(Instant, VpnConnectionId)>,
    due_of: BTreeMap<VpnConnectionId, Instant>,
}

impl Agenda {
    /// Something happened to the connection.
    pub(super) fn touch(&mut self, connection: VpnConnectionId) {
        self.touched.insert(connection);
    }

    /// The connections to look at, once.
    pub(super) fn take(&mut self) -> BTreeSet<VpnConnectionId> {
        std::mem::take(&mut self.touched)
    }

    /// Sets when a connection wants attention next.
    pub(super) fn set(&mut self, connection: VpnConnectionId, at: Option<Instant>) {
        if let Some(old) = self.due_of.remove(&connection) {
            self.due.remove(&(old, connection));
        }
        if let Some(at) = at {
            self.due_of.insert(connection, at);
            self.due.insert((at, connection));
        }
    }

    /// Takes the connections that want attention at `now`.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<VpnConnectionId> {
        let due: Vec<VpnConnectionId> = self
            .due
            .iter()
            .take_while(|(at, _)| *at <= now)
            .map(|(_, id)| *id)
            .collect();
        for connection in &due {
            self.set(*connection, None);
        }
        due
    }

    /// When the next connection wants attention.
    pub(super) fn next(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }
}
