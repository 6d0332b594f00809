//! Each vector has its place: the table `docs/vectors.md`, and the proof that it is whole.
//!
//! `vectors.json` lists all vectors and what they say, `elsewhere.json` which of them a test of
//! another file proves, and `not-applicable.json` which do not apply here and why.
//! `make generate` writes the table anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::case::{About, folder, folders_in, read};

/// The vectors of a section.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    number: String,
    title: String,
    /// Ids and what they say, in order.
    vectors: Vec<(String, String)>,
}

/// Vectors that a test of another file proves.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Elsewhere {
    ids: Vec<String>,
    file: PathBuf,
    test: String,
    differs: Option<String>,
}

/// Vectors that do not apply here.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NotApplicable {
    ids: Vec<String>,
    why: String,
}

/// The part of a case that is about its vectors.
#[derive(Debug, Deserialize)]
struct Case {
    about: About,
}

/// Where a vector is proved, and how ours differs.
#[derive(Debug, Default)]
struct Place {
    proofs: BTreeSet<String>,
    differs: BTreeSet<String>,
    why_not: Option<String>,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sections() -> Vec<Section> {
    read(&folder().join("vectors.json"))
}

fn places() -> BTreeMap<String, Place> {
    let mut places: BTreeMap<String, Place> = BTreeMap::new();
    for section in folders_in(&folder()) {
        for path in folders_in(&section) {
            let about = read::<Case>(&path.join("case.json")).about;
            let name = path.file_name().unwrap().to_str().unwrap();
            let section = section.file_name().unwrap().to_str().unwrap();
            assert!(!about.title.is_empty(), "{name} has no title");
            let named_after_one = |id: &String| {
                name == id
                    || name
                        .strip_prefix(id.as_str())
                        .is_some_and(|rest| rest.starts_with('-'))
            };
            assert!(
                about.ids.iter().any(named_after_one),
                "{name} is not named after a vector of it"
            );
            let link = format!("[{name}](../tests/data/vectors/{section}/{name}/case.json)");
            for id in about.ids {
                let place = places.entry(id).or_default();
                place.proofs.insert(link.clone());
                place.differs.extend(about.differs.clone());
            }
        }
    }
    for elsewhere in read::<Vec<Elsewhere>>(&folder().join("elsewhere.json")) {
        let file = elsewhere.file.to_str().unwrap();
        let link = format!("[`{}`](../{file})", elsewhere.test);
        for id in elsewhere.ids {
            let place = places.entry(id).or_default();
            place.proofs.insert(link.clone());
            place.differs.extend(elsewhere.differs.clone());
        }
    }
    for group in read::<Vec<NotApplicable>>(&folder().join("not-applicable.json")) {
        for id in group.ids {
            places.entry(id).or_default().why_not = Some(group.why.clone());
        }
    }
    places
}

#[test]
fn every_vector_is_proved_or_does_not_apply() {
    let places = places();
    let mut known = BTreeSet::new();
    let mut without = Vec::new();
    for (id, says) in sections().into_iter().flat_map(|section| section.vectors) {
        assert!(!says.is_empty(), "{id} says nothing");
        assert!(known.insert(id.clone()), "{id} is listed twice");
        match places.get(&id) {
            None => without.push(id),
            Some(place) => assert!(
                place.proofs.is_empty() == place.why_not.is_some(),
                "{id} cannot both be proved and not apply"
            ),
        }
    }
    assert!(
        without.is_empty(),
        "neither proved nor said why not: {without:?}"
    );
    let strange: Vec<_> = places.keys().filter(|id| !known.contains(*id)).collect();
    assert!(strange.is_empty(), "no such vectors: {strange:?}");
}

#[test]
fn no_vector_is_missing_between_others() {
    let mut families: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
    for (id, _) in sections().into_iter().flat_map(|section| section.vectors) {
        if let Some((family, number)) = id.rsplit_once('-')
            && let Ok(number) = number.parse()
        {
            families
                .entry(family.to_owned())
                .or_default()
                .insert(number);
        }
    }
    for (family, numbers) in families {
        let (first, last) = (*numbers.first().unwrap(), *numbers.last().unwrap());
        assert!(
            first <= 1 && numbers.len() == last - first + 1,
            "{family}: {numbers:?}"
        );
    }
}

#[test]
fn tests_that_stand_elsewhere_exist() {
    for elsewhere in read::<Vec<Elsewhere>>(&folder().join("elsewhere.json")) {
        let text = fs::read_to_string(root().join(&elsewhere.file))
            .unwrap_or_else(|error| panic!("{}: {error}", elsewhere.file.display()));
        let function = format!("fn {}(", elsewhere.test);
        assert!(
            text.lines()
                .any(|line| !line.trim_start().starts_with("//") && line.contains(&function)),
            "{} has no test {} for {:?}",
            elsewhere.file.display(),
            elsewhere.test,
            elsewhere.ids
        );
    }
}

#[test]
fn a_difference_names_the_rule_that_wants_it() {
    for (id, place) in places() {
        for differs in &place.differs {
            assert!(
                differs.contains("Appendix A") || differs.contains("design section 7"),
                "{id}: {differs:?} names no rule"
            );
        }
    }
}

#[test]
fn the_table_is_fresh() {
    let path = root().join("docs/vectors.md");
    let table = table();
    if updating() {
        fs::write(&path, table).unwrap();
        return;
    }
    assert!(
        fs::read_to_string(path).is_ok_and(|committed| committed == table),
        "docs/vectors.md is out of date: run `make generate` and commit the result"
    );
}

fn updating() -> bool {
    std::env::var_os("UPDATE_EXPECTED").is_some()
}

const HEAD: &str = "\
# The test vectors of the official SDKs, and where each is proved

<!-- Written by `make generate`. -->

A vector is what the suites of the official SDKs (Python, Go, Java, Node) assert, said anew. It is proved by a case, which
is a folder of data, or by a test of another file; a few do not apply here. Where this library does otherwise on purpose,
the table says so and names the rule: \"Appendix A\" is the appendix of the behavioural specification that decides where
the SDKs disagree with each other or with what is safe, and \"design section 7\" is the design of this library.
";

fn table() -> String {
    let places = places();
    let mut text = HEAD.to_owned();
    let mut rows = String::new();
    let mut counts = String::new();
    for Section {
        number,
        title,
        vectors,
    } in sections()
    {
        let mut count = [0_usize; 3];
        write!(rows, "\n## {number} {title}\n\n| id | what it says | where | ours differs |\n|---|---|---|---|\n").unwrap();
        let all = vectors.len();
        for (id, says) in vectors {
            let none = Place::default();
            let place = places.get(&id).unwrap_or(&none);
            let (proved, differs) = (!place.proofs.is_empty(), !place.differs.is_empty());
            count[0] += usize::from(proved);
            count[1] += usize::from(differs);
            count[2] += usize::from(place.why_not.is_some());
            let proofs: Vec<_> = place.proofs.iter().map(String::as_str).collect();
            let differs: Vec<_> = place.differs.iter().map(String::as_str).collect();
            let at = match &place.why_not {
                Some(why) => format!("not applicable: {why}"),
                None => proofs.join(", "),
            };
            let cells = [id, says, at, differs.join(" ")].map(|cell| cell.replace('|', "\\|"));
            writeln!(rows, "| {} |", cells.join(" | ")).unwrap();
        }
        let [proved, differ, not] = count;
        writeln!(
            counts,
            "| {number} | {title} | {all} | {proved} | {differ} | {not} |"
        )
        .unwrap();
    }
    text.push_str("\n| section | about | vectors | proved | of these differ | not applicable |\n|---|---|---|---|---|---|\n");
    text + &counts + &rows
}
