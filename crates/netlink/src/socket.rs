//! Requests to the kernel's routing subsystem over one blocking socket, one request at a time.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "what the kernel may say is an open set"
)]

use std::io;
use std::os::fd::AsRawFd;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::sys::socket::{MsgFlags, recv, send};

/// Larger than any datagram that the kernel puts dump entries in.
const BUFFER: usize = 64 * 1024;

/// How often a dump is begun anew because the tables changed under it.
const DUMP_ATTEMPTS: usize = 16;

/// A socket of the namespace that the calling thread was in when it was opened.
pub(crate) struct RouteSocket {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl RouteSocket {
    pub(crate) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self {
            socket,
            sequence: 0,
            buffer: vec![0; BUFFER],
        })
    }

    /// Asks for one change and waits until the kernel has made or refused it.
    pub(crate) fn change(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.send(message, NLM_F_REQUEST | NLM_F_ACK | flags)?;
        loop {
            let mut done = false;
            self.receive(|_, payload| {
                match payload {
                    NetlinkPayload::Error(error) => {
                        done = true;
                        match error.code {
                            None => return Ok(()),
                            Some(_) => return Err(error.to_io()),
                        }
                    }
                    NetlinkPayload::Done(_) => done = true,
                    _ => {}
                }
                Ok(())
            })?;
            if done {
                return Ok(());
            }
        }
    }

    /// Asks for one object; none if the kernel says nothing of it.
    pub(crate) fn ask(&mut self, message: RouteNetlinkMessage) -> io::Result<Option<RouteNetlinkMessage>> {
        self.send(message, NLM_F_REQUEST | NLM_F_ACK)?;
        let (mut found, mut done) = (None, false);
        while !done {
            self.receive(|_, payload| {
                match payload {
                    NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                    NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => done = true,
                    NetlinkPayload::InnerMessage(message) => found = Some(message),
                    _ => {}
                }
                Ok(())
            })?;
        }
        Ok(found)
    }

    /// Reads a whole table. If it changes meanwhile, reads it again.
    pub(crate) fn dump(&mut self, message: &RouteNetlinkMessage) -> io::Result<Vec<RouteNetlinkMessage>> {
        for _ in 0..DUMP_ATTEMPTS {
            self.send(message.clone(), NLM_F_REQUEST | NLM_F_DUMP)?;
            let mut found = Vec::new();
            let (mut done, mut interrupted) = (false, false);
            while !done {
                self.receive(|header, payload| {
                    interrupted |= header.flags & NLM_F_DUMP_INTR != 0;
                    match payload {
                        NetlinkPayload::Done(_) => done = true,
                        NetlinkPayload::Error(error) => return Err(error.to_io()),
                        NetlinkPayload::InnerMessage(message) => found.push(message),
                        _ => {}
                    }
                    Ok(())
                })?;
            }
            if !interrupted {
                return Ok(found);
            }
        }
        Err(io::Error::new(
            io::ErrorKind::ResourceBusy,
            "the table keeps changing while it is read",
        ))
    }

    fn send(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        send(self.socket.as_raw_fd(), &bytes, MsgFlags::empty())?;
        Ok(())
    }

    // Hands each message of one datagram that answers the last request to `take`.
    fn receive(
        &mut self,
        mut take: impl FnMut(&NetlinkHeader, NetlinkPayload<RouteNetlinkMessage>) -> io::Result<()>,
    ) -> io::Result<()> {
        let length = recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::empty())?;
        let mut rest = &self.buffer[..length];
        while !rest.is_empty() {
            let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            let length = (message.header.length as usize).next_multiple_of(4).max(16);
            rest = rest.get(length..).unwrap_or_default();
            let (header, payload) = message.into_parts();
            if header.sequence_number == self.sequence {
                take(&header, payload)?;
            }
        }
        Ok(())
    }
}
