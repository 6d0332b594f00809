//! What `make image` built: one program, certificate authorities, a user, and nothing else.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::rrsa::archive;
use crate::stage::{Stage, tell};

/// Unpacked, as the design promises.
const LARGEST: u64 = 20 * 1024 * 1024;
/// All that is in it.
const FILES: [&str; 4] = [
    "./etc/group",
    "./etc/passwd",
    "./etc/ssl/certs/ca-certificates.crt",
    "./usr/bin/rrsa",
];

/// The image is small, runs as nobody in particular, and holds nothing that an attacker could use.
pub(crate) async fn holds_nothing_else(stage: &'static Stage) -> Result<()> {
    let folder = stage.cluster.state_dir().join("image");
    fs::create_dir_all(&folder)?;
    let (archive, into) = (
        archive()?.display().to_string(),
        folder.display().to_string(),
    );
    stage
        .run(
            "tar",
            &["--extract", "--file", &archive, "--directory", &into],
        )
        .await?;

    let index: Value = serde_json::from_slice(&fs::read(folder.join("index.json"))?)?;
    let manifest = read(&folder, &index["manifests"][0]["digest"])?;
    let config = read(&folder, &manifest["config"]["digest"])?;
    ensure!(
        config["config"]["User"] == "65532:65532",
        "config: {config}"
    );
    ensure!(
        config["config"]["Entrypoint"][0] == "/usr/bin/rrsa",
        "config: {config}"
    );
    let layers = manifest["layers"].as_array().context("no layers")?;
    ensure!(layers.len() == 1, "it has {} layers", layers.len());
    let layer = blob(&folder, &layers[0]["digest"])?;
    let listing = stage
        .run("tar", &["--list", "--verbose", "--gzip", "--file", &layer])
        .await?;
    // -rwxr-xr-x 0/0 16443312 1970-01-01 00:00 ./usr/bin/rrsa
    let mut files = Vec::new();
    let mut size = 0;
    for line in listing.lines().filter(|line| !line.starts_with('d')) {
        let words: Vec<_> = line.split_whitespace().collect();
        let [mode, owner, length, _, _, name] = words[..] else {
            anyhow::bail!("not a plain file: {line}");
        };
        ensure!(owner == "0/0" && !mode.contains('s'), "{line}");
        size += length.parse::<u64>()?;
        files.push(name);
    }
    ensure!(files == FILES, "it holds {files:?}");
    ensure!(size <= LARGEST, "unpacked it is {size} bytes");
    tell(&format!("the image, unpacked: {:.1} MiB", mebibytes(size)));
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1024 * 1024)
}

fn blob(folder: &Path, digest: &Value) -> Result<String> {
    let digest = digest.as_str().context("no digest")?;
    let sum = digest.strip_prefix("sha256:").context("another digest")?;
    Ok(folder.join("blobs/sha256").join(sum).display().to_string())
}

fn read(folder: &Path, digest: &Value) -> Result<Value> {
    Ok(serde_json::from_slice(&fs::read(blob(folder, digest)?)?)?)
}
