//! What every engine must do. A new engine adds one line at the end.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

use isthmus_model::RecordKind;
use isthmus_ops::Via;
use isthmus_store::{
    AuditRecord, Batch, Engine, EngineError, MemoryEngine, Row, RowChange, RowKey, SqliteEngine, TokenRow,
};
use isthmus_types::{AccountId, ResourceBits, Revision, Timestamp, UserId};

/// A place where an engine keeps its data. Opening it twice gives the same data.
trait Backend {
    fn open(&self) -> Box<dyn Engine>;
}

fn account(number: u128) -> AccountId {
    AccountId(ResourceBits::from_random(number))
}

fn key(kind: RecordKind, number: u128) -> RowKey {
    RowKey {
        kind,
        bits: ResourceBits::from_random(number),
    }
}

fn vpc(number: u128) -> RowKey {
    key(RecordKind::Vpc, number)
}

fn row(key: RowKey, revision: u64, body: &[u8]) -> Row {
    Row {
        key,
        revision: Revision(revision),
        body: body.to_vec(),
    }
}

fn put(key: RowKey, revision: u64, body: &[u8]) -> RowChange {
    RowChange::Put(row(key, revision, body))
}

fn audit(revision: u64, objects: &[RowKey]) -> AuditRecord {
    AuditRecord {
        revision: Revision(revision),
        at: Timestamp(1000 + revision),
        account: account(9),
        user: revision
            .is_multiple_of(2)
            .then(|| UserId(ResourceBits::from_random(8))),
        via: if revision.is_multiple_of(2) {
            Via::Ibm
        } else {
            Via::System
        },
        request_id: format!("request {revision} \u{e4}"),
        operation: "create_vpc".to_owned(),
        objects: objects.iter().map(ToString::to_string).collect(),
    }
}

/// A batch of one revision.
fn batch(revision: u64, rows: Vec<RowChange>) -> Batch {
    let objects: Vec<RowKey> = rows.iter().map(RowChange::key).collect();
    Batch {
        expected: Revision(revision - 1),
        revision: Revision(revision),
        audit: vec![audit(revision, &objects)],
        rows,
        ..Batch::default()
    }
}

fn loaded(engine: &mut dyn Engine) -> (Revision, Vec<Row>) {
    let mut loaded = engine.load().unwrap();
    loaded.rows.sort_by_key(|row| row.key);
    (loaded.revision, loaded.rows)
}

fn starts_empty(backend: &dyn Backend) {
    let mut engine = backend.open();
    assert_eq!(loaded(&mut *engine), (Revision(0), vec![]));
    assert_eq!(engine.revision().unwrap(), Revision(0));
    assert_eq!(engine.audit(Revision(0), 10).unwrap(), vec![]);
    assert_eq!(engine.changes_after(Revision(0)).unwrap(), (Revision(0), vec![]));
    assert!(engine.token(account(1), "t").unwrap().is_none());
}

fn keeps_what_was_committed(backend: &dyn Backend) {
    let binary: Vec<u8> = (0..=255).collect();
    let secret = key(RecordKind::PreSharedKey, 3);
    let mut engine = backend.open();
    engine
        .commit(&batch(1, vec![put(vpc(1), 1, b"{}"), put(secret, 1, &binary)]))
        .unwrap();
    engine
        .commit(&batch(2, vec![put(vpc(1), 2, b"{\"a\":1}"), put(vpc(2), 2, b"")]))
        .unwrap();
    engine
        .commit(&batch(
            3,
            vec![RowChange::Delete(vpc(2)), RowChange::Delete(vpc(77))],
        ))
        .unwrap();
    let expected = (
        Revision(3),
        vec![row(vpc(1), 2, b"{\"a\":1}"), row(secret, 1, &binary)],
    );
    assert_eq!(loaded(&mut *engine), expected);
    drop(engine);
    let mut reopened = backend.open();
    assert_eq!(loaded(&mut *reopened), expected);
    assert_eq!(reopened.revision().unwrap(), Revision(3));
}

fn rows_of_different_kinds_do_not_meet(backend: &dyn Backend) {
    let mut engine = backend.open();
    let rows: Vec<RowChange> = RecordKind::ALL
        .iter()
        .map(|kind| put(key(*kind, 5), 1, kind.word().as_bytes()))
        .collect();
    engine.commit(&batch(1, rows)).unwrap();
    engine.commit(&batch(2, vec![RowChange::Delete(vpc(5))])).unwrap();
    let (_, rows) = loaded(&mut *engine);
    assert_eq!(rows.len(), RecordKind::ALL.len() - 1);
    for row in rows {
        assert_eq!(row.body, row.key.kind.word().as_bytes());
    }
}

fn refuses_another_revision_whole(backend: &dyn Backend) {
    let mut engine = backend.open();
    engine.commit(&batch(1, vec![put(vpc(1), 1, b"one")])).unwrap();
    for wrong in [1u64, 3, 9] {
        let mut late = batch(
            wrong,
            vec![put(vpc(1), wrong, b"late"), put(vpc(2), wrong, b"late")],
        );
        late.tokens.push(TokenRow {
            account: account(1),
            token: "late".to_owned(),
            at: Timestamp(1),
            body: vec![1],
        });
        let refused = engine.commit(&late);
        assert!(
            matches!(refused, Err(EngineError::Conflict { expected, found: Revision(1) }) if expected.0 == wrong - 1),
            "{refused:?}"
        );
    }
    assert_eq!(loaded(&mut *engine), (Revision(1), vec![row(vpc(1), 1, b"one")]));
    assert_eq!(engine.audit(Revision(0), 10).unwrap(), vec![audit(1, &[vpc(1)])]);
    assert!(engine.token(account(1), "late").unwrap().is_none());
}

fn two_writers_do_not_overwrite_each_other(backend: &dyn Backend) {
    let (mut first, mut second) = (backend.open(), backend.open());
    first.commit(&batch(1, vec![put(vpc(1), 1, b"first")])).unwrap();
    let refused = second.commit(&batch(1, vec![put(vpc(1), 1, b"second")]));
    assert!(
        matches!(refused, Err(EngineError::Conflict { .. })),
        "{refused:?}"
    );
    let (revision, changes) = second.changes_after(Revision(0)).unwrap();
    assert_eq!((revision, changes), (Revision(1), vec![put(vpc(1), 1, b"first")]));
    second.commit(&batch(2, vec![put(vpc(2), 2, b"second")])).unwrap();
    assert_eq!(first.revision().unwrap(), Revision(2));
    assert_eq!(
        loaded(&mut *first).1,
        vec![row(vpc(1), 1, b"first"), row(vpc(2), 2, b"second")]
    );
}

fn tells_what_changed_since_a_revision(backend: &dyn Backend) {
    let mut engine = backend.open();
    engine
        .commit(&batch(1, vec![put(vpc(1), 1, b"a"), put(vpc(2), 1, b"a")]))
        .unwrap();
    engine.commit(&batch(2, vec![put(vpc(3), 2, b"b")])).unwrap();
    engine
        .commit(&batch(3, vec![put(vpc(1), 3, b"c"), RowChange::Delete(vpc(3))]))
        .unwrap();
    let mut since = |revision| {
        let (now, mut changes) = engine.changes_after(Revision(revision)).unwrap();
        assert_eq!(now, Revision(3));
        changes.sort_by_key(RowChange::key);
        changes
    };
    let gone = RowChange::Delete(vpc(3));
    assert_eq!(
        since(0),
        vec![put(vpc(1), 3, b"c"), put(vpc(2), 1, b"a"), gone.clone()]
    );
    assert_eq!(since(1), vec![put(vpc(1), 3, b"c"), gone.clone()]);
    assert_eq!(since(2), vec![put(vpc(1), 3, b"c"), gone]);
    assert_eq!(since(3), vec![]);
}

fn lists_audit_records_in_order(backend: &dyn Backend) {
    let mut engine = backend.open();
    engine.commit(&batch(1, vec![put(vpc(1), 1, b"")])).unwrap();
    let group = Batch {
        expected: Revision(1),
        revision: Revision(4),
        rows: vec![put(vpc(2), 4, b"")],
        audit: (2..=4).map(|revision| audit(revision, &[vpc(2)])).collect(),
        ..Batch::default()
    };
    engine.commit(&group).unwrap();
    drop(engine);
    let mut engine = backend.open();
    let revisions =
        |records: Vec<AuditRecord>| -> Vec<u64> { records.iter().map(|record| record.revision.0).collect() };
    assert_eq!(revisions(engine.audit(Revision(0), 99).unwrap()), [1, 2, 3, 4]);
    assert_eq!(revisions(engine.audit(Revision(1), 2).unwrap()), [2, 3]);
    assert_eq!(
        revisions(engine.audit(Revision(4), 2).unwrap()),
        Vec::<u64>::new()
    );
    assert_eq!(engine.audit(Revision(2), 1).unwrap(), vec![audit(3, &[vpc(2)])]);
}

fn remembers_and_forgets_tokens(backend: &dyn Backend) {
    let token = |owner, name: &str, at| TokenRow {
        account: account(owner),
        token: name.to_owned(),
        at: Timestamp(at),
        body: vec![u8::try_from(at).unwrap(), 0, 255],
    };
    let mut engine = backend.open();
    let mut with_tokens = batch(1, vec![]);
    with_tokens.tokens = vec![token(1, "a", 10), token(2, "a", 20), token(1, "b", 30)];
    engine.commit(&with_tokens).unwrap();
    drop(engine);
    let mut engine = backend.open();
    assert_eq!(engine.token(account(1), "a").unwrap(), Some(token(1, "a", 10)));
    assert_eq!(engine.token(account(2), "a").unwrap(), Some(token(2, "a", 20)));
    assert_eq!(engine.token(account(2), "b").unwrap(), None);
    let mut sweep = batch(2, vec![]);
    sweep.forget_tokens_before = Some(Timestamp(20));
    sweep.tokens = vec![token(1, "b", 40), token(3, "old but new here", 5)];
    engine.commit(&sweep).unwrap();
    assert_eq!(engine.token(account(1), "a").unwrap(), None);
    assert_eq!(engine.token(account(2), "a").unwrap(), Some(token(2, "a", 20)));
    assert_eq!(engine.token(account(1), "b").unwrap(), Some(token(1, "b", 40)));
    assert!(engine.token(account(3), "old but new here").unwrap().is_some());
}

struct Memory(MemoryEngine);

impl Backend for Memory {
    fn open(&self) -> Box<dyn Engine> {
        Box::new(self.0.clone())
    }
}

struct Sqlite(tempfile::TempDir);

impl Backend for Sqlite {
    fn open(&self) -> Box<dyn Engine> {
        Box::new(SqliteEngine::open(&self.0.path().join("isthmus.db")).unwrap())
    }
}

macro_rules! conformance {
    ($($engine:ident = $backend:expr;)+) => {$(
        mod $engine {
            use super::*;

            conformance!(cases $backend; starts_empty, keeps_what_was_committed, rows_of_different_kinds_do_not_meet,
                refuses_another_revision_whole, two_writers_do_not_overwrite_each_other,
                tells_what_changed_since_a_revision, lists_audit_records_in_order, remembers_and_forgets_tokens);
        }
    )+};
    (cases $backend:expr; $($case:ident),+) => {$(
        #[test]
        fn $case() {
            super::$case(&$backend);
        }
    )+};
}

conformance! {
    memory = Memory(MemoryEngine::new());
    sqlite = Sqlite(tempfile::tempdir().unwrap());
}
