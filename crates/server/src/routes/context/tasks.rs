//! `/api/v1/context/tasks/`

pub(crate) mod list;
pub(crate) mod put;
