//! The kinds of records: what is special about each.

use super::fields::{Field, Form};
use super::{Described, Kind};

/// Makes a type for each kind, with the examples that its help shows.
macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident, $examples:ident = $text:literal, $kind:expr;)*) => {
        $(
            $(#[$doc])*
            #[derive(Debug)]
            pub(crate) struct $name;

            impl Described for $name {
                const KIND: &'static Kind = &$kind;
            }

            /// Shown below the help.
            #[expect(clippy::allow_attributes, reason = "two kinds have commands of their own")]
            #[allow(dead_code)]
            pub(crate) const $examples: &str = $text;
        )*

        /// All of them.
        #[cfg(test)]
        pub(crate) const ALL: &[&Kind] = &[$(<$name as Described>::KIND),*];
    };
}

const PROJECT: Field =
    Field::option("project_id", "project", "Project, by its id or name").filter();
const PROJECT_OR_HERE: Field = Field::option(
    "project_id",
    "project",
    "Project, by its id or name; without it that of the current folder",
)
.filter();
const SESSION: Field =
    Field::option("session_id", "session", "Session that it comes from").filter();
const STATUS: Field = Field::option("status", "status", "Where it stands").filter();
const METADATA: Field =
    Field::option("metadata", "metadata", "Anything else, as a JSON object").form(Form::Json);

kinds! {
    /// Decisions and their reasons.
    Decision, DECISION_EXAMPLES = "\
Examples:
  coditect decision add \"Use row-level security\" --rationale \"one place to check\"
  coditect decision add \"Ship weekly\" --scope org --tag process --status accepted
  coditect decision edit 0199 --status superseded
  coditect decision list --json | jq -r '.decisions[].title'",
    Kind {
        noun: "decision", plural: "decisions", table: "org_decisions", title: "title",
        list: &["status", "title"], known_by: &[], count: None,
        fields: &[
            Field::word("title", "title", "What was decided"),
            Field::option("rationale", "rationale", "Why"),
            Field::option("status", "status", "proposed, accepted, superseded, …").filter(),
            Field::option("decision_type", "type", "architecture, process, …").filter(),
            Field::option("decision_id", "decision-id", "A name that people use, such as D-17"),
            PROJECT, SESSION,
            Field::option("tags", "tag", "A tag; may be given several times").form(Form::Texts),
            Field::option("confidence", "confidence", "How sure it is, 0 to 1").form(Form::Share),
        ],
    };
    /// What was learned.
    Learning, LEARNING_EXAMPLES = "\
Examples:
  coditect learning add sqlx \"named statements break behind a pooler\" --category database
  coditect learning edit 0199 --used        count that it was of use once more
  coditect learning list --limit 5",
    Kind {
        noun: "learning", plural: "learnings", table: "org_skill_learnings", title: "learning",
        list: &["skill_name", "learning"], known_by: &[],
        count: Some(("used", "usage_count", "Count one more use")),
        fields: &[
            Field::word("skill_name", "skill", "What it is about: a tool, a library, a skill")
                .filter(),
            Field::word("learning", "learning", "What was learned"),
            Field::option("category", "category", "Kind of learning").filter(),
            Field::option("confidence", "confidence", "How sure it is, 0 to 1").form(Form::Share),
            PROJECT, SESSION,
            Field::option("outcome", "outcome", "What came of it"),
        ],
    };
    /// Errors and what fixed them.
    ErrorSolution, ERROR_EXAMPLES = "\
Examples:
  coditect error add \"database is locked\" \"set busy_timeout\" --language python
  coditect error edit 0199 --worked         count that the solution helped once more
  coditect search locked --kind error",
    Kind {
        noun: "error solution", plural: "errors", table: "org_error_solutions",
        title: "error_pattern", list: &["error_pattern", "solution"], known_by: &[],
        count: Some(("worked", "success_count", "Count that it helped once more")),
        fields: &[
            Field::word(
                "error_pattern",
                "pattern",
                "The error, or the part of its message that stays the same",
            ),
            Field::word("solution", "solution", "What fixed it"),
            Field::option("language", "language", "Programming language").filter(),
            Field::option("category", "category", "Kind of error").filter(),
            PROJECT, SESSION,
        ],
    };
    /// Sprints of a project.
    Sprint, SPRINT_EXAMPLES = "\
Examples:
  coditect sprint add \"Sprint 12\" --goal \"first customers\" --start 2026-03-02 --end 2026-03-15
  coditect sprint edit 0199 --status active
  coditect sprint list --project app --status active",
    Kind {
        noun: "sprint", plural: "sprints", table: "projects_sprints", title: "name",
        list: &["project_id", "status", "start_date", "end_date", "name"], known_by: &[],
        count: None,
        fields: &[
            Field::word("name", "name", "What it is called"),
            PROJECT_OR_HERE,
            Field::option("goal", "goal", "What is to be reached"),
            Field::option("status", "status", "planned, active, completed, …").filter(),
            Field::option("start_date", "start", "First day").form(Form::Time),
            Field::option("end_date", "end", "Last day").form(Form::Time),
            Field::option("position", "position", "Its place among the others").form(Form::Integer),
            METADATA,
        ],
    };
    /// Tracks of work that a project follows.
    Track, TRACK_EXAMPLES = "\
Examples:
  coditect track add J --name \"Memory intelligence\"
  coditect track list --project app
A project has a track once: adding it again changes what is given.",
    Kind {
        noun: "track", plural: "tracks", table: "org_project_tracks", title: "track_id",
        list: &["project_id", "track_id", "status", "name"],
        known_by: &["project_id", "track_id"], count: None,
        fields: &[
            Field::word("track_id", "track", "Letter of the track, A to AK"),
            PROJECT_OR_HERE,
            Field::option("name", "name", "What it is called"),
            Field::option("description", "description", "What belongs to it"),
            STATUS,
            Field::option("position", "position", "Its place among the others").form(Form::Integer),
        ],
    };
    /// Measured health of components and projects.
    Metric, METRIC_EXAMPLES = "\
Examples:
  coditect metric add test_coverage 0.83 --threshold 0.8 --project app
  coditect metric list --name test_coverage
Metrics go up and stay on the device that measured; `coditect pull --table quality_metrics` fetches
those of other devices. One that was written is not edited: add another.",
    Kind {
        noun: "metric", plural: "metrics", table: "org_quality_metrics", title: "metric_name",
        list: &["metric_name", "metric_value", "unit", "measured_at", "component_id"],
        known_by: &[], count: None,
        fields: &[
            Field::word("metric_name", "name", "What was measured").filter(),
            Field::word("metric_value", "value", "What it was").form(Form::Number),
            Field::option("component_id", "component", "Component that it is about").filter(),
            PROJECT,
            Field::option("unit", "unit", "ms, rows, …"),
            Field::option("threshold", "threshold", "Where it becomes bad").form(Form::Number),
            Field::option("measured_at", "at", "When it was measured").form(Form::Time),
            METADATA,
        ],
    };
    /// How well a model's confidence matched what happened.
    Calibration, CALIBRATION_EXAMPLES = "\
Examples:
  coditect calibration add sonnet --metric task_success --predicted 0.9 --actual 0.72 --samples 50
  coditect calibration list --model sonnet
Entries go up and stay on the device that wrote them. One that was written is not edited.",
    Kind {
        noun: "calibration", plural: "calibrations", table: "org_calibration_history",
        title: "model", list: &["model", "metric", "predicted", "actual", "sample_size"],
        known_by: &[], count: None,
        fields: &[
            Field::word("model", "model", "Model").filter(),
            Field::option("component_id", "component", "Component that used it").filter(),
            Field::option("metric", "metric", "What was predicted").filter(),
            Field::option("predicted", "predicted", "How sure it was, 0 to 1").form(Form::Share),
            Field::option("actual", "actual", "How often it was right, 0 to 1").form(Form::Share),
            Field::option("sample_size", "samples", "Number of cases").form(Form::Integer),
            Field::option("calibrated_at", "at", "When").form(Form::Time),
            METADATA,
        ],
    };
    /// Paths of a project that are not looked at.
    Exclude, EXCLUDE_EXAMPLES = "\
Examples:
  coditect exclude add '*.generated.ts' --reason \"made by the build\"
  coditect exclude edit 0199 --enabled false
  coditect exclude list --project app
Patterns are as in .gitignore; `coditect project scan` follows them, and .gitignore itself.",
    Kind {
        noun: "exclude pattern", plural: "exclude_patterns", table: "projects_exclude_patterns",
        title: "pattern", list: &["project_id", "enabled", "pattern", "reason"],
        known_by: &["project_id", "pattern"], count: None,
        fields: &[
            Field::word("pattern", "pattern", "What to leave out"),
            Field::option("project_id", "project", "Only in this project; without it in all")
                .filter(),
            Field::option("reason", "reason", "Why"),
            Field::option("enabled", "enabled", "Whether it counts: true or false")
                .form(Form::Switch),
        ],
    };
    /// Things that the knowledge graph knows.
    Node, NODE_EXAMPLES = "\
Examples:
  coditect node add decision D-17 --content \"Use row-level security\"
  coditect node list --type decision
A node is known by its type and key: adding it again changes what is given.",
    Kind {
        noun: "node", plural: "nodes", table: "org_kg_nodes", title: "node_key",
        list: &["node_type", "node_key", "content"], known_by: &[], count: None,
        fields: &[
            Field::word("node_type", "type", "decision, file, session, task, error, commit, …")
                .filter(),
            Field::word("node_key", "key", "What it is known by within its type").filter(),
            Field::option("content", "content", "What it says"),
            PROJECT, METADATA,
        ],
    };
    /// How things in the knowledge graph belong together.
    Edge, EDGE_EXAMPLES = "\
Examples:
  coditect edge add 0199… 019a… decided_in --weight 0.9
  coditect edge list --from 0199…",
    Kind {
        noun: "edge", plural: "edges", table: "org_kg_edges", title: "edge_type",
        list: &["edge_type", "weight", "from_node", "to_node"],
        known_by: &["from_node", "to_node", "edge_type"], count: None,
        fields: &[
            Field::word("from_node", "from", "Id of the node that it starts at").filter(),
            Field::word("to_node", "to", "Id of the node that it ends at").filter(),
            Field::word("edge_type", "type", "decided_in, fixes, depends_on, …").filter(),
            Field::option("weight", "weight", "How strong it is").form(Form::Number),
            METADATA,
        ],
    };
    /// Projects as they are known on disk.
    Project, PROJECT_EXAMPLES = "",
    Kind {
        noun: "project", plural: "projects", table: "projects_projects", title: "name",
        list: &["name", "project_type", "primary_language", "project_id"],
        known_by: &["project_id"], count: None,
        fields: &[
            Field::word("name", "name", "What it is called"),
            Field::option("project_id", "project", "What it is known by"),
        ],
    };
    /// The register of projects.
    Register, REGISTER_EXAMPLES = "",
    Kind {
        noun: "registered project", plural: "projects", table: "org_projects", title: "name",
        list: &["name", "status", "project_id", "description"],
        known_by: &["project_id"], count: None,
        fields: &[
            Field::word("name", "name", "What it is called"),
            Field::option("project_id", "project", "What it is known by"),
        ],
    };
    /// Named moments of a project.
    Checkpoint, CHECKPOINT_EXAMPLES = "\
Examples:
  coditect checkpoint add \"Beta is out\" --type milestone --summary \"first ten users\"
  coditect checkpoint import ~/work/rollout-master --project rollout
  coditect checkpoint list --project rollout --since 2025-11-01
A checkpoint that was written is not edited: add another.",
    Kind {
        noun: "checkpoint", plural: "checkpoints", table: "context_checkpoints", title: "name",
        list: &["date", "checkpoint_type", "task_count", "name"], known_by: &[], count: None,
        fields: &[
            Field::word("name", "name", "What it is called"),
            Field::option("checkpoint_type", "type", "checkpoint, milestone, export, …").filter(),
            Field::option("summary", "summary", "What was reached"),
            Field::option("date", "date", "When").form(Form::Time),
            Field::option("phase", "phase", "Phase of the project").filter(),
            Field::option("focus_area", "focus", "What the work was about").filter(),
            PROJECT, SESSION,
            Field::option("task_id", "task", "Task that it belongs to"),
            Field::option("git_commit", "commit", "Commit that it describes"),
            Field::option("git_branch", "branch", "Branch of the commit").filter(),
            METADATA,
        ],
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_name_tables_and_columns_of_the_catalogue() {
        for kind in ALL {
            let table = kind.table();
            let known = |name: &&str| table.column(name).is_some();
            assert!(kind.list.contains(&kind.title), "{}", kind.noun);
            assert!(kind.list.iter().all(known), "{}", kind.noun);
            assert!(kind.known_by.iter().all(known), "{}", kind.noun);
            let columns: Vec<&str> = kind.fields.iter().map(|field| field.column).collect();
            assert!(columns.iter().all(known), "{}", kind.noun);
            for column in table.columns.iter().filter(|column| column.required) {
                assert!(
                    columns.contains(&column.name),
                    "{}: {}",
                    kind.noun,
                    column.name
                );
            }
            assert!(kind.count.is_none_or(|(_, counter, _)| known(&counter)));
        }
    }
}
