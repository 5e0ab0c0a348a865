//! Which TCP port a local server gets. Only 127.0.0.1 is ever asked.

use std::net::{Ipv4Addr, TcpListener};

use crate::Error;

/// How a port is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// Exactly this one, or an error that names it.
    Fixed(u16),
    /// This one, or the next free one of the hundred that follow.
    Preferred(u16),
    /// Any that the system gives. For tests: no two of them can get into each other's way.
    Free,
}

/// How many ports from a preferred one on are tried.
const TRIED: u16 = 100;

impl Port {
    /// A port that is free right now. Nobody can reserve a port for a program that binds it by itself, so whoever starts a server
    /// on it must be ready to find it taken, and ask again.
    ///
    /// # Errors
    /// [`Error::PortBusy`] when a fixed port is in use, [`Error::NoPort`] when nothing in the range is free.
    pub fn pick(self, what: &'static str, knob: &'static str) -> Result<u16, Error> {
        match self {
            Port::Fixed(port) if is_free(port) => Ok(port),
            Port::Fixed(port) => Err(Error::PortBusy { port, what, knob }),
            Port::Preferred(from) => {
                let to = from.saturating_add(TRIED);
                (from..=to).find(|port| is_free(*port)).ok_or(Error::NoPort { what, from, to, knob })
            }
            Port::Free => TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
                .and_then(|listener| listener.local_addr())
                .map(|address| address.port())
                .map_err(|_| Error::NoPort { what, from: 1024, to: u16::MAX, knob }),
        }
    }

    /// Whether another port may be tried when the picked one was taken meanwhile.
    pub(crate) fn is_flexible(self) -> bool {
        !matches!(self, Port::Fixed(_))
    }
}

/// Whether a server could listen on this port of 127.0.0.1 now.
pub fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken() -> (TcpListener, u16) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, port)
    }

    #[test]
    fn a_fixed_port_in_use_is_named_together_with_its_knob() {
        let (_held, port) = taken();
        let message = Port::Fixed(port).pick("Postgres", "--postgres-port").unwrap_err().to_string();
        assert!(message.contains(&port.to_string()) && message.contains("--postgres-port"), "{message}");
    }

    #[test]
    fn a_preferred_port_in_use_gives_a_later_one() {
        let (_held, port) = taken();
        assert!(Port::Preferred(port).pick("LocalStack", "--port").unwrap() > port);
    }

    #[test]
    fn a_free_port_can_be_listened_on() {
        let port = Port::Free.pick("LocalStack", "--port").unwrap();
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
    }
}
