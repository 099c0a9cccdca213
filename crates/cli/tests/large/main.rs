//! What takes its time: a crowd of hooks, and an import of much that is killed on its way. Small
//! here; `HOOKS=10000` and `IMPORT_MB=1000` make them as large as the budgets say, and
//! `CODITECT_TEST_PROGRAMS=target/release` takes other builds of the program.
#![expect(clippy::unwrap_used, reason = "a failure is the test's")]

mod crowd;
mod import;
mod machine;
mod odd_files;
