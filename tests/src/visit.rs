//! A visitor of the guestbook. Invariant: an answer is a status and a whole body, or an error; nothing hangs.

#[path = "../../examples/guestbook/http.rs"]
#[allow(dead_code, reason = "a visitor only asks; the servers of the example use the rest")]
mod http;

/// One request to `http://HOST:PORT...`; status and body.
pub fn ask(url: &str, method: &str, path: &str, body: &str) -> std::io::Result<(u16, String)> {
    ask_as("", url, method, path, body)
}

/// The same of one who knows the token.
pub fn ask_as(token: &str, url: &str, method: &str, path: &str, body: &str) -> std::io::Result<(u16, String)> {
    let address = url.trim_start_matches("http://").split('/').next().unwrap_or_default();
    let (status, body) = http::ask(address, method, path, token, body.as_bytes())?;
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

/// The page at `url`, which must answer 200.
pub fn page(url: &str) -> String {
    let (status, body) = ask(url, "GET", "/", "").unwrap_or_else(|e| panic!("{url} answers: {e}"));
    assert_eq!(status, 200, "{url}: {body}");
    body
}

/// The web endpoint that an `up` or `ps` answer names.
pub fn url(answer: &serde_json::Value) -> String {
    let endpoints = answer["endpoints"].as_array().expect("an answer lists endpoints");
    let found = endpoints.iter().filter_map(|e| e["url"].as_str()).find(|u| u.starts_with("http:"));
    found.unwrap_or_else(|| panic!("no endpoint is a page: {answer}")).to_owned()
}

/// The address of the endpoint called `name` in an `up` or `ps` answer.
pub fn endpoint(answer: &serde_json::Value, name: &str) -> String {
    let endpoints = answer["endpoints"].as_array().expect("an answer lists endpoints");
    let found = endpoints.iter().find(|e| e["name"] == name).and_then(|e| e["url"].as_str());
    found.unwrap_or_else(|| panic!("no endpoint is called {name}: {answer}")).to_owned()
}
