//! What the bytes of a file are, and where agents keep their files.

use std::path::{Path, PathBuf};

use coditect_core::hex::hex;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::claude::{Discovered, OTHER_FOLDERS, ReadError, find_below};

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

    /// Returns the folders in an agent's folder that hold transcripts.
    #[must_use]
    pub const fn folders(self) -> &'static [&'static str] {
        match self {
            Self::Claude => &["projects"],
            Self::Codex => &["sessions", "archived_sessions"],
            Self::Gemini | Self::GeminiDocument => &["tmp"],
            Self::Text => &[],
        }
    }

    /// Returns whether a file in such a folder is a transcript, by its name.
    fn fits(self, path: &Path) -> bool {
        match self {
            Self::Claude => path.extension().is_some_and(|ending| ending == "jsonl"),
            Self::Codex => Self::of(path) == Self::Codex,
            Self::Gemini | Self::GeminiDocument => {
                matches!(Self::of(path), Self::Gemini | Self::GeminiDocument)
                    && path.parent().and_then(Path::file_name) == Some("chats".as_ref())
            }
            Self::Text => true,
        }
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

/// What a transcript's place tells about the folder that the agent worked in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The folder.
    Folder(PathBuf),
    /// Only its SHA-256, in hexadecimal digits.
    Hash(String),
}

impl Origin {
    /// Returns what the place of a transcript tells; none for agents that write the folder into
    /// the transcript itself.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        if !matches!(Format::of(path), Format::Gemini | Format::GeminiDocument) {
            return None;
        }
        let project = path.parent()?.parent()?;
        // Newer versions name the project's folder after it and say in a file where it is.
        if let Ok(text) = std::fs::read_to_string(project.join(".project_root")) {
            return Some(Self::Folder(PathBuf::from(text.trim())));
        }
        let name = project.file_name()?.to_str()?;
        let is_hash = name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_hash.then(|| Self::Hash(name.to_ascii_lowercase()))
    }

    /// Returns whether it is the hash of that folder.
    #[must_use]
    pub fn is_hash_of(&self, folder: &str) -> bool {
        let Self::Hash(hash) = self else { return false };
        *hash == hex(&Sha256::digest(folder.as_bytes()))
    }
}

/// An agent's folder, such as `~/.claude`, `~/.codex` or `~/.gemini`, whether it is there yet or
/// not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// What its transcripts are.
    pub format: Format,
    /// The folder.
    pub folder: PathBuf,
}

impl Root {
    /// Names an agent's folder.
    #[must_use]
    pub fn new(format: Format, folder: impl Into<PathBuf>) -> Self {
        let folder = folder.into();
        Self { format, folder }
    }

    /// Returns the folders below it that hold transcripts, at any depth.
    #[must_use]
    pub fn transcript_folders(&self) -> Vec<PathBuf> {
        let names = self.format.folders().iter();
        names.map(|name| self.folder.join(name)).collect()
    }

    /// Returns whether a path is that of one of its transcripts, by place and name alone.
    #[must_use]
    pub fn is_transcript(&self, path: &Path) -> bool {
        let mut folders = self.transcript_folders().into_iter();
        let below = folders.find_map(|folder| path.strip_prefix(folder).ok());
        let beside = |part: &std::ffi::OsStr| OTHER_FOLDERS.iter().any(|name| part == *name);
        below.is_some_and(|below| !below.iter().any(beside)) && self.format.fits(path)
    }

    /// Returns the transcripts that are there.
    ///
    /// # Errors
    /// [`ReadError`] when no folder with transcripts can be read.
    pub fn find(&self) -> Result<Discovered, ReadError> {
        find_transcripts(self.format, &self.folder)
    }
}

/// Returns the transcripts below an agent's folder: `~/.claude`, `~/.codex`, `~/.gemini`; a text
/// is itself.
///
/// # Errors
/// [`ReadError`] when no folder with transcripts can be read.
pub fn find_transcripts(format: Format, folder: &Path) -> Result<Discovered, ReadError> {
    if format == Format::Text {
        return Ok(Discovered {
            files: vec![PathBuf::from(folder)],
            left_out: Vec::new(),
        });
    }
    let fits = |path: &Path| format.fits(path);
    let (mut found, mut failed) = (None::<Discovered>, None);
    for name in format.folders() {
        match find_below(&folder.join(name), folder, &fits) {
            Ok(more) => match &mut found {
                Some(found) => found.join(more),
                None => found = Some(more),
            },
            // A folder that not every installation has; another one counts.
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    match (found, failed) {
        (Some(found), _) => Ok(found),
        (None, Some(error)) => Err(error),
        (None, None) => Ok(Discovered::default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn place_and_name_tell_a_transcript() {
        let claude = Root::new(Format::Claude, "/h/.claude");
        let codex = Root::new(Format::Codex, "/h/.codex");
        let gemini = Root::new(Format::Gemini, "/h/.gemini");
        for (root, path, is_one) in [
            (&claude, "/h/.claude/projects/-app/s.jsonl", true),
            (
                &claude,
                "/h/.claude/projects/-app/s/subagents/agent-a.jsonl",
                true,
            ),
            (
                &claude,
                "/h/.claude/projects/-app/s/tool-results/x.jsonl",
                false,
            ),
            (&claude, "/h/.claude/history.jsonl", false),
            (
                &codex,
                "/h/.codex/sessions/2026/02/03/rollout-2026-02-03T03-51-03-a.jsonl",
                true,
            ),
            (
                &codex,
                "/h/.codex/archived_sessions/rollout-2026-02-03T03-51-03-a.jsonl",
                true,
            ),
            (&codex, "/h/.codex/history.jsonl", false),
            (&codex, "/h/.codex/sessions/2026/other.jsonl", false),
            (&gemini, "/h/.gemini/tmp/0123/chats/session-1.json", true),
            (&gemini, "/h/.gemini/tmp/0123/chats/session-1.jsonl", true),
            (&gemini, "/h/.gemini/tmp/0123/logs.json", false),
            (&gemini, "/h/.gemini/tmp/0123/session-1.json", false),
        ] {
            assert_eq!(root.is_transcript(Path::new(path)), is_one, "{path}");
        }
    }

    #[test]
    fn one_of_several_folders_is_enough() {
        let home = tempfile::tempdir().unwrap();
        let codex = Root::new(Format::Codex, home.path());
        assert!(codex.find().is_err());
        let archived = home.path().join("archived_sessions");
        std::fs::create_dir_all(&archived).unwrap();
        std::fs::write(archived.join("rollout-1-a.jsonl"), "").unwrap();
        assert_eq!(codex.find().unwrap().files.len(), 1);
    }
}
