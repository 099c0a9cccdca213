//! Test support: a PostgreSQL per test, fake clocks, builders. A dev-dependency only.

#![warn(missing_docs)]
#![expect(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a test that cannot set up fails"
)]

mod clock;
mod files;
mod postgres;
mod replica;
mod s3;
mod test_db;

pub use clock::FakeClock;
pub use files::files_below;
pub use replica::Replicated;
pub use s3::{S3, s3_options, serve_s3};
pub use test_db::{TestDb, TestTenant, TestUser};
