//! `isthmus up` and `isthmus down` on this machine, with every process killed in turn. Needs root.

mod installation;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use installation::{BINARY, Installation, text};
use isthmus_client::{NewVpc, PrefixManagement};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

#[test]
fn everything_is_found_again_after_every_process_was_killed() {
    let mut lab = Installation::new("ud");
    lab.up();
    lab.eventually("the words about the credentials", || {
        lab.output().contains("credentials.toml").then_some(())
    });
    let vpc = NewVpc {
        name: Some("kept".to_owned()),
        address_prefix_management: PrefixManagement::Manual,
    };
    lab.runtime
        .block_on(lab.client().unwrap().create_vpc(&vpc))
        .unwrap();
    let url = fs::read_to_string(lab.layout.api_url()).unwrap();
    lab.eventually("the private internet", || {
        (!lab.namespaces().is_empty()).then_some(())
    });

    for process in ["server", "agent"] {
        lab.replace(process);
        assert_eq!(lab.vpcs(), ["kept"]);
    }
    assert_eq!(
        fs::read_to_string(lab.layout.api_url()).unwrap(),
        url,
        "clients find the API where it was"
    );

    // Its children outlive it, and the next one adopts them.
    let children = [lab.pid("server"), lab.pid("agent")];
    lab.kill_up();
    assert_eq!(lab.vpcs(), ["kept"]);
    lab.up();
    lab.eventually("the children to be adopted", || {
        (lab.output().matches("found at work").count() == 2).then_some(())
    });
    assert_eq!([lab.pid("server"), lab.pid("agent")], children);

    // Ctrl-C leaves the database and nothing else.
    kill(Pid::from_raw(lab.pid("up").unwrap()), Signal::SIGINT).unwrap();
    assert!(lab.wait_for_end(), "{}", lab.output());
    lab.assert_nothing_left();
    lab.up();
    assert_eq!(lab.vpcs(), ["kept"]);
}

#[test]
fn down_removes_everything_whatever_was_killed_and_may_be_repeated() {
    let mut lab = Installation::new("dn");
    lab.up();
    lab.eventually("the private internet", || {
        (!lab.namespaces().is_empty()).then_some(())
    });
    lab.kill_up();
    for process in ["server", "agent"] {
        let pid = lab.pid(process).unwrap();
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        lab.eventually("its end", || lab.pid(process).is_none().then_some(()));
    }
    assert!(!lab.namespaces().is_empty());
    for _ in 0..2 {
        let down = lab.run(&["down"]);
        assert!(down.status.success(), "{}", text(&down.stderr));
    }
    lab.assert_nothing_left();
    assert!(lab.layout.database().exists());

    // Down also ends an up that is at work.
    lab.up();
    assert!(lab.run(&["down"]).status.success());
    assert!(lab.wait_for_end(), "{}", lab.output());
    lab.assert_nothing_left();
    assert!(lab.run(&["down", "--purge"]).status.success());
    assert!(!lab.layout.root().exists());
}

#[test]
fn a_realm_is_up_once_on_a_machine() {
    let mut lab = Installation::new("tw");
    lab.up();
    let other = lab.directory.path().join("other");
    for directory in [lab.layout.root(), other.as_path()] {
        let second = Command::new(BINARY)
            .args(["up", "--listen", "127.0.0.1:0", "--realm", lab.realm.as_str()])
            .arg("--state-dir")
            .arg(directory)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let words = text(&second.stderr);
        assert!(!second.status.success());
        assert!(
            words.contains("is up already") && words.contains("--realm"),
            "{words}"
        );
        assert_eq!(words.lines().count(), 1, "{words}");
    }
    // After a kill of `up`, its agent still works: another directory may not take the realm over.
    lab.kill_up();
    let second = Command::new(BINARY)
        .args(["up", "--listen", "127.0.0.1:0", "--realm", lab.realm.as_str()])
        .arg("--state-dir")
        .arg(&other)
        .output()
        .unwrap();
    let words = text(&second.stderr);
    assert!(
        !second.status.success() && words.contains("still works"),
        "{words}"
    );
    assert_eq!(lab.vpcs(), Vec::<String>::new());
}

#[test]
fn what_cannot_work_is_said_in_one_line() {
    let lab = Installation::new("no");
    let config = lab.directory.path().join("config.toml");
    fs::write(&config, "zonse = []\n").unwrap();
    let up = lab
        .command(&["up", "--realm", lab.realm.as_str()])
        .arg("--config")
        .arg(&config)
        .output()
        .unwrap();
    let words = text(&up.stderr);
    assert!(!up.status.success() && words.contains("zonse"), "{words}");
    assert!(lab.namespaces().is_empty());
    let up = lab.command(&["up", "--realm", "Not-A-Realm"]).output().unwrap();
    assert!(text(&up.stderr).contains("Not-A-Realm"));
}

#[test]
fn down_takes_the_realm_from_the_state_directory_and_touches_no_other() {
    let mut lab = Installation::new("rd");
    let elsewhere = lab.directory.path().join("elsewhere");
    let down = |directory: &Path, more: &[&str]| {
        Command::new(BINARY)
            .args(["down", "--state-dir", directory.to_str().unwrap()])
            .args(more)
            .env_remove("ISTHMUS_CONFIG")
            .output()
            .unwrap()
    };
    lab.up();
    lab.eventually("the private internet", || {
        (!lab.namespaces().is_empty()).then_some(())
    });
    // A directory that was never up has nothing to take down, and no realm is guessed.
    let idle = down(&elsewhere, &[]);
    assert!(idle.status.success() && text(&idle.stdout).contains("nothing is up in"));
    // Nor is a realm taken from the directory that has it up, nor the wrong one from this one.
    for (directory, realm, words) in [
        (
            elsewhere.as_path(),
            lab.realm.as_str(),
            "is up with the state directory",
        ),
        (lab.layout.root(), "another", "holds the realm"),
    ] {
        let refused = down(directory, &["--realm", realm]);
        assert!(!refused.status.success());
        assert!(text(&refused.stderr).contains(words), "{}", text(&refused.stderr));
    }
    assert_eq!(lab.vpcs(), Vec::<String>::new());
    assert!(!lab.namespaces().is_empty());

    let ended = lab.run(&["down"]);
    assert!(text(&ended.stdout).contains(&format!("realm {} is down", lab.realm)));
    assert!(lab.wait_for_end(), "{}", lab.output());
    lab.assert_nothing_left();
    let again = lab.run(&["down"]);
    assert!(again.status.success() && text(&again.stdout).contains("nothing is up in"));
}
