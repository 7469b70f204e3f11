//! Finds the address of a client: the peer address of its connection, or the address that a trusted proxy forwards.

use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use http::{HeaderMap, HeaderValue};

use crate::Error;

const X_FORWARDED_FOR: &str = "x-forwarded-for";

/// The key of the limits for each address: an IPv4 address, or the first 64 bits of an IPv6 address, since one IPv6 client
/// has a whole /64 network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct AddressKey(IpAddr);

impl AddressKey {
    pub(super) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(address) => {
                let prefix = u128::from(address) & (u128::MAX << 64);
                Self(IpAddr::V6(Ipv6Addr::from(prefix)))
            }
            address => Self(address),
        }
    }
}

/// A range of addresses, such as `10.0.0.0/8`. A single address is a range as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressRange {
    network: IpAddr,
    bits: u8,
}

impl AddressRange {
    /// Whether an address is in the range. An IPv4 address that is written as IPv6 counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.network, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0);
                u32::from(network) & mask == u32::from(address) & mask
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0);
                u128::from(network) & mask == u128::from(address) & mask
            }
            _ => false,
        }
    }
}

impl FromStr for AddressRange {
    type Err = Error;

    /// # Errors
    /// [`Error::Setting`] for a text that is neither an address nor an address with a prefix length.
    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Error::Setting {
            setting: "trusted_proxies".into(),
            reason: format!("{text:?} is neither an address nor an address range such as 10.0.0.0/8"),
        };
        let (network, bits) = match text.split_once('/') {
            Some((network, bits)) => (network, Some(bits)),
            None => (text, None),
        };
        let network: IpAddr = network.parse().map_err(|_| wrong())?;
        let most = if network.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            Some(bits) => bits.parse().ok().filter(|bits| *bits <= most).ok_or_else(wrong)?,
            None => most,
        };
        Ok(Self { network, bits })
    }
}

/// The trusted proxies. The server uses the forwarding headers of their requests only.
#[derive(Debug, Clone, Default)]
pub(super) struct TrustedProxies(Vec<AddressRange>);

impl TrustedProxies {
    pub(super) fn new(ranges: Vec<AddressRange>) -> Self {
        Self(ranges)
    }

    pub(super) fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|range| range.contains(address))
    }

    /// The client behind a connection. Each proxy appends the address that it saw, so the last address that is not a
    /// trusted proxy is the client: a client can forge only the addresses before it.
    pub(super) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        if !self.contains(peer) {
            return peer.to_canonical();
        }
        let mut client = peer;
        for hop in forwarded(headers).into_iter().rev() {
            // Addresses before an unreadable one cannot be trusted.
            let Some(address) = hop else { break };
            client = address;
            if !self.contains(address) {
                break;
            }
        }
        client.to_canonical()
    }
}

/// The addresses that proxies have forwarded in `X-Forwarded-For`, the client's first. `Forwarded` (RFC 7239) is not read: a
/// proxy that sets one of the two headers forwards the other as the client wrote it.
fn forwarded(headers: &HeaderMap) -> Vec<Option<IpAddr>> {
    let values = headers.get_all(X_FORWARDED_FOR).iter();
    let hops = |value: &HeaderValue| {
        let text = String::from_utf8_lossy(value.as_bytes());
        text.split(',').map(address).collect::<Vec<_>>()
    };
    values.flat_map(hops).collect()
}

/// Reads an address, with or without port and brackets.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address);
    }
    if let Ok(address) = text.parse::<std::net::SocketAddr>() {
        return Some(address.ip());
    }
    text.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn ranges() {
        let range: AddressRange = "10.1.0.0/16".parse().unwrap();
        assert!(range.contains(ip("10.1.2.3")) && range.contains(ip("::ffff:10.1.2.3")));
        assert!(!range.contains(ip("10.2.0.0")) && !range.contains(ip("::1")));
        assert!("0.0.0.0/0".parse::<AddressRange>().unwrap().contains(ip("9.9.9.9")));
        assert!("::/0".parse::<AddressRange>().unwrap().contains(ip("::1")));
        let one: AddressRange = "fd00::1".parse().unwrap();
        assert!(one.contains(ip("fd00::1")) && !one.contains(ip("fd00::2")));
        for bad in ["", "10.0.0.0/33", "10.0.0.0/", "::/129", "proxy", "10.0.0.0/-1"] {
            assert!(bad.parse::<AddressRange>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_client_of_ipv6_has_64_bits() {
        assert_eq!(AddressKey::of(ip("fd00::1")), AddressKey::of(ip("fd00::ffff:1")));
        assert_ne!(AddressKey::of(ip("fd00::1")), AddressKey::of(ip("fd00:0:0:1::1")));
        assert_eq!(AddressKey::of(ip("::ffff:10.0.0.1")), AddressKey::of(ip("10.0.0.1")));
    }

    #[test]
    fn the_last_address_that_is_no_proxy_is_the_client() {
        let proxies = TrustedProxies::new(vec!["10.0.0.0/8".parse().unwrap()]);
        let client = |peer: &str, name: &'static str, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            proxies.client(ip(peer), &headers).to_string()
        };
        assert_eq!(client("10.0.0.1", X_FORWARDED_FOR, "1.2.3.4"), "1.2.3.4");
        assert_eq!(client("10.0.0.1", X_FORWARDED_FOR, "6.6.6.6, 1.2.3.4, 10.0.0.2"), "1.2.3.4");
        assert_eq!(client("10.0.0.1", X_FORWARDED_FOR, "6.6.6.6, nonsense, 10.0.0.2"), "10.0.0.2");
        assert_eq!(client("10.0.0.1", X_FORWARDED_FOR, "[fd00::7]:80"), "fd00::7");
        // A proxy that sets the other header does not remove this one.
        assert_eq!(client("10.0.0.1", "forwarded", "for=6.6.6.6"), "10.0.0.1");
        // Only a trusted proxy may set the address of a client.
        assert_eq!(client("5.5.5.5", X_FORWARDED_FOR, "1.2.3.4"), "5.5.5.5");
        assert_eq!(client("10.0.0.1", "other", "1.2.3.4"), "10.0.0.1");
    }
}
