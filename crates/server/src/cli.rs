//! The command line: what can be asked, with help that teaches. Does nothing itself.

use clap::{Args, Parser, Subcommand};
use coditect_server_store::identity::Role;

use crate::config::SettingsArgs;

/// The service of CODITECT: keeps the working memory of coding agents for all machines of a
/// person, a team, an organisation.
///
/// On one machine `coditect-server up` is all it takes: it brings its own PostgreSQL. For a
/// PostgreSQL of your own set DATABASE_URL, then `migrate` once and `serve`.
#[derive(Debug, Parser)]
#[command(name = "coditect-server", version, max_term_width = 100)]
#[command(
    after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 a server runs already, \
                        4 there is no such thing, 5 stored rows are damaged."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Where and how.
    #[command(flatten)]
    pub settings: SettingsArgs,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start everything on this machine: an embedded PostgreSQL and the API
    ///
    /// The first start makes an organisation, its owner and a licence, and writes them to
    /// DIR/bootstrap.json (readable by you only). Prints `ready URL` once it serves, stays in
    /// the foreground, and stops everything it started on Ctrl-C or SIGTERM.
    #[command(
        after_help = "Examples:\n  coditect-server up --data-dir ~/coditect\n  \
                            coditect-server up --data-dir /var/lib/coditect --listen 127.0.0.1:0"
    )]
    Up,
    /// Serve the API on an external PostgreSQL (DATABASE_URL)
    ///
    /// DATABASE_URL names the schema's owner; DATABASE_APP_URL and DATABASE_SYSTEM_URL may name
    /// the two other roles, so that this program never holds more rights than it needs. Any
    /// number of servers may share a database; give all the same --secrets-dir.
    #[command(
        after_help = "Example:\n  DATABASE_URL=postgres://coditect_owner@db/coditect \
                            \\\n    coditect-server serve --secrets-dir /etc/coditect/secrets"
    )]
    Serve,
    /// Bring the database's schema up to this program's version
    ///
    /// Makes the roles that are missing, too. `up` does this by itself.
    Migrate {
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
    /// Look at the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Organisations, people, licences, devices; the signing key, the epoch, the catalogue
    ///
    /// Works on --data-dir whether its server is running or not, or on DATABASE_URL.
    #[command(subcommand)]
    Admin(AdminCommand),
    /// Print the OpenAPI document of the HTTP API
    Openapi,
}

/// Looks at the configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print every setting, its value and where the value comes from; secrets are hidden
    Show {
        /// Print it as JSON
        #[arg(long)]
        json: bool,
    },
}

/// What an operator does.
#[derive(Debug, Subcommand)]
pub enum AdminCommand {
    /// Organisations
    #[command(subcommand)]
    Tenant(TenantCommand),
    /// People
    #[command(subcommand)]
    User(UserCommand),
    /// Licences
    #[command(subcommand)]
    License(LicenseCommand),
    /// Devices that are logged in
    #[command(subcommand)]
    Device(DeviceCommand),
    /// The key that signs access tokens
    #[command(subcommand)]
    Key(KeyCommand),
    /// The database's life
    #[command(subcommand)]
    Epoch(EpochCommand),
    /// The platform's component catalogue, the same for all organisations
    #[command(subcommand)]
    Catalogue(CatalogueCommand),
    /// Say how far the servers have read their stored rows, which they do once a day
    ///
    /// With --now every row is read at once: its hash is made anew from its bytes, and the sums
    /// that are kept of the rows are compared with the rows. What follows from other rows is
    /// mended; a row whose bytes are damaged is asked back from a device that holds it.
    #[command(after_help = "Exit code 5 when rows are damaged and not mended yet.")]
    Scrub {
        /// Organisation: its id, or its name if only one has it; without one, all
        #[arg(long)]
        tenant: Option<String>,
        /// Read everything now
        #[arg(long)]
        now: bool,
        #[command(flatten)]
        output: Output,
    },
    /// List what reading the stored rows found and nobody has mended yet, newest first
    Findings {
        /// Organisation: its id, or its name if only one has it; without one, all
        #[arg(long)]
        tenant: Option<String>,
        /// Those that are mended as well
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        output: Output,
    },
    /// Say how many old versions of records are kept, how many would go, and what holds the others
    ///
    /// A version goes when it was replaced longer ago than the organisation's retention (365 days
    /// unless the plan, history_days or `retention` say otherwise), and every device that asked
    /// within 90 days holds the one in its place. The servers see to that once a day.
    History(HistoryArgs),
    /// The audit trail's chain
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Put a fresh key at the top of the file that backups are encrypted with
    ///
    /// Makes the file where it is missing. Name it with --backup-key-file and start the server
    /// again: new archives are encrypted with the fresh key, those of the keys below can still be
    /// read. Keep a copy of the file elsewhere: without it no archive can be.
    BackupKey {
        /// The file
        #[arg(value_name = "FILE")]
        file: std::path::PathBuf,
        #[command(flatten)]
        output: Output,
    },
    /// Restore a backup on trial, and compare what it comes to with what was recorded
    ///
    /// It goes into tables that live as long as the trial: nobody's rows are touched. The server
    /// does the same with a random backup once a day (backup_trial_hours). The result is kept
    /// with the backup and in the audit trail.
    #[command(after_help = "Exit code 5 when the backup is not what was recorded.")]
    BackupTry {
        /// Id of the backup, as the list of its scope and `admin jobs` have it
        #[arg(value_name = "ID")]
        backup: uuid::Uuid,
        #[command(flatten)]
        output: Output,
    },
    /// List the backups and restores that are on their way, wait for another attempt or were given
    /// up, and restores on trial: those in progress and those that failed
    Jobs {
        /// Organisation: its id, or its name if only one has it; without one, all
        #[arg(long)]
        tenant: Option<String>,
        #[command(flatten)]
        output: Output,
    },
    /// Print the signed receipts of an organisation's erasures
    Erasures {
        /// Organisation: its id, or its name if only one has it
        #[arg(long)]
        tenant: String,
        #[command(flatten)]
        output: Output,
    },
    /// The embedded PostgreSQL itself: base backups, and recovery as of any moment
    #[command(subcommand)]
    Database(DatabaseCommand),
    /// Print every synced row of an organisation as JSON lines, to compare replicas with
    ///
    /// Holds content of all its people: an operator's tool for proofs, not a backup.
    Dump {
        /// Organisation: its id, or its name if only one has it
        #[arg(long)]
        tenant: String,
    },
}

/// Form of the output.
#[derive(Debug, Clone, Copy, Args)]
pub struct Output {
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

/// How to remove something for good.
#[derive(Debug, Clone, Copy, Args)]
pub struct Consent {
    /// Only say what would be removed
    #[arg(long, conflicts_with = "yes")]
    pub dry_run: bool,
    /// Do it; without it nothing is done
    #[arg(long)]
    pub yes: bool,
}

/// Old versions of records.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct HistoryArgs {
    /// What to do; without it, say how things stand
    #[command(subcommand)]
    pub command: Option<HistoryCommand>,
    /// Organisation: its id, or its name if only one has it; without one, all
    #[arg(long)]
    pub tenant: Option<String>,
    /// Form of the output.
    #[command(flatten)]
    pub output: Output,
}

/// What is done about old versions.
#[derive(Debug, Subcommand)]
pub enum HistoryCommand {
    /// Remove what may go now, and settled conflicts of the same age
    Purge {
        /// Organisation: its id, or its name if only one has it; without one, all
        #[arg(long)]
        tenant: Option<String>,
        #[command(flatten)]
        how: Consent,
        #[command(flatten)]
        output: Output,
    },
    /// Set how long an organisation's versions are kept
    #[command(
        after_help = "Example: coditect-server admin history retention --tenant acme --days 730"
    )]
    Retention {
        /// Organisation: its id, or its name if only one has it
        #[arg(long)]
        tenant: String,
        /// Days; `forever` for good; `plan` for what the server's configuration or the plan says
        #[arg(long, value_parser = kept_days)]
        days: KeptDays,
        #[command(flatten)]
        output: Output,
    },
}

/// Days for which versions are kept: 0 for good, none for what the plan says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeptDays(pub Option<u32>);

/// Organisations.
#[derive(Debug, Subcommand)]
pub enum TenantCommand {
    /// Make an organisation
    Create {
        /// Its name, for people
        #[arg(long, value_parser = not_empty)]
        name: String,
        #[command(flatten)]
        output: Output,
    },
    /// List all organisations
    List {
        #[command(flatten)]
        output: Output,
    },
    /// Give an organisation another plan: how much it stores, how often its people ask
    ///
    /// Servers notice within half a minute.
    Plan {
        /// Organisation: its id, or its name if only one has it
        #[arg(long)]
        tenant: String,
        /// Name of the plan; without one, all plans are listed
        plan: Option<String>,
        #[command(flatten)]
        output: Output,
    },
    /// Write an organisation's complete data into one file, as of one moment
    ///
    /// All rows as they are stored: people, teams, projects, devices, licences, synced rows with
    /// versions and history, conflicts, long values, the audit trail. Others go on working
    /// meanwhile. Passwords, logins of running programs and backups are not in it. The file is
    /// gzip of JSON lines; whoever has it has everything, so keep it as you keep the database.
    #[command(
        after_help = "Example: coditect-server admin tenant export --tenant acme acme.jsonl.gz"
    )]
    Export {
        /// Organisation: its id, or its name if only one has it
        #[arg(long)]
        tenant: String,
        /// The file; must not be there
        #[arg(value_name = "FILE")]
        file: std::path::PathBuf,
        #[command(flatten)]
        output: Output,
    },
    /// Erase an organisation: everything but the trail and the receipts
    ///
    /// All people, rows and archives go at once and for good; devices lose their copies when they
    /// sync next. What stays is the audit trail, which holds ids and counts, and the receipt.
    #[command(after_help = "Example: coditect-server admin tenant erase --tenant acme --dry-run")]
    Erase {
        /// Organisation: its id, or its name if only one has it
        #[arg(long)]
        tenant: String,
        #[command(flatten)]
        how: Consent,
        #[command(flatten)]
        output: Output,
    },
    /// Take an organisation in that another server has exported: all of it, or nothing
    ///
    /// It keeps its id, so it must not be here yet; both servers must have the same version.
    /// Licence keys go on working. People whose address is new here need a password: admin user
    /// reset-password.
    #[command(after_help = "Example: coditect-server admin tenant import acme.jsonl.gz")]
    Import {
        /// The file
        #[arg(value_name = "FILE")]
        file: std::path::PathBuf,
        #[command(flatten)]
        output: Output,
    },
}

/// People.
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Add a person to an organisation
    ///
    /// A new e-mail address gets a generated password, which is printed once. A person who
    /// belongs to another organisation already keeps the password.
    Create {
        /// Organisation: its id, or its name if only one has it
        #[arg(long)]
        tenant: String,
        /// E-mail address
        #[arg(long, value_parser = email)]
        email: String,
        /// Role: owner, admin, member, viewer, auditor or executive
        #[arg(long, default_value = "member", value_parser = role)]
        role: Role,
        #[command(flatten)]
        output: Output,
    },
    /// Lock a person out of an organisation at once and end the logins there
    Disable {
        /// Organisation: its id, or its name if only one has it
        #[arg(long)]
        tenant: String,
        /// Person: id or e-mail address
        #[arg(long)]
        user: String,
        #[command(flatten)]
        output: Output,
    },
    /// Let a person in again, in the same role; logins that were ended stay so
    Enable {
        /// Organisation: its id, or its name if only one has it
        #[arg(long)]
        tenant: String,
        /// Person: id or e-mail address
        #[arg(long)]
        user: String,
        #[command(flatten)]
        output: Output,
    },
    /// Give a person another password, which is printed once, and end all logins
    ///
    /// The password belongs to the e-mail address: it changes in every organisation of the
    /// person. Licence keys are not touched.
    ResetPassword {
        /// Organisation: its id, or its name if only one has it
        #[arg(long)]
        tenant: String,
        /// Person: id or e-mail address
        #[arg(long)]
        user: String,
        #[command(flatten)]
        output: Output,
    },
    /// Write a person's complete data into a file
    ///
    /// Everything in the person's own scope as it is stored at this moment, with versions and
    /// history, conflicts and long values; what says who the person is: address, role, teams and
    /// projects, devices, licences without their secrets; and what the person did, from the audit
    /// trail. Rows in teams, projects and the organisation belong to those and are not in it. The
    /// file is gzip of JSON lines with a manifest, like an organisation's, and noted in the trail.
    #[command(
        after_help = "Example: coditect-server admin user export --tenant acme --user \
                            a@b.c ann.jsonl.gz"
    )]
    Export {
        /// Organisation: its id, or its name if only one has it
        #[arg(long)]
        tenant: String,
        /// Person: id or e-mail address
        #[arg(long)]
        user: String,
        /// The file; must not be there
        #[arg(value_name = "FILE")]
        file: std::path::PathBuf,
        #[command(flatten)]
        output: Output,
    },
    /// Take a person's file into an account of the person, which may have another id elsewhere
    ///
    /// What is in the file's scope comes into the account's own one: ids and content hashes stay,
    /// versions are new, and devices get it when they sync. A row that is here stays as it is, so
    /// that doing it again adds nothing; what was deleted there, and never was here, stays deleted.
    /// Devices, licences, memberships, history and the trail belong to the account there and stay
    /// out; the receipt counts them. All of it comes, or nothing: the role and the plan hold, and a
    /// file that is damaged, of a newer format or of somebody else changes nothing.
    #[command(
        after_help = "Examples:\n  coditect-server admin user import --tenant acme --user a@b.c \
                            --dry-run ann.jsonl.gz\n  coditect-server admin user import --tenant \
                            acme --user a@b.c --from ann@old.example ann.jsonl.gz"
    )]
    Import {
        /// Organisation: its id, or its name if only one has it
        #[arg(long)]
        tenant: String,
        /// Person: id or e-mail address
        #[arg(long)]
        user: String,
        /// Address that the person has in the file, when it is another than here
        #[arg(long, value_parser = email)]
        from: Option<String>,
        /// Say what would come, and change nothing
        #[arg(long)]
        dry_run: bool,
        /// The file
        #[arg(value_name = "FILE")]
        file: std::path::PathBuf,
        #[command(flatten)]
        output: Output,
    },
    /// Erase a person: everything in the own scope, and what says who the person is
    ///
    /// Rows with their history, conflicts and long values, devices, licences, logins, the address
    /// and the archives of the own scope go at once and for good; the person's devices lose their
    /// copies when they sync next. Rows in teams, projects and the organisation are theirs and
    /// stay, under an id that leads to nobody. A ledger outside the database keeps restores and
    /// older copies of the database from bringing anything back. Prints a signed receipt.
    #[command(
        after_help = "Examples:\n  coditect-server admin user erase --tenant acme --user a@b.c \
                            --dry-run\n  coditect-server admin user erase --tenant acme --user \
                            a@b.c --yes"
    )]
    Erase {
        /// Organisation: its id, or its name if only one has it
        #[arg(long)]
        tenant: String,
        /// Person: id or e-mail address
        #[arg(long)]
        user: String,
        #[command(flatten)]
        how: Consent,
        #[command(flatten)]
        output: Output,
    },
    /// List the people of an organisation
    List {
        /// Organisation: its id, or its name if only one has it
        #[arg(long)]
        tenant: String,
        #[command(flatten)]
        output: Output,
    },
}

/// Licences.
#[derive(Debug, Subcommand)]
pub enum LicenseCommand {
    /// Issue a licence key to a person; it is printed once and not stored
    Issue {
        /// Organisation: its id, or its name if only one has it
        #[arg(long)]
        tenant: String,
        /// Person: id or e-mail address
        #[arg(long)]
        user: String,
        #[command(flatten)]
        output: Output,
    },
    /// Revoke a licence: its key opens no new login
    ///
    /// Logins that it opened go on; revoke their devices to end them.
    Revoke {
        /// Organisation: its id, or its name if only one has it
        #[arg(long)]
        tenant: String,
        /// Id of the licence, as listed
        license: uuid::Uuid,
        #[command(flatten)]
        output: Output,
    },
    /// List the licences of an organisation, without keys
    List {
        /// Organisation: its id, or its name if only one has it
        #[arg(long)]
        tenant: String,
        #[command(flatten)]
        output: Output,
    },
}

/// Devices that are logged in.
#[derive(Debug, Subcommand)]
pub enum DeviceCommand {
    /// List the devices of an organisation
    List {
        /// Organisation: its id, or its name if only one has it
        #[arg(long)]
        tenant: String,
        #[command(flatten)]
        output: Output,
    },
    /// Lock a device out: it neither sends nor receives any more, from now on
    Revoke {
        /// Organisation: its id, or its name if only one has it
        #[arg(long)]
        tenant: String,
        /// Id of the device, as listed
        device: coditect_protocol::DeviceId,
        #[command(flatten)]
        output: Output,
    },
}

/// The key that signs access tokens.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Replace it; running servers that share the secrets folder notice by themselves
    ///
    /// Access tokens that the old key signed stay valid until their time is over, a quarter of
    /// an hour at most. Nobody has to log in again.
    Rotate {
        /// The old key leaked: refuse its tokens from now on; devices renew theirs by themselves
        #[arg(long)]
        at_once: bool,
        #[command(flatten)]
        output: Output,
    },
}

/// The audit trail: whether it is what it was.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Read all entries and check that none was changed, added or removed
    ///
    /// Entries lie in blocks, each of which proves the ones before it; the signed head of the last
    /// one is kept beside the backups. So an entry that somebody changed or removed is found, and
    /// so is a trail whose end was cut off, also when it was done as the database's superuser.
    #[command(after_help = "Exit code 5 when a trail is not what it was.")]
    Verify {
        /// Organisation: its id, or its name if only one has it; without one, all
        #[arg(long)]
        tenant: Option<String>,
        #[command(flatten)]
        output: Output,
    },
    /// Go on from the trail as the database has it, after the database was set back
    ///
    /// The trail itself says that it was done, and which head was kept until then.
    Accept {
        /// Organisation: its id, or its name if only one has it
        #[arg(long)]
        tenant: String,
        #[command(flatten)]
        output: Output,
    },
}

/// The database's life.
#[derive(Debug, Subcommand)]
pub enum EpochCommand {
    /// Say that the database was set back, by a restore for instance
    ///
    /// Every device then reads its streams again from the start and pushes what the database
    /// lacks; nothing is lost and nobody is locked out.
    Bump {
        #[command(flatten)]
        output: Output,
    },
}

/// The archive of the embedded PostgreSQL.
#[derive(Debug, Subcommand)]
pub enum DatabaseCommand {
    /// Make a base backup now; the server makes one a day by itself
    Base {
        #[command(flatten)]
        output: Output,
    },
    /// List the archives in the place for backups, and how far back each goes
    List {
        /// One archive only
        #[arg(long, value_name = "ID")]
        archive: Option<uuid::Uuid>,
        #[command(flatten)]
        output: Output,
    },
    /// Recover the database as of a moment into a new folder
    ///
    /// Nothing is touched but that folder, which appears when all is done: the base backup and the
    /// write-ahead log are fetched and checked, PostgreSQL replays them, and the database begins a
    /// new epoch, so that devices push again what it lacks. `use` puts the folder in place.
    #[command(
        after_help = "Examples:\n  coditect-server admin database recover --latest --into \
                            /var/lib/coditect/postgres.new\n  coditect-server admin database \
                            recover --to 2026-11-21T14:05:00Z --into /tmp/drill"
    )]
    Recover {
        /// The moment, as 2026-11-21T14:05:00Z
        #[arg(long, value_name = "TIME", required_unless_present = "latest")]
        to: Option<chrono::DateTime<chrono::Utc>>,
        /// As far as there is write-ahead log
        #[arg(long, conflicts_with = "to")]
        latest: bool,
        /// The new folder; one like DIR/postgres
        #[arg(long, value_name = "FOLDER")]
        into: std::path::PathBuf,
        /// The archive, where there are several
        #[arg(long, value_name = "ID")]
        archive: Option<uuid::Uuid>,
        /// Read every row of what was recovered and compare it with its hash
        #[arg(long)]
        verify: bool,
        #[command(flatten)]
        output: Output,
    },
    /// Put a recovered folder in the place of the server's, which must not run
    ///
    /// The folder of before stays beside it under another name.
    Use {
        /// The folder that `recover --into` made, on the same disk
        #[arg(value_name = "FOLDER")]
        from: std::path::PathBuf,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        output: Output,
    },
}

/// The platform's component catalogue.
#[derive(Debug, Subcommand)]
pub enum CatalogueCommand {
    /// Make the catalogue what a file says
    ///
    /// JSON lines, each {"table": "platform_components", "row": {…}}; the file is the full set,
    /// what it lacks is removed. Nothing changes when a line is wrong.
    Import {
        /// The file; - reads standard input
        file: std::path::PathBuf,
        #[command(flatten)]
        output: Output,
    },
}

fn not_empty(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("must not be empty".to_owned()),
        trimmed => Ok(trimmed.to_owned()),
    }
}

fn kept_days(text: &str) -> Result<KeptDays, String> {
    let most = coditect_server_store::history::DAYS_MAX;
    match (text, text.parse::<u32>()) {
        ("plan", _) => Ok(KeptDays(None)),
        ("forever", _) => Ok(KeptDays(Some(0))),
        (_, Ok(days)) if days <= most => Ok(KeptDays(Some(days))),
        _ => Err(format!("expected 0 to {most}, forever or plan")),
    }
}

fn email(text: &str) -> Result<String, String> {
    let trimmed = text.trim();
    match trimmed.split_once('@') {
        Some((name, host)) if !name.is_empty() && !host.is_empty() => Ok(trimmed.to_owned()),
        _ => Err("expected an address such as ann@example.com".to_owned()),
    }
}

fn role(text: &str) -> Result<Role, String> {
    let names: Vec<&str> = Role::ALL.iter().map(|role| role.as_str()).collect();
    Role::parse(text).ok_or_else(|| format!("expected one of {}", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn settings_may_stand_before_and_behind_the_command() {
        for line in [
            ["coditect-server", "--data-dir", "/d", "up"],
            ["coditect-server", "up", "--data-dir", "/d"],
        ] {
            let cli = Cli::try_parse_from(line).unwrap();
            assert_eq!(cli.settings.data_dir.as_deref(), Some("/d"));
        }
    }

    #[test]
    fn nonsense_is_refused_with_the_reason() {
        let line = "coditect-server admin user create --tenant t --email e --role boss";
        let error = Cli::try_parse_from(line.split(' '))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("ann@example.com") || error.contains("expected one of"),
            "{error}"
        );
    }
}
