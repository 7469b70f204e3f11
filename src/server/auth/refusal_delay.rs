//! The rate limit against brute force of tokens: delays the refusals of an address.
//!
//! Clients with a valid token never wait, even if they share the address of an attacker.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The number of refusals of an address that are answered without a delay.
const BURST: u32 = 20;

/// The interval of the refusals after the burst.
const INTERVAL: Duration = Duration::from_millis(200);

/// The maximum delay of a refusal.
const MAX_DELAY: Duration = Duration::from_secs(10);

/// The maximum number of remembered addresses.
const MAX_ADDRESSES: usize = 10_000;

/// The time at which each address has used up its refusals, at a rate of one per interval.
#[derive(Default)]
pub(in crate::server) struct RefusalDelay(Mutex<HashMap<IpAddr, Instant>>);

impl RefusalDelay {
    /// The delay of a refusal. `None` if too many refusals already wait, so that this one gets no answer.
    pub(in crate::server) fn delay(&self, address: IpAddr) -> Option<Duration> {
        self.delay_at(Instant::now(), address)
    }

    fn delay_at(&self, now: Instant, address: IpAddr) -> Option<Duration> {
        let mut addresses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut address = network(address);
        if addresses.len() >= MAX_ADDRESSES && !addresses.contains_key(&address) {
            addresses.retain(|_, used_up| *used_up > now);
            if addresses.len() >= MAX_ADDRESSES {
                // All further addresses share one rate limit.
                address = IpAddr::from([0, 0, 0, 0]);
            }
        }
        let used_up = addresses.entry(address).or_insert(now);
        let next = (*used_up).max(now) + INTERVAL;
        let delay = next.duration_since(now).saturating_sub(INTERVAL * BURST);
        if delay > MAX_DELAY {
            return None;
        }
        *used_up = next;
        Some(delay)
    }
}

/// The network of an IPv6 address (/64), since one customer has a whole network. An IPv4 address stays as it is.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => v4.into(),
            None => {
                let [a, b, c, d, ..] = v6.segments();
                IpAddr::from([a, b, c, d, 0, 0, 0, 0])
            }
        },
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_answered_at_once_and_the_rest_one_after_the_other() {
        let (pace, now) = (RefusalDelay::default(), Instant::now());
        let one: IpAddr = "2001:db8::1".parse().unwrap();
        assert!((0..BURST).all(|_| pace.delay_at(now, one) == Some(Duration::ZERO)));
        assert_eq!(pace.delay_at(now, "2001:db8::2".parse().unwrap()), Some(INTERVAL));
        assert_eq!(pace.delay_at(now, one), Some(INTERVAL * 2));
        let waiting = (0..1000).map_while(|_| pace.delay_at(now, one)).count();
        assert_eq!(waiting as u32, (MAX_DELAY.as_millis() / INTERVAL.as_millis()) as u32 - 2);
        assert_eq!(pace.delay_at(now, one), None);
        assert_eq!(pace.delay_at(now, "192.0.2.1".parse().unwrap()), Some(Duration::ZERO));
        let later = now + Duration::from_secs(60);
        assert_eq!(pace.delay_at(later, one), Some(Duration::ZERO));
    }

    #[test]
    fn many_addresses_share_a_pace() {
        let (pace, now) = (RefusalDelay::default(), Instant::now());
        let address = |n: usize| IpAddr::from((n as u32).to_be_bytes());
        for n in 0..MAX_ADDRESSES {
            pace.delay_at(now, address(n + 1)).unwrap();
        }
        let delayed = (0..100).filter(|n| pace.delay_at(now, address(1 << 20 | n)) != Some(Duration::ZERO));
        assert_eq!(delayed.count(), 100 - BURST as usize);
        assert!(pace.0.lock().unwrap().len() <= MAX_ADDRESSES + 1);
    }
}
