//! Programs' own drivers through the gateway: what they do with a server they do with Onus in between, and notice
//! nothing.

use crate::scene::{SOON, ask, ended_session, guest_as, rig, said, sessions_of};
use onus_testkit::drivers::{self, DriverError};
use onus_testkit::{Rig, wait};
use std::process::Command;

/// The driver, or the reason why the test says that it skips.
fn have<T>(found: Result<T, DriverError>) -> Option<T> {
    match found {
        Ok(found) => Some(found),
        Err(error) if error.is_skip() => {
            eprintln!("{error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// Runs a script that prints `ok` at its end.
fn script(rig: &Rig, who: &str, command: &mut Command) {
    // The address is libpq's affair; the others resolve the name themselves.
    command.envs(rig.env(who, None)).env("PGCONNECT_TIMEOUT", "20");
    let output = command.output().unwrap();
    let text = said(&output);
    assert!(output.status.success() && text.trim_end().ends_with("ok"), "{text}");
    // All that it did is on record and decided, and comes out the same again.
    for session in sessions_of(rig, who, true) {
        let id = session["session"].as_str().unwrap();
        ended_session(rig, id);
        rig.ok("bob", &["verify", "--session", id]).unwrap();
    }
}

#[test]
fn psycopg_works_as_it_does_without_a_gateway() {
    let Some(python) = have(drivers::python()) else { return };
    let rig = rig();
    let who = guest_as(rig, "everything");
    script(rig, &who, Command::new(python.python).args(["-c", PSYCOPG]));
}

const PSYCOPG: &str = r#"
import psycopg, threading, time
from psycopg import errors
notices = []
with psycopg.connect(autocommit=True) as db:
    db.add_notice_handler(lambda d: notices.append(d.message_primary))
    # prepared, text and binary parameters
    for i in range(8):
        assert db.execute("select %s::int + 1, %s::text", (i, "ü"), prepare=True).fetchone() == (i + 1, "ü")
    with db.cursor(binary=True) as cur:
        assert cur.execute("select %b::int, %b::bytea, now()", (7, b"\x00\xff")).fetchone()[:2] == (7, b"\x00\xff")
    # COPY in and out, text and binary
    db.execute("create temp table t (id int, v text)")
    with db.cursor() as cur:
        with cur.copy("copy t (id, v) from stdin") as copy:
            for i in range(20000):
                copy.write_row((i, "value %d" % i))
        assert cur.execute("select count(*), sum(id) from t").fetchone() == (20000, 199990000)
        with cur.copy("copy (select id from t order by id) to stdout") as copy:
            rows = sum(1 for _ in copy.rows())
        assert rows == 20000
        with cur.copy("copy t from stdin (format binary)") as copy:
            copy.set_types(["int4", "text"])
            copy.write_row((-1, "binary"))
        # a COPY that the client gives up
        try:
            with cur.copy("copy t from stdin") as copy:
                copy.write_row((1, "x"))
                raise KeyError("given up")
        except KeyError:
            pass
        assert cur.execute("select count(*) from t").fetchone() == (20001,)
    # an error in a transaction, then rollback and on
    try:
        with db.transaction():
            db.execute("insert into t values (-2, 'gone')")
            db.execute("select 1/0")
        raise SystemExit("no error")
    except errors.DivisionByZero:
        pass
    assert db.execute("select count(*) from t where id = -2").fetchone() == (0,)
    with db.transaction():
        try:
            with db.transaction():
                db.execute("select nothing from nowhere")
        except errors.UndefinedTable:
            pass
        db.execute("insert into t values (-3, 'kept')")
    assert db.execute("select v from t where id = -3").fetchone() == ("kept",)
    # cancel
    threading.Timer(0.5, db.cancel_safe).start()
    begun = time.time()
    try:
        db.execute("select pg_sleep(30)")
        raise SystemExit("not cancelled")
    except errors.QueryCanceled:
        assert time.time() - begun < 10
    # the pipeline, with an error in the middle
    with db.pipeline():
        results = [db.execute("select %s::int", (i,)) for i in range(200)]
    assert [r.fetchone()[0] for r in results] == list(range(200))
    try:
        with db.pipeline() as p:
            a = db.execute("select 1")
            db.execute("select 1/0")
            db.execute("select 2")
            p.sync()
        raise SystemExit("no error")
    except (errors.DivisionByZero, errors.PipelineAborted):
        pass
    assert db.execute("select 3").fetchone() == (3,)
    # LISTEN and NOTIFY, from a second connection
    db.execute("listen news")
    with psycopg.connect(autocommit=True) as other:
        other.execute("notify news, 'hello'")
    got = next(db.notifies(timeout=10, stop_after=1))
    assert (got.channel, got.payload) == ("news", "hello")
    # notices, and a large result
    db.execute("do $$ begin raise notice 'heard'; end $$")
    assert "heard" in notices, notices
    n = 0
    with psycopg.ServerCursor(db, "c", withhold=True) as cur:
        cur.execute("select generate_series(1, 5000)")
        assert len(cur.fetchall()) == 5000
    with db.cursor() as cur:
        for row in cur.stream("select i, repeat('x', 50) from generate_series(1, 200000) i"):
            n += 1
    assert n == 200000
    # two-phase of nothing, encodings, settings
    db.execute("set timezone = 'Europe/Berlin'")
    assert db.info.parameter_status("TimeZone") == "Europe/Berlin"
print("ok")
"#;

#[test]
fn asyncpg_works_as_it_does_without_a_gateway() {
    let Some(python) = have(drivers::python()) else { return };
    let rig = rig();
    let who = guest_as(rig, "everything");
    script(rig, &who, Command::new(python.python).args(["-c", ASYNCPG]));
}

const ASYNCPG: &str = r#"
import asyncio, asyncpg, io, time
async def main():
    db = await asyncpg.connect(host="localhost")
    st = await db.prepare("select $1::int + 1, $2::bytea, $3::text[]")
    for i in range(5):
        assert tuple(await st.fetchrow(i, b"\x00\x01", ["a", None])) == (i + 1, b"\x00\x01", ["a", None])
    await db.execute("create temp table t (id int primary key, v text)")
    await db.executemany("insert into t values ($1, $2)", [(i, "v%d" % i) for i in range(5000)])
    assert await db.fetchval("select count(*) from t") == 5000
    await db.copy_records_to_table("t", records=[(i, "c") for i in range(5000, 15000)])
    out = io.BytesIO()
    await db.copy_from_query("select id from t order by id", output=out)
    assert len(out.getvalue().splitlines()) == 15000
    try:
        async with db.transaction():
            await db.execute("insert into t values (-1, 'x')")
            await db.execute("insert into t values (1, 'again')")
        raise SystemExit("no error")
    except asyncpg.UniqueViolationError:
        pass
    assert await db.fetchval("select count(*) from t where id = -1") == 0
    begun = time.time()
    try:
        await asyncio.wait_for(db.execute("select pg_sleep(30)"), 0.5)
        raise SystemExit("not cancelled")
    except asyncio.TimeoutError:
        pass
    assert await db.fetchval("select 1") == 1
    assert time.time() - begun < 10
    heard = asyncio.get_running_loop().create_future()
    await db.add_listener("news2", lambda c, pid, ch, payload: heard.set_result(payload))
    other = await asyncpg.connect(host="localhost")
    await other.execute("select pg_notify('news2', 'hello')")
    await other.close()
    assert await asyncio.wait_for(heard, 10) == "hello"
    said = []
    db.add_log_listener(lambda c, m: said.append(m.message))
    await db.execute("do $$ begin raise warning 'heard'; end $$")
    await asyncio.sleep(0.2)
    assert "heard" in said, said
    rows = await db.fetch("select i, repeat('x', 50) from generate_series(1, 200000) i")
    assert len(rows) == 200000
    async with db.transaction():
        n = 0
        async for row in db.cursor("select generate_series(1, 3000)", prefetch=100):
            n += 1
        assert n == 3000
    await db.close()
    print("ok")
asyncio.run(main())
"#;

#[test]
fn node_postgres_works_as_it_does_without_a_gateway() {
    let Some(node) = have(drivers::node()) else { return };
    let rig = rig();
    let who = guest_as(rig, "everything");
    script(rig, &who, node.command().args(["-e", NODE]));
}

const NODE: &str = r#"
const { Client, Pool } = require('pg'); const fs = require('fs'); const assert = require('assert');
const { from, to } = require('pg-copy-streams'); const { pipeline } = require('stream/promises'); const { Readable } = require('stream');
const e = process.env;
const options = { host: 'localhost', port: +e.PGPORT, user: e.PGUSER, database: e.PGDATABASE, password: 'none',
  ssl: { ca: fs.readFileSync(e.PGSSLROOTCERT), cert: fs.readFileSync(e.PGSSLCERT), key: fs.readFileSync(e.PGSSLKEY) } };
(async () => {
  const db = new Client(options); await db.connect();
  const notices = []; db.on('notice', n => notices.push(n.message));
  for (let i = 0; i < 5; i++) {
    const r = await db.query({ name: 'add', text: 'select $1::int + 1 as n, $2::bytea as b', values: [i, Buffer.from([0, 255])] });
    assert.deepStrictEqual([r.rows[0].n, [...r.rows[0].b]], [i + 1, [0, 255]]);
  }
  const b = await db.query({ text: 'select 7::int as n', binary: true }); assert.strictEqual(b.rows[0].n, 7);
  await db.query('create temp table t (id int, v text)');
  await pipeline(Readable.from((function* () { for (let i = 0; i < 20000; i++) yield `${i}\tvalue ${i}\n`; })()), db.query(from('copy t from stdin')));
  assert.strictEqual((await db.query('select count(*)::int as n from t')).rows[0].n, 20000);
  let lines = 0; for await (const chunk of db.query(to('copy t to stdout'))) lines += chunk.toString().split('\n').length - 1;
  assert.strictEqual(lines, 20000);
  await db.query('begin');
  await assert.rejects(db.query('select 1/0'), { code: '22012' });
  await assert.rejects(db.query('select 1'), { code: '25P02' });
  await db.query('rollback');
  assert.strictEqual((await db.query('select 1 as n')).rows[0].n, 1);
  const sleeping = assert.rejects(db.query('select pg_sleep(30)'), { code: '57014' });
  const pid = (await (async () => { const other = new Client(options); await other.connect();
    const r = await other.query("select pg_cancel_backend(pid) as done from pg_stat_activity where query = 'select pg_sleep(30)' and usename <> current_user limit 0"); await other.end(); return r.rows.length; })());
  assert.strictEqual(pid, 0);
  // node-postgres cancels over a plain connection of its own; here over TLS as the protocol allows.
  await new Promise(r => setTimeout(r, 500));
  await new Promise((resolve, reject) => {
    const tls = require('tls'), net = require('net');
    const s = net.connect(+e.PGPORT, '127.0.0.1', () => {
      const request = Buffer.alloc(16); request.writeInt32BE(16, 0); request.writeInt32BE(80877102, 4);
      request.writeInt32BE(db.processID, 8); request.writeInt32BE(db.secretKey, 12); s.end(request); });
    s.on('close', resolve); s.on('error', reject);
  });
  await sleeping;
  const heard = new Promise(r => db.on('notification', n => r(n.payload)));
  await db.query('listen news3'); await db.query("notify news3, 'hello'"); assert.strictEqual(await heard, 'hello');
  await db.query("do $$ begin raise notice 'heard'; end $$"); assert.ok(notices.includes('heard'));
  const many = await db.query("select i, repeat('x', 50) from generate_series(1, 200000) i"); assert.strictEqual(many.rows.length, 200000);
  await db.end();
  const pool = new Pool({ ...options, max: 4 });
  const all = await Promise.all([...Array(40).keys()].map(i => pool.query('select $1::int as n', [i])));
  assert.strictEqual(all.reduce((s, r) => s + r.rows[0].n, 0), 780); await pool.end();
  console.log('ok');
})().catch(err => { console.error(err); process.exit(1); });
"#;

#[test]
fn tokio_postgres_works_as_it_does_without_a_gateway() {
    let rig = rig();
    let who = guest_as(rig, "everything");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(tokio_postgres_does(rig, &who));
    let session = sessions_of(rig, &who, true)[0]["session"].as_str().unwrap().to_owned();
    ended_session(rig, &session);
    rig.ok("bob", &["verify", "--session", &session]).unwrap();
}

async fn tokio_postgres_does(rig: &Rig, who: &str) {
    use futures_util::{SinkExt, StreamExt, pin_mut};
    use tokio_postgres::config::SslMode;
    use tokio_postgres::types::Type;
    use tokio_postgres::{NoTls, binary_copy::BinaryCopyInWriter};
    // TLS first, as PostgreSQL 17's clients may begin; the driver then speaks in the clear inside it.
    let mut tls = (*crate::raw::tls(rig, who)).clone();
    tls.alpn_protocols = vec![b"postgresql".to_vec()];
    let socket = tokio::net::TcpStream::connect(("127.0.0.1", rig.pg_port)).await.unwrap();
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let stream = tokio_rustls::TlsConnector::from(std::sync::Arc::new(tls)).connect(name, socket).await.unwrap();
    let mut config = tokio_postgres::Config::new();
    config.user(who).dbname("orders-db").ssl_mode(SslMode::Disable).application_name("a driver");
    let (mut client, mut connection) = config.connect_raw(stream, NoTls).await.unwrap();
    let (send, mut news) = tokio::sync::mpsc::unbounded_channel();
    let driven = tokio::spawn(async move {
        let messages = futures_util::stream::poll_fn(move |cx| connection.poll_message(cx));
        pin_mut!(messages);
        while let Some(Ok(message)) = messages.next().await {
            let _ = send.send(message);
        }
    });
    let statement = client.prepare_typed("SELECT $1 + 1, $2", &[Type::INT4, Type::TEXT]).await.unwrap();
    // Pipelined: all are under way at once.
    let asked = (0..200).map(|i| {
        let (client, statement) = (&client, &statement);
        async move { client.query_one(statement, &[&i, &"ü"]).await.unwrap().get::<_, i32>(0) }
    });
    let sums = futures_util::future::join_all(asked).await;
    assert_eq!(sums, (1..=200).collect::<Vec<i32>>());
    client.batch_execute("CREATE TEMP TABLE t (id int, v text)").await.unwrap();
    let sink = client.copy_in("COPY t FROM STDIN (FORMAT binary)").await.unwrap();
    let writer = BinaryCopyInWriter::new(sink, &[Type::INT4, Type::TEXT]);
    pin_mut!(writer);
    for i in 0..10_000_i32 {
        writer.as_mut().write(&[&i, &"value"]).await.unwrap();
    }
    assert_eq!(writer.finish().await.unwrap(), 10_000);
    let sink = client.copy_in::<_, bytes::Bytes>("COPY t FROM STDIN").await.unwrap();
    pin_mut!(sink);
    sink.send(bytes::Bytes::from_static(b"-1\ttext\n")).await.unwrap();
    assert_eq!(sink.finish().await.unwrap(), 1);
    let out = client.copy_out("COPY t TO STDOUT").await.unwrap();
    pin_mut!(out);
    let mut bytes = 0;
    while let Some(chunk) = out.next().await {
        bytes += chunk.unwrap().len();
    }
    assert!(bytes > 100_000, "{bytes}");
    let transaction = client.transaction().await.unwrap();
    let error = transaction.execute("SELECT 1/0", &[]).await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "22012");
    transaction.rollback().await.unwrap();
    let token = client.cancel_token();
    let asleep = client.simple_query("SELECT pg_sleep(30)");
    let cancelled = async {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        // Without TLS, as libpq before 17 sends it: from the session's own address.
        let socket = tokio::net::TcpStream::connect(("127.0.0.1", rig.pg_port)).await.unwrap();
        token.cancel_query_raw(socket, NoTls).await.unwrap();
    };
    let (slept, ()) = tokio::time::timeout(SOON, futures_util::future::join(asleep, cancelled)).await.unwrap();
    assert_eq!(slept.unwrap_err().code().unwrap().code(), "57014");
    client.batch_execute("LISTEN news4; NOTIFY news4, 'hello'").await.unwrap();
    client.batch_execute("DO $$ BEGIN RAISE NOTICE 'heard'; END $$").await.unwrap();
    let rows = client.query_raw::<_, i32, _>("SELECT generate_series(1, 200000)", []).await.unwrap();
    pin_mut!(rows);
    let mut count = 0;
    while let Some(row) = rows.next().await {
        row.unwrap();
        count += 1;
    }
    assert_eq!(count, 200_000);
    let (mut heard, mut noticed) = (false, false);
    while let Ok(message) = news.try_recv() {
        match message {
            tokio_postgres::AsyncMessage::Notification(n) => heard |= n.payload() == "hello",
            tokio_postgres::AsyncMessage::Notice(n) => noticed |= n.message() == "heard",
            _ => {}
        }
    }
    assert!(heard && noticed, "{heard} {noticed}");
    drop(client);
    driven.await.unwrap();
}

#[test]
fn a_writers_everyday_statements_need_no_special_role() {
    let Some(python) = have(drivers::python()) else { return };
    let rig = rig();
    let who = guest_as(rig, "writer");
    let script_text = r#"
import psycopg
with psycopg.connect() as db:
    db.execute("update orders set customer = customer where id = %s", (5,))
    with db.cursor() as cur:
        with cur.copy("copy (select * from orders where id < 10) to stdout") as copy:
            assert sum(1 for _ in copy.rows()) == 9
        with cur.copy("copy orders from stdin") as copy:
            copy.write_row((5001, "new", "paid", 1))
    db.rollback()
    db.execute("savepoint a"); db.execute("release a")
    db.execute("declare c cursor for select * from orders"); db.execute("fetch 5 from c")
    try:
        db.execute("select * from pg_catalog.pg_authid")
        raise SystemExit("pg_authid was shown")
    except psycopg.errors.InsufficientPrivilege as refused:
        assert "onus" in str(refused), refused
    db.rollback()
    assert db.execute("select count(*) from orders where id = 5001").fetchone() == (0,)
print("ok")
"#;
    script(rig, &who, Command::new(python.python).args(["-c", script_text]));
    let count = wait::until(SOON, "the count", || Some(ask(rig, &who, &["SELECT count(*) FROM orders"]))).unwrap();
    assert_eq!(count, "1000");
}
