//! Checks the JSON of each command against its schema in `schemas/`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;

use jsonschema::Validator;
use serde_json::Value;

/// The schemas, by the names of their files.
static SCHEMAS: LazyLock<BTreeMap<String, Validator>> = LazyLock::new(|| {
    let with_validator = |(name, schema): (String, Value)| {
        let validator = jsonschema::draft202012::options().should_validate_formats(true).build(&schema);
        let validator = validator.unwrap_or_else(|error| panic!("schemas/{name}.json: {error}"));
        (name, validator)
    };
    all().into_iter().map(with_validator).collect()
});

/// All committed schemas.
pub fn all() -> BTreeMap<String, Value> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas");
    let paths = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let schemas = paths.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    let read = |path: &Path| serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let name = |path: &Path| path.file_stem().unwrap().to_str().unwrap().to_owned();
    schemas.map(|path| (name(&path), read(&path))).collect()
}

/// Panics if a value does not match the schema of that name.
#[track_caller]
pub fn check(name: &str, value: &Value) {
    let validator = SCHEMAS.get(name).unwrap_or_else(|| panic!("there is no schemas/{name}.json"));
    let errors: Vec<_> =
        validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(errors.is_empty(), "schemas/{name}.json does not allow {value}:\n{}", errors.join("\n"));
}

/// The schema of the `-o json` output of a command. `None` if it prints no JSON.
pub fn of_command(arguments: &[String]) -> Option<&'static str> {
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let subcommand = arguments.get(1).map(String::as_str);
    Some(match (arguments.first()?.as_str(), subcommand) {
        ("tail", _) | ("attachments", Some("show")) => "event-line",
        ("top", _) => "top",
        ("monitor", _) => "monitor",
        ("emit", _) if has("--ack") => "emit-ack",
        ("emit", _) if has("--from") => "emit-from",
        ("emit", _) => "emit",
        ("server-emit", _) if has("--ack") => "server-emit-ack",
        ("server-emit", _) => "server-emit",
        ("join" | "leave" | "disconnect", _) => "move-sockets",
        ("nodes", _) if has("--watch") => "nodes-watch",
        ("nodes", _) => "nodes",
        ("namespaces", _) => "namespaces",
        ("sockets", _) if has("--count") => "sockets-count",
        ("sockets", _) => "sockets",
        ("rooms", _) if has("--count") => "rooms-count",
        ("rooms", _) => "rooms",
        ("attachments", Some("init")) => "attachments-init",
        ("attachments", Some("list")) => "attachments-list",
        ("attachments", Some("stats")) => "attachments-stats",
        ("attachments", Some("cleanup")) => "attachments-cleanup",
        ("attachments", Some("grants")) => "attachments-grants",
        ("sql", Some("install")) => "sql-install",
        ("sql", Some("check")) => "sql-check",
        ("sql", Some("uninstall")) => "sql-uninstall",
        ("context", Some("list")) => "context-list",
        ("context", Some("show")) => "context-show",
        ("doctor", _) => "doctor",
        ("serve", _) => "serve",
        ("bench", _) => "bench",
        ("client", _) => "client",
        ("probe", _) => "probe",
        _ => return None,
    })
}
