//! `/api/v1/auth/`: logins and tokens. The only routes besides health that need no bearer.

pub(crate) mod jwks;
pub(crate) mod license;
pub(crate) mod login;
pub(crate) mod logout;
pub(crate) mod refresh;
