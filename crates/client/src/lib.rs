//! HTTP client and driver of the sync engine.
//!
//! Owns the client's configuration file, its credentials, the requests to the server and the
//! loop that turns the engine's actions into local writes and requests. Prints nothing and reads
//! no environment: paths, tokens and the time are given in.

pub mod auth;
pub mod bodies;
pub mod comparison;
pub mod config;
pub mod conflicts;
pub mod credentials;
pub mod devices;
pub mod driver;
pub mod erasure;
mod files;
pub mod hints;
pub mod http;
pub mod membership;
pub mod paths;
pub mod pull_table;
pub mod state;
pub mod transport;

pub use bodies::{Fetched, fetch_bodies};
pub use comparison::{Compared, TableSums, compare_rows};
pub use config::{CloudConfig, ConfigFile, HooksConfig};
pub use credentials::{CredentialFile, Credentials};
pub use driver::{Progress, SyncError, perform_local, run, sync};
pub use files::FileError;
pub use hints::{HintEvent, follow_hints};
pub use http::{Http, HttpError, HttpOptions, Traffic};
pub use paths::{InvalidProfile, Paths};
pub use pull_table::pull_table;
pub use state::SyncState;
pub use transport::{HttpTransport, Transport};
