//! Wire types, ids, limits, error codes and the table catalogue.
