//! The rules as data. A token rule knows a secret by its own shape, a name rule by the word
//! that stands before it.

use super::commands::COMMANDS;
use super::providers::PROVIDERS;

/// A secret with a recognisable shape.
///
/// `literals` are found by the prefilter (without regard to case); `pattern` must match, with
/// case, `bytes_before` bytes before the literal's start, and not in the middle of a word. A
/// group `s` in it says which part is the secret.
#[derive(Debug)]
pub(super) struct TokenRule {
    pub(super) kind: &'static str,
    pub(super) literals: &'static [&'static str],
    pub(super) pattern: &'static str,
    pub(super) need: Need,
    pub(super) bytes_before: usize,
}

/// What a match must contain besides matching, so that ordinary words stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    Nothing,
    /// At least one digit and one upper-case letter.
    DigitAndUpper,
    /// At least one digit.
    Digit,
}

pub(super) const fn token(
    kind: &'static str,
    literals: &'static [&'static str],
    pattern: &'static str,
    need: Need,
) -> TokenRule {
    token_behind(kind, literals, pattern, need, 0)
}

/// A secret that has its telling part in the middle.
pub(super) const fn token_behind(
    kind: &'static str,
    literals: &'static [&'static str],
    pattern: &'static str,
    need: Need,
    bytes_before: usize,
) -> TokenRule {
    TokenRule {
        kind,
        literals,
        pattern,
        need,
        bytes_before,
    }
}

use Need::{Digit, DigitAndUpper, Nothing};

/// Returns all rules about shapes that are built in.
pub(super) fn shapes() -> impl Iterator<Item = &'static TokenRule> {
    TOKENS.iter().chain(PROVIDERS).chain(COMMANDS)
}

/// Secrets known by their shape.
const TOKENS: &[TokenRule] = &[
    token(
        "aws-access-key",
        &["AKIA", "ASIA", "ABIA", "ACCA"],
        r"[A-Z]{4}[A-Z0-9]{16}\b",
        Nothing,
    ),
    token(
        "github-token",
        &["ghp_", "gho_", "ghu_", "ghs_", "ghr_"],
        r"gh[pousr]_[A-Za-z0-9]{30,255}",
        Nothing,
    ),
    token(
        "github-token",
        &["github_pat_"],
        r"github_pat_[A-Za-z0-9_]{22,255}",
        Nothing,
    ),
    token(
        "gitlab-token",
        &[
            "glpat-", "gldt-", "glrt-", "glcbt-", "glptt-", "glft-", "glsoat-", "glimt-",
            "glagent-",
        ],
        r"gl(?:pat|dt|rt|cbt|ptt|ft|soat|imt|agent)-[A-Za-z0-9_.-]{20,}",
        Nothing,
    ),
    token(
        "slack-token",
        &[
            "xoxb-", "xoxp-", "xoxa-", "xoxr-", "xoxs-", "xoxe-", "xoxe.", "xoxc-", "xoxd-",
        ],
        r"xox[a-z](?:\.xox[a-z])?-[A-Za-z0-9%-]{10,}",
        Digit,
    ),
    token(
        "slack-token",
        &["xapp-"],
        r"xapp-[0-9]+-[A-Za-z0-9-]{10,}",
        Digit,
    ),
    token(
        "slack-webhook",
        &["hooks.slack.com/"],
        r"hooks\.slack\.com/(?:services|workflows|triggers)/[A-Za-z0-9/_-]{20,}",
        Nothing,
    ),
    token(
        "discord-webhook",
        &["discord.com/api/webhooks/", "discordapp.com/api/webhooks/"],
        r"discord(?:app)?\.com/api/webhooks/[0-9]{8,}/[A-Za-z0-9_-]{30,}",
        Nothing,
    ),
    token(
        "stripe-key",
        &["sk_live_", "sk_test_", "rk_live_", "rk_test_"],
        r"[sr]k_(?:live|test)_[A-Za-z0-9]{16,}",
        Nothing,
    ),
    token(
        "stripe-key",
        &["whsec_"],
        r"whsec_[A-Za-z0-9+/]{24,}={0,2}",
        Nothing,
    ),
    token(
        "anthropic-key",
        &["sk-ant-"],
        r"sk-ant-[A-Za-z0-9_-]{20,}",
        Nothing,
    ),
    token(
        "openai-key",
        &["sk-"],
        r"sk-(?:[A-Za-z0-9]{20,}\b|[a-z0-9_-]*[A-Z][A-Za-z0-9_-]{20,})",
        Digit,
    ),
    token(
        "google-api-key",
        &["AIza"],
        r"AIza[A-Za-z0-9_-]{35}",
        Nothing,
    ),
    token(
        "google-oauth-secret",
        &["GOCSPX-"],
        r"GOCSPX-[A-Za-z0-9_-]{24,}",
        Nothing,
    ),
    token(
        "google-oauth-token",
        &["ya29."],
        r"ya29\.[A-Za-z0-9_-]{20,}",
        Nothing,
    ),
    token("npm-token", &["npm_"], r"npm_[A-Za-z0-9]{36}\b", Nothing),
    token(
        "pypi-token",
        &["pypi-AgE"],
        r"pypi-AgE[A-Za-z0-9_-]{40,}",
        Nothing,
    ),
    token(
        "sendgrid-key",
        &["SG."],
        r"SG\.[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{16,64}",
        Nothing,
    ),
    token(
        "twilio-key",
        &[
            "SK0", "SK1", "SK2", "SK3", "SK4", "SK5", "SK6", "SK7", "SK8", "SK9", "SKa", "SKb",
            "SKc", "SKd", "SKe", "SKf",
        ],
        r"SK[0-9a-f]{32}\b",
        Digit,
    ),
    token(
        "huggingface-token",
        &["hf_"],
        r"hf_[A-Za-z0-9]{30,}",
        Nothing,
    ),
    token(
        "huggingface-token",
        &["api_org_"],
        r"api_org_[A-Za-z0-9]{30,}",
        Nothing,
    ),
    token(
        "digitalocean-token",
        &["dop_v1_", "doo_v1_", "dor_v1_"],
        r"do[por]_v1_[a-f0-9]{64}",
        Nothing,
    ),
    token(
        "docker-token",
        &["dckr_pat_", "dckr_oat_"],
        r"dckr_[po]at_[A-Za-z0-9_-]{20,}",
        Nothing,
    ),
    token(
        "shopify-token",
        &["shpat_", "shpca_", "shppa_", "shpss_"],
        r"shp(?:at|ca|pa|ss)_[A-Fa-f0-9]{32}",
        Nothing,
    ),
    token(
        "square-token",
        &["sq0atp-", "sq0csp-"],
        r"sq0(?:atp|csp)-[A-Za-z0-9_-]{22,}",
        Nothing,
    ),
    token(
        "databricks-token",
        &["dapi"],
        r"dapi[0-9a-f]{32}(?:-[0-9])?\b",
        Digit,
    ),
    token("mailgun-key", &["key-"], r"key-[0-9a-f]{32}\b", Digit),
    token(
        "linear-key",
        &["lin_api_", "lin_oauth_"],
        r"lin_(?:api|oauth)_[A-Za-z0-9]{32,}",
        Nothing,
    ),
    token("notion-token", &["ntn_"], r"ntn_[A-Za-z0-9]{40,}", Nothing),
    token(
        "planetscale-token",
        &["pscale_"],
        r"pscale_(?:tkn|pw|oauth)_[A-Za-z0-9_.-]{32,}",
        Nothing,
    ),
    token(
        "postman-key",
        &["PMAK-"],
        r"PMAK-[0-9a-f]{24}-[0-9a-f]{34}",
        Nothing,
    ),
    token("pulumi-token", &["pul-"], r"pul-[0-9a-f]{40}\b", Nothing),
    token(
        "rubygems-key",
        &["rubygems_"],
        r"rubygems_[0-9a-f]{48}",
        Nothing,
    ),
    token(
        "crates-io-token",
        &["cio"],
        r"cio[A-Za-z0-9]{32}\b",
        DigitAndUpper,
    ),
    token(
        "vault-token",
        &["hvs.", "hvb.", "hvr."],
        r"hv[sbr]\.[A-Za-z0-9_-]{24,}",
        Nothing,
    ),
    token(
        "age-key",
        &["AGE-SECRET-KEY-1"],
        r"AGE-SECRET-KEY-1[0-9A-Z]{58}",
        Nothing,
    ),
    token("newrelic-key", &["NRAK-"], r"NRAK-[A-Z0-9]{27}\b", Nothing),
    token(
        "grafana-token",
        &["glsa_", "glc_"],
        r"(?:glsa_[A-Za-z0-9]{32}_[A-Fa-f0-9]{8}|glc_[A-Za-z0-9+/]{32,}={0,2})",
        Nothing,
    ),
    token(
        "figma-token",
        &["figd_"],
        r"figd_[A-Za-z0-9_-]{38,}",
        Nothing,
    ),
    token("supabase-token", &["sbp_"], r"sbp_[a-f0-9]{40}\b", Nothing),
    token(
        "sentry-token",
        &["sntrys_", "sntryu_"],
        r"sntry[su]_[A-Za-z0-9_+/=-]{40,}",
        Nothing,
    ),
    token(
        "heroku-key",
        &["HRKU-"],
        r"HRKU-[A-Za-z0-9_-]{36,}",
        Nothing,
    ),
    token("groq-key", &["gsk_"], r"gsk_[A-Za-z0-9]{40,}", Nothing),
    token(
        "perplexity-key",
        &["pplx-"],
        r"pplx-[A-Za-z0-9]{40,}",
        Nothing,
    ),
    token("xai-key", &["xai-"], r"xai-[A-Za-z0-9]{60,}", Nothing),
    token("replicate-token", &["r8_"], r"r8_[A-Za-z0-9]{37,}", Nothing),
    token("tavily-key", &["tvly-"], r"tvly-[A-Za-z0-9-]{28,}", Digit),
    token(
        "doppler-token",
        &["dp.pt.", "dp.st.", "dp.ct."],
        r"dp\.(?:pt|ct|st(?:\.[a-z0-9_-]+)?)\.[A-Za-z0-9]{40,}",
        Nothing,
    ),
    token(
        "telegram-token",
        &[":AA"],
        r":AA[A-Za-z0-9_-]{33}\b",
        DigitAndUpper,
    ),
    token(
        "azure-key",
        &["AccountKey=", "SharedAccessKey="],
        r"(?:Account|SharedAccess)Key=[A-Za-z0-9+/]{40,}={0,2}",
        Nothing,
    ),
    token(
        "jwt",
        &["eyJ"],
        r"eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]*",
        Nothing,
    ),
    token(
        "coditect-licence",
        &["CODITECT-", "CODI-"],
        r"CODI(?:TECT)?(?:-[A-Z0-9]{4,8}){2,8}\b",
        Digit,
    ),
    // A licence key and a refresh token: 64 bytes in base64url behind a prefix of their own.
    token(
        "coditect-licence",
        &["cdl_"],
        r"cdl_[A-Za-z0-9_-]{80,}",
        Nothing,
    ),
    token(
        "coditect-token",
        &["cdr_"],
        r"cdr_[A-Za-z0-9_-]{80,}",
        Nothing,
    ),
];

/// How strictly the text after a name is judged before it counts as a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// People choose passwords: short and wordlike ones count.
    Password,
    /// Machines make tokens and keys: only what looks random counts.
    Secret,
    /// Names that often stand before harmless keys: only what is surely random counts.
    Key,
    /// `Authorization:` headers: scheme and credentials.
    Authorization,
    /// The same without a name: `Bearer TOKEN`.
    Bearer,
    /// 40 characters of base64 after the AWS name.
    AwsSecret,
}

impl Class {
    /// Returns the kind that the marker and the report name.
    pub(super) const fn kind(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::Secret | Self::Key => "secret",
            Self::Authorization | Self::Bearer => "authorization",
            Self::AwsSecret => "aws-secret-key",
        }
    }
}

/// A word that tells that a secret follows. It may be the end of a longer name.
#[derive(Debug)]
pub(super) struct NameRule {
    pub(super) literal: &'static str,
    pub(super) class: Class,
}

const fn name(literal: &'static str, class: Class) -> NameRule {
    NameRule { literal, class }
}

/// Telling names, matched without regard to case.
pub(super) const NAMES: &[NameRule] = &[
    name("password", Class::Password),
    name("passwd", Class::Password),
    name("passphrase", Class::Password),
    name("passcode", Class::Password),
    name("_pwd", Class::Password),
    name("pwd=", Class::Password),
    name("_pass", Class::Password),
    name("pass=", Class::Password),
    name("pass\":", Class::Password),
    name("pass':", Class::Password),
    name("pw=", Class::Password),
    name("aws_secret_access_key", Class::AwsSecret),
    name("secretaccesskey", Class::AwsSecret),
    name("secret", Class::Secret),
    name("token", Class::Secret),
    name("api_key", Class::Secret),
    name("api-key", Class::Secret),
    name("apikey", Class::Secret),
    name("access_key", Class::Secret),
    name("accesskey", Class::Secret),
    name("private_key", Class::Secret),
    name("privatekey", Class::Secret),
    name("encryption_key", Class::Secret),
    name("signing_key", Class::Secret),
    name("license_key", Class::Secret),
    name("licence_key", Class::Secret),
    name("credential", Class::Secret),
    name("signature_key", Class::Secret),
    name("master_key", Class::Secret),
    name("auth_key", Class::Secret),
    name("authkey", Class::Secret),
    name("account_key", Class::Secret),
    name("accountkey", Class::Secret),
    name("client_key", Class::Secret),
    name("service_key", Class::Secret),
    name("service_role", Class::Secret),
    name("admin_key", Class::Secret),
    name("webhook_key", Class::Secret),
    name("app_key", Class::Secret),
    name("appkey", Class::Secret),
    name("_key", Class::Key),
    name("-key", Class::Key),
    name("_dsn", Class::Key),
    name("x-auth", Class::Key),
    name("authorization", Class::Authorization),
    name("bearer ", Class::Bearer),
];

/// Endings of a name after the telling word that say "about the secret", not "the secret".
pub(super) const HARMLESS_ENDINGS: &[&str] = &[
    "id",
    "ids",
    "name",
    "names",
    "count",
    "counts",
    "url",
    "uri",
    "path",
    "file",
    "files",
    "type",
    "types",
    "arn",
    "ref",
    "hash",
    "length",
    "len",
    "size",
    "limit",
    "max",
    "min",
    "ttl",
    "expiry",
    "expires",
    "at",
    "in",
    "policy",
    "field",
    "fields",
    "env",
    "var",
    "manager",
    "version",
    "endpoint",
    "budget",
    "usage",
    "prefix",
    "suffix",
    "format",
    "header",
    "param",
    "class",
    "column",
    "index",
    "status",
    "rotation",
    "strength",
    "reset",
    "hint",
    "label",
    "input",
    "placeholder",
    "provider",
    "store",
    "source",
    "scope",
    "scopes",
    "rule",
    "rules",
    "pattern",
];
