//! A world that answers from a script, and notes what is wrong with a question.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::{HeaderName, HeaderValue, StatusCode};
use rrsa::world::{
    BoxFuture, Clock, Command, Env, Files, Finished, FixedEnv, Http, HttpError, NoRandomness,
    NotUnicode, ProcessError, Processes, Random, Request, Response, SystemFiles, World,
};

use super::case::{Answer, Broken, BrokenRun, Exchange, Run, Way};

/// What the fakes share.
#[derive(Debug, Default)]
struct Script {
    exchanges: VecDeque<Exchange>,
    runs: VecDeque<Run>,
    mistakes: Vec<String>,
}

/// The outside of one case.
#[derive(Debug, Clone)]
pub(crate) struct Outside {
    script: Arc<Mutex<Script>>,
    clock: Arc<Mutex<DateTime<Utc>>>,
    env: Arc<Mutex<FixedEnv>>,
    /// The folder that stands for `/`.
    root: PathBuf,
}

impl Outside {
    pub(crate) fn new(
        now: DateTime<Utc>,
        variables: BTreeMap<String, String>,
        root: PathBuf,
    ) -> Self {
        Self {
            script: Arc::default(),
            clock: Arc::new(Mutex::new(now)),
            env: Arc::new(Mutex::new(FixedEnv::of(variables))),
            root,
        }
    }

    pub(crate) fn set_clock(&self, now: DateTime<Utc>) {
        *self.clock.lock().unwrap() = now;
    }

    pub(crate) fn set_environment(&self, variables: BTreeMap<String, String>) {
        *self.env.lock().unwrap() = FixedEnv::of(variables);
    }

    /// What comes next.
    pub(crate) fn expect(&self, exchanges: Vec<Exchange>, runs: Vec<Run>) {
        let mut script = self.script.lock().unwrap();
        script.exchanges = exchanges.into();
        script.runs = runs.into();
    }

    /// Waits until all that was expected came, or until it will come no more.
    pub(crate) async fn settled(&self) {
        for _ in 0..200 {
            // Also when nothing is expected: what nobody expected comes now, not later.
            tokio::time::sleep(Duration::from_millis(2)).await;
            let script = self.script.lock().unwrap();
            if script.exchanges.is_empty() && script.runs.is_empty() {
                return;
            }
        }
    }

    /// Whether all that was expected came, and nothing else.
    pub(crate) fn check(&self) -> Result<(), String> {
        let script = self.script.lock().unwrap();
        let mut mistakes = script.mistakes.clone();
        for left in &script.exchanges {
            mistakes.push(format!("{} was not asked", left.request.url));
        }
        for left in &script.runs {
            mistakes.push(format!("{:?} did not run", left.argv));
        }
        if mistakes.is_empty() {
            Ok(())
        } else {
            Err(mistakes.join("; "))
        }
    }

    pub(crate) fn world(&self) -> World {
        let way = |way| Arc::new(ScriptedHttp(way, Arc::clone(&self.script)));
        World {
            clock: Arc::new(SetClock(Arc::clone(&self.clock))),
            env: Arc::new(SetEnv(Arc::clone(&self.env))),
            files: Arc::new(Rooted(self.root.clone())),
            random: Arc::new(Counted::default()),
            http: way(Way::Http),
            direct: way(Way::Direct),
            metadata: way(Way::Metadata),
            processes: Arc::new(ScriptedProcesses(Arc::clone(&self.script))),
        }
    }
}

#[derive(Debug)]
struct SetClock(Arc<Mutex<DateTime<Utc>>>);

impl Clock for SetClock {
    fn now(&self) -> DateTime<Utc> {
        *self.0.lock().unwrap()
    }
}

#[derive(Debug)]
struct SetEnv(Arc<Mutex<FixedEnv>>);

impl Env for SetEnv {
    fn var(&self, name: &str) -> Result<Option<String>, NotUnicode> {
        self.0.lock().unwrap().var(name)
    }
}

#[derive(Debug)]
struct Rooted(PathBuf);

impl Files for Rooted {
    fn read(&self, path: &Path, limit: usize) -> io::Result<Vec<u8>> {
        let inside = path.strip_prefix("/").map_err(|_| {
            io::Error::new(
                io::ErrorKind::NotFound,
                "the cases have absolute paths only",
            )
        })?;
        SystemFiles.read(&self.0.join(inside), limit)
    }
}

/// The first nonce is that of the signing vectors, and each next one differs from it at the end.
#[derive(Debug, Default)]
struct Counted(Mutex<u8>);

impl Random for Counted {
    fn bytes(&self) -> Result<[u8; 16], NoRandomness> {
        let mut bytes = 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef_u128.to_be_bytes();
        let mut count = self.0.lock().unwrap();
        bytes[15] = bytes[15].wrapping_add(*count);
        *count += 1;
        Ok(bytes)
    }
}

#[derive(Debug)]
struct ScriptedHttp(Way, Arc<Mutex<Script>>);

impl ScriptedHttp {
    fn answer(&self, request: &Request) -> Result<Response, HttpError> {
        let host = request.uri().host().unwrap_or_default().to_owned();
        let mut script = self.1.lock().unwrap();
        let Some(exchange) = script.exchanges.pop_front() else {
            let place = (request.method(), request.uri());
            script.mistakes.push(format!("nobody expected {place:?}"));
            let cause = "not in the script".to_owned();
            return Err(HttpError::Connect { host, cause });
        };
        if exchange.request.way != self.0 {
            let ways = (exchange.request.way, self.0);
            script
                .mistakes
                .push(format!("expected and taken way: {ways:?}"));
        }
        if let Err(mistake) = exchange.request.check(request) {
            script.mistakes.push(mistake);
        }
        let (status, headers, body) = match exchange.answer {
            Answer::Json(answer) => (answer.status, answer.headers, answer.json.to_string()),
            Answer::Text(answer) => (answer.status, answer.headers, answer.text),
            Answer::Broken(answer) => return Err(broken(answer.broken, host)),
        };
        let mut response = Response::new(Bytes::from(body));
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        for (name, value) in headers {
            let name: HeaderName = name.parse().unwrap();
            let value = HeaderValue::from_str(&value).unwrap();
            response.headers_mut().insert(name, value);
        }
        Ok(response)
    }
}

fn broken(how: Broken, host: String) -> HttpError {
    match how {
        Broken::Connect => HttpError::Connect {
            host,
            cause: "connection refused".to_owned(),
        },
        Broken::TimedOut => HttpError::TimedOut {
            host,
            limit: rrsa::world::EXCHANGE_TIMEOUT,
        },
        Broken::Reset => HttpError::Broken {
            host,
            cause: "connection reset".to_owned(),
        },
    }
}

impl Http for ScriptedHttp {
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Response, HttpError>> {
        Box::pin(std::future::ready(self.answer(&request)))
    }
}

#[derive(Debug)]
struct ScriptedProcesses(Arc<Mutex<Script>>);

impl ScriptedProcesses {
    fn outcome(&self, command: &Command) -> Result<Finished, ProcessError> {
        let program = command.argv[0].clone();
        let not_found = || ProcessError::Start {
            program: program.clone(),
            source: io::ErrorKind::NotFound.into(),
        };
        let mut script = self.0.lock().unwrap();
        let Some(run) = script.runs.pop_front() else {
            script
                .mistakes
                .push(format!("nobody expected {:?}", command.argv));
            return Err(not_found());
        };
        if run.argv != command.argv {
            let both = (&run.argv, &command.argv);
            script
                .mistakes
                .push(format!("expected and seen command: {both:?}"));
        }
        let limit = command.time_out;
        if run
            .time_out_ms
            .is_some_and(|ms| u128::from(ms) != limit.as_millis())
        {
            script.mistakes.push(format!("the time-out is {limit:?}"));
        }
        match run.broken {
            Some(BrokenRun::Start) => return Err(not_found()),
            Some(BrokenRun::TimedOut) => return Err(ProcessError::TimedOut { program, limit }),
            None => {}
        }
        let printed = run.json.map(|json| json.to_string()).or(run.text);
        Ok(Finished {
            code: Some(run.code),
            stdout: printed.unwrap_or_default().into_bytes().into(),
        })
    }
}

impl Processes for ScriptedProcesses {
    fn run(&self, command: Command) -> BoxFuture<'_, Result<Finished, ProcessError>> {
        Box::pin(std::future::ready(self.outcome(&command)))
    }
}
