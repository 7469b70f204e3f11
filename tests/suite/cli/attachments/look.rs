//! `list`, `show` and `stats` with rows of every version, and with malformed rows.

use serde_json::{Value, json};
use tempfile::TempDir;

use super::attachments;
use crate::support::attachments::{create_attachment_table, execute};
use crate::support::pgio::{pgio, run, run_with_input};
use crate::support::postgres::postgres;
use crate::support::sql::query_text;

/// The recorded rows of the Node packages: all versions, all kinds.
fn recorded() -> Vec<String> {
    let samples = [
        include_str!("../../../fixtures/adapter-wire.json"),
        include_str!("../../../fixtures/emitter-wire.json"),
    ];
    let mut rows = Vec::new();
    samples.iter().for_each(|text| collect(&serde_json::from_str(text).unwrap(), &mut rows));
    rows
}

fn collect(value: &Value, rows: &mut Vec<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect(item, rows)),
        Value::Object(entries) => {
            if let Some(hex) = entries.get("attachment_hex").and_then(Value::as_str) {
                rows.push(hex.to_owned());
            }
            entries.values().for_each(|item| collect(item, rows));
        }
        _ => {}
    }
}

async fn insert_hex(url: &str, hex: &str) -> String {
    let insert =
        format!("INSERT INTO socket_io_attachments (payload) VALUES (decode('{hex}', 'hex')) RETURNING id");
    query_text(url, &insert).await
}

#[tokio::test]
async fn rows_of_every_version_are_listed_and_shown() {
    let postgres = postgres().await;
    create_attachment_table(postgres.url()).await;
    let rows = recorded();
    assert!(rows.len() > 10, "{}", rows.len());
    for hex in &rows {
        insert_hex(postgres.url(), hex).await;
    }
    let listed =
        attachments(postgres.url(), &["list", "--limit", "1000", "-o", "json"]).await.succeeded().json();
    assert_eq!(listed.len(), rows.len());
    for (row, hex) in listed.iter().rev().zip(&rows) {
        let id = row["id"].as_str().unwrap();
        let shown = attachments(postgres.url(), &["show", id, "-o", "json"]).await.succeeded().json();
        let shown = &shown[0];
        assert_eq!(row["bytes"], hex.len() / 2);
        assert_eq!(shown["attachment"], json!({"id": id, "bytes": hex.len() / 2}));
        for field in ["type", "uid"] {
            assert_eq!(row[field], shown[field], "{row} {shown}");
        }
        assert_eq!(row["event"], shown.get("event").cloned().unwrap_or(Value::Null), "{row} {shown}");
        assert!(row["namespace"] == shown["namespace"] || row["namespace"].is_null(), "{row} {shown}");
        let created: jiff::Timestamp = row["createdAt"].as_str().unwrap().parse().unwrap();
        assert_eq!(created, shown["time"].as_str().unwrap().parse().unwrap());
        assert!(row["ageMs"].as_u64().unwrap() < 60_000, "{row}");
    }
    // A row without a namespace belongs to the namespace that the user names.
    let silent = listed.iter().find(|row| row["namespace"].is_null()).unwrap();
    let shown =
        attachments(postgres.url(), &["show", silent["id"].as_str().unwrap(), "-n", "a", "-o", "json"]).await;
    assert_eq!(shown.succeeded().json()[0]["namespace"], "/a");
}

#[tokio::test]
async fn tail_output_can_be_replayed_by_emit() {
    let postgres = postgres().await;
    create_attachment_table(postgres.url()).await;
    let empty = attachments(postgres.url(), &["list"]).await.succeeded();
    assert_eq!((empty.stdout.as_str(), empty.stderr.as_str()), ("", "socket_io_attachments is empty\n"));
    assert!(attachments(postgres.url(), &["list", "-o", "json"]).await.succeeded().stdout.is_empty());

    let binary = r#"{"$binary":"AQID"}"#;
    let emit = ["emit", "-n", "admin", "-r", "r1", "photo", "<>", binary];
    run(&mut pgio(postgres.url(), &emit)).await.succeeded();
    let list = attachments(postgres.url(), &["list"]).await.succeeded().stdout;
    let lines: Vec<_> = list.lines().collect();
    assert!(lines[0].starts_with("ID  CREATED") && lines[0].ends_with("EVENT"), "{list}");
    assert!(lines[1].starts_with(" 1  ") && lines[1].ends_with(" broadcast  /admin     photo"), "{list}");

    let text = attachments(postgres.url(), &["show", "1"]).await.succeeded().stdout;
    assert!(
        text.contains(" /admin photo \"<>\" <3 bytes 010203>  to r1  from emitter  attachment 1, "),
        "{text}"
    );
    let shown = attachments(postgres.url(), &["show", "1", "-o", "json"]).await.succeeded();
    let mut again = pgio(postgres.url(), &["emit", "--from", "-"]);
    run_with_input(&mut again, shown.stdout.clone()).await.succeeded();
    let second = attachments(postgres.url(), &["show", "2", "-o", "json"]).await.succeeded().json();
    let first = &shown.json()[0];
    for field in ["namespace", "event", "args", "rooms", "except", "type"] {
        assert_eq!(first[field], second[0][field]);
    }
    let newest =
        attachments(postgres.url(), &["list", "--limit", "1", "-o", "json"]).await.succeeded().json();
    assert_eq!((newest.len(), &newest[0]["id"]), (1, &json!("2")));
}

#[tokio::test]
async fn more_rows_than_one_page() {
    let postgres = postgres().await;
    create_attachment_table(postgres.url()).await;
    execute(
        postgres.url(),
        "INSERT INTO socket_io_attachments (payload) SELECT NULL FROM generate_series(1, 1000)",
    )
    .await;
    let rows =
        attachments(postgres.url(), &["list", "--limit", "450", "-o", "json"]).await.succeeded().json();
    let ids: Vec<i64> = rows.iter().map(|row| row["id"].as_str().unwrap().parse().unwrap()).collect();
    assert_eq!(ids, (551..=1000).rev().collect::<Vec<_>>());
    assert_eq!((&rows[0]["bytes"], &rows[0]["type"]), (&json!(0), &Value::Null));
}

#[tokio::test]
async fn rows_that_are_not_there_or_make_no_sense() {
    let postgres = postgres().await;
    create_attachment_table(postgres.url()).await;
    let missing = attachments(postgres.url(), &["show", "4711"]).await;
    assert_eq!(missing.status, 1);
    assert_eq!(missing.stderr, "error: there is no attachment 4711 in socket_io_attachments\n");
    let id = insert_hex(postgres.url(), "c1c1").await;
    let nonsense = attachments(postgres.url(), &["show", &id]).await;
    assert_eq!(nonsense.status, 1);
    assert!(nonsense.stderr.starts_with("error: attachment 1 is not a message: "), "{nonsense:?}");
    execute(
        postgres.url(),
        "INSERT INTO socket_io_attachments (created_at) VALUES (NULL), ('infinity'), ('-infinity'), ('2999-01-01')",
    )
    .await;
    let rows = attachments(postgres.url(), &["list", "-o", "json"]).await.succeeded().json();
    assert_eq!(rows.len(), 5);
    attachments(postgres.url(), &["list"]).await.succeeded();
    let stats = attachments(postgres.url(), &["stats", "-o", "json"]).await.succeeded().json();
    assert_eq!((&stats[0]["rows"], &stats[0]["rowsOfUnknownAge"]), (&json!(5), &json!(3)));
    attachments(postgres.url(), &["stats"]).await.succeeded();

    for arguments in
        [&["show"][..], &["show", "x"], &["list", "--limit", "-1"], &["list", "--limit", "0"], &[]]
    {
        assert_eq!(attachments(postgres.url(), arguments).await.status, 2, "{arguments:?}");
    }
}

#[tokio::test]
async fn hostile_names_stay_in_their_line() {
    let postgres = postgres().await;
    create_attachment_table(postgres.url()).await;
    let files = TempDir::new().unwrap();
    let file = files.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let event = "\x1b[2J\r\nboo\u{202e}";
    let emit = ["emit", event, &format!("@{}", file.display())];
    run(&mut pgio(postgres.url(), &emit)).await.succeeded();
    for command in [&["list"][..], &["show", "1"]] {
        let text = attachments(postgres.url(), command).await.succeeded().stdout;
        assert!(text.contains("\\u{1b}[2J\\u{d}\\nboo\\u{202e}"), "{text}");
        assert!(!text.contains(['\x1b', '\r', '\u{202e}']), "{text:?}");
    }
}

#[tokio::test]
async fn statistics_count_and_weigh() {
    let postgres = postgres().await;
    create_attachment_table(postgres.url()).await;
    let insert = "INSERT INTO socket_io_attachments (created_at, payload)
        SELECT now() - age, repeat('x', 1000)::bytea
        FROM unnest(ARRAY['0 s', '15 s', '45 s', '2 min', '5 min', '2 h', '3 days']::interval[]) AS age,
        generate_series(1, 3)";
    execute(postgres.url(), insert).await;
    let stats = attachments(postgres.url(), &["stats", "-o", "json"]).await.succeeded().json();
    let stats = &stats[0];
    assert_eq!((&stats["rows"], &stats["bytes"]), (&json!(21), &json!(21_000)), "{stats}");
    assert_eq!((&stats["expiredRows"], &stats["unlogged"]), (&json!(15), &json!(false)), "{stats}");
    assert!(stats["diskBytes"].as_u64().unwrap() >= 8192 && stats["vacuumed"].is_null(), "{stats}");
    let oldest = stats["oldestAgeMs"].as_u64().unwrap() / 1000;
    assert!((3 * 86_400..3 * 86_400 + 600).contains(&oldest), "{stats}");
    stats["oldest"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let ages = stats["ages"].as_array().unwrap();
    assert_eq!((&ages[0]["fromMs"], &ages[7]["toMs"]), (&json!(0), &Value::Null));
    let rows: u64 = ages.iter().map(|group| group["rows"].as_u64().unwrap()).sum();
    assert_eq!(rows, 21, "{stats}");
    let day_and_more = &ages[7];
    assert_eq!((&day_and_more["rows"], &day_and_more["bytes"]), (&json!(3), &json!(3000)), "{stats}");

    let interval = ["stats", "--cleanup-interval", "4m", "-o", "json"];
    let stats = attachments(postgres.url(), &interval).await.succeeded().json();
    assert_eq!(stats[0]["expiredRows"], 9);
    execute(postgres.url(), "DELETE FROM socket_io_attachments WHERE created_at < now() - interval '1 h'")
        .await;
    execute(postgres.url(), "VACUUM socket_io_attachments").await;
    let text = attachments(postgres.url(), &["stats"]).await.succeeded().stdout;
    assert!(
        text.starts_with("socket_io_attachments\nrows       15 (9 older than 30s)\nsize       14.65 KiB of"),
        "{text}"
    );
    assert!(
        text.contains("dead rows  0 (vacuumed ") && text.lines().all(|line| line.chars().count() <= 80),
        "{text}"
    );
}
