//! The Postgres sessions of servers, which give a server its address and its `application_name`.

use std::collections::HashMap;

use crate::cluster::NodeName;
use crate::postgres::Backend;

/// The sessions that published the last answers of the servers.
#[derive(Debug, Default)]
pub(super) struct NodeSessions(HashMap<NodeName, Sessions>);

/// The sessions of a server at Postgres, by their backend processes.
#[derive(Debug, Default)]
struct Sessions {
    /// A session with a known client.
    known: Option<(i32, Backend)>,
    /// A session that has published later. A server may have several sessions, and the known one may have ended.
    newer: Option<i32>,
}

impl NodeSessions {
    /// The client of a server's session, if it is known.
    pub(super) fn client_of(&self, name: &NodeName) -> Option<&Backend> {
        self.0.get(name)?.known.as_ref().map(|(_, client)| client)
    }

    /// Records that a server has published through a session.
    pub(super) fn published(&mut self, name: NodeName, session: i32) {
        let sessions = self.0.entry(name).or_default();
        sessions.newer =
            Some(session).filter(|new| sessions.known.as_ref().is_none_or(|(old, _)| old != new));
    }

    /// The sessions to look up: the new sessions, and the known sessions that they may have replaced.
    pub(super) fn unknown(&self) -> Vec<i32> {
        let unknown = self.0.values().filter(|sessions| sessions.newer.is_some());
        unknown
            .flat_map(|sessions| {
                sessions.newer.into_iter().chain(sessions.known.as_ref().map(|(old, _)| *old))
            })
            .collect()
    }

    /// Applies the clients of the sessions. A known session stays as long as it exists. Otherwise the address of a
    /// server would change with each session of its pool that answers.
    pub(super) fn know(&mut self, clients: &HashMap<i32, Backend>) {
        for sessions in self.0.values_mut() {
            let Some(newer) = sessions.newer.take() else { continue };
            if sessions.known.as_ref().is_none_or(|(old, _)| !clients.contains_key(old)) {
                sessions.known = clients.get(&newer).map(|client| (newer, client.clone()));
            }
        }
    }

    /// Forgets the sessions of all other servers.
    pub(super) fn retain(&mut self, is_listed: impl Fn(&NodeName) -> bool) {
        self.0.retain(|name, _| is_listed(name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Namespace;

    #[test]
    fn an_address_stays_while_its_session_does() {
        let name = NodeName { nsp: Namespace::default(), uid: "a".into() };
        let client = |address: &str| Backend { address: Some(address.into()), application: None };
        let (first, second) = (client("10.0.0.1:1"), client("10.0.0.1:2"));
        let mut sessions = NodeSessions::default();
        sessions.published(name.clone(), 1);
        assert_eq!(sessions.unknown(), [1]);
        sessions.know(&[(1, first.clone())].into());
        sessions.published(name.clone(), 1);
        assert!(sessions.unknown().is_empty());
        // Another session of the pool publishes, then the first session ends.
        sessions.published(name.clone(), 2);
        assert_eq!(sessions.unknown(), [2, 1]);
        sessions.know(&[(1, first.clone()), (2, second.clone())].into());
        assert_eq!(sessions.client_of(&name), Some(&first));
        sessions.published(name.clone(), 2);
        sessions.know(&[(2, second.clone())].into());
        assert_eq!(sessions.client_of(&name), Some(&second));
        sessions.retain(|_| false);
        assert_eq!(sessions.client_of(&name), None);
    }
}
