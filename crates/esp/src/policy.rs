//! Which SA a packet takes (RFC 4301 section 4.4.1). Nothing passes in clear: a packet is sealed, waits, or is dropped.

mod index;

use isthmus_types::Cidr;
use isthmus_wire::ip::IpHeader;

use self::index::PolicyIndex;
use crate::drop_reason::DropReason;
use crate::selector::{Flow, Selectors};

/// A connection, as its owner numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionHandle(pub u32);

/// An outbound SA of the database; valid until the database is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SaHandle {
    connection: usize,
    sa: usize,
}

/// One pair of ranges that a connection protects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Range on our side.
    pub local: Cidr,
    /// Range on the peer's side.
    pub remote: Cidr,
}

/// Whether a connection may carry packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It may.
    Open,
    /// It is down on request: its packets are dropped, and nothing is negotiated for them.
    Shut,
}

/// What to do with an outbound packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Negotiate an SA for this connection, and hold the packet if none is held yet.
    Acquire(ConnectionHandle),
    /// Drop it.
    Drop(DropReason, Option<ConnectionHandle>),
    /// Seal it with this SA.
    Seal(SaHandle),
}

/// Policies of one gateway, and which outbound SAs there are for them, each with what its owner keeps of it: the SA
/// itself, or where it is.
#[derive(Debug, Default)]
pub struct OutboundDatabase<T> {
    policies: Vec<(Policy, usize)>,
    index: PolicyIndex,
    connections: Vec<Connection<T>>,
}

#[derive(Debug)]
struct Connection<T> {
    handle: ConnectionHandle,
    admission: Admission,
    // In the order of preference: the first whose selectors admit a packet takes it.
    sas: Vec<Entry<T>>,
}

#[derive(Debug)]
struct Entry<T> {
    lane: u8,
    selectors: Selectors,
    context: T,
}

impl<T> OutboundDatabase<T> {
    /// A database with nothing in it.
    pub fn new() -> Self {
        Self {
            policies: Vec::new(),
            index: PolicyIndex::default(),
            connections: Vec::new(),
        }
    }

    /// Adds or changes a connection. Its SAs stay.
    pub fn set_connection(&mut self, handle: ConnectionHandle, policies: &[Policy], admission: Admission) {
        let index = match self.index_of(handle) {
            Some(index) => index,
            None => {
                self.connections.push(Connection {
                    handle,
                    admission,
                    sas: Vec::new(),
                });
                self.connections.len() - 1
            }
        };
        self.connections[index].admission = admission;
        self.policies.retain(|(_, connection)| *connection != index);
        self.policies
            .extend(policies.iter().map(|policy| (*policy, index)));
        self.index = PolicyIndex::new(&self.policies);
    }

    /// Removes a connection with its SAs.
    pub fn remove_connection(&mut self, handle: ConnectionHandle) {
        let Some(index) = self.index_of(handle) else {
            return;
        };
        self.connections.remove(index);
        self.policies.retain(|(_, connection)| *connection != index);
        for (_, connection) in &mut self.policies {
            if *connection > index {
                *connection -= 1;
            }
        }
        self.index = PolicyIndex::new(&self.policies);
    }

    /// Adds an SA to a connection, preferred to those already there in the same lane. Without that connection nothing
    /// happens.
    ///
    /// SAs for the same traffic that are to be used beside each other (RFC 9611) are in different lanes: flows are spread
    /// over them.
    pub fn insert_sa(&mut self, handle: ConnectionHandle, lane: u8, selectors: Selectors, context: T) {
        if let Some(index) = self.index_of(handle) {
            let entry = Entry {
                lane,
                selectors,
                context,
            };
            self.connections[index].sas.insert(0, entry);
        }
    }

    /// Removes the SA of a connection whose context satisfies `is_it`.
    pub fn remove_sa(&mut self, handle: ConnectionHandle, is_it: impl Fn(&T) -> bool) -> Option<T> {
        let index = self.index_of(handle)?;
        let sas = &mut self.connections[index].sas;
        let position = sas.iter().position(|entry| is_it(&entry.context))?;
        Some(sas.remove(position).context)
    }

    /// Every context of a connection's SAs.
    pub fn contexts(&mut self, handle: ConnectionHandle) -> impl Iterator<Item = &mut T> {
        let index = self.index_of(handle);
        self.connections
            .iter_mut()
            .enumerate()
            .filter(move |(position, _)| Some(*position) == index)
            .flat_map(|(_, connection)| connection.sas.iter_mut().map(|entry| &mut entry.context))
    }

    /// Decides about `packet`, whose header is `header`.
    ///
    /// The policy with the longest remote prefix that covers the packet wins, among equals the longest local one. An
    /// ICMP error follows the flow that it is about.
    pub fn route(&self, header: &IpHeader, packet: &[u8]) -> Verdict {
        let flow = Flow::of(header, packet);
        if let Some(index) = self.index.covering(flow.source, flow.destination) {
            return self.decide(index, &flow);
        }
        match Flow::of_quoted(header, packet) {
            Some(quoted) => match self.index.covering(quoted.source, quoted.destination) {
                Some(index) => self.decide(index, &quoted),
                None => Verdict::Drop(DropReason::NoPolicy, None),
            },
            None => Verdict::Drop(DropReason::NoPolicy, None),
        }
    }

    /// The SA that a verdict names.
    pub fn sa(&mut self, handle: SaHandle) -> Option<(ConnectionHandle, &mut T)> {
        let connection = self.connections.get_mut(handle.connection)?;
        let entry = connection.sas.get_mut(handle.sa)?;
        Some((connection.handle, &mut entry.context))
    }

    fn decide(&self, index: usize, flow: &Flow) -> Verdict {
        let connection = &self.connections[index];
        if connection.admission == Admission::Shut {
            return Verdict::Drop(DropReason::AdminDown, Some(connection.handle));
        }
        let found = connection.choose(flow);
        match found {
            Some(sa) => Verdict::Seal(SaHandle {
                connection: index,
                sa,
            }),
            None => Verdict::Acquire(connection.handle),
        }
    }

    fn index_of(&self, handle: ConnectionHandle) -> Option<usize> {
        self.connections
            .iter()
            .position(|connection| connection.handle == handle)
    }
}

impl<T> Connection<T> {
    /// Among the SAs that admit the flow, the newest of the lane that is the flow's own. A lane that comes or goes takes
    /// or leaves only its own flows, so that the packets of all others stay in order.
    fn choose(&self, flow: &Flow) -> Option<usize> {
        let mut admitting = self
            .sas
            .iter()
            .enumerate()
            .filter(|(_, entry)| entry.selectors.admit_outbound(flow));
        let (mut best, first) = admitting.next()?;
        let (mut lane, mut weight) = (first.lane, None);
        for (index, entry) in admitting {
            if entry.lane == lane {
                continue;
            }
            let leading = weight.unwrap_or_else(|| flow.weight_in(lane));
            let own = flow.weight_in(entry.lane);
            weight = Some(leading.max(own));
            if own > leading {
                (best, lane) = (index, entry.lane);
            }
        }
        Some(best)
    }
}

#[cfg(test)]
mod tests;
