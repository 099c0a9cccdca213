//! What a call was for: the component that it used, and the task that was being worked on. Both
//! follow from the transcript alone, so that reading it again, elsewhere or in other pieces says
//! the same.

use serde_json::Value;

use super::record::{Record, clip, first_text, text};
use super::state::SessionState;
use super::tasks;
use crate::graph;
use crate::rows::{Activity, Method};

/// Longest description of a call, in bytes.
const DESCRIPTION_BYTES_MAX: usize = 300;
/// Longest name of a component, in bytes.
const NAME_BYTES_MAX: usize = 200;
/// Lines of a result that are looked at for a commit.
const LINES_MAX: usize = 50;

/// Returns the kind of component that a tool runs, and which field of its input names it.
fn kind_and_key(tool: &str) -> Option<(&'static str, &'static str)> {
    match tool {
        "Task" | "Agent" => Some(("agent", "subagent_type")),
        "Skill" => Some(("skill", "skill")),
        "SlashCommand" => Some(("command", "command")),
        _ => None,
    }
}

/// Returns whether calls of a tool use a component that their input names.
pub(crate) fn uses_component(tool: &str) -> bool {
    kind_and_key(tool).is_some()
}

/// Returns the component that a call uses: an agent, a skill or a command. A tool of an MCP server
/// says it by its own name.
pub(crate) fn component(tool: &str, input: Option<&Value>) -> Option<String> {
    let (kind, key) = kind_and_key(tool)?;
    let given = input?.get(key)?.as_str()?;
    // What follows the name of a command is its arguments.
    let name = given.split_whitespace().next()?.trim_start_matches('/');
    let is_name = !name.is_empty() && name.len() <= NAME_BYTES_MAX;
    is_name.then(|| format!("{kind}:{name}"))
}

/// Returns what a call is for, if its own words or the tasks in progress say so. The tools that
/// change tasks are for none.
pub(super) fn of_call(own: &SessionState, tool: &str, input: Option<&Value>) -> Option<Activity> {
    if tasks::is_task_tool(tool) {
        return None;
    }
    let empty = Record::new();
    let input = input.and_then(Value::as_object).unwrap_or(&empty);
    let said = text(input, "description");
    let explicit = said.and_then(task_prefix);
    let mut current = own
        .tasks
        .values()
        .filter(|task| task.status.as_deref() == Some("in_progress"));
    let (task_id, track, method) = match (explicit, current.next(), current.next()) {
        (Some((id, track)), _, _) => (Some(id), track, Method::Explicit),
        (None, Some(task), None) => {
            let named = task.description.as_deref().and_then(task_prefix);
            let track = named.and_then(|(_, track)| track);
            (Some(task.task_id.as_str()), track, Method::Temporal)
        }
        (None, Some(_), Some(_)) => (None, None, Method::Ambiguous),
        (None, None, _) => return None,
    };
    let root = own.row.project_path.as_deref();
    Some(Activity {
        description: describe(tool, said, input, root),
        task_id: task_id.map(str::to_owned),
        track: track.map(str::to_owned),
        project_name: root.and_then(folder_name).map(str::to_owned),
        method,
    })
}

/// Returns what the result of a call says about a commit that it made.
pub(super) fn commit(output: &str) -> Option<String> {
    let (_, hash, subject) = output.lines().take(LINES_MAX).find_map(graph::commit)?;
    let line = format!("commit {hash}: {subject}");
    Some(clip(&line, DESCRIPTION_BYTES_MAX).to_owned())
}

/// Returns whether a call may make a commit.
pub(super) fn may_commit(input: Option<&Value>) -> bool {
    let command = input.and_then(|input| input.get("command"));
    match command {
        Some(Value::String(command)) => command.contains("commit"),
        Some(Value::Array(words)) => words
            .iter()
            .any(|word| word.as_str().is_some_and(|word| word.contains("commit"))),
        _ => false,
    }
}

fn describe(tool: &str, said: Option<&str>, input: &Record, root: Option<&str>) -> String {
    let paths = ["file_path", "notebook_path", "absolute_path", "path"];
    let about = said.map(str::to_owned).or_else(|| {
        let path = first_text(input, &paths)?;
        let below = root.and_then(|root| {
            let rest = path.strip_prefix(root.trim_end_matches('/'))?;
            rest.strip_prefix('/')
        });
        Some(below.unwrap_or(path).to_owned())
    });
    let line = match about {
        Some(about) => format!("{tool}: {}", about.lines().next().unwrap_or("")),
        None => tool.to_owned(),
    };
    clip(&line, DESCRIPTION_BYTES_MAX).to_owned()
}

fn folder_name(path: &str) -> Option<&str> {
    let name = path
        .trim_end_matches(['/', '\\'])
        .rsplit(['/', '\\'])
        .next();
    name.filter(|name| !name.is_empty())
}

/// Reads the task that a text begins with, and its track: `A.9.1: …`, `[AB.1.2.3] …`, or
/// `E001-T017: …`, which has no track.
fn task_prefix(text: &str) -> Option<(&str, Option<&str>)> {
    let text = text.trim_start();
    let text = text.strip_prefix('[').unwrap_or(text);
    let end = text.find([':', ']', ' ']).unwrap_or(text.len());
    let id = &text[..end];
    let is_number = |part: &str| {
        (1..=4).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
    };
    if let Some((track, rest)) = id.split_once('.') {
        let is_track =
            (1..=2).contains(&track.len()) && track.bytes().all(|byte| byte.is_ascii_uppercase());
        let numbers = rest.split('.').count();
        let fits = is_track && (2..=3).contains(&numbers) && rest.split('.').all(is_number);
        return fits.then_some((id, Some(track)));
    }
    let (epic, task) = id.split_once('-')?;
    let fits = epic.strip_prefix('E').is_some_and(is_number)
        && task.strip_prefix('T').is_some_and(is_number);
    fits.then_some((id, None))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::TaskRow;
    use serde_json::json;

    fn working_on(tasks: &[(&str, &str, &str)]) -> SessionState {
        let mut own = SessionState::default();
        own.row.project_path = Some("/home/ann/app/".to_owned());
        for (id, status, description) in tasks {
            let row = TaskRow {
                task_id: (*id).to_owned(),
                status: Some((*status).to_owned()),
                description: Some((*description).to_owned()),
                ..TaskRow::default()
            };
            own.tasks.insert((*id).to_owned(), row);
        }
        own
    }

    #[test]
    fn a_task_is_known_by_the_words_a_text_begins_with() {
        for (text, expected) in [
            ("A.9.1: build", Some(("A.9.1", Some("A")))),
            ("[AB.1.2.3] build", Some(("AB.1.2.3", Some("AB")))),
            ("E001-T017: build", Some(("E001-T017", None))),
            ("ABC.1.2: build", None),
            ("A.9: build", None),
            ("A.x.1: build", None),
            ("e.g. this", None),
            ("build A.9.1", None),
            ("E1-build", None),
            ("", None),
        ] {
            assert_eq!(task_prefix(text), expected, "{text}");
        }
    }

    #[test]
    fn a_call_belongs_to_the_task_that_it_names_else_to_the_only_one_in_progress() {
        let edit = json!({"file_path": "/home/ann/app/src/a.rs"});
        let one = working_on(&[("1", "in_progress", "B.2.1: mend"), ("2", "pending", "x")]);
        let found = of_call(&one, "Edit", Some(&edit)).unwrap();
        assert_eq!(found.description, "Edit: src/a.rs");
        assert_eq!(
            (found.task_id.as_deref(), found.track.as_deref()),
            (Some("1"), Some("B"))
        );
        assert_eq!(
            (found.project_name.as_deref(), found.method),
            (Some("app"), Method::Temporal)
        );

        let named = json!({"command": "make", "description": "A.9.1: build it"});
        let found = of_call(&one, "Bash", Some(&named)).unwrap();
        assert_eq!(
            (found.task_id.as_deref(), found.method),
            (Some("A.9.1"), Method::Explicit)
        );

        let two = working_on(&[("1", "in_progress", "x"), ("2", "in_progress", "y")]);
        let found = of_call(&two, "Edit", Some(&edit)).unwrap();
        assert_eq!((found.task_id, found.method), (None, Method::Ambiguous));

        let none = working_on(&[("1", "completed", "x")]);
        assert_eq!(of_call(&none, "Edit", Some(&edit)), None);
        assert_eq!(of_call(&one, "TodoWrite", Some(&json!({}))), None);
    }

    #[test]
    fn components_are_named_by_the_calls_that_use_them() {
        let of = |tool, input: Value| component(tool, Some(&input));
        let agent = of(
            "Task",
            json!({"subagent_type": "Explore", "prompt": "look"}),
        );
        assert_eq!(agent.as_deref(), Some("agent:Explore"));
        let skill = of("Skill", json!({"skill": "superpowers:writing-plans"}));
        assert_eq!(skill.as_deref(), Some("skill:superpowers:writing-plans"));
        let command = of("SlashCommand", json!({"command": "/review 17 --all"}));
        assert_eq!(command.as_deref(), Some("command:review"));
        assert_eq!(of("Bash", json!({"command": "/bin/ls"})), None);
        assert_eq!(of("Skill", json!({"skill": " "})), None);
        assert_eq!(component("Task", None), None);
    }

    #[test]
    fn a_commit_is_told_by_the_line_that_git_prints() {
        let said = commit("x\n[main 1a2b3c4] mend it\n 1 file changed");
        assert_eq!(said.as_deref(), Some("commit 1a2b3c4: mend it"));
        assert_eq!(commit("nothing to commit"), None);
        assert!(may_commit(Some(&json!({"command": "git commit -m x"}))));
        assert!(may_commit(Some(&json!({"command": ["git", "commit"]}))));
        assert!(!may_commit(Some(&json!({"command": "git log"}))));
    }
}
