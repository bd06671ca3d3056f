//! Processes are killed without warning.

use std::time::Duration;

use anyhow::{Result, ensure};
use isthmus_client::{NewVpc, PrefixManagement};
use isthmus_netlab::{Ping, eventually};
use isthmus_system::{Pair, System};

const PINGS: u64 = 1000;
const INTERVAL: Duration = Duration::from_millis(5);

#[test]
fn killing_server_or_agent_loses_no_packet() -> Result<()> {
    let mut system = System::start()?;
    let pair = Pair::joined(&system, "kill")?;
    let node = pair.node(&system, 0, 0)?;
    let target = pair.sites[1].addresses[0];
    Ping::until_answered(&node, target)?;
    for process in ["server", "agent"] {
        let ping = Ping::start(&node, target, INTERVAL)?;
        ping.wait_for_more(100)?;
        let old = system.kill(process)?;
        let new = system.wait_for_successor(process, old)?;
        ping.wait_for_more(PINGS - 100)?;
        let count = ping.finish()?;
        println!(
            "{process} {old} killed, {new} took over: {} pings, {} lost",
            count.sent,
            count.lost()
        );
        ensure!(count.lost() == 0, "killing the {process} lost packets: {count:?}");
        system.connect()?;
        pair.wait_until_up(&system)?;
    }
    // The truth after a restart: what is taken away turns up.
    let mut pair = pair;
    pair.disconnect(&system, 1)?;
    eventually("a connection whose peer is gone to read down", || {
        let site = &pair.sites[0];
        let connection = site.connection.as_ref().expect("the first connection stays");
        let seen = system.call(|client| client.connection(&site.gateway, connection))?;
        ensure!(!seen.is_up(), "still up");
        Ok(())
    })?;
    system.stop()
}

#[test]
fn traffic_is_back_after_the_tunnel_daemon_was_killed() -> Result<()> {
    let mut system = System::start()?;
    let pair = Pair::joined(&system, "daemon")?;
    let node = pair.node(&system, 0, 0)?;
    let target = pair.sites[1].addresses[0];
    Ping::until_answered(&node, target)?;
    let ping = Ping::start(&node, target, INTERVAL)?;
    ping.wait_for_more(100)?;
    let old = system.kill("tunneld")?;
    system.wait_for_successor("tunneld", old)?;
    Ping::until_answered(&node, target)?;
    ping.wait_for_more(100)?;
    let count = ping.finish()?;
    println!(
        "tunnel daemon killed: silent for {:?}, {} of {} lost",
        count.longest_silence,
        count.lost(),
        count.sent
    );
    ensure!(count.longest_silence < Duration::from_secs(2), "{count:?}");
    pair.wait_until_up(&system)?;
    system.stop()
}

#[test]
fn everything_killed_at_once_is_removed_by_down() -> Result<()> {
    let mut system = System::start()?;
    let _pair = Pair::joined(&system, "down")?;
    let namespaces = system.namespaces()?;
    ensure!(
        namespaces.len() >= 7,
        "internet, two routers, four instances: {namespaces:?}"
    );
    system.kill_up()?;
    for process in ["server", "agent", "tunneld"] {
        if system.pid(process).is_ok() {
            system.kill(process)?;
        }
    }
    system.isthmus(&["down"])?;
    system.nothing_left()
}

#[test]
fn every_acknowledged_object_survives_a_killed_server() -> Result<()> {
    const ROUNDS: u32 = 50;
    const CREATES: u32 = 200;
    let mut system = System::start_with("[quotas]\nvpcs = 100000\n")?;
    let mut acknowledged = Vec::new();
    let mut unanswered = 0;
    for round in 0..ROUNDS {
        let old = system.pid("server")?;
        let (runtime, client) = system.parts();
        let outcome = runtime.block_on(async {
            let calls = (0..CREATES).map(|number| async move {
                let name = format!("v-{round}-{number}");
                let new = NewVpc {
                    name: Some(name.clone()),
                    address_prefix_management: PrefixManagement::Manual,
                };
                client
                    .create_vpc(&new)
                    .await
                    .ok()
                    .map(|vpc| (name, vpc.id.to_string()))
            });
            // The moment of death moves through the whole of the work from round to round.
            let death = async {
                tokio::time::sleep(Duration::from_millis(u64::from(round * 7 % 120))).await;
                system.kill("server")
            };
            let (answers, killed) = tokio::join!(join_all(calls), death);
            killed.map(|_| answers)
        })?;
        unanswered += outcome.iter().filter(|answer| answer.is_none()).count();
        acknowledged.extend(outcome.into_iter().flatten());
        system.wait_for_successor("server", old)?;
        system.connect()?;
    }
    let seen = system.call(isthmus_client::Client::vpcs)?;
    let by_id: std::collections::BTreeMap<_, _> = seen.iter().map(|vpc| (vpc.id.to_string(), vpc)).collect();
    for (name, id) in &acknowledged {
        let vpc = by_id.get(id.as_str());
        ensure!(
            vpc.is_some_and(|vpc| vpc.name == *name),
            "acknowledged {name} ({id}) is gone"
        );
    }
    for vpc in &seen {
        for part in [
            "default_network_acl",
            "default_security_group",
            "default_routing_table",
        ] {
            ensure!(
                vpc.rest.get(part).is_some_and(|part| part["id"].is_string()),
                "{} has no {part}",
                vpc.name
            );
        }
    }
    println!(
        "{ROUNDS} kills during {CREATES} creates each: {} acknowledged and all there, {unanswered} unanswered, {} in all",
        acknowledged.len(),
        seen.len()
    );
    ensure!(
        !acknowledged.is_empty() && unanswered > 0,
        "the kills did not hit the work"
    );
    system.stop()
}

async fn join_all<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut pinned: Vec<_> = futures
        .into_iter()
        .map(|future| (Box::pin(future), None))
        .collect();
    std::future::poll_fn(|context| {
        let mut waiting = false;
        for (future, output) in &mut pinned {
            if output.is_none() {
                match future.as_mut().poll(context) {
                    std::task::Poll::Ready(value) => *output = Some(value),
                    std::task::Poll::Pending => waiting = true,
                }
            }
        }
        if waiting {
            std::task::Poll::Pending
        } else {
            std::task::Poll::Ready(())
        }
    })
    .await;
    pinned.into_iter().filter_map(|(_, output)| output).collect()
}
