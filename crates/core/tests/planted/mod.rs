//! Secrets to plant, made from published descriptions of token formats and not from our rules.
//!
//! Sources, by letter:
//!
//! - `G`: the descriptions, prefixes, alphabets and lengths in the default configuration of the
//!   scanner gitleaks (github.com/gitleaks/gitleaks, `config/gitleaks.toml`, of 2025).
//! - `P`: the provider's own documentation of the format or of the variable that holds it.
//! - `M`: the manual of the command or the specification of the format (curl(1), mysql(1),
//!   redis-cli, docker, ldapsearch(1), netrc(5), RFC 6750, RFC 7617, RFC 7468, libpq, JDBC …).
//!
//! In a template `{w36}` stands for 36 random characters of the alphabet `w`; what is between
//! `⟦` and `⟧` is the secret, or all of it where there are none.

#![allow(
    dead_code,
    reason = "each test that includes this file uses its own part"
)]

/// One kind of secret.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    /// What it is.
    pub(crate) name: &'static str,
    /// Where its format is published.
    pub(crate) source: char,
    /// How it looks.
    pub(crate) template: &'static str,
}

const fn kind(source: char, name: &'static str, template: &'static str) -> Kind {
    Kind {
        name,
        source,
        template,
    }
}

/// A planted secret: the text around it and itself.
#[derive(Debug, Clone)]
pub(crate) struct Planted {
    pub(crate) kind: Kind,
    pub(crate) text: String,
    pub(crate) secret: String,
}

/// Tokens that stand by themselves.
pub(crate) const TOKENS: &[Kind] = &[
    kind('G', "1password secret key", "A3-{U6}-{U11}-{U5}-{U5}-{U5}"),
    kind('G', "1password service account", "ops_eyJ{w250}"),
    kind('G', "adobe client secret", "p8e-{l32}"),
    kind('G', "age secret key", "AGE-SECRET-KEY-1{A58}"),
    kind('G', "airtable personal token", "pat{w14}.{x64}"),
    kind('G', "alibaba access key", "LTAI{l20}"),
    kind('G', "anthropic admin key", "sk-ant-admin01-{s93}AA"),
    kind('G', "anthropic api key", "sk-ant-api03-{s93}AA"),
    kind('G', "artifactory api key", "AKCp{w69}"),
    kind('G', "artifactory reference token", "cmVmd{w59}"),
    kind('G', "atlassian api token", "ATATT3{s186}"),
    kind('G', "authress access key", "sc_{l12}.{l5}.acc-{l16}.{b60}"),
    kind('G', "aws access key", "AKIA{B16}"),
    kind('G', "aws temporary key", "ASIA{B16}"),
    kind('G', "aws bedrock long-lived", "ABSK{b109}"),
    kind('G', "azure ad client secret", "{w3}8Q~{w34}"),
    kind('G', "clickhouse cloud key", "4b1d{w38}"),
    kind('G', "clojars token", "CLOJARS_{l60}"),
    kind('G', "cloudflare origin ca key", "v1.0-{x24}-{x146}"),
    kind('G', "databricks token", "dapi{x32}"),
    kind('G', "defined networking token", "dnkey-{l26}-{l52}"),
    kind('G', "digitalocean oauth token", "doo_v1_{x64}"),
    kind('G', "digitalocean personal token", "dop_v1_{x64}"),
    kind('G', "digitalocean refresh token", "dor_v1_{x64}"),
    kind('G', "doppler token", "dp.pt.{l43}"),
    kind('G', "duffel token", "duffel_live_{l43}"),
    kind('G', "dynatrace token", "dt0c01.{l24}.{l64}"),
    kind('G', "easypost key", "EZAK{l54}"),
    kind('G', "easypost test key", "EZTK{l54}"),
    kind('G', "facebook page token", "EAAC{w120}"),
    kind('G', "flutterwave secret key", "FLWSECK_TEST-{x32}-X"),
    kind('G', "fly access token", "fo1_{s43}"),
    kind('G', "fly macaroon", "fm2_{b120}"),
    kind('G', "frameio token", "fio-u-{s64}"),
    kind('G', "google api key", "AIza{s35}"),
    kind('P', "google oauth client secret", "GOCSPX-{s28}"),
    kind('P', "google oauth access token", "ya29.{s120}"),
    kind('P', "google refresh token", "1//0{s80}"),
    kind('G', "github personal token", "ghp_{w36}"),
    kind('G', "github oauth token", "gho_{w36}"),
    kind('G', "github app user token", "ghu_{w36}"),
    kind('G', "github app server token", "ghs_{w36}"),
    kind('G', "github refresh token", "ghr_{w36}"),
    kind('G', "github fine-grained token", "github_pat_{w82}"),
    kind('G', "gitlab personal token", "glpat-{s20}"),
    kind('G', "gitlab routable token", "glpat-{s27}.{l2}{l7}"),
    kind('G', "gitlab pipeline trigger", "glptt-{x40}"),
    kind('G', "gitlab runner registration", "GR1348941{s20}"),
    kind('G', "gitlab runner authentication", "glrt-{s20}"),
    kind('G', "gitlab deploy token", "gldt-{s20}"),
    kind('G', "gitlab feed token", "glft-{s20}"),
    kind('G', "gitlab feature flags token", "glffct-{s20}"),
    kind('G', "gitlab incoming mail", "glimt-{s25}"),
    kind('G', "gitlab agent token", "glagent-{s50}"),
    kind('G', "gitlab oauth application", "gloas-{s64}"),
    kind('G', "gitlab scim token", "glsoat-{s20}"),
    kind('G', "gitlab ci build token", "glcbt-{l5}_{s20}"),
    kind('G', "grafana api key", "eyJrIjoi{w100}"),
    kind('G', "grafana cloud token", "glc_{b60}"),
    kind('G', "grafana service account", "glsa_{w32}_{x8}"),
    kind('G', "harness token", "pat.{w22}.{w24}.{w20}"),
    kind('G', "terraform cloud token", "{w14}.atlasv1.{s67}"),
    kind('G', "heroku key, second form", "HRKU-AA{s58}"),
    kind('G', "huggingface token", "hf_{a34}"),
    kind('G', "huggingface organisation", "api_org_{a34}"),
    kind('G', "infracost key", "ico-{w32}"),
    kind('G', "intra42 client secret", "s-s4t2ud-{x64}"),
    kind('G', "json web token", "eyJ{w33}.eyJ{w60}.{s43}"),
    kind(
        'G',
        "json web token, in base64 again",
        "ZXlKaGJHY2lPaU{w120}",
    ),
    kind('G', "linear key", "lin_api_{l40}"),
    kind('G', "lob key", "live_{x35}"),
    kind('G', "mailchimp key", "{x32}-us19"),
    kind('G', "mailgun key", "key-{x32}"),
    kind('P', "mapbox secret token", "sk.eyJ{w80}.{s22}"),
    kind('G', "maxmind licence key", "{w6}_{w29}_mmk"),
    kind(
        'G',
        "microsoft teams webhook",
        "https://acme.webhook.office.com/webhookb2/{x8}-{x4}-{x4}-{x4}-{x12}@{x8}-{x4}-{x4}-{x4}-{x12}/IncomingWebhook/{x32}/{x8}-{x4}-{x4}-{x4}-{x12}",
    ),
    kind('G', "newrelic browser key", "NRJS-{x19}"),
    kind('G', "newrelic insert key", "NRII-{s32}"),
    kind('G', "newrelic user key", "NRAK-{U27}"),
    kind('G', "notion token", "ntn_{d11}{w35}"),
    kind('G', "npm token", "npm_{w36}"),
    kind('G', "octopus deploy key", "API-{U26}"),
    kind('G', "openai project key", "sk-proj-{s74}T3BlbkFJ{s74}"),
    kind(
        'G',
        "openai service account",
        "sk-svcacct-{s58}T3BlbkFJ{s58}",
    ),
    kind('G', "openai key, first form", "sk-{w20}T3BlbkFJ{w20}"),
    kind('G', "openshift token", "sha256~{s43}"),
    kind('G', "perplexity key", "pplx-{w48}"),
    kind(
        'G',
        "plaid access token",
        "access-production-{x8}-{x4}-{x4}-{x4}-{x12}",
    ),
    kind('G', "planetscale token", "pscale_tkn_{s43}"),
    kind('G', "planetscale oauth token", "pscale_oauth_{s43}"),
    kind('G', "planetscale password", "pscale_pw_{s43}"),
    kind('G', "postman key", "PMAK-{x24}-{x34}"),
    kind('G', "prefect key", "pnu_{w36}"),
    kind('G', "pulumi token", "pul-{x40}"),
    kind('G', "pypi upload token", "pypi-AgEIcHlwaS5vcmc{s120}"),
    kind('G', "readme key", "rdme_{l70}"),
    kind('G', "rubygems key", "rubygems_{x48}"),
    kind('G', "scalingo token", "tk-us-{s48}"),
    kind('G', "sendgrid key", "SG.{s22}.{s43}"),
    kind('G', "sendinblue key", "xkeysib-{x64}-{l16}"),
    kind(
        'G',
        "sentry organisation token",
        "sntrys_eyJpYXQiO{w60}LCJyZWdpb25fdXJs{w60}_{b43}",
    ),
    kind('G', "sentry user token", "sntryu_{x64}"),
    kind('G', "settlemint application token", "sm_aat_{w16}"),
    kind('G', "shippo token", "shippo_live_{x40}"),
    kind('G', "shopify access token", "shpat_{x32}"),
    kind('G', "shopify shared secret", "shpss_{x32}"),
    kind('G', "slack app token", "xapp-1-{U11}-{d13}-{x64}"),
    kind('G', "slack bot token", "xoxb-{d12}-{d12}-{w24}"),
    kind('G', "slack legacy token", "xoxs-{d12}-{d12}-{d12}-{x32}"),
    kind('G', "slack user token", "xoxp-{d12}-{d12}-{d12}-{x32}"),
    kind('G', "slack configuration refresh", "xoxe-1-{U146}"),
    kind('G', "slack configuration access", "xoxe.xoxp-1-{U166}"),
    kind(
        'G',
        "slack webhook",
        "https://hooks.slack.com/services/T{U10}/B{U10}/{w24}",
    ),
    kind(
        'P',
        "discord webhook",
        "https://discord.com/api/webhooks/{d18}/{s68}",
    ),
    kind('G', "sourcegraph token", "sgp_{x16}_{x40}"),
    kind('G', "square access token", "EAAA{s60}"),
    kind('P', "square oauth secret", "sq0csp-{s43}"),
    kind('G', "stripe secret key", "sk_live_{w24}"),
    kind('G', "stripe restricted key", "rk_live_{w99}"),
    kind('P', "stripe webhook secret", "whsec_{w32}"),
    kind('P', "telegram bot token", "{d10}⟦:AA{s33}⟧"),
    kind('G', "twilio key", "SK{x32}"),
    kind('G', "typeform token", "tfp_{s59}"),
    kind('G', "vault service token", "hvs.{s95}"),
    kind('G', "vault batch token", "hvb.{s140}"),
    kind('G', "yandex cloud key", "AQVN{s36}"),
    kind('P', "docker hub token", "dckr_pat_{s27}"),
    kind('P', "figma token", "figd_{s40}"),
    kind('P', "groq key", "gsk_{w52}"),
    kind('P', "xai key", "xai-{w80}"),
    kind('P', "replicate token", "r8_{w37}"),
    kind('P', "supabase management token", "sbp_{x40}"),
    kind('P', "supabase secret key", "sb_secret_{s31}"),
    kind('P', "circleci token", "CCIPAT_{w22}_{x40}"),
    kind('P', "netlify token", "nfp_{w36}"),
    kind('P', "sonarqube token", "squ_{x40}"),
    kind('P', "openrouter key", "sk-or-v1-{x64}"),
    kind('P', "langsmith key", "lsv2_pt_{x32}_{x10}"),
    kind('P', "resend key", "re_{w8}_{w24}"),
    kind(
        'P',
        "hubspot private app",
        "pat-na1-{x8}-{x4}-{x4}-{x4}-{x12}",
    ),
    kind('P', "razorpay key", "rzp_live_{w14}"),
    kind('P', "buildkite token", "bkua_{x40}"),
    kind('P', "trello token", "ATTA{x64}"),
    kind('P', "elevenlabs key", "sk_{x48}"),
    kind('P', "contentful token", "CFPAT-{s43}"),
    kind('P', "mailersend token", "mlsn.{x64}"),
    kind(
        'P',
        "paypal braintree token",
        "access_token$production${l16}${x32}",
    ),
    kind('M', "bcrypt hash", "$2b$12${h53}"),
    kind('M', "sha512 crypt hash", "$6${w16}${h86}"),
];

/// Secrets that their name tells, as configuration files and code write them.
pub(crate) const NAMED: &[Kind] = &[
    kind('G', "adafruit", "ADAFRUIT_API_KEY=⟦{l32}⟧"),
    kind('G', "adobe", "adobe_client_secret: \"⟦{x32}⟧\""),
    kind('G', "algolia", "const algoliaApiKey = '⟦{l32}⟧';"),
    kind(
        'G',
        "alibaba secret",
        "ALIBABA_CLOUD_ACCESS_KEY_SECRET=⟦{w30}⟧",
    ),
    kind('G', "asana", "asana_client_secret = \"⟦{l32}⟧\""),
    kind('P', "aws secret", "aws_secret_access_key = ⟦{b40}⟧"),
    kind(
        'P',
        "aws secret, in JSON",
        "\"SecretAccessKey\": \"⟦{b40}⟧\"",
    ),
    kind('P', "aws session token", "AWS_SESSION_TOKEN=⟦{b200}⟧"),
    kind('G', "beamer", "beamer_api_token=⟦b_{s44}⟧"),
    kind('G', "bitbucket", "BITBUCKET_CLIENT_SECRET=⟦{l64}⟧"),
    kind('G', "bittrex", "bittrex_secret_key: ⟦{l32}⟧"),
    kind('G', "cisco meraki", "MERAKI_DASHBOARD_API_KEY=⟦{x40}⟧"),
    kind('G', "cloudflare", "CLOUDFLARE_API_TOKEN=⟦{s40}⟧"),
    kind('G', "codecov", "CODECOV_TOKEN: ⟦{l32}⟧"),
    kind('G', "cohere", "CO_API_KEY=⟦{w40}⟧"),
    kind('G', "coinbase", "\"coinbase_access_token\": \"⟦{s64}⟧\""),
    kind('G', "confluent", "confluent_secret_key=⟦{w64}⟧"),
    kind(
        'G',
        "contentful delivery",
        "CONTENTFUL_DELIVERY_API_TOKEN=⟦{s43}⟧",
    ),
    kind('G', "datadog", "DATADOG_ACCESS_TOKEN=⟦{l40}⟧"),
    kind('P', "datadog app key", "DD_APP_KEY=⟦{x40}⟧"),
    kind('G', "discord", "discord_api_token = '⟦{x64}⟧'"),
    kind('G', "droneci", "DRONECI_ACCESS_TOKEN=⟦{l32}⟧"),
    kind('G', "etsy", "etsy_access_token: '⟦{l24}⟧'"),
    kind('G', "facebook secret", "facebook_app_secret=⟦{x32}⟧"),
    kind('G', "fastly", "FASTLY_API_TOKEN=⟦{s32}⟧"),
    kind('G', "finicity", "finicityClientSecret: \"⟦{l20}⟧\""),
    kind('G', "flickr", "flickr_access_token=⟦{l32}⟧"),
    kind('G', "freshbooks", "freshbooks_access_token=⟦{l64}⟧"),
    kind('G', "gocardless", "gocardless_access_token=⟦live_{s40}⟧"),
    kind('G', "heroku", "HEROKU_API_KEY=⟦{x8}-{x4}-{x4}-{x4}-{x12}⟧"),
    kind('G', "intercom", "INTERCOM_API_TOKEN=⟦{s60}⟧"),
    kind('G', "jfrog", "JFROG_API_KEY=⟦{l73}⟧"),
    kind('G', "kraken", "kraken_access_token=⟦{b80}⟧"),
    kind('G', "launchdarkly", "launchdarkly_access_token: ⟦{s40}⟧"),
    kind('G', "linkedin", "LINKEDIN_CLIENT_SECRET=⟦{w16}⟧"),
    kind('G', "mattermost", "mattermost_access_token=⟦{l26}⟧"),
    kind('G', "messagebird", "MESSAGEBIRD_API_TOKEN=⟦{l25}⟧"),
    kind('G', "okta", "okta_access_token=⟦00{s40}⟧"),
    kind('G', "rapidapi", "X-RapidAPI-Key: ⟦{s50}⟧"),
    kind('G', "sendbird", "sendbird_access_token=⟦{x40}⟧"),
    kind('G', "snyk", "SNYK_TOKEN=⟦{x8}-{x4}-{x4}-{x4}-{x12}⟧"),
    kind('G', "travis", "travis_access_token=⟦{w22}⟧"),
    kind('G', "twitch", "TWITCH_API_TOKEN=⟦{l30}⟧"),
    kind('G', "twitter", "TWITTER_API_SECRET=⟦{w50}⟧"),
    kind('G', "zendesk", "zendesk_secret_key=⟦{w40}⟧"),
    kind('P', "gemini", "GEMINI_API_KEY=⟦{w39}⟧"),
    kind('P', "mistral", "MISTRAL_API_KEY=⟦{w32}⟧"),
    kind('P', "vercel", "VERCEL_TOKEN=⟦{w24}⟧"),
    kind('P', "django", "SECRET_KEY = 'django-insecure-⟦{w40}⟧'"),
    kind('P', "rails", "RAILS_MASTER_KEY=⟦{x32}⟧"),
    kind('P', "laravel", "APP_KEY=base64:⟦{b43}=⟧"),
    kind('P', "jwt secret", "JWT_SECRET=⟦{w48}⟧"),
    kind('P', "nextauth", "NEXTAUTH_SECRET=\"⟦{b43}=⟧\""),
    kind('P', "session secret", "session: { secret: '⟦{w32}⟧' }"),
    kind('P', "wireguard", "PrivateKey = ⟦{b43}=⟧"),
    kind(
        'M',
        "json password",
        "{\"user\": \"ann\", \"password\": \"⟦{p14}⟧\"}",
    ),
    kind('M', "yaml password", "database:\n  password: ⟦{p14}⟧\n"),
    kind(
        'M',
        "ini password",
        "[client]\nuser = ann\npassword = ⟦{p14}⟧\n",
    ),
    kind('M', "env password", "DB_PASSWORD=⟦{p14}⟧"),
    kind('M', "short name", "SMTP_PASS=⟦{p12}⟧"),
    kind('M', "php array", "'password' => '⟦{p14}⟧',"),
    kind('M', "xml element", "<password>⟦{p14}⟧</password>"),
    kind(
        'G',
        "nuget configuration",
        "<add key=\"ClearTextPassword\" value=\"⟦{p14}⟧\" />",
    ),
    kind('M', "java properties", "spring.datasource.password=⟦{p14}⟧"),
    kind('M', "rust code", "let password = \"⟦{p14}⟧\";"),
    kind('M', "go field", "Token: \"⟦{w40}⟧\","),
    kind(
        'M',
        "docker configuration",
        "{\"auths\": {\"r.test\": {\"auth\": \"⟦{b40}⟧\"}}}",
    ),
    kind(
        'M',
        "npmrc",
        concat!(
            "//registry.npmjs",
            ".org/:_authToken=⟦{x8}-{x4}-{x4}-{x4}-{x12}⟧"
        ),
    ),
    kind('M', "dockerfile", "ENV API_TOKEN ⟦{w40}⟧\n"),
    kind('M', "terraform variable", "client_secret = \"⟦{s40}⟧\""),
];

/// Secrets in commands, addresses, headers and blocks.
pub(crate) const PLACES: &[Kind] = &[
    kind(
        'M',
        "psql variable",
        "PGPASSWORD=⟦{p12}⟧ psql -h db -U ann app",
    ),
    kind(
        'M',
        "mysql option",
        "mysql -u root -p⟦{p12}⟧ app < dump.sql",
    ),
    kind(
        'M',
        "mysql long option",
        "mysqldump --user=root --password=⟦{p12}⟧ app",
    ),
    kind('M', "mysql variable", "MYSQL_PWD=⟦{p12}⟧ mysql app"),
    kind('M', "sshpass", "sshpass -p ⟦{p12}⟧ ssh ann@host"),
    kind(
        'M',
        "sshpass, quoted",
        "sshpass -p '⟦{p12}⟧' scp a ann@host:",
    ),
    kind(
        'M',
        "docker login",
        "docker login -u ann -p ⟦{p16}⟧ registry.test",
    ),
    kind('M', "redis-cli", "redis-cli -h cache -a ⟦{p16}⟧ ping"),
    kind(
        'M',
        "ldapsearch",
        "ldapsearch -x -D cn=admin -w ⟦{p12}⟧ -b dc=x",
    ),
    kind(
        'M',
        "sqlcmd",
        "sqlcmd -S host -U sa -P ⟦{p12}⟧ -Q 'select 1'",
    ),
    kind('M', "mongo", "mongosh --host h -u ann -p ⟦{p12}⟧ admin"),
    kind('M', "smbclient", "smbclient //srv/share -U ann%⟦{p12}⟧"),
    kind('M', "htpasswd", "htpasswd -cb .htpasswd ann ⟦{p12}⟧"),
    kind(
        'M',
        "openssl",
        "openssl enc -aes-256-cbc -pass pass:⟦{p12}⟧ -in a",
    ),
    kind(
        'M',
        "wget",
        "wget --user=ann --password=⟦{p12}⟧ https://x.test/a",
    ),
    kind(
        'M',
        "long option with blank",
        "tool --password ⟦{p12}⟧ --verbose",
    ),
    kind('M', "token option", "deploy --token ⟦{w32}⟧ --yes"),
    kind('M', "api key option", "tool --api-key=⟦{w32}⟧"),
    kind('M', "curl user", "curl -u ann:⟦{p12}⟧ https://x.test/"),
    kind(
        'M',
        "curl user, quoted",
        "curl --user 'ann:⟦{p12}⟧' https://x.test/",
    ),
    kind(
        'M',
        "curl bearer",
        "curl -H \"Authorization: Bearer ⟦{s40}⟧\" https://x.test/",
    ),
    kind(
        'M',
        "curl basic",
        "curl -H 'Authorization: Basic ⟦{b32}⟧' https://x.test/",
    ),
    kind(
        'M',
        "curl key header",
        "curl -H 'X-API-Key: ⟦{w32}⟧' https://x.test/",
    ),
    kind(
        'M',
        "curl cookie",
        "curl -H 'Cookie: session=⟦{w32}⟧' https://x.test/",
    ),
    kind(
        'M',
        "set-cookie",
        "Set-Cookie: sid=⟦{w32}⟧; Path=/; HttpOnly",
    ),
    kind('M', "bearer in prose", "sent with Bearer ⟦{s40}⟧ as before"),
    kind('M', "okta header", "Authorization: SSWS ⟦00{s40}⟧"),
    kind('M', "vault header", "X-Vault-Token: ⟦{w26}⟧"),
    kind('M', "gitlab header", "PRIVATE-TOKEN: ⟦{s20}7a⟧"),
    kind('M', "basic auth address", "https://ann:⟦{w16}⟧@x.test/path"),
    kind(
        'M',
        "git address with token",
        "git clone https://oauth2:⟦{s26}⟧@git.test/a.git",
    ),
    kind(
        'M',
        "postgres address",
        "postgres://ann:⟦{p14}⟧@db.test:5432/app",
    ),
    kind(
        'M',
        "postgresql address",
        "postgresql+asyncpg://ann:⟦{p14}⟧@db/app",
    ),
    kind(
        'M',
        "mysql address",
        "mysql://root:⟦{p14}⟧@127.0.0.1:3306/app",
    ),
    kind(
        'M',
        "mongodb address",
        "mongodb+srv://ann:⟦{w16}⟧@c0.mongodb.net/app",
    ),
    kind('M', "redis address", "redis://:⟦{w24}⟧@cache:6379/0"),
    kind('M', "amqp address", "amqps://ann:⟦{w16}⟧@mq.test/vhost"),
    kind('M', "sentry dsn", "https://⟦{x32}⟧:⟦{x32}⟧@sentry.test/1"),
    kind(
        'M',
        "cloudinary address",
        "cloudinary://{d15}:⟦{s27}⟧@cloud",
    ),
    kind(
        'M',
        "jdbc address",
        "jdbc:postgresql://db/app?user=ann&password=⟦{w14}⟧",
    ),
    kind(
        'M',
        "ado connection",
        "Server=db;Database=app;User Id=sa;Password=⟦{p14}⟧;",
    ),
    kind(
        'M',
        "libpq words",
        "host=db user=ann password=⟦{w14}⟧ dbname=app",
    ),
    kind(
        'M',
        "azure storage",
        "AccountName=a;AccountKey=⟦{b86}==⟧;EndpointSuffix=x",
    ),
    kind(
        'M',
        "azure service bus",
        "SharedAccessKeyName=k;SharedAccessKey=⟦{b43}=⟧",
    ),
    kind(
        'M',
        "azure sas",
        "https://a.blob.core.windows.net/c?sv=1&sig=⟦{w43}%3D⟧",
    ),
    kind(
        'M',
        "aws presigned",
        "https://b.s3.amazonaws.com/k?X-Amz-Date=1&X-Amz-Signature=⟦{x64}⟧",
    ),
    kind(
        'M',
        "query parameter",
        "https://api.test/v1?access_token=⟦{w40}⟧&x=1",
    ),
    kind('M', "query key", "https://api.test/v1?api_key=⟦{w32}⟧"),
    kind('M', "netrc", "machine api.test login ann password ⟦{p14}⟧"),
    kind(
        'M',
        "kubectl literal",
        "kubectl create secret generic s --from-literal=pw=⟦{p14}⟧",
    ),
    kind(
        'M',
        "aws configure",
        "aws configure set aws_secret_access_key ⟦{b40}⟧",
    ),
    kind('M', "export", "export SERVICE_TOKEN=\"⟦{w40}⟧\""),
    kind('M', "fish shell", "set -gx API_TOKEN ⟦{w40}⟧"),
    kind('M', "windows shell", "setx API_TOKEN ⟦{w40}⟧"),
    kind(
        'M',
        "rsa key",
        "⟦-----BEGIN RSA PRIVATE KEY-----\n{b64}\n{b64}\n{b40}\n-----END RSA PRIVATE KEY-----⟧",
    ),
    kind(
        'M',
        "openssh key",
        "⟦-----BEGIN OPENSSH PRIVATE KEY-----\n{b70}\n{b70}\n{b22}==\n\
         -----END OPENSSH PRIVATE KEY-----⟧",
    ),
    kind(
        'M',
        "pkcs8 key, written out",
        "\"private_key\": \"⟦-----BEGIN PRIVATE KEY-----\\n{b64}\\n{b64}\\n\
         -----END PRIVATE KEY-----⟧\\n\"",
    ),
    kind(
        'M',
        "pgp key",
        "⟦-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n{b64}\n{b64}\n={b4}\n\
         -----END PGP PRIVATE KEY BLOCK-----⟧",
    ),
    kind(
        'M',
        "key that is cut off",
        "-----BEGIN EC PRIVATE KEY-----\n⟦{b64}\n{b64}⟧",
    ),
    kind(
        'M',
        "putty key",
        "PuTTY-User-Key-File-3: ssh-ed25519\nPrivate-Lines: 1\n⟦{b48}⟧\nPrivate-MAC: 00",
    ),
    kind(
        'M',
        "private block",
        "before <private>⟦{p20} in words⟧</private> after",
    ),
];

/// Where a token may stand.
pub(crate) const AROUND: &[(&str, &str)] = &[
    ("", ""),
    ("use ", " now"),
    ("it is ", "."),
    ("\"", "\""),
    ("'", "'"),
    ("`", "`"),
    ("(", ")"),
    ("[", "]"),
    ("<", ">"),
    ("x=", ""),
    ("x: ", ""),
    ("a,", ",b"),
    ("first\n", "\nsecond"),
    ("\t", "\r\n"),
    ("?x=", "&y=1"),
    ("{\"k\":\"", "\"}"),
    ("{\\\"k\\\":\\\"", "\\\"}"),
    ("{\\\\\\\"k\\\\\\\":\\\\\\\"", "\\\\\\\"}"),
    ("one\\n", "\\ntwo"),
    ("**", "**"),
    ("let x = \"", "\";"),
    ("echo ", " | cat"),
    ("+", ""),
    ("€ä", " ü"),
];

/// Random numbers of which each test has its own row.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn of(&mut self, alphabet: &str) -> char {
        let at = (self.next() % alphabet.len() as u64) as usize;
        char::from(alphabet.as_bytes()[at])
    }
}

const LOWER: &str = "abcdefghijklmnopqrstuvwxyz";
const UPPER: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
const DIGITS: &str = "0123456789";

fn alphabet(letter: char) -> String {
    match letter {
        'w' => [LOWER, UPPER, DIGITS].concat(),
        'l' => [LOWER, DIGITS].concat(),
        'U' => [UPPER, DIGITS].concat(),
        'x' => [DIGITS, "abcdef"].concat(),
        'd' => DIGITS.to_owned(),
        's' => [LOWER, UPPER, DIGITS, "_-"].concat(),
        'b' => [LOWER, UPPER, DIGITS, "+/"].concat(),
        'h' => [LOWER, UPPER, DIGITS, "./"].concat(),
        'a' => LOWER.to_owned(),
        'B' => [UPPER, "234567"].concat(),
        'A' => "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L".to_owned(),
        'p' => [LOWER, UPPER, DIGITS, "!_.^+"].concat(),
        other => panic!("there is no alphabet {other}"),
    }
}

/// Returns a planted secret of a kind.
pub(crate) fn plant(kind: Kind, random: &mut Random) -> Planted {
    let mut text = String::new();
    let mut marked = kind.template;
    while let Some(open) = marked.find('{') {
        let rest = &marked[open + 1..];
        let size = rest[..].find('}').map(|close| &rest[..close]);
        let number = size.and_then(|size| size.get(1..)?.parse::<usize>().ok());
        let (Some(size), Some(number)) = (size, number) else {
            text.push_str(&marked[..=open]);
            marked = rest;
            continue;
        };
        text.push_str(&marked[..open]);
        text.push_str(&word(size.chars().next().unwrap(), number, random));
        marked = &rest[size.len() + 1..];
    }
    text.push_str(marked);
    let secret = match (text.find('⟦'), text.rfind('⟧')) {
        (Some(start), Some(end)) => text[start + '⟦'.len_utf8()..end].replace("⟧:⟦", ":"),
        _ => text.clone(),
    };
    Planted {
        kind,
        text: text.replace(['⟦', '⟧'], ""),
        secret,
    }
}

/// Passwords hold a digit, as policies demand; no word starts or ends with a sign.
fn word(letter: char, length: usize, random: &mut Random) -> String {
    let alphabet = alphabet(letter);
    let mut word: Vec<char> = (0..length).map(|_| random.of(&alphabet)).collect();
    for at in [0, length - 1] {
        while !word[at].is_ascii_alphanumeric() {
            word[at] = random.of(&alphabet);
        }
    }
    if letter == 'p' {
        word[length / 2] = random.of(DIGITS);
    }
    word.into_iter().collect()
}

/// Returns `rounds` secrets of every kind, tokens in changing surroundings.
pub(crate) fn all(seed: u64, rounds: usize) -> Vec<Planted> {
    let mut random = Random::new(seed);
    let mut planted = Vec::new();
    for round in 0..rounds {
        for (at, kind) in TOKENS.iter().enumerate() {
            let mut one = plant(*kind, &mut random);
            let (before, after) = AROUND[(round + at) % AROUND.len()];
            one.text = [before, &one.text, after].concat();
            planted.push(one);
        }
        for kind in NAMED.iter().chain(PLACES) {
            planted.push(plant(*kind, &mut random));
        }
    }
    planted
}

/// Returns the pieces of a secret of which none may be left: what is long enough not to stand
/// somewhere by chance.
pub(crate) fn pieces(secret: &str) -> Vec<&str> {
    const PIECE: usize = 12;
    if secret.len() <= PIECE {
        return vec![secret];
    }
    // What every secret of the kind starts with may stay; its end may not, nor its middle.
    let ends = [
        secret.len(),
        secret.len() - secret.len() / 4,
        secret.len() / 2 + PIECE,
    ];
    let piece = |end: usize| {
        let end = end.clamp(PIECE, secret.len());
        secret.get(end - PIECE..end)
    };
    ends.into_iter()
        .filter_map(piece)
        .filter(|piece| !piece.contains("PRIVATE KEY") && !piece.contains("KEY---"))
        .filter(|piece| piece.bytes().any(|b| b.is_ascii_alphanumeric()))
        .collect()
}
