//! People with devices that are logged in.

use std::path::Path;

use anyhow::Context as _;
use coditect_protocol::wire::auth::{DeviceInfo, LicenseLogin, LoginReply};
use coditect_protocol::wire::pull::PullReply;
use coditect_protocol::{API_VERSION, DeviceId, Scope, UserId};
use serde_json::Value;
use uuid::Uuid;

use super::http::Connection;
use crate::clock;
use crate::random::Random;
use crate::rig::server::Server;

/// Somebody who can log in.
#[derive(Clone, Debug)]
pub(crate) struct Person {
    pub(crate) user: UserId,
    license_key: String,
}

/// A server with people in its first organisation.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) server: Server,
    pub(crate) people: Vec<Person>,
}

impl Site {
    /// Starts the program on a new folder and makes so many people.
    pub(crate) fn start(program: &Path, number: usize) -> anyhow::Result<Self> {
        let server = Server::start(program)?;
        let people = people(&server, number)?;
        Ok(Self { server, people })
    }
}

/// A device with its connection, its access token and its file token.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) connection: Connection,
    pub(crate) user: UserId,
    pub(crate) id: DeviceId,
    access: String,
    token: Option<String>,
}

/// Makes people in the server's first organisation.
fn people(server: &Server, number: usize) -> anyhow::Result<Vec<Person>> {
    let tenant = server.tenant.to_string();
    let mut people = Vec::with_capacity(number);
    for n in 0..number {
        let email = format!("person-{n}@bench.test");
        let made = server.admin(&["user", "create", "--tenant", &tenant, "--email", &email])?;
        let user = made["user_id"].as_str().context("no user id")?;
        let issued = server.admin(&["license", "issue", "--tenant", &tenant, "--user", user])?;
        let key = issued["license_key"].as_str();
        people.push(Person {
            user: user.parse()?,
            license_key: key.context("no licence key")?.to_owned(),
        });
    }
    Ok(people)
}

impl Device {
    /// Logs a new device of the person in.
    pub(crate) async fn log_in(
        server: &Server,
        person: &Person,
        random: &mut Random,
    ) -> anyhow::Result<Self> {
        let mut connection = Connection::open(&server.url).await?;
        let login = LicenseLogin {
            license_key: person.license_key.clone(),
            device: Some(DeviceInfo {
                id: Some(DeviceId::new(random.uuid())),
                ..DeviceInfo::default()
            }),
        };
        let body = serde_json::to_vec(&login)?;
        let reply = connection
            .post("/api/v1/auth/license/", None, &[&body])
            .await?;
        let reply: LoginReply = serde_json::from_slice(reply.ok()?)?;
        Ok(Self {
            connection,
            user: reply.user_id,
            id: reply.device_id,
            access: reply.access_token,
            token: None,
        })
    }

    /// Opens a new connection: the server closes one that was silent for half a minute.
    pub(crate) async fn reconnect(&mut self, server: &Server) -> anyhow::Result<()> {
        self.connection = Connection::open(&server.url).await?;
        Ok(())
    }

    /// Pushes changes that are already JSON, separated by commas, to the person's own stream.
    /// Returns how many were stored now or before.
    pub(crate) async fn push(&mut self, changes: &[u8], batch: Uuid) -> anyhow::Result<usize> {
        let token = self.token.as_ref();
        let token = token.map(|token| format!("\"token\":\"{token}\","));
        let head = format!(
            "{{\"api_version\":\"{API_VERSION}\",\"device\":\"{}\",\"batch_id\":\"{batch}\",\
             \"sent_at_ms\":{},\"file\":\"sessions\",\"scope\":\"user:{}\",{}\"changes\":[",
            self.id,
            clock::now_ms(),
            self.user,
            token.unwrap_or_default()
        );
        let pieces = [head.as_bytes(), changes, b"]}"];
        let access = Some(self.access.as_str());
        let reply = self
            .connection
            .post("/api/v1/sync/push", access, &pieces)
            .await?;
        let body = reply.ok()?;
        let token = text_field(body, "token").context("a push was answered without a token")?;
        let stored =
            count(body, b"\"status\":\"applied\"") + count(body, b"\"status\":\"duplicate\"");
        self.token = Some(token.to_owned());
        Ok(stored)
    }

    /// Returns the body of a request for the changes behind the positions.
    pub(crate) fn pull_request(&self, positions: &[Value]) -> anyhow::Result<Vec<u8>> {
        // Built as JSON, so that a field which the wire gains later need not be named here.
        let request = serde_json::json!({
            "api_version": API_VERSION,
            "device": self.id,
            "positions": positions,
        });
        Ok(serde_json::to_vec(&request)?)
    }

    /// Pulls and returns the reply's bytes.
    pub(crate) async fn pull_bytes(&mut self, request: &[u8]) -> anyhow::Result<&[u8]> {
        let access = Some(self.access.as_str());
        let reply = self
            .connection
            .post("/api/v1/sync/pull", access, &[request])
            .await?;
        if reply.status != 200 {
            reply.ok()?;
        }
        Ok(reply.body)
    }

    /// Pulls and reads the reply.
    pub(crate) async fn pull(&mut self, positions: &[Value]) -> anyhow::Result<PullReply> {
        let request = self.pull_request(positions)?;
        Ok(serde_json::from_slice(self.pull_bytes(&request).await?)?)
    }

    /// Returns the person's own scope.
    pub(crate) fn scope(&self) -> Scope {
        Scope::User(self.user.get())
    }
}

/// Returns a text field's value from JSON in which it occurs first as a field of the reply.
fn text_field<'a>(json: &'a [u8], name: &str) -> Option<&'a str> {
    let key = format!("\"{name}\":\"");
    let start = find(json, key.as_bytes())? + key.len();
    let end = json[start..].iter().position(|byte| *byte == b'"')?;
    std::str::from_utf8(&json[start..start + end]).ok()
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

fn count(bytes: &[u8], part: &[u8]) -> usize {
    let (mut found, mut rest) = (0, bytes);
    while let Some(at) = find(rest, part) {
        found += 1;
        rest = &rest[at + part.len()..];
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_and_outcomes_are_found_in_a_reply() {
        let reply = br#"{"epoch":"0","token":"abc","outcomes":[{"status":"applied"},
            {"status":"duplicate"},{"status":"applied"}]}"#;
        assert_eq!(text_field(reply, "token"), Some("abc"));
        assert_eq!(text_field(reply, "other"), None);
        assert_eq!(count(reply, b"\"status\":\"applied\""), 2);
    }
}
