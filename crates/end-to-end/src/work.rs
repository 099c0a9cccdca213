//! What devices write in a test, in three files and two scopes, and what of it must be on the
//! server in the end.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use tempfile::TempDir;

use crate::{Device, Dump, Server, write_transcript};

/// Records of a transcript.
const RECORDS: u64 = 12;

/// Everything that was written.
#[derive(Debug)]
pub struct Work {
    transcripts: TempDir,
    /// Decisions by title: the texts of which one must be stored.
    decisions: BTreeMap<String, Vec<String>>,
    /// Names of projects.
    projects: Vec<String>,
    /// How often the one solution helped.
    helped: i64,
    sessions: u64,
}

impl Work {
    /// Begins with one solution that helped once, on that device.
    #[must_use]
    pub fn begin(device: &Device) -> Self {
        device.sql(
            "org",
            "insert into error_solutions (error_pattern, solution, success_count)
             values ('E42', 'restart', 1);",
        );
        Self {
            transcripts: tempfile::tempdir().unwrap(),
            decisions: BTreeMap::new(),
            projects: Vec::new(),
            helped: 1,
            sessions: 0,
        }
    }

    /// Adds decisions `NAME row N`, every fourth one the organisation's.
    pub fn add(&mut self, device: &Device, name: &str, rows: u64) {
        let mut sql = String::new();
        for at in 0..rows {
            let scope = if at % 4 == 3 { "org" } else { "user" };
            let title = format!("{name} row {at}");
            let _ = writeln!(
                sql,
                "insert into decisions (scope, title, rationale)
                 values ('{scope}', '{title}', 'first');"
            );
            let before = self.decisions.insert(title, vec!["first".to_owned()]);
            assert!(before.is_none(), "{name} was written before");
        }
        device.sql("org", &sql);
    }

    /// Edits a decision; the text is what must be stored.
    pub fn edit(&mut self, device: &Device, title: &str, text: &str) {
        self.edit_besides(device, title, text);
        let texts = vec![text.to_owned()];
        self.decisions.insert(title.to_owned(), texts);
    }

    /// Edits a decision beside somebody else's edit: one of the two is stored, the other kept.
    ///
    /// # Panics
    /// When the device has no such decision.
    pub fn edit_besides(&mut self, device: &Device, title: &str, text: &str) {
        let sql = format!("update decisions set rationale = '{text}' where title = '{title}';");
        let changed = device.sql("org", &format!("{sql} select changes();"));
        assert_eq!(changed.trim(), "1", "{title}");
        let texts = self.decisions.get_mut(title).unwrap();
        texts.push(text.to_owned());
    }

    /// Deletes a decision.
    ///
    /// # Panics
    /// When the device has no such decision.
    pub fn delete(&mut self, device: &Device, title: &str) {
        let sql = format!("delete from decisions where title = '{title}'; select changes();");
        assert_eq!(device.sql("org", &sql).trim(), "1", "{title}");
        self.decisions.remove(title);
    }

    /// Counts that the solution helped.
    pub fn help(&mut self, device: &Device, times: i64) {
        self.helped += times;
        let sql = format!("update error_solutions set success_count = success_count + {times};");
        device.sql("org", &sql);
    }

    /// Imports a new transcript.
    pub fn import(&mut self, device: &Device) {
        self.sessions += 1;
        let folder = self.transcripts.path().join(self.sessions.to_string());
        write_transcript(&folder, self.sessions, RECORDS);
        self.import_again(device);
    }

    /// Imports the last transcript, which another device has, too.
    pub fn import_again(&self, device: &Device) {
        let folder = self.transcripts.path().join(self.sessions.to_string());
        let from = folder.to_str().unwrap();
        let _ = device.json(&["import", "claude", "--from", from]);
    }

    /// Adds a project, and what the device alone knows of its files.
    pub fn project(&mut self, device: &Device, name: &str) {
        device.sql(
            "projects",
            &format!(
                "insert into projects (project_id, name) values ('{name}', '{name}');
                 insert into content_hashes (project_id, file_path, file_hash)
                 values ('{name}', 'src/main.rs', 'abc');"
            ),
        );
        self.projects.push(name.to_owned());
    }

    /// Asserts that the server has all of it, once, and that what lost a conflict is kept by the
    /// server or by one of the devices.
    ///
    /// # Panics
    /// With what is missing, or there twice; `name` says after what.
    pub fn assert_stored(&self, name: &str, server: &Server, stored: &Dump, devices: &[&Device]) {
        let of = |table: &'static str| {
            let rows = stored.iter().filter(move |((of, ..), _)| of == table);
            rows.map(|(_, row)| row)
                .filter(|row| row["deleted"] == false)
        };
        let mut titles = BTreeMap::new();
        for row in of("org_decisions") {
            let text = |column: &str| row["row"][column].as_str().unwrap().to_owned();
            let twice = titles.insert(text("title"), text("rationale"));
            assert_eq!(twice, None, "{name}: {row} is there twice");
        }
        let (found, wanted): (Vec<_>, Vec<_>) =
            (titles.keys().collect(), self.decisions.keys().collect());
        assert_eq!(found, wanted, "{name}");
        for (title, texts) in &self.decisions {
            let text = &titles[title];
            assert!(texts.contains(text), "{name}: {title}: {text} of {texts:?}");
            for other in texts
                .iter()
                .filter(|other| *other != text && *other != "first")
            {
                let kept = is_kept(server, devices, title, other);
                assert!(kept, "{name}: {title}: {other} is lost");
            }
        }
        let messages = of("context_messages").count() as u64;
        assert_eq!(messages, self.sessions * RECORDS, "{name}: messages");
        let helped: Vec<_> = of("org_error_solutions")
            .map(|row| row["row"]["success_count"].as_i64())
            .collect();
        assert_eq!(helped, [Some(self.helped)], "{name}: counter");
        let mut projects: Vec<_> = of("projects_projects")
            .map(|row| row["row"]["name"].as_str().unwrap().to_owned())
            .collect();
        let mut wanted = self.projects.clone();
        projects.sort();
        wanted.sort();
        assert_eq!(projects, wanted, "{name}: projects");
    }
}

/// Returns whether an edit that is not stored is kept as the losing side of a conflict: by the
/// server, or by a device whose edit the server forgot.
fn is_kept(server: &Server, devices: &[&Device], title: &str, text: &str) -> bool {
    let there = format!(
        "select 1 from sync_conflicts
         where row->>'title' = '{title}' and row->>'rationale' = '{text}'"
    );
    let here = format!(
        "select 1 from sync_conflicts where json_extract(row, '$.title') = '{title}'
           and json_extract(row, '$.rationale') = '{text}';"
    );
    let on = |device: &&Device| !device.sql("org", &here).is_empty();
    !server.ask(&there).is_empty() || devices.iter().any(on)
}
