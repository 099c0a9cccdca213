//! Agent transcripts and hook input, parsed into rows.
