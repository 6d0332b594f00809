//! The scripts that make the release image, apart from the compiler's part: the same content gives the
//! same archive, and the bill of materials lists what is in it.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests write real files, and fail where they are not as expected"
)]

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use rstest::rstest;
use serde_json::Value;

const CONFIG: &str = r#"{"User":"65532:65532","Entrypoint":["/bin/program"]}"#;

fn said(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn script(name: &str) -> Command {
    Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join(name))
}

/// Writes the files of an image, in the order given.
fn content(root: &Path, order: &[&str], group_writes: bool) {
    for name in order {
        let file = root.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, format!("content of {name}\n")).unwrap();
        let mode = if group_writes { 0o775 } else { 0o755 };
        fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
    }
    symlink("program", root.join("bin/other-name")).unwrap();
}

/// Packs a folder; returns the digest that was printed and the archive.
fn pack(root: &Path, into: &Path, name: &str, architecture: &str) -> (String, Vec<u8>) {
    let archive = into.join("image.oci.tar");
    let mut command = script("deploy/oci-archive.sh");
    command.args([&archive, Path::new(name), root, Path::new(CONFIG)]);
    command.arg(architecture);
    let digest = said(command.env("TMPDIR", into)).trim().to_owned();
    (digest, fs::read(archive).unwrap())
}

#[test]
fn the_same_content_gives_the_same_archive() {
    let folder = tempfile::tempdir().unwrap();
    let files = ["bin/program", "etc/passwd", "etc/ssl/certs.crt"];
    let backwards: Vec<_> = files.iter().rev().copied().collect();
    let mut packed = Vec::new();
    for (place, order, group_writes) in [("one", &files[..], false), ("two", &backwards, true)] {
        let (root, into) = (
            folder.path().join(place),
            folder.path().join("to").join(place),
        );
        fs::create_dir_all(&into).unwrap();
        content(&root, order, group_writes);
        packed.push(pack(&root, &into, "localhost/some:1", "amd64"));
    }
    assert_eq!(packed[0].0, packed[1].0);
    assert!(packed[0].1 == packed[1].1, "the archives differ");

    // The digest means something.
    let root = folder.path().join("two");
    fs::write(root.join("etc/passwd"), "another\n").unwrap();
    let (another, _) = pack(
        &root,
        &folder.path().join("to/two"),
        "localhost/some:1",
        "amd64",
    );
    assert_ne!(another, packed[0].0);
}

#[test]
fn the_archive_is_an_oci_layout() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    content(&root, &["bin/program"], false);
    let (digest, _) = pack(&root, folder.path(), "localhost/some:1.2", "arm64");
    let layout = folder.path().join("layout");
    fs::create_dir(&layout).unwrap();
    let archive = folder.path().join("image.oci.tar");
    said(
        Command::new("tar")
            .arg("-xf")
            .arg(archive)
            .arg("-C")
            .arg(&layout),
    );

    let blob = |digest: &Value| {
        let sum = digest.as_str().unwrap().strip_prefix("sha256:").unwrap();
        let file = layout.join("blobs/sha256").join(sum);
        let counted = said(Command::new("sha256sum").arg(&file));
        assert_eq!(counted.split(' ').next(), Some(sum));
        file
    };
    let json = |file: &Path| -> Value { serde_json::from_slice(&fs::read(file).unwrap()).unwrap() };
    let index = json(&layout.join("index.json"));
    let manifest = &index["manifests"][0];
    assert_eq!(manifest["digest"], digest.as_str());
    let names = &manifest["annotations"];
    assert_eq!(names["io.containerd.image.name"], "localhost/some:1.2");
    assert_eq!(names["org.opencontainers.image.ref.name"], "1.2");
    let manifest = json(&blob(&manifest["digest"]));
    let config = json(&blob(&manifest["config"]["digest"]));
    assert_eq!(
        config["config"],
        serde_json::from_str::<Value>(CONFIG).unwrap()
    );
    assert_eq!(config["architecture"], "arm64");
    let layer = blob(&manifest["layers"][0]["digest"]);
    let listed = said(Command::new("tar").arg("-tvzf").arg(&layer));
    for line in listed.lines() {
        assert!(line.contains(" 0/0 "), "not root's: {line}");
        assert!(line.contains(" 1970-01-01 "), "a time: {line}");
    }
    assert!(listed.contains("./bin/other-name -> program"), "{listed}");
}

#[rstest]
#[case::amd64("x86_64-unknown-linux-musl")]
#[case::arm64("aarch64-unknown-linux-musl")]
fn the_bill_of_materials_lists_what_is_linked(#[case] target: &str) {
    let text = said(script("deploy/sbom.sh").arg(target));
    let bill: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(bill["bomFormat"], "CycloneDX");
    assert_eq!(
        bill["metadata"]["component"]["version"],
        env!("CARGO_PKG_VERSION")
    );
    let components = bill["components"].as_array().unwrap();
    let named = |name: &str| {
        components
            .iter()
            .find(|component| component["name"] == name)
    };
    for name in ["kube-client", "aws-lc-sys", "tokio"] {
        let component = named(name).unwrap_or_else(|| panic!("{name} is missing"));
        assert!(
            component["licenses"][0]["expression"].is_string(),
            "{component}"
        );
        assert_eq!(
            component["hashes"][0]["content"].as_str().unwrap().len(),
            64
        );
    }
    // What only tests and builds use is not in the image.
    for name in ["proptest", "criterion", "cc"] {
        assert!(named(name).is_none(), "{name} is not linked");
    }
}

/// The two ways to the image give it the same labels.
#[test]
fn the_dockerfile_says_what_the_script_says() {
    let read = |name: &str| fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name));
    let (dockerfile, script) = (read("deploy/Dockerfile"), read("deploy/image.sh"));
    let (dockerfile, script) = (dockerfile.unwrap(), script.unwrap().replace('\\', ""));
    let version = env!("CARGO_PKG_VERSION");
    for (label, value, written) in [
        ("title", "rrsa", "rrsa"),
        ("version", version, "$version"),
        ("licenses", "Apache-2.0", "Apache-2.0"),
    ] {
        let label = format!("org.opencontainers.image.{label}");
        assert!(dockerfile.contains(&format!("{label}={value}")), "{label}");
        assert!(
            script.contains(&format!("\"{label}\":\"{written}\"")),
            "{label}"
        );
    }
}

/// Compiled as deploy/program.sh does it, but under other names, and held against a loop.
#[cfg(target_arch = "x86_64")]
#[test]
fn copies_of_the_images_program_are_right() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let source = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    let script = fs::read_to_string(source("deploy/program.sh")).unwrap();
    let (_, line) = script.split_once("\"$compiler\" -O2").unwrap();
    let (flags, _) = line.split_once("-c deploy/memory.c").unwrap();
    let flags = flags.split_whitespace().filter(|word| *word != "\\");
    let mut compiler = Command::new("gcc");
    compiler.arg("-O2").args(flags).arg("-c");
    said(
        compiler
            .arg(source("deploy/memory.c"))
            .arg("-o")
            .arg(at("memory.o")),
    );
    let mut objcopy = Command::new("objcopy");
    objcopy.args(["--redefine-sym", "memcpy=copied"]);
    objcopy.args(["--redefine-sym", "memmove=moved"]);
    said(objcopy.arg(at("memory.o")));
    let mut linker = Command::new("gcc");
    linker.args(["-O1", "-Wall", "-Werror", "-o"]);
    said(
        linker
            .arg(at("check"))
            .arg(source("tests/image/memory.c"))
            .arg(at("memory.o")),
    );
    let found = said(&mut Command::new(at("check")));
    assert!(found.ends_with("copies are right\n"), "{found}");
}

/// Runs deploy/program.sh in a checkout of its own, with a cargo that writes `map` as the linker's. Returns
/// how it ended, and what it printed.
#[cfg(target_arch = "x86_64")]
fn built(record: bool, map: &str) -> (bool, String) {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let source = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    fs::create_dir_all(at("deploy")).unwrap();
    for name in [
        "rust-toolchain.toml",
        "deploy/architecture.sh",
        "deploy/program.sh",
        "deploy/memory.c",
    ] {
        fs::copy(source(name), at(name)).unwrap();
    }
    if record {
        fs::write(at("deploy/profile-amd64.profdata"), "a record").unwrap();
    }
    let cargo = "#!/bin/sh\n\
        release=$CARGO_TARGET_DIR/x86_64-unknown-linux-musl/release\n\
        mkdir -p $release && echo program > $release/rrsa\n\
        echo $RUSTFLAGS >&2\n\
        printf '%s' \"$MAP\" > target/image/rrsa.map\n";
    fs::create_dir(at("bin")).unwrap();
    fs::write(at("bin/cargo"), cargo).unwrap();
    fs::set_permissions(at("bin/cargo"), Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", at("bin").display(), std::env::var("PATH").unwrap());
    let mut command = Command::new(at("deploy/program.sh"));
    command.arg("amd64").env("PATH", path).env("MAP", map);
    for name in ["IMAGE_TARGET", "IMAGE_RECORD"] {
        command.env_remove(name);
    }
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

/// A record knows functions by names in which the versions of their crates are. One that knows others
/// would be of no use, and nobody would notice.
#[cfg(target_arch = "x86_64")]
#[test]
fn a_record_of_another_program_is_refused() {
    let known = ["rrsa", "hyper", "http", "tokio", "rustls"];
    let map = |crates: &[&str]| -> String {
        let line = |name: &&str| format!(" .text.hot._ZN{}{name}4call17h0E\n", name.len());
        crates.iter().map(line).collect()
    };
    let (succeeded, text) = built(true, &map(&known));
    assert!(succeeded, "{text}");
    assert!(text.contains("profile-use="), "{text}");
    for missing in known {
        let rest: Vec<_> = known.into_iter().filter(|name| *name != missing).collect();
        let (succeeded, text) = built(true, &map(&rest));
        assert!(!succeeded, "{missing}: {text}");
        assert!(text.contains(&format!("nothing of {missing} ")), "{text}");
        assert!(text.contains("make profile"), "{text}");
    }
    let (succeeded, text) = built(false, "");
    assert!(succeeded, "{text}");
    assert!(!text.contains("profile-use="), "{text}");
}
