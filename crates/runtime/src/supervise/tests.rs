use std::sync::Arc;

use tokio::sync::mpsc;

use super::*;

/// A child that holds its pid file as ours do: 37 is `F_OFD_SETLK`, the structure is `struct flock`.
const HOLDER: &str = "
import fcntl, os, struct, sys, time
f = open(sys.argv[1], 'a+')
fcntl.fcntl(f, 37, struct.pack('hhqqi4x', fcntl.F_WRLCK, 0, 0, 0, 0))
f.truncate(0)
f.write('%d\\n\\n' % os.getpid())
f.flush()
time.sleep(1000)
";

fn holder(directory: &Path) -> ChildSpec {
    let pid_file = directory.join("child.pid");
    ChildSpec {
        name: "child",
        program: PathBuf::from("/usr/bin/python3"),
        arguments: vec!["-c".into(), HOLDER.into(), pid_file.clone().into()],
        log: directory.join("child.log"),
        pid_file,
    }
}

fn start(
    spec: &ChildSpec,
    at_shutdown: AtShutdown,
) -> (
    Shutdown,
    mpsc::UnboundedReceiver<SupervisionEvent>,
    tokio::task::JoinHandle<()>,
) {
    let shutdown = Shutdown::new();
    let (sender, receiver) = mpsc::unbounded_channel();
    let sender = Arc::new(sender);
    let task = tokio::spawn(supervise(
        spec.clone(),
        at_shutdown,
        shutdown.clone(),
        move |event| {
            let _ = sender.send(event);
        },
    ));
    (shutdown, receiver, task)
}

async fn next(events: &mut mpsc::UnboundedReceiver<SupervisionEvent>) -> SupervisionEvent {
    timeout(Duration::from_secs(20), events.recv())
        .await
        .expect("an event comes in time")
        .expect("the supervisor lives")
}

async fn held(spec: &ChildSpec) -> i32 {
    timeout(Duration::from_secs(20), async {
        loop {
            if let Some(pid) = running(&spec.pid_file).unwrap() {
                return pid;
            }
            sleep(POLL).await;
        }
    })
    .await
    .expect("the child takes its pid file in time")
}

fn ended(event: SupervisionEvent) -> (String, Duration) {
    let SupervisionEvent::Ended { how, retry_in } = event else {
        panic!("{event:?}");
    };
    (how, retry_in)
}

#[tokio::test]
async fn a_killed_child_is_started_again_and_stopped_at_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let spec = holder(directory.path());
    let (shutdown, mut events, task) = start(&spec, AtShutdown::Stop);
    assert!(matches!(
        next(&mut events).await,
        SupervisionEvent::Started { .. }
    ));
    let first = held(&spec).await;
    signal(first, Signal::SIGKILL).unwrap();
    let (how, retry_in) = ended(next(&mut events).await);
    assert!(how.contains("SIGKILL"), "{how}");
    assert_eq!(retry_in, Duration::ZERO);
    assert!(matches!(
        next(&mut events).await,
        SupervisionEvent::Started { .. }
    ));
    let second = held(&spec).await;
    assert_ne!(first, second);
    shutdown.trigger();
    assert_eq!(next(&mut events).await, SupervisionEvent::Stopped);
    task.await.unwrap();
    assert_eq!(running(&spec.pid_file).unwrap(), None);
}

#[tokio::test]
async fn a_child_that_outlived_its_supervisor_is_adopted_and_one_with_other_arguments_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let spec = holder(directory.path());
    let (shutdown, mut events, task) = start(&spec, AtShutdown::Leave);
    assert!(matches!(
        next(&mut events).await,
        SupervisionEvent::Started { .. }
    ));
    let pid = held(&spec).await;
    shutdown.trigger();
    task.await.unwrap();

    let (shutdown, mut events, task) = start(&spec, AtShutdown::Leave);
    assert_eq!(next(&mut events).await, SupervisionEvent::Adopted { pid });
    shutdown.trigger();
    task.await.unwrap();

    let mut changed = spec.clone();
    changed.arguments.push("--other".into());
    let (shutdown, mut events, task) = start(&changed, AtShutdown::Stop);
    assert!(matches!(
        next(&mut events).await,
        SupervisionEvent::Started { .. }
    ));
    assert_ne!(held(&changed).await, pid);
    shutdown.trigger();
    task.await.unwrap();
    assert_eq!(running(&spec.pid_file).unwrap(), None);
}

#[tokio::test]
async fn a_program_that_cannot_start_is_tried_again_ever_more_slowly() {
    let directory = tempfile::tempdir().unwrap();
    let mut spec = holder(directory.path());
    spec.program = PathBuf::from("/nonexistent/program");
    let (shutdown, mut events, task) = start(&spec, AtShutdown::Stop);
    let mut waits = Vec::new();
    for _ in 0..3 {
        waits.push(ended(next(&mut events).await).1);
    }
    assert_eq!(waits, [Duration::ZERO, RETRY_FIRST, RETRY_FIRST * 2]);
    shutdown.trigger();
    task.await.unwrap();
}
