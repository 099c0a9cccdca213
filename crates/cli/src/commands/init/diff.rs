//! What changes in a file, for people.

/// Lines shown around a change.
const AROUND: usize = 2;

/// Returns what differs: `-` and `+` lines with some that stay around them.
pub(crate) fn lines(before: Option<&str>, after: Option<&str>) -> Vec<String> {
    let old: Vec<&str> = before.unwrap_or("").lines().collect();
    let new: Vec<&str> = after.unwrap_or("").lines().collect();
    let start = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let rest = |lines: &[&str]| lines.len() - start;
    let end = old[start..]
        .iter()
        .rev()
        .zip(new[start..].iter().rev())
        .take_while(|(a, b)| a == b)
        .count()
        .min(rest(&old))
        .min(rest(&new));
    let mut out = Vec::new();
    let mut push = |sign: char, lines: &[&str]| {
        out.extend(lines.iter().map(|line| format!("  {sign} {line}")));
    };
    push(' ', &old[start.saturating_sub(AROUND)..start]);
    push('-', &old[start..old.len() - end]);
    push('+', &new[start..new.len() - end]);
    push(
        ' ',
        &old[old.len() - end..(old.len() - end + AROUND).min(old.len())],
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_shown() {
        let before = "a\nb\nc\nd\ne\nf\n";
        let found = lines(Some(before), Some("a\nb\nc\nX\ne\nf\n"));
        assert_eq!(
            found,
            ["    b", "    c", "  - d", "  + X", "    e", "    f"]
        );
        assert_eq!(lines(None, Some("x\n")), ["  + x"]);
        assert_eq!(lines(Some("x\n"), None), ["  - x"]);
        assert_eq!(lines(Some("a\na\n"), Some("a\na\na\n")).len(), 3);
    }
}
