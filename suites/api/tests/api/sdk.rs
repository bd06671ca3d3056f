//! Unmodified Python SDKs from PyPI against the server.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use isthmus_api_suite::Server;

/// An SDK and the script that uses it.
struct Sdk {
    script: &'static str,
    package: &'static str,
    /// Packages that have to be there first, because the SDK is built from source.
    build_tools: &'static [&'static str],
}

const CURRENT: Sdk = Sdk {
    script: "scenario.py",
    package: "ibm-vpc==0.36.0",
    build_tools: &[],
};

const OLD: Sdk = Sdk {
    script: "flat.py",
    package: "ibm-vpc==0.10.0",
    build_tools: &["setuptools<70", "wheel"],
};

fn succeed(program: &Path, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{}: {error}", program.display()))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(format!(
            "{} {arguments:?}: {}",
            program.display(),
            String::from_utf8_lossy(&output.stderr)
        ))
    }
}

/// A Python environment with the SDK, made once and kept with the build.
fn python(sdk: &Sdk) -> Result<PathBuf, String> {
    let home = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(sdk.package.replace("==", "-"));
    let python = home.join("bin/python");
    let complete = home.join("complete");
    if complete.exists() {
        return Ok(python);
    }
    let home_text = home.to_string_lossy().into_owned();
    succeed(Path::new("python3"), &["-m", "venv", "--clear", &home_text])?;
    let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    if sdk.build_tools.is_empty() {
        succeed(&python, &[&install, [sdk.package].as_slice()].concat())?;
    } else {
        succeed(&python, &[&install, sdk.build_tools].concat())?;
        succeed(
            &python,
            &[&install, ["--no-build-isolation", sdk.package].as_slice()].concat(),
        )?;
    }
    std::fs::write(&complete, sdk.package).map_err(|error| error.to_string())?;
    Ok(python)
}

async fn run(sdk: &Sdk) {
    let python = match python(sdk) {
        Ok(python) => python,
        Err(reason) if std::env::var_os("ALLOW_SKIP").is_some_and(|value| value == "1") => {
            println!("skipped 1: {}: {reason}", sdk.script);
            return;
        }
        Err(reason) => panic!("{reason}\n(set ALLOW_SKIP=1 to skip this)"),
    };
    let mut server = Server::start().await.unwrap();
    let stranger = server.add_account("stranger").await.unwrap();
    server.play_host();
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../sdk")
        .join(sdk.script);
    let output = tokio::process::Command::new(python)
        .arg(script)
        .env("ISTHMUS_URL", format!("http://{}", server.address))
        .env("ISTHMUS_API_KEY", server.account.api_key.reveal())
        .env("ISTHMUS_OTHER_API_KEY", stranger.api_key.reveal())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    print!("{said}");
    assert!(
        output.status.success(),
        "{}: {}",
        sdk.script,
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        said.contains("checks passed"),
        "{} did not end as it should",
        sdk.script
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_current_sdk_builds_the_whole_scenario() {
    run(&CURRENT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_sdk_of_2022_reads_and_writes_the_flat_forms() {
    run(&OLD).await;
}
