//! The programs that are measured.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

/// Where the programs are.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    pub(crate) server: PathBuf,
    pub(crate) client: PathBuf,
    pub(crate) bench: PathBuf,
}

impl Programs {
    /// Returns whether this program is a release build.
    pub(crate) fn is_release(&self) -> bool {
        self.bench
            .parent()
            .is_some_and(|own| own.ends_with("release"))
    }
}

/// Returns the programs in a folder; without one builds those of this workspace, as this one was
/// built.
pub(crate) fn find(folder: Option<&Path>) -> anyhow::Result<Programs> {
    let bench = std::env::current_exe().context("cannot find this program")?;
    let own = bench.parent().context("this program has a folder")?;
    let release = own.ends_with("release");
    if folder.is_none() {
        build(release)?;
    }
    let folder = folder.unwrap_or(own);
    let programs = Programs {
        server: folder.join("coditect-server"),
        client: folder.join("coditect"),
        bench: bench.clone(),
    };
    for path in [&programs.server, &programs.client] {
        if !path.is_file() {
            bail!("{} is missing", path.display());
        }
    }
    if !release {
        crate::report::note("warning: this may be no release build; then its figures mean nothing");
    }
    Ok(programs)
}

fn build(release: bool) -> anyhow::Result<()> {
    // By its name, so that the workspace's own toolchain is used.
    let mut command = Command::new("cargo");
    command.args(["build", "--quiet", "--locked"]);
    command.args(["-p", "coditect-server", "-p", "coditect"]);
    if release {
        command.arg("--release");
    }
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let status = command
        .current_dir(manifest)
        .status()
        .context("running cargo")?;
    if !status.success() {
        bail!("the programs do not build");
    }
    Ok(())
}
