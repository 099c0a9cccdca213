//! The text of a notification: the sender's name, then one line per head.

use coditect_protocol::catalogue::File;
use uuid::Uuid;

use super::Head;

/// Bytes of one notification; PostgreSQL takes 8,000.
const PAYLOAD_BYTES_MAX: usize = 7_900;

/// Writes heads into as few payloads as they fit in.
pub(super) fn write(sender: &str, heads: &[Head]) -> Vec<String> {
    let mut payloads: Vec<String> = Vec::new();
    for head in heads {
        let line = format!(
            "\n{} {} {} {}",
            head.tenant.simple(),
            head.scope,
            head.file,
            head.cursor
        );
        match payloads.last_mut() {
            Some(last) if last.len() + line.len() <= PAYLOAD_BYTES_MAX => last.push_str(&line),
            _ => payloads.push(format!("{sender}{line}")),
        }
    }
    payloads
}

/// Reads a payload: the sender and the heads. Lines that are none are left out: an instance of
/// another version may have written them.
pub(super) fn read(payload: &str) -> (&str, Vec<Head>) {
    let (sender, lines) = payload.split_once('\n').unwrap_or((payload, ""));
    (sender, lines.lines().filter_map(head).collect())
}

fn head(line: &str) -> Option<Head> {
    let mut words = line.split(' ');
    let tenant = Uuid::parse_str(words.next()?).ok()?;
    let scope = words.next()?.parse().ok()?;
    let name = words.next()?;
    let file = File::ALL.into_iter().find(|file| file.as_str() == name)?;
    let cursor = words.next()?.parse().ok()?;
    Some(Head {
        tenant,
        scope,
        file,
        cursor,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use coditect_protocol::{Cursor, Epoch, Scope};

    #[test]
    fn heads_survive_in_payloads_that_fit() {
        let heads: Vec<Head> = (0..200)
            .map(|n| Head {
                tenant: Uuid::from_u128(u128::MAX - 7),
                scope: match n % 3 {
                    0 => Scope::Platform,
                    1 => Scope::User(Uuid::from_u128(n as u128)),
                    _ => Scope::Project(Uuid::from_u128(n as u128)),
                },
                file: File::ALL[n % 4],
                cursor: Cursor {
                    epoch: Epoch(u64::MAX),
                    n: i64::MAX - n as i64,
                },
            })
            .collect();
        let payloads = write("ab", &heads);
        assert!(payloads.len() > 1);
        let mut found = Vec::new();
        for payload in &payloads {
            assert!(payload.len() < 8_000, "{}", payload.len());
            let (sender, heads) = read(payload);
            assert_eq!(sender, "ab");
            found.extend(heads);
        }
        assert_eq!(found, heads);
    }

    #[test]
    fn what_is_no_head_is_left_out() {
        assert_eq!(read("ab\nx y z\n\n1 2").1, []);
        assert_eq!(read(""), ("", Vec::new()));
    }
}
