//! The matrix's entries for sprints, tracks, metrics, calibrations and checkpoints: those of the
//! target's scope.

use serde_json::json;
use uuid::Uuid;

use super::membership::{probe, put};
use super::{Probe, Target};
use crate::support::{delete, get, post};

/// Returns the path of a kind's list, or of a record that is not there, in the target's scope.
fn path(folder: &str, target: &Target, named: bool) -> String {
    let id = if named {
        format!("{}/", Uuid::nil())
    } else {
        String::new()
    };
    format!("/api/v1/context/{folder}/{id}?scope={}", target.scope)
}

macro_rules! probes {
    ($folder:literal, $body:tt) => {
        [
            probe(
                concat!("POST /api/v1/context/", $folder, "/"),
                201,
                |target, _, _| post(&path($folder, target, false), &json!($body)),
            ),
            probe(
                concat!("GET /api/v1/context/", $folder, "/"),
                200,
                |target, _, _| get(&path($folder, target, false)),
            ),
            probe(
                concat!("GET /api/v1/context/", $folder, "/{id}/"),
                404,
                |target, _, _| get(&path($folder, target, true)),
            ),
            probe(
                concat!("DELETE /api/v1/context/", $folder, "/{id}/"),
                404,
                |target, _, _| delete(&path($folder, target, true)),
            ),
        ]
    };
}

pub(super) const PROBES: [&[Probe]; 6] = [
    &probes!("sprints", { "name": "S1", "project_id": "p" }),
    &probes!("tracks", { "track_id": "J", "project_id": "p" }),
    &probes!("metrics", { "metric_name": "coverage" }),
    &probes!("calibrations", { "model": "m" }),
    &probes!("checkpoints", { "name": "Beta" }),
    &[
        probe("PUT /api/v1/context/sprints/{id}/", 404, |target, _, _| {
            put(&path("sprints", target, true), &json!({ "goal": "g" }))
        }),
        probe("PUT /api/v1/context/tracks/{id}/", 404, |target, _, _| {
            put(&path("tracks", target, true), &json!({ "name": "n" }))
        }),
    ],
];
