//! `rrsa credentials serve`.

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::house::{House, KEY_SECRET, PATIENCE, ROLE};
use crate::person::{KEYS, Person, RRSA};

/// A server that a person started.
struct Server {
    child: Child,
    uri: String,
}

impl Server {
    async fn start(person: &Person) -> Self {
        let mut child = person.command(&["serve"]).spawn().expect("it starts");
        let line = first_line(&mut child).await;
        let uri = line
            .strip_prefix("export ALIBABA_CLOUD_CREDENTIALS_URI='")
            .and_then(|rest| rest.strip_suffix('\''))
            .expect("a line that sets the variable")
            .to_owned();
        Self { child, uri }
    }

    /// What it wrote to standard error, after it was told to stop.
    async fn stop(self) -> String {
        terminate(&self.child).await;
        let output = tokio::time::timeout(PATIENCE, self.child.wait_with_output());
        let output = output.await.expect("it ends").expect("an output");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).expect("text")
    }
}

async fn first_line(child: &mut Child) -> String {
    let out = child.stdout.as_mut().expect("a pipe");
    let mut line = String::new();
    let mut reader = BufReader::new(out);
    let read = reader.read_line(&mut line);
    let read = tokio::time::timeout(PATIENCE, read).await;
    read.expect("it says something").expect("a pipe");
    line.trim_end().to_owned()
}

async fn terminate(child: &Child) {
    let id = child.id().expect("it runs").to_string();
    let sent = Command::new("kill").args(["-TERM", &id]).status();
    assert!(sent.await.expect("kill starts").success());
}

fn http() -> reqwest::Client {
    let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE);
    client.build().expect("a client")
}

#[tokio::test]
async fn whoever_knows_the_uri_gets_the_credentials() {
    let house = House::start();
    let person = Person::pod(&house);
    let server = Server::start(&person).await;
    assert!(
        server.uri.starts_with("http://127.0.0.1:"),
        "{}",
        server.uri
    );

    let answer = http().get(&server.uri).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["cache-control"], "no-store");
    let json: serde_json::Value = answer.json().await.unwrap();
    assert_eq!(json["Code"], "Success");
    let text = |name: &str| json[name].as_str().unwrap();
    let session = house
        .sts
        .verify(
            text("AccessKeyId"),
            text("AccessKeySecret"),
            text("SecurityToken"),
        )
        .unwrap();
    assert_eq!(session.role_arn, ROLE);
    // All who ask share what is fresh.
    assert_eq!(house.sts.calls().count(|_| true), 1);

    let path = url::Url::parse(&server.uri).unwrap().path().to_owned();
    let said = server.stop().await;
    assert!(!said.contains(path.split('/').nth(1).unwrap()), "{said}");
}

#[tokio::test]
async fn nobody_else_gets_anything() {
    let house = House::start();
    let person = Person::pod(&house);
    let server = Server::start(&person).await;
    let mut elsewhere = url::Url::parse(&server.uri).unwrap();
    elsewhere.set_path("/00000000000000000000000000000000/credentials");
    let http = http();
    let refused = [
        (http.get(elsewhere), 404),
        (http.get(&server.uri).header("host", "evil.example"), 421),
        (http.get(&server.uri).header("host", "localhost:1"), 421),
        (http.post(&server.uri), 405),
    ];
    for (request, status) in refused {
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), status);
        let body = answer.text().await.unwrap();
        assert!(
            !body.contains("AccessKey") && !body.contains("Success"),
            "{body}"
        );
    }
    server.stop().await;
}

#[tokio::test]
async fn keys_that_do_not_end_are_refused_at_the_start() {
    let person = Person::new().with(&KEYS);
    let error = person.run(&["serve"]).await.failed();
    assert!(error.contains("--role-arn"), "{error}");
    assert!(!error.contains(KEY_SECRET), "{error}");
}

#[tokio::test]
async fn a_mistake_is_told_at_the_start() {
    let house = House::start();
    house.write_token("no token");
    let error = Person::pod(&house).run(&["serve"]).await.failed();
    assert!(error.contains("oidc_role_arn"), "{error}");
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let house = House::start();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let error = Person::pod(&house).run(&["serve", "--port", &port]).await;
    let error = error.failed();
    assert!(
        error.contains(&format!("port {port} of 127.0.0.1")),
        "{error}"
    );
}

#[tokio::test]
async fn a_program_uses_the_uri_as_long_as_it_runs() {
    let house = House::start();
    // The program's own identity would come before the URI.
    let person = Person::pod(&house);
    let inner = [RRSA, "credentials", "get"];
    let said = person.run(&[&["serve", "--"], &inner[..]].concat()).await;
    assert_eq!(said.err, "");
    let summary = said.succeeded();
    assert!(summary.contains("default/credential_uri"), "{summary}");
    assert_eq!(house.sts.calls().count(|_| true), 1);
}

#[tokio::test]
async fn the_programs_end_is_passed_on() {
    let house = House::start();
    let person = Person::pod(&house);
    let said = person.run(&["serve", "--", "sh", "-c", "exit 3"]).await;
    assert_eq!(said.code, Some(3), "{}", said.err);
    let said = person.run(&["serve", "--", "no-such-program"]).await;
    assert_eq!(said.code, Some(127), "{}", said.err);
}

#[tokio::test]
async fn to_be_told_to_stop_is_passed_on() {
    let house = House::start();
    let script = "trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done";
    let arguments = ["serve", "--", "sh", "-c", script];
    let person = Person::pod(&house);
    let mut child = person.command(&arguments).spawn().unwrap();
    assert_eq!(first_line(&mut child).await, "ready");
    terminate(&child).await;
    let status = tokio::time::timeout(PATIENCE, child.wait()).await;
    assert_eq!(status.expect("it ends").unwrap().code(), Some(9));
}
