//! The places in a body where the name of the attachment table stands.
//!
//! The name has to include the schema, since the functions use a fixed `search_path`. Only the database knows the schema, so
//! the script inserts the name when it runs.

/// A part of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// Text with other placeholders.
    Text(&'a str),
    /// The name as SQL text.
    Name,
    /// The name as a JSON string.
    JsonName,
}

const PLACEHOLDERS: [(&str, Piece<'_>); 2] =
    [("@attachments@", Piece::Name), ("@attachments_json@", Piece::JsonName)];

/// Splits a body at its placeholders for the name.
pub(super) fn pieces(body: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = body;
    loop {
        let places = PLACEHOLDERS.iter().filter_map(|(text, piece)| Some((rest.find(text)?, text, *piece)));
        let Some((at, text, piece)) = places.min_by_key(|(at, ..)| *at) else { break };
        pieces.extend([Piece::Text(&rest[..at]), piece]);
        rest = &rest[at + text.len()..];
    }
    pieces.push(Piece::Text(rest));
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_split_at_the_name() {
        let body = "INSERT INTO @attachments@ @schema@ @attachments_json@";
        let expected = [
            Piece::Text("INSERT INTO "),
            Piece::Name,
            Piece::Text(" @schema@ "),
            Piece::JsonName,
            Piece::Text(""),
        ];
        assert_eq!(pieces(body), expected);
        assert_eq!(pieces("@schema@"), [Piece::Text("@schema@")]);
    }
}
