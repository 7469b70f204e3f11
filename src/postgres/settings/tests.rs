//! The sources of settings, and their precedence.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::TempDir;

use super::*;

const NO_ROOTS: &str = "sslmode: verifying the server's certificate needs sslrootcert=FILE or ~/.postgresql/root.crt, or \
    sslrootcert=system with sslmode=verify-full";

const NOT_PLAIN: &str = "the connection string: it contains a keyword that is no setting; quote or percent-encode the \
    special characters of a password";

const REQUIRE_AUTH: &str =
    "require_auth: only scram-sha-256 can be required, together with channel_binding=require";

fn environment(variables: &[(&str, &str)]) -> Environment {
    variables.iter().map(|(name, value)| (*name, *value)).collect()
}

fn parse(text: &str) -> Settings {
    Settings::parse_in(text, &Environment::default()).unwrap()
}

fn complaint(text: &str) -> String {
    Settings::parse_in(text, &Environment::default()).unwrap_err().to_string()
}

/// User, password of the first host, database and hosts in one line.
fn summary(settings: &Settings) -> String {
    let parameters = settings.parameters();
    let password = parameters.hosts[0].password.as_deref().unwrap_or("-");
    format!("{} {password} {} {}", parameters.user, parameters.dbname, settings.target())
}

fn secret_file(directory: &TempDir, name: &str, content: &str) -> String {
    let path = directory.path().join(name);
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn urls() {
    let cases = [
        ("postgres://u:p@h:1/d", "u p d h:1"),
        ("postgresql://u@h", "u - u h:5432"),
        ("postgres://u:p%40%2F%3A@h/d%20b", "u p@/: d b h:5432"),
        ("postgres://u:a@b@h/d", "u a@b d h:5432"),
        ("postgres://u:p:q@h/d", "u p:q d h:5432"),
        ("postgres://u@[::1]:2/d", "u - d [::1]:2"),
        ("postgres://u@[::1]/d", "u - d [::1]:5432"),
        ("postgres://u@a:1,b,c:3/d", "u - d a:1, b:5432, c:3"),
        ("postgres://u@a,b/d?port=7", "u - d a:7, b:7"),
        ("postgres://u@%2Frun%2Fpg:9/d", "u - d /run/pg/.s.PGSQL.9"),
        ("postgres://u@/d?host=/run/pg", "u - d /run/pg/.s.PGSQL.5432"),
        ("postgres://?user=u&host=h&dbname=d&password=p", "u p d h:5432"),
        ("postgres://u@/d?hostaddr=10.0.0.1", "u - d 10.0.0.1:5432"),
        ("postgres://h/d?user=u@tenant", "u@tenant - d h:5432"),
        ("  postgres://u@h/d\n", "u - d h:5432"),
    ];
    for (url, expected) in cases {
        assert_eq!(summary(&parse(url)), expected, "{url}");
    }
}

#[test]
fn keyword_strings() {
    let cases = [
        ("host=h user=u", "u - u h:5432"),
        (r"host = h  user= u password ='it\'s \\ me' dbname=d port=1", r"u it's \ me d h:1"),
        (r"host=h user=u password=a\ b", "u a b u h:5432"),
        ("host=a,b port=1,2 user=u", "u - u a:1, b:2"),
        ("host=h user=u user=v", "v - v h:5432"),
    ];
    for (text, expected) in cases {
        assert_eq!(summary(&parse(text)), expected, "{text}");
    }
}

#[test]
fn errors_name_the_setting_and_show_no_password() {
    let cases = [
        (
            "postgres://u@h/d?sslmode=full",
            "sslmode: \"full\" is not one of disable, allow, prefer, require, verify-ca, verify-full",
        ),
        ("postgres://u@h/d?colour=red", "colour: no such setting"),
        ("postgres://u@h/d?port", "the database URL: \"port\" has no value"),
        ("postgres://u@h:x/d", "port: \"x\" is not a port number"),
        ("postgres://u@h:0/d", "port: \"0\" is not a port number"),
        ("postgres://u@h:70000/d", "port: \"70000\" is not a port number"),
        (
            "postgres://u:se/cret@h/d",
            "the database URL: a password with / or ? in it must be percent-encoded",
        ),
        (
            "postgres://u:se?cret@h/d",
            "the database URL: a password with / or ? in it must be percent-encoded",
        ),
        (
            "postgres://u:se?secret=1@h/d",
            "the database URL: a password with / or ? in it must be percent-encoded",
        ),
        ("postgres://u:1/s?secret@h/d", "the database URL: a setting after the ? has no value"),
        ("postgres://u:1/s?secret@h/d=1", NOT_PLAIN),
        ("host=h user=u password=a Secret%secret=1", NOT_PLAIN),
        ("postgres://u@[::1/d", "the database URL: a [ has no ] after the address"),
        ("mysql://u:secret@h/d", "the database URL: it has to begin with postgres:// or postgresql://"),
        ("secret", "the connection string: it is neither a postgres:// URL nor keyword=value pairs"),
        ("host=h password='secret", "the connection string: a quote is not closed"),
        ("host=a,b port=1,2,3 user=u", "port: 3 ports for 2 hosts"),
        ("host=a,b hostaddr=10.0.0.1 user=u", "hostaddr: 1 entries for 2 hosts"),
        ("host=a hostaddr=b user=u", "hostaddr: \"b\" is not an IP address"),
        ("host=h user=u connect_timeout=soon", "connect_timeout: \"soon\" is not a valid number"),
        (
            "host=h user=u target_session_attrs=best",
            "target_session_attrs: \"best\" is not one of any, read-write, read-only, primary, standby, prefer-standby",
        ),
        ("host=h user=u gssencmode=require", "gssencmode: not supported"),
        ("host=h user=u client_encoding=latin1", "client_encoding: \"latin1\" is not supported, only UTF8"),
        (
            "host=h user=u sslrootcert=system sslmode=require",
            "sslmode: sslrootcert=system needs sslmode=verify-full",
        ),
        ("host=h user=u sslmode=verify-ca", NO_ROOTS),
        ("host=h user=u sslmode=verify-full", NO_ROOTS),
        (
            "host=h user=u ssl_min_protocol_version=TLSv1.1",
            "ssl_min_protocol_version: \"TLSv1.1\" is not one of TLSv1.2, TLSv1.3",
        ),
        ("host=h user=u require_auth=scram-sha-256", REQUIRE_AUTH),
        ("host=h user=u require_auth=password channel_binding=require", REQUIRE_AUTH),
        ("host=h user=u require_auth=!scram-sha-256 channel_binding=require", REQUIRE_AUTH),
        ("host=h user=u sslnegotiation=direct", "sslnegotiation: direct needs sslmode=require or stronger"),
    ];
    for (text, expected) in cases {
        assert_eq!(complaint(text), expected);
        assert!(!complaint(text).contains("secret"));
    }
    let settings = parse("postgres://u:secret@h/d");
    assert!(!format!("{settings:?}").contains("secret"));
}

#[test]
fn the_environment_fills_what_is_left_out() {
    let variables = environment(&[
        ("PGHOST", "e"),
        ("PGPORT", "9"),
        ("PGUSER", "eu"),
        ("PGPASSWORD", "ep"),
        ("PGDATABASE", "ed"),
        ("PGSSLMODE", "require"),
        ("PGCONNECT_TIMEOUT", "3"),
        ("PGAPPNAME", "cron"),
        ("PGOPTIONS", ""),
    ]);
    let settings = Settings::from_env_in(&variables).unwrap().unwrap().application_name("pgio");
    assert_eq!(summary(&settings), "eu ep ed e:9");
    let parameters = settings.parameters();
    assert_eq!(parameters.tls.mode, SslMode::Require);
    assert_eq!(parameters.connect_timeout, Some(Duration::from_secs(3)));
    assert_eq!(parameters.application_name(), Some("cron"));
    assert_eq!(parameters.options, None);

    let settings = Settings::parse_in("postgres://u@h:1/d?sslmode=disable", &variables).unwrap();
    assert_eq!(summary(&settings), "u ep d h:1");
    assert_eq!(settings.parameters().tls.mode, SslMode::Disable);

    let wrong = environment(&[("PGHOST", "h"), ("PGUSER", "u"), ("PGSSLMODE", "on")]);
    let complaint = Settings::from_env_in(&wrong).unwrap_err().to_string();
    assert!(complaint.starts_with("PGSSLMODE: \"on\" is not one of"), "{complaint}");
}

#[test]
fn variables_that_name_no_database_are_no_configuration() {
    let variables = environment(&[("PGPASSWORD", "p"), ("PGSSLMODE", "require"), ("PGHOST", "")]);
    assert!(Settings::from_env_in(&variables).unwrap().is_none());
}

#[test]
fn defaults() {
    let settings = parse("host=h user=u").application_name("pgio");
    let parameters = settings.parameters();
    assert_eq!(parameters.tls.mode, SslMode::Prefer);
    assert_eq!(parameters.connect_timeout, Some(Duration::from_secs(10)));
    assert_eq!(parameters.target_session, TargetSession::Any);
    assert_eq!(parameters.application_name(), Some("pgio"));
    assert!(parameters.keepalives.is_some());
    // A list of several servers means the primary among them.
    let target = |text: &str| parse(text).parameters().target_session;
    assert_eq!(target("host=h,i user=u"), TargetSession::ReadWrite);
    assert_eq!(target("hostaddr=10.0.0.1,10.0.0.2 user=u"), TargetSession::ReadWrite);
    assert_eq!(target("host=h,i user=u target_session_attrs=any"), TargetSession::Any);
    let without = parse("host=h user=u connect_timeout=0 keepalives=0");
    assert_eq!(without.parameters().connect_timeout, None);
    assert!(without.parameters().keepalives.is_none());
}

#[test]
fn roots_decide_how_far_require_goes() {
    let modes = [
        ("sslmode=require", SslMode::Require),
        ("sslmode=require sslrootcert=/x/ca.pem", SslMode::VerifyCa),
        ("sslmode=prefer sslrootcert=/x/ca.pem", SslMode::Prefer),
        ("sslrootcert=system", SslMode::VerifyFull),
        ("sslrootcert=system sslmode=verify-full", SslMode::VerifyFull),
        ("sslmode=verify-ca sslrootcert=/x/ca.pem", SslMode::VerifyCa),
        // There is no TLS over a Unix-domain socket, and nothing to verify.
        ("host=/tmp sslmode=verify-full", SslMode::VerifyFull),
    ];
    for (text, expected) in modes {
        assert_eq!(parse(&format!("host=h user=u {text}")).parameters().tls.mode, expected, "{text}");
    }
    let home = TempDir::new().unwrap();
    fs::create_dir(home.path().join(".postgresql")).unwrap();
    let root = home.path().join(".postgresql/root.crt");
    fs::write(&root, "").unwrap();
    let at_home = environment(&[("HOME", home.path().to_str().unwrap())]);
    let settings = Settings::parse_in("host=h user=u sslmode=require", &at_home).unwrap();
    assert_eq!(settings.parameters().tls.roots, Roots::File(root));
    assert_eq!(settings.parameters().tls.mode, SslMode::VerifyCa);
    let settings = Settings::parse_in("host=h user=u sslmode=verify-full", &at_home).unwrap();
    assert_eq!(settings.parameters().tls.mode, SslMode::VerifyFull);
}

#[test]
fn what_channel_binding_keeps_may_be_required() {
    for auth in ["scram-sha-256", "scram-sha-256,md5", "!password,!md5"] {
        parse(&format!("host=h user=u channel_binding=require require_auth={auth}"));
    }
}

#[test]
fn services() {
    let home = TempDir::new().unwrap();
    let file = home.path().join(".pg_service.conf");
    let content = "# ours\n[other]\nhost=o\n\n[chat]\nhost = s\nuser=su\ndbname=sd\nport=3\n[last]\nport=4\n";
    fs::write(&file, content).unwrap();
    let home_path = home.path().to_str().unwrap();
    let variables =
        environment(&[("HOME", home_path), ("PGSERVICE", "chat"), ("PGUSER", "eu"), ("PGPASSWORD", "ep")]);
    // The string, then the service, then the environment.
    assert_eq!(summary(&Settings::from_env_in(&variables).unwrap().unwrap()), "su ep sd s:3");
    assert_eq!(summary(&Settings::parse_in("host=h", &variables).unwrap()), "su ep sd h:3");
    let by_name = Settings::parse_in("service=last host=h", &variables).unwrap();
    assert_eq!(summary(&by_name), "eu ep eu h:4");

    let missing = environment(&[("PGSERVICEFILE", file.to_str().unwrap()), ("PGSERVICE", "chats")]);
    let complaint = Settings::from_env_in(&missing).unwrap_err().to_string();
    let expected = format!("PGSERVICE: no service \"chats\" in {} or", file.display());
    assert!(complaint.starts_with(&expected), "{complaint}");

    fs::write(&file, "[chat]\nhots=x\n").unwrap();
    let complaint = Settings::from_env_in(&variables).unwrap_err().to_string();
    assert_eq!(complaint, format!("{}: line 2: no such setting: hots", file.display()));
}

#[test]
fn passwords_come_from_the_password_file_last() {
    let directory = TempDir::new().unwrap();
    let content = "# hosts\nh:5432:d:u:first\nh:*:*:u:second\nlocalhost:*:*:u:socket\n*:*:odd\\:name:*:with\\:colon\n10.0.0.1:*:*:*:address\n";
    let file = secret_file(&directory, "pass", content);
    let variables = environment(&[("PGPASSFILE", &file)]);
    let cases = [
        ("host=h user=u dbname=d", Some("first")),
        ("host=h user=u dbname=e", Some("second")),
        ("host=/var/run/postgresql user=u", Some("socket")),
        ("host=x user=u dbname=odd:name", Some("with:colon")),
        ("hostaddr=10.0.0.1 user=v", Some("address")),
        ("host=x user=u", None),
        ("host=h user=u password=own", Some("own")),
    ];
    for (text, expected) in cases {
        let settings = Settings::parse_in(text, &variables).unwrap();
        assert_eq!(settings.parameters().hosts[0].password.as_deref(), expected, "{text}");
    }
    // Each host its own.
    let both = Settings::parse_in("host=x,h user=u", &variables).unwrap();
    let passwords: Vec<_> = both.parameters().hosts.iter().map(|host| host.password.as_deref()).collect();
    assert_eq!(passwords, [None, Some("second")]);

    fs::set_permissions(Path::new(&file), fs::Permissions::from_mode(0o644)).unwrap();
    let ignored = Settings::parse_in("host=h user=u", &variables).unwrap();
    assert_eq!(ignored.parameters().hosts[0].password, None);
}

#[test]
fn a_password_file_at_home_is_found() {
    let home = TempDir::new().unwrap();
    secret_file(&home, ".pgpass", "*:*:*:*:at home\n");
    let variables = environment(&[("HOME", home.path().to_str().unwrap())]);
    let settings = Settings::parse_in("host=h user=u", &variables).unwrap();
    assert_eq!(settings.parameters().hosts[0].password.as_deref(), Some("at home"));
}
