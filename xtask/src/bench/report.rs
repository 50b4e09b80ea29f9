//! What a measure found, for three readers: a person at a terminal, `docs/performance.md`, and a program
//! (`bench.json`). Deliberately no judgement: nothing here or elsewhere in the bench fails because of a number.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::step::Failure;

/// One table.
pub struct Section {
    /// Its name, one word: the key in the JSON.
    pub name: &'static str,
    /// Its heading.
    pub title: String,
    /// How it was taken.
    pub how: String,
    /// Column heads.
    pub columns: Vec<&'static str>,
    /// Rows, as shown.
    pub rows: Vec<Vec<String>>,
    /// What to read out of it, one sentence each.
    pub notes: Vec<String>,
    /// The numbers.
    pub values: Value,
}

const BEGIN: &str = "<!-- bench: written by `cargo xtask bench`; do not edit below -->";
const END: &str = "<!-- bench: end -->";

impl Section {
    /// For the terminal: columns aligned.
    pub fn print(&self) {
        println!("\n{}\n{}", self.title, "─".repeat(self.title.chars().count()));
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
            cells.chain([self.columns[column].chars().count()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let line = |cells: &mut dyn Iterator<Item = &str>| {
            let mut text = String::new();
            for (column, cell) in cells.enumerate() {
                let pad = " ".repeat(widths[column].saturating_sub(cell.chars().count()));
                text += &if column == 0 { format!("{cell}{pad}") } else { format!("  {pad}{cell}") };
            }
            println!("  {}", text.trim_end());
        };
        line(&mut self.columns.iter().copied());
        for row in &self.rows {
            line(&mut row.iter().map(String::as_str));
        }
        for note in &self.notes {
            println!("  · {note}");
        }
    }

    fn markdown(&self) -> String {
        let mut text = format!("\n### {}\n\n{}\n\n", self.title, self.how);
        text += &format!("| {} |\n|{}\n", self.columns.join(" | "), " --- |".repeat(self.columns.len()));
        for row in &self.rows {
            text += &format!("| {} |\n", row.join(" | "));
        }
        if !self.notes.is_empty() {
            text.push('\n');
        }
        for note in &self.notes {
            text += &format!("- {note}\n");
        }
        text
    }
}

/// Writes the sections between the markers of the page. Other text in it stays.
pub fn write_page(
    path: &Path,
    machine: &[(&'static str, String)],
    mode: &str,
    sections: &[Section],
) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::Step(format!("`{}`: {error}", path.display()));
    let page = fs::read_to_string(path).map_err(failed)?;
    let broken = || Failure::Step(format!("`{}` has lost its markers", path.display()));
    let (before, rest) = page.split_once(BEGIN).ok_or_else(broken)?;
    let (_, after) = rest.split_once(END).ok_or_else(broken)?;
    let mut text = format!("{before}{BEGIN}\n\nTaken by one {mode} run on:\n\n| | |\n| --- | --- |\n");
    for (what, which) in machine {
        text += &format!("| {what} | {which} |\n");
    }
    for section in sections {
        text += &section.markdown();
    }
    text += &format!("\n{END}{after}");
    fs::write(path, text).map_err(failed)
}

/// Writes the numbers.
pub fn write_json(
    path: &Path,
    machine: &[(&'static str, String)],
    mode: &str,
    sections: &[Section],
) -> Result<(), Failure> {
    let machine: serde_json::Map<String, Value> =
        machine.iter().map(|(what, which)| ((*what).to_owned(), json!(which))).collect();
    let measures: serde_json::Map<String, Value> =
        sections.iter().map(|section| (section.name.to_owned(), section.values.clone())).collect();
    let all = json!({ "mode": mode, "machine": machine, "measures": measures });
    let text = serde_json::to_string_pretty(&all).unwrap_or_default();
    fs::write(path, text + "\n").map_err(|error| Failure::Step(format!("`{}`: {error}", path.display())))
}

/// What the numbers were taken on. No date and no host name: the page is about the software.
pub fn machine(programs: &[(&'static str, Command)]) -> Vec<(&'static str, String)> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory =
        meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse().ok());
    let mut known = vec![
        ("cores", format!("{cores}, for clients, gateway and server together")),
        ("processor", model.map_or_else(String::new, |(_, model)| model.trim().to_owned())),
        ("memory", format!("{} GiB", memory.unwrap_or(0_u64).div_ceil(1 << 20))),
        ("kernel", fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()),
    ];
    for (name, command) in programs {
        let mut command = Command::new(command.get_program());
        let said = command.arg("--version").output().map(|out| String::from_utf8_lossy(&out.stdout).into_owned());
        known.push((name, said.unwrap_or_default().lines().next().unwrap_or("?").trim().to_owned()));
    }
    known
}

/// The share of the machine's CPU time that was used in the next two seconds. Taken while the bench itself does nothing,
/// it says how far others disturb it: ratios of a disturbed run mean little.
pub fn busy() -> f64 {
    let read = || -> Option<(u64, u64)> {
        let stat = fs::read_to_string("/proc/stat").ok()?;
        let fields: Vec<u64> = stat.lines().next()?.split_whitespace().skip(1).flat_map(str::parse).collect();
        // Idle and waiting for a disk are the fourth and the fifth (proc(5)).
        Some((fields.iter().take(8).sum(), fields.get(3)? + fields.get(4)?))
    };
    let before = read();
    std::thread::sleep(std::time::Duration::from_secs(2));
    match before.zip(read()) {
        Some(((all, idle), (all_after, idle_after))) if all_after > all => {
            1.0 - idle_after.saturating_sub(idle) as f64 / (all_after - all) as f64
        }
        _ => f64::NAN,
    }
}

/// The middle one.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}

/// The value below which this share of sorted values lies (nearest rank).
pub fn percentile(sorted: &[f64], share: f64) -> f64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or(f64::NAN)
}

/// `1.23×`; `–` where there is nothing to compare.
pub fn ratio(value: f64, to: f64) -> String {
    let ratio = value / to;
    if ratio.is_finite() { format!("{ratio:.2}×") } else { "–".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_percentiles() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!((percentile(&hundred, 0.5), percentile(&hundred, 0.99)), (50.0, 99.0));
        assert!(percentile(&[], 0.5).is_nan());
        assert_eq!(ratio(3.0, 2.0), "1.50×");
        assert_eq!(ratio(3.0, 0.0), "–");
    }

    #[test]
    fn the_page_keeps_what_is_around_the_markers() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("page.md");
        fs::write(&path, format!("above\n{BEGIN}\nold\n{END}\nbelow\n")).unwrap();
        write_page(&path, &[("cores", "2".to_owned())], "full", &[]).unwrap();
        let page = fs::read_to_string(&path).unwrap();
        assert!(page.starts_with("above\n") && page.ends_with("below\n") && !page.contains("old"), "{page}");
    }
}
