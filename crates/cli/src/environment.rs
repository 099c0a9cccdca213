//! The environment, read once at start. Everything else receives values.

use std::path::PathBuf;

use coditect_capture::{Format, Root};

/// What the environment says.
#[derive(Clone, Default)]
pub(crate) struct Environment {
    /// `CODITECT_HOME`, else `HOME`.
    pub(crate) home: Option<PathBuf>,
    /// `HOME`.
    pub(crate) user_home: Option<PathBuf>,
    /// `XDG_CONFIG_HOME`.
    pub(crate) config_home: Option<PathBuf>,
    /// `CODITECT_EMAIL`.
    pub(crate) email: Option<String>,
    /// `CODITECT_PASSWORD`.
    pub(crate) password: Option<String>,
    /// `CODITECT_ACCESS_TOKEN`.
    pub(crate) access_token: Option<String>,
    /// `CODITECT_TENANT_ID`.
    pub(crate) tenant_id: Option<String>,
    /// `CODITECT_OFFLINE`; none when it is not set.
    pub(crate) offline: Option<bool>,
    /// `CLAUDE_CONFIG_DIR`, else `HOME/.claude`.
    pub(crate) claude_dir: Option<PathBuf>,
    /// `CODEX_HOME`, else `HOME/.codex`.
    pub(crate) codex_dir: Option<PathBuf>,
    /// `.gemini` in `GEMINI_CLI_HOME`, else in `HOME`.
    pub(crate) gemini_dir: Option<PathBuf>,
    /// `NO_COLOR` is set.
    pub(crate) no_color: bool,
    /// `HOSTNAME`, or what the system says.
    pub(crate) host: Option<String>,
}

impl Environment {
    /// Returns the agents' folders, whether they are there or not.
    pub(crate) fn agents(&self) -> Vec<Root> {
        let all = [
            (Format::Claude, &self.claude_dir),
            (Format::Codex, &self.codex_dir),
            (Format::Gemini, &self.gemini_dir),
        ];
        let known = all.into_iter();
        known
            .filter_map(|(format, folder)| Some(Root::new(format, folder.clone()?)))
            .collect()
    }

    /// Reads the process's environment.
    #[expect(
        clippy::disallowed_methods,
        reason = "the configuration module of this program"
    )]
    pub(crate) fn from_process() -> Self {
        let text = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let path = |name: &str| {
            let value = std::env::var_os(name).filter(|value| !value.is_empty());
            value.map(PathBuf::from)
        };
        let claude_home = || Some(path("HOME")?.join(".claude"));
        let host_file = || std::fs::read_to_string("/etc/hostname").ok();
        Self {
            home: path("CODITECT_HOME").or_else(|| path("HOME")),
            user_home: path("HOME"),
            config_home: path("XDG_CONFIG_HOME"),
            email: text("CODITECT_EMAIL"),
            password: text("CODITECT_PASSWORD"),
            access_token: text("CODITECT_ACCESS_TOKEN"),
            tenant_id: text("CODITECT_TENANT_ID"),
            offline: text("CODITECT_OFFLINE").map(|value| is_true(&value)),
            claude_dir: path("CLAUDE_CONFIG_DIR").or_else(claude_home),
            codex_dir: path("CODEX_HOME").or_else(|| Some(path("HOME")?.join(".codex"))),
            gemini_dir: path("GEMINI_CLI_HOME")
                .or_else(|| path("HOME"))
                .map(|home| home.join(".gemini")),
            no_color: text("NO_COLOR").is_some(),
            host: text("HOSTNAME")
                .or_else(host_file)
                .map(|name| name.trim().to_owned())
                .filter(|name| !name.is_empty()),
        }
    }
}

/// The little that a hook needs of the environment.
#[derive(Clone, Debug, Default)]
pub(crate) struct HookEnvironment {
    /// `CODITECT_HOME`, else `HOME`.
    pub(crate) home: Option<PathBuf>,
    /// `CLAUDE_PROJECT_DIR`, where the session began.
    pub(crate) project: Option<PathBuf>,
    /// `CODITECT_HOOKS` says off.
    pub(crate) off: bool,
}

impl HookEnvironment {
    /// Reads the process's environment.
    #[expect(
        clippy::disallowed_methods,
        reason = "the configuration module of this program"
    )]
    pub(crate) fn from_process() -> Self {
        let path = |name: &str| {
            let value = std::env::var_os(name).filter(|value| !value.is_empty());
            value.map(PathBuf::from)
        };
        let off = std::env::var("CODITECT_HOOKS").is_ok_and(|value| {
            matches!(
                value.trim().to_ascii_lowercase().as_str(),
                "0" | "false" | "no" | "off"
            )
        });
        Self {
            home: path("CODITECT_HOME").or_else(|| path("HOME")),
            project: path("CLAUDE_PROJECT_DIR"),
            off,
        }
    }
}

/// Returns whether a switch's value means on.
fn is_true(value: &str) -> bool {
    matches!(
        value.trim().to_ascii_lowercase().as_str(),
        "1" | "true" | "yes" | "on"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_are_on_only_when_they_say_so() {
        assert!(
            ["1", "true", "TRUE", " yes ", "on"]
                .into_iter()
                .all(is_true)
        );
        assert!(
            !["0", "false", "no", "off", "perhaps"]
                .into_iter()
                .any(is_true)
        );
    }
}
