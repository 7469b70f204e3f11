//! Literals for SQL text that is not sent with parameters.

/// Quotes text without NUL. The literal means the same with `standard_conforming_strings` on and off.
pub(super) fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    match quoted.contains('\\') {
        true => format!("E'{}'", quoted.replace('\\', r"\\")),
        false => format!("'{quoted}'"),
    }
}

/// Quotes text for JSON. Without a dollar sign, which could end the dollar quotes around it.
pub(super) fn json_text(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace('$', r"\u0024")
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
    fn json_texts_contain_no_dollar_sign() {
        for (text, expected) in [
            ("plain", r#""plain""#),
            ("a\"b\\c\n", r#""a\"b\\c\n""#),
            ("a$json$b", r#""a\u0024json\u0024b""#),
        ] {
            assert_eq!(json_text(text), expected);
        }
    }

    #[test]
    fn tags_are_in_none_of_the_texts() {
        assert_eq!(dollar_tag(["a", "$$"]), "$pgio$");
        assert_eq!(dollar_tag(["a$pgio$", "b$pgio1$"]), "$pgio2$");
    }
}
