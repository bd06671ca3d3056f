//! What cargo knows about the workspace.

use std::path::PathBuf;

use anyhow::{Context, bail};
use serde_json::Value;

use crate::command;

/// The workspace.
pub struct Workspace {
    /// Where cargo builds.
    pub target: PathBuf,
    /// Its packages.
    pub packages: Vec<Package>,
}

/// A package of the workspace.
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its manifest.
    pub manifest: PathBuf,
    /// Its direct dependencies.
    pub dependencies: Vec<Dependency>,
    /// Whether it has an executable.
    pub executable: bool,
}

/// A direct dependency.
pub struct Dependency {
    /// Name of the package.
    pub name: String,
    /// Whether only tests, examples and benchmarks use it.
    pub dev: bool,
    /// Whether it is a package of this workspace.
    pub ours: bool,
}

/// Asks cargo.
pub fn read() -> anyhow::Result<Workspace> {
    let output = command::cargo(["metadata", "--format-version=1", "--no-deps", "--locked"])
        .output()
        .context("cargo metadata could not be started")?;
    if !output.status.success() {
        bail!(
            "cargo metadata failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    parse(&serde_json::from_slice(&output.stdout).context("cargo metadata did not answer in JSON")?)
}

fn parse(document: &Value) -> anyhow::Result<Workspace> {
    let packages = list(document, "packages")
        .map(|package| {
            Ok(Package {
                name: text(package, "name")?,
                manifest: text(package, "manifest_path")?.into(),
                dependencies: list(package, "dependencies")
                    .map(|dependency| {
                        Ok(Dependency {
                            name: text(dependency, "name")?,
                            dev: dependency["kind"] == "dev",
                            ours: !dependency["path"].is_null(),
                        })
                    })
                    .collect::<anyhow::Result<_>>()?,
                executable: list(package, "targets")
                    .any(|target| list(target, "kind").any(|kind| kind == "bin")),
            })
        })
        .collect::<anyhow::Result<_>>()?;
    Ok(Workspace {
        target: text(document, "target_directory")?.into(),
        packages,
    })
}

fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value[key].as_array().into_iter().flatten()
}

fn text(value: &Value, key: &str) -> anyhow::Result<String> {
    value[key]
        .as_str()
        .map(str::to_owned)
        .with_context(|| format!("cargo metadata has no {key}"))
}
