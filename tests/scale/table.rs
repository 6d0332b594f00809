//! The figures, as they are printed.

use std::fmt::Display;

/// Lines of text for a person.
#[expect(clippy::print_stdout, reason = "a program for people")]
pub(crate) fn say(text: &str) {
    println!("{text}");
}

/// Rows of: what, seen, wanted, whether it holds.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    what: String,
    seen: String,
    wanted: String,
    holds: Option<bool>,
}

impl Table {
    /// The head of a case.
    pub(crate) fn case(&mut self, name: &str) {
        say(&format!("== {name}"));
        self.row(name, String::new(), String::new(), None);
    }

    /// A figure that says something about the run.
    pub(crate) fn note(&mut self, what: &str, seen: impl Display) {
        self.row(what, seen.to_string(), String::new(), None);
    }

    /// A figure that depends on the machine, beside the one to reach.
    pub(crate) fn figure(&mut self, what: &str, seen: impl Display, wanted: &str) {
        self.row(what, seen.to_string(), wanted.to_owned(), None);
    }

    /// A figure that must hold on every machine.
    pub(crate) fn must(&mut self, what: &str, seen: impl Display, wanted: &str, holds: bool) {
        self.row(what, seen.to_string(), wanted.to_owned(), Some(holds));
    }

    fn row(&mut self, what: &str, seen: String, wanted: String, holds: Option<bool>) {
        if !seen.is_empty() {
            say(&format!("   {what}: {seen}"));
        }
        self.rows.push(Row {
            what: what.to_owned(),
            seen,
            wanted,
            holds,
        });
    }

    /// Whether every figure that must hold does.
    pub(crate) fn all_hold(&self) -> bool {
        self.rows.iter().all(|row| row.holds != Some(false))
    }

    /// Prints it as Markdown.
    pub(crate) fn print(&self) {
        say("\n| what | seen | to reach | |\n|---|---:|---:|---|");
        for row in &self.rows {
            if row.seen.is_empty() {
                say(&format!("| **{}** | | | |", row.what));
                continue;
            }
            let holds = match row.holds {
                None => "",
                Some(true) => "holds",
                Some(false) => "**missed**",
            };
            say(&format!(
                "| {} | {} | {} | {holds} |",
                row.what, row.seen, row.wanted
            ));
        }
    }
}
