//! Chainable setters for structs of options, which are `#[non_exhaustive]` so that options can be added.

/// Writes a setter for each field. A field is given as `name: type of the argument`.
macro_rules! setters {
    ($options:ident { $($field:ident: $argument:ty),+ $(,)? }) => {
        impl $options {
            $(
                #[doc = concat!("Sets [`", stringify!($field), "`](Self#structfield.", stringify!($field), ").")]
                #[must_use]
                pub fn $field(mut self, $field: $argument) -> Self {
                    self.$field = $field.into();
                    self
                }
            )+
        }
    };
}

pub(crate) use setters;
