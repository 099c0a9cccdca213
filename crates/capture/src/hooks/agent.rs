//! The agent programs whose hooks are understood, and what each calls its events.

use std::str::FromStr;

/// An agent program.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Agent {
    /// Claude Code.
    #[default]
    Claude,
    /// Codex CLI.
    Codex,
    /// Gemini CLI.
    Gemini,
}

/// There are no hooks of such an agent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no agent '{0}' is known: claude, codex, gemini")]
pub struct UnknownAgent(pub String);

impl Agent {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Claude, Self::Codex, Self::Gemini];

    /// Returns its name in rows and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Claude => crate::claude::AGENT,
            Self::Codex => "codex",
            Self::Gemini => "gemini",
        }
    }

    /// Returns the name of an event as Claude Code has it; unknown ones stay as they are. Words
    /// with dashes, as on a command line, are accepted.
    pub(super) fn event(self, name: &str) -> String {
        let name = if name.contains('-') || name.starts_with(|c: char| c.is_ascii_lowercase()) {
            name.split('-').map(capital).collect()
        } else {
            name.to_owned()
        };
        let common = match (self, name.as_str()) {
            (Self::Gemini, "BeforeTool") => "PreToolUse",
            (Self::Gemini, "AfterTool") => "PostToolUse",
            (Self::Gemini, "BeforeAgent") => "UserPromptSubmit",
            (Self::Gemini, "AfterAgent") => "Stop",
            (Self::Gemini, "PreCompress") => "PreCompact",
            _ => return name,
        };
        common.to_owned()
    }
}

impl FromStr for Agent {
    type Err = UnknownAgent;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|agent| agent.name() == text);
        found.ok_or_else(|| UnknownAgent(text.chars().take(80).collect()))
    }
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    match letters.next() {
        Some(first) => first.to_uppercase().chain(letters).collect(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_have_one_name_each() {
        assert_eq!(Agent::Claude.event("post-tool-use"), "PostToolUse");
        assert_eq!(Agent::Claude.event("PostToolUse"), "PostToolUse");
        assert_eq!(Agent::Claude.event("stop"), "Stop");
        assert_eq!(Agent::Gemini.event("AfterTool"), "PostToolUse");
        assert_eq!(Agent::Gemini.event("pre-compress"), "PreCompact");
        assert_eq!(Agent::Codex.event("SomethingNew"), "SomethingNew");
        assert!(
            Agent::ALL
                .into_iter()
                .all(|agent| agent.name().parse() == Ok(agent))
        );
        assert!("emacs".parse::<Agent>().is_err());
    }
}
