//! What `softservice new` writes. Invariant: every template reads, checks without a warning, and needs nothing of the
//! device but this program: its web server is `softservice serve-static`, so that no interpreter is a hidden need.

use super::{FILE, names};

/// A file of a new distro.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScaffoldFile {
    /// Its path below the new folder.
    pub path: &'static str,
    /// Its text.
    pub text: String,
    /// Whether it may be executed.
    pub executable: bool,
}

/// Templates that [`files`] knows, with one line about each.
pub const TEMPLATES: [(&str, &str); 1] = [("hello", "one service that serves a page")];

/// The files of a new distro called `name`.
///
/// # Errors
/// What is wrong with the name or the template, for people.
pub fn files(template: &str, name: &str) -> Result<Vec<ScaffoldFile>, String> {
    names::strict(name)?;
    if template != "hello" {
        let known: Vec<&str> = TEMPLATES.iter().map(|(n, _)| *n).collect();
        return Err(format!("there is no template {template:?}; known: {}", known.join(", ")));
    }
    let file = |path, text: String| ScaffoldFile { path, text, executable: false };
    Ok(vec![file(FILE, HELLO.replace("NAME", name)), file("site/index.html", PAGE.replace("NAME", name))])
}

const HELLO: &str = r#"format = 1

[distro]
name = "NAME"
version = "1.0.0"
summary = "Says hello"

[param]
greeting = { type = "text", default = "hello", ask = "What to call this place" }

[role.main]
export.page = { type = "http/1", port = "http" }

[role.main.artifact]
site = { tree = "site" }                        # this folder travels to every device

[role.main.service.web]
# ${softservice} is the node's own program: it can serve a folder, so nothing else has to be installed.
command = ["${softservice}", "serve-static", "${artifact.site}", "${port.http}"]
environment = { GREETING = "${param.greeting}" }
healthcheck = { http = ":${port.http}/", interval = "2s" }

[role.main.allow]                               # its own ports need no entry; nothing else is reached
memory = "256MiB"
cpu = 1
processes = 64

[test]
greets = { on = "main", http = "${main.page.url}/", status = 200, contains = "hello", within = "20s" }

[update]
settle = "2s"                                   # an update must stay healthy this long, else the old one returns
"#;

const PAGE: &str = "<!doctype html>
<html lang=\"en\">
<meta charset=\"utf-8\">
<title>NAME</title>
<h1>hello from NAME</h1>
</html>
";
