//! The user's program: command line, hook target, importer.
