//! `coditect account`.

use clap::{Args, Subcommand};
use coditect_client::{HttpTransport, membership};
use coditect_protocol::wire::erasure::{AccountErased, AccountErasure};
use serde_json::json;

use crate::context::Context;
use crate::exit::{CommandError, Exit};
use crate::table::grouped;
use crate::{prompt, remote};

const EXAMPLES: &str = "\
Everything in your own scope goes from the server for good: rows with their history, conflicts and
long texts, backups, devices, licences, logins, your address. What you shared with a project, a team
or the organisation stays theirs, under an id that leads to nobody. Afterwards this machine loses
its databases, their backups and the login; your other devices do when they sync next. The archive
of transcripts stays where it is: it never left the machine.

The only owner of an organisation makes another one first: coditect org role EMAIL owner.

Examples:
  coditect account erase ann@acme.example --dry-run
  coditect account erase ann@acme.example
  coditect account erase ann@acme.example --yes --json | jq .receipt

--json: {dry_run, rows, backups, tables, receipt, device_erased}.";

/// Works on your own account.
#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub(crate) enum Account {
    /// Erase it, with all that it has on the server and on this machine
    #[command(after_help = EXAMPLES)]
    Erase(Erase),
}

/// What to erase.
#[derive(Debug, Args)]
pub(crate) struct Erase {
    /// The account's e-mail address: nobody does this by mistake
    email: String,
    /// Only say what would go
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// Runs the command.
pub(crate) fn run(context: &Context, command: &Account) -> anyhow::Result<Exit> {
    let Account::Erase(command) = command;
    let store = context.store()?;
    let owner = store
        .owner_of_folder()
        .ok_or_else(CommandError::not_logged_in)?;
    let mut transport = remote::transport(context, &store)?;
    let path = format!("/api/v1/users/{}/erase", owner.user);
    let mut wanted = AccountErasure {
        email: command.email.clone(),
        dry_run: true,
    };
    let plan = ask(&mut transport, &path, &wanted)?;
    if command.dry_run {
        print(context, &plan, None)?;
        return Ok(Exit::Ok);
    }
    let unsent = remote::queued(&store)?;
    if !command.yes && !prompt::confirm(&question(&command.email, &plan, unsent))? {
        return Err(CommandError::new(Exit::Failure, "nothing was erased").into());
    }
    // Nobody syncs meanwhile: the folder goes when the server is done.
    let _lease = remote::lease(&store)?;
    wanted.dry_run = false;
    let done = ask(&mut transport, &path, &wanted)?;
    let left = remote::erase_folder(context, owner, &mut transport)?;
    if let Some(reason) = &left {
        context.printer.warning(&format!(
            "the account was erased; what it has on this machine is still here: {reason}"
        ));
        context
            .printer
            .hint("coditect sync tries again; coditect uninstall --data removes everything");
    }
    print(context, &done, Some(left.is_none()))?;
    Ok(Exit::Ok)
}

fn ask(
    transport: &mut HttpTransport,
    path: &str,
    wanted: &AccountErasure,
) -> anyhow::Result<AccountErased> {
    let done = remote::block_on(membership::post(transport, path, wanted))?;
    Ok(done.map_err(|failure| CommandError::from_failure(&failure))?)
}

fn question(email: &str, plan: &AccountErased, unsent: u64) -> String {
    let unsent = match unsent {
        0 => String::new(),
        unsent => format!(", and {} changes that were never sent", grouped(unsent)),
    };
    format!(
        "Erase {email} for good: {} rows and {} backups on the server, this machine's databases\
         {unsent}?",
        grouped(plan.rows),
        grouped(plan.backups)
    )
}

/// Prints what went, or would; `removed` says whether the databases of this machine did.
fn print(context: &Context, done: &AccountErased, removed: Option<bool>) -> anyhow::Result<()> {
    let mut document = json!(done);
    if let Some(removed) = removed {
        document["device_erased"] = json!(removed);
    }
    context.printer.either(&document, |printer| {
        let verb = if done.dry_run {
            "would be erased"
        } else {
            "erased"
        };
        printer.line(&format!(
            "{verb}: {} rows and {} backups on the server",
            grouped(done.rows),
            grouped(done.backups)
        ))?;
        for (table, rows) in &done.tables {
            printer.line(&format!("  {table}: {}", grouped(*rows)))?;
        }
        let id = done
            .receipt
            .as_ref()
            .and_then(|receipt| receipt["erasure_id"].as_str());
        if let Some(id) = id {
            printer.line(&format!("receipt {id}; --json prints the whole of it"))?;
        }
        if removed == Some(true) {
            printer.line("the databases of this machine, their backups and the login are gone")?;
        }
        Ok(())
    })
}
