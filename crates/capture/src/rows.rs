//! What parsers return: one plain struct per table, and its form under the catalogue's names.

mod activity;
mod columns;
mod message;
mod session;
pub(crate) mod task;
mod token;
mod tool;

pub use activity::{Activity, Method};
pub use message::MessageRow;
pub use session::{SessionRow, TitleSource};
pub use task::{TaskMessageRow, TaskRow};
pub use token::TokenRow;
pub use tool::ToolRow;

/// The cloud name of a table and the columns of one of its rows.
pub type NamedRow = (&'static str, coditect_protocol::wire::Row);
