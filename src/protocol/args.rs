//! The arguments of an event, as a list of any length.

use std::fmt;
use std::ops::{Deref, DerefMut};

use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeTuple, Serializer};

use super::Value;

/// The arguments of an event, if their number is known only at run time.
///
/// It spreads like a tuple: `emit("e", Args::from(vec![a, b]))` sends two arguments, while a `Vec` is one argument, an
/// array. It does the same in socketioxide, where `Data<Args>` receives all arguments.
///
/// ```
/// use pgio::{Args, Value};
///
/// let args: Args = ["a", "b"].into_iter().map(Value::from).collect();
/// assert_eq!(Value::args_from_rust(&args)?.len(), 2);
/// assert_eq!(Value::args_from_rust(&args.to_vec())?.len(), 1);
/// # Ok::<(), pgio::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Args(Vec<Value>);

impl Args {
    /// The arguments as a list.
    pub fn into_vec(self) -> Vec<Value> {
        self.0
    }
}

impl From<Vec<Value>> for Args {
    fn from(args: Vec<Value>) -> Self {
        Self(args)
    }
}

impl From<Args> for Vec<Value> {
    fn from(args: Args) -> Self {
        args.0
    }
}

impl FromIterator<Value> for Args {
    fn from_iter<I: IntoIterator<Item = Value>>(args: I) -> Self {
        Self(args.into_iter().collect())
    }
}

impl IntoIterator for Args {
    type Item = Value;
    type IntoIter = std::vec::IntoIter<Value>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl Deref for Args {
    type Target = Vec<Value>;

    fn deref(&self) -> &Vec<Value> {
        &self.0
    }
}

impl DerefMut for Args {
    fn deref_mut(&mut self) -> &mut Vec<Value> {
        &mut self.0
    }
}

impl Serialize for Args {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(self.0.len())?;
        for arg in &self.0 {
            tuple.serialize_element(arg)?;
        }
        tuple.end()
    }
}

impl<'de> Deserialize<'de> for Args {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ArgsVisitor;

        impl<'de> Visitor<'de> for ArgsVisitor {
            type Value = Args;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the arguments of an event")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Args, A::Error> {
                let mut args = Vec::new();
                while let Some(arg) = seq.next_element()? {
                    args.push(arg);
                }
                Ok(Args(args))
            }
        }

        // A tuple of any length tells socketioxide to pass all arguments.
        deserializer.deserialize_tuple(usize::MAX, ArgsVisitor)
    }
}
