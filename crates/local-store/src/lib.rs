//! The four SQLite databases of a device.
