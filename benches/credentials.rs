//! What it costs to get credentials that are kept, beside the cheapest thing that could do it.
//!
//! ```text
//! one caller       ArcSwap::load (the floor), ArcSwap::load_full, Client::credentials, blocking
//! N threads        the same at once, as time per call: it must not grow with the threads
//! ```
#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot be set up has nothing to say"
)]
#![expect(clippy::disallowed_methods, reason = "measuring is reading the clock")]

use std::hint::black_box;
use std::sync::{Arc, Barrier};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use chrono::{TimeDelta, Utc};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use rrsa::credentials::{Client, Credentials, CredentialsError, Provider, blocking};
use rrsa::world::{BoxFuture, World};

/// Gives temporary credentials at once.
#[derive(Debug)]
struct Hour;

impl Provider for Hour {
    fn name(&self) -> &'static str {
        "hour"
    }

    fn credentials(&self) -> BoxFuture<'_, Result<Credentials, CredentialsError>> {
        Box::pin(async {
            Ok(Credentials::new("STS.N1", "secret".into(), "hour")
                .with_security_token("token".into())
                .with_expiration(Utc::now() + TimeDelta::hours(1)))
        })
    }
}

fn client() -> Client {
    let client = Client::new(Arc::new(Hour), &World::system().unwrap());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(client.credentials()).unwrap();
    client
}

/// One `credentials().await`, as an executor would poll it.
fn get(client: &Client) -> usize {
    let call = std::pin::pin!(client.credentials());
    match call.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(credentials)) => credentials.access_key_id().len(),
        _ => unreachable!("kept credentials are given at once"),
    }
}

fn kept() -> ArcSwap<Credentials> {
    ArcSwap::from_pointee(Credentials::new("STS.N1", "secret".into(), "hour"))
}

fn one_caller(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("one caller");
    let (kept, client) = (kept(), client());
    let blocking = blocking::Client::new(client.clone()).unwrap();
    group.bench_function("ArcSwap::load", |b| {
        b.iter(|| black_box(kept.load().access_key_id().len()));
    });
    group.bench_function("ArcSwap::load_full", |b| {
        b.iter(|| black_box(kept.load_full().access_key_id().len()));
    });
    group.bench_function("Client::credentials", |b| {
        b.iter(|| black_box(get(&client)));
    });
    group.bench_function("blocking::Client::credentials", |b| {
        b.iter(|| black_box(blocking.credentials().unwrap().access_key_id().len()));
    });
    group.finish();
}

/// The time that `threads` threads take for `calls` calls each, all at once.
fn together(threads: usize, calls: u64, call: impl Fn() + Sync) -> Duration {
    let line = Barrier::new(threads + 1);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                line.wait();
                for _ in 0..calls {
                    call();
                }
                line.wait();
            });
        }
        line.wait();
        let start = Instant::now();
        line.wait();
        start.elapsed()
    })
}

fn many_threads(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("calls of each thread");
    let (kept, client) = (kept(), client());
    for threads in [1, 2, 4, 16] {
        group.bench_with_input(
            BenchmarkId::new("ArcSwap::load", threads),
            &threads,
            |b, n| {
                b.iter_custom(|calls| {
                    together(*n, calls, || {
                        black_box(kept.load().access_key_id().len());
                    })
                });
            },
        );
        let id = BenchmarkId::new("Client::credentials", threads);
        group.bench_with_input(id, &threads, |b, n| {
            b.iter_custom(|calls| {
                together(*n, calls, || {
                    black_box(get(&client));
                })
            });
        });
    }
    group.finish();
}

criterion_group!(benches, one_caller, many_threads);
criterion_main!(benches);
