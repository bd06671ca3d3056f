//! Client of strongSwan's control socket (the "vici" protocol, version 1).
//!
//! Messages are JSON values here: sections are objects, lists are arrays of strings, everything else is a string.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Map, Value};

const COMMAND_REQUEST: u8 = 0;
const COMMAND_RESPONSE: u8 = 1;
const EVENT_REGISTER: u8 = 3;
const EVENT_UNREGISTER: u8 = 4;
const EVENT_CONFIRM: u8 = 5;
const EVENT: u8 = 7;

const SECTION_START: u8 = 1;
const SECTION_END: u8 = 2;
const KEY_VALUE: u8 = 3;
const LIST_START: u8 = 4;
const LIST_ITEM: u8 = 5;
const LIST_END: u8 = 6;

const LONGEST_PACKET: usize = 512 * 1024;

/// A connection to the control socket of one daemon.
#[derive(Debug)]
pub struct Vici {
    stream: UnixStream,
}

impl Vici {
    /// Connects; answers may take `patience`.
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn connect(socket: &Path, patience: Duration) -> Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        Ok(Self { stream })
    }

    /// Sends a command and yields its answer.
    ///
    /// # Errors
    /// When the daemon does not know the command, does not answer, or answers that it failed: with its reason.
    pub fn command(&mut self, name: &str, arguments: &Value) -> Result<Value> {
        Ok(self.exchange(name, arguments)?.0)
    }

    /// Sends a command whose results come as events, and yields these.
    ///
    /// # Errors
    /// As [`Vici::command`].
    pub fn stream(&mut self, name: &str, event: &str, arguments: &Value) -> Result<Vec<Value>> {
        self.register(EVENT_REGISTER, event)?;
        let events = self.exchange(name, arguments)?.1;
        self.register(EVENT_UNREGISTER, event)?;
        Ok(events)
    }

    fn exchange(&mut self, name: &str, arguments: &Value) -> Result<(Value, Vec<Value>)> {
        let mut packet = named(COMMAND_REQUEST, name)?;
        encode_section(arguments, &mut packet)?;
        self.send(&packet)?;
        let mut events = Vec::new();
        loop {
            let packet = self
                .receive()
                .with_context(|| format!("waiting for the answer to {name}"))?;
            match packet.split_first() {
                Some((&COMMAND_RESPONSE, message)) => {
                    let answer = decode(message)?;
                    if answer["success"] == "no" {
                        bail!(
                            "{name} failed: {}",
                            answer["errmsg"].as_str().unwrap_or("no reason given")
                        );
                    }
                    return Ok((answer, events));
                }
                Some((&EVENT, message)) => {
                    let (&length, rest) = message.split_first().context("event without a name")?;
                    events.push(decode(
                        rest.get(usize::from(length)..).context("event cut short")?,
                    )?);
                }
                _ => bail!("the daemon does not know the command {name}"),
            }
        }
    }

    fn register(&mut self, kind: u8, event: &str) -> Result<()> {
        self.send(&named(kind, event)?)?;
        let answer = self.receive()?;
        ensure!(
            answer.first() == Some(&EVENT_CONFIRM),
            "the daemon does not know the event {event}"
        );
        Ok(())
    }

    fn send(&mut self, packet: &[u8]) -> Result<()> {
        self.stream
            .write_all(&u32::try_from(packet.len())?.to_be_bytes())?;
        self.stream.write_all(packet)?;
        Ok(())
    }

    fn receive(&mut self) -> Result<Vec<u8>> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length) as usize;
        ensure!(length <= LONGEST_PACKET, "a control packet of {length} bytes");
        let mut packet = vec![0; length];
        self.stream.read_exact(&mut packet)?;
        Ok(packet)
    }
}

fn named(kind: u8, name: &str) -> Result<Vec<u8>> {
    let mut packet = vec![kind];
    push_name(name, &mut packet)?;
    Ok(packet)
}

fn push_name(name: &str, packet: &mut Vec<u8>) -> Result<()> {
    packet.push(u8::try_from(name.len())?);
    packet.extend(name.as_bytes());
    Ok(())
}

fn push_value(value: &Value, packet: &mut Vec<u8>) -> Result<()> {
    let text = value.as_str().context("a control value must be a string")?;
    packet.extend(u16::try_from(text.len())?.to_be_bytes());
    packet.extend(text.as_bytes());
    Ok(())
}

fn encode_section(section: &Value, packet: &mut Vec<u8>) -> Result<()> {
    let section = section
        .as_object()
        .context("a control message must be an object")?;
    for (key, value) in section {
        if value.is_object() {
            packet.push(SECTION_START);
            push_name(key, packet)?;
            encode_section(value, packet)?;
            packet.push(SECTION_END);
        } else if let Some(items) = value.as_array() {
            packet.push(LIST_START);
            push_name(key, packet)?;
            for item in items {
                packet.push(LIST_ITEM);
                push_value(item, packet)?;
            }
            packet.push(LIST_END);
        } else {
            packet.push(KEY_VALUE);
            push_name(key, packet)?;
            push_value(value, packet)?;
        }
    }
    Ok(())
}

fn decode(message: &[u8]) -> Result<Value> {
    let mut reader = Reader { rest: message };
    let section = reader.section(Depth::Top)?;
    Ok(Value::Object(section))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Depth {
    Top,
    Nested,
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    fn section(&mut self, depth: Depth) -> Result<Map<String, Value>> {
        let mut section = Map::new();
        loop {
            if depth == Depth::Top && self.rest.is_empty() {
                return Ok(section);
            }
            match self.byte()? {
                SECTION_START => {
                    let name = self.name()?;
                    section.insert(name, Value::Object(self.section(Depth::Nested)?));
                }
                SECTION_END if depth == Depth::Nested => return Ok(section),
                KEY_VALUE => {
                    let name = self.name()?;
                    section.insert(name, self.value()?);
                }
                LIST_START => {
                    let name = self.name()?;
                    section.insert(name, Value::Array(self.list()?));
                }
                other => bail!("element {other} in a control message"),
            }
        }
    }

    fn list(&mut self) -> Result<Vec<Value>> {
        let mut items = Vec::new();
        loop {
            match self.byte()? {
                LIST_ITEM => items.push(self.value()?),
                LIST_END => return Ok(items),
                other => bail!("element {other} in a list of a control message"),
            }
        }
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    fn name(&mut self) -> Result<String> {
        let length = usize::from(self.byte()?);
        Ok(String::from_utf8_lossy(self.take(length)?).into_owned())
    }

    fn value(&mut self) -> Result<Value> {
        let length = self.take(2)?;
        let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
        Ok(Value::String(
            String::from_utf8_lossy(self.take(length)?).into_owned(),
        ))
    }

    fn take(&mut self, count: usize) -> Result<&[u8]> {
        let (taken, rest) = self
            .rest
            .split_at_checked(count)
            .context("control message cut short")?;
        self.rest = rest;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn message_reads_back() {
        let message = json!({"gw": {"list": ["a", "b", ""], "inner": {"key": "value"}}, "top": "x"});
        let mut bytes = Vec::new();
        encode_section(&message, &mut bytes).unwrap();
        assert_eq!(decode(&bytes).unwrap(), message);
    }

    #[test]
    fn every_truncation_but_between_elements_is_an_error() {
        let mut bytes = Vec::new();
        encode_section(&json!({"gw": {"list": ["a"], "key": "value"}}), &mut bytes).unwrap();
        for length in 1..bytes.len() {
            assert!(decode(&bytes[..length]).is_err(), "{length}");
        }
    }
}
