//! The readiness of the server (`/readyz`): whether it is a connected member of the cluster, and if not, why.

use super::loopback::Loopback;

/// The observed state of a server.
#[derive(Debug, Clone, Copy)]
pub(super) struct Observed {
    pub(super) is_closing: bool,
    pub(super) is_listening: bool,
    pub(super) loopback: Loopback,
}

/// Whether a server is ready, or the first reason why it is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Readiness {
    Ready,
    ShuttingDown,
    NotListening,
    NotPublishing,
    Late,
    NotDelivered,
}

impl Readiness {
    pub(super) fn of(observed: Observed) -> Self {
        match observed {
            Observed { is_closing: true, .. } => Self::ShuttingDown,
            Observed { is_listening: false, .. } => Self::NotListening,
            Observed { loopback: Loopback::NotPublished, .. } => Self::NotPublishing,
            Observed { loopback: Loopback::Late, .. } => Self::Late,
            Observed { loopback: Loopback::NotDelivered, .. } => Self::NotDelivered,
            Observed { loopback: Loopback::Healthy, .. } => Self::Ready,
        }
    }

    /// The response of `/readyz`, one line.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Ready => "ready\n",
            Self::ShuttingDown => "not ready: shutting down\n",
            Self::NotListening => {
                "not ready: no connection to Postgres, so no events of other servers arrive\n"
            }
            Self::NotPublishing => {
                "not ready: cannot publish, so other servers receive no events of this one\n"
            }
            Self::Late => "not ready: the loopback probe did not arrive in time\n",
            Self::NotDelivered => {
                "not ready: the loopback probe did not arrive; is there a connection pooler in transaction mode?\n"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_counts() {
        let fine = Observed { is_closing: false, is_listening: true, loopback: Loopback::Healthy };
        assert_eq!(Readiness::of(fine), Readiness::Ready);
        let stuck = Observed { loopback: Loopback::NotPublished, ..fine };
        assert_eq!(Readiness::of(stuck), Readiness::NotPublishing);
        assert_eq!(Readiness::of(Observed { is_listening: false, ..stuck }), Readiness::NotListening);
        assert_eq!(Readiness::of(Observed { is_closing: true, ..stuck }), Readiness::ShuttingDown);
        for loopback in [Loopback::NotPublished, Loopback::Late, Loopback::NotDelivered] {
            let text = Readiness::of(Observed { loopback, ..fine }).text();
            assert!(text.starts_with("not ready: ") && text.lines().count() == 1, "{text}");
        }
    }
}
