//! The commands, one file each, and the dispatch to them.

pub(crate) mod account;
pub(crate) mod activity;
pub(crate) mod audit;
pub(crate) mod backup;
pub(crate) mod checkpoint;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod conflict;
pub(crate) mod context;
pub(crate) mod daemon;
pub(crate) mod device;
pub(crate) mod doctor;
pub(crate) mod dump;
pub(crate) mod embedding;
pub(crate) mod graph;
pub(crate) mod hook;
pub(crate) mod import;
pub(crate) mod init;
pub(crate) mod login;
pub(crate) mod logout;
pub(crate) mod man;
pub(crate) mod mcp;
pub(crate) mod membership;
pub(crate) mod org;
pub(crate) mod process_queue;
pub(crate) mod project;
pub(crate) mod pull;
pub(crate) mod queue;
pub(crate) mod recall;
pub(crate) mod records;
pub(crate) mod restore;
pub(crate) mod scrub;
pub(crate) mod search;
pub(crate) mod session;
pub(crate) mod share;
pub(crate) mod stats;
pub(crate) mod status;
pub(crate) mod sync;
pub(crate) mod task;
pub(crate) mod team;
pub(crate) mod test;
pub(crate) mod timeline;
pub(crate) mod uninstall;
pub(crate) mod usage;
pub(crate) mod verify;

use crate::arguments::{Arguments, Command};
use crate::context::Context;
use crate::environment::Environment;
use crate::exit::Exit;
use crate::printer::Printer;

/// Runs a command.
pub(crate) fn run(
    arguments: Arguments,
    environment: Environment,
    printer: &Printer,
) -> anyhow::Result<Exit> {
    let profile = arguments.profile.as_deref();
    let mut context = Context::new(environment, profile, printer.clone())?;
    let context = &mut context;
    match arguments.command {
        Command::Login(command) => login::run(context, command),
        Command::Logout(_) => logout::run(context),
        Command::Account(command) => account::run(context, &command),
        Command::Import(command) => import::run(context, &command),
        Command::Sync(command) => sync::run(context, &command),
        Command::Status(_) => status::run(context),
        Command::Test(_) => test::run(context),
        Command::ProcessQueue(command) => process_queue::run(context, &command),
        Command::Doctor(command) => doctor::run(context, &command),
        Command::Backup(command) => backup::run(context, &command),
        Command::Restore(command) => restore::run(context, &command),
        Command::Verify(command) => verify::run(context, &command),
        Command::Decision(command) => records::run(context, command),
        Command::Learning(command) => records::run(context, command),
        Command::Error(command) => records::run(context, command),
        Command::Task(command) => task::run(context, command),
        Command::Project(command) => project::run(context, command),
        Command::Exclude(command) => records::run(context, command),
        Command::Sprint(command) => records::run(context, command),
        Command::Track(command) => records::run(context, command),
        Command::Checkpoint(command) => checkpoint::run(context, command),
        Command::Metric(command) => records::run(context, command),
        Command::Calibration(command) => records::run(context, command),
        Command::Node(command) => records::run(context, command),
        Command::Edge(command) => records::run(context, command),
        Command::Session(command) => session::run(context, command),
        Command::Share(command) => share::share(context, &command),
        Command::Unshare(command) => share::unshare(context, &command),
        Command::Scrub(command) => scrub::run(context, &command),
        Command::Search(command) => search::run(context, &command),
        Command::Timeline(command) => timeline::run(context, &command),
        Command::Stats(command) => stats::run(context, &command),
        Command::Graph(command) => graph::run(context, &command),
        Command::Usage(command) => usage::run(context, &command),
        Command::Activity(command) => activity::run(context, &command),
        Command::Embedding(command) => embedding::run(context, command),
        Command::Conflict(command) => conflict::run(context, command),
        Command::Queue(command) => queue::run(context, command),
        Command::Init(command) => init::run(context, &command),
        Command::Uninstall(command) => uninstall::run(context, &command),
        Command::Hook(command) => Ok(hook::run(context, command)),
        Command::Context(command) => context::run(context, &command),
        Command::Mcp(command) => mcp::run(context, &command),
        Command::Daemon(command) => daemon::run(context, &command),
        Command::Pull(command) => pull::run(context, &command),
        Command::Config(command) => config::run(context, command),
        Command::Device(command) => device::run(context, command),
        Command::Team(command) => team::run(context, command),
        Command::Org(command) => org::run(context, command),
        Command::Audit(command) => audit::run(context, &command),
        Command::Completions(command) => completions::run(context, &command),
        Command::Man(command) => man::run(context, &command),
        Command::Dump(_) => dump::run(context),
    }
}
