//! Patterns of paths that an ingest leaves out: `?` is one character, `*` any of one component, `**` any components.
//! A pattern without `/` is matched against every name, one with `/` from the root; whatever lies below a match is out.
//! Invariant: matching takes time proportional to pattern × path, whatever the pattern.

/// Whether any pattern leaves this relative path out.
pub(crate) fn excluded(patterns: &[String], path: &str) -> bool {
    patterns.iter().any(|p| matches(p, path))
}

/// Whether one pattern matches one relative path.
fn matches(pattern: &str, path: &str) -> bool {
    let anchored = pattern.trim_end_matches('/').contains('/');
    let pattern = pattern.trim_start_matches("./").trim_matches('/');
    let components: Vec<&str> = path.split('/').collect();
    if !anchored {
        return components.last().is_some_and(|name| component(pattern, name));
    }
    let parts: Vec<&str> = pattern.split('/').collect();
    // reach[j]: the parts seen so far can match the first j components.
    let mut reach = vec![false; components.len() + 1];
    reach[0] = true;
    let last = parts.len() - 1;
    for (i, part) in parts.into_iter().enumerate() {
        let mut next = vec![false; reach.len()];
        if part == "**" {
            let first = reach.iter().position(|&r| r).unwrap_or(reach.len());
            // At the end it stands for what lies below, not for the folder itself.
            let first = first + usize::from(i == last);
            next.iter_mut().skip(first).for_each(|n| *n = true);
        } else {
            for (j, name) in components.iter().enumerate() {
                next[j + 1] = reach[j] && component(part, name);
            }
        }
        reach = next;
    }
    reach.last().copied().unwrap_or(false)
}

fn component(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(&c) if c == '?' || c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match star {
                // Let the last star take one character more; earlier ones need never be tried again.
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    p = at + 1;
                    n = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&c| c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_leave_out_what_they_say() {
        let table = [
            ("*.o", "a/b.o", true),
            ("*.o", "a/b.oo", false),
            ("target", "x/target", true),
            ("target/", "target", true),
            ("/target", "x/target", false),
            ("/target", "target", true),
            ("a/*", "a/b", true),
            ("a/*", "a/b/c", false),
            ("a/**", "a/b/c", true),
            ("a/**", "a", false),
            ("**/x", "x", true),
            ("**/x", "a/b/x", true),
            ("a/**/z", "a/z", true),
            ("a/**/z", "a/b/c/z", true),
            ("?.txt", "ab.txt", false),
            ("", "a", false),
        ];
        for (pattern, path, out) in table {
            assert_eq!(matches(pattern, path), out, "{pattern} on {path}");
        }
    }

    #[test]
    fn many_stars_end_soon() {
        assert!(!component(&"*a".repeat(60), &"a".repeat(50)));
        assert!(!matches(&"**/a/".repeat(60), &"a/".repeat(50)));
    }
}
