create table org_projects (
    tenant_id uuid not null,
    scope_id uuid not null,
    id uuid not null,
    user_id uuid not null,
    device_id uuid not null,
    origin_device uuid not null,
    content_hash bytea not null,
    version bigint not null,
    cursor bigint not null,
    created_at timestamptz,
    updated_at timestamptz,
    deleted_at timestamptz,
    extra jsonb,
    "project_id" text,
    "name" text,
    "description" text,
    "status" text default 'active',
    "repository_url" text,
    "root_commit" text,
    "metadata" jsonb,
    constraint org_projects_pkey primary key (tenant_id, scope_id, id)
);

alter table org_projects enable row level security;

alter table org_projects force row level security;

create policy org_projects_select on org_projects for select to coditect_app using (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

create policy org_projects_insert on org_projects for insert to coditect_app with check (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

create policy org_projects_update on org_projects for update to coditect_app using (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[])) with check (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

create policy org_projects_delete on org_projects for delete to coditect_app using (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

grant select, insert, update, delete on org_projects to coditect_system;

grant select, insert, update on org_projects to coditect_app;

create index org_projects_cursor_idx on org_projects (tenant_id, scope_id, cursor);

create index org_projects_project_id_idx on org_projects (tenant_id, "project_id") where octet_length("project_id") <= 1000;

-- with lz4
alter table org_projects
    alter column "project_id" set compression lz4,
    alter column "name" set compression lz4,
    alter column "description" set compression lz4,
    alter column "status" set compression lz4,
    alter column "repository_url" set compression lz4,
    alter column "root_commit" set compression lz4,
    alter column "metadata" set compression lz4,
    alter column "extra" set compression lz4;

create table org_project_tracks (
    tenant_id uuid not null,
    scope_id uuid not null,
    id uuid not null,
    user_id uuid not null,
    device_id uuid not null,
    origin_device uuid not null,
    content_hash bytea not null,
    version bigint not null,
    cursor bigint not null,
    created_at timestamptz,
    updated_at timestamptz,
    deleted_at timestamptz,
    extra jsonb,
    "project_id" text,
    "track_id" text,
    "name" text,
    "description" text,
    "status" text default 'active',
    "position" bigint,
    constraint org_project_tracks_pkey primary key (tenant_id, scope_id, id)
);

alter table org_project_tracks enable row level security;

alter table org_project_tracks force row level security;

create policy org_project_tracks_select on org_project_tracks for select to coditect_app using (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

create policy org_project_tracks_insert on org_project_tracks for insert to coditect_app with check (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

create policy org_project_tracks_update on org_project_tracks for update to coditect_app using (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[])) with check (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

create policy org_project_tracks_delete on org_project_tracks for delete to coditect_app using (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

grant select, insert, update, delete on org_project_tracks to coditect_system;

grant select, insert, update on org_project_tracks to coditect_app;

create index org_project_tracks_cursor_idx on org_project_tracks (tenant_id, scope_id, cursor);

create index org_project_tracks_project_id_idx on org_project_tracks (tenant_id, "project_id") where octet_length("project_id") <= 1000;

-- with lz4
alter table org_project_tracks
    alter column "project_id" set compression lz4,
    alter column "track_id" set compression lz4,
    alter column "name" set compression lz4,
    alter column "description" set compression lz4,
    alter column "status" set compression lz4,
    alter column "extra" set compression lz4;

create table org_decisions (
    tenant_id uuid not null,
    scope_id uuid not null,
    id uuid not null,
    user_id uuid not null,
    device_id uuid not null,
    origin_device uuid not null,
    content_hash bytea not null,
    version bigint not null,
    cursor bigint not null,
    created_at timestamptz,
    updated_at timestamptz,
    deleted_at timestamptz,
    extra jsonb,
    "decision_id" text,
    "title" text,
    "rationale" text,
    "decision_type" text,
    "status" text default 'proposed',
    "message_id" text,
    "session_id" text,
    "project_id" text,
    "project_path" text,
    "tags" jsonb,
    "confidence" double precision,
    "source" text,
    constraint org_decisions_pkey primary key (tenant_id, scope_id, id)
);

alter table org_decisions enable row level security;

alter table org_decisions force row level security;

create policy org_decisions_select on org_decisions for select to coditect_app using (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

create policy org_decisions_insert on org_decisions for insert to coditect_app with check (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

create policy org_decisions_update on org_decisions for update to coditect_app using (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[])) with check (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

create policy org_decisions_delete on org_decisions for delete to coditect_app using (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

grant select, insert, update, delete on org_decisions to coditect_system;

grant select, insert, update on org_decisions to coditect_app;

create index org_decisions_cursor_idx on org_decisions (tenant_id, scope_id, cursor);

create index org_decisions_project_id_idx on org_decisions (tenant_id, "project_id") where octet_length("project_id") <= 1000;

create index org_decisions_decision_id_idx on org_decisions (tenant_id, "decision_id") where octet_length("decision_id") <= 1000;

-- with lz4
alter table org_decisions
    alter column "decision_id" set compression lz4,
    alter column "title" set compression lz4,
    alter column "rationale" set compression lz4,
    alter column "decision_type" set compression lz4,
    alter column "status" set compression lz4,
    alter column "message_id" set compression lz4,
    alter column "session_id" set compression lz4,
    alter column "project_id" set compression lz4,
    alter column "project_path" set compression lz4,
    alter column "tags" set compression lz4,
    alter column "source" set compression lz4,
    alter column "extra" set compression lz4;

create table org_skill_learnings (
    tenant_id uuid not null,
    scope_id uuid not null,
    id uuid not null,
    user_id uuid not null,
    device_id uuid not null,
    origin_device uuid not null,
    content_hash bytea not null,
    version bigint not null,
    cursor bigint not null,
    created_at timestamptz,
    updated_at timestamptz,
    deleted_at timestamptz,
    extra jsonb,
    "skill_name" text,
    "learning" text,
    "category" text,
    "confidence" double precision default 0.5,
    "usage_count" bigint default 1,
    "session_id" text,
    "project_id" text,
    "outcome" text,
    "effectiveness_score" bigint,
    "errors" text,
    "analyzed_at" timestamptz,
    constraint org_skill_learnings_pkey primary key (tenant_id, scope_id, id)
);

alter table org_skill_learnings enable row level security;

alter table org_skill_learnings force row level security;

create policy org_skill_learnings_select on org_skill_learnings for select to coditect_app using (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

create policy org_skill_learnings_insert on org_skill_learnings for insert to coditect_app with check (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

create policy org_skill_learnings_update on org_skill_learnings for update to coditect_app using (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[])) with check (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

create policy org_skill_learnings_delete on org_skill_learnings for delete to coditect_app using (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

grant select, insert, update, delete on org_skill_learnings to coditect_system;

grant select, insert, update on org_skill_learnings to coditect_app;

create index org_skill_learnings_cursor_idx on org_skill_learnings (tenant_id, scope_id, cursor);

create index org_skill_learnings_skill_name_idx on org_skill_learnings (tenant_id, "skill_name") where octet_length("skill_name") <= 1000;

-- with lz4
alter table org_skill_learnings
    alter column "skill_name" set compression lz4,
    alter column "learning" set compression lz4,
    alter column "category" set compression lz4,
    alter column "session_id" set compression lz4,
    alter column "project_id" set compression lz4,
    alter column "outcome" set compression lz4,
    alter column "errors" set compression lz4,
    alter column "extra" set compression lz4;

create table org_error_solutions (
    tenant_id uuid not null,
    scope_id uuid not null,
    id uuid not null,
    user_id uuid not null,
    device_id uuid not null,
    origin_device uuid not null,
    content_hash bytea not null,
    version bigint not null,
    cursor bigint not null,
    created_at timestamptz,
    updated_at timestamptz,
    deleted_at timestamptz,
    extra jsonb,
    "error_pattern" text,
    "solution" text,
    "success_count" bigint default 1,
    "language" text,
    "category" text,
    "session_id" text,
    "project_id" text,
    constraint org_error_solutions_pkey primary key (tenant_id, scope_id, id)
);

alter table org_error_solutions enable row level security;

alter table org_error_solutions force row level security;

create policy org_error_solutions_select on org_error_solutions for select to coditect_app using (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

create policy org_error_solutions_insert on org_error_solutions for insert to coditect_app with check (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

create policy org_error_solutions_update on org_error_solutions for update to coditect_app using (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[])) with check (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

create policy org_error_solutions_delete on org_error_solutions for delete to coditect_app using (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

grant select, insert, update, delete on org_error_solutions to coditect_system;

grant select, insert, update on org_error_solutions to coditect_app;

create index org_error_solutions_cursor_idx on org_error_solutions (tenant_id, scope_id, cursor);

-- with lz4
alter table org_error_solutions
    alter column "error_pattern" set compression lz4,
    alter column "solution" set compression lz4,
    alter column "language" set compression lz4,
    alter column "category" set compression lz4,
    alter column "session_id" set compression lz4,
    alter column "project_id" set compression lz4,
    alter column "extra" set compression lz4;

create table org_kg_nodes (
    tenant_id uuid not null,
    scope_id uuid not null,
    id uuid not null,
    user_id uuid not null,
    device_id uuid not null,
    origin_device uuid not null,
    content_hash bytea not null,
    version bigint not null,
    cursor bigint not null,
    created_at timestamptz,
    updated_at timestamptz,
    deleted_at timestamptz,
    extra jsonb,
    "node_type" text,
    "node_key" text,
    "content" text,
    "project_id" text,
    "metadata" jsonb,
    constraint org_kg_nodes_pkey primary key (tenant_id, scope_id, id)
);

alter table org_kg_nodes enable row level security;

alter table org_kg_nodes force row level security;

create policy org_kg_nodes_select on org_kg_nodes for select to coditect_app using (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

create policy org_kg_nodes_insert on org_kg_nodes for insert to coditect_app with check (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

create policy org_kg_nodes_update on org_kg_nodes for update to coditect_app using (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[])) with check (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

create policy org_kg_nodes_delete on org_kg_nodes for delete to coditect_app using (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

grant select, insert, update, delete on org_kg_nodes to coditect_system;

grant select, insert, update on org_kg_nodes to coditect_app;

create index org_kg_nodes_cursor_idx on org_kg_nodes (tenant_id, scope_id, cursor);

create index org_kg_nodes_node_type_idx on org_kg_nodes (tenant_id, "node_type") where octet_length("node_type") <= 1000;

-- with lz4
alter table org_kg_nodes
    alter column "node_type" set compression lz4,
    alter column "node_key" set compression lz4,
    alter column "content" set compression lz4,
    alter column "project_id" set compression lz4,
    alter column "metadata" set compression lz4,
    alter column "extra" set compression lz4;

create table org_kg_edges (
    tenant_id uuid not null,
    scope_id uuid not null,
    id uuid not null,
    user_id uuid not null,
    device_id uuid not null,
    origin_device uuid not null,
    content_hash bytea not null,
    version bigint not null,
    cursor bigint not null,
    created_at timestamptz,
    updated_at timestamptz,
    deleted_at timestamptz,
    extra jsonb,
    "from_node" text,
    "to_node" text,
    "edge_type" text,
    "weight" double precision default 1.0,
    "metadata" jsonb,
    constraint org_kg_edges_pkey primary key (tenant_id, scope_id, id)
);

alter table org_kg_edges enable row level security;

alter table org_kg_edges force row level security;

create policy org_kg_edges_select on org_kg_edges for select to coditect_app using (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

create policy org_kg_edges_insert on org_kg_edges for insert to coditect_app with check (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

create policy org_kg_edges_update on org_kg_edges for update to coditect_app using (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[])) with check (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

create policy org_kg_edges_delete on org_kg_edges for delete to coditect_app using (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

grant select, insert, update, delete on org_kg_edges to coditect_system;

grant select, insert, update on org_kg_edges to coditect_app;

create index org_kg_edges_cursor_idx on org_kg_edges (tenant_id, scope_id, cursor);

create index org_kg_edges_from_node_idx on org_kg_edges (tenant_id, "from_node") where octet_length("from_node") <= 1000;

create index org_kg_edges_to_node_idx on org_kg_edges (tenant_id, "to_node") where octet_length("to_node") <= 1000;

-- with lz4
alter table org_kg_edges
    alter column "from_node" set compression lz4,
    alter column "to_node" set compression lz4,
    alter column "edge_type" set compression lz4,
    alter column "metadata" set compression lz4,
    alter column "extra" set compression lz4;

create table org_calibration_history (
    tenant_id uuid not null,
    scope_id uuid not null,
    id uuid not null,
    user_id uuid not null,
    device_id uuid not null,
    origin_device uuid not null,
    content_hash bytea not null,
    version bigint not null,
    cursor bigint not null,
    created_at timestamptz,
    updated_at timestamptz,
    deleted_at timestamptz,
    extra jsonb,
    "model" text,
    "component_id" text,
    "metric" text,
    "predicted" double precision,
    "actual" double precision,
    "sample_size" bigint,
    "calibrated_at" timestamptz,
    "metadata" jsonb,
    constraint org_calibration_history_pkey primary key (tenant_id, scope_id, id)
);

alter table org_calibration_history enable row level security;

alter table org_calibration_history force row level security;

create policy org_calibration_history_select on org_calibration_history for select to coditect_app using (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

create policy org_calibration_history_insert on org_calibration_history for insert to coditect_app with check (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

create policy org_calibration_history_update on org_calibration_history for update to coditect_app using (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[])) with check (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

create policy org_calibration_history_delete on org_calibration_history for delete to coditect_app using (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

grant select, insert, update, delete on org_calibration_history to coditect_system;

grant select, insert, update on org_calibration_history to coditect_app;

create index org_calibration_history_cursor_idx on org_calibration_history (tenant_id, scope_id, cursor);

create index org_calibration_history_model_idx on org_calibration_history (tenant_id, "model") where octet_length("model") <= 1000;

-- with lz4
alter table org_calibration_history
    alter column "model" set compression lz4,
    alter column "component_id" set compression lz4,
    alter column "metric" set compression lz4,
    alter column "metadata" set compression lz4,
    alter column "extra" set compression lz4;

create table org_quality_metrics (
    tenant_id uuid not null,
    scope_id uuid not null,
    id uuid not null,
    user_id uuid not null,
    device_id uuid not null,
    origin_device uuid not null,
    content_hash bytea not null,
    version bigint not null,
    cursor bigint not null,
    created_at timestamptz,
    updated_at timestamptz,
    deleted_at timestamptz,
    extra jsonb,
    "metric_name" text,
    "metric_value" double precision,
    "component_id" text,
    "project_id" text,
    "unit" text,
    "threshold" double precision,
    "measured_at" timestamptz,
    "metadata" jsonb,
    constraint org_quality_metrics_pkey primary key (tenant_id, scope_id, id)
);

alter table org_quality_metrics enable row level security;

alter table org_quality_metrics force row level security;

create policy org_quality_metrics_select on org_quality_metrics for select to coditect_app using (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

create policy org_quality_metrics_insert on org_quality_metrics for insert to coditect_app with check (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

create policy org_quality_metrics_update on org_quality_metrics for update to coditect_app using (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[])) with check (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

create policy org_quality_metrics_delete on org_quality_metrics for delete to coditect_app using (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

grant select, insert, update, delete on org_quality_metrics to coditect_system;

grant select, insert, update on org_quality_metrics to coditect_app;

create index org_quality_metrics_cursor_idx on org_quality_metrics (tenant_id, scope_id, cursor);

create index org_quality_metrics_metric_name_idx on org_quality_metrics (tenant_id, "metric_name") where octet_length("metric_name") <= 1000;

-- with lz4
alter table org_quality_metrics
    alter column "metric_name" set compression lz4,
    alter column "component_id" set compression lz4,
    alter column "project_id" set compression lz4,
    alter column "unit" set compression lz4,
    alter column "metadata" set compression lz4,
    alter column "extra" set compression lz4;

create table context_sessions (
    tenant_id uuid not null,
    scope_id uuid not null,
    id uuid not null,
    user_id uuid not null,
    device_id uuid not null,
    origin_device uuid not null,
    content_hash bytea not null,
    version bigint not null,
    cursor bigint not null,
    created_at timestamptz,
    updated_at timestamptz,
    deleted_at timestamptz,
    extra jsonb,
    "session_id" text,
    "project_id" text,
    "project_path" text,
    "machine_id" text,
    "llm_provider" text,
    "llm_model" text,
    "agent" text,
    "client_version" text,
    "git_branch" text,
    "title" text,
    "status" text,
    "start_time" timestamptz,
    "end_time" timestamptz,
    "message_count" bigint default 0,
    "tags" jsonb,
    "metadata" jsonb,
    constraint context_sessions_pkey primary key (tenant_id, scope_id, id)
);

alter table context_sessions enable row level security;

alter table context_sessions force row level security;

create policy context_sessions_select on context_sessions for select to coditect_app using (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

create policy context_sessions_insert on context_sessions for insert to coditect_app with check (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

create policy context_sessions_update on context_sessions for update to coditect_app using (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[])) with check (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

create policy context_sessions_delete on context_sessions for delete to coditect_app using (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

grant select, insert, update, delete on context_sessions to coditect_system;

grant select, insert, update on context_sessions to coditect_app;

create index context_sessions_cursor_idx on context_sessions (tenant_id, scope_id, cursor);

create index context_sessions_project_id_idx on context_sessions (tenant_id, "project_id") where octet_length("project_id") <= 1000;

-- with lz4
alter table context_sessions
    alter column "session_id" set compression lz4,
    alter column "project_id" set compression lz4,
    alter column "project_path" set compression lz4,
    alter column "machine_id" set compression lz4,
    alter column "llm_provider" set compression lz4,
    alter column "llm_model" set compression lz4,
    alter column "agent" set compression lz4,
    alter column "client_version" set compression lz4,
    alter column "git_branch" set compression lz4,
    alter column "title" set compression lz4,
    alter column "status" set compression lz4,
    alter column "tags" set compression lz4,
    alter column "metadata" set compression lz4,
    alter column "extra" set compression lz4;

create table context_messages (
    tenant_id uuid not null,
    scope_id uuid not null,
    id uuid not null,
    user_id uuid not null,
    device_id uuid not null,
    origin_device uuid not null,
    content_hash bytea not null,
    version bigint not null,
    cursor bigint not null,
    created_at timestamptz,
    updated_at timestamptz,
    deleted_at timestamptz,
    extra jsonb,
    "message_id" text,
    "session_id" text,
    "role" text,
    "message_type" text,
    "subtype" text,
    "content" text,
    "content_blocks" jsonb,
    "project_id" text,
    "timestamp" timestamptz,
    "agent" text,
    "agent_id" text,
    "parent_id" text,
    "api_message_id" text,
    "request_id" text,
    "llm_model" text,
    "cwd" text,
    "git_branch" text,
    "source_type" text,
    "source_file" text,
    "sequence" bigint,
    "is_meta" boolean,
    "is_sidechain" boolean,
    "is_synthetic" boolean,
    "is_compact_summary" boolean,
    "metadata" jsonb,
    constraint context_messages_pkey primary key (tenant_id, scope_id, id)
);

alter table context_messages enable row level security;

alter table context_messages force row level security;

create policy context_messages_select on context_messages for select to coditect_app using (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

create policy context_messages_insert on context_messages for insert to coditect_app with check (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

create policy context_messages_update on context_messages for update to coditect_app using (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[])) with check (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

create policy context_messages_delete on context_messages for delete to coditect_app using (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

grant select, insert, update, delete on context_messages to coditect_system;

grant select, insert, update on context_messages to coditect_app;

create index context_messages_cursor_idx on context_messages (tenant_id, scope_id, cursor);

create index context_messages_session_id_idx on context_messages (tenant_id, "session_id") where octet_length("session_id") <= 1000;

create index context_messages_project_id_idx on context_messages (tenant_id, "project_id") where octet_length("project_id") <= 1000;

-- with lz4
alter table context_messages
    alter column "message_id" set compression lz4,
    alter column "session_id" set compression lz4,
    alter column "role" set compression lz4,
    alter column "message_type" set compression lz4,
    alter column "subtype" set compression lz4,
    alter column "content" set compression lz4,
    alter column "content_blocks" set compression lz4,
    alter column "project_id" set compression lz4,
    alter column "agent" set compression lz4,
    alter column "agent_id" set compression lz4,
    alter column "parent_id" set compression lz4,
    alter column "api_message_id" set compression lz4,
    alter column "request_id" set compression lz4,
    alter column "llm_model" set compression lz4,
    alter column "cwd" set compression lz4,
    alter column "git_branch" set compression lz4,
    alter column "source_type" set compression lz4,
    alter column "source_file" set compression lz4,
    alter column "metadata" set compression lz4,
    alter column "extra" set compression lz4;

create table context_task_tracking (
    tenant_id uuid not null,
    scope_id uuid not null,
    id uuid not null,
    user_id uuid not null,
    device_id uuid not null,
    origin_device uuid not null,
    content_hash bytea not null,
    version bigint not null,
    cursor bigint not null,
    created_at timestamptz,
    updated_at timestamptz,
    deleted_at timestamptz,
    extra jsonb,
    "task_id" text,
    "session_id" text default '',
    "description" text,
    "active_form" text,
    "details" text,
    "project_id" text,
    "track_id" text,
    "status" text default 'pending',
    "priority" text,
    "owner" text,
    "outcome" text,
    "outcome_score" double precision,
    "tool_success_count" bigint default 0,
    "tool_error_count" bigint default 0,
    "user_corrections" bigint default 0,
    "started_at" timestamptz,
    "completed_at" timestamptz,
    "blocks" jsonb,
    "blocked_by" jsonb,
    "source" text,
    "client_version" text,
    "hardware_id" text,
    "metadata" jsonb,
    constraint context_task_tracking_pkey primary key (tenant_id, scope_id, id)
);

alter table context_task_tracking enable row level security;

alter table context_task_tracking force row level security;

create policy context_task_tracking_select on context_task_tracking for select to coditect_app using (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

create policy context_task_tracking_insert on context_task_tracking for insert to coditect_app with check (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

create policy context_task_tracking_update on context_task_tracking for update to coditect_app using (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[])) with check (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

create policy context_task_tracking_delete on context_task_tracking for delete to coditect_app using (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

grant select, insert, update, delete on context_task_tracking to coditect_system;

grant select, insert, update on context_task_tracking to coditect_app;

create index context_task_tracking_cursor_idx on context_task_tracking (tenant_id, scope_id, cursor);

create index context_task_tracking_status_idx on context_task_tracking (tenant_id, "status") where octet_length("status") <= 1000;

create index context_task_tracking_project_id_status_idx on context_task_tracking (tenant_id, "project_id", "status") where octet_length("project_id") <= 1000 and octet_length("status") <= 1000;

create index context_task_tracking_session_id_idx on context_task_tracking (tenant_id, "session_id") where octet_length("session_id") <= 1000;

create index context_task_tracking_task_id_status_idx on context_task_tracking (tenant_id, "task_id", "status") where octet_length("task_id") <= 1000 and octet_length("status") <= 1000;

-- with lz4
alter table context_task_tracking
    alter column "task_id" set compression lz4,
    alter column "session_id" set compression lz4,
    alter column "description" set compression lz4,
    alter column "active_form" set compression lz4,
    alter column "details" set compression lz4,
    alter column "project_id" set compression lz4,
    alter column "track_id" set compression lz4,
    alter column "status" set compression lz4,
    alter column "priority" set compression lz4,
    alter column "owner" set compression lz4,
    alter column "outcome" set compression lz4,
    alter column "blocks" set compression lz4,
    alter column "blocked_by" set compression lz4,
    alter column "source" set compression lz4,
    alter column "client_version" set compression lz4,
    alter column "hardware_id" set compression lz4,
    alter column "metadata" set compression lz4,
    alter column "extra" set compression lz4;

create table context_task_messages (
    tenant_id uuid not null,
    scope_id uuid not null,
    id uuid not null,
    user_id uuid not null,
    device_id uuid not null,
    origin_device uuid not null,
    content_hash bytea not null,
    version bigint not null,
    cursor bigint not null,
    created_at timestamptz,
    updated_at timestamptz,
    deleted_at timestamptz,
    extra jsonb,
    "session_id" text default '',
    "task_id" text,
    "message_id" text,
    "sequence" bigint default 0,
    constraint context_task_messages_pkey primary key (tenant_id, scope_id, id)
);

alter table context_task_messages enable row level security;

alter table context_task_messages force row level security;

create policy context_task_messages_select on context_task_messages for select to coditect_app using (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

create policy context_task_messages_insert on context_task_messages for insert to coditect_app with check (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

create policy context_task_messages_update on context_task_messages for update to coditect_app using (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[])) with check (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

create policy context_task_messages_delete on context_task_messages for delete to coditect_app using (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

grant select, insert, update, delete on context_task_messages to coditect_system;

grant select, insert, update on context_task_messages to coditect_app;

create index context_task_messages_cursor_idx on context_task_messages (tenant_id, scope_id, cursor);

create index context_task_messages_session_id_task_id_idx on context_task_messages (tenant_id, "session_id", "task_id") where octet_length("session_id") <= 1000 and octet_length("task_id") <= 1000;

create index context_task_messages_message_id_idx on context_task_messages (tenant_id, "message_id") where octet_length("message_id") <= 1000;

-- with lz4
alter table context_task_messages
    alter column "session_id" set compression lz4,
    alter column "task_id" set compression lz4,
    alter column "message_id" set compression lz4,
    alter column "extra" set compression lz4;

create table context_checkpoints (
    tenant_id uuid not null,
    scope_id uuid not null,
    id uuid not null,
    user_id uuid not null,
    device_id uuid not null,
    origin_device uuid not null,
    content_hash bytea not null,
    version bigint not null,
    cursor bigint not null,
    created_at timestamptz,
    updated_at timestamptz,
    deleted_at timestamptz,
    extra jsonb,
    "name" text,
    "checkpoint_type" text,
    "session_id" text,
    "task_id" text,
    "project_id" text,
    "date" timestamptz,
    "source_file" text,
    "phase" text,
    "focus_area" text,
    "message_count" bigint,
    "task_count" bigint,
    "summary" text,
    "git_commit" text,
    "git_branch" text,
    "metadata" jsonb,
    constraint context_checkpoints_pkey primary key (tenant_id, scope_id, id)
);

alter table context_checkpoints enable row level security;

alter table context_checkpoints force row level security;

create policy context_checkpoints_select on context_checkpoints for select to coditect_app using (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

create policy context_checkpoints_insert on context_checkpoints for insert to coditect_app with check (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

create policy context_checkpoints_update on context_checkpoints for update to coditect_app using (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[])) with check (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

create policy context_checkpoints_delete on context_checkpoints for delete to coditect_app using (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

grant select, insert, update, delete on context_checkpoints to coditect_system;

grant select, insert, update on context_checkpoints to coditect_app;

create index context_checkpoints_cursor_idx on context_checkpoints (tenant_id, scope_id, cursor);

create index context_checkpoints_project_id_date_idx on context_checkpoints (tenant_id, "project_id", "date") where octet_length("project_id") <= 1000;

-- with lz4
alter table context_checkpoints
    alter column "name" set compression lz4,
    alter column "checkpoint_type" set compression lz4,
    alter column "session_id" set compression lz4,
    alter column "task_id" set compression lz4,
    alter column "project_id" set compression lz4,
    alter column "source_file" set compression lz4,
    alter column "phase" set compression lz4,
    alter column "focus_area" set compression lz4,
    alter column "summary" set compression lz4,
    alter column "git_commit" set compression lz4,
    alter column "git_branch" set compression lz4,
    alter column "metadata" set compression lz4,
    alter column "extra" set compression lz4;

create table context_tool_analytics (
    tenant_id uuid not null,
    scope_id uuid not null,
    id uuid not null,
    user_id uuid not null,
    device_id uuid not null,
    origin_device uuid not null,
    content_hash bytea not null,
    version bigint not null,
    cursor bigint not null,
    created_at timestamptz,
    updated_at timestamptz,
    deleted_at timestamptz,
    extra jsonb,
    "tool_name" text,
    "session_id" text default '',
    "tool_use_id" text,
    "message_id" text,
    "project_id" text,
    "agent_id" text,
    "timestamp" timestamptz,
    "duration_ms" bigint,
    "success" boolean,
    "error_message" text,
    "input_bytes" bigint,
    "output_bytes" bigint,
    "metadata" jsonb,
    constraint context_tool_analytics_pkey primary key (tenant_id, scope_id, id)
);

alter table context_tool_analytics enable row level security;

alter table context_tool_analytics force row level security;

create policy context_tool_analytics_select on context_tool_analytics for select to coditect_app using (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

create policy context_tool_analytics_insert on context_tool_analytics for insert to coditect_app with check (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

create policy context_tool_analytics_update on context_tool_analytics for update to coditect_app using (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[])) with check (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

create policy context_tool_analytics_delete on context_tool_analytics for delete to coditect_app using (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

grant select, insert, update, delete on context_tool_analytics to coditect_system;

grant select, insert, update on context_tool_analytics to coditect_app;

create index context_tool_analytics_cursor_idx on context_tool_analytics (tenant_id, scope_id, cursor);

create index context_tool_analytics_session_id_idx on context_tool_analytics (tenant_id, "session_id") where octet_length("session_id") <= 1000;

create index context_tool_analytics_tool_name_idx on context_tool_analytics (tenant_id, "tool_name") where octet_length("tool_name") <= 1000;

-- with lz4
alter table context_tool_analytics
    alter column "tool_name" set compression lz4,
    alter column "session_id" set compression lz4,
    alter column "tool_use_id" set compression lz4,
    alter column "message_id" set compression lz4,
    alter column "project_id" set compression lz4,
    alter column "agent_id" set compression lz4,
    alter column "error_message" set compression lz4,
    alter column "metadata" set compression lz4,
    alter column "extra" set compression lz4;

create table context_token_economics (
    tenant_id uuid not null,
    scope_id uuid not null,
    id uuid not null,
    user_id uuid not null,
    device_id uuid not null,
    origin_device uuid not null,
    content_hash bytea not null,
    version bigint not null,
    cursor bigint not null,
    created_at timestamptz,
    updated_at timestamptz,
    deleted_at timestamptz,
    extra jsonb,
    "session_id" text default '',
    "api_message_id" text,
    "llm_model" text,
    "request_id" text,
    "agent_id" text,
    "task_id" text,
    "project_id" text,
    "timestamp" timestamptz,
    "input_tokens" bigint default 0,
    "output_tokens" bigint default 0,
    "cache_creation_input_tokens" bigint default 0,
    "cache_read_input_tokens" bigint default 0,
    "cost_usd" double precision,
    "duration_ms" bigint,
    constraint context_token_economics_pkey primary key (tenant_id, scope_id, id)
);

alter table context_token_economics enable row level security;

alter table context_token_economics force row level security;

create policy context_token_economics_select on context_token_economics for select to coditect_app using (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

create policy context_token_economics_insert on context_token_economics for insert to coditect_app with check (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

create policy context_token_economics_update on context_token_economics for update to coditect_app using (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[])) with check (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

create policy context_token_economics_delete on context_token_economics for delete to coditect_app using (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

grant select, insert, update, delete on context_token_economics to coditect_system;

grant select, insert, update on context_token_economics to coditect_app;

create index context_token_economics_cursor_idx on context_token_economics (tenant_id, scope_id, cursor);

create index context_token_economics_session_id_idx on context_token_economics (tenant_id, "session_id") where octet_length("session_id") <= 1000;

create index context_token_economics_llm_model_idx on context_token_economics (tenant_id, "llm_model") where octet_length("llm_model") <= 1000;

-- with lz4
alter table context_token_economics
    alter column "session_id" set compression lz4,
    alter column "api_message_id" set compression lz4,
    alter column "llm_model" set compression lz4,
    alter column "request_id" set compression lz4,
    alter column "agent_id" set compression lz4,
    alter column "task_id" set compression lz4,
    alter column "project_id" set compression lz4,
    alter column "extra" set compression lz4;

create table context_activity_associations (
    tenant_id uuid not null,
    scope_id uuid not null,
    id uuid not null,
    user_id uuid not null,
    device_id uuid not null,
    origin_device uuid not null,
    content_hash bytea not null,
    version bigint not null,
    cursor bigint not null,
    created_at timestamptz,
    updated_at timestamptz,
    deleted_at timestamptz,
    extra jsonb,
    "tool_description" text,
    "task_id" text default '_NONE',
    "track" text default '_NONE',
    "project_name" text default '_UNKNOWN',
    "confidence" double precision,
    "association_method" text,
    "session_id" text,
    "tool_use_id" text,
    constraint context_activity_associations_pkey primary key (tenant_id, scope_id, id)
);

alter table context_activity_associations enable row level security;

alter table context_activity_associations force row level security;

create policy context_activity_associations_select on context_activity_associations for select to coditect_app using (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

create policy context_activity_associations_insert on context_activity_associations for insert to coditect_app with check (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

create policy context_activity_associations_update on context_activity_associations for update to coditect_app using (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[])) with check (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

create policy context_activity_associations_delete on context_activity_associations for delete to coditect_app using (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

grant select, insert, update, delete on context_activity_associations to coditect_system;

grant select, insert, update on context_activity_associations to coditect_app;

create index context_activity_associations_cursor_idx on context_activity_associations (tenant_id, scope_id, cursor);

create index context_activity_associations_session_id_idx on context_activity_associations (tenant_id, "session_id") where octet_length("session_id") <= 1000;

create index context_activity_associations_task_id_idx on context_activity_associations (tenant_id, "task_id") where octet_length("task_id") <= 1000;

-- with lz4
alter table context_activity_associations
    alter column "tool_description" set compression lz4,
    alter column "task_id" set compression lz4,
    alter column "track" set compression lz4,
    alter column "project_name" set compression lz4,
    alter column "association_method" set compression lz4,
    alter column "session_id" set compression lz4,
    alter column "tool_use_id" set compression lz4,
    alter column "extra" set compression lz4;

create table projects_projects (
    tenant_id uuid not null,
    scope_id uuid not null,
    id uuid not null,
    user_id uuid not null,
    device_id uuid not null,
    origin_device uuid not null,
    content_hash bytea not null,
    version bigint not null,
    cursor bigint not null,
    created_at timestamptz,
    updated_at timestamptz,
    deleted_at timestamptz,
    extra jsonb,
    "project_id" text,
    "name" text,
    "path" text,
    "primary_language" text,
    "framework" text,
    "project_type" text default 'standalone',
    "parent_project_id" text,
    "repository_url" text,
    "root_commit" text,
    "metadata" jsonb,
    constraint projects_projects_pkey primary key (tenant_id, scope_id, id)
);

alter table projects_projects enable row level security;

alter table projects_projects force row level security;

create policy projects_projects_select on projects_projects for select to coditect_app using (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

create policy projects_projects_insert on projects_projects for insert to coditect_app with check (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

create policy projects_projects_update on projects_projects for update to coditect_app using (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[])) with check (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

create policy projects_projects_delete on projects_projects for delete to coditect_app using (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

grant select, insert, update, delete on projects_projects to coditect_system;

grant select, insert, update on projects_projects to coditect_app;

create index projects_projects_cursor_idx on projects_projects (tenant_id, scope_id, cursor);

create index projects_projects_project_id_idx on projects_projects (tenant_id, "project_id") where octet_length("project_id") <= 1000;

-- with lz4
alter table projects_projects
    alter column "project_id" set compression lz4,
    alter column "name" set compression lz4,
    alter column "path" set compression lz4,
    alter column "primary_language" set compression lz4,
    alter column "framework" set compression lz4,
    alter column "project_type" set compression lz4,
    alter column "parent_project_id" set compression lz4,
    alter column "repository_url" set compression lz4,
    alter column "root_commit" set compression lz4,
    alter column "metadata" set compression lz4,
    alter column "extra" set compression lz4;

create table projects_sub_projects (
    tenant_id uuid not null,
    scope_id uuid not null,
    id uuid not null,
    user_id uuid not null,
    device_id uuid not null,
    origin_device uuid not null,
    content_hash bytea not null,
    version bigint not null,
    cursor bigint not null,
    created_at timestamptz,
    updated_at timestamptz,
    deleted_at timestamptz,
    extra jsonb,
    "project_id" text,
    "name" text,
    "path" text,
    "kind" text,
    "parent_id" text,
    "metadata" jsonb,
    constraint projects_sub_projects_pkey primary key (tenant_id, scope_id, id)
);

alter table projects_sub_projects enable row level security;

alter table projects_sub_projects force row level security;

create policy projects_sub_projects_select on projects_sub_projects for select to coditect_app using (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

create policy projects_sub_projects_insert on projects_sub_projects for insert to coditect_app with check (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

create policy projects_sub_projects_update on projects_sub_projects for update to coditect_app using (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[])) with check (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

create policy projects_sub_projects_delete on projects_sub_projects for delete to coditect_app using (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

grant select, insert, update, delete on projects_sub_projects to coditect_system;

grant select, insert, update on projects_sub_projects to coditect_app;

create index projects_sub_projects_cursor_idx on projects_sub_projects (tenant_id, scope_id, cursor);

create index projects_sub_projects_project_id_idx on projects_sub_projects (tenant_id, "project_id") where octet_length("project_id") <= 1000;

-- with lz4
alter table projects_sub_projects
    alter column "project_id" set compression lz4,
    alter column "name" set compression lz4,
    alter column "path" set compression lz4,
    alter column "kind" set compression lz4,
    alter column "parent_id" set compression lz4,
    alter column "metadata" set compression lz4,
    alter column "extra" set compression lz4;

create table projects_content_hashes (
    tenant_id uuid not null,
    scope_id uuid not null,
    id uuid not null,
    user_id uuid not null,
    device_id uuid not null,
    origin_device uuid not null,
    content_hash bytea not null,
    version bigint not null,
    cursor bigint not null,
    created_at timestamptz,
    updated_at timestamptz,
    deleted_at timestamptz,
    extra jsonb,
    "project_id" text,
    "file_path" text,
    "file_hash" text,
    "size_bytes" bigint,
    "modified_at" timestamptz,
    "indexed_at" timestamptz,
    constraint projects_content_hashes_pkey primary key (tenant_id, scope_id, id)
);

alter table projects_content_hashes enable row level security;

alter table projects_content_hashes force row level security;

create policy projects_content_hashes_select on projects_content_hashes for select to coditect_app using (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

create policy projects_content_hashes_insert on projects_content_hashes for insert to coditect_app with check (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

create policy projects_content_hashes_update on projects_content_hashes for update to coditect_app using (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[])) with check (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

create policy projects_content_hashes_delete on projects_content_hashes for delete to coditect_app using (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

grant select, insert, update, delete on projects_content_hashes to coditect_system;

grant select, insert, update on projects_content_hashes to coditect_app;

create index projects_content_hashes_cursor_idx on projects_content_hashes (tenant_id, scope_id, cursor);

create index projects_content_hashes_project_id_idx on projects_content_hashes (tenant_id, "project_id") where octet_length("project_id") <= 1000;

-- with lz4
alter table projects_content_hashes
    alter column "project_id" set compression lz4,
    alter column "file_path" set compression lz4,
    alter column "file_hash" set compression lz4,
    alter column "extra" set compression lz4;

create table projects_embeddings (
    tenant_id uuid not null,
    scope_id uuid not null,
    id uuid not null,
    user_id uuid not null,
    device_id uuid not null,
    origin_device uuid not null,
    content_hash bytea not null,
    version bigint not null,
    cursor bigint not null,
    created_at timestamptz,
    updated_at timestamptz,
    deleted_at timestamptz,
    extra jsonb,
    "project_id" text,
    "file_path" text,
    "chunk_index" bigint default 0,
    "model" text,
    "dimensions" bigint,
    "embedding_vector" jsonb,
    "source_hash" text,
    constraint projects_embeddings_pkey primary key (tenant_id, scope_id, id)
);

alter table projects_embeddings enable row level security;

alter table projects_embeddings force row level security;

create policy projects_embeddings_select on projects_embeddings for select to coditect_app using (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

create policy projects_embeddings_insert on projects_embeddings for insert to coditect_app with check (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

create policy projects_embeddings_update on projects_embeddings for update to coditect_app using (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[])) with check (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

create policy projects_embeddings_delete on projects_embeddings for delete to coditect_app using (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

grant select, insert, update, delete on projects_embeddings to coditect_system;

grant select, insert, update on projects_embeddings to coditect_app;

create index projects_embeddings_cursor_idx on projects_embeddings (tenant_id, scope_id, cursor);

create index projects_embeddings_project_id_idx on projects_embeddings (tenant_id, "project_id") where octet_length("project_id") <= 1000;

-- with lz4
alter table projects_embeddings
    alter column "project_id" set compression lz4,
    alter column "file_path" set compression lz4,
    alter column "model" set compression lz4,
    alter column "embedding_vector" set compression lz4,
    alter column "source_hash" set compression lz4,
    alter column "extra" set compression lz4;

create table projects_exclude_patterns (
    tenant_id uuid not null,
    scope_id uuid not null,
    id uuid not null,
    user_id uuid not null,
    device_id uuid not null,
    origin_device uuid not null,
    content_hash bytea not null,
    version bigint not null,
    cursor bigint not null,
    created_at timestamptz,
    updated_at timestamptz,
    deleted_at timestamptz,
    extra jsonb,
    "project_id" text,
    "pattern" text,
    "reason" text,
    "enabled" boolean default true,
    constraint projects_exclude_patterns_pkey primary key (tenant_id, scope_id, id)
);

alter table projects_exclude_patterns enable row level security;

alter table projects_exclude_patterns force row level security;

create policy projects_exclude_patterns_select on projects_exclude_patterns for select to coditect_app using (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

create policy projects_exclude_patterns_insert on projects_exclude_patterns for insert to coditect_app with check (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

create policy projects_exclude_patterns_update on projects_exclude_patterns for update to coditect_app using (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[])) with check (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

create policy projects_exclude_patterns_delete on projects_exclude_patterns for delete to coditect_app using (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

grant select, insert, update, delete on projects_exclude_patterns to coditect_system;

grant select, insert, update on projects_exclude_patterns to coditect_app;

create index projects_exclude_patterns_cursor_idx on projects_exclude_patterns (tenant_id, scope_id, cursor);

create index projects_exclude_patterns_project_id_idx on projects_exclude_patterns (tenant_id, "project_id") where octet_length("project_id") <= 1000;

-- with lz4
alter table projects_exclude_patterns
    alter column "project_id" set compression lz4,
    alter column "pattern" set compression lz4,
    alter column "reason" set compression lz4,
    alter column "extra" set compression lz4;

create table projects_sprints (
    tenant_id uuid not null,
    scope_id uuid not null,
    id uuid not null,
    user_id uuid not null,
    device_id uuid not null,
    origin_device uuid not null,
    content_hash bytea not null,
    version bigint not null,
    cursor bigint not null,
    created_at timestamptz,
    updated_at timestamptz,
    deleted_at timestamptz,
    extra jsonb,
    "project_id" text,
    "name" text,
    "goal" text,
    "status" text default 'planned',
    "start_date" timestamptz,
    "end_date" timestamptz,
    "position" bigint,
    "metadata" jsonb,
    constraint projects_sprints_pkey primary key (tenant_id, scope_id, id)
);

alter table projects_sprints enable row level security;

alter table projects_sprints force row level security;

create policy projects_sprints_select on projects_sprints for select to coditect_app using (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

create policy projects_sprints_insert on projects_sprints for insert to coditect_app with check (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

create policy projects_sprints_update on projects_sprints for update to coditect_app using (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[])) with check (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

create policy projects_sprints_delete on projects_sprints for delete to coditect_app using (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

grant select, insert, update, delete on projects_sprints to coditect_system;

grant select, insert, update on projects_sprints to coditect_app;

create index projects_sprints_cursor_idx on projects_sprints (tenant_id, scope_id, cursor);

create index projects_sprints_project_id_idx on projects_sprints (tenant_id, "project_id") where octet_length("project_id") <= 1000;

-- with lz4
alter table projects_sprints
    alter column "project_id" set compression lz4,
    alter column "name" set compression lz4,
    alter column "goal" set compression lz4,
    alter column "status" set compression lz4,
    alter column "metadata" set compression lz4,
    alter column "extra" set compression lz4;

create table platform_components (
    id uuid not null,
    content_hash bytea not null,
    version bigint not null,
    cursor bigint not null,
    created_at timestamptz,
    updated_at timestamptz,
    deleted_at timestamptz,
    extra jsonb,
    "component_id" text,
    "component_type" text,
    "name" text,
    "description" text,
    "component_version" text,
    "status" text default 'operational',
    "path" text,
    "category" text,
    "subcategory" text,
    "metadata" jsonb,
    constraint platform_components_pkey primary key (id)
);

grant select, insert, update, delete on platform_components to coditect_system;

grant select on platform_components to coditect_app;

create index platform_components_cursor_idx on platform_components (cursor);

create index platform_components_component_type_idx on platform_components ("component_type") where octet_length("component_type") <= 1000;

-- with lz4
alter table platform_components
    alter column "component_id" set compression lz4,
    alter column "component_type" set compression lz4,
    alter column "name" set compression lz4,
    alter column "description" set compression lz4,
    alter column "component_version" set compression lz4,
    alter column "status" set compression lz4,
    alter column "path" set compression lz4,
    alter column "category" set compression lz4,
    alter column "subcategory" set compression lz4,
    alter column "metadata" set compression lz4,
    alter column "extra" set compression lz4;

create table platform_capabilities (
    id uuid not null,
    content_hash bytea not null,
    version bigint not null,
    cursor bigint not null,
    created_at timestamptz,
    updated_at timestamptz,
    deleted_at timestamptz,
    extra jsonb,
    "component_id" text,
    "capability" text,
    "capability_type" text,
    constraint platform_capabilities_pkey primary key (id)
);

grant select, insert, update, delete on platform_capabilities to coditect_system;

grant select on platform_capabilities to coditect_app;

create index platform_capabilities_cursor_idx on platform_capabilities (cursor);

create index platform_capabilities_capability_type_idx on platform_capabilities ("capability_type") where octet_length("capability_type") <= 1000;

create index platform_capabilities_component_id_idx on platform_capabilities ("component_id") where octet_length("component_id") <= 1000;

-- with lz4
alter table platform_capabilities
    alter column "component_id" set compression lz4,
    alter column "capability" set compression lz4,
    alter column "capability_type" set compression lz4,
    alter column "extra" set compression lz4;

create table platform_triggers (
    id uuid not null,
    content_hash bytea not null,
    version bigint not null,
    cursor bigint not null,
    created_at timestamptz,
    updated_at timestamptz,
    deleted_at timestamptz,
    extra jsonb,
    "component_id" text,
    "trigger_type" text,
    "pattern" text,
    "weight" double precision,
    constraint platform_triggers_pkey primary key (id)
);

grant select, insert, update, delete on platform_triggers to coditect_system;

grant select on platform_triggers to coditect_app;

create index platform_triggers_cursor_idx on platform_triggers (cursor);

create index platform_triggers_component_id_idx on platform_triggers ("component_id") where octet_length("component_id") <= 1000;

-- with lz4
alter table platform_triggers
    alter column "component_id" set compression lz4,
    alter column "trigger_type" set compression lz4,
    alter column "pattern" set compression lz4,
    alter column "extra" set compression lz4;

create table platform_relationships (
    id uuid not null,
    content_hash bytea not null,
    version bigint not null,
    cursor bigint not null,
    created_at timestamptz,
    updated_at timestamptz,
    deleted_at timestamptz,
    extra jsonb,
    "source_id" text,
    "target_id" text,
    "relationship" text,
    "metadata" jsonb,
    constraint platform_relationships_pkey primary key (id)
);

grant select, insert, update, delete on platform_relationships to coditect_system;

grant select on platform_relationships to coditect_app;

create index platform_relationships_cursor_idx on platform_relationships (cursor);

create index platform_relationships_source_id_idx on platform_relationships ("source_id") where octet_length("source_id") <= 1000;

create index platform_relationships_target_id_idx on platform_relationships ("target_id") where octet_length("target_id") <= 1000;

-- with lz4
alter table platform_relationships
    alter column "source_id" set compression lz4,
    alter column "target_id" set compression lz4,
    alter column "relationship" set compression lz4,
    alter column "metadata" set compression lz4,
    alter column "extra" set compression lz4;

create table platform_usage_stats (
    tenant_id uuid not null,
    scope_id uuid not null,
    id uuid not null,
    user_id uuid not null,
    device_id uuid not null,
    origin_device uuid not null,
    content_hash bytea not null,
    version bigint not null,
    cursor bigint not null,
    created_at timestamptz,
    updated_at timestamptz,
    deleted_at timestamptz,
    extra jsonb,
    "component_id" text,
    "invocation_count" bigint default 0,
    "success_count" bigint default 0,
    "error_count" bigint default 0,
    "total_duration_ms" bigint default 0,
    "last_used_at" timestamptz,
    constraint platform_usage_stats_pkey primary key (tenant_id, scope_id, id)
);

alter table platform_usage_stats enable row level security;

alter table platform_usage_stats force row level security;

create policy platform_usage_stats_select on platform_usage_stats for select to coditect_app using (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

create policy platform_usage_stats_insert on platform_usage_stats for insert to coditect_app with check (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

create policy platform_usage_stats_update on platform_usage_stats for update to coditect_app using (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[])) with check (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

create policy platform_usage_stats_delete on platform_usage_stats for delete to coditect_app using (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid and scope_id = any (nullif(current_setting('app.scopes', true), '')::uuid[]));

grant select, insert, update, delete on platform_usage_stats to coditect_system;

grant select, insert, update on platform_usage_stats to coditect_app;

create index platform_usage_stats_cursor_idx on platform_usage_stats (tenant_id, scope_id, cursor);

create index platform_usage_stats_component_id_idx on platform_usage_stats (tenant_id, "component_id") where octet_length("component_id") <= 1000;

-- with lz4
alter table platform_usage_stats
    alter column "component_id" set compression lz4,
    alter column "extra" set compression lz4;

