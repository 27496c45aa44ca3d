//! The guestbook's web part: an HTML page with a form in front of the data part.
//! Invariant: it is healthy only when its page has a place for entries and the data part answers.

#[path = "../../../http.rs"]
mod http;

use http::{Request, Response};

const PLACE: &str = "<!--entries-->";

struct Web {
    page: String,
    data: String,
    token: String,
}

fn main() -> std::io::Result<()> {
    let path = http::argument("page");
    let page = std::fs::read_to_string(&path).map_err(|e| std::io::Error::new(e.kind(), format!("{path}: {e}")))?;
    let web = Web { page, data: http::argument("data"), token: http::secret(&http::argument("token-file")) };
    http::serve(&http::argument("listen"), move |request| web.answer(&request))
}

impl Web {
    fn answer(&self, request: &Request) -> Response {
        match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/healthz") => self.health(),
            ("GET", "/") => self.show(),
            ("POST", "/sign") => self.sign(&request.body),
            _ => Response::text(404, "nothing here\n"),
        }
    }

    fn health(&self) -> Response {
        if !self.page.contains(PLACE) {
            return Response::text(500, format!("the page has no {PLACE}\n"));
        }
        match http::ask(&self.data, "GET", "/entries", &self.token, b"") {
            Ok((200, _)) => Response::text(200, "ok\n"),
            Ok((status, _)) => Response::text(502, format!("the data part answers {status}\n")),
            Err(e) => Response::text(502, format!("the data part does not answer: {e}\n")),
        }
    }

    fn show(&self) -> Response {
        match http::ask(&self.data, "GET", "/entries", &self.token, b"") {
            Ok((200, body)) => {
                let text = String::from_utf8_lossy(&body);
                let count = text.lines().count();
                let items: String = text.lines().map(|l| format!("<li>{}</li>\n", escaped(l))).collect();
                let page = self.page.replace(PLACE, &items).replace("<!--count-->", &count.to_string());
                Response { status: 200, kind: "text/html; charset=utf-8", location: None, body: page.into_bytes() }
            }
            Ok((status, _)) => Response::text(502, format!("the data part answers {status}\n")),
            Err(e) => Response::text(502, format!("the data part does not answer: {e}\n")),
        }
    }

    fn sign(&self, form: &[u8]) -> Response {
        let form = String::from_utf8_lossy(form);
        let field = |name: &str| form.split('&').find_map(|p| p.strip_prefix(name)?.strip_prefix('=')).map(decoded);
        let (Some(name), Some(words)) = (field("name"), field("words")) else {
            return Response::text(400, "the form wants name and words\n");
        };
        let line: String = format!("{name}: {words}").chars().filter(|c| !c.is_control()).take(500).collect();
        match http::ask(&self.data, "POST", "/entries", &self.token, line.as_bytes()) {
            Ok((201, _)) => Response { location: Some("/"), ..Response::text(303, "") },
            Ok((status, _)) => Response::text(502, format!("the data part answers {status}\n")),
            Err(e) => Response::text(502, format!("the data part does not answer: {e}\n")),
        }
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The text behind a form field: `+` and `%XX`.
fn decoded(field: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = field.bytes();
    while let Some(b) = rest.next() {
        match b {
            b'+' => bytes.push(b' '),
            b'%' => {
                let pair = [rest.next().unwrap_or(b'0'), rest.next().unwrap_or(b'0')];
                let text = std::str::from_utf8(&pair).unwrap_or("00");
                bytes.push(u8::from_str_radix(text, 16).unwrap_or(b'?'));
            }
            other => bytes.push(other),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_field_is_decoded_and_an_entry_escaped() {
        assert_eq!(decoded("a+b%20c%C3%A9"), "a b cé");
        assert_eq!(escaped("<b>&\"</b>"), "&lt;b&gt;&amp;&quot;&lt;/b&gt;");
    }
}
