//! A process that is killed at a random moment loses nothing that it acknowledged and leaves nothing half done.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod support;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use isthmus_model::Snapshot;
use isthmus_ops::{Operation, Outcome};
use isthmus_types::Revision;

use support::*;

const ROUNDS: u64 = 8;
const CHILD_DIRECTORY: &str = "ISTHMUS_STORE_CRASH_DIRECTORY";
const CHILD_ROUND: &str = "ISTHMUS_STORE_CRASH_ROUND";
const TASKS: usize = 16;

/// The same test is the parent and, with the variables set, the child that is killed.
#[test]
fn kill_at_any_moment_loses_no_acknowledged_operation() {
    if let (Some(directory), Some(round)) = (std::env::var_os(CHILD_DIRECTORY), std::env::var_os(CHILD_ROUND))
    {
        write_until_killed(&PathBuf::from(directory), round.to_str().unwrap());
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut acknowledged = BTreeSet::new();
    for round in 0..ROUNDS {
        let mut child = KillOnDrop(spawn_child(directory.path(), round));
        let lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
        // A different number each round, so that the kill meets different moments.
        let wanted = 20 + 37 * usize::try_from(round).unwrap();
        let mut seen = 0;
        for line in lines {
            let line = line.unwrap();
            let Some(name) = line.split("made ").nth(1) else {
                continue;
            };
            acknowledged.insert(name.to_owned());
            seen += 1;
            if seen == wanted {
                // What comes out of the pipe after this was acknowledged as well.
                child.0.kill().unwrap();
            }
        }
        child.0.wait().unwrap();
        assert!(
            seen >= wanted,
            "the child ended by itself after {seen} operations"
        );
        check(directory.path(), &acknowledged, usize::try_from(round).unwrap());
    }
}

struct KillOnDrop(Child);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn spawn_child(directory: &Path, round: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "kill_at_any_moment_loses_no_acknowledged_operation",
            "--nocapture",
        ])
        .env(CHILD_DIRECTORY, directory)
        .env(CHILD_ROUND, round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn write_until_killed(directory: &Path, round: &str) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    runtime.block_on(async {
        let store = open(directory);
        if store.snapshot().accounts().next().is_none() {
            store.execute(create_account()).await.unwrap();
        }
        let tasks: Vec<_> = (0..TASKS)
            .map(|task| {
                let store = store.clone();
                let round = round.to_owned();
                tokio::spawn(async move {
                    for number in 0u64.. {
                        let name = format!("vpc-{round}-{task}-{number}");
                        let made = vpc(&store, &name).await;
                        acknowledge(&name);
                        if number.is_multiple_of(3) {
                            let subnet = subnet(&store, made.id, "10.240.0.0/24").await;
                            acknowledge(&format!("{name}/{}", subnet.id));
                        }
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
}

// One write per line: a line is there whole or not at all.
fn acknowledge(what: &str) {
    std::io::stdout()
        .lock()
        .write_all(format!("made {what}\n").as_bytes())
        .unwrap();
}

fn check(directory: &Path, acknowledged: &BTreeSet<String>, earlier_checks: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let store = open(directory);
        let snapshot = store.snapshot();
        let rebuilt = Snapshot::from_records(settings(), snapshot.revision(), snapshot.records());
        assert_eq!(*snapshot, rebuilt);
        let mut found = BTreeSet::new();
        for vpc in snapshot.vpcs() {
            found.insert(vpc.meta.name.to_string());
            for subnet in snapshot.subnets_of(vpc.id) {
                found.insert(format!("{}/{}", vpc.meta.name, subnet.id));
            }
            // All of a VPC is there, or none of it.
            assert!(snapshot.network_acl(vpc.default_acl).is_some());
            assert!(snapshot.security_group(vpc.default_security_group).is_some());
            assert!(snapshot.route_table(vpc.default_route_table).is_some());
            assert_eq!(snapshot.prefixes_of(vpc.id).count(), 3);
        }
        let lost: Vec<_> = acknowledged.difference(&found).collect();
        assert!(lost.is_empty(), "lost {lost:?}");
        let vpcs = snapshot.vpcs().count();
        let subnets = found.len() - vpcs;
        assert_eq!(
            snapshot.record_count(),
            3 + vpcs * 7 + subnets,
            "something is there in part"
        );
        let audit = store.audit(Revision(0), usize::MAX).await.unwrap();
        assert_eq!(
            audit.len() as u64,
            snapshot.revision().0,
            "each revision has its audit record"
        );
        assert_eq!(audit.len(), 1 + vpcs + subnets + 2 * earlier_checks);
        // And it can be written again.
        let name = format!("check-{}", snapshot.revision());
        let made = vpc(&store, &name).await;
        let delete = Operation::DeleteVpc(isthmus_ops::DeleteVpc {
            vpc: made.id,
            if_match: None,
        });
        assert_eq!(store.execute(request(delete)).await.unwrap(), Outcome::Done);
        store.close().await;
    });
}
