//! The floor: a server in our own stack that reads the body, makes one pass over it that keeps
//! nothing, and answers a patch that it was given: the one that the webhook would write for that
//! pod, so that both send as much.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use rrsa::serving::server::{self, Stop};
use rrsa::serving::tls::{self, CertificateSlot};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::de::IgnoredAny;
use tokio::signal::unix::{SignalKind, signal};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(long)]
    listen: SocketAddr,
    /// Folder with tls.crt and tls.key.
    #[arg(long)]
    certificates: PathBuf,
    /// Folder with the answers, named `<length of the review>.json`.
    #[arg(long)]
    answers: PathBuf,
}

type Answers = Arc<Vec<(u64, Bytes)>>;

pub(crate) fn run(args: &Args) -> Result<()> {
    let slot = Arc::new(CertificateSlot::default());
    slot.set(Arc::new(certified_key(&args.certificates)?));
    let mut answers = Vec::new();
    for entry in std::fs::read_dir(&args.answers)? {
        let path = entry?.path();
        let length = path
            .file_stem()
            .and_then(|stem| stem.to_str()?.parse().ok());
        answers.push((length.context("an odd name")?, std::fs::read(&path)?.into()));
    }
    let router = Router::new()
        .route("/mutate", post(answer))
        .layer(DefaultBodyLimit::max(rrsa::webhook::handler::MAX_BODY))
        .with_state(Answers::new(answers));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let listener = TcpListener::bind(args.listen)?;
    runtime.block_on(async {
        let mut terminated = signal(SignalKind::terminate())?;
        let tls = tls::server_config(slot)?;
        tokio::select! {
            served = server::serve_tls(listener, tls, router, Stop::default()) => served?,
            // It ends by itself, so that it can be recorded as ours is.
            _ = terminated.recv() => {}
        }
        Ok(())
    })
}

async fn answer(State(answers): State<Answers>, body: Bytes) -> Response {
    if serde_json::from_slice::<IgnoredAny>(&body).is_err() {
        return StatusCode::BAD_REQUEST.into_response();
    }
    let known = answers
        .iter()
        .find(|(length, _)| *length == body.len() as u64);
    match known {
        Some((_, answer)) => {
            ([(header::CONTENT_TYPE, "application/json")], answer.clone()).into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

pub(crate) fn certified_key(folder: &std::path::Path) -> Result<CertifiedKey> {
    let certificate = CertificateDer::from_pem_file(folder.join("tls.crt"))?;
    let key = PrivateKeyDer::from_pem_file(folder.join("tls.key"))?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    Ok(CertifiedKey::from_der(vec![certificate], key, &provider)?)
}
