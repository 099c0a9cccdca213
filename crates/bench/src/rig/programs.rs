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

/// Builds both programs as this one was built, and returns where they are.
pub(crate) fn build(server: Option<&Path>) -> anyhow::Result<Programs> {
    let bench = std::env::current_exe().context("cannot find this program")?;
    let folder = bench.parent().context("this program has a folder")?;
    let release = folder.ends_with("release");
    let mut command = Command::new(option_env!("CARGO").unwrap_or("cargo"));
    command.args([
        "build",
        "--quiet",
        "--locked",
        "-p",
        "coditect-server",
        "-p",
        "coditect",
    ]);
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
    let programs = Programs {
        server: server.map_or_else(|| folder.join("coditect-server"), Path::to_path_buf),
        client: folder.join("coditect"),
        bench: bench.clone(),
    };
    for path in [&programs.server, &programs.client] {
        if !path.is_file() {
            bail!("{} is missing", path.display());
        }
    }
    if !release {
        crate::report::note("warning: this is no release build; its figures mean nothing");
    }
    Ok(programs)
}
