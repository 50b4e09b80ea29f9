//! A free port on the loopback address. Deliberately no reservation: see [`free`].

use std::net::{Ipv4Addr, TcpListener};

use crate::KitError;

/// A TCP port on 127.0.0.1 that was free a moment ago.
///
/// Another process may take it before you do. Whoever can should bind port 0 itself and ask which port it got; whoever
/// can't (a server that wants a number) must try again with another one when it is taken, as [`crate::Cluster`] does.
pub fn free() -> Result<u16, KitError> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(KitError::NoPort)?;
    Ok(listener.local_addr().map_err(KitError::NoPort)?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_port_can_be_bound() {
        let port = free().unwrap();
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
    }
}
