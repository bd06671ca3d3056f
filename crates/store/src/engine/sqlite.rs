//! The embedded default: one SQLite file.
//!
//! Write-ahead logging with `synchronous=FULL`: each commit is flushed before it returns, and a crash at any moment
//! leaves the last committed state. The file is readable with the `sqlite3` tool while we run.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use isthmus_model::RecordKind;
use isthmus_ops::Via;
use isthmus_types::{AccountId, ResourceBits, Revision, Timestamp};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::{AuditRecord, Batch, Engine, EngineError, Loaded, Row, RowChange, RowKey, TokenRow};

const FORMAT: i64 = 1;
const BUSY_PATIENCE: Duration = Duration::from_secs(2);

const SCHEMA: &str = "
CREATE TABLE state (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    revision INTEGER NOT NULL
);
INSERT INTO state (one, revision) VALUES (1, 0);
CREATE TABLE record (
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    revision INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (kind, id)
) WITHOUT ROWID;
CREATE TABLE audit (
    revision INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    account TEXT NOT NULL,
    user TEXT,
    via TEXT NOT NULL,
    request_id TEXT NOT NULL,
    operation TEXT NOT NULL,
    objects TEXT NOT NULL
);
CREATE TABLE token (
    account TEXT NOT NULL,
    token TEXT NOT NULL,
    at INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (account, token)
) WITHOUT ROWID;
CREATE INDEX token_at ON token (at);
";

/// An engine on one SQLite file.
#[derive(Debug)]
pub struct SqliteEngine {
    connection: Connection,
}

fn failed(action: &'static str) -> impl Fn(rusqlite::Error) -> EngineError {
    move |source| EngineError::Failed {
        action,
        source: Box::new(source),
    }
}

fn number(revision: Revision) -> i64 {
    i64::try_from(revision.0).unwrap_or(i64::MAX)
}

fn damaged(what: &str) -> EngineError {
    EngineError::Damaged(what.to_owned())
}

impl SqliteEngine {
    /// Opens the file at `path`, or makes it (mode 0600).
    ///
    /// # Errors
    /// [`EngineError`] if the file cannot be used or was written by a newer release.
    pub fn open(path: &Path) -> Result<Self, EngineError> {
        let io_failed = |source: std::io::Error| EngineError::Failed {
            action: "opening the database file",
            source: Box::new(source),
        };
        // Before SQLite does: it would make the file readable for everyone, and its journals follow the file's mode.
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(io_failed)?;
        file.set_permissions(std::fs::Permissions::from_mode(0o600))
            .map_err(io_failed)?;
        drop(file);
        let connection = Connection::open(path).map_err(failed("opening the database"))?;
        connection
            .busy_timeout(BUSY_PATIENCE)
            .and_then(|()| connection.pragma_update(None, "journal_mode", "wal"))
            .and_then(|()| connection.pragma_update(None, "synchronous", "full"))
            .and_then(|()| connection.pragma_update(None, "secure_delete", "on"))
            .map_err(failed("configuring the database"))?;
        connection.set_prepared_statement_cache_capacity(32);
        let mut engine = Self { connection };
        engine.prepare_schema()?;
        sync_directory(path).map_err(io_failed)?;
        Ok(engine)
    }

    fn prepare_schema(&mut self) -> Result<(), EngineError> {
        let failed = failed("preparing the schema");
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(&failed)?;
        let found: i64 = transaction
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .map_err(&failed)?;
        match found {
            0 => {
                transaction.execute_batch(SCHEMA).map_err(&failed)?;
                transaction
                    .pragma_update(None, "user_version", FORMAT)
                    .map_err(&failed)?;
            }
            FORMAT => {}
            newer => {
                return Err(EngineError::Newer {
                    found: newer,
                    known: FORMAT,
                });
            }
        }
        transaction.commit().map_err(&failed)
    }
}

// The name of a new file is durable only once its directory is.
fn sync_directory(path: &Path) -> std::io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => std::fs::File::open(parent)?.sync_all(),
        Some(_) | None => std::fs::File::open(".")?.sync_all(),
    }
}

fn read_revision(connection: &Connection) -> Result<Revision, EngineError> {
    let number: i64 = connection
        .prepare_cached("SELECT revision FROM state")
        .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
        .map_err(failed("reading the revision"))?;
    u64::try_from(number)
        .map(Revision)
        .map_err(|_| damaged("the revision is negative"))
}

fn read_rows(connection: &Connection) -> Result<Vec<Row>, EngineError> {
    let failed = failed("reading the records");
    let mut statement = connection
        .prepare_cached("SELECT kind, id, revision, body FROM record")
        .map_err(&failed)?;
    let mut found = statement.query([]).map_err(&failed)?;
    let mut rows = Vec::new();
    while let Some(row) = found.next().map_err(&failed)? {
        let kind = row
            .get_ref(0)
            .and_then(|value| Ok(value.as_str()?))
            .map_err(&failed)?;
        let id = row
            .get_ref(1)
            .and_then(|value| Ok(value.as_str()?))
            .map_err(&failed)?;
        let kind = RecordKind::from_word(kind)
            .ok_or_else(|| EngineError::Damaged(format!("a record has the unknown kind {kind}")))?;
        let bits: ResourceBits = id
            .parse()
            .map_err(|_| EngineError::Damaged(format!("a {} has the id {id}", kind.word())))?;
        rows.push(Row {
            key: RowKey { kind, bits },
            revision: Revision(row.get::<_, i64>(2).map_err(&failed)?.unsigned_abs()),
            body: row.get(3).map_err(&failed)?,
        });
    }
    Ok(rows)
}

fn read_row(connection: &Connection, key: RowKey) -> Result<Option<Row>, EngineError> {
    connection
        .prepare_cached("SELECT revision, body FROM record WHERE kind = ?1 AND id = ?2")
        .and_then(|mut statement| {
            statement
                .query_row(params![key.kind.word(), key.bits.to_string()], |row| {
                    Ok(Row {
                        key,
                        revision: Revision(row.get::<_, i64>(0)?.unsigned_abs()),
                        body: row.get(1)?,
                    })
                })
                .optional()
        })
        .map_err(failed("reading a record"))
}

fn write(transaction: &Transaction<'_>, batch: &Batch) -> rusqlite::Result<()> {
    let mut put = transaction
        .prepare_cached("INSERT OR REPLACE INTO record (kind, id, revision, body) VALUES (?1, ?2, ?3, ?4)")?;
    let mut delete = transaction.prepare_cached("DELETE FROM record WHERE kind = ?1 AND id = ?2")?;
    for change in &batch.rows {
        match change {
            RowChange::Delete(key) => delete.execute(params![key.kind.word(), key.bits.to_string()])?,
            RowChange::Put(row) => put.execute(params![
                row.key.kind.word(),
                row.key.bits.to_string(),
                number(row.revision),
                row.body
            ])?,
        };
    }
    let mut audit = transaction.prepare_cached(
        "INSERT INTO audit (revision, at, account, user, via, request_id, operation, objects)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?;
    for record in &batch.audit {
        audit.execute(params![
            number(record.revision),
            i64::try_from(record.at.0).unwrap_or(i64::MAX),
            record.account.to_string(),
            record.user.map(|user| user.to_string()),
            via_word(record.via),
            record.request_id,
            record.operation,
            record.objects.join(" "),
        ])?;
    }
    if let Some(moment) = batch.forget_tokens_before {
        transaction
            .prepare_cached("DELETE FROM token WHERE at < ?1")?
            .execute(params![i64::try_from(moment.0).unwrap_or(i64::MAX)])?;
    }
    let mut token = transaction
        .prepare_cached("INSERT OR REPLACE INTO token (account, token, at, body) VALUES (?1, ?2, ?3, ?4)")?;
    for row in &batch.tokens {
        token.execute(params![
            row.account.to_string(),
            row.token,
            i64::try_from(row.at.0).unwrap_or(i64::MAX),
            row.body
        ])?;
    }
    transaction
        .prepare_cached("UPDATE state SET revision = ?1")?
        .execute(params![number(batch.revision)])?;
    Ok(())
}

const fn via_word(via: Via) -> &'static str {
    match via {
        Via::Ibm => "ibm",
        Via::System => "system",
    }
}

fn via_from_word(word: &str) -> Option<Via> {
    match word {
        "ibm" => Some(Via::Ibm),
        "system" => Some(Via::System),
        _ => None,
    }
}

impl Engine for SqliteEngine {
    fn load(&mut self) -> Result<Loaded, EngineError> {
        let transaction = self
            .connection
            .transaction()
            .map_err(failed("reading the records"))?;
        Ok(Loaded {
            revision: read_revision(&transaction)?,
            rows: read_rows(&transaction)?,
        })
    }

    fn revision(&mut self) -> Result<Revision, EngineError> {
        read_revision(&self.connection)
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), EngineError> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(failed("beginning a transaction"))?;
        let found = read_revision(&transaction)?;
        if found != batch.expected {
            return Err(EngineError::Conflict {
                expected: batch.expected,
                found,
            });
        }
        write(&transaction, batch).map_err(failed("writing"))?;
        transaction.commit().map_err(failed("committing"))
    }

    fn changes_after(&mut self, after: Revision) -> Result<(Revision, Vec<RowChange>), EngineError> {
        let failed = failed("reading the changes");
        let transaction = self.connection.transaction().map_err(&failed)?;
        let revision = read_revision(&transaction)?;
        let mut keys: BTreeSet<RowKey> = BTreeSet::new();
        {
            let mut statement = transaction
                .prepare_cached("SELECT objects FROM audit WHERE revision > ?1")
                .map_err(&failed)?;
            let mut found = statement.query(params![number(after)]).map_err(&failed)?;
            while let Some(row) = found.next().map_err(&failed)? {
                let objects: String = row.get(0).map_err(&failed)?;
                for object in objects.split_ascii_whitespace() {
                    keys.insert(
                        RowKey::parse(object)
                            .ok_or_else(|| EngineError::Damaged(format!("an audit record names {object}")))?,
                    );
                }
            }
        }
        let mut changes = Vec::with_capacity(keys.len());
        for key in keys {
            let row = read_row(&transaction, key)?;
            changes.push(row.map_or(RowChange::Delete(key), RowChange::Put));
        }
        Ok((revision, changes))
    }

    fn audit(&mut self, after: Revision, limit: usize) -> Result<Vec<AuditRecord>, EngineError> {
        let failed = failed("reading the audit records");
        let mut statement = self
            .connection
            .prepare_cached(
                "SELECT revision, at, account, user, via, request_id, operation, objects FROM audit
                 WHERE revision > ?1 ORDER BY revision LIMIT ?2",
            )
            .map_err(&failed)?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut found = statement.query(params![number(after), limit]).map_err(&failed)?;
        let mut records = Vec::new();
        while let Some(row) = found.next().map_err(&failed)? {
            let text = |column: usize| row.get::<_, String>(column).map_err(&failed);
            let user: Option<String> = row.get(3).map_err(&failed)?;
            records.push(AuditRecord {
                revision: Revision(row.get::<_, i64>(0).map_err(&failed)?.unsigned_abs()),
                at: Timestamp(row.get::<_, i64>(1).map_err(&failed)?.unsigned_abs()),
                account: text(2)?
                    .parse()
                    .map_err(|_| damaged("an audit record's account"))?,
                user: user
                    .map(|user| user.parse().map_err(|_| damaged("an audit record's user")))
                    .transpose()?,
                via: via_from_word(&text(4)?).ok_or_else(|| damaged("an audit record's door"))?,
                request_id: text(5)?,
                operation: text(6)?,
                objects: text(7)?.split_ascii_whitespace().map(str::to_owned).collect(),
            });
        }
        Ok(records)
    }

    fn token(&mut self, account: AccountId, token: &str) -> Result<Option<TokenRow>, EngineError> {
        self.connection
            .prepare_cached("SELECT at, body FROM token WHERE account = ?1 AND token = ?2")
            .and_then(|mut statement| {
                statement
                    .query_row(params![account.to_string(), token], |row| {
                        Ok(TokenRow {
                            account,
                            token: token.to_owned(),
                            at: Timestamp(row.get::<_, i64>(0)?.unsigned_abs()),
                            body: row.get(1)?,
                        })
                    })
                    .optional()
            })
            .map_err(failed("reading a token"))
    }
}
