//! Compares the resources of the nodes at the end with those at first.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::pgio_node::SAMPLING;
use super::world::{Level, World, application, sessions};

/// The resources of a node at first and at the end, and whether they are about the same.
pub struct Ending {
    pub text: String,
    pub is_level: bool,
}

/// Waits until the resources of the nodes are back at their first level.
pub async fn at_the_end(world: &World) -> Vec<Ending> {
    let mut endings = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(10);
    let admin = world.admin().await;
    for node in [&world.a, &world.b] {
        let Some(first) = world.at_first.get(node.name) else { continue };
        let ending = loop {
            let Some(resources) = node.resources() else {
                break Ending { text: format!("node {} is not there", node.name), is_level: false };
            };
            let now = Level { resources, sessions: sessions(&admin, application(node.name)).await };
            let is_level = now.is_about(first);
            if is_level || Instant::now() > deadline {
                break Ending {
                    text: format!("node {}: {first} at first, {now} at the end", node.name),
                    is_level,
                };
            }
            sleep(SAMPLING).await;
        };
        endings.push(ending);
    }
    endings
}
