//! The differences between the installed functions and the expected ones.

use super::functions::FUNCTIONS;
use super::installed::Installed;
use super::script::VERSION;
use super::{Name, SqlEmitter};

const PAYLOAD_THRESHOLD: &str = "payload_threshold";

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Difference {
    /// The object: a setting, a function with the types of its arguments, or a role.
    pub(crate) object: String,
    /// The problem.
    pub(crate) problem: String,
}

impl Difference {
    fn new(object: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { object: object.into(), problem: problem.into() }
    }
}

/// Compares the installed functions with the expected ones, and the privileges of the given roles.
pub(crate) fn differences(wanted: &SqlEmitter, installed: &Installed, roles: &[Name]) -> Vec<Difference> {
    let mut found = of_settings(wanted, installed);
    if let Some(settings) = &installed.settings {
        found.extend(installed.trigger_creators.iter().map(|role| {
            let problem =
                format!("role {role} can run code as the owner of the functions, with a trigger on it");
            Difference::new(&*settings.table_name, problem)
        }));
    }
    let names: Vec<_> = FUNCTIONS.iter().map(|function| function.name).collect();
    found.extend(installed.of_other_owners(&names).map(|(signature, owner)| {
        Difference::new(
            signature,
            format!("role {owner} owns it, and could run code as the owner of the functions"),
        )
    }));
    if installed.version != VERSION {
        let (is, has) = (installed.version, VERSION);
        // With another version every function differs, so further differences are not reported.
        found.push(Difference::new(
            "version",
            format!("the functions are of version {is}, this pgio has {has}"),
        ));
        return found;
    }
    // The bodies contain settings, whose differences are already reported.
    let Some(settings) = &installed.settings else { return found };
    let as_installed = SqlEmitter {
        channel_prefix: settings.channel_prefix.clone(),
        payload_threshold: settings.payload_threshold,
        ..wanted.clone()
    };
    for expected in FUNCTIONS {
        let signature = expected.signature();
        let Some(function) = installed.functions.get(&signature) else {
            found.push(Difference::new(signature, "it is missing"));
            continue;
        };
        let changed = is_changed(&as_installed.body_of(expected, &settings.table_name), &function.body);
        for (is_wrong, problem) in [
            (changed, "its body was changed"),
            (function.is_security_definer != expected.is_security_definer(), "SECURITY DEFINER was changed"),
            (function.is_stable != expected.is_stable(), "its volatility was changed"),
            (function.configuration != expected.configuration(), "its SET clauses were changed"),
            (function.public_may_execute, "every role may execute it"),
        ] {
            if is_wrong {
                found.push(Difference::new(signature.clone(), problem));
            }
        }
        for role in function.grantees.iter().filter(|_| !expected.is_public()) {
            found.push(Difference::new(
                signature.clone(),
                format!("role {role} may execute it, and it is internal"),
            ));
        }
        for role in roles.iter().filter(|_| expected.is_public()) {
            if !function.roles.iter().any(|name| name == role.as_str()) {
                found.push(Difference::new(signature.clone(), format!("role {role} may not execute it")));
            }
        }
    }
    let is_expected =
        |signature: &String| FUNCTIONS.iter().any(|expected| expected.signature() == *signature);
    for (signature, function) in &installed.functions {
        if function.version.is_some() && !is_expected(signature) {
            found.push(Difference::new(signature.clone(), "it is not a function of this version"));
        }
    }
    found
}

/// The differences that prevent servers with the wanted settings from receiving the events of the installed functions. The
/// threshold is none of them.
pub(crate) fn out_of_reach(wanted: &SqlEmitter, installed: &Installed) -> Vec<Difference> {
    let mut found = of_settings(wanted, installed);
    found.retain(|difference| difference.object != PAYLOAD_THRESHOLD);
    found
}

/// The settings that differ, and the problems of the table. Those of another version may be unknown.
fn of_settings(wanted: &SqlEmitter, installed: &Installed) -> Vec<Difference> {
    let Some(settings) = &installed.settings else {
        let missing = Difference::new("settings()", "it is missing, or was changed");
        return Vec::from_iter((installed.version == VERSION).then_some(missing));
    };
    let mut found = Vec::new();
    let mut differ = |name: &str, is: &str, wanted: &str| {
        found.push(Difference::new(name, format!("the functions have {is}, and this pgio has {wanted}")));
    };
    if settings.channel_prefix != wanted.channel_prefix {
        let (is, wanted) = (&settings.channel_prefix, &wanted.channel_prefix);
        differ("channel_prefix", &format!("{is:?}"), &format!("{wanted:?}"));
    }
    if installed.table_exists && !installed.is_table_of_options {
        differ("table_name", &settings.table_name, wanted.table.as_sql());
    }
    let threshold = wanted.inline_limit();
    if settings.payload_threshold != threshold {
        differ(PAYLOAD_THRESHOLD, &settings.payload_threshold.to_string(), &threshold.to_string());
    }
    found.extend(of_table(installed, &settings.table_name));
    found
}

fn of_table(installed: &Installed, table: &str) -> Option<Difference> {
    let problem = match installed {
        Installed { table_exists: false, .. } => "the table does not exist",
        Installed { owner_may_insert: false, .. } => "the owner of the functions has no INSERT on it",
        _ => return None,
    };
    Some(Difference::new(table, problem))
}

/// Compares two bodies, without line endings: a tool may have changed them.
fn is_changed(expected: &str, body: &str) -> bool {
    !expected.bytes().eq(body.bytes().filter(|byte| *byte != b'\r'))
}
