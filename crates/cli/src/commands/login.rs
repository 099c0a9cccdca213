//! `coditect login`.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{ArgGroup, Args};
use coditect_client::{Credentials, Http, auth, erasure};
use coditect_core::sync::Failure;
use coditect_local_store::{LocalStore, Owner};
use coditect_protocol::wire::auth::{LicenseLogin, LoginReply, PasswordLogin};
use coditect_protocol::{DeviceId, ErrorCode, OrganizationId};
use serde_json::json;

use crate::context::Context;
use crate::exit::{CommandError, Exit};
use crate::{prompt, remote, token};

const EXAMPLES: &str = "\
Examples:
  coditect login --server https://coditect.example.org --license - < key.txt
  coditect login --server https://10.0.0.5 --ca-cert company.pem --license - < key.txt
  coditect login --email ann@example.org --password-stdin < password.txt
  CODITECT_EMAIL=… CODITECT_PASSWORD=… coditect login --yes
  coditect --profile work login --server URL --license -     a second account, data of its own

The first login binds this folder's data to the account; another account needs a profile.";

/// Links this machine to a server.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
#[command(group = ArgGroup::new("how").args(["license", "email", "token"]))]
pub(crate) struct Login {
    /// Address of the server; remembered
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// Licence key; - reads it from standard input, where `ps` does not see it
    #[arg(long, value_name = "KEY")]
    license: Option<String>,
    /// E-mail address of the account
    #[arg(long, value_name = "ADDRESS")]
    email: Option<String>,
    /// Read the password from standard input
    #[arg(long, requires = "email")]
    password_stdin: bool,
    /// Access token; - reads it from standard input
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
    /// Organisation, when the account belongs to several
    #[arg(long, value_name = "ID")]
    tenant: Option<OrganizationId>,
    /// Allow plain http to another machine; tokens travel in the clear
    #[arg(long)]
    allow_plain_http: bool,
    /// Trust the authorities in this file (PEM), too; remembered
    #[arg(long, value_name = "FILE")]
    ca_cert: Option<PathBuf>,
    /// Bind the folder without asking
    #[arg(long)]
    yes: bool,
}

/// What proves who logs in.
enum Proof {
    License(String),
    Password { email: String, password: String },
    Token(String),
}

/// What a login gave.
struct Session {
    owner: Owner,
    device: DeviceId,
    credentials: Credentials,
}

/// Runs the command.
pub(crate) fn run(context: &mut Context, login: Login) -> anyhow::Result<Exit> {
    let server = login
        .server
        .clone()
        .or_else(|| context.cloud.server.clone());
    let server = server.ok_or_else(|| {
        CommandError::new(Exit::Usage, "no server is named")
            .hint("coditect login --server URL --license -")
    })?;
    if let Some(path) = &login.ca_cert {
        let path = std::path::absolute(path).context("the path of --ca-cert is empty")?;
        context.cloud.ca_cert = Some(path);
    }
    begin_anew(context)?;
    let mut store = context.store()?;
    let device = store.device();
    let http = remote::http(context, &server, Some(device), login.allow_plain_http)?;
    let proof = proof(context, &login)?;
    let email = match &proof {
        Proof::Password { email, .. } => Some(email.clone()),
        _ => None,
    };
    let session = remote::block_on(authenticate(context, &login, &http, proof, device))??;
    if let Err(error) = bind(context, &login, &mut store, &session) {
        give_back(&http, &session.credentials);
        return Err(error);
    }
    context.credentials().store(&session.credentials)?;
    let cloud = &mut context.cloud;
    cloud.server = Some(http.server());
    cloud.tenant_id = Some(session.owner.tenant);
    cloud.user_id = Some(session.owner.user);
    cloud.device_id = Some(session.device);
    cloud.email = email.or_else(|| cloud.email.take());
    cloud.allow_plain_http |= login.allow_plain_http;
    context.store_config()?;
    print(context, &session)
}

/// A folder whose account was erased holds nothing any more: another login begins anew.
fn begin_anew(context: &Context) -> anyhow::Result<()> {
    let folder = context.paths.context_storage();
    if LocalStore::erased_note(&folder).is_some() {
        erasure::finish(&context.paths)?;
        LocalStore::begin_anew(&folder)?;
        let note = "the account of before was erased; this folder begins anew, empty";
        context.printer.note(note);
    }
    Ok(())
}

fn print(context: &Context, session: &Session) -> anyhow::Result<Exit> {
    let server = &session.credentials.server;
    let document = json!({
        "server": server,
        "tenant_id": session.owner.tenant,
        "user_id": session.owner.user,
        "device_id": session.device,
        "profile": context.paths.profile(),
    });
    context.printer.either(&document, |printer| {
        printer.line(&format!("logged in to {server}"))
    })?;
    if !context.printer.is_json() {
        context.printer.hint("coditect sync");
    }
    Ok(Exit::Ok)
}

fn proof(context: &Context, login: &Login) -> anyhow::Result<Proof> {
    let given = |value: &str, what| match value {
        "-" => prompt::read_secret(what),
        value => Ok(value.to_owned()),
    };
    if let Some(license) = &login.license {
        return Ok(Proof::License(given(license, "licence key")?));
    }
    if let Some(token) = &login.token {
        return Ok(Proof::Token(given(token, "access token")?));
    }
    let environment = &context.environment;
    let email = login.email.clone().or_else(|| environment.email.clone());
    let password = if login.password_stdin {
        Some(prompt::read_secret("password")?)
    } else {
        environment.password.clone()
    };
    match (email, password, environment.access_token.clone()) {
        (Some(email), Some(password), _) => Ok(Proof::Password { email, password }),
        (None, _, Some(token)) => Ok(Proof::Token(token)),
        (Some(_), None, _) => {
            let error = CommandError::new(Exit::Usage, "no password was given");
            Err(error
                .hint("--password-stdin reads it; or set CODITECT_PASSWORD")
                .into())
        }
        (None, ..) => {
            let error = CommandError::new(Exit::Usage, "nothing says who logs in");
            Err(error
                .hint("--license -, or --email ADDRESS --password-stdin")
                .into())
        }
    }
}

async fn authenticate(
    context: &Context,
    login: &Login,
    http: &Http,
    proof: Proof,
    device: DeviceId,
) -> anyhow::Result<Session> {
    let info = Some(remote::device_info(context, Some(device)));
    let result = match proof {
        Proof::License(license_key) => {
            let request = LicenseLogin {
                license_key,
                device: info,
            };
            auth::license(http, &request).await
        }
        Proof::Password { email, password } => {
            let named = context.environment.tenant_id.as_deref();
            let named = named.map(|id| id.parse().context("CODITECT_TENANT_ID is no UUID"));
            let request = PasswordLogin {
                email,
                password,
                tenant_id: login.tenant.or(named.transpose()?),
                device: info,
            };
            auth::password(http, &request).await
        }
        Proof::Token(token) => return from_token(http, token, device),
    };
    let reply = result.map_err(|failure| refused(&failure))?;
    Ok(from_reply(http, &reply))
}

/// A refused login needs other advice than a session that ended.
fn refused(failure: &Failure) -> CommandError {
    let error = CommandError::from_failure(failure);
    match failure {
        Failure::Unauthenticated(_) => {
            error.hint("check the licence key, or the e-mail address and the password")
        }
        Failure::Refused(problem) if problem.code == ErrorCode::TenantAmbiguous => {
            let listed = problem.extra.get("tenants").map(ToString::to_string);
            error.hint(format!(
                "name one with --tenant ID: {}",
                listed.unwrap_or_default()
            ))
        }
        Failure::Offline(_) => error.hint("is the address right, and is the server running?"),
        _ => error,
    }
}

fn from_reply(http: &Http, reply: &LoginReply) -> Session {
    Session {
        owner: Owner {
            tenant: reply.tenant_id,
            user: reply.user_id,
        },
        device: reply.device_id,
        credentials: Credentials::from_login(&http.server(), reply),
    }
}

fn from_token(http: &Http, token: String, device: DeviceId) -> anyhow::Result<Session> {
    let claims = token::claims(&token).ok_or_else(|| {
        CommandError::new(
            Exit::Usage,
            "the access token is not one of a CODITECT server",
        )
    })?;
    Ok(Session {
        owner: Owner {
            tenant: claims.tenant_id,
            user: claims.sub,
        },
        device: claims.device_id.unwrap_or(device),
        credentials: Credentials {
            server: http.server(),
            access_token: token,
            refresh_token: None,
            erasure_key: None,
        },
    })
}

/// Binds the folder to the account, or checks that it is bound to it.
fn bind(
    context: &Context,
    login: &Login,
    store: &mut LocalStore,
    session: &Session,
) -> anyhow::Result<()> {
    let owner = session.owner;
    if store.owner_of_folder().is_none() && !login.yes {
        let folder = context.paths.data_dir();
        let question = format!(
            "bind the data in {} to user {} of organisation {}?",
            folder.display(),
            owner.user,
            owner.tenant
        );
        if !prompt::confirm(&question)? {
            let error = CommandError::new(Exit::Refused, "the folder was not bound");
            return Err(error
                .hint("coditect --profile NAME login keeps accounts apart")
                .into());
        }
    }
    store.bind(owner.tenant, owner.user)?;
    store.set_device(session.device)?;
    Ok(())
}

/// Ends a session that will not be used. Nobody waits for it to work.
fn give_back(http: &Http, credentials: &Credentials) {
    let Some(refresh) = credentials.refresh_token.as_deref() else {
        return;
    };
    let _ = remote::block_on(auth::logout(http, &credentials.access_token, refresh));
}
