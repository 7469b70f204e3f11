//! The committed files under `completions` and `man` equal the output of the program; `make generated` writes them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Stdio;

use tempfile::TempDir;
use tokio::process::Command;

use crate::support::pgio::{bare, run};

fn committed(directory: &str) -> BTreeMap<String, String> {
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join(directory))
}

fn read(directory: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    let text = |path: &Path| fs::read_to_string(path).unwrap();
    entries.map(|entry| (entry.file_name().into_string().unwrap(), text(&entry.path()))).collect()
}

#[tokio::test]
async fn completions_are_those_of_the_program() {
    let files = [
        ("bash", "pgio.bash"),
        ("elvish", "pgio.elv"),
        ("fish", "pgio.fish"),
        ("powershell", "_pgio.ps1"),
        ("zsh", "_pgio"),
    ];
    let mut printed = BTreeMap::new();
    for (shell, file) in files {
        let outcome = run(&mut bare(&["completions", shell])).await.succeeded();
        printed.insert(file.to_owned(), outcome.stdout);
    }
    assert_eq!(printed, committed("completions"));
    let unknown = run(&mut bare(&["completions", "tcsh"])).await;
    assert_eq!(unknown.status, 2);
    assert!(unknown.stderr.starts_with("error: invalid value 'tcsh'"), "{unknown:?}");
}

#[tokio::test]
async fn manual_pages_are_those_of_the_program() {
    let directory = TempDir::new().unwrap();
    let into = directory.path().join("new");
    run(&mut bare(&["man", into.to_str().unwrap()])).await.succeeded();
    let pages = read(&into);
    assert!(pages.keys().eq(committed("man").keys()), "{:?}", pages.keys());
    for (name, text) in committed("man") {
        assert!(pages[&name] == text, "man/{name} differs: run make generated");
    }
    let alone = run(&mut bare(&["man"])).await.succeeded();
    assert_eq!(alone.stdout, pages["pgio.1"]);
    let in_the_way = run(&mut bare(&["man", "/dev/null/x"])).await;
    assert_eq!((in_the_way.status, in_the_way.stderr.lines().count()), (1, 1));
}

#[tokio::test]
async fn bash_takes_the_script() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("completions/pgio.bash");
    let bin = Path::new(env!("CARGO_BIN_EXE_pgio")).parent().unwrap();
    let ask = format!(
        "source '{}'; COMP_WORDS=(pgio attachm); COMP_CWORD=1; COMP_TYPE=9; _clap_complete_pgio pgio attachm pgio; echo \"${{COMPREPLY[@]}}\"",
        script.display()
    );
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let output = Command::new("bash").args(["-c", &ask]).env("PATH", path).stderr(Stdio::inherit()).output();
    let output = output.await.unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), "attachments");
}
