//! Measurements that other rigs of the workspace make: they are built, run on the same programs,
//! and what they print becomes lines of the report.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};

use super::Plan;
use crate::report::{Budget, Line, Report};

/// An example of the end-to-end crate.
pub(crate) struct Rig {
    /// Name of the benchmark.
    pub(crate) name: &'static str,
    example: &'static str,
    /// Settings of a whole and of a quick run.
    whole: &'static [(&'static str, &'static str)],
    quick: &'static [(&'static str, &'static str)],
    read: fn(&str, &mut Report) -> usize,
}

/// All of them.
pub(crate) const ALL: [Rig; 2] = [
    Rig {
        name: "sockets",
        example: "idle_sockets",
        whole: &[("IDLE_SOCKETS", "1000")],
        quick: &[("IDLE_SOCKETS", "100")],
        read: read_sockets,
    },
    Rig {
        name: "latency",
        example: "latency",
        whole: &[
            ("LATENCY_DEVICES", "100"),
            ("LATENCY_ROUNDS", "100"),
            ("LATENCY_IDLE_SECONDS", "5"),
        ],
        quick: &[
            ("LATENCY_DEVICES", "10"),
            ("LATENCY_ROUNDS", "12"),
            ("LATENCY_IDLE_SECONDS", "2"),
        ],
        read: read_latency,
    },
];

impl Rig {
    /// Builds and runs the example beside this program.
    pub(crate) fn run(&self, plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
        let release = plan.programs.is_release();
        let mut build = Command::new("cargo");
        build.args(["build", "--quiet", "--locked", "-p", "coditect-end-to-end"]);
        build.args(["--example", self.example]);
        build.args(release.then_some("--release"));
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        let built = build
            .current_dir(manifest)
            .status()
            .context("running cargo")?;
        ensure!(
            built.success(),
            "the example {} does not build",
            self.example
        );
        let program = plan
            .programs
            .bench
            .with_file_name("examples")
            .join(self.example);
        let settings = if plan.quick { self.quick } else { self.whole };
        let folder = plan
            .programs
            .server
            .parent()
            .context("a program has a folder")?;
        let ran = Command::new(&program)
            .envs(settings.iter().copied())
            .env("CODITECT_TEST_PROGRAMS", folder)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .with_context(|| format!("running {}", program.display()))?;
        let text = String::from_utf8_lossy(&ran.stdout);
        report.fact(format!("printed by {}", self.example), text.trim());
        ensure!(ran.status.success(), "{} failed", self.example);
        ensure!(
            (self.read)(&text, report) > 0,
            "{} printed no figure",
            self.example
        );
        Ok(())
    }
}

/// Reads lines as `server with 1000 idle clients: 43.1 MB`.
fn read_sockets(text: &str, report: &mut Report) -> usize {
    let mut found = 0;
    for line in text.lines() {
        let Some((what, value)) = line.rsplit_once(": ") else {
            continue;
        };
        let Some(megabytes) = value
            .strip_suffix(" MB")
            .and_then(|value| value.parse().ok())
        else {
            continue;
        };
        let mut line = Line::new(format!("resident memory, {what}"), "MB", megabytes);
        if what.contains("idle clients") {
            line = line.within(Budget::AtMost(64.0));
        }
        report.add(line);
        found += 1;
    }
    found
}

/// Reads lines as `three machines: 600 arrivals, 0 lost; p50 4.1 ms, p90 …, p99 9.0 ms, max …`.
fn read_latency(text: &str, report: &mut Report) -> usize {
    let mut found = 0;
    for line in text.lines() {
        let value = |name: &str| -> Option<f64> {
            let rest = line.split_once(name)?.1.trim_start();
            rest.split_whitespace().next()?.parse().ok()
        };
        let (Some(p50), Some(p99)) = (value("p50"), value("p99")) else {
            continue;
        };
        let what = line.split(':').next().unwrap_or_default();
        for (name, value, most) in [("p50", p50, 20.0), ("p99", p99, 100.0)] {
            let line = Line::new(format!("change to visible, {what}, {name}"), "ms", value);
            report.add(line.within(Budget::AtMost(most)));
        }
        found += 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_the_rigs_are_read() {
        let mut report = Report::default();
        let sockets = "server (release) before: 12.0 MB\nserver with 100 idle clients: 20.5 MB\n";
        assert_eq!(read_sockets(sockets, &mut report), 2);
        let latency = "all machines: 9 arrivals, 0 lost; p50 1.5 ms, p90 2.0 ms, p99 20.0 ms\n";
        assert_eq!(read_latency(latency, &mut report), 1);
        assert_eq!(read_latency("nothing\n", &mut report), 0);
        let json = report.json();
        assert!(
            json.contains("20.5") && json.contains("all machines, p99"),
            "{json}"
        );
    }
}
