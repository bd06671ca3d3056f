//! Records and answers ↔ bytes; what is secret is sealed.

use isthmus_crypto::seal::SealingKey;
use isthmus_model::{Change, Record, RecordKind};
use isthmus_ops::{Operation, Outcome};
use isthmus_types::{AccountId, Revision};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::engine::{Row, RowChange, RowKey};
use crate::error::StoreError;

/// What is remembered for an idempotency token.
#[derive(Serialize, Deserialize)]
pub(crate) struct Remembered {
    /// The operation, in a form that holds no secret: tells a repetition from another request.
    pub(crate) request: String,
    /// The answer.
    pub(crate) outcome: Outcome,
}

/// The text that [`Remembered::request`] holds for an operation.
pub(crate) fn fingerprint(operation: &Operation) -> String {
    format!("{operation:?}")
}

struct Body<'a>(&'a Record);

impl Serialize for Body<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize_body(serializer)
    }
}

/// A value could not be written as bytes or sealed: a fault of ours or of the system's random numbers.
#[derive(Debug)]
pub(crate) struct EncodeError(pub(crate) String);

// The place that a sealed value is bound to.
fn place(key: RowKey) -> Vec<u8> {
    format!("record/{key}").into_bytes()
}

fn token_place(account: AccountId, token: &str) -> Vec<u8> {
    format!("token/{account}/{token}").into_bytes()
}

/// The row change that stores `change`.
pub(crate) fn encode(
    change: &Change,
    revision: Revision,
    key: &SealingKey,
) -> Result<RowChange, EncodeError> {
    let record = match change {
        Change::Delete(record) => return Ok(RowChange::Delete((*record).into())),
        Change::Put(record) => record,
    };
    let row_key = RowKey::from(record.key());
    let json = serde_json::to_vec(&Body(record)).map_err(|error| EncodeError(error.to_string()))?;
    let body = if row_key.kind.is_secret() {
        let json = Zeroizing::new(json);
        key.seal(&place(row_key), &json)
            .map_err(|error| EncodeError(error.to_string()))?
    } else {
        json
    };
    Ok(RowChange::Put(Row {
        key: row_key,
        revision,
        body,
    }))
}

/// The record in a row.
pub(crate) fn decode(row: &Row, key: &SealingKey) -> Result<Record, StoreError> {
    if row.key.kind.is_secret() {
        let clear = key
            .open(&place(row.key), &row.body)
            .map_err(|_| StoreError::Sealed {
                record: row.key.to_string(),
            })?;
        parse(row.key, &clear)
    } else {
        parse(row.key, &row.body)
    }
}

fn parse(key: RowKey, json: &[u8]) -> Result<Record, StoreError> {
    let unreadable = |detail: String| StoreError::Record {
        record: key.to_string(),
        detail,
    };
    let kind: RecordKind = key.kind;
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    // A parse error of a secret's content could quote it.
    let record = Record::deserialize_body(kind, &mut deserializer).map_err(|error| {
        unreadable(if kind.is_secret() {
            "malformed".to_owned()
        } else {
            error.to_string()
        })
    })?;
    deserializer
        .end()
        .map_err(|_| unreadable("something follows it".to_owned()))?;
    if RowKey::from(record.key()) == key {
        Ok(record)
    } else {
        Err(unreadable(format!("it holds {}", RowKey::from(record.key()))))
    }
}

/// Seals what is to be remembered for a token.
pub(crate) fn seal_answer(
    account: AccountId,
    token: &str,
    remembered: &Remembered,
    key: &SealingKey,
) -> Result<Vec<u8>, EncodeError> {
    let json = serde_json::to_vec(remembered).map_err(|error| EncodeError(error.to_string()))?;
    let json = Zeroizing::new(json);
    key.seal(&token_place(account, token), &json)
        .map_err(|error| EncodeError(error.to_string()))
}

/// Opens what was remembered for a token; none if it was sealed with another key or by another release.
pub(crate) fn open_answer(
    account: AccountId,
    token: &str,
    body: &[u8],
    key: &SealingKey,
) -> Option<Remembered> {
    let clear = key.open(&token_place(account, token), body).ok()?;
    serde_json::from_slice(&clear).ok()
}
