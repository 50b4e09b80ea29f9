//! A PostgreSQL role for each session: made when the session opens, gone when it ends.
//!
//! The administrative role needs CREATEROLE, `pg_signal_backend`, ADMIN OPTION on the roles that it gives out (from
//! PostgreSQL 16 on), and membership in the owner that leftovers go to; it need not be a superuser. It reads nothing of the
//! users' data. PostgreSQL 11 or newer.

use crate::pg_tls::PgTls;
use crate::pool::{Pool, Rows, Words};
use crate::quote::{identifier, literal, names};
use crate::role_name::{ROLE_PREFIX, RoleName};
use crate::scram;
use crate::{Discovered, IssueFault, Issued, Issuer, Order, Revoked, UpstreamSecret};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::Instant;
use tokio_postgres::Config;
use tokio_postgres::config::SslMode;
use zeroize::Zeroizing;

/// Raised by our own statement when a role leads to a superuser.
const SUPERUSER_STATE: &str = "ON001";
/// `dependent_objects_still_exist`.
const OWNS_SOMETHING: &str = "2BP01";
/// `undefined_object`.
const UNDEFINED: &str = "42704";
/// How many roles one statement names.
const BATCH: usize = 500;

/// How to reach an upstream as its administrator.
#[derive(Clone)]
pub struct PgAdminConfig {
    /// Where it is.
    pub address: PgAddress,
    /// Its port.
    pub port: u16,
    /// The administrative role.
    pub user: String,
    /// Its password; `None` where the socket says who we are.
    pub password: Option<Zeroizing<String>>,
    /// The database to connect to; roles belong to the whole server.
    pub database: String,
    /// Whether the connection is encrypted and verified.
    pub tls: PgTlsPolicy,
    /// Administrative connections kept open at most: 1 to 4.
    pub connections: usize,
    /// No call takes longer, its connecting included.
    pub timeout: Duration,
    /// Who gets what a session leaves behind; `None`: the first role that the session's role is a member of, by name.
    pub leftovers_to: Option<String>,
    /// Connections that a session's role may have at one time; `None` for no limit.
    pub connection_limit: Option<u16>,
}

/// Where a PostgreSQL server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PgAddress {
    /// A host name or address; with TLS, the name that the server's certificate must hold.
    Tcp(String),
    /// The folder of its Unix socket.
    Unix(PathBuf),
}

/// Whether a connection is encrypted. There is no half-way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PgTlsPolicy {
    /// Not encrypted: for a Unix socket or the same machine.
    Disable,
    /// Encrypted and verified up to these authorities (PEM), the host name included (`verify-full`).
    RequireCa(String),
}

impl fmt::Debug for PgAdminConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgAdminConfig")
            .field("address", &self.address)
            .field("port", &self.port)
            .field("user", &self.user)
            .field("database", &self.database)
            .finish_non_exhaustive()
    }
}

/// The administrative connection to one PostgreSQL server. Connects when it is first used.
pub struct PgAdmin {
    pool: Pool,
    leftovers_to: Option<String>,
    connection_limit: Option<u16>,
}

impl fmt::Debug for PgAdmin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgAdmin").field("leftovers_to", &self.leftovers_to).finish_non_exhaustive()
    }
}

impl PgAdmin {
    /// Prepares the connection; nothing is sent yet.
    pub fn new(config: &PgAdminConfig) -> Result<Self, IssueFault> {
        let mut pg = Config::new();
        pg.port(config.port).user(&config.user).dbname(&config.database).application_name("onus");
        pg.connect_timeout(config.timeout);
        if let Some(password) = &config.password {
            pg.password(password.as_bytes());
        }
        match &config.address {
            PgAddress::Tcp(host) => pg.host(host),
            PgAddress::Unix(dir) => pg.host_path(dir),
        };
        let tls = match (&config.tls, &config.address) {
            (PgTlsPolicy::Disable, _) => None,
            (PgTlsPolicy::RequireCa(_), PgAddress::Unix(_)) => {
                return Err(IssueFault::Config("PostgreSQL has no TLS on a Unix socket; disable it"));
            }
            (PgTlsPolicy::RequireCa(ca_pem), PgAddress::Tcp(_)) => Some(PgTls::require_ca(ca_pem)?),
        };
        pg.ssl_mode(if tls.is_some() { SslMode::Require } else { SslMode::Disable });
        if let Some(owner) = &config.leftovers_to {
            identifier("the owner of leftovers", owner)?;
        }
        Ok(Self {
            pool: Pool::new(pg, tls, config.timeout, config.connections),
            leftovers_to: config.leftovers_to.clone(),
            connection_limit: config.connection_limit,
        })
    }

    /// Makes the session's role. One round trip, one transaction.
    ///
    /// The role has no attribute beyond LOGIN and INHERIT, a random password of 256 bits that is sent only as its SCRAM
    /// verifier, and a deadline that the server itself enforces at log-in. Refuses roles that lead to a superuser.
    /// After [`IssueFault::Lost`] or [`IssueFault::TimedOut`] the role may exist: revoke it.
    pub async fn issue(&self, order: &Order) -> Result<Issued, IssueFault> {
        const WHAT: &str = "make a session's role";
        let role = RoleName::of_session(&order.session).map_err(|_| IssueFault::Unusable {
            what: "the session id",
            given: order.session.to_string(),
            why: "a role's name would be longer than 63 bytes",
        })?;
        if order.member_of.is_empty() {
            return Err(IssueFault::Unusable { what: "the list of roles", given: String::new(), why: "it is empty" });
        }
        let password = scram::fresh_password()?;
        let sql = self.create_sql(&role, order, &scram::verifier(&password)?)?;
        match self.pool.run(WHAT, &sql, Words::Withhold).await {
            Ok(_) => Ok(Issued { role_name: role.to_string(), secret: UpstreamSecret::Password(password) }),
            Err(fault) if fault.is_sqlstate(SUPERUSER_STATE) => Err(IssueFault::Superuser),
            Err(fault) => Err(fault),
        }
    }

    fn create_sql(&self, role: &RoleName, order: &Order, verifier: &str) -> Result<String, IssueFault> {
        let quoted = identifier("the session's role", role.as_str())?;
        let groups = order.member_of.iter().map(|r| identifier("a role", r)).collect::<Result<Vec<_>, _>>()?.join(", ");
        let limit = self.connection_limit.map_or_else(|| "-1".to_owned(), |n| n.to_string());
        let mut sql = format!(
            "CREATE ROLE {quoted} LOGIN INHERIT NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS \
             CONNECTION LIMIT {limit} PASSWORD {} VALID UNTIL {} IN ROLE {groups};\n",
            literal(verifier),
            literal(&order.valid_until.to_string()),
        );
        let database = identifier("the database", &order.database)?;
        if !order.search_path.is_empty() {
            let schemas: Vec<_> =
                order.search_path.iter().map(|s| identifier("a schema", s)).collect::<Result<_, _>>()?;
            sql += &format!("ALTER ROLE {quoted} IN DATABASE {database} SET search_path = {};\n", schemas.join(", "));
        }
        if let Some(timeout) = order.statement_timeout {
            // The server keeps it in 31 bits.
            let ms = timeout.0.clamp(1, 2_147_483_647);
            sql += &format!("ALTER ROLE {quoted} IN DATABASE {database} SET statement_timeout = {ms};\n");
        }
        // In the same transaction: if the check raises, the role was never there.
        sql += &format!(
            "DO $onus$ BEGIN IF EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolsuper AND \
             pg_catalog.pg_has_role({}, r.oid, 'MEMBER')) THEN RAISE EXCEPTION 'superuser' USING ERRCODE = '{}'; \
             END IF; END $onus$",
            literal(role.as_str()),
            SUPERUSER_STATE,
        );
        Ok(sql)
    }

    /// Ends the role: ends its connections, drops it, gives away what it owned, and asks the server whether it is gone.
    ///
    /// Most sessions own nothing: four round trips, the last of which proves. `proven` means that no such role is there
    /// and no connection runs under it, a connection whose role was dropped under it included. May be repeated at will.
    ///
    /// One limit: when the role had already been dropped before this call, such a connection can be told from a
    /// stranger's only by its address, so it is found (and ended) only if it comes from the address that this
    /// administrative connection comes from.
    pub async fn revoke(&self, role: &RoleName) -> Result<Revoked, IssueFault> {
        let mut revoked = self.revoke_many(std::slice::from_ref(role)).await?;
        revoked.remove(role).unwrap_or(Err(IssueFault::Answer("prove that a role is gone")))
    }

    /// Ends many roles: all in one statement, and singly those that own something. The result holds each role.
    pub async fn revoke_many(
        &self,
        roles: &[RoleName],
    ) -> Result<BTreeMap<RoleName, Result<Revoked, IssueFault>>, IssueFault> {
        let mut results = BTreeMap::new();
        let distinct: Vec<RoleName> = roles.iter().collect::<BTreeSet<_>>().into_iter().cloned().collect();
        for batch in distinct.chunks(BATCH) {
            self.revoke_batch(batch, &mut results).await?;
        }
        Ok(results)
    }

    async fn revoke_batch(
        &self,
        batch: &[RoleName],
        results: &mut BTreeMap<RoleName, Result<Revoked, IssueFault>>,
    ) -> Result<(), IssueFault> {
        const WHAT: &str = "drop session roles";
        let deadline = Instant::now() + self.pool.timeout();
        let drop_all = |batch: &[RoleName]| -> Result<String, IssueFault> {
            let quoted: Vec<_> =
                batch.iter().map(|r| identifier("the session's role", r.as_str())).collect::<Result<_, _>>()?;
            Ok(format!("DROP ROLE IF EXISTS {}", quoted.join(", ")))
        };
        let numbers = self.numbers_of(batch).await?;
        // Ends the connections first, in a statement of its own: how many there were is counted even if the drop fails.
        let mut terminated = self.end_connections(batch, &numbers, How::TerminateAll).await?;
        let dropped = self.pool.run_idempotent(WHAT, &drop_all(batch)?).await;
        let mut state = BTreeMap::new();
        match dropped {
            Ok(_) => (),
            Err(fault @ (IssueFault::Lost(_) | IssueFault::TimedOut(_) | IssueFault::Connect(_))) => return Err(fault),
            Err(_) => {
                // One that owns something stops all of them; now each for itself.
                self.wait_for_end(batch, &numbers, deadline).await?;
                for role in batch {
                    state.insert(role.clone(), self.drop_one(role).await);
                }
            }
        }
        let left = self.wait_for_end(batch, &numbers, deadline).await?;
        for role in batch {
            let mut revoked = match state.remove(role) {
                Some(Err(fault)) => {
                    results.insert(role.clone(), Err(fault));
                    continue;
                }
                Some(Ok(reassigned_in)) => Revoked { reassigned_in, ..Revoked::default() },
                None => Revoked::default(),
            };
            revoked.proven =
                !left.roles.contains(role.as_str()) && !left.running.contains(role.as_str()) && left.under_no_role == 0;
            revoked.terminated = terminated.remove(role.as_str()).unwrap_or(0);
            results.insert(role.clone(), Ok(revoked));
        }
        Ok(())
    }

    /// The server's numbers of these roles: all that a connection still shows of its role once that is dropped.
    async fn numbers_of(&self, batch: &[RoleName]) -> Result<Vec<u32>, IssueFault> {
        const WHAT: &str = "find session roles";
        let sql = format!(
            "SELECT oid::pg_catalog.text FROM pg_catalog.pg_roles WHERE rolname = ANY ({})",
            names(batch.iter().map(RoleName::as_str))
        );
        let rows = self.pool.run_idempotent(WHAT, &sql).await?;
        let number = |text: Option<String>| text?.parse().ok();
        rows.into_iter().flatten().map(|text| number(text).ok_or(IssueFault::Answer(WHAT))).collect()
    }

    /// Drops one role, giving away what it owns if it owns something. Returns in which databases.
    async fn drop_one(&self, role: &RoleName) -> Result<Vec<String>, IssueFault> {
        const WHAT: &str = "drop a session's role";
        let quoted = identifier("the session's role", role.as_str())?;
        let drop_role = format!("DROP ROLE IF EXISTS {quoted}");
        match self.pool.run_idempotent(WHAT, &drop_role).await {
            Err(fault) if fault.is_sqlstate(OWNS_SOMETHING) => (),
            other => return other.map(|_| Vec::new()),
        }
        let owner = match &self.leftovers_to {
            Some(owner) => owner.clone(),
            None => self.first_group(role).await?,
        };
        let owner = identifier("the owner of leftovers", &owner)?;
        // Without this an administrator who is no superuser may not give away what the role owns.
        let join = format!("GRANT {quoted} TO CURRENT_USER");
        let _ = self.pool.run_idempotent("join a session's role", &join).await;
        let (databases, owned) = self.databases_of(role).await?;
        // What it was granted goes with DROP OWNED; what it owns has been given away by then.
        let give_away = format!("REASSIGN OWNED BY {quoted} TO {owner}; DROP OWNED BY {quoted}");
        for database in &databases {
            match self.pool.run_in(database, "give away what a session's role owns", &give_away).await {
                // Someone else was quicker: the role is gone.
                Err(fault) if fault.is_sqlstate(UNDEFINED) => (),
                other => drop(other?),
            }
        }
        if databases.is_empty() {
            // Only things that belong to the whole server, such as a database.
            self.pool.run_idempotent("give away what a session's role owns", &give_away).await?;
        }
        self.pool.run_idempotent(WHAT, &drop_role).await?;
        Ok(owned)
    }

    /// In which databases the role has anything, and in which of them it owns something.
    async fn databases_of(&self, role: &RoleName) -> Result<(Vec<String>, Vec<String>), IssueFault> {
        let sql = format!(
            "SELECT d.datname, pg_catalog.bool_or(s.deptype = 'o')::pg_catalog.text FROM pg_catalog.pg_shdepend s \
             JOIN pg_catalog.pg_database d ON d.oid = s.dbid JOIN pg_catalog.pg_roles r ON r.oid = s.refobjid \
             WHERE s.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND r.rolname = {} \
             GROUP BY 1 ORDER BY 1",
            literal(role.as_str())
        );
        let rows = self.pool.run_idempotent("find what a session's role owns", &sql).await?;
        let name = |row: &Vec<Option<String>>| row.first().cloned().flatten();
        let owns = |row: &&Vec<Option<String>>| row.get(1).and_then(Option::as_deref) == Some("true");
        Ok((rows.iter().filter_map(name).collect(), rows.iter().filter(owns).filter_map(name).collect()))
    }

    async fn first_group(&self, role: &RoleName) -> Result<String, IssueFault> {
        const WHAT: &str = "find a session role's groups";
        let sql = format!(
            "SELECT g.rolname FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles r ON r.oid = m.member \
             JOIN pg_catalog.pg_roles g ON g.oid = m.roleid WHERE r.rolname = {} ORDER BY 1 LIMIT 1",
            literal(role.as_str())
        );
        let rows = self.pool.run_idempotent(WHAT, &sql).await?;
        rows.into_iter().flatten().flatten().next().ok_or(IssueFault::Config("nobody can own what a session leaves"))
    }

    /// Asks what is left, again and again until nothing is or the time is up. Connections take a moment to end.
    async fn wait_for_end(&self, batch: &[RoleName], numbers: &[u32], deadline: Instant) -> Result<Left, IssueFault> {
        let mut pause = Duration::from_millis(5);
        loop {
            let left = self.left(batch, numbers).await?;
            if (left.running.is_empty() && left.under_no_role == 0) || Instant::now() + pause >= deadline {
                return Ok(left);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(200));
            self.end_connections(batch, numbers, How::TerminateAll).await?;
        }
    }

    async fn left(&self, batch: &[RoleName], numbers: &[u32]) -> Result<Left, IssueFault> {
        const WHAT: &str = "prove that roles are gone";
        let names = names(batch.iter().map(RoleName::as_str));
        let under_no_role = under_no_role(numbers);
        let sql = format!(
            "SELECT 'role', rolname::pg_catalog.text FROM pg_catalog.pg_roles WHERE rolname = ANY ({names}) UNION ALL \
             SELECT 'runs', usename::pg_catalog.text FROM pg_catalog.pg_stat_activity WHERE usename = ANY ({names}) \
             UNION ALL SELECT 'none', pid::pg_catalog.text FROM pg_catalog.pg_stat_activity WHERE {under_no_role} \
             UNION ALL SELECT 'asked', NULL"
        );
        let mut left = Left::default();
        let mut asked = false;
        for row in self.pool.run_idempotent(WHAT, &sql).await? {
            match row.as_slice() {
                [Some(kind), Some(name)] if kind == "role" => drop(left.roles.insert(name.clone())),
                [Some(kind), Some(name)] if kind == "runs" => drop(left.running.insert(name.clone())),
                [Some(kind), Some(_)] if kind == "none" => left.under_no_role += 1,
                [Some(kind), None] if kind == "asked" => asked = true,
                _ => return Err(IssueFault::Answer(WHAT)),
            }
        }
        // An empty answer is not a proof: the last row shows that the question was understood.
        if asked { Ok(left) } else { Err(IssueFault::Answer(WHAT)) }
    }

    /// Cancels what runs now under these roles, in one statement; their connections stay. Returns how many were told.
    pub async fn cancel_backends(&self, roles: &[RoleName]) -> Result<u32, IssueFault> {
        Ok(self.end_connections(roles, &[], How::Cancel).await?.values().sum())
    }

    /// Ends all connections of these roles, in one statement. Returns how many were told; they end a moment later.
    pub async fn terminate_backends(&self, roles: &[RoleName]) -> Result<u32, IssueFault> {
        Ok(self.end_connections(roles, &[], How::Terminate).await?.values().sum())
    }

    async fn end_connections(
        &self,
        roles: &[RoleName],
        numbers: &[u32],
        how: How,
    ) -> Result<BTreeMap<String, u32>, IssueFault> {
        const WHAT: &str = "end a session role's connections";
        let (function, others) = match how {
            How::Cancel => ("pg_cancel_backend", "false".to_owned()),
            How::Terminate => ("pg_terminate_backend", "false".to_owned()),
            How::TerminateAll => ("pg_terminate_backend", under_no_role(numbers)),
        };
        let sql = format!(
            "SELECT COALESCE(usename::pg_catalog.text, ''), \
             (pg_catalog.count(*) FILTER (WHERE pg_catalog.{function}(pid)))::pg_catalog.text \
             FROM pg_catalog.pg_stat_activity WHERE usename = ANY ({}) OR ({others}) GROUP BY 1",
            names(roles.iter().map(RoleName::as_str))
        );
        let rows = self.pool.run_idempotent(WHAT, &sql).await?;
        let count = |row: Vec<Option<String>>| match <[Option<String>; 2]>::try_from(row) {
            Ok([Some(name), Some(count)]) => Ok((name, count.parse().map_err(|_| IssueFault::Answer(WHAT))?)),
            _ => Err(IssueFault::Answer(WHAT)),
        };
        rows.into_iter().map(count).collect()
    }

    /// Session roles that the server knows, whatever made them: all whose name begins with [`ROLE_PREFIX`].
    pub async fn discover(&self) -> Result<Vec<Discovered>, IssueFault> {
        const WHAT: &str = "find session roles";
        let sql = format!(
            "SELECT r.rolname::pg_catalog.text, r.rolvaliduntil::pg_catalog.text, \
             (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity a WHERE a.usesysid = r.oid)::pg_catalog.text \
             FROM pg_catalog.pg_roles r WHERE pg_catalog.\"left\"(r.rolname::pg_catalog.text, {}) = {} ORDER BY 1",
            ROLE_PREFIX.len(),
            literal(ROLE_PREFIX)
        );
        let read = |row: Vec<Option<String>>| match <[Option<String>; 3]>::try_from(row) {
            Ok([Some(role_name), valid_until, Some(connections)]) => Ok(Discovered {
                role_name,
                valid_until,
                connections: connections.parse().map_err(|_| IssueFault::Answer(WHAT))?,
            }),
            _ => Err(IssueFault::Answer(WHAT)),
        };
        self.pool.run_idempotent(WHAT, &sql).await?.into_iter().map(read).collect()
    }

    /// Rows of a query in `database`, as text, `None` for null; for loading the classifier's catalogue. Read-only: the
    /// connection can't write. `sql` is one SELECT of the caller's own; never text from a client.
    pub async fn rows(&self, database: &str, sql: &str) -> Result<Rows, IssueFault> {
        let sql = format!("SET default_transaction_read_only = on; SET transaction_read_only = on; {sql}");
        self.pool.run_in(database, "read the catalogue", &sql).await
    }

    /// Gives a standing role the password that [`crate::stored::fresh_password`] made, sent as its verifier only.
    pub(crate) async fn set_password(&self, user: &str, password: &Zeroizing<String>) -> Result<(), IssueFault> {
        let sql =
            format!("ALTER ROLE {} PASSWORD {}", identifier("the role", user)?, literal(&scram::verifier(password)?));
        self.pool.run("set a role's password", &sql, Words::Withhold).await.map(drop)
    }
}

/// A client's connection whose role was dropped while it lasted; the server shows only the role's number. Ours if that
/// number is known, or if it comes from our own address: after a crash nobody knows the number any more. Connections
/// from elsewhere may be anybody's and are left alone.
fn under_no_role(numbers: &[u32]) -> String {
    let numbers: Vec<_> = numbers.iter().map(u32::to_string).collect();
    format!(
        "usename IS NULL AND usesysid <> 0 AND backend_type = 'client backend' AND (usesysid = ANY \
         (ARRAY[{}]::pg_catalog.oid[]) OR client_addr IS NOT DISTINCT FROM pg_catalog.inet_client_addr())",
        numbers.join(",")
    )
}

#[derive(Clone, Copy)]
enum How {
    Cancel,
    Terminate,
    /// And those connections whose role was dropped under them: they go on, and nobody else would ever end them.
    TerminateAll,
}

/// What the server still knows of a batch of roles.
#[derive(Default)]
struct Left {
    roles: BTreeSet<String>,
    running: BTreeSet<String>,
    under_no_role: u32,
}

impl Issuer for PgAdmin {
    async fn issue(&self, order: &Order) -> Result<Issued, IssueFault> {
        PgAdmin::issue(self, order).await
    }
    async fn revoke(&self, role_name: &str) -> Result<Revoked, IssueFault> {
        let role = RoleName::parse(role_name).map_err(|_| IssueFault::Unusable {
            what: "the role",
            given: role_name.chars().take(63).collect(),
            why: "it is not a session's role",
        })?;
        PgAdmin::revoke(self, &role).await
    }
    async fn discover(&self) -> Result<Vec<Discovered>, IssueFault> {
        PgAdmin::discover(self).await
    }
}
