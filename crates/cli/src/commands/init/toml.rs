//! The few lines in Codex's `config.toml`: hooks switched on, and the server of our tools. Each
//! carries a mark, so that they are found again; everything else is left alone.

use std::path::Path;

/// Mark of our lines.
const MARK: &str = "# written by coditect init";

/// Returns the text with our lines; the same text when nothing is to do. A switch that somebody
/// has set stays as it is.
pub(crate) fn put(text: &str, mcp: Option<(&Path, Option<&str>)>) -> String {
    let mut text = text.to_owned();
    if !has_key(&text, "features", "codex_hooks") {
        let line = format!("codex_hooks = true {MARK}");
        text = match header(&text, "features") {
            Some(end) => [&text[..end], &line, "\n", &text[end..]].concat(),
            None => append(&text, &format!("[features] {MARK}\n{line}\n")),
        };
    }
    if let Some((program, profile)) = mcp
        && header(&text, "mcp_servers.coditect").is_none()
    {
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let mut words = vec![quoted("mcp")];
        words.extend(
            profile
                .into_iter()
                .flat_map(|name| [quoted("--profile"), quoted(name)]),
        );
        let program = quoted(&program.to_string_lossy());
        text = append(
            &text,
            &format!(
                "[mcp_servers.coditect] {MARK}\ncommand = {program} {MARK}\nargs = [{}] {MARK}\n",
                words.join(", ")
            ),
        );
    }
    text
}

/// Returns the text without our lines. A header of ours stays when somebody has put keys of
/// their own below it.
pub(crate) fn take_out(text: &str) -> String {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let mut out: Vec<&str> = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        if !line.trim_end().ends_with(MARK) {
            out.push(line);
            continue;
        }
        let is_header = line.trim_start().starts_with('[');
        let below = lines[at + 1..]
            .iter()
            .take_while(|line| !line.trim_start().starts_with('['));
        let theirs = |line: &&&str| !line.trim().is_empty() && !line.trim_end().ends_with(MARK);
        if is_header && below.clone().any(|line| theirs(&line)) {
            out.push(line);
        } else if is_header && out.last().is_some_and(|before| before.trim().is_empty()) {
            // The empty line that was put before it.
            out.pop();
        }
    }
    out.concat()
}

fn append(text: &str, block: &str) -> String {
    let gap = match text {
        "" => "",
        text if text.ends_with('\n') => "\n",
        _ => "\n\n",
    };
    [text, gap, block].concat()
}

/// Returns where the line after a table's header starts.
fn header(text: &str, name: &str) -> Option<usize> {
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        at += line.len();
        if table_of(line) == Some(name) && line.ends_with('\n') {
            return Some(at);
        }
    }
    None
}

fn has_key(text: &str, table: &str, key: &str) -> bool {
    let mut current = "";
    for line in text.lines() {
        if let Some(name) = table_of(line) {
            current = name;
        }
        let name = line.split_once('=').map_or("", |(name, _)| name.trim());
        let dotted = name
            .split_once('.')
            .is_some_and(|(a, b)| (a.trim(), b.trim()) == (table, key));
        if (current == table && name == key) || (current.is_empty() && dotted) {
            return true;
        }
    }
    false
}

fn table_of(line: &str) -> Option<&str> {
    let line = line.trim();
    let name = line.strip_prefix('[')?.split(']').next()?;
    (!name.starts_with('[')).then(|| name.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_and_go_and_the_rest_stays() {
        for text in [
            "",
            "model = \"x\"\n",
            "model = \"x\" # best\n\n[features]\nother = true\n\n[tui]\na = 1\n",
            "[mcp_servers.theirs]\ncommand = \"x\"\n",
        ] {
            let mcp = Some((Path::new("/a b/coditect"), Some("work")));
            let once = put(text, mcp);
            assert!(once.contains("codex_hooks = true"), "{once}");
            assert!(once.contains("[mcp_servers.coditect]"), "{once}");
            assert_eq!(put(&once, mcp), once);
            assert_eq!(take_out(&once), text, "{once}");
        }
    }

    #[test]
    fn a_switch_that_somebody_set_stays() {
        for text in [
            "[features]\ncodex_hooks = false\n",
            "features.codex_hooks = false\n",
        ] {
            assert_eq!(put(text, None), text);
            assert_eq!(take_out(text), text);
        }
    }

    #[test]
    fn keys_of_others_below_our_header_keep_it() {
        let text = put("", None) + "theirs = true\n";
        let out = take_out(&text);
        assert!(
            out.contains("[features]") && out.contains("theirs") && !out.contains("codex_hooks")
        );
    }
}
