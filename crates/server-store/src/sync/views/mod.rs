//! What the seeds' routes need of the store: rows of one table as a list, writes without a file,
//! figures of a stream, and the device of callers that name none.

mod device;
mod list;
mod status;
mod write;

pub use super::push::unfiled::Written;
pub use device::register as register_web_device;
pub use list::{Filter, Listed, Listing, View, list};
pub use status::{DeviceFigures, Figures, figures};
pub use write::{Edited, NewFact, Writer, add_facts, edit_record, put_record};
