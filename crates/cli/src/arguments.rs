//! The command line: options that every command takes, and the list of commands. Each command's
//! own arguments are in its file.

use clap::{Parser, Subcommand};

use crate::commands::records::{Verb, kinds};
use crate::commands::{
    account, activity, audit, backup, checkpoint, completions, config, conflict, context, daemon,
    device, doctor, dump, embedding, graph, hook, import, init, login, logout, man, mcp, org,
    process_queue, project, pull, queue, restore, scrub, search, session, share, stats, status,
    sync, task, team, test, timeline, uninstall, usage, verify,
};

const EXAMPLES: &str = "\
Examples:
  coditect init                              connect Claude Code, Codex and Gemini
  coditect import claude                     bring in the transcripts of this machine
  coditect search \"connection refused\"       find it again; needs no server
  coditect decision add \"Use SQLite\" --rationale \"works offline\"
  echo $KEY | coditect login --server https://coditect.example.org --license -
  coditect sync && coditect status

Everything works without a server until you log in. Exit codes: 0 done, 1 failed, 2 usage,
3 not logged in, 4 offline, 5 refused, 6 not found, 7 unhealthy, 8 a file cannot be used or the
disk is full (docs/EXIT-CODES.md).

Environment:
  CODITECT_HOME      where configuration and data are (default: home)
  CODITECT_OFFLINE   true: send nothing; false: leave offline mode
  CODITECT_EMAIL, CODITECT_PASSWORD, CODITECT_ACCESS_TOKEN, CODITECT_TENANT_ID   for login";

/// The working memory of coding agents, on every machine.
#[derive(Debug, Parser)]
#[command(name = "coditect", version, after_help = EXAMPLES, max_term_width = 100)]
#[command(
    infer_long_args = false,
    disable_help_subcommand = false,
    subcommand_required = true
)]
pub(crate) struct Arguments {
    /// Print JSON to standard output
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Use the data and login of this profile
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) profile: Option<String>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Link this machine to a server
    Login(login::Login),
    /// End the session; data and the link of the folder stay
    Logout(logout::Logout),
    /// Your own account
    #[command(subcommand)]
    Account(account::Account),
    /// Bring in what other programs have recorded
    #[command(subcommand)]
    Import(import::Import),
    /// Exchange changes with the server
    Sync(sync::Sync),
    /// Show what is linked, queued and in step
    Status(status::Status),
    /// Check the server and the login
    Test(test::Test),
    /// Send what is queued now, whatever waits for a later try
    ProcessQueue(process_queue::ProcessQueue),
    /// Look for what is wrong, and say what to do
    Doctor(doctor::Doctor),
    /// Copy the databases of this machine
    Backup(backup::Backup),
    /// Put databases back from a backup
    Restore(restore::Restore),
    /// Compare with the server, and mend what differs
    Verify(verify::Verify),
    /// Decisions and their reasons
    #[command(subcommand, after_help = kinds::DECISION_EXAMPLES)]
    Decision(Verb<kinds::Decision>),
    /// What was learned
    #[command(subcommand, after_help = kinds::LEARNING_EXAMPLES)]
    Learning(Verb<kinds::Learning>),
    /// Errors and what fixed them
    #[command(subcommand, after_help = kinds::ERROR_EXAMPLES)]
    Error(Verb<kinds::ErrorSolution>),
    /// Tasks of agents and people
    #[command(subcommand)]
    Task(task::Task),
    /// Projects, known by their repositories
    #[command(subcommand, after_help = project::EXAMPLES)]
    Project(project::Project),
    /// Paths of projects that are not looked at
    #[command(subcommand, after_help = kinds::EXCLUDE_EXAMPLES)]
    Exclude(Verb<kinds::Exclude>),
    /// Sprints of projects
    #[command(subcommand, after_help = kinds::SPRINT_EXAMPLES)]
    Sprint(Verb<kinds::Sprint>),
    /// Tracks of work that projects follow
    #[command(subcommand, after_help = kinds::TRACK_EXAMPLES)]
    Track(Verb<kinds::Track>),
    /// Named moments of projects
    #[command(subcommand, after_help = kinds::CHECKPOINT_EXAMPLES)]
    Checkpoint(checkpoint::Checkpoint),
    /// Measured health of components and projects
    #[command(subcommand, after_help = kinds::METRIC_EXAMPLES)]
    Metric(Verb<kinds::Metric>),
    /// How well a model's confidence matched what happened
    #[command(subcommand, after_help = kinds::CALIBRATION_EXAMPLES)]
    Calibration(Verb<kinds::Calibration>),
    /// What belongs together: the knowledge graph
    #[command(subcommand)]
    Graph(graph::Graph),
    /// How often agents, skills, commands and MCP tools were used
    #[command(subcommand)]
    Usage(usage::Usage),
    /// Which task each call of a tool belonged to
    #[command(subcommand)]
    Activity(activity::Activity),
    /// Vectors of a project's files, and what is near
    #[command(subcommand)]
    Embedding(embedding::Embedding),
    /// Things that the knowledge graph knows
    #[command(subcommand, after_help = kinds::NODE_EXAMPLES)]
    Node(Verb<kinds::Node>),
    /// How things in the knowledge graph belong together
    #[command(subcommand, after_help = kinds::EDGE_EXAMPLES)]
    Edge(Verb<kinds::Edge>),
    /// Conversations with agents
    #[command(subcommand)]
    Session(session::Session),
    /// Search messages, decisions, learnings, errors and tasks
    Search(search::Search),
    /// Show what happened, in the order of time
    Timeline(timeline::Timeline),
    /// Count tokens and what they would have cost
    Stats(stats::Stats),
    /// Let others see rows: move them to a project, a team or the organisation
    Share(share::Share),
    /// Take shared rows back, so that only their author sees them
    Unshare(share::Unshare),
    /// Take secrets out of what is stored
    Scrub(scrub::Scrub),
    /// Versions that lost against a concurrent one
    #[command(subcommand)]
    Conflict(conflict::Conflict),
    /// Changes that wait to be sent
    #[command(subcommand)]
    Queue(queue::Queue),
    /// Connect the agents of this machine
    Init(init::Init),
    /// Take out what init wrote
    Uninstall(uninstall::Uninstall),
    /// Record an event of an agent; agents call it
    Hook(hook::Hook),
    /// Show what a session in this folder begins with
    Context(context::Show),
    /// Serve the memory to agents (Model Context Protocol)
    Mcp(mcp::Mcp),
    /// Keep this machine in step by itself
    #[command(subcommand)]
    Daemon(daemon::Daemon),
    /// Fetch a table that only goes up, from all devices
    Pull(pull::Pull),
    /// What is configured, and where it comes from
    #[command(subcommand, after_help = config::EXAMPLES)]
    Config(config::Config),
    /// The machines of the account
    #[command(subcommand)]
    Device(device::Device),
    /// Teams and their members
    #[command(subcommand, after_help = team::EXAMPLES)]
    Team(team::Team),
    /// The organisation and its members
    #[command(subcommand, after_help = org::EXAMPLES)]
    Org(org::Org),
    /// Who did what in the organisation
    Audit(audit::Audit),
    /// Print a script that completes commands in a shell
    Completions(completions::Completions),
    /// Write the manual pages
    Man(man::Man),
    /// Print all rows for comparing replicas
    #[command(hide = true)]
    Dump(dump::Dump),
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn json_and_profile_go_before_and_after_the_command() {
        for line in [
            ["coditect", "--json", "--profile", "work", "status"],
            ["coditect", "status", "--profile", "work", "--json"],
        ] {
            let arguments = Arguments::try_parse_from(line).unwrap();
            assert!(arguments.json);
            assert_eq!(arguments.profile.as_deref(), Some("work"));
        }
    }

    #[test]
    fn every_command_has_a_description() {
        let root = Arguments::command();
        let mut left: Vec<&clap::Command> = root.get_subcommands().collect();
        while let Some(command) = left.pop() {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            left.extend(command.get_subcommands());
        }
    }
}
