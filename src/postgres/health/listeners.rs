//! The listening sessions and their channels, inferred from the last statement of each session in pg_stat_activity.

use std::collections::BTreeMap;

use super::Examiner;
use super::delivery::PREFIX;
use crate::Result;
use crate::protocol::is_internal;

/// A channel, and the number of sessions whose last statement is a LISTEN on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listening {
    /// The name in the statement. The server truncates a longer one.
    pub(crate) channel: String,
    pub(crate) sessions: usize,
}

impl Examiner {
    /// The channels of this database on which other sessions listen. Sessions are missing if this role may not see their
    /// statements, or if they have executed another statement since.
    pub(crate) async fn listening(&self) -> Result<Vec<Listening>> {
        let sql = "SELECT query FROM pg_catalog.pg_stat_activity WHERE datname = pg_catalog.current_database() \
            AND pid <> pg_catalog.pg_backend_pid() AND query ILIKE '%listen%'";
        let statements: Vec<String> = self.all(sql, &[], |row| row.try_get(0)).await?;
        let mut channels = BTreeMap::<String, usize>::new();
        for statement in statements {
            let own =
                |channel: &String| channel.strip_prefix(PREFIX).is_some_and(|rest| rest.starts_with('#'));
            let of_statement = channels_of(&statement).into_iter();
            for channel in of_statement.filter(|channel| !own(channel) && !is_internal(channel)) {
                *channels.entry(channel).or_default() += 1;
            }
        }
        Ok(channels.into_iter().map(|(channel, sessions)| Listening { channel, sessions }).collect())
    }
}

impl Examiner {
    /// The number of sessions of other roles in this database whose statements this role may not see.
    pub(crate) async fn hidden_sessions(&self) -> Result<u64> {
        let sql = "SELECT count(*) FROM pg_catalog.pg_stat_activity \
            WHERE datname = pg_catalog.current_database() AND query = '<insufficient privilege>'";
        let hidden: i64 = self.one(sql, &[], |row| row.try_get(0)).await?;
        Ok(hidden.unsigned_abs())
    }
}

/// The channels that a text of `LISTEN` statements names.
fn channels_of(statements: &str) -> Vec<String> {
    let mut channels = Vec::new();
    let mut rest = statements.trim_start();
    while let Some(name) =
        rest.get(..6).filter(|word| word.eq_ignore_ascii_case("listen")).map(|_| &rest[6..])
    {
        let Some(quoted) = name.trim_start().strip_prefix('"') else { break };
        let Some((channel, after)) = quoted_identifier(quoted) else { break };
        channels.push(channel);
        rest = after.trim_start().trim_start_matches(';').trim_start();
    }
    channels
}

/// Splits the text at the closing quote: the identifier, and the rest.
fn quoted_identifier(text: &str) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut rest = text;
    loop {
        let (part, after) = rest.split_once('"')?;
        name.push_str(part);
        match after.strip_prefix('"') {
            Some(more) => {
                name.push('"');
                rest = more;
            }
            None => return Some((name, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_of_statements() {
        for (statements, channels) in [
            ("LISTEN \"socket.io#/\"", &["socket.io#/"][..]),
            ("listen \"a#/\"; LISTEN \"b\"\"c#/\";", &["a#/", "b\"c#/"]),
            ("LISTEN \"cut off", &[]),
            ("LISTEN plain", &[]),
            ("SELECT 'listen'", &[]),
            ("", &[]),
            ("é", &[]),
        ] {
            assert_eq!(channels_of(statements), channels, "{statements}");
        }
    }
}
