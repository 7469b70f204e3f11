//! The instance of a process: the common part of the uids of all its nodes, and the advisory locks that show its liveness.
//!
//! A uid has 16 hexadecimal digits, as in Node: 10 of the instance, and 6 of the node. A process that listens holds one
//! session advisory lock. Its key is the instance and a number that changes with every ping. So every node that reads
//! `pg_locks` sees that the process is alive, and detects a frozen process or a half-open connection by a number that does
//! not change.

use super::Uid;

/// The number of bits of an instance.
const INSTANCE_BITS: u32 = 40;

/// The number of bits of a node's number.
const NODE_BITS: u32 = 64 - INSTANCE_BITS;

/// The first 16 bits of each key: `pg`. It keeps the keys apart from those of applications.
const MARKER: u64 = 0x7067;

/// The random number of a process that hosts nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Instance(u64);

impl Instance {
    /// A new random instance.
    pub fn random() -> Self {
        Self(fastrand::u64(..1 << INSTANCE_BITS))
    }

    /// The uid of the node of that number. Only the last 24 bits of the number are used.
    pub fn uid(self, node: u32) -> Uid {
        let node = u64::from(node) & ((1 << NODE_BITS) - 1);
        Uid::from(&*format!("{:016x}", (self.0 << NODE_BITS) | node))
    }
}

impl From<u64> for Instance {
    /// Only the last 40 bits of the number are used.
    fn from(number: u64) -> Self {
        Self(number & ((1 << INSTANCE_BITS) - 1))
    }
}

impl Uid {
    /// The instance of a node of pgio. The uid of a Node server gives an instance that does not exist.
    pub fn instance(&self) -> Option<Instance> {
        let text = self.as_str();
        let is_hex = text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let number = u64::from_str_radix(text, 16).ok().filter(|_| is_hex)?;
        Some(Instance(number >> NODE_BITS))
    }
}

/// The liveness lock of an instance, replaced with each ping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LivenessLock {
    /// The instance that holds it.
    pub instance: Instance,
    /// The number of the ping, which starts again after 255.
    pub number: u8,
}

impl LivenessLock {
    /// The first and the last key of all liveness locks.
    pub const KEYS: (i64, i64) =
        ((MARKER << 48).cast_signed(), ((MARKER << 48) | ((1 << 48) - 1)).cast_signed());

    /// The key of its advisory lock.
    pub fn key(self) -> i64 {
        ((MARKER << 48) | (self.instance.0 << 8) | u64::from(self.number)).cast_signed()
    }

    /// The lock that has this key; `None` for a lock of an application.
    pub fn of_key(key: i64) -> Option<Self> {
        let key = key.cast_unsigned();
        let instance = Instance::from(key >> 8);
        (key >> 48 == MARKER).then_some(Self { instance, number: (key & 0xff) as u8 })
    }
}

/// A snapshot of the liveness locks in `pg_locks`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockSnapshot {
    /// The locks, sorted. `None` if this role may not read `pg_locks`.
    pub locks: Option<Vec<LivenessLock>>,
    /// Whether this process holds a lock that other servers can see.
    pub holds_lock: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uids_name_their_instance() {
        let instance = Instance::from(0x01_2345_6789);
        assert_eq!(instance.uid(0xff_00_00_2a).as_str(), "012345678900002a");
        assert_eq!(instance.uid(7).instance(), Some(instance));
        for other in ["emitter", "", "0123456789abcdeF", "+123456789abcdef", "0123456789abcdef0"] {
            assert_eq!(Uid::from(other).instance(), None, "{other}");
        }
        let random = Instance::random();
        assert_eq!(random.uid(0).instance(), Some(random));
        assert_ne!(random, Instance::random());
    }

    #[test]
    fn keys_of_locks() {
        let lock = LivenessLock { instance: Instance::from(0xff_ffff_ffff), number: 255 };
        assert_eq!(lock.key(), 0x7067_ffff_ffff_ffff);
        assert_eq!(LivenessLock::of_key(lock.key()), Some(lock));
        assert_eq!(LivenessLock::KEYS.1, lock.key());
        let first = LivenessLock { instance: Instance::from(0), number: 0 };
        assert_eq!((LivenessLock::KEYS.0, LivenessLock::of_key(first.key())), (first.key(), Some(first)));
        for key in [0, -1, 1 << 48, i64::MAX, i64::MIN, 0x7068_0000_0000_0000] {
            assert_eq!(LivenessLock::of_key(key), None);
        }
    }
}
