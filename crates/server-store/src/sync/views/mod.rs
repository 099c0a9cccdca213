//! What the seeds' routes need of the store: rows of one table as a list, writes without a file,
//! figures of a stream, and the device of callers that name none.

mod device;
mod list;
mod record;
mod status;
mod view;
mod write;

pub use super::push::unfiled::Written;
pub use device::register as register_web_device;
pub use list::{Filter, Listed, Listing, list};
pub use record::{add_record, change_record, delete_record, get};
pub use status::{DeviceFigures, Figures, figures};
pub use view::View;
pub use write::{Edited, NewFact, Writer, add_facts, edit_record, put_record};
