//! A plain TCP proxy to compare with: two threads a connection, blocking reads and writes, nothing looked at. What it
//! costs is what being in the middle costs at the least in this style.
//!
//! It runs as a child process of its own (`cargo xtask bench --relay FROM TO`), so that its CPU time can be told apart.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use onus_testkit::proc::Running;
use onus_testkit::{KitError, port};

use crate::step::Failure;

/// The word by which the bench starts itself as the proxy.
pub const WORD: &str = "--relay";

/// Starts the proxy as a child; gives its port.
pub fn start(to: u16) -> Result<(Running, u16), Failure> {
    let from = port::free()?;
    let me = std::env::current_exe().map_err(|source| KitError::Spawn { program: "xtask".to_owned(), source })?;
    let relay =
        Running::spawn("plain TCP proxy", Command::new(me).args(["bench", WORD, &from.to_string(), &to.to_string()]))?;
    relay.wait_for("relaying", Duration::from_secs(10))?;
    Ok((relay, from))
}

/// Is the proxy, until it is killed.
pub fn run(from: &str, to: &str) -> Result<(), Failure> {
    let parse = |word: &str| word.parse::<u16>().map_err(|_| Failure::Usage(format!("`{word}` is no port")));
    let (from, to) = (parse(from)?, parse(to)?);
    let broken = |error: io::Error| Failure::Step(format!("the plain proxy: {error}"));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, from)).map_err(broken)?;
    println!("relaying {from} to {to}");
    loop {
        let (client, _) = listener.accept().map_err(broken)?;
        std::thread::spawn(move || join(&client, to).ok());
    }
}

fn join(client: &TcpStream, to: u16) -> io::Result<()> {
    let upstream = TcpStream::connect((Ipv4Addr::LOCALHOST, to))?;
    client.set_nodelay(true)?;
    upstream.set_nodelay(true)?;
    std::thread::scope(|scope| {
        scope.spawn(|| pour(client, &upstream));
        pour(&upstream, client);
    });
    Ok(())
}

fn pour(mut from: &TcpStream, mut to: &TcpStream) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    // Either side's end ends both directions; whether the other was closed already doesn't matter.
    let _ = (from.shutdown(Shutdown::Read), to.shutdown(Shutdown::Write));
}
