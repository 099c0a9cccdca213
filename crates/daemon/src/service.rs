//! Having the system start the daemon: a systemd user unit on Linux, a launch agent on macOS.
//!
//! Says what has to be written and run; doing it is the caller's, so that it can be shown first.
//! Installing again changes nothing, and uninstalling removes every trace.

use std::path::{Path, PathBuf};

/// Who looks after services here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manager {
    /// systemd, for the user.
    Systemd,
    /// launchd, for the user.
    Launchd,
}

/// What the service needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// The program.
    pub program: PathBuf,
    /// Profile; none for the ordinary one.
    pub profile: Option<String>,
    /// `HOME`.
    pub home: PathBuf,
    /// Folder of the user's configuration (`XDG_CONFIG_HOME`, else `HOME/.config`).
    pub config_home: PathBuf,
    /// Variables that the daemon needs to find what this program found.
    pub environment: Vec<(String, String)>,
}

/// One step of installing or uninstalling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Write a file, unless it is there with this content.
    Write(PathBuf, String),
    /// Remove a file, if it is there.
    Remove(PathBuf),
    /// Run a program.
    Run(Vec<String>),
    /// Run a program whose failure means that there was nothing to do.
    TryRun(Vec<String>),
}

impl Service {
    /// Returns the unit's or agent's name.
    #[must_use]
    pub fn name(&self, manager: Manager) -> String {
        let suffix = self.profile.as_deref();
        match (manager, suffix) {
            (Manager::Systemd, None) => "coditect.service".to_owned(),
            (Manager::Systemd, Some(profile)) => format!("coditect-{profile}.service"),
            (Manager::Launchd, None) => "ai.coditect.daemon".to_owned(),
            (Manager::Launchd, Some(profile)) => format!("ai.coditect.daemon.{profile}"),
        }
    }

    /// Returns the file that describes the service.
    #[must_use]
    pub fn file(&self, manager: Manager) -> PathBuf {
        let name = self.name(manager);
        match manager {
            Manager::Systemd => self.config_home.join("systemd/user").join(name),
            Manager::Launchd => {
                let agents = self.home.join("Library/LaunchAgents");
                agents.join(format!("{name}.plist"))
            }
        }
    }

    /// Returns what installing takes; `active` says whether the manager can be talked to now.
    #[must_use]
    pub fn install(&self, manager: Manager, active: bool) -> Vec<Action> {
        let (file, name) = (self.file(manager), self.name(manager));
        let mut actions = vec![Action::Write(file.clone(), self.text(manager))];
        if !active {
            return actions;
        }
        match manager {
            Manager::Systemd => {
                actions.push(Action::Run(systemctl(&["daemon-reload"])));
                actions.push(Action::Run(systemctl(&["enable", &name])));
                actions.push(Action::Run(systemctl(&["restart", &name])));
            }
            Manager::Launchd => {
                let file = file.display().to_string();
                actions.push(Action::TryRun(words(&["launchctl", "unload", "-w", &file])));
                actions.push(Action::Run(words(&["launchctl", "load", "-w", &file])));
            }
        }
        actions
    }

    /// Returns what uninstalling takes.
    #[must_use]
    pub fn uninstall(&self, manager: Manager, active: bool) -> Vec<Action> {
        let (file, name) = (self.file(manager), self.name(manager));
        let remove = Action::Remove(file.clone());
        match (manager, active) {
            // What `enable` made, also where the manager cannot be asked to undo it.
            (Manager::Systemd, _) => {
                let wants = self.config_home.join("systemd/user/default.target.wants");
                let link = Action::Remove(wants.join(&name));
                let mut actions = Vec::new();
                if active {
                    actions.push(Action::TryRun(systemctl(&["disable", "--now", &name])));
                }
                actions.extend([remove, link]);
                if active {
                    actions.push(Action::Run(systemctl(&["daemon-reload"])));
                    actions.push(Action::TryRun(systemctl(&["reset-failed", &name])));
                }
                actions
            }
            (Manager::Launchd, true) => {
                let file = file.display().to_string();
                let unload = Action::TryRun(words(&["launchctl", "unload", "-w", &file]));
                vec![unload, remove]
            }
            (Manager::Launchd, false) => vec![remove],
        }
    }

    fn arguments(&self) -> Vec<String> {
        let mut arguments = vec!["daemon".to_owned(), "run".to_owned()];
        if let Some(profile) = &self.profile {
            arguments.extend(["--profile".to_owned(), profile.clone()]);
        }
        arguments
    }

    fn text(&self, manager: Manager) -> String {
        match manager {
            Manager::Systemd => self.unit(),
            Manager::Launchd => self.plist(),
        }
    }

    fn unit(&self) -> String {
        let environment: String = self
            .environment
            .iter()
            .map(|(name, value)| format!("Environment=\"{name}={}\"\n", unit_quoted(value)))
            .collect();
        format!(
            "[Unit]\n\
             Description=CODITECT: keeps the memory of this machine's agents in step\n\
             After=network.target\n\n\
             [Service]\n\
             ExecStart=\"{}\" {}\n\
             {environment}\
             Restart=on-failure\n\
             RestartSec=10\n\
             RestartPreventExitStatus=2 5\n\
             TimeoutStopSec=90\n\
             Nice=5\n\n\
             [Install]\n\
             WantedBy=default.target\n",
            unit_quoted(&path_text(&self.program)),
            self.arguments().join(" "),
        )
    }

    fn plist(&self) -> String {
        let strings = |texts: &[String]| -> String {
            let line = |text: &String| format!("    <string>{}</string>\n", xml(text));
            texts.iter().map(line).collect()
        };
        let mut arguments = vec![path_text(&self.program)];
        arguments.extend(self.arguments());
        let environment: String = self
            .environment
            .iter()
            .map(|(name, value)| {
                let value = xml(value);
                format!("    <key>{name}</key>\n    <string>{value}</string>\n")
            })
            .collect();
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
             <!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \
             \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n\
             <plist version=\"1.0\">\n<dict>\n\
             \x20 <key>Label</key>\n  <string>{}</string>\n\
             \x20 <key>ProgramArguments</key>\n  <array>\n{}  </array>\n\
             \x20 <key>EnvironmentVariables</key>\n  <dict>\n{environment}  </dict>\n\
             \x20 <key>RunAtLoad</key>\n  <true/>\n\
             \x20 <key>KeepAlive</key>\n  <dict>\n\
             \x20   <key>SuccessfulExit</key>\n    <false/>\n  </dict>\n\
             \x20 <key>ThrottleInterval</key>\n  <integer>10</integer>\n\
             \x20 <key>ProcessType</key>\n  <string>Background</string>\n\
             </dict>\n</plist>\n",
            self.name(Manager::Launchd),
            strings(&arguments),
        )
    }
}

fn systemctl(arguments: &[&str]) -> Vec<String> {
    let mut all = words(&["systemctl", "--user"]);
    all.extend(words(arguments));
    all
}

fn words(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn path_text(path: &Path) -> String {
    path.display().to_string()
}

/// Quotes a text for a unit's value: backslash, quotes, and the specifiers' percent sign.
fn unit_quoted(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('%', "%%")
        .replace('$', "$$")
}

fn xml(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(profile: Option<&str>) -> Service {
        Service {
            program: PathBuf::from("/opt/my \"tools\"/coditect"),
            profile: profile.map(str::to_owned),
            home: PathBuf::from("/home/ann"),
            config_home: PathBuf::from("/home/ann/.config"),
            environment: vec![("CODITECT_HOME".to_owned(), "/data/100%".to_owned())],
        }
    }

    #[test]
    fn the_unit_starts_this_program_with_its_profile() {
        let service = service(Some("work"));
        let actions = service.install(Manager::Systemd, true);
        let Action::Write(path, unit) = &actions[0] else {
            panic!("{actions:?}")
        };
        assert_eq!(
            path,
            Path::new("/home/ann/.config/systemd/user/coditect-work.service")
        );
        let start = "ExecStart=\"/opt/my \\\"tools\\\"/coditect\" daemon run --profile work\n";
        assert!(unit.contains(start), "{unit}");
        assert!(
            unit.contains("Environment=\"CODITECT_HOME=/data/100%%\"\n"),
            "{unit}"
        );
        assert_eq!(actions.len(), 4);
        // Without a manager to talk to, the file is all there is to do.
        assert_eq!(service.install(Manager::Systemd, false), actions[..1]);
    }

    #[test]
    fn what_installing_makes_uninstalling_removes() {
        for manager in [Manager::Systemd, Manager::Launchd] {
            let service = service(None);
            for active in [true, false] {
                let removed = service.uninstall(manager, active);
                for action in service.install(manager, active) {
                    if let Action::Write(path, _) = action {
                        assert!(removed.contains(&Action::Remove(path)));
                    }
                }
            }
        }
    }

    #[test]
    fn the_agent_is_a_property_list() {
        let plist = service(None).text(Manager::Launchd);
        assert!(plist.contains("<string>/opt/my \"tools\"/coditect</string>"));
        assert!(plist.contains("<key>CODITECT_HOME</key>\n    <string>/data/100%</string>"));
        assert_eq!(
            plist.matches("<dict>").count(),
            plist.matches("</dict>").count()
        );
    }
}
