//! An HTTP proxy on loopback: leads `CONNECT` requests on, and writes down every head that it gets.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::live::locked;

/// The answer to those who do not say who they are.
const WHO: &[u8] = b"HTTP/1.1 407 Proxy Authentication Required\r\n\
    proxy-authenticate: Basic realm=\"tests\"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// What a proxy is told.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProxyConfig {
    /// `user:password` without which nobody is led anywhere.
    pub(crate) credentials: Option<String>,
    /// Where everybody is led, as by a resolver that is steered; default: where they ask for.
    pub(crate) lead_to: Option<SocketAddr>,
}

/// A running proxy. Its thread lives as long as the test program.
pub(crate) struct Proxy {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// Starts on a free port of loopback.
    pub(crate) fn start(config: ProxyConfig) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("a free port")?;
        let address = listener.local_addr()?;
        let heads = Arc::<Mutex<Vec<String>>>::default();
        let seen = Arc::clone(&heads);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (seen, config) = (Arc::clone(&seen), config.clone());
                // A client that goes away is no matter of the proxy.
                thread::spawn(move || stream.and_then(|stream| lead(stream, &config, &seen)));
            }
        });
        Ok(Self { address, heads })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The heads of all requests so far.
    pub(crate) fn heads(&self) -> Vec<String> {
        locked(&self.heads).clone()
    }

    /// `host:port` of every `CONNECT` so far.
    pub(crate) fn targets(&self) -> Vec<String> {
        let target =
            |head: &String| Some(head.strip_prefix("CONNECT ")?.split(' ').next()?.to_owned());
        self.heads().iter().filter_map(target).collect()
    }
}

fn lead(mut client: TcpStream, config: &ProxyConfig, seen: &Mutex<Vec<String>>) -> io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            break;
        }
    }
    let known = config.credentials.as_ref().is_none_or(|credentials| {
        let expected = format!("Basic {}\r\n", BASE64_STANDARD.encode(credentials));
        head.contains(&expected)
    });
    let asked = head.split(' ').nth(1).unwrap_or_default().to_owned();
    locked(seen).push(head);
    if !known {
        return client.write_all(WHO);
    }
    let mut service = match config.lead_to {
        Some(address) => TcpStream::connect(address)?,
        None => TcpStream::connect(asked)?,
    };
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
    let (mut back, mut to_client) = (service.try_clone()?, client);
    thread::spawn(move || {
        let copied = io::copy(&mut back, &mut to_client);
        // Else a client that waits for the end would wait for ever.
        drop(to_client.shutdown(std::net::Shutdown::Both));
        copied
    });
    io::copy(&mut reader, &mut service)?;
    Ok(())
}
