//! Every row of the tables of bad inputs has a proof, and every proof exists.

use std::collections::BTreeMap;
use std::path::Path;

/// The tables, by letter, and how many rows each has.
const TABLES: [(&str, usize); 5] = [("H", 8), ("R", 7), ("P", 17), ("C", 9), ("K", 10)];

#[expect(
    clippy::disallowed_methods,
    reason = "the list and what it names are files of the repository"
)]
fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn every_row_of_the_tables_is_proved() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = read(&root.join("tests/webhook/rows.txt"));
    let mut rows: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let (about, proofs) = line.split_once(" | ").unwrap_or_else(|| panic!("{line}"));
        let row = about.split(' ').next().unwrap();
        assert!(
            rows.insert(row, proofs.split(' ').collect()).is_none(),
            "{row} twice"
        );
    }
    let mut expected: Vec<String> = Vec::new();
    for (table, count) in TABLES {
        expected.extend((1..=count).map(|n| format!("{table}{n}")));
    }
    expected.sort();
    let listed: Vec<_> = rows.keys().map(ToString::to_string).collect();
    assert_eq!(listed, expected);
    for (row, proofs) in rows {
        assert!(!proofs.is_empty(), "{row} has no proof");
        for proof in proofs {
            if let Some(case) = proof.strip_prefix("case:") {
                let folder = root.join("tests/data/admission").join(case);
                assert!(
                    folder.join("expect.yaml").is_file(),
                    "{row}: no case {case}"
                );
                continue;
            }
            let (file, function) = proof.split_once("::").unwrap_or_else(|| panic!("{proof}"));
            if let Err(problem) = runs(&read(&root.join(file)), function) {
                panic!("{row}: {function} in {file} {problem}");
            }
        }
    }
}

/// Whether that source has a test of that name that runs by itself.
fn runs(source: &str, function: &str) -> Result<(), &'static str> {
    let (before, _) = source
        .split_once(&format!("fn {function}("))
        .ok_or("is not there")?;
    // Attributes and comments of a function stand right above it.
    let above = before.rsplit("\n\n").next().unwrap_or_default();
    let attributes = || above.lines().map(str::trim_start);
    let marked =
        |starts: &[&str]| attributes().any(|line| starts.iter().any(|s| line.starts_with(s)));
    if !marked(&["#[test]", "#[tokio::test", "#[rstest]"]) {
        return Err("is no test");
    }
    if marked(&["#[ignore", "#[cfg"]) {
        return Err("does not always run");
    }
    Ok(())
}

#[test]
fn a_proof_is_a_test_that_runs() {
    for (above, good) in [
        ("#[test]", true),
        (
            "/// Why.\n    #[tokio::test(flavor = \"multi_thread\")]",
            true,
        ),
        ("#[rstest]\n#[case(1)]\n#[tokio::test]", true),
        ("", false),
        ("#[test]\n#[ignore]", false),
        ("#[ignore = \"slow\"]\n#[tokio::test]", false),
        ("#[test]\n#[cfg_attr(not(miri), ignore)]", false),
        ("#[test]\n#[cfg(windows)]", false),
    ] {
        let source = format!("#[test]\n#[ignore]\nfn a() {{}}\n\n{above}\nasync fn b() {{}}\n");
        assert_eq!(runs(&source, "b").is_ok(), good, "{above}");
    }
    assert!(runs("#[test]\nfn ab() {}\n", "b").is_err());
    assert!(runs("// fn b\n", "b").is_err());
}
