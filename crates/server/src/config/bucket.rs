//! What a bucket for backups needs: the variables that its vendor's own tools read.

use std::ffi::OsString;
use std::fmt;

/// Variables that are taken from the environment; the storage knows what each means.
pub(super) const VARIABLES: &[&str] = &[
    "AWS_ACCESS_KEY_ID",
    "AWS_ALLOW_HTTP",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT",
    "AWS_ENDPOINT_URL",
    "AWS_REGION",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_VIRTUAL_HOSTED_STYLE_REQUEST",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AZURE_ALLOW_HTTP",
    "AZURE_AUTHORITY_HOST",
    "AZURE_CLIENT_ID",
    "AZURE_CLIENT_SECRET",
    "AZURE_ENDPOINT",
    "AZURE_FEDERATED_TOKEN_FILE",
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_ACCOUNT_NAME",
    "AZURE_STORAGE_SAS_KEY",
    "AZURE_TENANT_ID",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOOGLE_SERVICE_ACCOUNT",
    "GOOGLE_SERVICE_ACCOUNT_KEY",
];

/// The variables that are set; they may hold secrets and are never printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Bucket(Vec<(String, String)>);

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.iter().map(|(name, _)| name);
        f.debug_list().entries(names).finish()
    }
}

impl Bucket {
    /// Takes from the environment what is set.
    #[must_use]
    pub fn from_environment(environment: &dyn Fn(&str) -> Option<OsString>) -> Self {
        let set = VARIABLES.iter().filter_map(|name| {
            let value = environment(name)?.into_string().ok()?;
            (!value.is_empty()).then(|| ((*name).to_owned(), value))
        });
        Self(set.collect())
    }

    /// Returns names and values.
    #[must_use]
    pub fn variables(&self) -> &[(String, String)] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_taken_and_never_shown() {
        let bucket = Bucket::from_environment(&|name| match name {
            "AWS_SECRET_ACCESS_KEY" => Some("hush".into()),
            "AWS_REGION" => Some("".into()),
            _ => None,
        });
        let expected = ("AWS_SECRET_ACCESS_KEY".to_owned(), "hush".to_owned());
        assert_eq!(bucket.variables(), [expected]);
        assert_eq!(format!("{bucket:?}"), r#"["AWS_SECRET_ACCESS_KEY"]"#);
    }
}
