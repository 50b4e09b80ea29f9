//! One to four administrative connections to one upstream, made when needed and thrown away at the first doubt. It runs
//! statements and knows nothing of roles. Every call ends within the configured time.

use crate::IssueFault;
use crate::pg_tls::PgTls;
use std::error::Error as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

/// Rows of text, statement by statement flattened: simple queries give no types.
pub(crate) type Rows = Vec<Vec<Option<String>>>;

/// Whether an upstream's words about a statement may be repeated.
#[derive(Clone, Copy)]
pub(crate) enum Words {
    /// They can only hold names.
    Repeat,
    /// They might quote the statement, which holds a verifier.
    Withhold,
}

pub(crate) struct Pool {
    config: Config,
    tls: Option<PgTls>,
    timeout: Duration,
    permits: Semaphore,
    idle: Mutex<Vec<Connected>>,
}

pub(crate) struct Connected {
    client: Client,
    task: JoinHandle<()>,
}

impl Drop for Connected {
    fn drop(&mut self) {
        // Dropping only the client would let a statement that hangs keep the socket open.
        self.task.abort();
    }
}

impl Pool {
    pub(crate) fn new(config: Config, tls: Option<PgTls>, timeout: Duration, connections: usize) -> Self {
        let permits = Semaphore::new(connections.clamp(1, 4));
        Self { config, tls, timeout, permits, idle: Mutex::new(Vec::new()) }
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Runs statements (one transaction, unless they say otherwise) on the administrative database.
    pub(crate) async fn run(&self, what: &'static str, sql: &str, words: Words) -> Result<Rows, IssueFault> {
        let within = async {
            let _permit = self.permits.acquire().await.map_err(|_| IssueFault::Lost(what))?;
            let connected = match self.take_idle() {
                Some(connected) => connected,
                None => self.connect(None).await?,
            };
            let result = connected.run(what, sql, words).await;
            let usable = matches!(result, Ok(_) | Err(IssueFault::Refused { .. }));
            if usable && !connected.client.is_closed() {
                self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connected);
            }
            result
        };
        // On time-out the connection is dropped with the future, and with it whatever it still has to say.
        tokio::time::timeout(self.timeout, within).await.unwrap_or(Err(IssueFault::TimedOut(what)))
    }

    /// As [`Pool::run`], once more on a new connection if the first one broke. Only for what may happen twice.
    pub(crate) async fn run_idempotent(&self, what: &'static str, sql: &str) -> Result<Rows, IssueFault> {
        match self.run(what, sql, Words::Repeat).await {
            Err(IssueFault::Lost(_)) => self.run(what, sql, Words::Repeat).await,
            other => other,
        }
    }

    /// Runs statements in another database, on a connection of their own.
    pub(crate) async fn run_in(&self, database: &str, what: &'static str, sql: &str) -> Result<Rows, IssueFault> {
        let within = async { self.connect(Some(database)).await?.run(what, sql, Words::Repeat).await };
        tokio::time::timeout(self.timeout, within).await.unwrap_or(Err(IssueFault::TimedOut(what)))
    }

    fn take_idle(&self) -> Option<Connected> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        // A server that restarted has closed them all.
        idle.retain(|connected| !connected.client.is_closed());
        idle.pop()
    }

    async fn connect(&self, database: Option<&str>) -> Result<Connected, IssueFault> {
        let mut config = self.config.clone();
        if let Some(database) = database {
            config.dbname(database);
        }
        let (client, task) = match &self.tls {
            Some(tls) => {
                let (client, connection) = config.connect(tls.clone()).await.map_err(connect_fault)?;
                (client, tokio::spawn(async move { drop(connection.await) }))
            }
            None => {
                let (client, connection) = config.connect(NoTls).await.map_err(connect_fault)?;
                (client, tokio::spawn(async move { drop(connection.await) }))
            }
        };
        let connected = Connected { client, task };
        // Nobody else's functions and operators may stand in for the catalogue's, a backslash means itself, and what we
        // gave up waiting for must not go on for ever.
        let setup = format!(
            "SET search_path = pg_catalog, pg_temp; SET standard_conforming_strings = on; SET timezone = 'UTC'; \
             SET client_min_messages = warning; SET statement_timeout = {}",
            self.timeout.as_millis().max(1)
        );
        connected.run("set up a connection", &setup, Words::Repeat).await?;
        Ok(connected)
    }
}

impl Connected {
    async fn run(&self, what: &'static str, sql: &str, words: Words) -> Result<Rows, IssueFault> {
        let messages = self.client.simple_query(sql).await.map_err(|error| statement_fault(what, words, &error))?;
        let rows = messages.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect())
            }
            _ => None,
        });
        Ok(rows.collect())
    }
}

fn statement_fault(what: &'static str, words: Words, error: &tokio_postgres::Error) -> IssueFault {
    match error.as_db_error() {
        // Class 57P: the server ends the connection (shutdown, crash of another backend, an administrator).
        Some(db) if db.code().code().starts_with("57P") => IssueFault::Lost(what),
        Some(db) => IssueFault::Refused {
            what,
            sqlstate: db.code().code().to_owned(),
            // The first line only: detail, context and position can quote the statement.
            message: match words {
                Words::Repeat => db.message().lines().next().unwrap_or_default().chars().take(200).collect(),
                Words::Withhold => "its words are withheld".to_owned(),
            },
        },
        None => IssueFault::Lost(what),
    }
}

fn connect_fault(error: tokio_postgres::Error) -> IssueFault {
    let why = match (error.as_db_error(), error.source()) {
        (Some(db), _) => db.message().to_owned(),
        (None, Some(source)) => source.to_string(),
        (None, None) => error.to_string(),
    };
    IssueFault::Connect(why.chars().take(200).collect())
}
