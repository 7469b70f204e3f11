//! Literals for SQL text that is not sent with parameters.

/// Quotes text without NUL. The literal means the same with `standard_conforming_strings` on and off.
pub(super) fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    match quoted.contains('\\') {
        true => format!("E'{}'", quoted.replace('\\', r"\\")),
        false => format!("'{quoted}'"),
    }
}

/// A tag for dollar quotes that none of these texts contains.
pub(super) fn dollar_tag<'a>(texts: impl IntoIterator<Item = &'a str> + Clone) -> String {
    let mut tag = "$pgio$".to_owned();
    for number in 1.. {
        if !texts.clone().into_iter().any(|text| text.contains(&tag)) {
            break;
        }
        tag = format!("$pgio{number}$");
    }
    tag
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_end_where_they_are_meant_to() {
        for (text, expected) in [
            ("", "''"),
            ("plain", "'plain'"),
            ("it's", "'it''s'"),
            (r"a\b", r"E'a\\b'"),
            (r"\'; DROP TABLE t; --", r"E'\\''; DROP TABLE t; --'"),
        ] {
            assert_eq!(literal(text), expected);
        }
    }

    #[test]
    fn tags_are_in_none_of_the_texts() {
        assert_eq!(dollar_tag(["a", "$$"]), "$pgio$");
        assert_eq!(dollar_tag(["a$pgio$", "b$pgio1$"]), "$pgio2$");
    }
}
