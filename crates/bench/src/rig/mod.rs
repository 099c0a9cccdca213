//! What is measured: the programs, a server with its PostgreSQL, the machine, processor time.

pub(crate) mod cpu;
pub(crate) mod machine;
pub(crate) mod postgres;
pub(crate) mod programs;
pub(crate) mod server;
