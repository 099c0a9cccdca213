//! Tier 4, projects.db: projects on disk.

use super::Merge::Owner;
use super::{Class, Direction, File, Identity, Table, boolean, integer, json, text, timestamp};

pub(super) const PROJECTS: Table = Table {
    file: File::Projects,
    local: "projects",
    cloud: "projects_projects",
    direction: Direction::Both,
    class: Class::Record,
    identity: Identity::Random,
    columns: &[
        text("project_id").required(),
        text("name").required(),
        text("path"),
        text("primary_language"),
        text("framework"),
        text("project_type").default("'standalone'"),
        text("parent_project_id"),
        text("repository_url"),
        text("root_commit"),
        json("metadata"),
    ],
    indexes: &[&["project_id"]],
    search: &[],
    doc: "Projects, known by their repository.",
};

pub(super) const SUB_PROJECTS: Table = Table {
    file: File::Projects,
    local: "sub_projects",
    cloud: "projects_sub_projects",
    direction: Direction::Both,
    class: Class::Record,
    identity: Identity::Random,
    columns: &[
        text("project_id").required(),
        text("name").required(),
        text("path"),
        text("kind"),
        text("parent_id"),
        json("metadata"),
    ],
    indexes: &[&["project_id"]],
    search: &[],
    doc: "Parts of a project: submodules, packages of a monorepo.",
};

pub(super) const CONTENT_HASHES: Table = Table {
    file: File::Projects,
    local: "content_hashes",
    cloud: "projects_content_hashes",
    direction: Direction::Up,
    class: Class::Record,
    identity: Identity::DerivedPerDevice(&["project_id", "file_path"]),
    columns: &[
        text("project_id").required(),
        text("file_path").required(),
        text("file_hash").merge(Owner),
        integer("size_bytes").merge(Owner),
        timestamp("modified_at").merge(Owner),
        timestamp("indexed_at").merge(Owner),
    ],
    indexes: &[&["project_id"]],
    search: &[],
    doc: "Hashes of the files as this device has them, so that only changed ones are indexed.",
};

pub(super) const PROJECT_EMBEDDINGS: Table = Table {
    file: File::Projects,
    local: "project_embeddings",
    cloud: "projects_embeddings",
    direction: Direction::Both,
    class: Class::Record,
    identity: Identity::Random,
    columns: &[
        text("project_id").required(),
        text("file_path").required(),
        integer("chunk_index").default("0"),
        text("model"),
        integer("dimensions"),
        json("embedding_vector"),
        text("source_hash"),
    ],
    indexes: &[&["project_id"]],
    search: &[],
    doc: "Semantic vectors of a project's files.",
};

pub(super) const EXCLUDE_PATTERNS: Table = Table {
    file: File::Projects,
    local: "exclude_patterns",
    cloud: "projects_exclude_patterns",
    direction: Direction::Both,
    class: Class::Record,
    identity: Identity::Random,
    columns: &[
        text("project_id"),
        text("pattern").required(),
        text("reason"),
        boolean("enabled").default("1"),
    ],
    indexes: &[&["project_id"]],
    search: &[],
    doc: "Paths that are not looked at.",
};

pub(super) const SPRINTS: Table = Table {
    file: File::Projects,
    local: "sprints",
    cloud: "projects_sprints",
    direction: Direction::Both,
    class: Class::Record,
    identity: Identity::Random,
    columns: &[
        text("project_id").required(),
        text("name").required(),
        text("goal"),
        text("status").default("'planned'"),
        timestamp("start_date"),
        timestamp("end_date"),
        integer("position"),
        json("metadata"),
    ],
    indexes: &[&["project_id"]],
    search: &[],
    doc: "Sprints of a project.",
};
