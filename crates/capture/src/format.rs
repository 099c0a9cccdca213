//! What the bytes of a file are, and where agents keep their files.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::claude::{Discovered, ReadError, discover_all, find_below};

/// What a file of transcripts holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Lines of Claude Code.
    #[default]
    Claude,
    /// Lines of Codex CLI.
    Codex,
    /// Lines of Gemini CLI.
    Gemini,
    /// One document of an older Gemini CLI, rewritten whenever something is added.
    GeminiDocument,
    /// What a person exported as text.
    Text,
}

impl Format {
    /// Returns the agent's name in rows and identities.
    #[must_use]
    pub const fn agent(self) -> &'static str {
        match self {
            Self::Claude => crate::claude::AGENT,
            Self::Codex => "codex",
            Self::Gemini | Self::GeminiDocument => "gemini",
            Self::Text => "export",
        }
    }

    /// Returns whether a file is one document and not a row of lines.
    #[must_use]
    pub const fn is_document(self) -> bool {
        matches!(self, Self::GeminiDocument | Self::Text)
    }

    /// Returns the format that a file's place and name tell.
    #[must_use]
    pub fn of(path: &Path) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let folder = path.parent().and_then(Path::file_name).unwrap_or_default();
        let ending = path.extension().unwrap_or_default();
        if name.starts_with("rollout-") && ending == "jsonl" {
            Self::Codex
        } else if name.starts_with("session-") && folder == "chats" && ending == "jsonl" {
            Self::Gemini
        } else if name.starts_with("session-") && ending == "json" {
            Self::GeminiDocument
        } else if ending == "txt" || ending == "md" {
            Self::Text
        } else {
            Self::Claude
        }
    }
}

/// Returns the transcripts below an agent's folder: `~/.claude`, `~/.codex`, `~/.gemini`.
///
/// # Errors
/// [`ReadError`] when the folder with the transcripts cannot be read.
pub fn find_transcripts(format: Format, folder: &Path) -> Result<Discovered, ReadError> {
    match format {
        Format::Claude => discover_all(folder),
        Format::Codex => {
            let fits = |path: &Path| Format::of(path) == Format::Codex;
            let mut found = find_below(&folder.join("sessions"), folder, &fits)?;
            let archived = folder.join("archived_sessions");
            if archived.is_dir() {
                found.join(find_below(&archived, folder, &fits)?);
            }
            Ok(found)
        }
        Format::Gemini | Format::GeminiDocument => {
            let fits = |path: &Path| {
                matches!(Format::of(path), Format::Gemini | Format::GeminiDocument)
                    && path.parent().and_then(Path::file_name) == Some("chats".as_ref())
            };
            find_below(&folder.join("tmp"), folder, &fits)
        }
        Format::Text => Ok(Discovered {
            files: vec![PathBuf::from(folder)],
            left_out: Vec::new(),
        }),
    }
}
