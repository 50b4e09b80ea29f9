//! The PostgreSQL issuer against a real, private PostgreSQL server.

use onus_core::ids::SessionId;
use onus_core::time::{Millis, Timestamp};
use onus_issue::contract::{self, Upstream};
use onus_issue::postgres_role::{PgAddress, PgTlsPolicy};
use onus_issue::stored::{self, StoredCredential};
use onus_issue::{
    Ended, IssueFault, Issued, Issuer, Order, PgAdmin, PgAdminConfig, RoleName, UpstreamSecret, revoke_until_proven,
};
use onus_testkit::pg::{Cluster, Options, SUPERUSER};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};
use tokio_postgres::{Client, NoTls};
use zeroize::Zeroizing;

const SET_UP: &str = "CREATE ROLE readers NOLOGIN; CREATE ROLE writers NOLOGIN; CREATE ROLE leftovers NOLOGIN;
    CREATE ROLE boss SUPERUSER NOLOGIN; CREATE ROLE to_boss NOLOGIN IN ROLE boss;
    CREATE ROLE app LOGIN PASSWORD 'not the real one';
    CREATE DATABASE orders; CREATE DATABASE other;";
const SCHEMA: &str = "CREATE SCHEMA shop; CREATE TABLE shop.items (id int); INSERT INTO shop.items VALUES (1);
    GRANT USAGE ON SCHEMA shop TO readers; GRANT SELECT ON shop.items TO readers;
    GRANT CREATE, USAGE ON SCHEMA shop TO writers";

/// One cluster for all tests: each uses sessions of its own.
fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| {
        // Everything that is sent is logged, so that a test can look whether a password was.
        let config = vec![
            "log_statement = 'all'".to_owned(),
            "log_min_error_statement = error".to_owned(),
            // A second address of the same server, which its certificate doesn't name.
            "listen_addresses = '127.0.0.1, 127.0.0.2'".to_owned(),
        ];
        let options = Options { fsync: false, max_connections: 400, tls: true, config, ..Options::default() };
        let cluster = Cluster::start(options).unwrap();
        cluster.psql("postgres", SET_UP).unwrap();
        cluster.psql("orders", SCHEMA).unwrap();
        cluster.psql("other", SCHEMA).unwrap();
        cluster
    })
}

fn config(cluster: &Cluster) -> PgAdminConfig {
    PgAdminConfig {
        address: PgAddress::Tcp("127.0.0.1".to_owned()),
        port: cluster.port(),
        user: SUPERUSER.to_owned(),
        password: Some(Zeroizing::new(cluster.password().to_owned())),
        database: "postgres".to_owned(),
        tls: PgTlsPolicy::Disable,
        connections: 4,
        timeout: Duration::from_secs(20),
        leftovers_to: Some("leftovers".to_owned()),
        connection_limit: None,
    }
}

fn admin() -> PgAdmin {
    PgAdmin::new(&config(cluster())).unwrap()
}

fn order(session: &str) -> Order {
    Order {
        session: SessionId::parse(session).unwrap(),
        member_of: vec!["readers".to_owned(), "writers".to_owned()],
        valid_until: Timestamp::parse_rfc3339("2199-01-01T00:00:00Z").unwrap(),
        database: "orders".to_owned(),
        search_path: vec!["shop".to_owned()],
        statement_timeout: None,
    }
}

async fn log_in(port: u16, database: &str, issued: &Issued) -> Result<Client, String> {
    let mut config = tokio_postgres::Config::new();
    config.host("127.0.0.1").port(port).user(&issued.role_name).dbname(database);
    config.password(issued.password().unwrap().as_bytes());
    let (client, connection) = config.connect(NoTls).await.map_err(|e| format!("{e:?}"))?;
    tokio::spawn(connection);
    Ok(client)
}

struct Orders(&'static Cluster);

impl Upstream for Orders {
    type Connection = Arc<Client>;
    async fn log_in(&self, issued: &Issued) -> Result<Arc<Client>, String> {
        log_in(self.0.port(), "orders", issued).await.map(Arc::new)
    }
    async fn answers(&self, connection: &mut Arc<Client>) -> bool {
        connection.simple_query("SELECT 1").await.is_ok()
    }
    async fn start_long(&self, connection: &mut Arc<Client>) {
        let client = connection.clone();
        tokio::spawn(async move { client.simple_query("SELECT pg_sleep(300)").await.map(drop) });
        let admin = admin();
        let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'";
        while admin.rows("postgres", sleeping).await.unwrap()[0][0].as_deref() == Some("0") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    async fn own_something(&self, connection: &mut Arc<Client>) {
        let sql = "CREATE TABLE mine (id int); CREATE TEMP TABLE passing (id int); GRANT SELECT ON mine TO PUBLIC";
        connection.batch_execute(sql).await.unwrap();
    }
    fn order(&self, session: SessionId) -> Order {
        order(session.as_str())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn contract() {
    let upstream = Orders(cluster());
    contract::opens_until_revoked(&admin(), &upstream).await;
    contract::revoking_again_is_proven(&admin(), &upstream).await;
    contract::survives_a_crash(admin(), &admin(), &upstream).await;
    contract::ends_what_runs(&admin(), &upstream).await;
    contract::ends_an_owner(&admin(), &upstream).await;
    contract::expires_by_itself(&admin(), &upstream).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_gets_what_was_ordered_and_nothing_more() {
    let admin = admin();
    let mut order = order("plain");
    order.search_path = vec!["shop".to_owned(), "Odd \"one\"".to_owned()];
    order.statement_timeout = Some(Millis(12_000));
    let issued = admin.issue(&order).await.unwrap();
    let client = log_in(cluster().port(), "orders", &issued).await.unwrap();
    let row = client.query_one("SELECT current_setting('search_path'), current_setting('statement_timeout')", &[]);
    let row = row.await.unwrap();
    assert_eq!((row.get(0), row.get(1)), (r#"shop, "Odd ""one""""#, "12s"));
    assert!(client.simple_query("SELECT id FROM items").await.is_ok(), "what the group may, the session may");
    for refused in
        ["CREATE ROLE x", "CREATE DATABASE x", "SET ROLE postgres", "ALTER ROLE readers LOGIN", "DROP ROLE app"]
    {
        assert!(client.simple_query(refused).await.is_err(), "{refused}");
    }
    let attributes = "SELECT rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls FROM pg_roles \
                      WHERE rolname = 'onus_plain'";
    assert_eq!(admin.rows("postgres", attributes).await.unwrap(), [[Some("f".to_owned())]]);
    assert!(admin.issue(&order).await.unwrap_err().is_sqlstate("42710"), "one session, one role");
    assert!(admin.revoke(&RoleName::parse("onus_plain").unwrap()).await.unwrap().proven);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_role_leads_to_a_superuser_and_no_name_out_of_its_quotes() {
    let admin = admin();
    for group in ["boss", "to_boss", "postgres"] {
        let order = Order { member_of: vec![group.to_owned()], ..order("climber") };
        assert_eq!(admin.issue(&order).await, Err(IssueFault::Superuser), "{group}");
    }
    let order_of = |group: &str| Order { member_of: vec![group.to_owned()], ..order("climber") };
    let injected = admin.issue(&order_of("readers\"; ALTER ROLE app SUPERUSER; --")).await;
    assert!(injected.unwrap_err().is_sqlstate("42704"), "taken as one name, of a role that isn't there");
    for wrong in ["", "a\0b", &"x".repeat(64)] {
        assert!(matches!(admin.issue(&order_of(wrong)).await, Err(IssueFault::Unusable { .. })));
    }
    let nobody = Order { member_of: vec![], ..order("climber") };
    assert!(matches!(admin.issue(&nobody).await, Err(IssueFault::Unusable { .. })));
    let long = Order { session: SessionId::parse(&"x".repeat(60)).unwrap(), ..order("climber") };
    assert!(matches!(admin.issue(&long).await, Err(IssueFault::Unusable { .. })));
    assert_eq!(admin.rows("postgres", "SELECT 1 FROM pg_roles WHERE rolname = 'onus_climber'").await.unwrap().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_that_are_not_ours_are_never_touched() {
    for name in ["postgres", "app", "readers", "onus_", ""] {
        assert!(matches!(Issuer::revoke(&admin(), name).await, Err(IssueFault::Unusable { .. })), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_log_nor_debug_nor_error_holds_a_password() {
    let cluster = cluster();
    let admin = admin();
    let issued = admin.issue(&order("quiet")).await.unwrap();
    let again = admin.issue(&order("quiet")).await.unwrap_err();
    let mut app = StoredCredential::new("app".to_owned(), UpstreamSecret::Password(Zeroizing::new("old".to_owned())));
    let fresh = stored::fresh_password().unwrap();
    let rotated = fresh.reveal().clone();
    app.rotate(&admin, fresh).await.unwrap();
    let shown = format!("{issued:?} {again:?} {again} {app:?} {admin:?} {:?} {}", config(cluster), cluster.log());
    assert!(shown.contains("CREATE ROLE \"onus_quiet\""), "the log does hold the statements");
    for secret in [issued.password().unwrap().as_str(), rotated.as_str(), cluster.password()] {
        assert!(!shown.contains(secret));
    }
    assert!(!format!("{again:?}{again}").contains("SCRAM-SHA-256$"));
    let issued_app = app.issue(&order("x")).await.unwrap();
    assert!(log_in(cluster.port(), "orders", &issued_app).await.is_ok(), "the rotated password opens");
    let revoked = app.revoke("app").await.unwrap();
    assert_eq!((revoked.proven, revoked.reason), (false, Some("static credential")));
    assert!(matches!(revoke_until_proven(&app, "app", |_, _| (), std::future::pending()).await, Ended::Impossible(_)));
    assert!(admin.revoke(&RoleName::parse("onus_quiet").unwrap()).await.unwrap().proven);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_in_two_databases_is_revoked_and_its_things_stay() {
    let (cluster, admin) = (cluster(), admin());
    let issued = admin.issue(&order("hoarder")).await.unwrap();
    for database in ["orders", "other"] {
        let client = log_in(cluster.port(), database, &issued).await.unwrap();
        client.batch_execute("CREATE TABLE shop.hoard AS SELECT 7 AS n").await.unwrap();
    }
    let revoked = admin.revoke(&RoleName::parse("onus_hoarder").unwrap()).await.unwrap();
    assert!(revoked.proven);
    assert_eq!(revoked.reassigned_in, ["orders", "other"]);
    let owner = "SELECT n::text || tableowner FROM shop.hoard, pg_tables WHERE tablename = 'hoard'";
    assert_eq!(admin.rows("other", owner).await.unwrap(), [[Some("7leftovers".to_owned())]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_whose_role_was_dropped_under_it_is_not_proven_until_it_ends() {
    let (cluster, admin) = (cluster(), admin());
    let issued = admin.issue(&order("undead")).await.unwrap();
    let client = log_in(cluster.port(), "orders", &issued).await.unwrap();
    // As a crash between dropping and ending would leave it, or an administrator's own DROP ROLE.
    cluster.psql("postgres", "DROP ROLE \"onus_undead\"").unwrap();
    assert!(client.simple_query("SELECT 1").await.is_ok(), "the server lets it go on");
    assert!(admin.revoke(&RoleName::parse("onus_undead").unwrap()).await.unwrap().proven);
    assert!(client.simple_query("SELECT 1").await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_connection_from_elsewhere_is_left_alone() {
    // A cluster of its own: the other tests administer theirs from the stranger's address.
    let own = Cluster::start(Options { fsync: false, ..Options::default() }).unwrap();
    let cluster = &own;
    cluster.psql("postgres", SET_UP).unwrap();
    cluster.psql("postgres", "CREATE ROLE leaver LOGIN PASSWORD 'leaver leaver'").unwrap();
    let secret = UpstreamSecret::Password(Zeroizing::new("leaver leaver".to_owned()));
    let leaver = Issued { role_name: "leaver".to_owned(), secret };
    let client = log_in(cluster.port(), "orders", &leaver).await.unwrap();
    cluster.psql("postgres", "DROP ROLE leaver").unwrap();
    let address = PgAddress::Unix(cluster.socket_dir().to_owned());
    let admin = PgAdmin::new(&PgAdminConfig { address, password: None, ..config(cluster) }).unwrap();
    let issued = admin.issue(&order("neighbour")).await.unwrap();
    let ours = log_in(cluster.port(), "orders", &issued).await.unwrap();
    let role = RoleName::parse("onus_neighbour").unwrap();
    assert_eq!(admin.terminate_backends(std::slice::from_ref(&role)).await.unwrap(), 1);
    assert!(admin.revoke(&role).await.unwrap().proven);
    assert!(admin.revoke(&role).await.unwrap().proven);
    assert!(ours.simple_query("SELECT 1").await.is_err());
    assert!(client.simple_query("SELECT 1").await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_sessions_are_killed_and_revoked_in_bulk() {
    let (cluster, admin) = (cluster(), admin());
    let mut roles = vec![];
    let mut clients = vec![];
    for n in 0..100 {
        let issued = admin.issue(&order(&format!("bulk-{n}"))).await.unwrap();
        clients.push(log_in(cluster.port(), "orders", &issued).await.unwrap());
        roles.push(RoleName::parse(&issued.role_name).unwrap());
    }
    clients[7].batch_execute("CREATE TABLE shop.bulk (n int)").await.unwrap();
    assert_eq!(admin.cancel_backends(&roles).await.unwrap(), 100);
    let start = Instant::now();
    assert_eq!(admin.terminate_backends(&roles).await.unwrap(), 100);
    let killed = start.elapsed();
    let start = Instant::now();
    let results = admin.revoke_many(&roles).await.unwrap();
    println!("100 sessions: told to end in {killed:?}, revoked in {:?}", start.elapsed());
    assert!(killed < Duration::from_secs(1), "{killed:?}");
    assert_eq!(results.len(), 100);
    for (role, result) in results {
        let result = result.unwrap();
        assert!(result.proven, "{role}");
        assert_eq!(result.reassigned_in.is_empty(), role.as_str() != "onus_bulk-7");
    }
    for client in clients {
        assert!(client.simple_query("SELECT 1").await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_verified_or_refused() {
    let cluster = cluster();
    let ca_pem = std::fs::read_to_string(&cluster.certificates().unwrap().ca).unwrap();
    let with = |host: &str, ca: &str| PgAdminConfig {
        address: PgAddress::Tcp(host.to_owned()),
        tls: PgTlsPolicy::RequireCa(ca.to_owned()),
        ..config(cluster)
    };
    let encrypted = PgAdmin::new(&with("localhost", &ca_pem)).unwrap();
    let ssl = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    assert_eq!(encrypted.rows("postgres", ssl).await.unwrap(), [[Some("t".to_owned())]]);
    // The same machine under a name that the certificate doesn't hold.
    let elsewhere = PgAdmin::new(&with("127.0.0.2", &ca_pem)).unwrap();
    let fault = elsewhere.discover().await.unwrap_err();
    assert!(matches!(&fault, IssueFault::Connect(why) if why.contains("not valid for name")), "{fault}");
    let dir = std::env::temp_dir().join(format!("onus-issue-ca-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let foreign = onus_testkit::tls::make(&dir, &["localhost"]).unwrap();
    let foreign_ca = std::fs::read_to_string(&foreign.ca).unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
    let untrusted = PgAdmin::new(&with("localhost", &foreign_ca)).unwrap();
    let fault = untrusted.discover().await.unwrap_err();
    assert!(matches!(&fault, IssueFault::Connect(why) if why.contains("certificate")), "{fault}");
    assert!(matches!(PgAdmin::new(&with("localhost", "")), Err(IssueFault::Config(_))));
    let socket =
        PgAdminConfig { address: PgAddress::Unix(cluster.socket_dir().to_owned()), password: None, ..config(cluster) };
    assert!(PgAdmin::new(&socket).unwrap().discover().await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn revoking_goes_on_through_an_outage_until_it_is_proven() {
    let mut own = Cluster::start(Options { fsync: false, ..Options::default() }).unwrap();
    own.psql("postgres", "CREATE ROLE readers; CREATE ROLE writers; CREATE DATABASE orders").unwrap();
    let admin = PgAdmin::new(&PgAdminConfig { timeout: Duration::from_secs(5), ..config(&own) }).unwrap();
    let issued = admin.issue(&order("patient")).await.unwrap();
    own.crash();
    let cancelled = revoke_until_proven(&admin, &issued.role_name, |_, _| (), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
    });
    assert_eq!(cancelled.await, Ended::Cancelled);
    let attempts = Mutex::new(vec![]);
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let until = revoke_until_proven(
        &admin,
        &issued.role_name,
        |n, result| {
            attempts.lock().unwrap().push((n, result.is_ok()));
            let _ = tell.send(n);
        },
        std::future::pending(),
    );
    let restart = async {
        while told.recv().await != Some(2) {}
        tokio::task::spawn_blocking(move || {
            own.start_again().unwrap();
            own
        })
        .await
        .unwrap()
    };
    let (ended, own) = tokio::join!(until, restart);
    assert!(matches!(ended, Ended::Proven(_)));
    let attempts = attempts.into_inner().unwrap();
    assert!(attempts.len() > 2 && !attempts[0].1 && attempts.last().unwrap().1, "{attempts:?}");
    assert_eq!(own.psql("postgres", "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'onus%'").unwrap(), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_ends_in_time_and_the_catalogue_is_read_only() {
    let slow = PgAdmin::new(&PgAdminConfig { timeout: Duration::from_millis(300), ..config(cluster()) }).unwrap();
    let start = Instant::now();
    assert!(slow.rows("postgres", "SELECT pg_sleep(30)").await.is_err());
    assert!(start.elapsed() < Duration::from_secs(5));
    let admin = admin();
    let rows = admin.rows("orders", "SELECT 1, NULL, 'a' UNION ALL SELECT 2, 'x', NULL ORDER BY 1").await.unwrap();
    let text = |t: &str| Some(t.to_owned());
    assert_eq!(rows, [[text("1"), None, text("a")], [text("2"), text("x"), None]]);
    assert!(admin.rows("orders", "INSERT INTO shop.items VALUES (2)").await.unwrap_err().is_sqlstate("25006"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_that_is_no_superuser_is_enough() {
    let cluster = cluster();
    let sql = "CREATE ROLE steward LOGIN CREATEROLE PASSWORD 'steward steward' IN ROLE pg_signal_backend, leftovers;
               GRANT readers, writers TO steward WITH ADMIN OPTION";
    cluster.psql("postgres", sql).unwrap();
    let steward = PgAdminConfig {
        user: "steward".to_owned(),
        password: Some(Zeroizing::new("steward steward".to_owned())),
        ..config(cluster)
    };
    // `leftovers` must itself be allowed to own what it is given.
    cluster.psql("orders", "GRANT CREATE, USAGE ON SCHEMA shop TO leftovers").unwrap();
    let admin = PgAdmin::new(&steward).unwrap();
    let issued = admin.issue(&order("modest")).await.unwrap();
    let client = log_in(cluster.port(), "orders", &issued).await.unwrap();
    client.batch_execute("CREATE TABLE shop.modest (n int)").await.unwrap();
    let revoked = admin.revoke(&RoleName::parse("onus_modest").unwrap()).await.unwrap();
    assert!(revoked.proven && revoked.terminated == 1 && revoked.reassigned_in == ["orders"], "{revoked:?}");
}
